"""What the folder of a bot keeps of its FAQ: faq.json, from which the retrieval is fitted when it is loaded."""

import os
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path

from ..data.faq import Entry
from ..model_folder.contents import FAQ_FILE
from ..utils.errors import InputError, damage_told
from ..utils.files import read_json_object, write_json
from ..utils.numbers import is_number
from ..utils.text import has_lone_surrogates

VERSION = 1
# What the confidence is made of: `bot.Read.features`.
FEATURES = ("similarity", "margin", "opinion")
# Where there are too few rephrasings to fit others on: about those of the example data, without the language model.
WEIGHTS = {"similarity": 10.0, "margin": 10.0, "opinion": 0.0, "bias": -5.0}
REFUSAL = "I do not know. Please ask in other words, or ask a person."


@dataclass(frozen=True)
class FaqFile:
    """
    An FAQ as its bot uses it.

    Attributes:
        entries: the questions and answers that it was trained on.
        threshold: a question is refused unless the confidence that its nearest entry answers it is above that.
        weights: of `FEATURES` and a bias: the confidence is the sigmoid of their sum.
        refusal: what is said then.
        promise: where the threshold comes from, in a sentence.
        unanswered: the questions that the FAQ lists as ones to refuse.
    """

    entries: Sequence[Entry]
    threshold: float
    weights: Mapping[str, float] = field(default_factory=lambda: dict(WEIGHTS))
    refusal: str = REFUSAL
    promise: str = ""
    unanswered: Sequence[str] = ()
    version: int = field(default=VERSION, repr=False)

    def write(self, folder: str | os.PathLike) -> None:
        """Writes it as faq.json of a model's folder."""
        write_json(Path(folder) / FAQ_FILE, asdict(self))


def is_faq_folder(folder: str | os.PathLike) -> bool:
    """Whether a model's folder is that of a bot."""
    return (Path(folder) / FAQ_FILE).is_file()


def read_faq_file(folder: str | os.PathLike) -> FaqFile:
    """The FAQ of a bot's folder; raises `InputError` where there is none or it is damaged."""
    path = Path(folder) / FAQ_FILE
    values = read_json_object(path)
    damaged = f"{path} is damaged: train the bot again with `hf-gpt-scratch train chat`."
    with damage_told(damaged):
        entries = tuple(Entry(**entry) for entry in values["entries"])
        faq = FaqFile(**{**values, "entries": entries, "unanswered": tuple(values.get("unanswered", ()))})
        texts = [faq.refusal, *faq.unanswered]
        texts += [text for entry in entries for text in (*entry.phrasings, entry.answer)]
    if faq.version != VERSION:
        raise InputError(f"{path} is of another version of this package: train the bot again.")
    is_weighted = isinstance(faq.weights, dict) and faq.weights.keys() == WEIGHTS.keys()
    numbers = (faq.threshold, *(faq.weights.values() if is_weighted else ()))
    if not (
        len(entries) > 1
        and is_weighted
        and all(map(is_number, numbers))
        and all(isinstance(text, str) and text.strip() for text in [*texts, faq.promise or REFUSAL])
        and not any(map(has_lone_surrogates, texts))
    ):
        raise InputError(damaged)
    return faq
