"""The facts in a model card: the templates' variables, each from a file of the model's folder."""

import re
import shlex
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cache
from pathlib import Path
from types import SimpleNamespace

from safetensors import SafetensorError, safe_open

from ..classification.calibration import CARD_AGREEMENT, Calibration
from ..conversion.choices import assuming
from ..model_folder.contents import ModelFolder
from ..utils.errors import InputError
from ..utils.markdown import escape, markdown_table
from ..utils.provenance import command_words
from ..utils.result_card import FOLDER, ResultCard, identity, read_cards
from .secrets import public_command, public_source, public_text

# Tasks of cards
CLASSIFICATIONS = (
    *("SMS spam classification", "text classification"),
    "text classification, several labels a text",
)
CALIBRATIONS = ("SMS spam calibration", "text classification calibration")
EARLY = ("SMS spam early verdict", "text classification early verdict")
OUTSIDE = "text classification outside answer"
# Beside the package where it is installed, beside its folder in a checkout.
TEMPLATE_FOLDERS = [Path(__file__).parents[1] / "model_cards", Path(__file__).parents[2] / "model_cards"]
METRIC_NAMES = {
    **{"f1": "F1", "mcc": "Matthews correlation", "acc": "Accuracy", "acc_norm": "Accuracy, normalised by length"},
    **{"macro_f1": "Macro F1", "micro_f1": "Micro F1", "subset_accuracy": "Texts with all labels right"},
    **{"outside_told": "Outside texts that are told", "inside_refused": "Texts of its own labels that are refused"},
    **{"macro_precision": "Macro precision", "macro_recall": "Macro recall", "ece": "Expected calibration error"},
    **{"response_perplexity": "Perplexity of the responses", "stop_rate": "Answers that end with the EOS token"},
    "later_response_perplexity": "Perplexity of second and later responses",
    **{"dpo_loss": "DPO loss", "auroc": "AUROC", "not_in_the_faq": "Not in the FAQ"},
    **{"eval_loss": "Validation loss", "lowest_eval_loss": "Lowest validation loss", "train_loss": "Training loss"},
}
DIFFERENCES = {"f1_above_baseline": "F1", "macro_f1_above_baseline": "macro F1"}  # told in a sentence
PLOTS = {
    "training": "Training and validation curves",
    "confusion_matrix": "Confusion matrix on the test set",
    "precision_recall": "Precision and recall on the test set",
    "calibration": "Calibration on the test set",
}


@dataclass(frozen=True)
class Forms:
    """
    The two forms of a model in one repository: with its own code on `main`, and its twin as stock GPT-2 on `gpt2`.

    Attributes:
        revision: the commit on `main` that holds the weights and the code; a card cannot name the one that adds it.
        twin_revision: the commit on `gpt2`; `None` for the twin's own card.
        code: the SHA-256 of the files of code, by name.
        difference: the greatest between the logits of the two.
        has_moved_bias: whether the twin's final LayerNorm has taken in the bias of a classifier.
        graphs: by the precision of each ONNX graph beside the twin, how far its logits are from the model's.
    """

    revision: str
    twin_revision: str | None
    code: Mapping[str, str]
    difference: float
    has_moved_bias: bool
    graphs: Mapping[str, float] = field(default_factory=dict)

    @property
    def is_twins(self) -> bool:
        """Whether the card is the twin's own."""
        return self.twin_revision is None


def render(template: str, **variables) -> str:
    """One of the templates in model_cards/, filled in; a variable that it names and lacks is an error."""
    text = _templates().get_template(template).render(**variables)
    return re.sub(r"\n{3,}", "\n\n", text).strip() + "\n"


@cache
def _templates():
    """Jinja's environment, which compiles each template once."""
    import jinja2

    environment = jinja2.Environment(
        loader=jinja2.FileSystemLoader(TEMPLATE_FOLDERS),
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        autoescape=False,  # Markdown, escaped by `md`
    )
    environment.filters |= {"md": lambda text: escape(str(text)), "block": code_block, "quoted": shlex.quote}
    return environment


def code_block(code: str, language: str) -> str:
    """The code in a fence that it does not contain."""
    longest = max(map(len, re.findall("`+", code)), default=0)
    fence = "`" * max(3, longest + 1)
    return f"{fence}{language}\n{code}\n{fence}"


def metric_name(name: str) -> str:
    """What a metric is called in a card."""
    return METRIC_NAMES.get(name) or name.replace("_", " ").capitalize()


def read_results(folder: Path) -> list[ResultCard]:
    """The result cards of a folder, none where it has none."""
    cards = list(read_cards(folder).values()) if any((folder / FOLDER).glob("*.json")) else []
    return [_of_responses(card) for card in cards]


def _of_responses(card: ResultCard) -> ResultCard:
    """The card without the perplexity of prompts and responses together: with masked prompts it says nothing."""
    if "response_perplexity" not in card.metrics:
        return card

    def kept(metrics: Mapping) -> dict:
        return {name: metric for name, metric in metrics.items() if name != "perplexity"}

    baselines = {name: kept(metrics) for name, metrics in card.baselines.items()}
    return replace(card, metrics=kept(card.metrics), baselines=baselines)


def training_facts(metrics: Mapping) -> dict[str, str]:
    """How it was trained, as far as that was recorded."""
    labels = {"method": "Method", "steps": "Steps", "epochs": "Epochs", "tokens_seen": "Tokens seen", "seed": "Seed"}
    training = {label: number(metrics[key]) for key, label in labels.items() if metrics.get(key) is not None}
    sizes = metrics.get("sizes") or metrics.get("rows")
    if sizes:
        training["Rows"] = ", ".join(f"{name} {size:,}" for name, size in sizes.items() if size is not None)
    leaked = metrics.get("test_rows_with_a_near_copy_in_train", metrics.get("leaked_pairs"))
    if leaked is not None:
        training["Test rows with a near-copy in the training set"] = number(leaked)
    if hardware := metrics.get("hardware"):
        training["Hardware"] = hardware.get("gpu") or hardware.get("cpu") or hardware.get("machine") or "unknown"
    if seconds := metrics.get("train_seconds"):
        training["Training time"] = f"{seconds:.3g} s" if seconds < 300 else f"{seconds / 60:.3g} min"
    settings = metrics.get("settings") or {}
    return training | {name: number(value) for name, value in settings.items()}


def conversion_facts(conversion: Mapping) -> dict | None:
    """What its weights were converted from, if they were."""
    if not conversion:
        return None
    return {
        "source": public_source(str(conversion["source"])),
        "format": conversion["format"],
        "difference": f"{conversion['max_logit_difference']:.1e}",
        "assuming": assuming(conversion.get("assumed") or {}),
        "files": conversion.get("sha256", {}),
    }


def architecture_facts(model: ModelFolder, parameters: int | None) -> dict[str, str]:
    """The shape of the model, or of the adapter."""
    settings = model.adapter if model.is_adapter else model.settings
    if model.is_adapter:
        targets = settings.get("target_modules")
        values = {
            "Class": f"{settings.get('peft_type', 'adapter')} for a {model.architecture}",
            "Rank": settings.get("r"),
            "Alpha": settings.get("lora_alpha"),
            "Target modules": ", ".join(sorted({name.rpartition(".")[2] for name in targets}))
            if isinstance(targets, list)
            else targets,
            "Parameters of the adapter": stored_parameters(model),
        }
    else:
        values = {
            "Class": model.architecture,
            "Parameters": parameters,
            "Layers": settings.get("n_layer"),
            "Attention heads": settings.get("n_head"),
            "Embedding size": settings.get("n_embd"),
            "Context, in tokens": settings.get("n_positions"),
            "Vocabulary, in tokens": settings.get("vocab_size"),
        }
    return {name: number(value) for name, value in values.items() if value is not None}


def stored_parameters(model: ModelFolder) -> int | None:
    """How many numbers the folder's weights have, if they can be read."""
    total = 0
    try:
        for name in model.weight_files:
            if name.endswith(".safetensors"):
                with safe_open(model.path / name, framework="np") as file:
                    shapes = [file.get_slice(key).get_shape() for key in file.keys()]  # noqa: SIM118
                total += sum(_product(shape) for shape in shapes)
    except (SafetensorError, OSError, InputError):
        return None
    return total


def _product(shape: Sequence[int]) -> int:
    product = 1
    for size in shape:
        product *= size
    return product


def versions(metrics: Mapping, settings: Mapping) -> dict[str, str]:
    """The framework versions that it was trained with, or else saved by."""
    found = {"Python": metrics["python"]} if metrics.get("python") else {}
    found |= metrics.get("versions") or {}
    if not found and settings.get("transformers_version"):
        found = {"transformers": settings["transformers_version"]}
    return found


def plots(folder: Path) -> list[dict[str, str]]:
    """The pictures that are uploaded, each with its title."""
    paths = sorted(
        (folder / "plots").glob("*.png"), key=lambda path: (path.stem not in PLOTS, path.stem != "training")
    )
    return [
        {"path": f"plots/{path.name}", "title": PLOTS.get(path.stem) or path.stem.replace("_", " ").capitalize()}
        for path in paths
    ]


def calibration_facts(config: Mapping) -> dict | None:
    """The calibration that a configuration holds, if it does; `thresholds` where each label has its own."""
    if not config.get("calibration"):
        return None
    fitted = Calibration.of(SimpleNamespace(**config))
    prevalence = config["calibration"].get("prevalence")
    has_own = isinstance(fitted.threshold, (list, tuple))
    return {
        **{name: number(getattr(fitted, name)) for name in ("temperature", "shift", "threshold", "outside_label")},
        "thresholds": [number(one) for one in fitted.threshold] if has_own else None,
        "outside_threshold": None if fitted.outside_threshold is None else number(fitted.outside_threshold),
        "early": list(fitted.early or ()),
        "prevalence": f"{prevalence:.1%}" if isinstance(prevalence, float) else None,
    }


def result_facts(cards: Sequence[ResultCard], expected: Sequence[str], name_of_data) -> dict:
    """The evaluations as tables, and the metrics one would expect that were not measured."""
    is_calibrated = any(card.task in CALIBRATIONS for card in cards)
    evaluations = [
        {
            "title": card.task[0].upper() + card.task[1:],
            "intervals": any(metric.interval for key, metric in card.metrics.items() if key not in DIFFERENCES),
            "protocol": public_text(card.protocol),
            "table": _table({name_of_row(card, is_calibrated): card.metrics, **card.baselines}),
            "data": [f"{name_of_data(data)} ({identity(data, 12)})" for data in card.data],
            "seeds": [str(seed) for seed in card.seeds],
        }
        for card in cards
    ]
    measured = {name for card in cards for name in card.metrics}
    compared = [card for card in cards if difference_in(card)]
    when = ", as trained and before the calibration," if is_calibrated else ""
    return {
        "evaluations": evaluations,
        "unmeasured": [metric_name(name) for name in expected if name not in measured],
        "comparisons": [comparison(card, when) for card in compared],
        "beats_baselines": all(card.metrics[difference_in(card)].interval[0] > 0 for card in compared),
    }


def _table(rows: Mapping[str, Mapping]) -> str:
    shown = {
        row: {key: value for key, value in metrics.items() if key not in DIFFERENCES} for row, metrics in rows.items()
    }
    names = {key: metric_name(key) for metrics in shown.values() for key in metrics}
    return markdown_table(shown, names=names, metrics_as_rows=True)


def name_of_row(card: ResultCard, is_calibrated: bool) -> str:
    """What a card's own numbers are of: the model, before it was calibrated, or with what `decide_at` asks for."""
    if card.task in EARLY:
        return f"for {CARD_AGREEMENT}"
    return "as trained" if is_calibrated and card.task in CLASSIFICATIONS else "this model"


def difference_in(card: ResultCard) -> str | None:
    """The name of the metric that says how far the model is above the card's baseline, if there is one."""
    return next((name for name in DIFFERENCES if name in card.metrics), None)


def comparison(card: ResultCard, when: str) -> str:
    """How F1 compares with that of the card's baseline on the same messages, by the interval of the difference."""
    above, what, [name] = card.metrics[difference_in(card)], DIFFERENCES[difference_in(card)], card.baselines
    low, high = (100 * end for end in above.interval)
    verdict = "reliably better" if low > 0 else "reliably worse" if high < 0 else "not a reliable difference"
    side = "above" if above.value >= 0 else "below"
    unit = "texts" if what == "macro F1" else "messages"
    difference = f"{100 * abs(above.value):.2f} points {side} that of {name} on the same {unit}"
    return f"Its {what}{when} is {difference} (95 % confidence interval {low:+.2f} to {high:+.2f}): {verdict}."


def commands(metrics: Mapping, cards: Sequence[ResultCard]) -> list[str]:
    """The commands that trained and measured it, each once, without the paths of the machine."""
    recorded = [metrics.get("command"), *(card.command for card in cards)]
    public = [public_command(command) for command in recorded if command]
    return [_wrapped(command) for command in dict.fromkeys(public)]


def _wrapped(command: str) -> str:
    """A long command over several lines, an option with its values on each."""
    if len(command) <= 100:
        return command
    lines = [""]
    for word in command_words(command):
        if word.startswith("--"):
            lines.append("   ")
        lines[-1] += f" {shlex.quote(word)}"
    return " \\\n".join([lines[0].strip(), *lines[1:]])


def number(value) -> str:
    """A value for a card: a number at four significant digits, a whole one with commas."""
    if isinstance(value, float):
        return f"{value:.4g}"
    return f"{value:,}" if isinstance(value, int) and not isinstance(value, bool) else str(value)
