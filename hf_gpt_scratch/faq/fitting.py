"""The threshold of a bot, and how much its language model counts, fitted on questions held out of its training."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
from transformers import PreTrainedModel, PreTrainedTokenizerBase

from ..data.faq import ANSWERED, UNANSWERED, Asked, Entry
from .bot import FaqBot
from .faq_file import FaqFile

WEIGHTS = (0.0, 0.05, 0.1, 0.2, 0.3, 0.5)  # of the language model; the cosines of right answers are about 0.4
FEWEST_REFUSED = 10  # questions for a quantile of their scores
FEWEST_ASKED = 20  # rephrasings that can tell which weight is better


@dataclass(frozen=True)
class Read:
    """Questions as a bot reads them: their similarities to the entries and the model's opinions, `(N, entries)`."""

    similarities: np.ndarray
    opinions: np.ndarray

    @classmethod
    def by(cls, bot: FaqBot, questions: Sequence[str]) -> "Read":
        if not questions:
            return cls(*np.zeros((2, 0, len(bot.faq.entries))))
        similarities = bot.retriever.similarities(questions)
        return cls(similarities, np.stack([bot.opinion(*pair) for pair in zip(questions, similarities)]))

    def scores(self, weight: float) -> np.ndarray:
        """`FaqBot.scores` of each question."""
        return self.similarities + weight * self.opinions

    def without(self, own: np.ndarray) -> "Read":
        """As if the entry that answers each question, `(N,)`, were not in the FAQ."""
        rows, similarities, opinions = np.arange(len(own)), self.similarities.copy(), self.opinions.copy()
        similarities[rows, own] = opinions[rows, own] = 0
        sums = opinions.sum(axis=1, keepdims=True)
        return Read(similarities, np.divide(opinions, sums, out=np.zeros_like(opinions), where=sums > 0))


def fit(
    entries: Sequence[Entry],
    validation: Asked,
    model: PreTrainedModel,
    tokenizer: PreTrainedTokenizerBase,
    refuse: float,
    refusal: str,
) -> FaqFile:
    """
    The FAQ with the lowest threshold that refuses the share `refuse` of the unanswered validation questions, and with
    that weight of the language model which then answers most rephrasings rightly, the smallest where several do.

    Where there are fewer than 10 unanswered questions, answered ones take their place, each with its own entry left
    out of the FAQ. With fewer than 20 rephrasings, the language model gets no weight.
    """
    bot = FaqBot(FaqFile(entries, 0.0), model, tokenizer)
    answered = validation.of(ANSWERED)
    read, own = Read.by(bot, answered.questions), np.array(answered.entries, dtype=int)
    to_refuse, what = questions_to_refuse(validation, entries, lambda questions: Read.by(bot, questions))
    fits = []
    for weight in WEIGHTS if len(own) >= FEWEST_ASKED else (0.0,):
        threshold = threshold_of(to_refuse.scores(weight), refuse)
        fits.append((right_answers(read.scores(weight), own, threshold), -weight, threshold))
    _, weight, threshold = max(fits)
    return FaqFile(entries, threshold, -weight, refusal, f"refuses at least {refuse:.0%} of {what}")


def threshold_of(scores: np.ndarray, refuse: float) -> float:
    """The score which that share of the questions `(N, entries)` does not exceed, all of which ought to be refused."""
    return float(np.quantile(scores.max(axis=1), refuse, method="higher"))


def right_answers(scores: np.ndarray, own: np.ndarray, threshold: float) -> int:
    """How many questions are answered from their own entry."""
    return int(((scores.argmax(axis=1) == own) & (scores.max(axis=1) > threshold)).sum()) if len(own) else 0


def questions_to_refuse(
    validation: Asked, entries: Sequence[Entry], read: Callable[[Sequence[str]], Read]
) -> tuple[Read, str]:
    """The questions that `fit` wants refused, as `read` reads them, and what they are."""
    unanswered, answered = validation.of(*UNANSWERED).questions, validation.of(ANSWERED)
    if len(unanswered) >= FEWEST_REFUSED:
        return read(unanswered), f"{len(unanswered)} validation questions that the FAQ does not answer"
    questions, own = answered.questions, answered.entries
    if len(own) < FEWEST_REFUSED:
        questions, own = [entry.question for entry in entries], range(len(entries))
    return read(questions).without(np.array(own)), f"{len(own)} questions whose own entry was left out of the FAQ"
