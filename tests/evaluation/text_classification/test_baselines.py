import numpy as np
import pytest
from sklearn.metrics import f1_score

from hf_gpt_scratch.data.sms_spam import load_messages, split
from hf_gpt_scratch.evaluation.text_classification.baselines import CLASSIFIERS, STRONGEST, baseline_scores


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
