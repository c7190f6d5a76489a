"""How labelled texts are split: near-copies together, every label everywhere, the same for a seed."""

import random
from collections import Counter

import numpy as np
import pytest
from sklearn.model_selection import StratifiedGroupKFold

from hf_gpt_scratch.data.labelled_texts import (
    OUTSIDE,
    LabelledTexts,
    leaked_rows,
    load_labelled_texts,
    normalize,
    split,
)
from hf_gpt_scratch.data.stratification import Splitter, stratified_folds
from hf_gpt_scratch.utils.errors import InputError
from support.labelled_tables import ROWS, pairs, word, write


def groups(rows) -> set[str]:
    return {normalize(text) for text in rows["text"]}


@pytest.fixture(params=[2, 3, 7])
def data(request, tmp_path) -> LabelledTexts:
    return load_labelled_texts(write(tmp_path / "t.csv", pairs(request.param)))


def test_a_split_uses_every_row_once_keeps_near_copies_together_and_every_label_everywhere(data):
    splits = split(data, seed=1)
    rows = Counter((row["text"], row["label"]) for part in splits.values() for row in part)
    assert rows == Counter(zip(data.texts, data.labels))
    train, validation, test = (groups(splits[name]) for name in ("train", "validation", "test"))
    assert not (train & validation or train & test or validation & test) and leaked_rows(splits) == 0
    for name, share in (("train", 0.7), ("validation", 0.1), ("test", 0.2)):
        assert Counter(splits[name]["label"]) == dict.fromkeys(range(len(data.names)), 40 * share)


def test_a_split_depends_on_the_seed_alone(data):
    first, again, other = (list(split(data, seed)["test"]["text"]) for seed in (1, 1, 2))
    assert first == again != other


@pytest.mark.parametrize("different", range(5, 10))
def test_a_rare_label_is_in_every_part(tmp_path, different):
    rows = [*pairs(2, 60), *((f"rare {word(i)}", "topic z") for i in range(different))]
    data = load_labelled_texts(write(tmp_path / "t.csv", rows))
    for seed in range(3):
        splits = split(data, seed)
        assert all(splits[name]["label"].count(2) for name in splits) and leaked_rows(splits) == 0
        assert len(splits["train"]) >= 0.59 * len(data.texts)


@pytest.mark.parametrize("copies", ["0 1 0 01 0 1 0 01 0 111 000 1", "000 1101111111 0 1 000 1 000 1 1000001000 10"])
def test_copies_of_different_labels_leave_no_fold_without_a_label(copies):
    labels, names = zip(*((int(label), number) for number, one in enumerate(copies.split()) for label in one))
    folds = stratified_folds([[label] for label in labels], [word(name) for name in names], 6, seed=1)
    assert sorted(i for fold in folds for i in fold) == list(range(len(labels)))
    assert all({labels[i] for i in fold} == {0, 1} for fold in folds)


@pytest.mark.parametrize(("names", "number"), [(2, 10), (7, 5), (40, 10)])
def test_the_folds_are_those_of_scikit_learn(names, number):
    rng = random.Random(names)
    groups = [f"text {rng.randrange(300)}" for _ in range(500)]
    labels = [rng.randrange(names) if rng.random() < 0.5 else 0 for _ in groups]
    theirs, ours = (
        [fold.tolist() for _, fold in splitter(number, shuffle=True, random_state=3).split(labels, labels, groups)]
        for splitter in (StratifiedGroupKFold, Splitter)
    )
    assert ours == theirs


def test_the_folds_of_a_seed_are_the_same_with_every_version_of_scikit_learn():
    names, labels = (list(map(int, row)) for row in ("2141777631706607", "1001000010100110"))
    folds = stratified_folds([[label] for label in labels], [f"text {name}" for name in names], 3, seed=3)
    assert folds == [[4, 5, 6, 10, 11, 14, 15], [1, 2, 3, 8, 9], [0, 7, 12, 13]]


def test_one_long_text_does_not_make_all_wide(monkeypatch):
    given = []
    monkeypatch.setattr(
        StratifiedGroupKFold, "split", lambda self, x, y, groups: given.append(groups) or [(0, np.arange(len(y)))]
    )
    stratified_folds([[0], [0]], ["long " * 1000, "short"], 2, seed=1)
    assert np.asarray(given[0]).nbytes <= 16


def test_a_label_of_too_few_texts_is_named_with_what_to_do(tmp_path):
    rows = [*pairs(2), *((f"rare {i}", "topic z") for i in range(20))]  # near-copies: "rare 0" and "rare 00"
    data = load_labelled_texts(write(tmp_path / "t.csv", rows))
    with pytest.raises(InputError, match="at least 5 different texts of each label.*'topic z' has 2; add texts"):
        split(data, seed=1)


def test_texts_outside_are_never_in_train_and_half_in_each_other_part(tmp_path):
    data = load_labelled_texts(write(tmp_path / "t.csv", pairs(4)), outside_labels=["topic b"])
    assert data.names == ("topic a", "topic c", "topic d") and data.labels.count(OUTSIDE) == 40
    splits = split(data, seed=1)
    assert [splits[name]["label"].count(OUTSIDE) for name in ("train", "validation", "test")] == [0, 20, 20]
    assert not groups(splits["validation"]) & groups(splits["test"])


@pytest.mark.parametrize("given", [("train", "validation", "test"), ("train", "test")])
def test_texts_outside_of_a_given_split_stay_where_they_are_but_not_in_train(tmp_path, given):
    rows = [(*row, given[i % len(given)]) for i, row in enumerate([*pairs(2, 60), *pairs(3, 36)[-36:]])]
    path = write(tmp_path / "t.csv", rows, ("text", "label", "split"))
    data = load_labelled_texts(path, outside_labels=["topic c"])
    counts = [split(data, seed=1)[name]["label"].count(OUTSIDE) for name in ("train", "validation", "test")]
    assert counts == [0, 18, 18] and len(data.texts) == 156


def test_several_labels_are_spread_over_the_parts(tmp_path):
    rows = [
        (f"text {word(i)} {copy}", "|".join("abc"[k] for k in range(3) if i % (k + 2) == 0) or "d")
        for i in range(120)
        for copy in range(2)
    ]
    data = load_labelled_texts(write(tmp_path / "t.csv", rows), multi_label=True)
    splits = split(data, seed=1)
    assert leaked_rows(splits) == 0
    assert [len(splits[name]) for name in ("train", "validation", "test")] == pytest.approx([168, 24, 48], abs=3)
    total = [sum(number in labels for labels in data.labels) for number in range(4)]
    for name, share in (("train", 0.7), ("validation", 0.1), ("test", 0.2)):
        counts = [sum(column) for column in zip(*splits[name]["label"])]
        assert counts == pytest.approx([share * one for one in total], abs=3)
    assert split(data, seed=1)["test"]["text"] == splits["test"]["text"] != split(data, seed=2)["test"]["text"]


@pytest.mark.parametrize("way", ["column", "files"])
def test_a_given_split_is_kept_and_its_leaks_are_counted(tmp_path, way):
    rows = pairs(2)
    parts = ["test" if i % 10 == 0 else "dev" if i % 10 == 3 else "train" for i in range(len(rows))]
    if way == "column":
        path = write(tmp_path / "t.csv", [(*row, part) for row, part in zip(rows, parts)], ("text", "label", "split"))
    else:
        path = tmp_path
        for name in set(parts):
            write(tmp_path / f"{name}.csv", [row for row, part in zip(rows, parts) if part == name])
    data = load_labelled_texts(path)
    splits = split(data, seed=1)
    assert set(splits["test"]["text"]) == {text for (text, _), part in zip(rows, parts) if part == "test"}
    assert [len(splits[name]) for name in ("train", "validation", "test")] == [64, 8, 8]
    assert leaked_rows(splits) == leaked_rows(splits, "validation") == 8
    assert "8 in validation" in " ".join(data.notes) and "8 in test" in " ".join(data.notes)


@pytest.mark.parametrize("lacks", ["validation", "test"])
def test_a_part_that_a_given_split_lacks_is_taken_from_train(tmp_path, lacks):
    rows = pairs(2)
    other = {"validation": "test", "test": "validation"}[lacks]
    write(tmp_path / "train.csv", rows[4:])
    write(tmp_path / f"{other}.csv", [*rows[:4], ("b b", "topic b")])
    splits = split(load_labelled_texts(tmp_path), seed=1)
    assert len(splits["test"]) == 5 and len(splits["validation"]) + len(splits["train"]) == 76
    assert not groups(splits["validation"]) & groups(splits["train"])
    assert set(splits["validation"]["label"]) == {0, 1}


def test_a_given_split_whose_test_set_has_a_label_of_its_own_is_refused(tmp_path):
    write(tmp_path / "train.csv", pairs(2))
    write(tmp_path / "test.csv", [("x", "topic q"), ("y", "topic q")])
    with pytest.raises(InputError, match="No text of train has the label 'topic q', and one of test"):
        split(load_labelled_texts(tmp_path), seed=1)


def test_a_split_column_of_other_words_is_named(tmp_path):
    path = write(
        tmp_path / "t.csv", [(*row, "train") for row in ROWS] + [("x", "billing", "third")], ("text", "label", "split")
    )
    with pytest.raises(InputError, match="t.csv, row 6: 'split' is 'third'; expected train, validation or test"):
        load_labelled_texts(path)


def test_very_many_texts_are_split_alike_but_faster(data, monkeypatch):
    monkeypatch.setattr("hf_gpt_scratch.data.stratification.MANY", 10)
    splits = split(data, seed=1)
    assert leaked_rows(splits) == leaked_rows(splits, "validation") == 0
    for name, share in (("train", 0.7), ("validation", 0.1), ("test", 0.2)):
        assert Counter(splits[name]["label"]) == dict.fromkeys(range(len(data.names)), 40 * share)
