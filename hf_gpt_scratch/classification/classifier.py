"""A trained sequence classifier that takes texts, whole or word by word."""

import os
from collections.abc import Callable, Iterable, Iterator, Sequence

import torch
from transformers import PreTrainedTokenizerBase

from ..model_folder.contents import ModelFolder
from ..model_folder.onnx_files import is_onnx_folder
from ..modeling_gpt_scratch import GPTScratchForSequenceClassification
from ..pipeline_gpt_scratch import read_in_batches, words_read
from ..pretrained import held_class, load_placed, resolve_device
from ..tokenizer import load_tokenizer
from ..utils.errors import InputError
from ..utils.text import has_lone_surrogates
from ..utils.weight_layout import lay_out_by_input
from .calibration import Calibration
from .prediction import Prediction, WordReading
from .reading import MOST_CHARACTERS, read_ahead
from .session import TextSession

TEXT_TOKENS = 64  # of the texts that `batch_size` counts


class TextClassifier:
    """
    A trained sequence classifier, its tokenizer and its calibration.

    It takes texts (`str`) that are not empty. Of a text of more than `n_positions` tokens it reads what
    `config.long_texts` says: the "first" ones, the "last" ones, or all in "windows" of that size, whose logits are
    averaged by their number of tokens. Labels are those of `config.id2label`: with two of them label 1 where its
    probability is above the calibration's threshold, with more the most probable one, with several a text all that
    are above their threshold; and the outside label where the calibration says so.

    Args:
        model: with two labels or more; it is put into evaluation mode.
        tokenizer: of the model.

    Raises:
        InputError: when the model is a language model, or has one label.

    Examples:
        >>> from hf_gpt_scratch import TextClassifier
        >>> classifier = TextClassifier.from_pretrained("runs/demo/spam")  # doctest: +SKIP
        >>> for prediction in classifier.classify(["You have won a prize", "See you at home"]):  # doctest: +SKIP
        ...     print(prediction.label, prediction.probability)
        >>> for reading in classifier.read_words("You have won a prize"):  # doctest: +SKIP
        ...     print(reading.word, reading.label, reading.probabilities)  # after each word
    """

    def __init__(self, model: GPTScratchForSequenceClassification, tokenizer: PreTrainedTokenizerBase):
        if model.can_generate():
            raise InputError(
                f"A {type(model).__name__} is a language model, not a classifier: train a classifier with"
                " `hf-gpt-scratch train classify`, or use it with `generate` or `Chat`."
            )
        if model.config.num_labels < 2:
            raise InputError("The model has 1 label, so its number is no probability; a classifier has two or more.")
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
        Loads a sequence classifier.

        Args:
            name_or_path: a folder or a Hub repository.
            device, dtype: as for `load`.
            report: is called with a sentence that says which device and data type are used.

        Raises:
            InputError: when it holds no such model, or no tokenizer, or the device is not available.
        """
        resolve_device(device)  # before anything is downloaded
        folder = ModelFolder.resolve(name_or_path)
        held = held_class(folder)
        if held == "GPTScratchForCausalLM":
            raise InputError(
                f"{name_or_path} holds a language model, not a classifier: use `hf-gpt-scratch generate"
                f" {name_or_path}`, or train a classifier from it with `hf-gpt-scratch train classify"
                f" --model_name_or_path {name_or_path}`."
            )
        if not (folder.is_adapter or is_onnx_folder(folder)):
            folder.require_native()
        if held != "GPTScratchForSequenceClassification":
            raise InputError(f"{name_or_path} holds a {held or 'model without a head'}, not a sequence classifier.")
        # The head of an adapter is in the adapter, not in the base model.
        model_class, new_head = GPTScratchForSequenceClassification, folder.is_adapter
        model = load_placed(model_class, folder, device, dtype, report, new_head)
        if model.num_labels < 2:
            raise InputError(f"{name_or_path} has 1 label; `TextClassifier` takes two or more.")
        return cls(model, load_tokenizer(folder.path))

    @property
    def labels(self) -> tuple[str, ...]:
        """The names of the labels, in their order."""
        names = self.model.config.id2label
        return tuple(names[number] for number in range(len(names)))

    def encode(self, texts: Sequence[str]) -> list[list[int]]:
        """
        The token ids of each text, none of them cut; what is read of them says `config.long_texts`. Special tokens
        that are spelled in a text are its characters.

        Raises:
            InputError: for an empty text, or one that is not UTF-8.
        """
        for text in texts:
            require_text(text)
        options = {"truncation": False, "split_special_tokens": True, "verbose": False}
        return self.tokenizer([text.strip() for text in texts], **options)["input_ids"]

    def logits(self, texts: Sequence[str], batch_size: int = 32) -> torch.Tensor:
        """The logits of the texts before any calibration, `(texts, labels)`, on the CPU; raises as `encode`."""
        found = torch.empty(len(texts), len(self.labels))
        for number, read in read_in_batches(self.model, self.encode(texts), batch_size * TEXT_TOKENS):
            found[number] = read[-1]
        return found

    def classify(
        self, texts: Iterable[str], batch_size: int = 32, decide_at: float | None = None, words: bool = False
    ) -> Iterator[Prediction]:
        """
        Yields a prediction for each text, in order. Texts are read ahead, so that those of similar length go through
        the model together: 32 at first, then more, up to 1,024 (see `reading.read_ahead`). Where `texts` itself raises
        an `InputError`, or one of them is refused, those before it are classified first.

        Args:
            batch_size: how many texts of 64 tokens a forward pass holds; more of shorter ones, fewer of longer ones.
            decide_at: an agreement, such as 0.99, for which an early verdict was fitted: also say after which word
                the verdict was as good as final.
            words: whether a prediction also holds what is said after each word (see `read_words`).

        Raises:
            InputError: for an empty message; where no early verdict was fitted for that agreement.
        """
        self.require_early(decide_at)
        # After each word all labels have a probability, so of many labels fewer texts are in memory at a time.
        most_characters = MOST_CHARACTERS // (len(self.labels) if words else 1)
        for together in read_ahead(map(require_text, texts), most_characters):
            yield from self._classify(together, batch_size, decide_at, words)

    def require_early(self, decide_at: float | None) -> None:
        """Raises `InputError` where no early verdict was fitted for that agreement."""
        if decide_at is not None:
            try:
                self.calibration.early_threshold(decide_at)
            except ValueError as error:
                raise InputError(str(error)) from None

    def _classify(
        self, texts: list[str], batch_size: int, decide_at: float | None, with_words: bool
    ) -> list[Prediction]:
        rows = self.encode(texts)
        last, further = [torch.empty(0)] * len(texts), [{}] * len(texts)
        for number, logits in read_in_batches(self.model, rows, batch_size * TEXT_TOKENS):
            last[number] = logits[-1].clone()  # so that the others can go
            if with_words or decide_at is not None:
                further[number] = self._after_words(texts[number].strip(), logits, decide_at, with_words)
        said = self._verdicts(self.calibration.probabilities(torch.stack(last)))
        return [
            Prediction(text, truncated=self._is_cut(ids), **one, **more)
            for text, ids, one, more in zip(texts, rows, said, further)
        ]

    def _after_words(self, text: str, logits: torch.Tensor, decide_at: float | None, with_words: bool) -> dict:
        """What a `Prediction` says of a stripped text up to its words, from what `read_in_batches` yields."""
        places, found = self.word_places(text), {}
        after = self.calibration.probabilities(logits[[place for _, place in places]])  # (words, K)
        if with_words:
            said = zip(places, self._verdicts(after), self.calibration.confidence(after).tolist())
            found["words"] = tuple(WordReading(word, confidence=sure, **one) for (word, _), one, sure in said)
        if decide_at is not None and (decided_at := self.calibration.decided_at(after, decide_at)):
            [decided] = self._verdicts(after[decided_at - 1 : decided_at])
            found |= {"decided_at": decided_at, "decided_label": decided["label"]}
        return found

    def predict(self, text: str, ids: Sequence[int], logits: torch.Tensor) -> Prediction:
        """What is said of a text of these tokens, whose logits are `(K,)`."""
        [said] = self._verdicts(self.calibration.probabilities(logits.unsqueeze(0)))
        return Prediction(text, truncated=self._is_cut(ids), **said)

    def _is_cut(self, ids: Sequence[int]) -> bool:
        return len(ids) > self.model.config.n_positions and self.model.config.long_texts != "windows"

    def session(self, decide_at: float | None = None) -> TextSession:
        """
        A text that arrives in pieces: `session.add(piece)` gives the prediction for the text so far, and reads only
        what is new; `session.read(text)` that for the text after an edit.

        Args:
            decide_at: as for `classify`.

        Raises:
            InputError: where no early verdict was fitted for that agreement.
        """
        self.require_early(decide_at)
        lay_out_by_input(self.model)  # each word is a product with few tokens

        def is_final(prediction: Prediction) -> bool:
            found = torch.tensor([prediction.probabilities])
            return decide_at is not None and self.calibration.decided_at(found, decide_at) is not None

        return TextSession(self.model, lambda text: self.encode([text])[0], self.predict, is_final)

    def read_words(self, text: str) -> list[WordReading]:
        """
        What is said after each word of the text that is read; the last one is what is said of the text. One forward
        pass gives them all, as attention is causal; with `long_texts` "windows", one for each window. Words that are
        not read (see `config.long_texts`) are omitted.
        """
        [prediction] = self.classify([text], words=True)
        return list(prediction.words)

    def word_probabilities(self, text: str) -> list[tuple[str, float]]:
        """
        Each word of the text that is read (with the space before it), and the probability of label 1 after reading up
        to it, of a classifier with two labels; for others see `read_words`.

        Raises:
            InputError: when the model has other than two labels.
        """
        if len(self.labels) != 2:
            raise InputError(f"The model has {len(self.labels)} labels; `read_words` gives the probabilities of all.")
        return [(reading.word, reading.probabilities[1]) for reading in self.read_words(text)]

    def word_places(self, text: str) -> list[tuple[str, int]]:
        """The words of a stripped text that are read, and where in what `read_in_batches` yields each of them ends."""
        options = {"return_offsets_mapping": True, "split_special_tokens": True, "verbose": False}
        ends = [end for _, end in self.tokenizer(text, **options)["offset_mapping"]]
        return words_read(text, ends, self.model.config)

    def _verdicts(self, probabilities: torch.Tensor) -> list[dict]:
        """
        What a `Prediction` and a `WordReading` say alike, from the probabilities `(B, K)` of texts.

        Raises:
            InputError: for NaN, as of damaged weights.
        """
        if probabilities.isnan().any():
            raise InputError("The model's scores are no numbers (NaN or infinite): its weights are damaged.")
        is_binary = len(self.labels) == 2 and not self.calibration.is_multi_label
        return [
            {
                "label": verdict.label,
                "probability": found[1] if is_binary else verdict.score,
                "probabilities": tuple(found),
                "labels": verdict.labels,
            }
            for verdict, found in zip(self.calibration.verdicts(probabilities, self.labels), probabilities.tolist())
        ]


def require_text(text: str) -> str:
    """The text; raises `InputError` where it is empty, or not UTF-8."""
    if not text.strip():
        raise InputError("A message is empty.")
    if has_lone_surrogates(text):
        raise InputError("A message is not UTF-8 text.")
    return text
