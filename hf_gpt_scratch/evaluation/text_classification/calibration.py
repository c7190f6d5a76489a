"""
Fits the probabilities, the thresholds, the outside answer and the early verdict of a classifier to its validation set,
measures them on its test set, and keeps them in its config, where `TextClassifier` and the model's pipeline find them.
"""

import shlex
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace

import numpy as np

from ...classification.calibration import CARD_AGREEMENT, settings
from ...data.labelled_texts import OUTSIDE
from ...pipeline_gpt_scratch import Calibration
from ...utils.errors import InputError, UsageError
from ...utils.files import read_json_object, together, write_json
from ...utils.provenance import environment, public_name
from ...utils.result_card import Metric, ResultCard
from ..metrics import top_labels
from .binary_calibration import fit, metrics_at
from .early import EarlyVerdicts, early_table, measure_early
from .label_calibration import fit_labels, label_metrics
from .outside import REFUSE, OutsideTexts, fit_outside_threshold, measure_outside
from .runs import ClassifierRun, load_messages, open_run, word_logits
from .thresholds import OutOfReach
from .verdicts import probabilities_of, readings_of, said_of

BEFORE, AFTER = "as trained", "calibrated"
REFUSALS = (0.2, 0.3, 0.5)  # shares to propose where none is told for that asked for
FEW = 100  # texts, of which a calibration may turn out worse than none


@dataclass(frozen=True)
class Texts:
    """
    A split as the model reads it.

    Attributes:
        logits: of its texts, `(N, K)`.
        words: the logits after each word, `(W, K)`, of some of the texts, by their rows.
        labels: `(N,)`, or rows of 0 and 1, `(N, K)`.
        outside: the logits of the texts of the labels that were not learned, `(M, K)`.
    """

    logits: np.ndarray
    words: Mapping[int, np.ndarray]
    labels: np.ndarray
    outside: np.ndarray


def read(run: ClassifierRun, split: str, classifier) -> Texts:
    other = run.outside.get(split)
    outside = classifier.logits(other).double().numpy() if other else np.empty((0, len(run.names)))
    return Texts(*word_logits(classifier, run.splits[split]["text"]), run.labels(split), outside)


@dataclass(frozen=True)
class Fitted:
    """
    What `calibrate` has found.

    Attributes:
        run: the model's run.
        calibration: as config.json keeps it.
        numbers: those of the test set, as trained and calibrated.
        prevalence: the share of label 1 of two that it was fitted for; `None` with other labels.
        promised: the precision that the thresholds keep by the validation set, where one was asked for.
        is_weighted: whether the numbers are as if the test set had that share of label 1.
        outside: what the outside answer does, where the run has outside texts.
        early: what early verdicts cost and save, by the agreement asked for.
        whole: the same where every text is read to its end.
        notes: sentences on what could not be fitted.
    """

    run: ClassifierRun
    calibration: Calibration
    numbers: Mapping[str, Mapping[str, Metric]]
    prevalence: float | None
    promised: float | None
    is_weighted: bool
    outside: OutsideTexts | None
    early: Mapping[str, EarlyVerdicts]
    whole: EarlyVerdicts
    notes: Sequence[str] = field(default=())


def calibrate(
    folder: str,
    command: str,
    precision: float | None = None,
    prevalence: float | None = None,
    refuse: float = REFUSE,
    data_file: str | None = None,
    dataset_name: str | None = None,
    **placement,
) -> Fitted:
    """
    Calibrates the classifier in a run's folder on its validation set, measures it on its test set, and writes
    config.json, plots/calibration.png and results/calibration.json there, with early.json and, where the run has
    outside texts, outside.json beside the latter.

    Args:
        command: that does it again, for the cards.
        precision: that the thresholds must keep; without one they are 0.5, or of the highest F1 where a text may have
            several labels.
        prevalence: the share of label 1 of two where it will be used; by default that of the validation set.
        refuse: the share of the texts of its labels that may be answered as outside, so that outside ones are told.
        data_file, dataset_name: the texts, as for `load_messages`.
        placement: that of `pretrained.place`.

    Raises:
        InputError: when the folder is not that of a trained classifier, it was trained on other texts, a label is not
            among the texts that it takes to fit, or no threshold has the precision.
    """
    if prevalence == 1 or precision == 1:
        raise UsageError("--precision and --prevalence must be below 1.")
    messages = load_messages(folder, data_file, dataset_name)
    run = open_run(folder, messages)
    if prevalence is not None and not run.is_binary:
        raise UsageError(f"--prevalence is the share of one label of two, and {folder} has other labels; omit it.")
    run.require_both_labels()
    classifier = run.load_classifier(**placement)
    validation = read(run, "validation", classifier)
    try:
        fitted, share, promised = fit_run(run, validation, prevalence, precision)
    except OutOfReach as error:
        given = {"data_file": data_file, "dataset_name": dataset_name, "prevalence": prevalence}
        given["refuse"] = None if refuse == REFUSE else refuse
        raise InputError(f"{str(error).rstrip('.')}. {_instead(folder, given, error.reach)}") from None
    fitted, notes = fit_outside(run, fitted, validation, refuse)

    test = read(run, "test", classifier)
    early = early_table(*(_readings(fitted, texts) for texts in (validation, test)))
    fitted = replace(fitted, early={name: verdicts.kept() for name, verdicts in early.items()})
    stages = {BEFORE: Calibration(is_multi_label=run.is_multi_label), AFTER: fitted}
    numbers = {name: numbers_of(run, stage, test, prevalence) for name, stage in stages.items()}
    found = Fitted(
        run,
        fitted,
        numbers,
        share,
        promised,
        is_weighted=prevalence is not None,
        outside=None if fitted.outside_threshold is None else outside_numbers(fitted, test),
        early=early,
        whole=measure_early(1.0, _readings(fitted, test)),
        notes=[*notes, *reservations(run, len(validation.labels), numbers)],
    )
    data = [{"source": public_name(messages.source), "sha256": messages.sha256}]
    cards = make_cards(found, precision, data=data, command=command, environment=environment())
    write(run, cards, keep(found, precision), stages, test)
    return found


def _instead(folder: str, given: Mapping, reach: float) -> str:
    """What to do where a precision is out of reach."""
    if reach <= 0:
        return "Train on more texts."
    same = [word for name, value in given.items() if value is not None for word in (f"--{name}", str(value))]
    words = ["hf-gpt-scratch", "calibrate", str(folder), *same, "--precision", f"{reach:g}"]
    return f"Try `{shlex.join(words)}`, or train on more messages."


def fit_run(
    run: ClassifierRun, validation: Texts, prevalence: float | None, precision: float | None
) -> tuple[Calibration, float | None, float | None]:
    """The calibration, the share of label 1 of two that it is for, and the precision that it keeps."""
    if not run.is_binary:
        calibration, promised = fit_labels(validation.logits, validation.labels, run.names, precision)
        return calibration, None, promised
    share = float(np.mean(validation.labels)) if prevalence is None else prevalence
    scores = validation.logits[:, 1] - validation.logits[:, 0]
    calibration, promised = fit(scores, validation.labels, share, precision, run.names, run.unit)
    return calibration, share, promised


def fit_outside(
    run: ClassifierRun, calibration: Calibration, validation: Texts, refuse: float
) -> tuple[Calibration, list[str]]:
    """With the threshold of the outside answer, where the run has outside texts; and what is to be said of it."""
    counts = {name: len(run.outside.get(name, ())) for name in ("validation", "test")}
    if not all(counts.values()):
        missing = " and ".join(name for name, count in counts.items() if not count)
        some = any(counts.values())
        return calibration, [f"No outside answer is fitted: no {missing} text is of an outside label."] if some else []
    highest = [
        probabilities_of(calibration, logits).max(axis=-1) for logits in (validation.logits, validation.outside)
    ]
    if threshold := fit_outside_threshold(*highest, refuse):
        return replace(calibration, outside_threshold=threshold), []
    affordable = next((share for share in REFUSALS if share > refuse and fit_outside_threshold(*highest, share)), None)
    remedy = "More texts of your labels, and more outside texts, may help."
    if affordable:
        remedy = f"Try `--refuse {affordable:g}`, or train on more texts, outside ones too."
    never = "" if says_outside(calibration) else f", so `classify` never says {calibration.outside_label!r}"
    return calibration, [
        f"No outside answer is fitted: where at most {refuse:.0%} of the {len(highest[0])} validation texts of its"
        f" labels are refused, no threshold tells a larger share of the {len(highest[1])} outside ones{never}."
        f" {remedy}"
    ]


def says_outside(calibration: Calibration) -> bool:
    """Whether any text can be answered as outside."""
    is_by_label = not calibration.is_multi_label and isinstance(calibration.threshold, list)
    return is_by_label or calibration.outside_threshold is not None


def outside_numbers(calibration: Calibration, test: Texts) -> OutsideTexts:
    """What the outside answer does on the test set."""
    probabilities = [probabilities_of(calibration, logits) for logits in (test.logits, test.outside)]
    said = [said_of(calibration, one) for one in probabilities]
    highest = [one.max(axis=-1) for one in probabilities]
    return measure_outside(
        calibration.outside_threshold, *highest, said[0] == test.labels, *(one == OUTSIDE for one in said)
    )


def _readings(calibration: Calibration, texts: Texts) -> list:
    return readings_of(calibration, list(texts.words.values()), texts.labels[list(texts.words)])


def numbers_of(
    run: ClassifierRun, calibration: Calibration, texts: Texts, prevalence: float | None
) -> dict[str, Metric]:
    """The numbers of a calibration on texts of the labels."""
    if not run.is_binary:
        return label_metrics(calibration, texts.logits, texts.labels, run.names)
    probabilities = probabilities_of(calibration, texts.logits)[:, 1]
    return metrics_at(calibration.threshold, probabilities, texts.labels, prevalence)


def reservations(run: ClassifierRun, fitted_on: int, numbers: Mapping[str, Mapping[str, Metric]]) -> list[str]:
    """A sentence where there is little to trust in a calibration: few texts to fit it, or a higher log loss."""
    before, after = (numbers[stage]["log_loss"].value for stage in (BEFORE, AFTER))
    rose = f"on the test set the log loss rose from {before:.4f} to {after:.4f}" if after > before else ""
    if fitted_on >= FEW:
        return [f"The calibration may have made the probabilities worse: {rose}."] * bool(rose)
    only = f"Calibrated on only {fitted_on} {run.unit}"
    if rose:
        return [f"{only}; {rose}, so do not trust the probabilities. More labelled {run.unit} help."]
    return [f"{only}; with more labelled {run.unit} the probabilities can be trusted more."]


def keep(found: Fitted, precision: float | None) -> dict:
    """What config.json holds."""
    kept = settings(found.calibration) | {"precision": precision}
    if found.run.is_binary:
        return kept | {"prevalence": found.prevalence}
    del kept["shift"]
    if not isinstance(found.calibration.threshold, list):
        del kept["threshold"]
    return kept


def write(
    run: ClassifierRun,
    cards: Mapping[str, ResultCard],
    kept: Mapping,
    stages: Mapping[str, Calibration],
    test: Texts,
) -> None:
    """
    Writes the picture, the cards and, into config.json, the calibration, which comes last. If anything cannot be
    written, all is as before.
    """
    from ..plots import plot_reliability

    calibrated = read_json_object(run.folder / "config.json") | {"calibration": kept}
    probabilities = {name: probabilities_of(stage, test.logits) for name, stage in stages.items()}
    if run.is_binary:
        models, positive = {name: (test.labels, one[:, 1]) for name, one in probabilities.items()}, run.names[1]
    else:
        models, positive = {name: top_labels(test.labels, one) for name, one in probabilities.items()}, None
    title = f"Calibration on the {len(test.labels)} test {run.unit}"
    with together(run.folder) as partial:
        (partial / "plots").mkdir()
        plot_reliability(models, partial / "plots/calibration.png", title, positive)
        for name, card in cards.items():
            card.write(partial, name)
        write_json(partial / "config.json", calibrated)
    if "outside" not in cards:  # of an earlier calibration
        (run.folder / "results" / "outside.json").unlink(missing_ok=True)


def make_cards(found: Fitted, precision: float | None, **background) -> dict[str, ResultCard]:
    """The result cards by their names; `background` is their data, command and environment."""
    run, sizes = found.run, {name: len(rows) for name, rows in found.run.splits.items()}
    task = "SMS spam" if run.is_spam else "text classification"
    protocol = (
        f"{run.protocol} split {run.split_seed}, fitted on the {sizes['validation']} {run.unit} of the validation set,"
        f" measured on the {sizes['test']} of the test set"
    )
    # The probabilities as trained, which temperature and shift turn into the calibrated ones.
    predictions = "predictions.csv" if (run.folder / "predictions.csv").is_file() else None
    background |= {"seeds": [run.split_seed], "predictions": predictions}
    cards = {
        "calibration": ResultCard(
            task=f"{task} calibration",
            protocol=protocol
            + (f", as if {found.prevalence:.1%} of them were {run.names[1]}" if found.is_weighted else "")
            + (f"; for a precision of at least {precision:g}" if precision else ""),
            metrics=found.numbers[AFTER],
            baselines={BEFORE: found.numbers[BEFORE]},
            **background,
        ),
        "early": ResultCard(
            task=f"{task} early verdict",
            protocol=f"{protocol}; the first verdict that agrees with the one on the whole text in"
            f" {float(CARD_AGREEMENT):.0%} of the validation set",
            metrics=found.early[CARD_AGREEMENT].metrics,
            baselines={
                **{f"for {name}": one.metrics for name, one in found.early.items() if name != CARD_AGREEMENT},
                "the whole text": found.whole.metrics,
            },
            **background,
        ),
    }
    if found.outside:
        cards["outside"] = ResultCard(
            task=f"{task} outside answer",
            protocol=f"{protocol}, with {found.outside.texts} test texts of labels that were not learned",
            metrics=found.outside.metrics,
            **background,
        )
    return cards
