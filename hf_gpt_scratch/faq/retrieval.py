"""Which entry of an FAQ a question is about, by TF-IDF. Fitted on the entries each time, in a fraction of a second."""

from collections.abc import Sequence
from functools import cached_property

import numpy as np
from sklearn.preprocessing import normalize

from ..data.faq import Entry
from ..utils.text import plain_words
from ..utils.tfidf import tfidf


class Retriever:
    """
    The entries of an FAQ as TF-IDF vectors, each one of all its phrasings and its answer. The cosine of a question
    with such a vector tells more than that with the nearest single phrasing, as docs/results.md measures. Case and
    punctuation make no difference, in the entries or in the questions.
    """

    def __init__(self, entries: Sequence[Entry]):
        self.entries = list(entries)
        self._features = tfidf()
        documents = [plain_words(" ".join([*entry.phrasings, entry.answer])) for entry in entries]
        self._vectors = normalize(self._features.fit_transform(documents))

    def similarities(self, questions: Sequence[str]) -> np.ndarray:
        """The cosine of each question with each entry, `(questions, entries)`, from 0 to 1."""
        vectors = normalize(self._features.transform([plain_words(text) for text in questions]))
        return np.asarray((vectors @ self._vectors.T).todense())

    def nearest_questions(self, questions: Sequence[str]) -> np.ndarray:
        """The cosine of each question with the nearest phrasing of each entry: the baseline, without the answers."""
        features, vectors, of_entry = self._phrasings
        asked = normalize(features.transform([plain_words(text) for text in questions]))
        cosines = np.asarray((asked @ vectors.T).todense())
        return np.maximum.reduceat(cosines, of_entry, axis=1)

    @cached_property
    def _phrasings(self) -> tuple:
        """The features, the vectors, and where those of each entry begin."""
        features, counts = tfidf(), [len(entry.phrasings) for entry in self.entries]
        phrasings = [plain_words(text) for entry in self.entries for text in entry.phrasings]
        vectors = normalize(features.fit_transform(phrasings))
        return features, vectors, np.cumsum([0, *counts[:-1]])
