"""The linear models that every classifier is compared with."""

from collections.abc import Iterable

import numpy as np
from sklearn.base import clone
from sklearn.linear_model import LogisticRegression
from sklearn.multiclass import OneVsRestClassifier
from sklearn.svm import LinearSVC

from ...utils.tfidf import tfidf

# TF-IDF rows have length 1, for which logistic regression's default C of 1 holds the weights too small: it misses a
# tenth of the spam. Its F1 is at its best near 100; that of the support vector machine hardly changes with C.
CLASSIFIERS = {
    "TF-IDF + LinearSVC": LinearSVC(random_state=0),
    "TF-IDF + logistic regression": LogisticRegression(C=100, max_iter=1000),
}
STRONGEST = "TF-IDF + LinearSVC"


def baseline_scores(name: str, train, *tests, n_labels: int = 2) -> list[np.ndarray]:
    """
    Trains the linear model `name` of `CLASSIFIERS` on one split and scores the others. Splits have columns `text` and
    `label`, the latter numbers, or rows of K times 0 or 1 where a text may have several labels.

    Returns:
        Decision values for each of `tests`: `(N,)` for two labels, above 0 for label 1; `(N, K)` for `n_labels` of
        them or several a text. `said_by_scores` turns them into labels.
    """
    return scores_by_model([name], train, *tests, n_labels=n_labels)[name]


def scores_by_model(names: Iterable[str], train, *tests, n_labels: int = 2) -> dict[str, list[np.ndarray]]:
    """`baseline_scores` of several models, which share the TF-IDF."""
    features = tfidf().fit(train["text"])
    rows, *others = (features.transform(split["text"]) for split in (train, *tests))
    labels = np.array(train["label"], dtype=int)
    return {name: _scores(clone(CLASSIFIERS[name]), rows, labels, others, n_labels) for name in names}


def said_by_scores(scores: np.ndarray, is_multi_label: bool = False) -> np.ndarray:
    """The label numbers of decision values, `(N,)`; rows of 0 and 1, `(N, K)`, where a text may have several."""
    return (scores > 0).astype(int) if is_multi_label or scores.ndim == 1 else scores.argmax(axis=-1)


def _scores(model, rows, labels: np.ndarray, others: list, n_labels: int) -> list[np.ndarray]:
    if labels.ndim == 2:
        # Labels that all or none of the training texts have are left to a constant.
        varies = labels.min(axis=0) != labels.max(axis=0)
        found = [np.tile(2.0 * labels[0] - 1, (other.shape[0], 1)) for other in others]
        if varies.any():
            model = OneVsRestClassifier(model).fit(rows, labels[:, varies])
            for values, other in zip(found, others):
                values[:, varies] = model.decision_function(other).reshape(len(values), -1)
        return found
    seen = np.unique(labels)
    if len(seen) == 1:  # nothing to learn
        found = [
            np.where(np.arange(n_labels) == seen[0], 1.0, -1.0) * np.ones((other.shape[0], 1)) for other in others
        ]
        return [values[:, 1] for values in found] if n_labels == 2 else found
    model.fit(rows, labels)
    found = [model.decision_function(other) for other in others]
    return found if n_labels == 2 else [_by_label(values, seen, n_labels) for values in found]


def _by_label(values: np.ndarray, seen: np.ndarray, n_labels: int) -> np.ndarray:
    """`(N, n_labels)`, where labels without a training text are below all others."""
    values = np.stack([-values, values], axis=-1) if values.ndim == 1 else values
    found = np.repeat(values.min(axis=-1, keepdims=True) - 1, n_labels, axis=-1)
    found[:, seen] = values
    return found
