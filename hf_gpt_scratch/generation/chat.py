"""`Chat`: a conversation with an instruction-tuned model, for `commands.chat` and the page `apps.chat`."""

import os
from collections.abc import Callable, Iterator

import torch
from transformers import PreTrainedModel, PreTrainedTokenizerBase

from ..modeling_gpt_scratch import GPTScratchForCausalLM
from ..pretrained import load_with_tokenizer
from ..prompts import as_text, is_alpaca, reads_history, user_message
from ..utils.errors import InputError
from ..utils.special_tokens import chat_ids, render_chat
from ..utils.text import has_lone_surrogates
from .sampling import sampling_settings, stream_text


class Chat:
    """
    A conversation; the tokenizer's chat template turns it into the text that the model reads. What is typed is text:
    special tokens and the Alpaca prompt's headings, spelled out in a message, are neither tokens nor turns.

    Args:
        model: a causal language model whose config has `n_positions`.
        tokenizer: of the model, with a chat template.
        system: the system message; in the Alpaca prompt it replaces the sentence that the prompt begins with.
        history: whether the model reads a question together with those before it. By default it does, unless it was
            trained on single questions (`prompts.reads_history`): such models repeat themselves.

    Attributes:
        is_alpaca: whether the chat template is the Alpaca prompt.
        messages: the conversation so far, as `apply_chat_template` takes it.
        forgotten: how many of the oldest exchanges were dropped to make room.
        finish_reason: why the last answer ended: "stop" (the EOS token), "length" (no more tokens) or "interrupted".

    Raises:
        InputError: when the model is a classifier, the tokenizer has no chat template, or `system` is not UTF-8 text.

    Examples:
        >>> from hf_gpt_scratch import Chat
        >>> chat = Chat.from_pretrained("runs/demo/follower")  # doctest: +SKIP
        >>> for piece in chat.ask("Name a colour."):  # doctest: +SKIP
        ...     print(piece, end="", flush=True)
    """

    def __init__(
        self,
        model: PreTrainedModel,
        tokenizer: PreTrainedTokenizerBase,
        system: str | None = None,
        history: bool | None = None,
    ):
        if not model.can_generate():
            raise InputError(
                f"A {type(model).__name__} does not write text, so it cannot chat: use"
                " `hf-gpt-scratch classify`, or `TextClassifier` in Python."
            )
        if tokenizer.chat_template is None:
            raise InputError(
                "The tokenizer has no chat template, so the model was not trained to answer: fine-tune it with"
                " `hf-gpt-scratch train instruct`, or continue a text with `hf-gpt-scratch generate`."
            )
        if has_lone_surrogates(system or ""):
            raise InputError("The system message is not UTF-8 text.")
        self.model, self.tokenizer = model, tokenizer
        self.is_alpaca = is_alpaca(tokenizer.chat_template)
        self.history = reads_history(tokenizer.chat_template) if history is None else history
        self.system = [{"role": "system", "content": system}] if system else []
        self.messages: list[dict[str, str]] = []
        self.forgotten = 0
        self.finish_reason: str | None = None

    @classmethod
    def from_pretrained(
        cls,
        name_or_path: str | os.PathLike,
        system: str | None = None,
        history: bool | None = None,
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

    def ask(self, text: str, max_new_tokens: int | None = None, input: str = "", **sampling) -> Iterator[str]:
        """
        The answer, piece by piece. Where the conversation leaves less than a quarter of the model's `n_positions`
        tokens (or `max_new_tokens`) for it, the oldest exchanges are forgotten.

        Args:
            max_new_tokens: by default what the model was saved with, or else 256.
            input: the text that the question is about, as the field `input` of instruction data.
            sampling: the settings of `sampling.sample`: `temperature`, `top_k`, `top_p`, `repetition_penalty`,
                `generator`; by default those that the model was saved with, or else greedy.

        Raises:
            InputError: for an empty question, or one that is too long on its own; it is not kept.
        """
        if not text.strip():
            raise InputError("The question is empty.")
        if has_lone_surrogates(text + input):
            raise InputError("The question is not UTF-8 text.")
        given = {"max_new_tokens": max_new_tokens, **sampling}
        settings = sampling_settings(self.model, given, max_new_tokens=256, temperature=0.0)
        wanted, limit = settings.pop("max_new_tokens"), self.model.config.n_positions
        room = min(wanted, limit // 4)
        earlier = self.messages if self.history else []
        messages, forgotten = [*earlier, {"role": "user", "content": self.question(text, input)}], 0
        while len(messages) > 1 and self._length(messages) + room > limit:
            messages, forgotten = messages[2:], forgotten + 1
        length = self._length(messages)
        if length >= limit:
            raise InputError(
                f"The question has {length} tokens, those of the prompt around it included; the model reads at most"
                f" {limit}."
            )
        self.messages, self.forgotten = messages, self.forgotten + forgotten
        return self._answer(self._with_system(messages), min(wanted, limit - length), settings)

    def reset(self) -> None:
        """Starts a new conversation."""
        self.messages, self.forgotten = [], 0

    def question(self, text: str, input: str = "") -> str:
        """A question and its input as one message: in the Alpaca form if the model has it, else as two paragraphs."""
        input = input.strip()
        if input and not self.is_alpaca:
            return f"{text}\n\n{input}"
        return user_message(text, input)

    def _answer(self, messages: list[dict[str, str]], max_new_tokens: int, sampling: dict) -> Iterator[str]:
        pieces, self.finish_reason = [], "interrupted"
        prompt = render_chat(self.tokenizer, messages)
        try:
            ids = chat_ids(self.tokenizer, messages)
            for piece in stream_text(self.model, self.tokenizer, prompt, max_new_tokens, ids, **sampling):
                pieces.append(piece)
                yield piece
            self.finish_reason = "length" if len(pieces) == max_new_tokens else "stop"
        finally:  # an interrupted answer is kept as far as it came
            self.messages.append({"role": "assistant", "content": "".join(pieces)})

    def _with_system(self, messages: list[dict[str, str]]) -> list[dict[str, str]]:
        """The messages as the template gets them; that of an older Alpaca model does not set headings apart."""
        treat = as_text if self.is_alpaca else str
        return [{**one, "content": treat(one["content"])} for one in self.system + messages]

    def _render(self, messages: list[dict[str, str]]) -> str:
        return render_chat(self.tokenizer, self._with_system(messages))

    def _length(self, messages: list[dict[str, str]]) -> int:
        return len(chat_ids(self.tokenizer, self._with_system(messages)))
