"""What stands in a model card: the templates' variables, each from a file of the model's folder."""

import re
import shlex
from collections.abc import Mapping, Sequence
from pathlib import Path

from ..errors import InputError
from ..evaluation.card import FOLDER, Metric, ResultCard, read_cards
from ..evaluation.report import escape, markdown_table

# Beside the package where it is installed, beside its folder in a checkout.
TEMPLATE_FOLDERS = [Path(__file__).parents[1] / "model_cards", Path(__file__).parents[2] / "model_cards"]


def render(template: str, **variables) -> str:
    """One of the templates in model_cards/, filled in; a variable that it names and lacks is an error."""
    import jinja2

    environment = jinja2.Environment(
        loader=jinja2.FileSystemLoader(TEMPLATE_FOLDERS),
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        autoescape=False,  # Markdown, escaped by `md`
    )
    environment.filters |= {"md": lambda text: escape(str(text)), "block": code_block}
    text = environment.get_template(template).render(**variables)
    return re.sub(r"\n{3,}", "\n\n", text).strip() + "\n"


def code_block(code: str, language: str) -> str:
    """The code in a fence that it does not hold itself."""
    longest = max(map(len, re.findall("`+", code)), default=0)
    fence = "`" * max(3, longest + 1)
    return f"{fence}{language}\n{code}\n{fence}"


def option(command: str | None, name: str) -> str | None:
    """The value that a recorded command gives to `--name`, if it does."""
    words = _words(command)
    values = [after for before, after in zip(words, words[1:]) if before == f"--{name}"]
    values += [word.partition("=")[2] for word in words if word.startswith(f"--{name}=")]
    return values[-1] if values else None


def _words(command: str | None) -> list[str]:
    try:
        return shlex.split(command or "")
    except ValueError as error:
        raise InputError(f"A recorded command cannot be read ({error}): {command!r}.") from None


# The folders before a file's name in a path that is absolute or leads out of the folder where a command ran, which
# tell of the machine where it lay; not those of a URL.
FOLDERS = re.compile(r"(?<![\w./\\:-])(?:file://)?(?:~?/|[A-Za-z]:[\\/]|\.\.[\\/])(?=[\w.~-])(?:[^\s,;\'\"=]+[\\/])?")


def without_folders(text: str) -> str:
    """The text with the names of files alone in the place of absolute paths."""
    return FOLDERS.sub("", text)


def source_name(source: str) -> str:
    """What a source is called away from the machine where it lay: a file by its name, which may hold spaces."""
    parts = (part.removeprefix("file://") for part in source.split(", "))
    return ", ".join(part.replace("\\", "/").rpartition("/")[2] if FOLDERS.match(part) else part for part in parts)


def public_command(command: str | None) -> str | None:
    """A recorded command without the paths of the machine that it ran on."""
    return shlex.join(without_folders(word) for word in _words(command)) if command else None


def read_results(folder: Path) -> list[ResultCard]:
    """The result cards of a folder, none where it has none."""
    return list(read_cards(folder).values()) if any((folder / FOLDER).glob("*.json")) else []


def training_facts(metrics: Mapping, config: Mapping, conversion: Mapping, folder: Path) -> dict:
    """How it was trained and converted, as far as was recorded."""
    labels = {"method": "Method", "steps": "Steps", "epochs": "Epochs", "tokens_seen": "Tokens seen", "seed": "Seed"}
    training = {label: _number(metrics[key]) for key, label in labels.items() if metrics.get(key) is not None}
    sizes = metrics.get("sizes") or metrics.get("rows")
    if sizes:
        training["Rows"] = ", ".join(f"{name} {size:,}" for name, size in sizes.items() if size is not None)
    if hardware := metrics.get("hardware"):
        training["Hardware"] = hardware.get("gpu") or hardware.get("cpu") or hardware.get("machine") or "not recorded"
    parameters = metrics.get("parameters")
    leaked = metrics.get("test_rows_with_a_near_copy_in_train", metrics.get("leaked_pairs"))
    return {
        "training": training or {"Settings": "not recorded"},
        "parameters": f"{parameters:,}" if parameters else None,
        "command": public_command(metrics.get("command")),
        "curves": "plots/training.png" if (folder / "plots" / "training.png").is_file() else None,
        "config": config,
        "calibration": {key: _number(value) for key, value in (config.get("calibration") or {}).items()} or None,
        "protocol": metrics.get("protocol"),
        "leaked_rows": metrics.get("test_rows_with_a_near_copy_in_train"),
        "leaked": "not recorded" if leaked is None else leaked,
        "conversion": {
            "source": source_name(str(conversion["source"])),
            "format": conversion["format"],
            "difference": f"{conversion['max_logit_difference']:.1e}",
            "files": conversion.get("sha256", {}),
        }
        if conversion
        else None,
    }


def result_facts(cards: Sequence[ResultCard], expected: Sequence[str], name_of_data) -> dict:
    """The evaluations as tables, and the metrics one would expect that were not measured."""
    evaluations = [
        {
            "task": card.task,
            "protocol": without_folders(card.protocol),
            "table": markdown_table({"this model": card.metrics, **card.baselines}),
            "data": [f"{name_of_data(data)} (SHA-256 {str(data['sha256'])[:12]})" for data in card.data],
            "baselines": list(card.baselines),
            "seeds": [str(seed) for seed in card.seeds],
            "command": public_command(card.command),
        }
        for card in cards
    ]
    measured = {name for card in cards for name in card.metrics}
    sentences = comparisons(cards)
    return {
        "evaluations": evaluations,
        "missing": [name for name in expected if name not in measured],
        "comparisons": sentences,
        "beats_baselines": bool(sentences) and all("better than" in sentence for sentence in sentences),
    }


def comparisons(cards: Sequence[ResultCard]) -> list[str]:
    """How F1 compares with each baseline's, by the intervals: apart where they do not overlap."""
    sentences = []
    for card in cards:
        ours = card.metrics.get("f1")
        for name, metrics in card.baselines.items():
            theirs = metrics.get("f1")
            if not (ours and theirs and ours.interval and theirs.interval):
                continue
            if ours.interval[0] > theirs.interval[1]:
                verdict = "is better than"
            elif ours.interval[1] < theirs.interval[0]:
                verdict = "is worse than"
            else:
                verdict = "cannot be told apart from"
            sentences.append(
                f"By F1 it {verdict} {name}: {_with_interval(ours)} against {_with_interval(theirs)} ({card.task})."
            )
    return sentences


def _with_interval(metric: Metric) -> str:
    return "{:.4f} [{:.4f}, {:.4f}]".format(metric.value, *metric.interval)


def _number(value) -> str:
    if isinstance(value, float):
        return f"{value:.4g}"
    return f"{value:,}" if isinstance(value, int) and not isinstance(value, bool) else str(value)
