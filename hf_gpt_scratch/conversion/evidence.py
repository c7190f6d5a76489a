"""
What a checkpoint's files do not hold, told by a text: each candidate's perplexity, by the source's own arithmetic.

Open are the settings that a `Source` says it assumed and the user did not give. One after another, the candidates of
each are scored with the others as they stand, and the best is kept for the next; this is repeated until nothing
changes, so that each is judged beside the final values of the others. It begins with the best pair of those
`TOGETHER`, as beside a wrong scale of attention the right number of heads need not be the best. The best is taken when
all of this holds:

- The model predicts the text: its loss is lower than that of the frequencies of the tokens in the text itself. A model
  of random weights, or a text of another language, tells nothing.
- Its lead over the runner-up is at least `LEAD` nats a token. Less may be chance of the training: models trained with
  the exact GELU often score a millionth better with its tanh form.
- The lead is more than `ERRORS` standard errors, of the differences between the two losses of each token.

A window and a LoRA scale are sizes, and the true one may lie between two candidates. So values between the best and
its neighbours are scored too, ever closer, to the token or to about 5 %. Where several are as good as the best, within
`ALIKE` standard errors, the first one scored is taken: the usual values come first. It need not lead those within
`NEAR` of it; a note names them where it does not.

An activation that is not clear does not stop a conversion, as its two forms are so much alike: the default stands.

A new format needs nothing here, if it names the setting in `Source.assumed` and takes it as an option of its
`open_source`; where it cannot do without one, it raises `MissingOption`, and `START` has the first value to try.
"""

from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from itertools import pairwise, product
from pathlib import Path
from typing import Any

import numpy as np
import torch
from transformers import PreTrainedTokenizerBase

from ..data.losses import token_losses
from ..utils.errors import InputError, UsageError
from ..utils.provenance import sha256
from . import independent_forward
from .candidates import CANDIDATES, SIZES, START, TOGETHER, longest
from .choices import STANDING, option, options_of
from .formats import open_source
from .source import MissingOption, Source
from .tokenizers import tokenizer_for

LEAD = 0.01
ERRORS = 4.0
ALIKE = 2.0  # standard errors within which two values are not told apart
NEAR = 1 / 8
TOKENS = 2048  # scored in all
FEWEST = 256
CHARACTERS = 2**17  # read of the text
PASSES = 4  # over the open settings


@dataclass(frozen=True)
class Verdict:
    """
    The candidates of one setting, the best first: each with its loss on every token `(N,)`.

    The best need not lead those that are `near` it.
    """

    setting: str
    losses: dict[Any, np.ndarray]
    near: frozenset = frozenset()

    @property
    def best(self) -> Any:
        return next(iter(self.losses))

    def behind(self, value: Any) -> tuple[float, float]:
        """How many nats a token a candidate is behind the best, and the standard error of that."""
        difference = self.losses[value] - self.losses[self.best]
        return float(difference.mean()), float(difference.std(ddof=1) / len(difference) ** 0.5)

    @property
    def runner_up(self) -> Any:
        """The best of those that the best must lead, or `None`."""
        return next((value for value in list(self.losses)[1:] if value not in self.near), None)

    @property
    def is_clear(self) -> bool:
        if self.runner_up is None:
            return True
        return self._leads(self.runner_up)

    @property
    def as_good(self) -> list:
        """The values near the best that it does not clearly lead."""
        return [value for value in self.near if value != self.best and not self._leads(value)]

    def _leads(self, value: Any) -> bool:
        lead, error = self.behind(value)
        return lead >= LEAD and lead > ERRORS * error

    def shortfall(self) -> str:
        """By how much the best leads, and would have to, for a sentence."""
        lead, error = self.behind(self.runner_up)
        return (
            f"{option(self.setting)} ({self.best} leads {self.runner_up} by {lead:.2g} nats a token, and"
            f" {max(LEAD, ERRORS * error):.2g} are needed)"
        )


@dataclass(frozen=True)
class Evidence:
    """What a text told: a verdict on each open setting, beside the chosen values of the others."""

    text: Path
    tokens: int
    perplexity_of_frequencies: float
    verdicts: list[Verdict]

    @property
    def settled(self) -> dict[str, Any]:
        """The values that the text told clearly."""
        return {verdict.setting: verdict.best for verdict in self.verdicts if verdict.is_clear}

    def table(self) -> list[str]:
        """The lines to print."""
        lines = [
            f"Perplexity on {self.tokens} tokens of {self.text}"
            f" ({self.perplexity_of_frequencies:.2f} by the frequencies of its tokens):",
            f"{'option':<18}{'value':>15}{'perplexity':>14}{'nats behind':>14}{'standard errors':>18}",
        ]
        for verdict in self.verdicts:
            for value in verdict.losses:
                (nats, error), perplexity = verdict.behind(value), _perplexity(verdict.losses[value])
                behind = f"{nats:>14.6f}{nats / error if error else 0.0:>18.1f}" if value != verdict.best else ""
                lines.append(f"{option(verdict.setting):<18}{value!s:>15}{perplexity:>14.4f}{behind}")
        return lines

    def notes(self, assumed: dict[str, Any]) -> list[str]:
        """What the text told less than exactly, given the values that are assumed in the end."""
        notes = []
        for verdict in self.verdicts:
            name, value = option(verdict.setting), assumed[verdict.setting]
            if not verdict.is_clear:
                kept = f"{value}, the default, is kept"
                notes.append(f"{self.text} does not clearly tell {verdict.shortfall()}: {kept}.")
            elif verdict.as_good:
                alike = ", ".join(map(str, sorted(verdict.as_good)))
                notes.append(
                    f"{self.text} tells {name} roughly: {value} is taken, and {alike} would do about as well."
                )
        return notes

    def record(self) -> dict:
        """The same for `conversion.json`."""
        rows = {
            verdict.setting: [
                {"value": value, "perplexity": _perplexity(losses), "nats_behind": nats, "standard_error": error}
                for value, losses in verdict.losses.items()
                for nats, error in [verdict.behind(value)]
            ]
            for verdict in self.verdicts
        }
        facts = {"text_sha256": sha256(self.text), "tokens": self.tokens}
        return {**facts, "perplexity_of_frequencies": self.perplexity_of_frequencies, "candidates": rows}


def settle(
    path: Path,
    format: str,
    options: dict[str, Any],
    tokenizer: str | None,
    text: Path,
    report: Callable[[str], object],
) -> tuple[Source, PreTrainedTokenizerBase | None, Evidence | None]:
    """
    Opens a checkpoint as `open_source` with those values of its open settings that the text tells.

    Args:
        options: what the user gave, which is not scored.
        tokenizer: as for `tokenizer_for`.
        report: is called with each line of the progress and of the table.

    Returns:
        the source, its tokenizer, and the evidence, or `None` where nothing was open.

    Raises:
        UsageError: when the text does not tell a setting clearly, naming its option; without a tokenizer; for a model
            that predicts no text.
        InputError: when the text is too short or not UTF-8.
    """
    options = {name: value for name, value in options.items() if value is not None}
    reopen = partial(_open_with, path, format, options)
    chosen = _first_values(reopen)
    source = reopen(chosen)
    carried = tokenizer_for(source, tokenizer)
    if not _open_settings(source, options):
        report(f"note: {path.name} leaves no setting open, so that {text} was not needed.")
        return source, carried, None
    windows = _read_windows(text, source, carried, options_of(_open_settings(source, options)))
    targets = torch.cat([window[0, 1:] for window in windows])
    scored: dict[tuple, np.ndarray] = {}

    def score(settings: dict[str, Any]) -> np.ndarray:
        key = tuple(sorted(settings.items()))
        if key not in scored:
            scored[key] = _losses(reopen(settings), windows)
            told = ", ".join(f"{option(name)} {value}" for name, value in settings.items())
            report(f"{told}: perplexity {_perplexity(scored[key]):.2f}")
        return scored[key]

    source, verdicts = _descend(reopen, options, chosen, score)
    evidence = Evidence(text, len(targets), _frequency_perplexity(targets), verdicts)
    for line in evidence.table():
        report(line)
    _require_clear(path, evidence)
    for note in evidence.notes(source.assumed):
        report(f"note: {note}")
    return source, carried, evidence


def _open_with(path: Path, format: str, options: dict[str, Any], chosen: dict[str, Any]) -> Source:
    return open_source(path, format, **options, **chosen)


def _open_settings(source: Source, options: dict[str, Any]) -> list[str]:
    return [name for name in source.assumed if name not in options]


def _first_values(reopen: Callable[[dict], Source]) -> dict[str, Any]:
    """A value to begin with for every setting that the format cannot do without."""
    chosen: dict[str, Any] = {}
    while True:
        try:
            reopen(chosen)
            return chosen
        except MissingOption as missing:
            if missing.name in chosen or missing.name not in START:
                raise
            chosen[missing.name] = START[missing.name]


def _read_windows(
    text: Path, source: Source, tokenizer: PreTrainedTokenizerBase | None, wanted: str
) -> list[torch.Tensor]:
    """The text's tokens, `(1, T)` each, T as long as the model reads."""
    if source.architecture != "GPTScratchForCausalLM":
        raise UsageError(f"--calibration-text goes with language models, and this is a classifier: pass {wanted}.")
    if tokenizer is None:
        raise UsageError("--calibration-text needs the model's tokenizer: pass it as --tokenizer DIR.")
    try:
        with open(text, encoding="utf-8-sig") as file:
            content = file.read(CHARACTERS)
    except UnicodeDecodeError as error:
        raise InputError(f"{text} is not UTF-8 text ({error.reason}).") from None
    ids = torch.tensor(tokenizer(content, verbose=False)["input_ids"], dtype=torch.long)[:TOKENS]
    if len(ids) < FEWEST:
        raise InputError(
            f"{text} is too short to tell anything: it has {len(ids)} tokens, of which {FEWEST} are needed."
        )
    return [window[None] for window in ids.split(longest(source)) if len(window) > 1]


def _losses(source: Source, windows: list[torch.Tensor]) -> np.ndarray:
    """The loss of each token `(N,)`; infinite where the arithmetic overflows."""
    config, tensors = source.config, source.originals or source.tensors
    sizes = config.n_layer, config.n_head, config.layer_norm_epsilon
    losses = []
    for ids in windows:
        logits = independent_forward.logits(tensors, source.arithmetic, *sizes, ids)
        losses.append(token_losses(logits, ids)[0].double().numpy())
    return np.nan_to_num(np.concatenate(losses), nan=1e9, posinf=1e9)


def _descend(
    reopen: Callable[[dict], Source],
    options: dict[str, Any],
    chosen: dict[str, Any],
    score: Callable[[dict], np.ndarray],
) -> tuple[Source, list[Verdict]]:
    """The source with the best values found, and the verdict on each beside the others."""
    source = reopen(chosen)
    defaults, chosen = source.assumed, {name: source.assumed[name] for name in _open_settings(source, options)}
    if chosen.keys() >= set(TOGETHER):
        pairs = [dict(zip(TOGETHER, pair)) for pair in product(*(CANDIDATES[name](source) for name in TOGETHER))]
        source = reopen(chosen | min(pairs, key=lambda pair: score(chosen | pair).mean()))
    for _ in range(PASSES):
        chosen = {name: source.assumed[name] for name in _open_settings(source, options)}
        before, verdicts = chosen, []
        for name in list(chosen):
            if name not in chosen:  # a window stride without a window any more
                continue
            verdict = _judge(name, source, lambda value, name=name, rest=chosen: score({**rest, name: value}))
            verdicts.append(verdict)
            stands = name in STANDING and not verdict.is_clear
            source = reopen({**chosen, name: defaults[name] if stands else verdict.best})
            chosen = {name: source.assumed[name] for name in _open_settings(source, options)}
        if chosen == before:
            break
    return source, verdicts


def _judge(name: str, source: Source, score: Callable[[Any], np.ndarray]) -> Verdict:
    """The verdict on one setting, of which `score` has the losses."""
    losses = {value: score(value) for value in CANDIDATES[name](source)}
    losses = dict(sorted(losses.items(), key=lambda item: item[1].mean()))
    if name not in SIZES:
        return Verdict(name, losses)
    size = partial(_size, source)
    _refine(losses, size, score, finest=1 if name == "window" else 0)
    by_loss = Verdict(name, dict(sorted(losses.items(), key=lambda item: item[1].mean())))
    taken = next(value for value in losses if _is_alike(*by_loss.behind(value)))  # of the first grid, if one is
    near = {value for value in losses if abs(size(value) - size(taken)) <= max(name == "window", NEAR * size(taken))}
    return Verdict(name, {taken: losses[taken], **by_loss.losses}, frozenset(near))


def _is_alike(lag: float, error: float) -> bool:
    return lag < LEAD and lag <= ALIKE * error


def _size(source: Source, value: float) -> float:
    """A window or a scale as a size: no window is one of all tokens."""
    return value or longest(source)


def _refine(losses: dict, size: Callable[[Any], float], score: Callable[[Any], np.ndarray], finest: int) -> None:
    """Adds values half-way between the best and its neighbours, until those are `finest`, or 6 %, away."""
    while True:
        best = min(losses, key=lambda value: losses[value].mean())
        ordered = sorted(losses, key=size)
        place = ordered.index(best)
        around = map(size, ordered[max(place - 1, 0) : place + 2])
        gaps = [(low, high) for low, high in pairwise(around) if high - low > (finest or 0.06 * size(best))]
        if not gaps:
            return
        for low, high in gaps:
            value = (low + high) // 2 if finest else (low + high) / 2
            losses[value] = score(value)


def _perplexity(losses: np.ndarray) -> float:
    return float(np.exp(min(losses.mean(), 700.0)))


def _frequency_perplexity(targets: torch.Tensor) -> float:
    """That of the tokens' own frequencies among them, the best that a model without context could do."""
    counts = np.array(list(Counter(targets.tolist()).values()))
    return float(np.exp(-(counts / counts.sum() * np.log(counts / counts.sum())).sum()))


def _require_clear(path: Path, evidence: Evidence) -> None:
    """Raises `UsageError` unless the text tells every setting but those whose default may stand."""
    wanted = options_of(verdict.setting for verdict in evidence.verdicts)
    perplexity = min(_perplexity(verdict.losses[verdict.best]) for verdict in evidence.verdicts)
    if perplexity >= evidence.perplexity_of_frequencies:
        raise UsageError(
            f"{path} predicts {evidence.text} no better than the frequencies of its tokens do (perplexity"
            f" {perplexity:.2f} against {evidence.perplexity_of_frequencies:.2f}), so that it tells nothing: pass"
            f" {wanted}, or a text like those that the model was trained on."
        )
    unclear = [verdict for verdict in evidence.verdicts if not verdict.is_clear and verdict.setting not in STANDING]
    if unclear:
        leads = " and ".join(verdict.shortfall() for verdict in unclear)
        settings = [verdict.setting for verdict in unclear]
        none = " (--window 0 for a model without one)" if "window" in settings else ""
        raise UsageError(f"{evidence.text} does not clearly tell {leads}: pass {options_of(settings)}{none}.")
