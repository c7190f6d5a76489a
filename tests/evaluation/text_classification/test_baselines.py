import numpy as np
import pytest
from sklearn.metrics import f1_score

from hf_gpt_scratch.data.sms_spam import load_messages, split
from hf_gpt_scratch.evaluation.text_classification.baselines import (
    CLASSIFIERS,
    STRONGEST,
    baseline_scores,
    said_by_scores,
)


@pytest.mark.parametrize("name", CLASSIFIERS)
def test_baseline_separates_what_words_separate(name):
    train = {"text": ["win a prize", "free prize now", "see you at home", "home soon, see you"], "label": [1, 1, 0, 0]}
    [scores] = baseline_scores(name, train, {"text": ["prizes to win", "at home now, see you"]})
    assert scores[0] > 0 > scores[1]


@pytest.mark.parametrize("name", CLASSIFIERS)
def test_baseline_reads_letters_as_well_as_words(name):
    train = {"text": ["winning", "winners", "walking", "walkers"], "label": [1, 1, 0, 0]}
    [scores] = baseline_scores(name, train, {"text": ["winnable", "walkable"]})  # words it never saw
    assert scores[0] > 0 > scores[1]


def test_baseline_of_the_book_split_is_the_documented_one(shared_data):
    splits = split(load_messages(shared_data / "sms_spam" / "SMSSpamCollection"), "book", seed=1)
    [scores] = baseline_scores(STRONGEST, splits["train"], splits["test"])
    right = (scores > 0) == np.array(splits["test"]["label"])
    assert 100 * right.mean() == pytest.approx(97.67, abs=0.005)


def test_baseline_of_the_grouped_split_is_the_documented_one(shared_data):
    splits = split(load_messages(shared_data / "sms_spam" / "SMSSpamCollection"), "grouped", seed=1)
    [scores] = baseline_scores(STRONGEST, splits["train"], splits["test"])
    assert 100 * f1_score(splits["test"]["label"], scores > 0) == pytest.approx(95.59, abs=0.005)


WORDS = {"refund money paid": 0, "parcel courier late": 1, "password login locked": 2}


@pytest.mark.parametrize("name", CLASSIFIERS)
def test_baseline_tells_several_labels_apart(name):
    train = {"text": [f"{text} {i}" for text in WORDS for i in range(3)], "label": np.repeat([0, 1, 2], 3).tolist()}
    [scores] = baseline_scores(name, train, {"text": list(WORDS)}, n_labels=4)  # nothing is of the fourth
    assert scores.shape == (3, 4) and said_by_scores(scores).tolist() == [0, 1, 2]
    assert (scores[:, 3] < scores[:, :3].min(axis=1)).all()


@pytest.mark.parametrize("name", CLASSIFIERS)
@pytest.mark.filterwarnings("error", "ignore:scipy.optimize. The .disp:DeprecationWarning")  # old scikit-learn's
def test_baseline_of_several_labels_a_text(name):
    rows = {"refund money paid": [1, 0, 0], "parcel courier late": [0, 1, 0], "refund for a late parcel": [1, 1, 0]}
    train = {"text": [text for text in rows for _ in range(3)], "label": [row for row in rows.values() for _ in "abc"]}
    [scores] = baseline_scores(name, train, {"text": list(rows)}, n_labels=3)
    assert said_by_scores(scores, is_multi_label=True).tolist() == list(rows.values())


def test_fewer_labels_in_the_training_set_than_there_are():
    train = {"text": ["refund", "money", "parcel", "courier"], "label": [0, 0, 2, 2]}
    [scores] = baseline_scores(STRONGEST, train, {"text": ["refund money", "parcel courier"]}, n_labels=3)
    assert said_by_scores(scores).tolist() == [0, 2]
    [scores] = baseline_scores(
        STRONGEST, {"text": ["money", "parcel"], "label": [1, 1]}, {"text": ["courier"]}, n_labels=2
    )
    assert scores.shape == (1,) and said_by_scores(scores).tolist() == [1]
