"""
Whose code a model's folder holds. Loading a folder by the Auto classes runs the Python in it, so this package's
commands do that only where every such file is, byte for byte, one that this package wrote.
"""

import os
from collections.abc import Collection, Iterator
from difflib import unified_diff
from itertools import islice
from pathlib import Path

from ..utils.errors import InputError
from ..utils.files import read_json
from ..utils.provenance import sha256
from ..utils.terminal import plain
from .contents import CODE_FILES, ModelFolder

# The SHA-256 of the files of released versions; those of this version are beside this package.
RELEASED = {
    "522ef6f0f509fb0d3b63522ee4dd5b13c08106ae08660e8b8b81f08f663d2656": "configuration_gpt_scratch.py of 0.1.0",
    "a43b2342419a68e80fa8a19587aa60a3b742f3b0cbaac9931dbaef09f2d4a4ec": "modeling_gpt_scratch.py of 0.1.0",
}
SHOWN, WIDTH, READ = 40, 160, 200_000  # of each file that differs: lines, characters a line, bytes that are compared
# Methods of quantization whose code transformers downloads from the Hub (transformers.integrations, `get_kernel`)
DOWNLOADED_METHODS = {"eetq", "fbgemm_fp8", "fp8", "metal", "mxfp4", "mxfp8", "nvfp4"}


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
        InputError: when some of it is neither of a release of this package nor trusted, or is in a repository of
            the Hub, from where it is never run.
    """
    folder, shown = model.path, shown or model.path
    local, elsewhere = named_code(model)
    if elsewhere:
        raise InputError(
            f"{shown} names code that is not in the folder ({', '.join(sorted(elsewhere))}), which is never run: save"
            " the model again, or copy that code beside it."
        )
    foreign = _foreign(folder, local)
    if foreign and not trust_remote_code:
        looks = "; ".join(_how_to_look(shown, name) for name in foreign)
        raise InputError(
            f"{', '.join(foreign)}: not this package's own code, and loading {shown} would run it. To look at it:"
            f" {looks}. If you trust it, add --trust-remote-code."
        )
    if foreign:  # which may import whatever lies beside it
        foreign = _foreign(folder, {*foreign, *(path.name for path in folder.glob("*.py"))})
    return [f"{name} (SHA-256 {sha256(folder / name)})" for name in foreign]


def _foreign(folder: Path, names: Collection[str]) -> list[str]:
    """Of the names of files, those that are there and not, byte for byte, a release's or this package's."""
    own = {*RELEASED, *(sha256(package_code(name)) for name in CODE_FILES)}
    return [name for name in sorted(names) if (folder / name).is_file() and sha256(folder / name) not in own]


def differences(model: ModelFolder) -> str:
    """
    How the code that loading the folder runs differs from this package's: of each file a unified diff, of one of
    another name its beginning; short, and without control sequences. "" where it does not differ.
    """
    parts = []
    for name in _foreign(model.path, named_code(model)[0]):
        lines = list(islice(_compared(model.path, name), SHOWN + 1))
        cut = [f"... (more: {_how_to_look(model.path, name)})"] if len(lines) > SHOWN else []
        parts += [*(plain(line).expandtabs(4)[:WIDTH] for line in lines[:SHOWN]), *cut]
    return "\n".join(parts)


def _compared(folder: Path, name: str) -> Iterator[str]:
    def lines(path: Path) -> list[str]:
        with open(path, "rb") as file:
            return file.read(READ).decode("utf-8", "replace").splitlines()

    if name not in CODE_FILES:
        return iter((f"+++ {name}", *(f"+{line}" for line in lines(folder / name))))
    ours = package_code(name)
    return unified_diff(lines(ours), lines(folder / name), f"{name} of this package", name, n=1, lineterm="")


def _how_to_look(folder: Path, name: str) -> str:
    return f"diff {package_code(name)} {folder / name}" if name in CODE_FILES else f"less {folder / name}"


def named_code(model: ModelFolder) -> tuple[set[str], set[str]]:
    """The files of code that loading the folder runs, and the references to code that is not in it."""
    local, elsewhere = set(CODE_FILES), set()
    for settings in _all_settings(model):
        elsewhere |= _of_the_hub(settings)
        for name, value in _pairs(settings):
            if name in ("configuration_files", "megatron_config") and value:  # the latter has PEFT import a module
                elsewhere.add(f"{name} {value}")
            for reference in _strings(value) if name == "auto_map" else _pipelines(name, value):
                module, _, rest = reference.partition(".")
                is_local = module.isidentifier() and rest.isidentifier()
                (local if is_local else elsewhere).add(f"{module}.py" if is_local else reference)
    return local | set(custom_generate_files(model.path)), elsewhere


def _pipelines(name: str, value) -> list[str]:
    """The classes that `custom_pipelines` names, which `pipeline` would run."""
    classes = [impl for key, impl in _pairs(value) if key == "impl"] if name == "custom_pipelines" else []
    return [reference for impl in classes for reference in _strings(impl)]


def attention_kernels(settings: dict | list) -> set[str]:
    """
    What of the settings makes transformers take attention code from the Hub, which needs no `trust_remote_code`: a
    kernel's repository, at any depth, or an `attribute_map`, which may give that setting any other name.
    """
    found = set()
    for name, value in _pairs(settings):
        if "attn_implementation" in name:
            found |= {f"attention {one}" for one in _strings(value) if "/" in one}
        if name == "attribute_map" and value:
            found.add(f"{name} {value}")
    return found


def code_of_the_hub(model: ModelFolder) -> set[str]:
    """What in any of the folder's files of settings makes transformers take code from the Hub, without being asked."""
    return {one for settings in _all_settings(model) for one in _of_the_hub(settings)}


def require_no_code_of_the_hub(folder: Path, *settings: dict) -> None:
    """Raises `InputError` when the settings of the model in `folder` ask for code from the Hub, before one is made."""
    if found := _of_the_hub(list(settings)):
        named = ", ".join(sorted(found))
        raise InputError(
            f"{folder} asks for code from the Hub ({named}), which is never run: delete that from its config.json."
        )


def _of_the_hub(settings: dict | list) -> set[str]:
    return attention_kernels(settings) | downloaded_quantization(settings)


def downloaded_quantization(settings: dict | list) -> set[str]:
    """The methods of quantization in the settings, at any depth, whose code transformers takes from the Hub."""
    methods = {str(value) for name, value in _pairs(settings) if name == "quant_method"}
    return {f"quantization {method}" for method in methods & DOWNLOADED_METHODS}


def custom_generate_files(folder: Path) -> list[str]:
    """The files of Python in `custom_generate`, where `generate` may look for code; links are not followed."""
    top = folder / "custom_generate"
    walked = () if top.is_symlink() else os.walk(top)
    paths = [Path(parent, name) for parent, _, names in walked for name in names if name.endswith(".py")]
    return sorted(path.relative_to(folder).as_posix() for path in paths if path.is_file() and not path.is_symlink())


def _all_settings(model: ModelFolder) -> Iterator:
    """What stands in the folder's files of settings: config.json, tokenizer_config.json, processor_config.json..."""
    yield model.settings
    for path in sorted(model.path.glob("*config*.json")):
        if path.name != "config.json" and path.is_file():
            yield read_json(path)


def _pairs(settings) -> Iterator[tuple[str, object]]:
    """Every setting and its value, however deep: processors keep those of their parts in one file."""
    return (pair for one in _parts(settings) if isinstance(one, dict) for pair in one.items())


def _strings(value) -> list[str]:
    """What stands in a setting, in whatever tables and lists, such as the classes in an `auto_map`."""
    return [str(one) for one in _parts(value) if one is not None and not isinstance(one, (dict, list))]


def _parts(value) -> Iterator:
    """The value itself, and all that is in it, however deep."""
    pending = [value]
    while pending:
        yield (one := pending.pop())
        if isinstance(one, (dict, list)):
            pending += one.values() if isinstance(one, dict) else one
