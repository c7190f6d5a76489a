"""What stands in a model card: the templates' variables, each from a file of the model's folder."""

import re
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from types import SimpleNamespace

from ..classification.calibration import Calibration
from ..utils.markdown import escape, markdown_table
from ..utils.result_card import FOLDER, ResultCard, identity, read_cards
from .secrets import public_command, public_source, public_text

CLASSIFICATION, CALIBRATION = "SMS spam classification", "SMS spam calibration"  # tasks of cards
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
    if settings := metrics.get("settings"):
        training["Settings"] = ", ".join(f"{name} {_number(value)}" for name, value in settings.items())
    parameters = metrics.get("parameters")
    leaked = metrics.get("test_rows_with_a_near_copy_in_train", metrics.get("leaked_pairs"))
    return {
        "training": training or {"Settings": "not recorded"},
        "parameters": f"{parameters:,}" if parameters else None,
        "command": public_command(metrics.get("command")),
        "curves": "plots/training.png" if (folder / "plots" / "training.png").is_file() else None,
        "config": config,
        "positions": config.get("n_positions"),
        "calibration": calibration_facts(config),
        "protocol": metrics.get("protocol"),
        "leaked_rows": metrics.get("test_rows_with_a_near_copy_in_train"),
        "leaked": "not recorded" if leaked is None else leaked,
        "conversion": {
            "source": public_source(str(conversion["source"])),
            "format": conversion["format"],
            "difference": f"{conversion['max_logit_difference']:.1e}",
            "files": conversion.get("sha256", {}),
        }
        if conversion
        else None,
    }


def calibration_facts(config: Mapping) -> dict | None:
    """The calibration that a configuration holds, if it does."""
    if not config.get("calibration"):
        return None
    facts = {name: _number(value) for name, value in asdict(Calibration.of(SimpleNamespace(**config))).items()}
    prevalence = config["calibration"].get("prevalence")
    return facts | {"prevalence": None if prevalence is None else f"{prevalence:.1%}"}


def result_facts(cards: Sequence[ResultCard], expected: Sequence[str], name_of_data) -> dict:
    """The evaluations as tables, and the metrics one would expect that were not measured."""
    is_calibrated = CALIBRATION in [card.task for card in cards]
    evaluations = [
        {
            "task": card.task,
            "protocol": public_text(card.protocol),
            "table": markdown_table({name_of_row(card, is_calibrated): card.metrics, **card.baselines}),
            "data": [f"{name_of_data(data)} ({identity(data, 12)})" for data in card.data],
            "baselines": list(card.baselines),
            "seeds": [str(seed) for seed in card.seeds],
            "command": public_command(card.command),
        }
        for card in cards
    ]
    measured = {name for card in cards for name in card.metrics}
    compared = [card for card in cards if "f1_above_baseline" in card.metrics]
    when = ", as it was trained and before its calibration," if is_calibrated else ""
    return {
        "evaluations": evaluations,
        "missing": [name for name in expected if name not in measured],
        "comparisons": [comparison(card, when) for card in compared],
        "beats_baselines": all(card.metrics["f1_above_baseline"].interval[0] > 0 for card in compared),
    }


def name_of_row(card: ResultCard, is_calibrated: bool) -> str:
    """What a card's own row is called: the model, or what it was before it was calibrated."""
    return "as trained" if is_calibrated and card.task == CLASSIFICATION else "this model"


def comparison(card: ResultCard, when: str) -> str:
    """How F1 compares with that of the card's baseline on the same messages, by the interval of the difference."""
    above, [name] = card.metrics["f1_above_baseline"], card.baselines
    low, high = (100 * end for end in above.interval)
    verdict = "it is better" if low > 0 else "it is worse" if high < 0 else "the two cannot be told apart"
    side = "above" if above.value >= 0 else "below"
    difference = f"{100 * abs(above.value):.2f} points {side} that of {name} on the same messages"
    return f"Its F1{when} is {difference}, 95 % interval {low:+.2f} to {high:+.2f}: {verdict}."


def _number(value) -> str:
    if isinstance(value, float):
        return f"{value:.4g}"
    return f"{value:,}" if isinstance(value, int) and not isinstance(value, bool) else str(value)
