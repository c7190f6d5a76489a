"""
Whose code a model's folder holds. Loading a folder by the Auto classes runs the Python in it, so this package's
commands do that only where every such file is, byte for byte, one that this package wrote.
"""

from collections.abc import Iterator
from pathlib import Path

from ..utils.errors import InputError
from ..utils.files import read_json
from ..utils.provenance import sha256
from .contents import ModelFolder

CODE_FILES = ("configuration_gpt_scratch.py", "modeling_gpt_scratch.py")
# The SHA-256 of the files of released versions; those of this version are beside this package.
RELEASED = {
    "522ef6f0f509fb0d3b63522ee4dd5b13c08106ae08660e8b8b81f08f663d2656": "configuration_gpt_scratch.py of 0.1.0",
    "a43b2342419a68e80fa8a19587aa60a3b742f3b0cbaac9931dbaef09f2d4a4ec": "modeling_gpt_scratch.py of 0.1.0",
}
CODE_SETTINGS = ("auto_map", "configuration_files")  # by which a file of settings names code, or another such file


def package_code(name: str) -> Path:
    """This package's own file of that name."""
    return Path(__file__).parents[1] / name


def require_own_code(model: ModelFolder, trust_remote_code: bool = False, shown: Path | None = None) -> list[str]:
    """
    Looks at all code that loading the folder with `trust_remote_code=True` would run.

    Args:
        trust_remote_code: let code in the folder pass that is not this package's own.
        shown: the folder to name in messages.

    Returns:
        What passed only for being trusted, each with its SHA-256.

    Raises:
        InputError: when some of it is neither of a release of this package nor trusted, or lies in a repository of
            the Hub, from where it is never run.
    """
    folder, shown = model.path, shown or model.path
    local, elsewhere = named_code(model)
    if elsewhere:
        raise InputError(
            f"{shown} names code that lies elsewhere ({', '.join(sorted(elsewhere))}), which is never run: save the"
            " model again, or copy that code beside it."
        )
    own = {*RELEASED, *(sha256(package_code(name)) for name in CODE_FILES)}
    foreign = [name for name in sorted(local) if (folder / name).is_file() and sha256(folder / name) not in own]
    if foreign and not trust_remote_code:
        looks = "; ".join(_how_to_look(shown, name) for name in foreign)
        raise InputError(
            f"{', '.join(foreign)}: not this package's own code, and loading {shown} would run it. To look at it:"
            f" {looks}. If you trust it, add --trust-remote-code."
        )
    if foreign:  # which may import whatever lies beside it
        beside = {path.name for path in folder.glob("*.py") if sha256(path) not in own}
        foreign = sorted({*foreign, *beside})
    return [f"{name} (SHA-256 {sha256(folder / name)})" for name in foreign]


def _how_to_look(folder: Path, name: str) -> str:
    return f"diff {package_code(name)} {folder / name}" if name in CODE_FILES else f"less {folder / name}"


def named_code(model: ModelFolder) -> tuple[set[str], set[str]]:
    """The files of code that loading the folder runs, and the references to code that is not in it."""
    local, elsewhere = set(CODE_FILES), set()
    for settings in _all_settings(model):
        for name, value in _code_settings(settings):
            if name == "configuration_files":
                elsewhere.add(f"{name} {value}")
                continue
            for reference in _references(value):
                module, _, rest = reference.partition(".")
                is_local = module.isidentifier() and rest.isidentifier()
                (local if is_local else elsewhere).add(f"{module}.py" if is_local else reference)
    attention = model.settings.get("attn_implementation") or model.settings.get("_attn_implementation")
    if "/" in str(attention):  # a kernel of the Hub, which transformers downloads and runs
        elsewhere.add(f"attention {attention}")
    local |= {path.relative_to(model.path).as_posix() for path in (model.path / "custom_generate").rglob("*.py")}
    return local, elsewhere


def _all_settings(model: ModelFolder) -> Iterator:
    """What stands in the folder's files of settings: config.json, tokenizer_config.json, processor_config.json..."""
    yield model.settings
    for path in sorted(model.path.glob("*config*.json")):
        if path.name != "config.json" and path.is_file():
            yield read_json(path)


def _code_settings(settings) -> Iterator[tuple[str, object]]:
    """Every setting that names code, however deep: processors keep those of their parts in one file."""
    pending = [settings]
    while pending:
        one = pending.pop()
        if isinstance(one, dict):
            yield from ((name, one[name]) for name in CODE_SETTINGS if one.get(name))
        if isinstance(one, (dict, list)):
            pending += one.values() if isinstance(one, dict) else one


def _references(auto_map) -> list[str]:
    """The classes in an `auto_map`, such as "modeling.Model" or "user/repo--modeling.Model"."""
    values = auto_map.values() if isinstance(auto_map, dict) else [auto_map]
    flat = [one for value in values for one in (value if isinstance(value, (list, tuple)) else [value])]
    return [str(one) for one in flat if one is not None]
