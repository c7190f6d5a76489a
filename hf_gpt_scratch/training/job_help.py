"""
The options of a job and its short help, read from the source of its dataclasses: importing them would import torch and
transformers, which takes seconds.
"""

import argparse
import ast
import importlib.util
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

HERE = Path(__file__).parent
# Of a job that is trained by another package: where in it the dataclass of its TrainingArguments is
OTHERS = {"prefer": ("trl", "trainer/dpo_config.py")}
# Of TrainingArguments' options, those that are needed most often. Their own help is long, or missing.
COMMON = {
    "num_train_epochs": "Passes over the training data.",
    "max_steps": "Stop after this many optimizer steps, whatever num_train_epochs says.",
    "learning_rate": "Peak learning rate.",
    "lr_scheduler_type": "Learning rate schedule: linear, cosine, constant...",
    "warmup_steps": "Steps of linear warm-up; below 1, a share of all steps.",
    "per_device_train_batch_size": "Batch size of each device.",
    "gradient_accumulation_steps": "Batches that make up one optimizer step.",
    "eval_steps": "Steps between two evaluations, with --eval_strategy steps.",
    "save_steps": "Steps between two checkpoints, with --save_strategy steps.",
    "resume_from_checkpoint": "Go on from this checkpoint; true: train a finished run further.",
    "use_cpu": "Train on the CPU even where there is a GPU.",
    "push_to_hub": "Push the model to the Hub at the end, with its model card.",
    "hub_model_id": "The repository to push to, such as you/model.",
    "hub_private_repo": "Make that repository private.",
}


@dataclass(frozen=True)
class Option:
    """A field of a dataclass that HfArgumentParser reads."""

    name: str
    help: str
    default: Any = None


@cache
def option_names(job: str) -> set[str]:
    """The options of a job; none where transformers' source is not to be found."""
    theirs = _training_arguments()
    if theirs is None:
        return set()
    options = [option for path in (theirs, _others(job)) for one in _classes(path).values() for option in one]
    shared = _classes(HERE / "arguments.py")["ScratchTrainingArguments"]
    shown = _constants(job).get("OF_TRL") or {}
    return {option.name for option in (*options, *shared, *_job_options(job))} | set(shown)


def help_text(job: str, configs: Sequence[str]) -> str:
    """
    What `--help` prints: the job's own options, and of TrainingArguments those that are needed most often. `configs`
    are the names of those that come with the package.
    """
    source, constants = ast.parse((HERE / f"{job}.py").read_text(encoding="utf-8")), _constants(job)
    parser = argparse.ArgumentParser(
        prog=f"hf-gpt-scratch train {job}",
        usage="%(prog)s [CONFIG] [--key value ...]",
        description=description(ast.get_docstring(source) or "", configs),
        epilog=f"Example: {constants['EXAMPLE']}",
        formatter_class=argparse.RawDescriptionHelpFormatter,
        add_help=False,
    )
    shown = set()
    for title, options in _groups(job).items():
        group = parser.add_argument_group(title)
        for option in options:
            if option.name not in shown:
                default = constants["DEFAULTS"].get(option.name, option.default)
                group.add_argument(f"--{option.name}", metavar="X", help=_with_default(option.help, default))
                shown.add(option.name)
    rest = len(option_names(job) - shown)
    group = parser.add_argument_group("help")
    group.add_argument("-h", "--help", action="help", help="Show this help.")
    group.add_argument("--help-all", action="help", help=f"Show transformers' other {rest} TrainingArguments too.")
    return parser.format_help()


def _constants(job: str) -> dict[str, Any]:
    """The constants of a job's module that are literals."""
    body = ast.parse((HERE / f"{job}.py").read_text(encoding="utf-8")).body
    return {
        node.targets[0].id: _literal(node.value)
        for node in body
        if isinstance(node, ast.Assign) and isinstance(node.targets[0], ast.Name)
    }


def description(text: str, configs: Sequence[str]) -> str:
    """What stands above the options: what the job does, and which configs come with it."""
    return f"{text.strip()}\n\nCONFIG is a YAML file or one of {', '.join(configs)}."


def _groups(job: str) -> dict[str, list[Option]]:
    shared = _classes(HERE / "arguments.py")
    theirs = _training_arguments()
    defaults = {option.name: option.default for options in _classes(theirs).values() for option in options}
    common = [Option(name, help, defaults[name]) for name, help in COMMON.items() if name in defaults]
    output, ours = shared["ScratchTrainingArguments"][:2], shared["ScratchTrainingArguments"][2:]
    others = [Option(name, help) for name, help in (_constants(job).get("OF_TRL") or {}).items()]
    return {"data and model": _job_options(job), "training": [*output, *others, *common, *ours]}


def _job_options(job: str) -> list[Option]:
    """The options of a job's dataclass, then those of the classes that it inherits from."""
    path, found = HERE / f"{job}.py", {}
    [name] = [name for name in _classes(path) if name.endswith("Arguments")]
    while name:
        for option in _classes(path)[name]:
            found.setdefault(option.name, option)
        path, name = _parent(path, name)
    return list(found.values())


def _parent(path: Path, name: str) -> tuple[Path, str | None]:
    """The class that a class inherits from, in the same file or in a module beside it: its file and its name."""
    body = _body(path)
    [bases] = [node.bases for node in body if isinstance(node, ast.ClassDef) and node.name == name]
    if not bases:
        return path, None
    modules = {
        alias.name: node.module
        for node in body
        if isinstance(node, ast.ImportFrom) and node.level == 1
        for alias in node.names
    }
    base = bases[0].id
    return (HERE / f"{modules[base]}.py" if base in modules else path), base


def _training_arguments() -> Path | None:
    return _file("transformers", "training_args.py")


def _others(job: str) -> Path | None:
    return _file(*OTHERS[job]) if job in OTHERS else None


def _file(package: str, name: str) -> Path | None:
    """A file of a package that is installed; the package is not imported."""
    found = importlib.util.find_spec(package)
    path = Path(found.origin).parent / name if found and found.origin else None
    return path if path and path.is_file() else None


@cache
def _body(path: Path | None) -> list[ast.stmt]:
    return ast.parse(path.read_text(encoding="utf-8")).body if path else []


def _classes(path: Path | None) -> dict[str, list[Option]]:
    """The annotated fields of the classes in a file."""
    return {
        node.name: [_option(field) for field in node.body if isinstance(field, ast.AnnAssign)]
        for node in _body(path)
        if isinstance(node, ast.ClassDef)
    }


def _option(node: ast.AnnAssign) -> Option:
    keywords = {word.arg: word.value for word in getattr(node.value, "keywords", [])}
    metadata = keywords.get("metadata")
    texts = {}
    if isinstance(metadata, ast.Dict):
        texts = {_literal(key): value for key, value in zip(metadata.keys, metadata.values)}
    default = keywords.get("default", node.value)
    return Option(node.target.id, _literal(texts.get("help")) or "", _literal(default))


def _literal(node: ast.AST | None):
    """The value of a literal; `None` for anything else."""
    try:
        return ast.literal_eval(node) if node is not None else None
    except ValueError:
        return None


def _with_default(help: str, default) -> str:
    text = help.replace("%", "%%")
    if default in (None, -1) or "default" in help:
        return text
    shown = str(default).lower() if isinstance(default, bool) else default
    return f"{text.rstrip('.')} (default: {shown})."
