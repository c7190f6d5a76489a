"""A text that arrives in pieces, or is edited, judged after each change without being read from the start again."""

import re
from collections.abc import Callable
from dataclasses import replace

import torch

from ..generation.cache import GrowingCache
from ..modeling_gpt_scratch import GPTScratchForSequenceClassification
from ..pipeline_gpt_scratch import pooled, windows
from .prediction import Prediction


class TextSession:
    """
    What `TextClassifier.session` returns. The keys and values of the tokens that were read are kept, so that a piece
    costs its own tokens only, besides those at the end of the text so far that it changes. Only with
    `long_texts` "last" a text of more than `n_positions` tokens is read again at each piece, as its window moves.

    Args:
        encode: from a text to its token ids, none cut.
        predict: from a text, its token ids and its logits `(K,)` to what is said of it.
        is_final: whether the verdict is as good as final.

    Attributes:
        text: what has arrived.
        decided_at: after how many words the verdict was first as good as final, if it was.
    """

    def __init__(
        self,
        model: GPTScratchForSequenceClassification,
        encode: Callable[[str], list[int]],
        predict: Callable[[str, list[int], torch.Tensor], Prediction],
        is_final: Callable[[Prediction], bool],
    ):
        self.model, self._encode, self._predict, self._is_final = model, encode, predict, is_final
        self.text = ""
        self.decided_at: int | None = None
        self._decided_label: str | None = None
        self._decided_text = ""  # after which it was
        self._read: list[tuple[list[int], torch.Tensor]] = []  # of each window its tokens, and the logits after each
        self._cache, self._cached = GrowingCache(), 0  # the keys and values of one window, and which it is

    def add(self, piece: str) -> Prediction | None:
        """
        The prediction for the text so far, the same as that of `TextClassifier.classify`; `None` as long as it is
        empty. A piece may be of any size; `decided_at` counts the words of the text so far, so give whole words there.

        Raises:
            InputError: for a piece that is not UTF-8; the session goes on without it.
        """
        return self.read(self.text + piece)

    def read(self, text: str) -> Prediction | None:
        """
        As `add`, of a text in place of the one so far: one that was edited, or of which the end was taken back. What
        both begin with is not read again.
        """
        if not text.strip():
            self._come(text)
            return None
        ids = self._encode(text)
        self._come(text)
        prediction = self._predict(text.strip(), ids, self._logits(ids)[-1])
        if self.decided_at is None and self._is_final(prediction):
            self.decided_at, self._decided_label = len(re.findall(r"\S+", text)), prediction.label
            self._decided_text = text
        return replace(prediction, decided_at=self.decided_at, decided_label=self._decided_label)

    def _come(self, text: str) -> None:
        """Takes the text; a verdict that was final after another beginning is forgotten."""
        self.text = text
        if self.decided_at is not None and not text.startswith(self._decided_text):
            self.decided_at = self._decided_label = None

    def _logits(self, ids: list[int]) -> torch.Tensor:
        """What `read_texts` returns of the text so far, `(T, K)`."""
        spans = windows(len(ids), self.model.config)
        self._read = [self._window(number, ids[span]) for number, span in enumerate(spans)]
        return pooled([logits for _, logits in self._read])

    def _window(self, number: int, ids: list[int]) -> tuple[list[int], torch.Tensor]:
        """The tokens of a window and the logits after each, of which only those after its first new token are read."""
        known, logits = self._read[number] if number < len(self._read) else ([], None)
        same = next((at for at, (old, new) in enumerate(zip(known, ids)) if old != new), min(len(known), len(ids)))
        if same == len(ids):
            return ids, logits[:same]
        if number != self._cached or same == 0:
            self._cache, self._cached, same = GrowingCache(), number, 0
        if changed := self._cache.get_seq_length() - same:
            self._cache.crop(-changed)  # that many tokens fewer
        new = self._forward(ids, same)
        return ids, new if same == 0 else torch.cat([logits[:same], new])

    @torch.inference_mode()
    def _forward(self, ids: list[int], start: int) -> torch.Tensor:
        """The logits after the tokens from `start` on, `(T, K)`, with those before it in the cache."""
        found = self.model(
            input_ids=torch.tensor([ids[start:]], device=self.model.device),
            attention_mask=torch.ones(1, len(ids), dtype=torch.long, device=self.model.device),
            past_key_values=self._cache,
            use_cache=True,
            output_token_logits=True,
        )
        return found.token_logits[0].cpu()
