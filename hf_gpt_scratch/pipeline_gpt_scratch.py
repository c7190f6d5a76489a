"""
From a text to its label. Read it from top to bottom:

    windows                which tokens of a text are read together
    read_texts             the logits after each of them, of texts of similar length at a time
    words_read             the words of a text that those tokens make up
    Calibration            from logits to probabilities, and from those to a `Verdict`
    GPTScratchTextClassificationPipeline: all of it behind `pipeline(..., trust_remote_code=True)`

This file travels to the Hub with every saved model, so it imports only torch and transformers. `TextClassifier` of the
package computes with the same functions.

Shapes are written with B = texts, T = tokens that are read, K = labels.
"""

import re
from bisect import bisect_right
from collections import Counter, defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, fields

import torch
from torch.nn.utils.rnn import pad_sequence
from transformers import TextClassificationPipeline


def windows(length: int, config) -> list[slice]:
    """
    Which tokens of a text of `length` tokens the model reads together, at most `n_positions` of them, by
    `config.long_texts`: the "first" ones, the "last" ones, or all of them in "windows", one after the other.
    """
    limit, long_texts = config.n_positions, getattr(config, "long_texts", "first")
    if long_texts == "windows":
        return [slice(start, min(start + limit, length)) for start in range(0, length, limit)]
    start = max(length - limit, 0) if long_texts == "last" else 0
    return [slice(start, min(start + limit, length))]


def read_texts(model, rows: Sequence[Sequence[int]], most_tokens: int = 2048) -> list[torch.Tensor]:
    """The logits that `read_in_batches` yields, of each row in its place."""
    read = dict(read_in_batches(model, rows, most_tokens))
    return [read[number] for number in range(len(rows))]


@torch.inference_mode()
def read_in_batches(
    model, rows: Sequence[Sequence[int]], most_tokens: int = 2048
) -> Iterator[tuple[int, torch.Tensor]]:
    """
    Yields the number of each row of token ids and the logits `(T, K)` after every token of it that is read, on the
    CPU, as soon as they are known: shorter rows first. The last logits are those of the whole text. Of the windows of
    a long text each counts by its number of tokens.
    """
    cut = [(number, ids[window]) for number, ids in enumerate(rows) for window in windows(len(ids), model.config)]
    unread, read = Counter(number for number, _ in cut), defaultdict(dict)
    for batch in batches([len(window) for _, window in cut], most_tokens, model.device.type == "cpu"):
        ids = [torch.tensor(cut[place][1]) for place in batch]
        mask = pad_sequence([torch.ones_like(window) for window in ids], batch_first=True)  # 0 for padding
        padded = pad_sequence(ids, batch_first=True).to(model.device)
        mask = mask.to(model.device)
        found = model(input_ids=padded, attention_mask=mask, use_cache=False, output_token_logits=True)
        for place, logits in zip(batch, found.token_logits.cpu()):
            number, window = cut[place]
            read[number][place] = logits[: len(window)]
            unread[number] -= 1
            if not unread[number]:
                yield number, pooled([logits for _, logits in sorted(read.pop(number).items())])


def batches(lengths: Sequence[int], most_tokens: int, saves_padding: bool = True) -> list[list[int]]:
    """
    Numbers of rows of these lengths, the shortest first, in batches of similar lengths. With its padding a batch has
    at most `most_tokens` tokens, or one row.

    Args:
        saves_padding: whether a batch of 128 tokens or more also ends where over a sixteenth of it would be padding:
            on a CPU each token costs time, on a GPU rather each batch.
    """
    order, done, batch, tokens = sorted(range(len(lengths)), key=lengths.__getitem__), [], [], 0
    for number in order:
        length = lengths[number]
        padded, real = length * (len(batch) + 1), length + tokens
        if batch and (padded > most_tokens or (saves_padding and tokens >= 128 and padded - real > padded / 16)):
            done.append(batch)
            batch, tokens = [], 0
        batch.append(number)
        tokens += length
    return [*done, batch] if batch else done


def pooled(parts: Sequence[torch.Tensor]) -> torch.Tensor:
    """After each token, the mean of the logits of the windows so far, `(T, K)` of each, weighted by their tokens."""
    if len(parts) == 1:
        return parts[0]
    after, total, tokens = [], 0.0, 0  # the sum of tokens * logits of the windows that are complete, and their tokens
    for logits in parts:
        logits = logits.to(torch.promote_types(logits.dtype, torch.float32))
        count = torch.arange(1, len(logits) + 1).unsqueeze(1)  # (T, 1)
        after.append((total + count * logits) / (tokens + count))
        total, tokens = total + len(logits) * logits[-1], tokens + len(logits)
    return torch.cat(after)


def words_read(text: str, token_ends: Sequence[int], config) -> list[tuple[str, int]]:
    """
    The words of a text that are read, each with the space before it, and where in `read_texts` its last token stands.

    Args:
        token_ends: where in the text each token ends, from the tokenizer's `offset_mapping`.
    """
    spans = windows(len(token_ends), config)
    first, stop = spans[0].start, spans[-1].stop
    words, read = [], first
    for word in re.finditer(r"\s*\S+", text):
        tokens_so_far = min(bisect_right(token_ends, word.end()), stop)
        if tokens_so_far > read:
            read = tokens_so_far
            words.append((word.group(), read - 1 - first))
    return words


@dataclass(frozen=True)
class Verdict:
    """
    What is said of a text.

    Attributes:
        label: the most probable of `labels`, or the `outside_label` where there is none.
        labels: one label; with several labels a text, all whose probability is above their threshold.
        score: the probability of `label`; that of the most probable label where `label` is the outside one.
    """

    label: str
    labels: tuple[str, ...]
    score: float

    @property
    def is_outside(self) -> bool:
        return not self.labels


@dataclass(frozen=True)
class Calibration:
    """
    How logits become probabilities, and those a label. `hf-gpt-scratch calibrate` fits it to a model and keeps it in
    config.json under `calibration`.

    Attributes:
        temperature: divides the logits (Guo et al. 2017).
        shift: with two labels added to the log-odds of label 1, else K numbers added to the K logits, where the shares
            of the labels differ from the training set's (Saerens et al. 2002).
        threshold: with two labels, label 1 is said above it; with several labels a text, one number or K, above which
            a label is said; with more labels K numbers, and where the most probable label is not above its own, the
            text is outside. Without them the most probable label is said.
        outside_threshold: where no probability is above it, the text is outside.
        outside_label: what is then said.
        early: for an agreement with the verdict on the whole text, such as "0.99", a table with the `threshold` that
            the confidence after a word must be above.
        is_multi_label: whether a text may have several labels.
    """

    temperature: float = 1.0
    shift: float | Sequence[float] = 0.0
    threshold: float | Sequence[float] | None = 0.5
    outside_threshold: float | None = None
    outside_label: str = "outside"
    early: dict | None = None
    is_multi_label: bool = False

    @classmethod
    def of(cls, config) -> "Calibration":
        """The calibration in a configuration, or one that changes nothing."""
        settings = getattr(config, "calibration", None) or {}
        known = {field.name: settings[field.name] for field in fields(cls) if settings.get(field.name) is not None}
        is_multi_label = getattr(config, "problem_type", None) == "multi_label_classification"
        return cls(**{**known, "is_multi_label": is_multi_label})

    def probabilities(self, logits: torch.Tensor) -> torch.Tensor:
        """The probabilities of the labels, `(..., K)`, from their logits `(..., K)`."""
        logits = logits.to(torch.promote_types(logits.dtype, torch.float32))
        if logits.shape[-1] == 2 and not self.is_multi_label:
            log_odds = (logits[..., 1] - logits[..., 0]) / self.temperature + self.shift
            return torch.stack([-log_odds, log_odds], -1).sigmoid()
        logits = logits / self.temperature + logits.new_tensor(self.shift)
        return logits.sigmoid() if self.is_multi_label else logits.softmax(-1)

    def of_log_odds(self, log_odds: torch.Tensor) -> torch.Tensor:
        """The probability of label 1 of two, from the model's log-odds of it."""
        return (log_odds / self.temperature + self.shift).sigmoid()

    def decide(self, probabilities: torch.Tensor) -> torch.Tensor:
        """
        From probabilities `(..., K)` the index of the label, `(...)`, -1 for outside; with several labels a text which
        labels are said, `(..., K)`.
        """
        probabilities = probabilities.double()  # in which thresholds are
        best, label = probabilities.max(-1)
        is_outside = torch.zeros_like(best, dtype=torch.bool)
        if self.outside_threshold is not None:
            is_outside = best <= self.outside_threshold
        thresholds = probabilities.new_tensor(self.threshold if self.threshold is not None else 0.5)
        if self.is_multi_label:
            return (probabilities > thresholds) & ~is_outside.unsqueeze(-1)
        if probabilities.shape[-1] == 2:
            label = (probabilities[..., 1] > thresholds).long()
        elif thresholds.ndim:
            is_outside = is_outside | (best <= thresholds[label])
        return label.masked_fill(is_outside, -1)

    def confidence(self, probabilities: torch.Tensor) -> torch.Tensor:
        """
        How sure the verdicts of `decide` are, `(...)`: the probability of the label, 0 for outside, which is never
        said early; with several labels a text, the probability of the most doubtful of the K decisions.
        """
        said = self.decide(probabilities)
        if self.is_multi_label:
            return torch.where(said, probabilities, 1 - probabilities).amin(-1)
        probability = probabilities.gather(-1, said.clamp(min=0).unsqueeze(-1)).squeeze(-1)
        return probability.masked_fill(said < 0, 0.0)

    def verdict(self, probabilities: torch.Tensor, id2label) -> Verdict:
        """The verdict on one text from its probabilities `(K,)`."""
        return self.verdicts(probabilities.unsqueeze(0), id2label)[0]

    def verdicts(self, probabilities: torch.Tensor, id2label) -> list[Verdict]:
        """The verdicts on texts from their probabilities `(B, K)`."""
        verdicts = []
        for said, found in zip(self.decide(probabilities).tolist(), probabilities.tolist()):
            if self.is_multi_label:
                chosen = [label for label, is_said in enumerate(said) if is_said]
            else:
                chosen = [said] if said >= 0 else []
            if chosen:
                best = max(chosen, key=found.__getitem__)
                verdicts.append(Verdict(id2label[best], tuple(id2label[label] for label in chosen), found[best]))
            else:
                verdicts.append(Verdict(self.outside_label, (), max(found)))
        return verdicts

    def early_threshold(self, agreement: float) -> float:
        """
        The confidence above which a verdict after a word is taken as final.

        Raises:
            ValueError: where none was fitted for that agreement.
        """
        fitted = {float(name): entry for name, entry in (self.early or {}).items()}
        if float(agreement) in fitted:
            return fitted[float(agreement)]["threshold"]
        if not fitted:
            raise ValueError("The model has no table of early verdicts: fit it with `hf-gpt-scratch calibrate DIR`.")
        known = ", ".join(f"{one:g}" for one in sorted(fitted))
        raise ValueError(f"No early verdict was fitted for an agreement of {agreement:g}; the model has {known}.")

    def decided_at(self, probabilities: torch.Tensor, agreement: float) -> int | None:
        """After how many words, of probabilities `(words, K)`, the verdict is as good as final, if it ever is."""
        is_sure = self.confidence(probabilities) > self.early_threshold(agreement)
        return int(is_sure.nonzero()[0]) + 1 if is_sure.any() else None


class GPTScratchTextClassificationPipeline(TextClassificationPipeline):
    """
    transformers' pipeline, with the calibration, the thresholds and the reading of long texts that config.json holds.

    It returns the verdict on each text: `label` and `score`, and with several labels a text `labels`. With `top_k` it
    returns the probabilities of that many labels, as transformers' own does. Two parameters more:

        words=True       also `words`: after each word its `label`, `score` and the `scores` of all labels
        decide_at=0.99   also `decided_at`: after how many words the verdict agrees with that on the whole text in 99 %
                         of texts; `None` where only the whole text decides
    """

    def check_model_type(self, supported_models):
        """Any sequence classifier that names this pipeline in its config.json is supported."""

    def _sanitize_parameters(self, words=None, decide_at=None, **kwargs):
        preprocess, forward, postprocess = super()._sanitize_parameters(**kwargs)
        own = {"words": words, "decide_at": decide_at}
        own = {name: value for name, value in own.items() if value is not None}
        if own and postprocess:
            raise ValueError(f"{' and '.join(own)} cannot be used with {' and '.join(postprocess)}.")
        return preprocess, forward, {**postprocess, **own}

    def preprocess(self, inputs, **tokenizer_kwargs):
        text = inputs.strip() if isinstance(inputs, str) else inputs
        if not text:
            raise ValueError("A text is empty.")
        # Special tokens that are spelled in a text are its characters, as in training.
        tokenizer_kwargs = {"split_special_tokens": True, "verbose": False, **tokenizer_kwargs}
        encoded = super().preprocess(text, **tokenizer_kwargs)
        mask = encoded.get("attention_mask", torch.ones_like(encoded["input_ids"]))
        return {"input_ids": encoded["input_ids"], "attention_mask": mask, "text": text}

    def _forward(self, model_inputs):
        ids, mask = model_inputs["input_ids"], model_inputs["attention_mask"].bool()  # (B, T)
        read = read_texts(self.model, [row[is_real].tolist() for row, is_real in zip(ids, mask)])
        return {"logits": torch.stack([logits[-1] for logits in read]), "read": read, "text": model_inputs["text"]}

    def postprocess(self, model_outputs, words=False, decide_at=None, **kwargs):
        if kwargs.get("function_to_apply") is not None:
            return super().postprocess(model_outputs, **kwargs)
        config = self.model.config
        calibration = Calibration.of(config)
        probabilities = calibration.probabilities(model_outputs["logits"][0])
        if not kwargs.get("_legacy", True):  # top_k was given
            scores = [{"label": config.id2label[k], "score": score} for k, score in enumerate(probabilities.tolist())]
            return sorted(scores, key=lambda one: one["score"], reverse=True)[: kwargs["top_k"]]
        result = self._shown(probabilities)
        if words or decide_at is not None:
            names, logits = self._words(model_outputs["text"], model_outputs["read"][0])
            after = calibration.probabilities(logits)  # (words, K)
        if words:
            labels = list(config.id2label.values())
            result["words"] = [
                {"word": name.strip(), **self._shown(one), "scores": dict(zip(labels, one.tolist()))}
                for name, one in zip(names, after)
            ]
        if decide_at is not None:
            result["decided_at"] = calibration.decided_at(after, decide_at)
        return result

    def _shown(self, probabilities):
        calibration = Calibration.of(self.model.config)
        verdict = calibration.verdict(probabilities, self.model.config.id2label)
        shown = {"label": verdict.label, "score": verdict.score}
        return {**shown, "labels": list(verdict.labels)} if calibration.is_multi_label else shown

    def _words(self, text, logits):
        """The words of a text, and the logits after each of them, `(words, K)`, of those after its tokens."""
        if not isinstance(text, str):
            raise ValueError("words and decide_at take texts, not pairs of them.")
        options = {"return_offsets_mapping": True, "split_special_tokens": True, "verbose": False}
        offsets = self.tokenizer(text, **options)["offset_mapping"]
        words = words_read(text, [end for _, end in offsets], self.model.config)
        places = [place for _, place in words if place < len(logits)]  # fewer where the tokenizer was told to cut
        return [word for word, _ in words[: len(places)]], logits[places]


__all__ = ["Calibration", "GPTScratchTextClassificationPipeline"]
