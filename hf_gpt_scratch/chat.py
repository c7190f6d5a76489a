"""A conversation with an instruction-tuned model, in the words it was trained on, and the terminal to hold it in."""

import re
import sys
from collections.abc import Iterator

from transformers import PreTrainedModel, PreTrainedTokenizerBase

from .errors import InputError
from .inference import stream_text
from .tokenizer import is_not_text

HELP = "Ctrl-C stops an answer, /new begins anew, Ctrl-D ends."


class Chat:
    """
    A conversation; the tokenizer's chat template makes of it the text that the model reads.

    Args:
        system: stands in the place of the sentence that the template begins with.
        history: whether a question is read after those before it; instruction data has no second questions, so small
            models answer best without.

    Attributes:
        messages: what was said so far, as `apply_chat_template` takes it.
        forgotten: how many of the oldest exchanges found no room any more.
        finish_reason: why the last answer ended: "stop" (the end token), "length" (no more tokens) or "interrupted".

    Raises:
        InputError: when the tokenizer has no chat template, or `system` is no text.
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
                " training/finetune_instruct.py, or let it go on from a text by `hf-gpt-scratch generate`."
            )
        if is_not_text(system or ""):
            raise InputError("The system message is not UTF-8 text.")
        self.model, self.tokenizer, self.history = model, tokenizer, history
        self.system = [{"role": "system", "content": system}] if system else []
        self.messages: list[dict[str, str]] = []
        self.forgotten = 0
        self.finish_reason: str | None = None

    def ask(self, text: str, max_new_tokens: int = 256, **sampling) -> Iterator[str]:
        """
        The answer, piece by piece. Where the conversation leaves less than a quarter of the model's `n_positions`
        tokens (or `max_new_tokens`) for it, the oldest exchanges are forgotten.

        Args:
            sampling: the settings of `inference.sample`.

        Raises:
            InputError: for an empty question, or one that is too long on its own; it is not kept.
        """
        if not text.strip():
            raise InputError("The question is empty.")
        if is_not_text(text):
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


def converse(chat: Chat, max_new_tokens: int, **sampling) -> None:
    """Reads questions from standard input, one a line, and prints the answers as they are written, until it ends."""
    typed = sys.stdin.isatty()
    if typed:
        import readline  # noqa: F401 (gives input() its line editing)

        print(HELP, file=sys.stderr)
    while True:
        try:
            text = input("> " if typed else "")
        except EOFError:
            break
        except KeyboardInterrupt:
            print("\nCtrl-D ends.", file=sys.stderr)
            continue
        except UnicodeDecodeError:
            raise InputError("The question is not UTF-8 text.") from None
        if text.strip() == "/new":
            chat.begin_anew()
            if typed:
                print("A new conversation.", file=sys.stderr)
        elif re.fullmatch(r"/[a-z]+", text.strip()):
            print(f"error: There is no command {text.strip()}. {HELP}", file=sys.stderr)
        elif text.strip():
            _show_answer(chat, text, max_new_tokens, sampling, typed)
    if typed:
        print()


def _show_answer(chat: Chat, text: str, max_new_tokens: int, sampling: dict, typed: bool) -> None:
    try:
        before = chat.forgotten
        answer = chat.ask(text, max_new_tokens, **sampling)
        if chat.forgotten and not before:
            print("note: the conversation is too long: from here on its oldest part is forgotten.", file=sys.stderr)
        for piece in answer:
            print(piece, end="", flush=True)
        print()
    except KeyboardInterrupt:
        print()
    except InputError as error:
        if not typed:
            raise
        print(f"error: {error}", file=sys.stderr)
        return
    if chat.finish_reason == "length":
        print("note: the answer was cut at the most tokens it may have.", file=sys.stderr)
