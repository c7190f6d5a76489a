"""Folds of about equal size in which every label has its share, and copies of a text are in one fold."""

import random
from collections import Counter, defaultdict
from collections.abc import Sequence

from sklearn.model_selection import StratifiedGroupKFold

MANY = 20_000  # groups, for which scikit-learn takes minutes


def stratified_folds(
    labels: Sequence[Sequence[int]], groups: Sequence[str], number: int, seed: int
) -> list[list[int]]:
    """
    `number` folds of the indices of texts, each text with its labels and its group: by scikit-learn for one label a
    text, or by `iterative_folds` for several, for very many texts, or where the former leave a fold without a label.
    """
    if any(len(one) != 1 for one in labels) or len(set(groups)) > MANY:
        return iterative_folds(labels, groups, number, seed)
    splitter = StratifiedGroupKFold(number, shuffle=True, random_state=seed)
    only = [label for (label,) in labels]
    folds = [fold.tolist() for _, fold in splitter.split(only, only, groups)]
    if any({only[i] for i in fold} != set(only) for fold in folds):
        return iterative_folds(labels, groups, number, seed)
    return folds


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
