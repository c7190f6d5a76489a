"""
The model card of a folder: README.md, written from the folder's own files by the templates in model_cards/.

What no file of the folder says is "not measured" or "not recorded" in the card. No absolute path gets into it.
"""

import math
import os
import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from huggingface_hub import EvalResult, ModelCard, ModelCardData

from ..data import alpaca, sms_spam, text
from ..model_folder.contents import ModelFolder
from ..prompts import CHAT_TEMPLATE
from ..utils.errors import InputError
from ..utils.files import is_missing_folder, read_json_object
from .card_facts import CALIBRATION, name_of_row, read_results, render, result_facts, training_facts
from .secrets import command_words, public_source

MARKER = "<!-- Written by hf-gpt-scratch from the files beside it. Without this line it is never overwritten. -->"
PIPELINES = {  # by the class of the model
    "GPTScratchModel": "feature-extraction",
    "GPTScratchForCausalLM": "text-generation",
    "GPTScratchForSequenceClassification": "text-classification",
    "GPTScratchForTokenClassification": "token-classification",
}
TAGS = {"spam": ["spam-detection"], "instruct": ["instruction-following"]}  # by template
EXPECTED = {
    "base": ("perplexity",),
    "spam": ("f1", "precision", "recall", "mcc", "accuracy"),
    "instruct": ("response_perplexity", "perplexity", "stop_rate"),
    "other": (),
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
        language: of its texts, as the Hub calls it, such as "en".
    """

    name: str
    sha256: str | None = None
    hub: str | None = None
    url: str | None = None
    licence: str | None = None
    language: str | None = None
    is_sms: bool = False

    @classmethod
    def of(cls, record: Mapping | None, command: str | None = None) -> "DataSet | None":
        """
        The one of a `{"source": ..., "sha256": ...}`, known by its hash or else called by its file's name; `None` for
        no record. `dataset` in it, or a `--dataset_name` in `command`, tells that the source is on the Hub.
        """
        if not isinstance(record, Mapping) or not record.get("source"):
            return None
        source, sha256 = str(record["source"]), record.get("sha256")
        if sha256 in (known := _known_data()):
            return known[sha256]
        name = source.split(", ")[0]
        named = record.get("dataset") or option(command, "dataset_name")
        is_hub = bool((named == name or record.get("revision")) and is_hub_id(name))
        is_url = source.startswith(("https://", "http://"))
        return cls(
            name if is_hub else source if is_url else public_source(source),
            sha256,
            hub=name if is_hub else None,
            url=f"https://huggingface.co/datasets/{name}" if is_hub else None,
        )


def option(command: str | None, name: str) -> str | None:
    """The value that a recorded command gives to `--name`, if it does."""
    words = command_words(command)
    values = [after for before, after in zip(words, words[1:]) if before == f"--{name}"]
    values += [word.partition("=")[2] for word in words if word.startswith(f"--{name}=")]
    return values[-1] if values else None


def _known_data() -> dict[str, DataSet]:
    """The data sets whose source and licence are known, by their SHA-256."""
    known = (
        DataSet(
            "SMS Spam Collection",
            sms_spam.SHA256,
            hub="ucirvine/sms_spam",
            url="https://archive.ics.uci.edu/dataset/228/sms+spam+collection",
            licence="CC BY 4.0 (Almeida and Hidalgo, 2011)",
            language="en",
            is_sms=True,
        ),
        DataSet(
            "The Verdict, by Edith Wharton (1908)",
            text.VERDICT_SHA256,
            url=text.VERDICT_URL,
            licence="in the public domain in the United States",
            language="en",
        ),
        DataSet(
            "the instructions of Build a Large Language Model (From Scratch), chapter 7",
            alpaca.SHA256,
            url=alpaca.URL,
            licence="Apache 2.0, that of the book's code",
            language="en",
        ),
    )
    return {data.sha256: data for data in known}


def is_replaceable(readme: str) -> bool:
    """Whether a README.md was written by this package, PEFT or Trainer, or is the Hub's, with no word in it."""
    is_generated = MARKER in readme or "<!-- This model card has been generated automatically" in readme
    is_template = readme.count("[More Information Needed]") > 30  # of PEFT's 39, so that next to nothing was filled in
    return is_generated or is_template or not re.sub(r"\A---\n.*?\n---", "", readme, flags=re.S).strip()


def make_card(
    folder: str | os.PathLike, repo_id: str, license: str | None = None, language: str | None = None
) -> ModelCard:
    """
    The card of a model's or an adapter's folder, from its config.json or adapter_config.json, metrics.json,
    conversion.json, results/*.json and plots/training.png, as far as they are there.

    Args:
        repo_id: the repository of the Hub that the folder is for, which the lines of code load.
        license: of the weights; by default "not recorded".
        language: of the texts it is for; by default that of the data it was trained on, where that is known.

    Returns:
        A `huggingface_hub.ModelCard`.

    Raises:
        InputError: when the folder holds no model of this package, or one of its files is damaged.
    """
    import jinja2

    model = _Model.read(ModelFolder.read(folder))
    try:
        return ModelCard(_text(model, repo_id, license, language))
    except (LookupError, TypeError, AttributeError, ValueError, jinja2.UndefinedError) as error:
        if isinstance(error, InputError):
            raise
        raise InputError(
            f"A record in {folder} (metrics.json, conversion.json or config.json) is not as it was written"
            f" ({type(error).__name__}: {error}); measure again, or write a README.md of your own."
        ) from None


def _text(model: "_Model", repo_id: str, license: str | None, language: str | None) -> str:
    cards = read_results(model.folder)
    is_calibrated = CALIBRATION in [card.task for card in cards]
    data = DataSet.of(model.metrics.get("data"), model.metrics.get("command"))
    in_use = [card for card in cards if name_of_row(card, is_calibrated) == "this model"]
    results = [result for card in in_use for result in eval_results(card, model.pipeline, data)]
    name = repo_id.split("/")[-1]
    tags = [
        "gpt",
        "gpt-from-scratch",
        "custom_code",
        *TAGS.get(model.template, []),
        *(["lora"] if model.is_adapter else []),
    ]
    metadata = ModelCardData(
        language=language or (data.language if data else None),
        license=license,
        library_name="peft" if model.is_adapter else "transformers",
        pipeline_tag=model.pipeline,
        tags=tags,
        base_model=model.base if is_hub_id(model.base) else model.hub_origin,
        datasets=[data.hub] if data and data.hub else None,
        metrics=list(dict.fromkeys(result.metric_type for result in results)) or None,
        model_name=name if results else None,
        eval_results=results or None,
    )
    return render(
        f"{model.template}.md",
        metadata=metadata.to_yaml(),
        marker=MARKER,
        name=name,
        license=license,
        code=loading_code(repo_id, model.template, model.contents.auto_class),
        data=data,
        adapter=model.is_adapter,
        base=public_source(model.base) if model.base else None,
        base_is_hub=is_hub_id(model.base),
        **training_facts(model.metrics, model.contents.settings, model.conversion, model.folder),
        **result_facts(cards, EXPECTED[model.template], lambda record: DataSet.of(record).name),
    )


def eval_results(card, pipeline: str, trained_on: DataSet | None) -> list[EvalResult]:
    """The numbers of a result card as the Hub's model-index has them: those that it knows."""
    data = DataSet.of(card.data[0])
    if trained_on and data.sha256 and trained_on.sha256 == data.sha256:
        data = trained_on  # of which more is recorded
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


def loading_code(folder_or_repo: str | os.PathLike, template: str, auto_class: str) -> str:
    """Python that loads a model by its Auto class and uses it, where this package need not be installed."""
    name = '"' + str(folder_or_repo).replace("\\", "\\\\").replace('"', '\\"') + '"'
    is_adapter = auto_class.startswith("AutoPeft")
    return render("code.md", kind=template, name=name, auto_class=auto_class, is_adapter=is_adapter).strip("\n")


def is_hub_id(name: str | None) -> bool:
    """Whether it can be a repository of the Hub, of the form user/name, and is no folder here."""
    from huggingface_hub.utils import HFValidationError, validate_repo_id

    if not name or name.count("/") != 1 or Path(name).exists() or is_missing_folder(name):
        return False
    try:
        validate_repo_id(name)
    except HFValidationError:
        return False
    return True


@dataclass(frozen=True)
class _Model:
    """A folder, and what was recorded of its training and conversion."""

    contents: ModelFolder
    metrics: dict
    conversion: dict

    @classmethod
    def read(cls, contents: ModelFolder) -> "_Model":
        if not contents.is_adapter:
            contents.require_native()
        return cls(contents, *(_read_object(contents.path / name) for name in ("metrics.json", "conversion.json")))

    @property
    def folder(self) -> Path:
        return self.contents.path

    @property
    def is_adapter(self) -> bool:
        return self.contents.is_adapter

    @property
    def template(self) -> str:
        """Of model_cards/, the one that fits."""
        if self.contents.architecture == "GPTScratchForCausalLM":
            if self.metrics.get("task") == "instruction following" or _chat_template(self.folder) == CHAT_TEMPLATE:
                return "instruct"
            return "other" if self.is_adapter else "base"
        labels = list((self.contents.settings.get("id2label") or {}).values())
        is_spam = self.contents.architecture == "GPTScratchForSequenceClassification" and labels == ["ham", "spam"]
        return "spam" if is_spam else "other"

    @property
    def pipeline(self) -> str:
        return PIPELINES[self.contents.architecture]

    @property
    def base(self) -> str | None:
        """What it was trained on from: a repository, or else a folder."""
        if self.is_adapter:
            return self.contents.base
        return self.metrics.get("base_model") or option(self.metrics.get("command"), "model_name_or_path")

    @property
    def hub_origin(self) -> str | None:
        """The repository that it was converted from."""
        source = self.conversion.get("source")
        return source if isinstance(source, str) and not self.base and is_hub_id(source) else None


def _chat_template(folder: Path) -> str | None:
    path = folder / "chat_template.jinja"
    if path.is_file():
        return path.read_text(encoding="utf-8")
    return _read_object(folder / "tokenizer_config.json").get("chat_template")


def _read_object(path: Path) -> dict:
    """What a JSON file holds, `{}` where there is none; raises `InputError` where it is damaged."""
    return read_json_object(path) if path.is_file() else {}
