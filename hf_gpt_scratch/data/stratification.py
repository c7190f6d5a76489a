"""Folds of about equal size in which every label has its share, and copies of a text are in one fold."""

import random
from collections import Counter, defaultdict
from collections.abc import Sequence

import numpy as np
from sklearn.model_selection import StratifiedGroupKFold

MANY = 20_000  # groups, from which on `iterative_folds` is the faster


def stratified_folds(
    labels: Sequence[Sequence[int]], groups: Sequence[str], number: int, seed: int
) -> list[list[int]]:
    """
    `number` folds of the indices of texts, each text with its labels and its group: by scikit-learn for one label a
    text, or by `iterative_folds` for several, for very many texts, or where the former leave a fold without a label.
    """
    different = sorted(set(groups))
    if any(len(one) != 1 for one in labels) or len(different) > MANY:
        return iterative_folds(labels, groups, number, seed)
    only = [label for (label,) in labels]
    # Shuffled here as new versions of scikit-learn do: with its `shuffle`, old ones mix up the groups' labels, and the
    # folds are others. And numbers, as an array of texts would be as wide as the longest.
    shuffled = np.random.RandomState(seed).permutation(len(different))
    numbers = {different[i]: new for new, i in enumerate(shuffled)}
    folds = [fold.tolist() for _, fold in Splitter(number).split(only, only, [numbers[group] for group in groups])]
    if any({only[i] for i in fold} != set(only) for fold in folds):
        return iterative_folds(labels, groups, number, seed)
    return folds


class Splitter(StratifiedGroupKFold):
    """
    scikit-learn's, which takes a millisecond for each group, in a tenth of the time: all folds that a group may go to
    are looked at together. The folds are the same.
    """

    def _find_best_fold(self, y_counts_per_fold, y_cnt, group_y_counts):
        of_labels = np.flatnonzero(group_y_counts)
        folds = np.arange(self.n_splits)
        tried = np.repeat(y_counts_per_fold[None], self.n_splits, axis=0)  # (folds to go to, folds, labels)
        tried[folds[:, None], folds[:, None], of_labels] += group_y_counts[of_labels]
        unevenness = (tried / y_cnt).std(axis=1).mean(axis=1).tolist()
        rows = y_counts_per_fold.sum(axis=1).tolist()
        best = 0
        for fold in range(1, self.n_splits):
            is_same = abs(unevenness[fold] - unevenness[best]) <= 1e-8 + 1e-5 * unevenness[best]  # as np.isclose
            if unevenness[fold] < unevenness[best] or (is_same and rows[fold] < rows[best]):
                best = fold
        return best


def iterative_folds(labels: Sequence[Sequence[int]], groups: Sequence[str], number: int, seed: int) -> list[list[int]]:
    """
    `number` folds of the indices for any number of labels each: iterative stratification (Sechidis et al. 2011), the
    rarest label first, with a group as the unit.
    """
    members = defaultdict(list)
    for i, group in enumerate(groups):
        members[group].append(i)
    left = sorted(members)
    random.Random(seed).shuffle(left)
    counts = {group: Counter(label for i in members[group] for label in labels[i]) for group in left}
    having = defaultdict(dict)  # of each label: its groups that are still left
    for group in left:
        for label in counts[group]:
            having[label][group] = None
    total = Counter(label for one in labels for label in one)
    wanted = [{label: count / number for label, count in total.items()} for _ in range(number)]
    room, folds = [len(groups) / number] * number, [[] for _ in range(number)]

    def place(group: str, label: int | None) -> None:
        fold = max(range(number), key=lambda k: (wanted[k].get(label, 0), room[k]))
        folds[fold] += members[group]
        room[fold] -= len(members[group])
        for one, count in counts[group].items():
            wanted[fold][one] -= count
            del having[one][group]

    while rest := [label for label in having if having[label]]:
        label = min(rest, key=lambda one: (len(having[one]), one))
        for group in list(having[label]):
            place(group, label)
    for group in left:
        if not counts[group]:
            place(group, None)
    return [sorted(fold) for fold in folds]
