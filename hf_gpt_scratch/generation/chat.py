"""`Chat`: a talk with an instruction-tuned model, for the terminal (`commands.chat`) and the page (`apps.chat`)."""

import os
from collections.abc import Callable, Iterator

import torch
from transformers import PreTrainedModel, PreTrainedTokenizerBase

from ..modeling_gpt_scratch import GPTScratchForCausalLM
from ..pretrained import load_with_tokenizer
from ..utils.errors import InputError
from ..utils.text import has_lone_surrogates
from .sampling import stream_text


class Chat:
    """
    A conversation; the tokenizer's chat template makes of it the text that the model reads.

    Args:
        model: a causal language model whose config has `n_positions`.
        tokenizer: of the model, with a chat template.
        system: stands in the place of the sentence that the template begins with.
        history: whether a question is read after those before it; instruction data has no second questions, so small
            models answer best without.

    Attributes:
        messages: what was said so far, as `apply_chat_template` takes it.
        forgotten: how many of the oldest exchanges found no room any more.
        finish_reason: why the last answer ended: "stop" (the EOS token), "length" (no more tokens) or "interrupted".

    Raises:
        InputError: when the tokenizer has no chat template, or `system` is no text.

    Example:
        >>> from hf_gpt_scratch import Chat
        >>> chat = Chat.from_pretrained("runs/demo/follower")  # doctest: +SKIP
        >>> for piece in chat.ask("Name a colour.", temperature=0):  # doctest: +SKIP
        ...     print(piece, end="", flush=True)
    """

    def __init__(
        self,
        model: PreTrainedModel,
        tokenizer: PreTrainedTokenizerBase,
        system: str | None = None,
        history: bool = True,
    ):
        if tokenizer.chat_template is None:
            raise InputError(
                "The tokenizer has no chat template, so the model was not trained to answer: tune it by"
                " `hf-gpt-scratch train instruct`, or let it continue a text by `hf-gpt-scratch generate`."
            )
        if has_lone_surrogates(system or ""):
            raise InputError("The system message is not UTF-8 text.")
        self.model, self.tokenizer, self.history = model, tokenizer, history
        self.system = [{"role": "system", "content": system}] if system else []
        self.messages: list[dict[str, str]] = []
        self.forgotten = 0
        self.finish_reason: str | None = None

    @classmethod
    def from_pretrained(
        cls,
        name_or_path: str | os.PathLike,
        system: str | None = None,
        history: bool = True,
        device: str | torch.device = "auto",
        dtype: str | torch.dtype = "auto",
        report: Callable[[str], object] = lambda sentence: None,
    ) -> "Chat":
        """
        Loads a language model with a chat template.

        Args:
            name_or_path: a folder or a Hub repository, also of an adapter.
            system, history: as above.
            device, dtype: as for `load`.
            report: is called with a sentence that says which device and data type are used.

        Raises:
            InputError: when it holds no such model, or the device is not available.
        """
        options = {"device": device, "dtype": dtype, "report": report}
        return cls(*load_with_tokenizer(GPTScratchForCausalLM, name_or_path, **options), system, history)

    def ask(self, text: str, max_new_tokens: int = 256, **sampling) -> Iterator[str]:
        """
        The answer, piece by piece. Where the conversation leaves less than a quarter of the model's `n_positions`
        tokens (or `max_new_tokens`) for it, the oldest exchanges are forgotten.

        Args:
            sampling: the settings of `sampling.sample`: `temperature` (1 unless said; 0 is greedy), `top_k`, `top_p`,
                `repetition_penalty`, `generator`.

        Raises:
            InputError: for an empty question, or one that is too long on its own; it is not kept.
        """
        if not text.strip():
            raise InputError("The question is empty.")
        if has_lone_surrogates(text):
            raise InputError("The question is not UTF-8 text.")
        limit = self.model.config.n_positions
        room = min(max_new_tokens, limit // 4)
        earlier = self.messages if self.history else []
        messages, forgotten = [*earlier, {"role": "user", "content": text}], 0
        while len(messages) > 1 and self._length(messages) + room > limit:
            messages, forgotten = messages[2:], forgotten + 1
        length = self._length(messages)
        if length >= limit:
            raise InputError(f"The question has {length} tokens with its surroundings; the model reads {limit}.")
        self.messages, self.forgotten = messages, self.forgotten + forgotten
        return self._answer(self._render(messages), min(max_new_tokens, limit - length), sampling)

    def begin_anew(self) -> None:
        """Forgets what was said."""
        self.messages, self.forgotten = [], 0

    def _answer(self, prompt: str, max_new_tokens: int, sampling: dict) -> Iterator[str]:
        pieces, self.finish_reason = [], "interrupted"
        try:
            for piece in stream_text(self.model, self.tokenizer, prompt, max_new_tokens, **sampling):
                pieces.append(piece)
                yield piece
            self.finish_reason = "length" if len(pieces) == max_new_tokens else "stop"
        finally:  # what was said before an interruption was said
            self.messages.append({"role": "assistant", "content": "".join(pieces)})

    def _render(self, messages: list[dict[str, str]]) -> str:
        return self.tokenizer.apply_chat_template(self.system + messages, tokenize=False, add_generation_prompt=True)

    def _length(self, messages: list[dict[str, str]]) -> int:
        return len(self.tokenizer(self._render(messages), verbose=False)["input_ids"])
