"""
How a classifier of any number of labels reads a text, as HTML: its words in the colours of their labels, and below
them how much of the probability each label has, word by word. For a text that may have one of two labels see `words`,
whose rules hold here too: no picture, every number there without a mouse.
"""

from collections.abc import Sequence

from ..classification.classifier import Prediction, WordReading
from . import page
from .words import axis_html, percent

COLOURS = 8  # labels; of more, the likeliest in a text, and the others together in grey
LISTED = 6  # labels in the verdict
LIGHT = ["#9ecae9", "#fdae6b", "#a8ddb5", "#d4b9da", "#f4d35e", "#f5a3b7", "#8fd3d1", "#cbb89d"]
DARK = ["#1c4f82", "#8a4107", "#1f6b3a", "#5d3a72", "#665600", "#8a2c48", "#14605e", "#5e4a33"]
CSS = """
:root { --colour-other: #d1d5db; }
.dark { --colour-other: #4b5563; }
#verdict .labels { display: grid; grid-template-columns: minmax(80px, max-content) 1fr 56px; gap: 4px 10px;
    align-items: center; font-size: 15px; margin-top: 8px; }
#verdict .labels .name { overflow-wrap: anywhere; }
#verdict .labels .bar { height: 14px; border-radius: 4px; background: var(--tint); min-width: 2px; }
#verdict .labels .said { font-weight: 700; }
#verdict .answer.tinted { border-inline-start: 10px solid var(--tint); padding-inline-start: 12px; }
.key { display: flex; flex-wrap: wrap; gap: 4px 14px; font-size: 14px; margin: 4px 0 8px; }
.key span::before { content: ""; display: inline-block; width: 14px; height: 14px; border-radius: 4px;
    margin-inline-end: 6px; vertical-align: -2px; background: var(--tint); }
.curve polygon { fill: var(--tint); stroke: var(--background-fill-primary); stroke-width: 1;
    vector-effect: non-scaling-stroke; }
.curve polyline.label { stroke: color-mix(in srgb, var(--tint) 70%, var(--body-text-color)); }
.curve .point.label { background: var(--body-text-color); }
"""
CSS += "".join(
    f"{where} {{ {' '.join(f'--colour-{number}: {colour};' for number, colour in enumerate(colours))} }}\n"
    for where, colours in ((":root", LIGHT), (".dark", DARK))
)


class Colours:
    """A colour for each of the labels of a text: those of many labels that are nowhere likely share the grey one."""

    def __init__(self, names: Sequence[str], readings: Sequence[WordReading]):
        self.names, order = names, range(len(names))
        if len(names) > COLOURS:
            highest = [max((one.probabilities[i] for one in readings), default=0.0) for i in order]
            order = sorted(sorted(order, key=lambda i: -highest[i])[:COLOURS])
        self.of = {label: colour for colour, label in enumerate(order)}

    def tint(self, name: str) -> str:
        """The CSS variable of a label, by its name; grey for the outside label and for unlikely ones."""
        number = self.of.get(self.names.index(name)) if name in self.names else None
        return f"var(--colour-{'other' if number is None else number})"

    def shares(self, probabilities: Sequence[float]) -> list[float]:
        """The probabilities of the coloured labels in their order, and if there are others, theirs together."""
        shown = [probabilities[label] for label in self.of]
        return [*shown, max(0.0, sum(probabilities) - sum(shown))] if len(self.of) < len(self.names) else shown

    def shown(self) -> list[tuple[str, str]]:
        """The name and the tint of each share."""
        known = [(self.names[label], f"var(--colour-{colour})") for label, colour in self.of.items()]
        return [*known, ("other labels", "var(--colour-other)")] if len(self.of) < len(self.names) else known


def verdict_html(prediction: Prediction, names: Sequence[str], colours: Colours, note: str = "") -> str:
    """The answer, large, and the likeliest labels with their probabilities."""
    said = ", ".join(prediction.labels) or prediction.label
    ranked = sorted(zip(prediction.probabilities, names), reverse=True)[:LISTED]
    rows = "".join(
        f'<span class="name{" said" if name in prediction.labels else ""}">{page.escape(name)}</span>'
        f'<span class="bar" aria-hidden="true" style="--tint: {colours.tint(name)}; width: {100 * one:.1f}%"></span>'
        f"<span>{percent(one)}</span>"
        for one, name in ranked
    )
    rest = len(names) - len(ranked)
    more = f'<div class="quiet">and {rest} less likely label{"s" * (rest > 1)}</div>' if rest else ""
    note = f'<div class="note">{page.escape(note)}</div>' if note else ""
    tint = colours.tint(prediction.labels[0] if prediction.labels else "")
    return (
        f'<div id="verdict" role="status"><div class="answer tinted" style="--tint: {tint}">{page.escape(said)}</div>'
        f'<div class="labels">{rows}</div>{more}{note}</div>'
    )


def words_html(readings: Sequence[WordReading], colours: Colours, is_multi_label: bool = False) -> str:
    """The key of the colours, the words on those of their labels, each with its number, and the curve."""
    key = "".join(f'<span style="--tint: {tint}">{page.escape(name)}</span>' for name, tint in colours.shown())
    spans = " ".join(_word(number, one, colours) for number, one in enumerate(readings, start=1))
    hint = "A word has the colour of the label after reading up to it; below it stands the probability, in percent."
    return (
        f'<div id="reading-of"><div class="key">{key}</div>'
        f'<div id="words" dir="auto" role="toolbar" aria-label="Words; the arrow keys move from one to the next">'
        f'{spans}</div><div id="reading" aria-live="polite">Tap a word to find it in the curve.</div>'
        f'<div class="quiet">{page.escape(hint)}</div>{curve_html(readings, colours, is_multi_label)}</div>'
    )


def _word(number: int, one: WordReading, colours: Colours) -> str:
    label, word = ", ".join(one.labels) or one.label, one.word.strip()
    style = f"--tint: {colours.tint(one.labels[0] if one.labels else '')}; --strength: {round(100 * one.probability)}%"
    said = f"After word {number}, “{word}”: {label} {percent(one.probability)}"
    return (
        f'<span class="word" role="button" style="{style}" tabindex="{0 if number == 1 else -1}"'
        f' data-number="{number}" data-percent="{round(100 * one.probability)}" aria-label="{page.escape(said)}">'
        f"{page.escape(word)}</span>"
    )


def curve_html(readings: Sequence[WordReading], colours: Colours, is_multi_label: bool = False) -> str:
    """
    The probabilities after each word: one on top of the other where they share one text out, else a line for each.
    """
    at = [100 * (i + 0.5) / len(readings) for i in range(len(readings))]
    rows = [colours.shares(one.probabilities) for one in readings]
    drawn = _lines(at, rows, colours) if is_multi_label else _bands(at, rows, colours)
    points = "".join(
        f'<span class="point label" data-number="{number}" style="left: {x:.2f}%; bottom: 0%"></span>'
        for number, x in enumerate(at, start=1)
    )
    grid = "".join(f'<div class="grid" style="bottom: {y}%"><span>{y}%</span></div>' for y in (0, 50, 100))
    last = readings[-1]
    said = (
        f"Curve of the labels' probabilities over {len(readings)} words: {readings[0].label}"
        f" {percent(readings[0].probability)} after the first, {last.label} {percent(last.probability)} at the end."
    )
    kind = "Probability of each label" if is_multi_label else "Share of each label"
    return axis_html(
        [one.word for one in readings],
        f"{kind} after each word",
        f'<div class="curve" id="curve" role="img" aria-label="{page.escape(said)}">{grid}'
        f'<svg viewBox="0 0 100 100" preserveAspectRatio="none" aria-hidden="true">{drawn}</svg>{points}</div>',
    )


def _bands(at: Sequence[float], rows: Sequence[Sequence[float]], colours: Colours) -> str:
    drawn, floor = [], [0.0] * len(at)
    for number, (_, tint) in enumerate(colours.shown()):
        top = [below + row[number] for below, row in zip(floor, rows)]
        outline = [(0, top[0]), *zip(at, top), (100, top[-1]), (100, floor[-1]), *zip(at[::-1], floor[::-1])]
        drawn.append(_shape("polygon", [*outline, (0, floor[0])], tint))
        floor = top
    return "".join(drawn)


def _lines(at: Sequence[float], rows: Sequence[Sequence[float]], colours: Colours) -> str:
    shown = [one for one in colours.shown() if one[0] in colours.names]
    return "".join(
        _shape("polyline", list(zip(at, (row[number] for row in rows))), tint)
        for number, (_, tint) in enumerate(shown)
    )


def _shape(kind: str, points: Sequence[tuple[float, float]], tint: str) -> str:
    places = " ".join(f"{x:.2f},{100 - 100 * min(y, 1.0):.2f}" for x, y in points)
    return f'<{kind} class="label" style="--tint: {tint}" points="{places}"/>'
