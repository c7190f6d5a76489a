"""`hf-gpt-scratch chat`: the terminal to talk with an instruction-tuned model; the talk is `generation.chat.Chat`."""

import argparse
import re
import sys
from typing import TYPE_CHECKING

from ..utils.errors import InputError
from ..utils.files import require_present
from .generation_options import add_sampling, language_model

if TYPE_CHECKING:
    from ..generation.chat import Chat


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.description = (
        "Reads questions, one a line, and prints the answers; the line /new begins a new conversation. On a terminal,"
        " Ctrl-C stops an answer and Ctrl-D ends. Of a conversation too long for the model, the oldest part is"
        " forgotten."
    )
    parser.epilog = "Example: hf-gpt-scratch chat runs/demo/follower"
    parser.add_argument("dir", metavar="DIR", help="a model folder, an adapter's, or a Hub repository")
    parser.add_argument(
        "--system", help="the system message: what the prompt begins with, instead of the sentence of the training"
    )
    parser.add_argument(
        "--no-history", action="store_true", help="read each question alone, as the instructions in training were"
    )
    add_sampling(parser, max_new_tokens=256, temperature=0.0)


def check(args: argparse.Namespace) -> None:
    """What can be seen before torch is imported."""
    require_present(args.dir)


def run(args: argparse.Namespace) -> None:
    """The command."""
    from ..generation.chat import Chat

    model, tokenizer, sampling = language_model(args)
    converse(Chat(model, tokenizer, args.system, history=not args.no_history), **sampling)


HELP = "Ctrl-C stops an answer, /new begins anew, Ctrl-D ends."


def converse(chat: "Chat", max_new_tokens: int, **sampling) -> None:
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


def _show_answer(chat: "Chat", text: str, max_new_tokens: int, sampling: dict, typed: bool) -> None:
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
        print("note: the answer was cut at --max-new-tokens, or where the model was full.", file=sys.stderr)
