"""When a bot answers: its confidence and the threshold of that, fitted on questions held out of the training."""

from collections.abc import Sequence
from dataclasses import replace

import numpy as np
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from ..data.faq import ANSWERED, UNANSWERED, Asked, Entry
from .bot import FaqBot, Read
from .faq_file import FEATURES, FaqFile

FEWEST = 10  # questions from which a quantile or weights are fitted


def fit(bot: FaqBot, validation: Asked, refuse: float, use_model: bool = True) -> FaqFile:
    """
    The FAQ with fitted weights, and with the lowest threshold that refuses the share `refuse` of the validation
    questions that it does not answer.

    The weights are those of a logistic regression that tells whether the nearest entry answers a question: held-out
    rephrasings, the same with their own entry left out of the FAQ, and unanswered questions. With fewer than 10
    rephrasings those of `FaqFile` stay. With fewer than 10 unanswered questions the threshold is fitted on answered
    ones with their own entry left out.

    Args:
        use_model: without it, the language model's opinion counts nothing.
    """
    answered = validation.of(ANSWERED)
    has_rephrasings, faq = len(answered.questions) >= FEWEST, bot.faq
    if has_rephrasings:
        read, own = bot.read(answered.questions), np.array(answered.entries)
        others = [read.without(own), bot.read(validation.of(*UNANSWERED).questions)]
        faq = replace(faq, weights=_weights(read, own, others, use_model))
    fitted = FaqBot(faq, bot.model, bot.tokenizer)
    threshold, promise = _threshold(fitted, validation, refuse)
    if has_rephrasings:
        is_said, is_right = fitted.confidences(read) > threshold, read.best == own
        right, wrong = (np.mean(is_said & outcome) for outcome in (is_right, ~is_right))
        promise += (
            f"; of {len(own)} held-out rephrasings, before the bot knew them, {right:.0%} were answered rightly and"
            f" {wrong:.0%} wrongly"
        )
    return replace(faq, threshold=threshold, promise=promise)


def with_all_wordings(bot: FaqBot, entries: Sequence[Entry], validation: Asked, refuse: float) -> FaqFile:
    """The fitted FAQ of a bot with these entries, which have the held-out wordings too, and its threshold for them."""
    whole = FaqBot(replace(bot.faq, entries=entries), bot.model, bot.tokenizer)
    threshold, _ = _threshold(whole, validation, refuse)
    return replace(whole.faq, threshold=threshold)


def _threshold(bot: FaqBot, validation: Asked, refuse: float) -> tuple[float, str]:
    """The threshold, and what it promises."""
    questions, what = validation.of(*UNANSWERED).questions, "validation questions that the FAQ does not answer"
    read = bot.read(questions)
    if len(questions) < FEWEST:
        answered = validation.of(ANSWERED)
        questions, own = answered.questions, answered.entries
        if len(questions) < FEWEST:
            questions, own = [entry.question for entry in bot.faq.entries], range(len(bot.faq.entries))
        read, what = bot.read(questions).without(np.array(own)), "questions whose own entry was left out of the FAQ"
    promise = f"refuses at least {refuse:.0%} of {len(questions)} {what}"
    return threshold_of(bot.confidences(read), refuse), promise


def threshold_of(values: np.ndarray, refuse: float) -> float:
    """The lowest of the values `(N,)` of questions to be refused which that share of them does not exceed."""
    return float(np.quantile(values, refuse, method="inverted_cdf"))


def _weights(read: Read, own: np.ndarray, others: Sequence[Read], use_model: bool) -> dict[str, float]:
    """Those of the features, for values as they are; those of `FaqFile` where no answer is right."""
    features = np.concatenate([one.features for one in (read, *others)])
    used = len(FEATURES) if use_model else len(FEATURES) - 1
    is_right = np.zeros(len(features), dtype=bool)
    is_right[: len(own)] = read.best == own
    if not is_right.any():
        return FaqFile((), 0.0).weights
    fitted = make_pipeline(StandardScaler(), LogisticRegression()).fit(features[:, :used], is_right)
    (_, scale), (_, regression) = fitted.steps
    slopes = regression.coef_[0] / scale.scale_
    values = [float(value) for value in (*slopes, *[0.0] * (len(FEATURES) - used))]
    return dict(zip(FEATURES, values)) | {"bias": float(regression.intercept_[0] - slopes @ scale.mean_)}
