"""A trained sequence classifier that takes texts, whole or word by word."""

import os
import re
from bisect import bisect_right
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from itertools import islice

import torch
from transformers import PreTrainedTokenizerBase

from ..model_folder.contents import ModelFolder
from ..modeling_gpt_scratch import GPTScratchForSequenceClassification
from ..pretrained import held_class, load_pretrained, place, resolve_device
from ..tokenizer import load_tokenizer
from ..utils.errors import InputError
from ..utils.text import has_lone_surrogates
from .calibration import Calibration


@dataclass(frozen=True)
class Prediction:
    """A message's label and the probability of label 1 (spam); `truncated` if it was longer than the model reads."""

    text: str
    label: str
    probability: float
    truncated: bool


class TextClassifier:
    """
    A trained sequence classifier with two labels, its tokenizer and its calibration.

    It takes texts (`str`) that are not empty, and reads the first `n_positions` tokens of each. The label is that of
    `config.id2label`: label 1 where its probability is above the calibration's threshold.

    Args:
        model: with two labels; it is put into evaluation mode.
        tokenizer: of the model.

    Raises:
        InputError: when the model is a language model.

    Examples:
        >>> from hf_gpt_scratch import TextClassifier
        >>> classifier = TextClassifier.from_pretrained("runs/demo/spam")  # doctest: +SKIP
        >>> for prediction in classifier.classify(["You have won a prize", "See you at home"]):  # doctest: +SKIP
        ...     print(prediction.label, prediction.probability)
        >>> for word, probability in classifier.word_probabilities("You have won a prize"):  # doctest: +SKIP
        ...     print(word, probability)  # that of label 1, after each word
    """

    def __init__(self, model: GPTScratchForSequenceClassification, tokenizer: PreTrainedTokenizerBase):
        if model.can_generate():
            raise InputError(
                f"A {type(model).__name__} is a language model, not a classifier: train a classifier with"
                " `hf-gpt-scratch train spam`, or use it with `generate` or `Chat`."
            )
        self.model: GPTScratchForSequenceClassification = model.eval()
        self.tokenizer = tokenizer
        self.calibration = Calibration.of(model.config)

    @classmethod
    def from_pretrained(
        cls,
        name_or_path: str | os.PathLike,
        device: str | torch.device = "auto",
        dtype: str | torch.dtype = "auto",
        report: Callable[[str], object] = lambda sentence: None,
    ) -> "TextClassifier":
        """
        Loads a sequence classifier of two labels.

        Args:
            name_or_path: a folder or a Hub repository.
            device, dtype: as for `load`.
            report: is called with a sentence that says which device and data type are used.

        Raises:
            InputError: when it holds no such model, or no tokenizer, or the device is not available.
        """
        device = resolve_device(device)  # before anything is downloaded
        folder = ModelFolder.resolve(name_or_path)
        held = held_class(folder)
        if held == "GPTScratchForCausalLM":
            raise InputError(
                f"{name_or_path} holds a language model, not a classifier: use `hf-gpt-scratch generate"
                f" {name_or_path}`, or train a classifier from it with `hf-gpt-scratch train spam --model_name_or_path"
                f" {name_or_path}`."
            )
        if not folder.is_adapter:
            folder.require_native()
        if held != "GPTScratchForSequenceClassification":
            raise InputError(f"{name_or_path} holds a {held or 'model without a head'}, not a sequence classifier.")
        # The head of an adapter is in the adapter, not in the base model.
        model = load_pretrained(GPTScratchForSequenceClassification, folder, new_head=folder.is_adapter)
        if model.num_labels != 2:
            raise InputError(f"{name_or_path} has {model.num_labels} labels; `TextClassifier` takes two.")
        tokenizer = load_tokenizer(folder.path)
        return cls(place(model, folder, device, dtype, report), tokenizer)

    def encode(self, texts: list[str]) -> tuple[dict[str, torch.Tensor], list[bool]]:
        """The padded batch, and for each text whether it was cut to `n_positions` tokens."""
        for text in texts:
            if not text.strip():
                raise InputError("A message is empty.")
            if has_lone_surrogates(text):
                raise InputError("A message is not UTF-8 text.")
        limit = self.model.config.n_positions
        ids = self.tokenizer([text.strip() for text in texts], truncation=False, verbose=False)["input_ids"]
        batch = self.tokenizer.pad({"input_ids": [row[:limit] for row in ids]}, return_tensors="pt")
        return batch.to(self.model.device), [len(row) > limit for row in ids]

    def classify(self, texts: Iterable[str], batch_size: int = 32) -> Iterator[Prediction]:
        """
        Yields a prediction for each text, in order, `batch_size` texts per forward pass. Where `texts` itself raises
        an `InputError`, those before it are classified first.

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
        Each word of the message (with the space before it) and the probability of spam after reading up to it; the
        last one is that of the message. One forward pass gives them all, as attention is causal. Words past
        `n_positions` tokens, which the model cannot read, are omitted.
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
