"""What the jobs that train a classifier share: heads, weights of labels, long texts."""

import numpy as np
import pytest
import torch
from datasets import Dataset, DatasetDict

from hf_gpt_scratch import GPTScratchForSequenceClassification
from hf_gpt_scratch.tokenizer import train_tokenizer
from hf_gpt_scratch.training import classifiers
from hf_gpt_scratch.training.arguments import ClassifierArguments, ScratchTrainingArguments
from hf_gpt_scratch.utils.errors import UsageError

NAMES = ("billing", "login", "delivery")


def settings_of(names, multi_label: bool = False) -> dict:
    kind = "multi" if multi_label else "single"
    return {
        "id2label": dict(enumerate(names)),
        "label2id": {name: i for i, name in enumerate(names)},
        "problem_type": f"{kind}_label_classification",
        "class_weights": None,
    }


@pytest.fixture
def classifier(tiny_config):
    tiny_config.id2label = dict(enumerate(NAMES))
    tiny_config.problem_type = "single_label_classification"
    model = GPTScratchForSequenceClassification(tiny_config).eval()
    model.name_or_path = "runs/old"
    return model


def test_the_head_of_the_same_labels_is_kept_in_their_new_order(classifier):
    ids = torch.arange(6).view(1, -1)
    before = classifier(ids).logits
    said = classifiers.fit_head(classifier, settings_of(("login", "delivery", "billing")))
    assert said == "The head of runs/old is kept: it has the same 3 labels."
    torch.testing.assert_close(classifier(ids).logits, before[:, [1, 2, 0]])
    assert classifier.config.id2label == {0: "login", 1: "delivery", 2: "billing"}


@pytest.mark.parametrize(
    ("names", "multi_label", "reason"),
    [
        (("billing", "login"), False, "other labels (billing, login, delivery)"),
        (("billing", "login", "returns"), False, "other labels (billing, login, delivery)"),  # as many
        (NAMES, True, "labels for one label a text"),
    ],
)
def test_the_head_of_other_labels_is_new(names, multi_label, reason, classifier):
    before = classifier.score.weight.clone()
    said = classifiers.fit_head(classifier, settings_of(names, multi_label))
    assert said == f"The head is new: runs/old has {reason}."
    assert classifier.score.weight.shape == (len(names), classifier.config.n_embd)
    assert not torch.equal(classifier.score.weight[:2], before[:2])
    assert classifier(torch.arange(4).view(1, -1)).logits.shape == (1, len(names))
    assert classifier.num_labels == classifier.config.num_labels == len(names)


def test_balanced_weights_make_all_labels_weigh_the_same(capsys):
    labels = [0] * 12 + [1] * 6 + [2] * 2
    args = ClassifierArguments(class_weights="balanced")
    weights = classifiers.class_weights(args, labels, NAMES)
    totals = np.bincount(labels) * weights
    np.testing.assert_allclose(totals, totals.mean(), rtol=1e-3)
    assert sum(totals) == pytest.approx(20, rel=1e-3)
    expected = "delivery 3.33 (2 texts), login 1.11 (6 texts), billing 0.556 (12 texts)"
    assert capsys.readouterr().out == f"Weights in the loss, the rarest labels first: {expected}.\n"


def test_rare_labels_are_named_where_they_have_no_weight(capsys):
    assert classifiers.class_weights(ClassifierArguments(), [0] * 30 + [1] * 4 + [2] * 3, NAMES) is None
    said = capsys.readouterr().out
    assert "30 texts of billing: delivery (3); --class_weights balanced" in said and "login" not in said
    assert classifiers.class_weights(ClassifierArguments(), [0] * 9 + [1, 2], NAMES) is None
    assert capsys.readouterr().out == ""


@pytest.mark.parametrize(
    ("long_texts", "read"),
    [
        ("first", ["aaaaaaaa", "aaa"]),
        ("last", ["aabbbbbb", "aaa"]),
        ("windows", ["aaaaaaaa", "aaaabbbb", "bb", "aaa"]),
    ],
)
def test_long_texts_are_read_as_they_should_be_and_counted(long_texts, read, tiny_config, capsys):
    tiny_config.n_positions, tiny_config.long_texts = 8, long_texts
    tokenizer = train_tokenizer(["ab"], 258)  # a token a letter
    rows = {"text": ["a" * 12 + "b" * 6, " aaa "], "label": [2, 0]}
    splits = DatasetDict({"train": Dataset.from_dict(rows), "test": Dataset.from_dict({"text": ["a"], "label": [1]})})
    encoded = classifiers.encode(splits, tokenizer, tiny_config)
    assert [tokenizer.decode(ids) for ids in encoded.rows["train"]["input_ids"]] == read
    assert encoded.too_long == {"train": 1, "test": 0}
    said = capsys.readouterr().out
    assert said.startswith("Texts of more than the model's 8 tokens: 1 of 2 in train; ")
    assert {"first": "their first 8", "last": "their last 8", "windows": "in windows of at most 8"}[long_texts] in said
    assert list(encoded.labels("train")) == [2, 0] and encoded.rows["train"]["label"][0] == 2
    facts = encoded.facts()
    assert facts["read"] == long_texts and facts["texts"] == {"train": 1, "test": 0}
    assert facts.get("rows") == ({"train": 4, "test": 1} if long_texts == "windows" else None)
    logits = np.arange(len(read) * 3, dtype=float).reshape(-1, 3)
    expected = logits[-2:] if len(read) == 2 else np.stack([(logits[:3].T @ [8, 8, 2]) / 18, logits[3]])
    np.testing.assert_allclose(encoded.of_texts("train", logits), expected)


@pytest.mark.parametrize(
    ("settings", "smoothing", "multi_label", "reason"),
    [
        ({"class_weights": "balanced"}, 0.0, True, "--class_weights is for one label a text"),
        ({"class_weights": "balanced"}, 0.1, False, "label_smoothing_factor cannot be combined with class_weights"),
        ({}, 0.1, True, "label_smoothing_factor cannot be combined with multi_label"),
        ({"word_dropout": 1.0}, 0.0, False, "word_dropout must be at least 0 and below 1"),
    ],
)
def test_settings_that_contradict_each_other(settings, smoothing, multi_label, reason, tmp_path):
    training = ScratchTrainingArguments(output_dir=str(tmp_path), label_smoothing_factor=smoothing, use_cpu=True)
    with pytest.raises(UsageError, match=reason):
        classifiers.check_settings(ClassifierArguments(**settings), training, multi_label)
