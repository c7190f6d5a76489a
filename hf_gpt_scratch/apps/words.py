"""
How a classifier reads a text, as HTML: its words in colours and the curve of the probability below them.

It is HTML and not a picture so that it fits a phone, follows the theme, and can be read aloud; every number is there
without a mouse. `SCRIPT` marks the word that is tapped, clicked, or gone to with the arrow keys.
"""

from collections.abc import Sequence

from . import page

LABELS_ON_AXIS = 14  # words; of a longer text only every second, third ... is written below the curve
CSS = """
#table th, #table td { font-size: 14px; }
#verdict { font-size: 17px; line-height: 1.5; }
#verdict .answer { font-size: 32px; font-weight: 700; line-height: 1.2; overflow-wrap: anywhere; }
#verdict .label-0 { border-inline-start: 10px solid var(--line-0); padding-inline-start: 12px; }
#verdict .label-1 { border-inline-start: 10px solid var(--line-1); padding-inline-start: 12px; }
.legend { display: flex; align-items: center; gap: 8px; font-size: 14px; margin: 4px 0 8px; flex-wrap: wrap; }
.legend .bar { flex: 1 1 90px; max-width: 220px; height: 14px; border-radius: 4px;
    background: linear-gradient(to right, var(--label-0), transparent, var(--label-1)); }
#words { display: flex; flex-wrap: wrap; gap: 4px 3px; font-size: 17px; line-height: 1.3; }
#words .word { display: inline-flex; flex-direction: column; align-items: center; padding: 3px 5px; min-height: 44px;
    max-width: 100%; border-radius: 5px; cursor: pointer; color: var(--body-text-color); overflow-wrap: anywhere;
    background: color-mix(in srgb, var(--tint) var(--strength), transparent); }
#words .word::after { content: attr(data-percent); font-size: 12px; font-weight: 400; }
#words .above { font-weight: 700; box-shadow: inset 0 -3px var(--line-1); }
#words .chosen, .curve .chosen { outline: 3px solid var(--body-text-color); }
#reading { min-height: 24px; margin: 6px 0; font-size: 15px; overflow-wrap: anywhere; }
.curve { position: relative; margin: 14px 14px 0 46px; height: 190px; border: 1px solid var(--border-color-primary);
    border-width: 0 0 1px 1px; }
.curve svg { position: absolute; inset: 0; width: 100%; height: 100%; overflow: visible; }
.curve polyline { fill: none; stroke: var(--quiet); stroke-width: 2; vector-effect: non-scaling-stroke; }
.curve .grid { position: absolute; left: 0; right: 0; border-top: 1px solid var(--border-color-primary); }
.curve .grid span { position: absolute; right: calc(100% + 6px); top: -0.7em; font-size: 12px; white-space: nowrap; }
.curve .threshold { position: absolute; left: 0; right: 0; border-top: 2px dashed var(--body-text-color); z-index: 1;
    pointer-events: none; }
.curve .threshold span { position: absolute; right: 0; bottom: 2px; font-size: 12px; padding: 0 4px;
    background: var(--body-background-fill); border-radius: 3px; }
.curve .threshold.high span { bottom: auto; top: 2px; }
.curve .point { position: absolute; width: 9px; height: 9px; transform: translate(-50%, 50%); border-radius: 50%;
    margin: 0 !important; cursor: pointer; background: var(--line-0); }
.curve .point.one { background: var(--line-1); border-radius: 1px; }
.axis { position: relative; height: 86px; margin: 6px 14px 0 46px; font-size: 12px; }
.axis span { position: absolute; top: 0; transform-origin: top right; transform: translateX(-100%) rotate(-55deg);
    white-space: nowrap; line-height: 1; }
.of-axis { font-size: 12px; color: var(--quiet); margin-inline-start: 46px; }
"""
INTO_VIEW = """() => {
  if (window.innerWidth < 700) document.getElementById("verdict")?.scrollIntoView({block: "center"});
}"""
SCRIPT = """<script>
function chooseWord(word) {
  const root = word.closest("#reading-of");
  root.querySelectorAll(".chosen").forEach((one) => one.classList.remove("chosen"));
  root.querySelectorAll("#words .word").forEach((one) => { one.tabIndex = one === word ? 0 : -1; });
  word.classList.add("chosen");
  const point = root.querySelector(`.point[data-number="${word.dataset.number}"]`);
  if (point) point.classList.add("chosen");
  root.querySelector("#reading").textContent = word.getAttribute("aria-label");
}
document.addEventListener("click", (event) => {
  const word = event.target.closest?.("#words .word, .curve .point");
  if (!word) return;
  const number = word.dataset.number;
  chooseWord(word.closest("#reading-of").querySelector(`#words .word[data-number="${number}"]`));
});
document.addEventListener("keydown", (event) => {
  const word = event.target.closest?.("#words .word");
  if (!word || event.ctrlKey || event.altKey || event.metaKey) return;
  const words = [...word.parentElement.children], number = words.indexOf(word);
  const next = {ArrowRight: number + 1, ArrowLeft: number - 1, Home: 0, End: words.length - 1,
                Enter: number, " ": number}[event.key];
  if (next === undefined) return;
  event.preventDefault();
  if (!words[next]) return;
  words[next].focus();
  chooseWord(words[next]);
});
</script>"""


def percent(probability: float) -> str:
    """A probability as a percentage with one decimal."""
    return f"{probability:.1%}"


def verdict_html(names: Sequence[str], probability: float, threshold: float, note: str = "") -> str:
    """The answer, large: the label, the probability of label 1 and on which side of the threshold it is."""
    label = int(probability > threshold)
    side = "above" if label else "not above"
    text = f"{percent(probability)} {names[1]}, {side} the threshold of {percent(threshold)}."
    note = f'<div class="note">{page.escape(note)}</div>' if note else ""
    return (
        f'<div id="verdict" role="status"><div class="answer label-{label}">{page.escape(names[label])}</div>'
        f"<div>{page.escape(text)}</div>{note}</div>"
    )


def words_html(words: Sequence[tuple[str, float]], threshold: float, names: Sequence[str] = ("ham", "spam")) -> str:
    """The legend, the words on blue (label 0) to orange (label 1), each with its number, and the curve."""
    legend = (
        f'<div class="legend"><span>{page.escape(names[0])} 0%</span><span class="bar" aria-hidden="true"></span>'
        f"<span>100% {page.escape(names[1])}</span></div>"
    )
    hint = (
        f"The number below a word is the probability of {names[1]}, in percent, after reading up to that word. Words"
        " where it is above the threshold are bold, with a bar below."
    )
    spans = " ".join(_word(number, *one, threshold, names) for number, one in enumerate(words, start=1))
    return (
        f'<div id="reading-of">{legend}'
        f'<div id="words" dir="auto" role="toolbar" aria-label="Words; the arrow keys move from one to the next">'
        f'{spans}</div><div id="reading" aria-live="polite">Tap a word to find it in the curve.</div>'
        f'<div class="quiet">{page.escape(hint)}</div>'
        f"{curve_html(words, threshold, names)}</div>"
    )


def _word(number: int, word: str, probability: float, threshold: float, names: Sequence[str]) -> str:
    """A word on its background, a button to be tapped."""
    strength = min(100, round(200 * abs(probability - 0.5)))
    style = f"--tint: var(--label-{int(probability > 0.5)}); --strength: {strength}%"
    said = f"After word {number}, “{word.strip()}”: {percent(probability)} {names[1]}"
    return (
        f'<span class="word{" above" if probability > threshold else ""}" role="button" style="{style}"'
        f' tabindex="{0 if number == 1 else -1}" data-number="{number}" data-percent="{round(100 * probability)}"'
        f' aria-label="{page.escape(said)}">{page.escape(word.strip())}</span>'
    )


def curve_html(words: Sequence[tuple[str, float]], threshold: float, names: Sequence[str]) -> str:
    """The probability of label 1 after each word and the threshold, with words below it that never overlap."""
    at = [100 * (i + 0.5) / len(words) for i in range(len(words))]
    line = " ".join(f"{x:.2f},{100 - 100 * probability:.2f}" for x, (_, probability) in zip(at, words))
    points = "".join(
        f'<span class="point{" one" if probability > threshold else ""}" data-number="{number}"'
        f' style="left: {x:.2f}%; bottom: {100 * probability:.2f}%"></span>'
        for number, (x, (_, probability)) in enumerate(zip(at, words), start=1)
    )
    grid = "".join(f'<div class="grid" style="bottom: {y}%"><span>{y}%</span></div>' for y in (0, 50, 100))
    first, last = percent(words[0][1]), percent(words[-1][1])
    said = (
        f"Curve of the probability of {names[1]} over {len(words)} words: {first} after the first, {last} at the end."
    )
    return axis_html(
        [word for word, _ in words],
        f"Probability of {names[1]} after each word",
        f'<div class="curve" id="curve" role="img" aria-label="{page.escape(said)}">{grid}'
        f'<div class="threshold{" high" if threshold > 0.85 else ""}" style="bottom: {100 * threshold:.1f}%">'
        f"<span>threshold {percent(threshold)}</span></div>"
        f'<svg viewBox="0 0 100 100" preserveAspectRatio="none" aria-hidden="true"><polyline points="{line}"/></svg>'
        f"{points}</div>",
    )


def axis_html(words: Sequence[str], title: str, curve: str) -> str:
    """A curve with its title above it and its words below it, which never overlap."""
    step = -(-len(words) // LABELS_ON_AXIS)
    labels = "".join(
        f'<span style="left: {100 * (i + 0.5) / len(words):.2f}%">{page.escape(_short(words[i].strip()))}</span>'
        for i in range(0, len(words), step)
    )
    every = "" if step == 1 else f" (every {_ordinal(step)} word is written)"
    return (
        f'<div class="of-axis">{page.escape(title)}{every}</div>{curve}<div class="axis" aria-hidden="true">{labels}'
        "</div>"
    )


def _short(word: str) -> str:
    return word if len(word) <= 12 else f"{word[:11]}…"


def _ordinal(number: int) -> str:
    return {2: "second", 3: "third"}.get(number, f"{number}th")
