"""The TF-IDF features of texts, for the linear models and for the nearest question of an FAQ."""

from sklearn.feature_extraction.text import TfidfVectorizer
from sklearn.pipeline import FeatureUnion, make_union


def tfidf() -> FeatureUnion:
    """TF-IDF of words and word pairs, and of 2 to 5 characters."""
    return make_union(
        TfidfVectorizer(ngram_range=(1, 2), sublinear_tf=True),
        TfidfVectorizer(analyzer="char_wb", ngram_range=(2, 5), sublinear_tf=True),
    )
