"""
Whose code a model's folder holds. Loading a folder by the Auto classes runs the Python in it, so this package's
commands do that only where every such file is, byte for byte, one that this package wrote.
"""

import json
from pathlib import Path

from ..utils.errors import InputError
from ..utils.provenance import sha256

CODE_FILES = ("configuration_gpt_scratch.py", "modeling_gpt_scratch.py")
# The SHA-256 of the files of released versions; those of this version are beside this package.
RELEASED = {
    "522ef6f0f509fb0d3b63522ee4dd5b13c08106ae08660e8b8b81f08f663d2656": "configuration_gpt_scratch.py of 0.1.0",
    "a43b2342419a68e80fa8a19587aa60a3b742f3b0cbaac9931dbaef09f2d4a4ec": "modeling_gpt_scratch.py of 0.1.0",
}
# transformers runs what these name under `auto_map`.
NAMING_CODE = ("config.json", "tokenizer_config.json", "processor_config.json", "preprocessor_config.json")


def package_code(name: str) -> Path:
    """This package's own file of that name."""
    return Path(__file__).parents[1] / name


def require_own_code(folder: Path, trust_remote_code: bool = False, shown: Path | None = None) -> list[str]:
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
    shown = shown or folder
    local, elsewhere = _named_code(folder)
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
    return [f"{name} (SHA-256 {sha256(folder / name)})" for name in foreign]


def _how_to_look(folder: Path, name: str) -> str:
    return f"diff {package_code(name)} {folder / name}" if name in CODE_FILES else f"less {folder / name}"


def _named_code(folder: Path) -> tuple[set[str], set[str]]:
    """The files of code that loading the folder runs, and the references to code that is not in it."""
    local, elsewhere = set(CODE_FILES), set()
    for name in NAMING_CODE:
        for reference in _auto_map(folder / name):
            module, _, rest = reference.partition(".")
            is_local = module.isidentifier() and rest.isidentifier()
            (local if is_local else elsewhere).add(f"{module}.py" if is_local else reference)
    local |= {path.relative_to(folder).as_posix() for path in (folder / "custom_generate").rglob("*.py")}
    return local, elsewhere


def _auto_map(path: Path) -> list[str]:
    """The classes that a file of settings names, such as "modeling.Model" or "user/repo--modeling.Model"."""
    try:
        auto_map = json.loads(path.read_text(encoding="utf-8")).get("auto_map")
    except FileNotFoundError:
        return []
    except (OSError, ValueError, AttributeError, RecursionError) as error:
        raise InputError(f"{path.name} cannot be read ({' '.join(str(error).split())}).") from None
    values = auto_map.values() if isinstance(auto_map, dict) else [auto_map]
    flat = [one for value in values for one in (value if isinstance(value, (list, tuple)) else [value])]
    return [str(one) for one in flat if one is not None]
