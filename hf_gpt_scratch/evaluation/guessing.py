"""The scores of guessing in a multiple-choice task of lm-evaluation-harness, to compare accuracies with."""

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass


@dataclass(frozen=True)
class Guessing:
    """
    What needs no question to be read.

    Attributes:
        documents: how many there are.
        chance: the expected accuracy of choosing blindly.
        shares: by a choice's place (0, 1...), the accuracy of always choosing it.
    """

    documents: int
    chance: float
    shares: Counter

    @classmethod
    def of_documents(cls, task, documents: Sequence) -> "Guessing | None":
        """From the choices of a task's documents; `None` unless it is of multiple choice with the usual accuracy."""
        from lm_eval.api.task import ConfigurableTask

        is_usual = type(task).process_results is ConfigurableTask.process_results
        if task.OUTPUT_TYPE != "multiple_choice" or not is_usual or task.config.process_results is not None:
            return None
        chance, shares = 0.0, Counter()
        for document in documents:
            choices = task.doc_to_choice(document)
            right = task.doc_to_text(document) if task.multiple_input else task.doc_to_target(document)
            right = right if isinstance(right, list) else [choices.index(right) if right in choices else right]
            right = {place for place in right if place in range(len(choices))}
            chance += len(right) / len(choices) / len(documents)
            shares.update({place: 1 / len(documents) for place in right})
        return cls(len(documents), chance, shares)

    @classmethod
    def of_parts(cls, parts: Sequence["Guessing"], weight_by_size: bool) -> "Guessing":
        """Of a group of tasks, as the harness averages their accuracies."""
        weights = [part.documents if weight_by_size else 1 for part in parts]
        shares = Counter()
        for part, weight in zip(parts, weights):
            shares.update({place: share * weight / sum(weights) for place, share in part.shares.items()})
        chance = sum(part.chance * weight for part, weight in zip(parts, weights)) / sum(weights)
        return cls(sum(part.documents for part in parts), chance, shares)
