"""
What a checkpoint's files do not hold, told by a text: each candidate's perplexity, by the source's own arithmetic.

Open are the settings that a `Source` says it assumed and the user did not give. One after another, the candidates of
each are scored with the others as they stand, and the best is kept for the next; this is repeated until nothing
changes, so that each is judged beside the final values of the others. The best is taken when all of this holds:

- The model predicts the text: its loss is lower than that of the frequencies of the tokens in the text itself. A model
  of random weights, or a text of another language, tells nothing.
- Its lead over the runner-up is at least `LEAD` nats a token. Less may be chance of the training: models trained with
  the exact GELU often score a millionth better with its tanh form.
- The lead is more than `ERRORS` standard errors, of the differences between the two losses of each token.

A new format needs nothing here, if it names the setting in `Source.assumed` and takes it as an option of its
`open_source`; where it cannot do without one, it raises `MissingOption`, and `START` has the first value to try.
"""

from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from transformers import PreTrainedTokenizerBase

from ..data.losses import token_losses
from ..utils.errors import InputError, UsageError
from ..utils.provenance import sha256
from . import independent_forward
from .choices import ACTIVATIONS, option, options_of
from .formats import open_source
from .source import MissingOption, Source
from .tokenizers import tokenizer_for

LEAD = 0.01
ERRORS = 4.0
LONGEST = 1024  # tokens of a window of text
TOKENS = 2048  # scored in all
FEWEST = 256
CHARACTERS = 2**17  # read of the text
PASSES = 4  # over the open settings
START: dict[str, Any] = {"n_head": 1, "lora_scale": 1.0, "activation": ACTIVATIONS[0]}


def _head_counts(source: Source) -> list[int]:
    """The divisors of the width that leave each head 8 dimensions or more."""
    width = source.config.n_embd
    return [n for n in range(1, max(1, width // 8) + 1) if width % n == 0]


def _windows(source: Source) -> list[int]:
    """None, the powers of two, and what is half-way between."""
    shorter = (width << power for power in range(1, 12) for width in (2, 3))
    return [0, *(width for width in shorter if width < min(source.config.n_positions, LONGEST))]


def _strides(source: Source) -> list[int]:
    """A window in all blocks, or in all but every second, third, ..., last one."""
    return [-1, *range(1, min(source.config.n_layer, 9))]


def _lora_scales(source: Source) -> list[float]:
    """The powers of two, and alpha or alpha / rank for an alpha of the rank, twice or half of it."""
    tensors = source.originals or source.tensors
    ranks = {shape[1] for name, shape in tensors.shapes.items() if name.endswith(".lora.A")}
    return sorted({2.0**power for power in range(-3, 8)} | {rank * part for rank in ranks for part in (0.5, 1.0, 2.0)})


CANDIDATES: dict[str, Callable[[Source], list]] = {
    "n_head": _head_counts,
    "window": _windows,
    "window_stride": _strides,
    "lora_scale": _lora_scales,
    "activation": lambda source: list(ACTIVATIONS),
}


@dataclass(frozen=True)
class Verdict:
    """
    The candidates of one setting, the best first: each with its loss on every token `(N,)`.

    `lead` is how many nats a token the best is ahead of the second, and `error` the standard error of that.
    """

    setting: str
    losses: dict[Any, np.ndarray]

    @property
    def best(self) -> Any:
        return next(iter(self.losses))

    def behind(self, value: Any) -> tuple[float, float]:
        """How many nats a token a candidate is behind the best, and the standard error of that."""
        difference = self.losses[value] - self.losses[self.best]
        return float(difference.mean()), float(difference.std(ddof=1) / len(difference) ** 0.5)

    @property
    def is_clear(self) -> bool:
        if len(self.losses) == 1:
            return True
        lead, error = self.behind(list(self.losses)[1])
        return lead >= LEAD and lead > ERRORS * error


@dataclass(frozen=True)
class Evidence:
    """What a text told: a verdict on each open setting, beside the chosen values of the others."""

    text: Path
    tokens: int
    perplexity_of_frequencies: float
    verdicts: list[Verdict]

    def table(self) -> list[str]:
        """The lines to print."""
        lines = [
            f"Perplexity on {self.tokens} tokens of {self.text}"
            f" ({self.perplexity_of_frequencies:.2f} by the frequencies of its tokens):",
            f"{'option':<16}{'value':>10}{'perplexity':>14}{'nats behind':>14}{'standard errors':>18}",
        ]
        for verdict in self.verdicts:
            for value in verdict.losses:
                (nats, error), perplexity = verdict.behind(value), _perplexity(verdict.losses[value])
                behind = f"{nats:>14.6f}{nats / error if error else 0.0:>18.1f}" if value != verdict.best else ""
                lines.append(f"{option(verdict.setting):<16}{value!s:>10}{perplexity:>14.4f}{behind}")
        return lines

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
    length = min(source.config.n_positions, LONGEST)
    return [window[None] for window in ids.split(length) if len(window) > 1]


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
    for _ in range(PASSES):
        chosen = {name: source.assumed[name] for name in _open_settings(source, options)}
        before, verdicts = chosen, []
        for name in list(chosen):
            if name not in chosen:  # a window stride without a window any more
                continue
            losses = {value: score({**chosen, name: value}) for value in CANDIDATES[name](source)}
            ranked = dict(sorted(losses.items(), key=lambda item: item[1].mean()))
            verdicts.append(Verdict(name, ranked))
            source = reopen({**chosen, name: verdicts[-1].best})
            chosen = {name: source.assumed[name] for name in _open_settings(source, options)}
        if chosen == before:
            break
    return source, verdicts


def _perplexity(losses: np.ndarray) -> float:
    return float(np.exp(min(losses.mean(), 700.0)))


def _frequency_perplexity(targets: torch.Tensor) -> float:
    """That of the tokens' own frequencies among them, the best that a model without context could do."""
    counts = np.array(list(Counter(targets.tolist()).values()))
    return float(np.exp(-(counts / counts.sum() * np.log(counts / counts.sum())).sum()))


def _require_clear(path: Path, evidence: Evidence) -> None:
    """Raises `UsageError` unless the text tells every setting."""
    wanted = options_of(verdict.setting for verdict in evidence.verdicts)
    perplexity = min(_perplexity(verdict.losses[verdict.best]) for verdict in evidence.verdicts)
    if perplexity >= evidence.perplexity_of_frequencies:
        raise UsageError(
            f"{path} predicts {evidence.text} no better than the frequencies of its tokens do (perplexity"
            f" {perplexity:.2f} against {evidence.perplexity_of_frequencies:.2f}), so that it tells nothing: pass"
            f" {wanted}, or a text like those that the model was trained on."
        )
    unclear = [verdict for verdict in evidence.verdicts if not verdict.is_clear]
    if unclear:
        leads = " and ".join(
            f"{option(verdict.setting)} ({first} leads {second} by {verdict.behind(second)[0]:.2g} nats a token, and"
            f" {max(LEAD, ERRORS * verdict.behind(second)[1]):.2g} are needed)"
            for verdict in unclear
            for first, second in [list(verdict.losses)[:2]]
        )
        raise UsageError(
            f"{evidence.text} does not clearly tell {leads}: pass {options_of(v.setting for v in unclear)}."
        )
