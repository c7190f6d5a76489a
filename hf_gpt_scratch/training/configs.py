"""The YAML files of settings that come with the package, by name, and any other by its path. Imports nothing heavy."""

import ast
import importlib.util
import json
from collections.abc import Sequence
from functools import cache
from pathlib import Path

import yaml

from ..utils.errors import InputError, UsageError, one_line
from ..utils.files import is_missing_folder

# Of a wheel, where setuptools puts training/configs; of a checkout.
FOLDERS = [Path(__file__).parents[1] / "configs", Path(__file__).parents[2] / "training" / "configs"]
SOURCES = ("model_name_or_path", "tokenizer_name")
VALUED = ("data_file", "dataset_name", "output_dir", *SOURCES)  # those looked at here


def names(job: str) -> list[str]:
    """The names of a job's configs, such as cpu_small."""
    return sorted({path.stem for folder in FOLDERS for path in (folder / job).glob("*.yaml")})


def find(name_or_path: str, job: str) -> Path:
    """
    The config of that name which comes with the package for a job, or else the file at that path. With its suffix, as
    cpu_small.yaml, it is the file here where there is one.

    Raises:
        InputError: when there is neither.
    """
    path = Path(name_or_path)
    name = name_or_path if path.exists() else name_or_path.removesuffix(".yaml")
    if Path(name).name == name:
        for folder in FOLDERS:
            if (shipped := folder / job / f"{name}.yaml").is_file():
                return shipped
    if not path.exists() and path.suffix not in (".yaml", ".yml"):
        known = ", ".join(names(job))
        raise InputError(f"There is no config {name_or_path}; give the path of a YAML file, or one of {known}.")
    return path


def read(path: Path) -> dict:
    """The settings in a YAML file; raises `InputError` when it cannot be read or holds something else."""
    try:
        settings = yaml.safe_load(path.read_text(encoding="utf-8")) or {}
    except (OSError, UnicodeDecodeError) as error:
        raise InputError(f"The config {path} cannot be read ({getattr(error, 'strerror', 'not UTF-8')}).") from None
    except yaml.YAMLError as error:
        raise InputError(f"{path} is not valid YAML ({one_line(error)}).") from None
    if not isinstance(settings, dict):
        raise InputError(f"{path} must hold `key: value` lines.")
    return settings


def take_config(words: Sequence[str], job: str) -> tuple[Path | None, list[str]]:
    """
    The config that the words of a command name, as their first or by `--config`, and the other words.

    Raises:
        UsageError: when they name two.
    """
    words, found = list(words), []
    if words and not words[0].startswith("-"):
        found.append(words.pop(0))
    for i in reversed([i for i, word in enumerate(words) if word.partition("=")[0] == "--config"]):
        _, equals, value = words.pop(i).partition("=")
        if not equals:
            value = words.pop(i) if i < len(words) and not words[i].startswith("--") else ""
        if not value:
            raise UsageError("--config wants the name or the path of a config.")
        found.append(value)
    if len(found) > 1:
        raise UsageError(f"There are two configs, {found[0]} and {found[1]}; give one.")
    return (find(found[0], job) if found else None), words


def as_options(settings: dict) -> list[str]:
    """The settings as options of a command line; one without a value is not given."""
    options = []
    for key, value in settings.items():
        if value is not None:
            values = value if isinstance(value, list) else [value]
            options += [f"--{key}", *(json.dumps(v) if isinstance(v, dict) else str(v) for v in values)]
    return options


def check_words(words: Sequence[str], job: str) -> None:
    """
    Looks at the words of a job's command before torch and transformers are imported, which takes seconds.

    Raises:
        InputError: for a config, a data file or a model's folder that is not there.
        UsageError: for an option that does not exist or lacks its value, or no folder to write.
    """
    config, words = take_config(words, job)
    settings = {key: value for key, value in (read(config) if config else {}).items() if value is not None}
    known = option_names(job)
    for i, word in enumerate(words):
        option, equals, value = word.removeprefix("--").partition("=")
        if not word.startswith("--"):
            continue
        option = option.replace("-", "_")
        if known and option not in known and option.removeprefix("no_") not in known:
            raise UsageError(f"There is no option --{option}; --help lists them.")
        following = [] if equals else [one for one in words[i + 1 : i + 2] if not one.startswith("--")]
        if option in VALUED and not (value or following):
            raise UsageError(f"--{option} wants a value.")
        settings[option] = following[0] if following else value
    data_file = settings.get("data_file")
    if data_file and settings.get("dataset_name"):
        raise UsageError("Give --data_file or --dataset_name, not both.")
    if data_file and not Path(str(data_file)).exists():
        raise InputError(f"The data file {data_file} does not exist.")
    for option in SOURCES:
        if is_missing_folder(value := str(settings.get(option) or "")):
            raise InputError(f"There is no folder {value}; make it, or name another by --{option}.")
    if "output_dir" not in settings:
        raise UsageError("Give the folder to write by --output_dir.")


@cache
def option_names(job: str) -> set[str]:
    """
    The options of a job, read from the source of its dataclasses, as importing them takes seconds; none where
    transformers' source is not to be found.
    """
    transformers = importlib.util.find_spec("transformers")
    folder = Path(__file__).parent
    theirs = Path(transformers.origin).with_name("training_args.py") if transformers and transformers.origin else None
    if theirs is None or not theirs.is_file():
        return set()
    return set().union(*map(_annotated, (theirs, folder / "arguments.py", folder / f"{job}.py")))


def _annotated(path: Path) -> set[str]:
    """The fields of the dataclasses in a file of Python."""
    classes = (node for node in ast.parse(path.read_text(encoding="utf-8")).body if isinstance(node, ast.ClassDef))
    fields = (node for one in classes for node in one.body if isinstance(node, ast.AnnAssign))
    return {node.target.id for node in fields}
