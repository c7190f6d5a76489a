"""The linear model every spam classifier has to be held against."""

import numpy as np
from sklearn.feature_extraction.text import TfidfVectorizer
from sklearn.pipeline import Pipeline, make_pipeline, make_union
from sklearn.svm import LinearSVC


def tfidf_svc(seed: int = 0) -> Pipeline:
    """TF-IDF of words and word pairs and of 2 to 5 characters, and a linear support vector machine on them."""
    return make_pipeline(
        make_union(
            TfidfVectorizer(ngram_range=(1, 2), sublinear_tf=True),
            TfidfVectorizer(analyzer="char_wb", ngram_range=(2, 5), sublinear_tf=True),
        ),
        LinearSVC(random_state=seed),
    )


def baseline_scores(train, test, seed: int = 0) -> np.ndarray:
    """Trains the baseline on one split and scores another; spam where the score is above 0. Both have text, label."""
    return tfidf_svc(seed).fit(train["text"], train["label"]).decision_function(test["text"])
