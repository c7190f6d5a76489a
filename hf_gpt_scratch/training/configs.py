"""
The YAML files of settings that come with the package, by name, and any other by its path; and what can be checked in
a job's command before torch is imported. Imports nothing heavy.
"""

import difflib
import json
import os
import re
from collections.abc import Iterable, Mapping, Sequence
from datetime import date
from itertools import takewhile
from pathlib import Path
from types import MappingProxyType

import yaml

from ..utils.errors import InputError, UsageError, damage_told
from ..utils.files import is_missing_folder
from ..utils.requirements import BITSANDBYTES, PEFT, require_package
from ..utils.result_card import FOLDER, read_card
from ..utils.text import has_lone_surrogates
from .checkpoints import checkpoints
from .job_help import option_names

# Of a wheel, where setuptools puts training/configs; of a checkout.
FOLDERS = [Path(__file__).parents[1] / "configs", Path(__file__).parents[2] / "training" / "configs"]
SMALL = "runs/small"  # which configs for small models start from
SOURCES = ("model_name_or_path", "tokenizer_name")
VALUED = ("data_file", "dataset_name", "output_dir", *SOURCES)  # those checked here
MOST = 10_000  # values of a YAML file
SEEDS, LARGEST_SEED = ("seed", "data_seed", "split_seed"), 2**32 - 1  # NumPy's
NO_OUTPUT = "Give the folder to write with --output_dir, such as --output_dir runs/mine."
NO_DATA = {
    "classify": "Give the labelled texts with --data_file, such as --data_file tickets.csv, or --dataset_name.",
    "chat": "Give the FAQ with --data_file; `hf-gpt-scratch examples` writes two to try.",
}
OTHERWISE = "replace it with --overwrite_output_dir true, or choose another --output_dir"
YES, NO = ("true", "yes", "on"), ("false", "no", "off")
RUN_FILE = "run.json"  # which run the folder is of (`run_file`)
FINISHED = ("config.json", "adapter_config.json", "metrics.json")  # one of these: the folder holds a model or a run


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
    """
    The settings in a YAML file. Its `no`, `yes`, `off` and `on` are read as these words, as YAML 1.2 does: of an
    option such as `eval_strategy` they are a choice, and a label may be called so.

    Raises:
        InputError: when it cannot be read or holds something else.
    """
    try:
        text = path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise InputError(f"The config {path} cannot be read ({getattr(error, 'strerror', 'not UTF-8')}).") from None
    with damage_told(f"{path} is not valid YAML ({{}})."):  # dates and numbers raise errors that are not YAML's
        loader = yaml.SafeLoader(text)
        node = loader.get_single_node()
        _require_few(node, path)
        _keep_words(node)
        settings = (loader.construct_document(node) if node else None) or {}
    if not isinstance(settings, dict) or not all(isinstance(key, str) for key in settings):
        raise InputError(f"{path} must hold `key: value` lines.")
    for key, value in settings.items():
        if not _is_plain(value):
            raise InputError(
                f"{path}: the value of {key[:80]!r} is none of an option's; give a number, a text or a list."
            )
    return settings


def _is_plain(value, depth: int = 0) -> bool:
    """
    Whether a value can be one of an option: a scalar that can be written, a short list of them, or a shallow table,
    such as `lr_scheduler_kwargs`.
    """
    if isinstance(value, list | dict):
        parts = list(value.values()) if isinstance(value, dict) else value
        names = list(value) if isinstance(value, dict) else []
        is_small = depth < 3 and len(parts) <= 1000
        return (
            is_small
            and all(isinstance(name, str) for name in names)
            and all(_is_plain(one, depth + 1) for one in parts)
        )
    if isinstance(value, str):
        return len(value) <= 100_000 and "\0" not in value and not has_lone_surrogates(value)
    if isinstance(value, int | float):
        return isinstance(value, bool) or abs(value) < 1e300  # neither infinite nor NaN
    return value is None or isinstance(value, date)


def _require_few(node: yaml.Node | None, path: Path) -> None:
    """Raises `InputError` for more values than `MOST`; an alias and a merge key (`<<`) stand for what they repeat."""
    left, count = [node], 0
    while left:
        node = left.pop()
        count += 1
        if count > MOST:
            raise InputError(f"{path} holds more than {MOST:,} values, or aliases that stand for as many; give fewer.")
        if isinstance(node, yaml.MappingNode):
            left += [one for pair in node.value for one in pair]
        elif isinstance(node, yaml.SequenceNode):
            left += node.value


def _keep_words(node: yaml.Node | None) -> None:
    """Makes texts of the words of a mapping's values, and of the items of lists in it, but not within mappings."""
    values = [value for _, value in node.value] if isinstance(node, yaml.MappingNode) else []
    for value in values:
        for one in value.value if isinstance(value, yaml.SequenceNode) else [value]:
            if one.tag == "tag:yaml.org,2002:bool" and one.value.lower() not in ("true", "false"):
                one.tag = "tag:yaml.org,2002:str"


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
            raise UsageError("--config needs the name or the path of a config.")
        found.append(value)
    if len(found) > 1:
        raise UsageError(f"There are two configs, {found[0]} and {found[1]}; give only one.")
    return (find(found[0], job) if found else None), words


def as_options(settings: dict, choices: Mapping[str, Iterable[str] | None] = MappingProxyType({})) -> list[str]:
    """
    The settings as options of a command line; one without a value is not given.

    Args:
        choices: the words that an option takes, by its name; yes and no, where it takes true and false.

    Raises:
        UsageError: for true or false where the choices are words that do not include yes or no.
    """
    options = []
    for key, value in settings.items():
        if value is not None:
            values = value if isinstance(value, list) else [value]
            options += [f"--{key}", *(_word(key, one, list(choices.get(key) or ())) for one in values)]
    return options


def _word(key: str, value, choices: list[str]) -> str:
    if isinstance(value, dict) or (isinstance(value, bool) and not choices):
        return json.dumps(value)  # true, as it is written in YAML
    if not choices:
        return str(value)
    word = str(value) if not isinstance(value, bool) else "yes" if value else "no"
    meant = {word.lower(), {"on": "yes", "off": "no"}.get(word.lower())}
    near = next((choice for choice in choices if choice.lower() in meant), None)
    if near is None and isinstance(value, bool):
        raise UsageError(f"{key} must be one of {', '.join(choices)}, not {str(value).lower()}.")
    return near or word


def check_words(words: Sequence[str], job: str) -> None:
    """
    Looks at the words of a job's command before torch and transformers are imported, which takes seconds.

    Raises:
        InputError: for a config, a data file or a model's folder that is not there.
        UsageError: for an option that does not exist or lacks its value, or a missing --output_dir.
    """
    for word in words:
        if has_lone_surrogates(word):  # a name in another encoding, which no record of the run could hold
            raise UsageError(f"{word.encode('utf-8', 'backslashreplace').decode()} is not UTF-8; give another name.")
    settings = settings_of(words, job)
    for option in SEEDS:
        seed = str(settings.get(option, 0)).strip()
        if re.fullmatch(r"-?\d+", seed) and not 0 <= int(seed[:20]) <= LARGEST_SEED:
            raise UsageError(f"--{option} must be from 0 to {LARGEST_SEED}, not {seed[:20]}.")
    data_file = settings.get("data_file")
    if data_file and settings.get("dataset_name"):
        raise UsageError("Give --data_file or --dataset_name, not both.")
    if job in NO_DATA and not (data_file or settings.get("dataset_name")):
        raise UsageError(NO_DATA[job])
    if data_file and not os.path.exists(str(data_file)):  # which takes a name that is too long for one
        raise InputError(f"The data file {data_file} does not exist.")
    if data_file:
        _look_at_data(job, settings)
    for option in SOURCES:
        if is_missing_folder(value := str(settings.get(option) or "")):
            raise InputError(no_folder(value, option))
    if "output_dir" not in settings:
        raise UsageError(NO_OUTPUT)
    _require_packages(settings)
    require_free(
        settings["output_dir"],
        is_on(settings.get("overwrite_output_dir", False)),
        settings.get("resume_from_checkpoint"),
        settings.get("model_name_or_path"),
    )


def settings_of(words: Sequence[str], job: str) -> dict:
    """
    What the words of a job's command set, those of its config included, by the options' names and as they are written.

    Raises:
        InputError, UsageError: as `check_words` says, of the config and the options.
    """
    config, words = take_config(words, job)
    settings = {key: value for key, value in (read(config) if config else {}).items() if value is not None}
    for option in settings.keys() & {*VALUED, "resume_from_checkpoint"}:
        if isinstance(settings[option], list | dict):
            raise UsageError(f"{config}: {option} takes one value; give a text.")
        settings[option] = str(settings[option])
    known = option_names(job)
    for i, word in enumerate(words):
        option, equals, value = word.removeprefix("--").partition("=")
        if not word.startswith("--"):
            continue
        option = option.replace("-", "_")
        if known and option not in known and option.removeprefix("no_") not in known:
            raise unknown_option(f"--{option}", known)
        following = [] if equals else list(takewhile(lambda one: not one.startswith("--"), words[i + 1 :]))
        if option == "data_file" and len(following) > 1:
            raise UsageError(f"--data_file takes one file, or a folder of them, not {' and '.join(following)}.")
        if option in VALUED and not (value or following):
            raise UsageError(f"--{option} needs a value.")
        settings[option] = following[0] if following else value
    return settings


def _look_at_data(job: str, settings: Mapping) -> None:
    """Raises `InputError` for a data file that the job cannot read, as far as that is seen in a moment."""
    from ..data import conversations, faq, first_look
    from ..data.columns import find_columns

    def given(*options: str) -> list[str | None]:
        return [None if settings.get(option) is None else str(settings[option]) for option in options]

    finders = {
        "classify": lambda table: find_columns(table, *given("text_column", "label_column")),
        "chat": lambda table: faq.find_columns(table, *given("question_column", "answer_column")),
        "instruct": conversations.find_columns,
        "prefer": lambda table: None,
    }
    if job in finders:
        first_look.look(settings["data_file"], finders[job])
    elif job == "spam":
        first_look.look(settings["data_file"], is_table=False)


def _require_packages(settings: Mapping) -> None:
    """Raises `InputError` where a package is missing that the settings need."""
    is_qlora = "qlora" in settings and is_on(settings["qlora"])
    base = settings.get("model_name_or_path")
    if settings.get("lora_r") or is_qlora or (base and (Path(str(base)) / "adapter_config.json").is_file()):
        require_package(*PEFT)
    if is_qlora:
        require_package(*BITSANDBYTES)


def is_on(value) -> bool:
    """Whether an option of true and false is on, as it is also where it stands alone."""
    return str(value).lower() in ("", *YES, "t", "y", "1")


def unknown_option(word: str, known: Iterable[str]) -> UsageError:
    """The error for an option that does not exist, with the one that was probably meant."""
    return UsageError(f"There is no option {word}{advice(word, known)}; --help lists the options.")


def advice(name: str, known: Iterable[str]) -> str:
    """`; did you mean X?` for a misspelt name, nothing where none is near."""
    dashes = "--" if name.startswith("--") else ""
    near = difflib.get_close_matches(name.removeprefix("--").partition("=")[0].replace("-", "_"), known, 1)
    return f" (did you mean {dashes}{near[0]}?)" if near else ""


def no_folder(path: str, option: str) -> str:
    """What is said of a folder that does not exist."""
    if Path(path) == Path(SMALL):
        return (
            f"There is no folder {path}: make it with `hf-gpt-scratch train pretrain cpu_small --data_file TEXT.txt"
            f" --output_dir {path}` from a text of your own, or with training/corpus.py (docs/pretrain.md), or give"
            f" another model with --{option}."
        )
    return f"There is no folder {path}; train or convert a model into it first, or give another with --{option}."


def is_resumed(resume: str | None) -> bool:
    """Whether `--resume_from_checkpoint` asks for a checkpoint."""
    return resume is not None and str(resume).lower() not in NO


def is_last(resume: str | None) -> bool:
    """Whether it asks for the last one of `--output_dir`."""
    return str(resume).lower() in YES


def require_free(output_dir, overwrite: bool, resume: str | None, base: str | None = None) -> None:
    """
    Makes sure that a run does not replace another one, or mix its checkpoints with another's, unasked. Whether what
    the folder holds is of the same run is not known yet (`run_file`).

    Args:
        overwrite: whether what the folder holds may be replaced.
        resume: what `--resume_from_checkpoint` is given.
        base: the model to start from.

    Raises:
        InputError: when the folder holds a model, measurements or checkpoints that are neither replaced nor resumed.
        UsageError: when they are to be both, or the folder is that of the model to start from.
    """
    folder, left = Path(output_dir), checkpoints(output_dir)
    if base and Path(base).exists() and Path(base).resolve() == folder.resolve():
        raise UsageError(f"{output_dir} is the model to start from; choose another --output_dir for the new one.")
    if overwrite and is_resumed(resume):
        raise UsageError("Give --overwrite_output_dir or --resume_from_checkpoint, not both.")
    if overwrite or (is_resumed(resume) and (is_last(resume) or Path(resume).parent == folder)):
        return
    found = [name for name in FINISHED if (folder / name).is_file()]
    found += [f"{FOLDER}/{path.name}" for path in sorted((folder / FOLDER).glob("*.json")) if _is_card(path)]
    if resume is None and ((folder / RUN_FILE).is_file() or not found):
        return
    if found:
        raise InputError(f"{output_dir} already holds a run ({', '.join(found)}); {OTHERWISE}.")
    if left:
        raise InputError(
            f"{output_dir} holds checkpoints of an earlier run; continue it by omitting --resume_from_checkpoint,"
            f" {OTHERWISE}."
        )


def _is_card(path: Path) -> bool:
    try:
        return bool(read_card(path))
    except InputError:
        return False
