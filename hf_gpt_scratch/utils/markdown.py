"""Result cards' metrics as tables in Markdown."""

import math
import re
from collections.abc import Iterable, Mapping, Sequence

from .errors import InputError
from .result_card import Metric
from .terminal import plain

MISSING = "not measured"
REFERENCE = "–"
DIFFERENCE = "_above_"  # in the name of a metric: of a model less that of a reference
SPECIAL = re.compile(r"[\\`*|<\[\]~$]|(?<!\w)_|_(?!\w)")  # Markdown leaves a _ within a word alone


def metric_columns(rows: Mapping[str, Mapping[str, Metric]]) -> dict[str, bool]:
    """Every metric of the rows, in order, and whether higher is better; raises `InputError` when they disagree."""
    columns: dict[str, bool] = {}
    for row, metrics in rows.items():
        for name, metric in metrics.items():
            if columns.setdefault(name, metric.higher_is_better) != metric.higher_is_better:
                raise InputError(
                    f"The result cards disagree whether a higher {name} is better, first that of {row}; correct one"
                    " and measure again."
                )
    return columns


def markdown_table(
    rows: Mapping[str, Mapping[str, Metric]],
    groups: Mapping[str, object] | None = None,
    names: Mapping[str, str] | None = None,
    metrics_as_rows: bool = False,
) -> str:
    """
    A Markdown table of a row for each model and a column for each metric, or the other way around: the value, then its
    95 % interval in brackets, the best value of a metric in bold. For the metric of a difference, the model that it is
    measured from is the reference and not ranked.

    Args:
        rows: the metrics of each model or baseline, by name; a metric that is missing is "not measured".
        groups: for each row the group within which it can be compared; by default all rows are one group.
        names: what to call a metric.

    Raises:
        InputError: when two rows disagree about which way a metric is better.
    """
    columns = metric_columns(rows)
    kinds = [groups[row] if groups else None for row in rows]
    cells = []
    for name in columns:
        column = [metrics.get(name) for metrics in rows.values()]
        if DIFFERENCE in name:
            column = [None if is_reference(name, metric) else metric for metric in column]
        texts = _cells(column, kinds)
        texts = [REFERENCE if DIFFERENCE in name and text == MISSING else text for text in texts]
        cells.append([escape((names or {}).get(name, name)), *texts])
    lines = [["", *map(escape, rows)], *cells]
    header, *body = [f"| {' | '.join(line)} |" for line in (lines if metrics_as_rows else zip(*lines))]
    return "\n".join([header, f"|---{'|---' * (len(rows) if metrics_as_rows else len(columns))}|", *body])


def is_reference(name: str, metric: Metric | None) -> bool:
    """Whether a metric is a reference's difference from itself, as older result cards have it."""
    return DIFFERENCE in name and metric is not None and metric.value == 0 and metric.interval is None


def _cells(column: Sequence[Metric | None], groups: Sequence[object]) -> list[str]:
    """The texts of a column. Bold is what equals the best of its group in the digits shown, unless all do."""
    spec = _format_spec([metric.value for metric in column if metric])
    texts = [format(metric.value, spec) if metric else MISSING for metric in column]
    best = {}
    for group in groups:
        measured = [metric for metric, own in zip(column, groups) if metric and own == group]
        ranked = [metric.value for metric in measured if math.isfinite(metric.value)]
        if len({format(value, spec) for value in ranked}) > 1:
            best[group] = format(max(ranked) if measured[0].higher_is_better else min(ranked), spec)
    values = [f"**{text}**" if text == best.get(group) else text for text, group in zip(texts, groups)]
    ends = [[format(end, spec) for end in metric.interval or ()] if metric else [] for metric in column]
    return [f"{value} [{', '.join(pair)}]" if pair else value for value, pair in zip(values, ends)]


def _format_spec(values: Iterable[float]) -> str:
    """Four decimals for a column within -1 and 1, as of proportions; one or two for perplexities and points."""
    sizes = [abs(value) for value in values if math.isfinite(value)]
    if not sizes or max(sizes) <= 1:
        return ".2e" if sizes and 0 < max(sizes) < 0.001 else ".4f"
    if max(sizes) >= 1e6:
        return ".4g"
    return ".2f" if min(sizes) < 100 else ".1f"


def escape(text: str) -> str:
    """`text` on one line, in which Markdown sees no marks."""
    return SPECIAL.sub(lambda match: f"\\{match[0]}", " ".join(plain(text).split()))
