"""The linear models that every spam classifier is compared with."""

from collections.abc import Iterable

import numpy as np
from sklearn.base import clone
from sklearn.feature_extraction.text import TfidfVectorizer
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import FeatureUnion, make_union
from sklearn.svm import LinearSVC

# TF-IDF rows have length 1, for which logistic regression's default C of 1 holds the weights too small: it misses a
# tenth of the spam. Its F1 is at its best near 100; that of the support vector machine hardly changes with C.
CLASSIFIERS = {
    "TF-IDF + LinearSVC": LinearSVC(random_state=0),
    "TF-IDF + logistic regression": LogisticRegression(C=100, max_iter=1000),
}
STRONGEST = "TF-IDF + LinearSVC"


def tfidf() -> FeatureUnion:
    """TF-IDF of words and word pairs, and of 2 to 5 characters."""
    return make_union(
        TfidfVectorizer(ngram_range=(1, 2), sublinear_tf=True),
        TfidfVectorizer(analyzer="char_wb", ngram_range=(2, 5), sublinear_tf=True),
    )


def baseline_scores(name: str, train, *tests) -> list[np.ndarray]:
    """
    Trains the linear model `name` of `CLASSIFIERS` on one split and scores the others; spam where the score is above
    0. Splits have columns `text` and `label`.
    """
    return scores_by_model([name], train, *tests)[name]


def scores_by_model(names: Iterable[str], train, *tests) -> dict[str, list[np.ndarray]]:
    """`baseline_scores` of several models, which share the TF-IDF."""
    features = tfidf().fit(train["text"])
    rows, *others = (features.transform(split["text"]) for split in (train, *tests))
    models = {name: clone(CLASSIFIERS[name]).fit(rows, train["label"]) for name in names}
    return {name: [model.decision_function(test) for test in others] for name, model in models.items()}
