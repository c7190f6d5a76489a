"""Using a model: a readable sampling loop, text as it is written, the spam probability of messages word by word."""

import os
import re
from bisect import bisect_right
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, fields
from itertools import islice
from pathlib import Path

import torch
from tokenizers.decoders import DecodeStream
from transformers import PreTrainedModel, PreTrainedTokenizerBase

from .configuration_gpt_scratch import GPTScratchConfig
from .conversion.source import read_config
from .errors import InputError
from .modeling_gpt_scratch import GPTScratchForSequenceClassification
from .pretrained import load_model
from .tokenizer import is_not_text, load_tokenizer


def choose_tokens(
    logits: torch.Tensor,
    temperature: float = 1.0,
    top_k: int | None = None,
    top_p: float | None = None,
    generators: Sequence[torch.Generator] | None = None,
) -> torch.LongTensor:
    """
    The next token of each row, `(B,)`, from the scores `(B, V)` of all tokens.

    Args:
        temperature: divides the logits: below 1 sharpens the distribution, above 1 flattens it; 0 always takes the
            likeliest token.
        top_k: sample among the so many likeliest tokens only; 0 or `None` for all.
        top_p: sample among the fewest tokens that together have this probability (Holtzman et al. 2020).
        generators: a source of randomness for each row, all on one device; torch's global one by default.
    """
    if temperature == 0:
        return logits.argmax(-1)
    logits = logits.float() / temperature
    if top_k:
        least = logits.topk(min(top_k, logits.shape[-1])).values[:, -1:]  # (B, 1)
        logits = logits.masked_fill(logits < least, -torch.inf)
    if top_p is not None and top_p < 1:
        ordered, order = logits.softmax(-1).sort(descending=True)
        is_needless = ordered.cumsum(-1) - ordered >= top_p
        is_needless[:, 0] = False
        logits = logits.masked_fill(is_needless.gather(-1, order.argsort(-1)), -torch.inf)
    probabilities = logits.softmax(-1)
    if generators is None:
        return torch.multinomial(probabilities, 1)[:, 0]
    rows = zip(probabilities.to(generators[0].device), generators, strict=True)
    return torch.cat([torch.multinomial(row, 1, generator=generator) for row, generator in rows]).to(logits.device)


def penalize_repetition(logits: torch.Tensor, seen: Iterable[Sequence[int]], penalty: float) -> torch.Tensor:
    """
    The scores `(B, V)`; of the tokens that each row has seen, its prompt included, the positive ones are divided by
    `penalty` and the others multiplied: the repetition penalty of CTRL (Keskar et al. 2019, section 4.1), as
    transformers applies it. 1 changes nothing.
    """
    if penalty == 1:
        return logits
    logits = logits.float().clone()
    for row, ids in zip(logits, seen):
        ids = torch.tensor(sorted(set(ids)), device=row.device)
        row[ids] = torch.where(row[ids] > 0, row[ids] / penalty, row[ids] * penalty)
    return logits


def end_tokens(model: PreTrainedModel) -> list[int | None]:
    """The tokens that end a text, which a configuration names as one or as several."""
    ids = model.config.eos_token_id
    return ids if isinstance(ids, list) else [ids]


@torch.no_grad()
def sample(
    model: PreTrainedModel,
    input_ids: torch.LongTensor,
    max_new_tokens: int,
    generator: torch.Generator | None = None,
    repetition_penalty: float = 1.0,
    **choice,
) -> Iterator[int]:
    """
    Yields new tokens one by one until the end token, the sampling loop that `generate` hides.

    Args:
        input_ids: the prompt, `(1, T)`.
        generator: the source of randomness, torch's global one by default.
        repetition_penalty: as for `penalize_repetition`.
        choice: `temperature`, `top_k` and `top_p`, as for `choose_tokens`.
    """
    ends, seen = end_tokens(model), input_ids[0].tolist()
    was_training, past_key_values = model.training, None
    model.eval()
    try:
        for _ in range(max_new_tokens):
            # Past tokens' keys and values are cached, so each step reads only the newest token.
            outputs = model(input_ids, past_key_values=past_key_values, use_cache=True, logits_to_keep=1)
            past_key_values = outputs.past_key_values
            logits = penalize_repetition(outputs.logits[:, -1], [seen], repetition_penalty)  # (1, V)
            token = choose_tokens(logits, generators=generator and [generator], **choice)  # (1,)
            if token.item() in ends:
                return
            yield token.item()
            seen.append(token.item())
            input_ids = token[:, None]
    finally:
        model.train(was_training)


def stream_text(
    model: PreTrainedModel, tokenizer: PreTrainedTokenizerBase, prompt: str, max_new_tokens: int, **sampling
) -> Iterator[str]:
    """
    Yields what the model writes after `prompt`, piece by piece, each as soon as its characters are complete. Ends with
    the end token, after `max_new_tokens`, or where the prompt and the text fill `n_positions` tokens.

    Args:
        prompt: what to go on from; when empty, the text begins as a document does.
        sampling: the settings of `sample`.

    Raises:
        InputError: when the prompt leaves no room.
    """
    limit = model.config.n_positions
    if is_not_text(prompt):
        raise InputError("The prompt is not UTF-8 text.")
    ids = tokenizer(prompt, verbose=False)["input_ids"] or [tokenizer.bos_token_id]
    if None in ids or max(ids) >= model.config.vocab_size:
        raise InputError("The tokenizer does not fit the model: its tokens are not among the model's.")
    if len(ids) >= limit:
        raise InputError(f"The prompt has {len(ids)} tokens; the model reads {limit}, its answer included.")
    input_ids = torch.tensor([ids], device=model.device)
    decoder = DecodeStream(skip_special_tokens=True)
    for token in sample(model, input_ids, min(max_new_tokens, limit - len(ids)), **sampling):
        yield decoder.step(tokenizer.backend_tokenizer, token) or ""


@dataclass(frozen=True)
class Calibration:
    """
    How logits become the probability of label 1, and where that becomes the label; `evaluation/calibration.py` fits
    it to a model and keeps it in the model's configuration, under `calibration`.

    Attributes:
        temperature: divides the log-odds of label 1 (Guo et al. 2017).
        shift: added to them, for another share of label 1 than the model learnt from (Saerens et al. 2002).
        threshold: probabilities above it are label 1.
    """

    temperature: float = 1.0
    shift: float = 0.0
    threshold: float = 0.5

    @classmethod
    def of(cls, config: GPTScratchConfig) -> "Calibration":
        """The one a configuration holds, or that which changes nothing."""
        settings = getattr(config, "calibration", None) or {}
        return cls(**{field.name: settings[field.name] for field in fields(cls) if field.name in settings})

    def probabilities(self, logits: torch.Tensor) -> torch.Tensor:
        """The probability of label 1, `(...)`, from both labels' logits `(..., 2)`."""
        return self.of_log_odds((logits[..., 1] - logits[..., 0]).float())

    def of_log_odds(self, log_odds: torch.Tensor) -> torch.Tensor:
        """The same from the log-odds of label 1 that the model gives."""
        return (log_odds / self.temperature + self.shift).sigmoid()


@dataclass(frozen=True)
class Prediction:
    """A message's label and the probability of label 1 (spam); `truncated` if the model could not read all of it."""

    text: str
    label: str
    probability: float
    truncated: bool


class SpamClassifier:
    """A trained sequence classifier, its tokenizer and its calibration, ready for messages."""

    def __init__(self, model: GPTScratchForSequenceClassification, tokenizer: PreTrainedTokenizerBase):
        self.model = model.eval()
        self.tokenizer = tokenizer
        self.calibration = Calibration.of(model.config)

    @classmethod
    def from_pretrained(cls, folder: str | os.PathLike) -> "SpamClassifier":
        """Loads a local folder; raises `InputError` when it is not a sequence classifier of two labels."""
        settings = read_config(Path(folder), GPTScratchConfig.model_type)
        if settings.get("architectures") != ["GPTScratchForSequenceClassification"]:
            held = " or ".join(settings.get("architectures") or ["model without a head"])
            raise InputError(f"{folder} holds a {held}, not a sequence classifier.")
        model = load_model(GPTScratchForSequenceClassification, folder)
        if model.num_labels != 2:
            raise InputError(f"{folder} has {model.num_labels} labels; this needs two.")
        return cls(model, load_tokenizer(folder))

    def encode(self, texts: list[str]) -> tuple[dict[str, torch.Tensor], list[bool]]:
        """The padded batch and, for each text, whether it had to be cut to `n_positions` tokens."""
        for text in texts:
            if not text.strip():
                raise InputError("A message is empty.")
            if is_not_text(text):
                raise InputError("A message is not UTF-8 text.")
        limit = self.model.config.n_positions
        ids = self.tokenizer([text.strip() for text in texts], truncation=False, verbose=False)["input_ids"]
        batch = self.tokenizer.pad({"input_ids": [row[:limit] for row in ids]}, return_tensors="pt")
        return batch.to(self.model.device), [len(row) > limit for row in ids]

    def classify(self, texts: Iterable[str], batch_size: int = 32) -> Iterator[Prediction]:
        """
        Yields a prediction for each text, in order, reading `batch_size` texts at a time. Where `texts` itself ends
        in an `InputError`, those before it are judged first.

        Raises:
            InputError: for an empty message.
        """
        texts, failure = iter(texts), None
        while failure is None:
            batch = []
            try:
                batch.extend(islice(texts, batch_size))
            except InputError as error:
                failure = error
            if not batch:
                break
            yield from self._classify_batch(batch)
        if failure:
            raise failure

    def _classify_batch(self, texts: list[str]) -> Iterator[Prediction]:
        inputs, truncated = self.encode(texts)
        with torch.no_grad():
            probabilities = self.calibration.probabilities(self.model(**inputs).logits).tolist()
        for text, probability, cut in zip(texts, probabilities, truncated):
            label = self.model.config.id2label[int(probability > self.calibration.threshold)]
            yield Prediction(text, label, probability, cut)

    @torch.no_grad()
    def word_probabilities(self, text: str) -> list[tuple[str, float]]:
        """
        Each word of the message (with the space before it) and the probability of spam after reading up to there; the
        last one is the message's. One pass serves them all, as each token is judged by those before it alone. Words
        the model could not read, past `n_positions` tokens, are left out.
        """
        text = text.strip()
        inputs, _ = self.encode([text])
        encoding = self.tokenizer(text, return_offsets_mapping=True, verbose=False)
        token_logits = self.model(**inputs, output_token_logits=True).token_logits[0]  # (T, 2)
        probabilities = self.calibration.probabilities(token_logits).tolist()
        token_ends = [end for _, end in encoding["offset_mapping"]][: len(probabilities)]
        words, read = [], 0
        for word in re.finditer(r"\s*\S+", text):
            tokens_so_far = bisect_right(token_ends, word.end())
            if tokens_so_far == read:
                break
            read = tokens_so_far
            words.append((word.group(), probabilities[read - 1]))
        return words
