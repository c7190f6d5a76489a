"""A trained sequence classifier, ready for texts: whole ones and word by word."""

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
from ..pretrained import load_pretrained, place, resolve_device
from ..tokenizer import load_tokenizer
from ..utils.errors import InputError
from ..utils.text import has_lone_surrogates
from .calibration import Calibration


@dataclass(frozen=True)
class Prediction:
    """A message's label and the probability of label 1 (spam); `truncated` if the model could not read all of it."""

    text: str
    label: str
    probability: float
    truncated: bool


class TextClassifier:
    """
    A trained sequence classifier of two labels, its tokenizer and its calibration, ready for texts.

    It takes texts (`str`) that are not empty; of one with more than the model's `n_positions` tokens the first are
    read. The label is that of `config.id2label`: label 1 where its probability is above the calibration's threshold.

    Args:
        model: with two labels; it is put into evaluation mode.
        tokenizer: of the model.

    Example:
        >>> from hf_gpt_scratch import TextClassifier
        >>> classifier = TextClassifier.from_pretrained("runs/demo/spam")  # doctest: +SKIP
        >>> for prediction in classifier.classify(["You have won a prize", "See you at home"]):  # doctest: +SKIP
        ...     print(prediction.label, prediction.probability)
        >>> for word, probability in classifier.word_probabilities("You have won a prize"):  # doctest: +SKIP
        ...     print(word, probability)  # that of label 1, after each word
    """

    def __init__(self, model: GPTScratchForSequenceClassification, tokenizer: PreTrainedTokenizerBase):
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
        folder.require_native()
        if folder.architectures != ["GPTScratchForSequenceClassification"]:
            held = " or ".join(folder.architectures or ["model without a head"])
            raise InputError(f"{folder} holds a {held}, not a sequence classifier.")
        model = load_pretrained(GPTScratchForSequenceClassification, folder)
        if model.num_labels != 2:
            raise InputError(f"{folder} has {model.num_labels} labels; `TextClassifier` takes two.")
        tokenizer = load_tokenizer(folder.path)
        return cls(place(model, folder, device, dtype, report), tokenizer)

    def encode(self, texts: list[str]) -> tuple[dict[str, torch.Tensor], list[bool]]:
        """The padded batch and, for each text, whether it had to be cut to `n_positions` tokens."""
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
        the model could not read, past `n_positions` tokens, are omitted.
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
