"""
The result card: the form in which every evaluation writes its numbers, for reports and model cards to read.

A run's folder keeps its cards as `results/NAME.json`, a card each evaluation, next to the longer file that the
evaluation writes (metrics.json, judge.json...).
"""

import os
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path

from .errors import InputError, one_line
from .files import read_json_object, write_json

VERSION = 1
FOLDER = "results"


@dataclass(frozen=True)
class Metric:
    """A number, its 95 % interval where one is known, and which way is better."""

    value: float
    interval: Sequence[float] | None = None
    higher_is_better: bool = True

    def complement(self) -> "Metric":
        """1 minus it, such as the other side's share of the wins."""
        interval = self.interval and [1 - end for end in reversed(self.interval)]
        return Metric(1 - self.value, interval, self.higher_is_better)


@dataclass(frozen=True)
class ResultCard:
    """
    What an evaluation found, and what is needed to believe it.

    Attributes:
        task: such as "SMS spam classification"; cards of one task, protocol and data can be compared.
        protocol: how it was measured, in a sentence.
        data: a `{"source": ..., "sha256": ...}` for each file or data set that was measured on; for one that was
            streamed, `revision` in place of `sha256`.
        metrics: by name, the most important first.
        baselines: the same numbers of what the model was compared with, by its name.
        seeds: of the runs behind the numbers.
        command: that does it again.
        environment: `provenance.environment()`.
        predictions: the file of the single predictions or answers, relative to the run's folder, if there is one.
    """

    task: str
    protocol: str
    data: Sequence[Mapping[str, str]]
    metrics: Mapping[str, Metric]
    command: str
    environment: Mapping
    seeds: Sequence[int] = ()
    baselines: Mapping[str, Mapping[str, Metric]] = field(default_factory=dict)
    predictions: str | None = None

    def write(self, run: str | os.PathLike, name: str) -> Path:
        """Writes it as `results/NAME.json` of the folder `run`, which stands for the model, and returns the path."""
        path = Path(run) / FOLDER / f"{name}.json"
        path.parent.mkdir(parents=True, exist_ok=True)
        self.write_to(path)
        return path

    def write_to(self, path: str | os.PathLike) -> None:
        """Writes it as the file `path`, away from the run that it is of."""
        write_json(path, {"version": VERSION, **asdict(self)})


def read_card(path: str | os.PathLike) -> ResultCard:
    """Reads one card; raises `InputError` when the file is not one."""
    try:
        values = read_json_object(path)
        is_of_this_version = values.pop("version") == VERSION
        if is_of_this_version:
            metrics, baselines = _metrics(values["metrics"]), values["baselines"]
            baselines = {name: _metrics(one) for name, one in baselines.items()}
            card = ResultCard(**{**values, "metrics": metrics, "baselines": baselines})
    except (OSError, ValueError, TypeError, KeyError, AttributeError) as error:
        raise InputError(f"{path} is not a result card ({type(error).__name__}: {one_line(error)}).") from None
    if not is_of_this_version:
        raise InputError(f"{path} is a result card of another version; run the evaluation again.")
    _check(card, Path(path))
    return card


def read_cards(run: str | os.PathLike) -> dict[str, ResultCard]:
    """The cards of a run's folder by their names; raises `InputError` when it has none."""
    paths = sorted((Path(run) / FOLDER).glob("*.json"))
    if not paths:
        inside = [path for path in sorted(Path(run).glob("*")) if any((path / FOLDER).glob("*.json"))]
        raise InputError(
            f"{run} has no results/*.json; give the output folder of a training or an evaluation"
            f"{f', such as {inside[0]}' if inside else ''}."
        )
    return {path.stem: read_card(path) for path in paths}


def rounded(value: float | None, digits: int = 4) -> float | None:
    """A time or a speed without the digits that are noise. Losses and scores are kept whole, to be proved again."""
    return value if not value else float(f"{value:.{digits}g}")


def identity(data: Mapping, digits: int | None = None) -> str:
    """Which data exactly: its SHA-256, or of a data set that was streamed its revision, of so many digits."""
    kind, value = ("SHA-256", data["sha256"]) if data.get("sha256") else ("streamed, revision", data["revision"])
    return f"{kind} {value[:digits]}"


def _metrics(values: Mapping[str, Mapping]) -> dict[str, Metric]:
    return {name: Metric(**metric) for name, metric in values.items()}


def _check(card: ResultCard, path: Path) -> None:
    """Raises `InputError` where a card that could be read has values of another kind than it should."""
    metrics = [*card.metrics.values(), *(one for baseline in card.baselines.values() for one in baseline.values())]
    texts, seeds, environment = (card.task, card.protocol, card.command), card.seeds, card.environment
    data = isinstance(card.data, list) and card.data
    for what, is_right in {
        "task, protocol and command must be text": all(isinstance(text, str) and text.strip() for text in texts),
        "data must each have a source and a sha256 or revision": data and all(map(_is_data, data)),
        "metrics must be numbers, with two as the interval": card.metrics and all(map(_is_metric, metrics)),
        "seeds must be whole numbers": isinstance(seeds, list) and all(isinstance(seed, int) for seed in seeds),
        "environment must be an object, with versions and hardware as objects": isinstance(environment, dict)
        and all(isinstance(environment.get(name, {}), dict) for name in ("versions", "hardware")),
    }.items():
        if not is_right:
            raise InputError(f"{path} is a damaged result card: its {what}; run the evaluation again.")


def _is_data(data) -> bool:
    if not isinstance(data, dict):
        return False
    return all(
        value and isinstance(value, str) for value in (data.get("source"), data.get("sha256") or data.get("revision"))
    )


def _is_metric(metric: Metric) -> bool:
    interval = [0.0, 0.0] if metric.interval is None else metric.interval
    return (
        isinstance(metric.higher_is_better, bool)
        and isinstance(interval, list)
        and len(interval) == 2
        and all(
            type(value) is float or (type(value) is int and abs(value) < 2**63) for value in (metric.value, *interval)
        )
    )
