"""The data sets in a model card: what a record of one says, and more of those that are known."""

import math
from collections.abc import Mapping
from dataclasses import dataclass

from huggingface_hub import EvalResult

from ..data import alpaca, sms_spam, text
from ..model_folder.contents import is_hub_id
from ..utils.provenance import option
from .card_facts import metric_name
from .secrets import public_source

SMS_SPAM = """@inproceedings{almeida2011sms,
  title = {Contributions to the Study of {SMS} Spam Filtering: New Collection and Results},
  author = {Almeida, Tiago A. and G{\\'o}mez Hidalgo, Jos{\\'e} Mar{\\'i}a and Yamakami, Akebo},
  booktitle = {Proceedings of the 11th ACM Symposium on Document Engineering},
  year = {2011}
}"""
# What the Hub calls the metrics that it knows; the others are in the card's tables only.
METRIC_TYPES = {
    **{name: name for name in ("f1", "precision", "recall", "accuracy", "perplexity")},
    "mcc": "matthews_correlation",
    **{"macro_f1": "f1", "macro_precision": "precision", "macro_recall": "recall"},
    "acc": "accuracy",
    "acc_norm": "accuracy",
    "response_perplexity": "perplexity",
    "later_response_perplexity": "perplexity",
    "word_perplexity": "perplexity",
}


@dataclass(frozen=True)
class DataSet:
    """
    A data set in a card.

    Attributes:
        hub: its name on the Hub, if it is there.
        language: of its texts, as the Hub calls it, such as "en".
        citation: BibTeX of the work to cite.
    """

    name: str
    sha256: str | None = None
    hub: str | None = None
    url: str | None = None
    licence: str | None = None
    language: str | None = None
    is_sms: bool = False
    citation: str | None = None

    @classmethod
    def of(cls, record: Mapping | None, command: str | None = None) -> "DataSet | None":
        """
        The one of a `{"source": ..., "sha256": ...}`, known by its hash or else named after its file; `None` without a
        record. `dataset` in it, or a `--dataset_name` in `command`, says that the source is on the Hub.
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
            citation=SMS_SPAM,
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


def eval_results(card, pipeline: str, trained_on: DataSet | None) -> list[EvalResult]:
    """The numbers of a result card as the Hub's model-index has them: those of metrics that it knows."""
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
            metric_name=metric_name(name),
            metric_value=round(metric.value, 4),
        )
        for name, metric in card.metrics.items()
        if name in METRIC_TYPES and math.isfinite(metric.value)
    ]
