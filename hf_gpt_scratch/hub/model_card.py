"""
The model card of a folder: README.md, written from the folder's own files by the templates in model_cards/.

What no file of the folder says is "not measured" or "not recorded" in the card. No absolute path gets into it.
"""

import math
import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from ..errors import InputError, UsageError
from ..saving import ADAPTER_CONFIG
from .card_facts import option, read_results, render, result_facts, source_name, training_facts

MARKER = "<!-- Written by hf-gpt-scratch from the files beside it. Without this line it is never overwritten. -->"
KINDS = ("base", "spam", "instruct", "adapter")
TEMPLATES = KINDS[:3]
PIPELINES = {"base": "text-generation", "instruct": "text-generation", "spam": "text-classification"}
TAGS = {"base": [], "spam": ["spam-detection"], "instruct": ["instruction-following"]}
EXPECTED = {
    "base": ("perplexity",),
    "spam": ("f1", "precision", "recall", "mcc", "accuracy"),
    "instruct": ("response_perplexity", "perplexity", "stop_rate"),
}
# What the Hub calls the metrics that it knows; the others stand in the card's tables alone.
METRIC_TYPES = {
    **{name: name for name in ("f1", "precision", "recall", "accuracy", "perplexity")},
    "mcc": "matthews_correlation",
    "acc": "accuracy",
    "acc_norm": "accuracy",
    "response_perplexity": "perplexity",
    "word_perplexity": "perplexity",
}


@dataclass(frozen=True)
class DataSet:
    """
    What the card says of a data set.

    Attributes:
        hub: its name on the Hub, if it is there.
    """

    name: str
    sha256: str | None = None
    hub: str | None = None
    url: str | None = None
    licence: str | None = None
    is_sms: bool = False

    @classmethod
    def of(cls, record: Mapping | None, command: str | None = None) -> "DataSet | None":
        """
        The one of a `{"source": ..., "sha256": ...}`, known by its hash or else called by its file's name; `None` for
        no record. A `--dataset_name` in `command` tells that the source is on the Hub.
        """
        if not isinstance(record, Mapping) or not record.get("source"):
            return None
        source, sha256 = str(record["source"]), record.get("sha256")
        if sha256 in (known := _known_data()):
            return known[sha256]
        name = source.split(", ")[0]
        is_hub = bool(option(command, "dataset_name") == name or record.get("revision"))
        is_url = source.startswith(("https://", "http://"))
        return cls(
            name if is_hub else source if is_url else source_name(source),
            sha256,
            hub=name if is_hub else None,
            url=f"https://huggingface.co/datasets/{name}" if is_hub else None,
        )


def _known_data() -> dict[str, DataSet]:
    """The data sets whose source and licence are known, by their SHA-256."""
    from ..data import alpaca, sms_spam, text

    known = (
        DataSet(
            "SMS Spam Collection",
            sms_spam.SHA256,
            hub="ucirvine/sms_spam",
            url="https://archive.ics.uci.edu/dataset/228/sms+spam+collection",
            licence="CC BY 4.0 (Almeida and Hidalgo, 2011)",
            is_sms=True,
        ),
        DataSet(
            "The Verdict, by Edith Wharton (1908)",
            text.VERDICT_SHA256,
            url=text.VERDICT_URL,
            licence="in the public domain in the United States",
        ),
        DataSet(
            "the instructions of Build a Large Language Model (From Scratch), chapter 7",
            alpaca.SHA256,
            url=alpaca.URL,
            licence="Apache 2.0, that of the book's code",
        ),
    )
    return {data.sha256: data for data in known}


def make_card(
    folder: str | os.PathLike, repo_id: str, license: str = "mit", language: str = "en", template: str | None = None
):
    """
    The card of a model's or an adapter's folder, from its config.json or adapter_config.json, metrics.json,
    conversion.json, results/*.json and plots/training.png, as far as they are there.

    Args:
        repo_id: the repository of the Hub that the folder is for, which the lines of code load.
        template: one of `TEMPLATES`; by default that which fits the folder.

    Returns:
        A `huggingface_hub.ModelCard`.

    Raises:
        InputError: when the folder holds no model that there is a card for, or one of its files is damaged.
        UsageError: for a template that does not exist or does not fit.
    """
    from huggingface_hub import ModelCard, ModelCardData

    model = _Model.read(Path(folder), template)
    cards = read_results(model.folder)
    results = [result for card in cards for result in eval_results(card, PIPELINES[model.template])]
    data = DataSet.of(model.metrics.get("data"), model.metrics.get("command"))
    name = repo_id.split("/")[-1]
    metadata = ModelCardData(
        language=language,
        license=license,
        library_name="peft" if model.adapter else "transformers",
        pipeline_tag=PIPELINES[model.template],
        tags=["gpt", "gpt-from-scratch", "custom_code", *TAGS[model.template], *(["lora"] if model.adapter else [])],
        base_model=model.base if is_hub_id(model.base) else model.hub_origin,
        datasets=[data.hub] if data and data.hub else None,
        metrics=list(dict.fromkeys(result.metric_type for result in results)) or None,
        model_name=name if results else None,
        eval_results=results or None,
    )
    text = render(
        f"{model.template}.md",
        metadata=metadata.to_yaml(),
        marker=MARKER,
        name=name,
        license=license,
        code=loading_code(repo_id, model.kind),
        data=data,
        adapter=bool(model.adapter),
        base=source_name(model.base) if model.base else None,
        base_is_hub=is_hub_id(model.base),
        **training_facts(model.metrics, model.config, model.conversion, model.folder),
        **result_facts(cards, EXPECTED[model.template], lambda record: DataSet.of(record).name),
    )
    return ModelCard(text)


def eval_results(card, pipeline: str) -> list:
    """The numbers of a result card as the Hub's model-index has them: those that it knows."""
    from huggingface_hub import EvalResult

    data = DataSet.of(card.data[0])
    return [
        EvalResult(
            task_type=pipeline,
            task_name=card.task,
            dataset_type=data.hub or "custom",
            dataset_name=data.name,
            metric_type=METRIC_TYPES[name],
            metric_name=name,
            metric_value=round(metric.value, 4),
        )
        for name, metric in card.metrics.items()
        if name in METRIC_TYPES and math.isfinite(metric.value)
    ]


def loading_code(folder_or_repo: str | os.PathLike, kind: str) -> str:
    """
    Python that loads a model of one of the `KINDS` and uses it, where this package need not be installed.

    Raises:
        UsageError: for another kind.
    """
    if kind not in KINDS:
        raise UsageError(f"There are no lines to load a model of the kind {kind!r}; it must be {' or '.join(KINDS)}.")
    name = '"' + str(folder_or_repo).replace("\\", "\\\\").replace('"', '\\"') + '"'
    return render("code.md", kind=kind, name=name).strip("\n")


def is_hub_id(name: str | None) -> bool:
    """Whether it can be a repository of the Hub, of the form user/name, and is no folder here."""
    from huggingface_hub.utils import HFValidationError, validate_repo_id

    from ..tokenizer import is_missing_folder

    if not name or name.count("/") != 1 or Path(name).exists() or is_missing_folder(name):
        return False
    try:
        validate_repo_id(name)
    except HFValidationError:
        return False
    return True


@dataclass(frozen=True)
class _Model:
    """A folder's files, read: its settings and what was recorded of its training and conversion."""

    folder: Path
    template: str
    adapter: dict
    config: dict
    metrics: dict
    conversion: dict

    @classmethod
    def read(cls, folder: Path, template: str | None) -> "_Model":
        if template is not None and template not in TEMPLATES:
            raise UsageError(f"There is no card template {template!r}; it must be {' or '.join(TEMPLATES)}.")
        adapter, config = _read_object(folder / ADAPTER_CONFIG), {}
        if not adapter or (folder / "config.json").is_file():
            from ..configuration_gpt_scratch import GPTScratchConfig
            from ..conversion.source import read_config

            adapter, config = {}, read_config(folder, GPTScratchConfig.model_type)
        fitting = _fitting_templates(folder, adapter, config, _read_object(folder / "metrics.json").get("task"))
        if template not in (None, *fitting):
            raise UsageError(f"The card template {template!r} does not fit {folder}; {' or '.join(fitting)} does.")
        files = (_read_object(folder / name) for name in ("metrics.json", "conversion.json"))
        return cls(folder, template or fitting[0], adapter, config, *files)

    @property
    def kind(self) -> str:
        return "adapter" if self.adapter else self.template

    @property
    def base(self) -> str | None:
        """What it was trained on from: a repository, or else a folder."""
        if self.adapter:
            from ..adapters import base_of

            return base_of(self.folder)
        return option(self.metrics.get("command"), "model_name_or_path")

    @property
    def hub_origin(self) -> str | None:
        """The repository that it was converted from."""
        source = self.conversion.get("source")
        return source if isinstance(source, str) and not self.base and is_hub_id(source) else None


def _fitting_templates(folder: Path, adapter: Mapping, config: Mapping, task: str | None) -> list[str]:
    """The templates that a folder can have, the best first; raises `InputError` where there are none."""
    if adapter and adapter.get("task_type") != "CAUSAL_LM":
        raise InputError(f"{folder} holds an adapter of another model than a language model, which has no card yet.")
    has_chat = _has_chat_template(folder)
    if (adapter or task == "instruction following") and not has_chat:
        raise InputError(f"{folder} has no chat template in its tokenizer's files; save the tokenizer beside it.")
    architecture = (config.get("architectures") or ["GPTScratchModel"])[0]
    if adapter:
        return ["instruct"]
    if architecture == "GPTScratchForCausalLM":
        return ["instruct", "base"] if has_chat else ["base"]
    if architecture != "GPTScratchForSequenceClassification":
        raise InputError(
            f"{folder} holds a {architecture}; there are cards for language models and spam filters only."
        )
    labels = list((config.get("id2label") or {}).values())
    if labels != ["ham", "spam"]:
        raise InputError(f"{folder} has the labels {', '.join(labels)}; there is a card for ham and spam only.")
    return ["spam"]


def _has_chat_template(folder: Path) -> bool:
    return (folder / "chat_template.jinja").is_file() or bool(
        _read_object(folder / "tokenizer_config.json").get("chat_template")
    )


def _read_object(path: Path) -> dict:
    """What a JSON file holds, `{}` where there is none; raises `InputError` where it is damaged."""
    from ..evaluation.responses import read_json

    values = read_json(path) if path.is_file() else {}
    if not isinstance(values, dict):
        raise InputError(f"{path} must be a JSON object, not a {type(values).__name__}.")
    return values
