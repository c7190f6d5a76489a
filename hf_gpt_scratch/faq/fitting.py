"""When a bot answers: its confidence and the threshold of that, fitted on questions held out of the training."""

from collections.abc import Sequence
from dataclasses import replace

import numpy as np
from scipy.optimize import minimize
from scipy.special import expit

from ..data.faq import ANSWERED, UNANSWERED, Asked, Faq
from .bot import FaqBot, Read
from .faq_file import FEATURES, WEIGHTS, FaqFile

FEWEST = 10  # questions to be refused from which a threshold is fitted without others beside them
LOWEST = 0.25  # threshold that is fitted on fewer
FEWEST_OUTCOMES = 30  # right ones, and wrong ones, from which weights are fitted


def fit(bot: FaqBot, validation: Asked, refuse: float, use_model: bool = True) -> FaqFile:
    """
    The FAQ with fitted weights, and with the lowest threshold that refuses the share `refuse` of the validation
    questions that it does not answer.

    The weights are those of a logistic regression that tells whether the nearest entry answers a question: held-out
    rephrasings, the same with their own entry left out of the FAQ, and unanswered questions. Those of `FaqFile` stay
    where fewer than 30 have the right entry, or the wrong one. With fewer than 10 unanswered questions the threshold
    is fitted on these, and on the rephrasings and the questions of the FAQ, each with its own entry left out; it is
    0.25 at least.

    Args:
        use_model: without it, the language model's opinion counts nothing.
    """
    answered = validation.of(ANSWERED)
    has_rephrasings, faq = bool(answered.questions), replace(bot.faq, weights=WEIGHTS)
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
    if faq.weights == WEIGHTS:
        promise += "; the weights are those of the package, as there is too little to fit others on"
    return replace(faq, threshold=threshold, promise=promise)


def with_all_wordings(bot: FaqBot, faq: Faq, validation: Asked, refuse: float) -> FaqFile:
    """
    The fitted FAQ of a bot with the entries of the whole FAQ, which have the held-out wordings too, its threshold for
    them, and all questions that are listed to be refused.
    """
    whole = FaqBot(replace(bot.faq, entries=faq.entries), bot.model, bot.tokenizer)
    threshold, _ = _threshold(whole, validation, refuse)
    return replace(whole.faq, threshold=threshold, unanswered=[question for question, _ in faq.unanswered])


def _threshold(bot: FaqBot, validation: Asked, refuse: float) -> tuple[float, str]:
    """The threshold, and what it promises."""
    questions = validation.of(*UNANSWERED).questions
    values = bot.confidences(bot.read(questions))
    what = f"{len(questions)} validation question{'' if len(questions) == 1 else 's'} that the FAQ does not answer"
    if len(questions) < FEWEST:
        answered = validation.of(ANSWERED)
        left_out = [*answered.questions, *(entry.question for entry in bot.faq.entries)]
        own = [*answered.entries, *range(len(bot.faq.entries))]
        values = np.concatenate([values, bot.confidences(bot.read(left_out).without(np.array(own)))])
        others = f"{len(left_out)} questions whose own entry was left out of the FAQ"
        what = f"{what} and {others} together" if questions else others
    lowest = LOWEST if len(questions) < FEWEST else 0.0
    return max(threshold_of(values, refuse), lowest), f"refuses at least {refuse:.0%} of {what}"


def threshold_of(values: np.ndarray, refuse: float) -> float:
    """The lowest of the values `(N,)` of questions to be refused which that share of them does not exceed."""
    return float(np.quantile(values, refuse, method="inverted_cdf"))


def _weights(read: Read, own: np.ndarray, others: Sequence[Read], use_model: bool) -> dict[str, float]:
    """
    Those of the features, for values as they are. None is below 0, as more likeness never speaks against an entry, and
    they are drawn towards those of `FaqFile`, which few rows do not overcome.
    """
    features = np.concatenate([one.features for one in (read, *others)])
    is_right = np.zeros(len(features), dtype=bool)
    is_right[: len(own)] = read.best == own
    if min(is_right.sum(), (~is_right).sum()) < FEWEST_OUTCOMES:
        return WEIGHTS
    usual, scale, signs = np.array([*WEIGHTS.values()]), features.std(axis=0), np.where(is_right, 1, -1)

    def loss(weights: np.ndarray) -> tuple[float, np.ndarray]:
        logits, pull = signs * (features @ weights[:-1] + weights[-1]), scale * (weights - usual)[:-1]
        slopes = -signs * expit(-logits)
        gradient = [*(features.T @ slopes + scale * pull), slopes.sum()]
        return np.logaddexp(0, -logits).sum() + pull @ pull / 2, np.array(gradient)

    bounds = [(0, None if name != "opinion" or use_model else 0) for name in FEATURES]
    fitted = minimize(loss, usual, jac=True, method="L-BFGS-B", bounds=[*bounds, (None, None)])
    return dict(zip(WEIGHTS, map(float, fitted.x)))
