"""`hf-gpt-scratch chat`: the terminal to talk with an instruction-tuned model, by `generation.chat.Chat`."""

import argparse
import re
import sys
from collections.abc import Callable
from contextlib import suppress
from dataclasses import replace
from typing import TYPE_CHECKING

from ..utils.errors import InputError, Terminated, UsageError
from .adapter_options import add_adapters, check_adapters, load_adapters
from .arguments import require_model, share
from .generation_options import add_sampling, language_model

if TYPE_CHECKING:
    from ..generation.adapters import AdapterSet
    from ..generation.chat import Chat

HELP = """\
/input TEXT  the text that the next question is about (the input of Alpaca data)
/reset       start a new conversation
/adapter X   answer with the adapter X from here on; without X, list them
/help        show this list
/quit        end (also: exit, quit or Ctrl-D)
Ctrl-C       stop an answer"""
START = "Type a question. /help lists the commands; /quit or Ctrl-D ends."
ENDS = ("/quit", "/exit", "quit", "exit")


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.description = (
        "Reads questions, one a line, and prints the answers. A line may also be a command:\n\n"
        f"{HELP}\n\n"
        "Where a conversation is too long for the model, its oldest part is dropped."
    )
    parser.epilog = (
        "Examples:\n  hf-gpt-scratch chat runs/demo/follower\n"
        "  hf-gpt-scratch chat runs/demo/follower --temperature 0.7 --top-p 0.9\n"
        "  hf-gpt-scratch chat runs/base --adapter airline=runs/airline --adapter studies=runs/studies\n"
        "  echo 'Name three colours.' | hf-gpt-scratch chat you/follower"
    )
    parser.add_argument(
        "dir", metavar="DIR", help="a folder or Hub repository (owner/name) of a model or a LoRA adapter"
    )
    parser.add_argument(
        "--system",
        metavar="TEXT",
        help="system message; in the Alpaca prompt it replaces the first sentence",
    )
    parser.add_argument(
        "--history",
        action=argparse.BooleanOptionalAction,
        help="read each question together with those before it (default: on for models trained on conversations, and"
        " off for those that `hf-gpt-scratch train instruct` trained on single questions)",
    )
    parser.add_argument(
        "--write",
        action="store_true",
        help="of a bot of `hf-gpt-scratch train chat`: let its language model write the answers, which may then say"
        " what the FAQ does not",
    )
    parser.add_argument(
        "--threshold",
        type=share,
        metavar="T",
        help="of such a bot: answer only above this confidence, 0 to 1; higher refuses more (default: that which was"
        " fitted, `threshold` in faq.json)",
    )
    add_adapters(parser)
    add_sampling(parser, max_new_tokens=256, temperature=0.0)


def check(args: argparse.Namespace) -> None:
    """What can be checked before torch is imported."""
    require_model(args.dir)
    check_adapters(args)
    if args.threshold is not None and args.write:
        raise UsageError("--threshold says when the FAQ answers, and --write does without it: give one of them.")


def run(args: argparse.Namespace) -> None:
    """The command."""
    from ..faq.bot import FaqBot
    from ..faq.faq_file import is_faq_folder, read_faq_file
    from ..generation.chat import Chat
    from ..model_folder.contents import ModelFolder

    adapters = load_adapters(args)
    model, tokenizer, sampling = language_model(args, adapters)
    idle = [name.replace("_", "-") for name in ("system", "history", *sampling) if getattr(args, name)]

    def begin(folder: ModelFolder, tokenizer) -> Chat | FaqBot:
        if not is_faq_folder(folder) or args.write:
            if args.threshold is not None:
                print("note: this is no bot of `train chat`, so --threshold has no effect.", file=sys.stderr)
            return Chat(model, tokenizer, args.system, args.history)
        if idle:
            print(
                f"note: answers come from the FAQ, so --{idle[0]} has no effect; add --write to use it.",
                file=sys.stderr,
            )
        faq = read_faq_file(folder)
        return FaqBot(
            faq if args.threshold is None else replace(faq, threshold=args.threshold), model.eval(), tokenizer
        )

    folder = adapters.folders[adapters.active] if adapters else ModelFolder.resolve(args.dir)
    converse(begin(folder, tokenizer), adapters and Switch(adapters, begin), **sampling)


class Switch:
    """What `/adapter` does: each adapter has a conversation of its own, which goes on when it is chosen again."""

    def __init__(self, adapters: "AdapterSet", begin: Callable[..., "Chat"]):
        self.adapters, self.begin, self.chats = adapters, begin, {}

    def __call__(self, chat: "Chat", name: str) -> "Chat":
        """The conversation with the adapter of that name, in place of `chat`; without a name, lists them."""
        self.chats[self.adapters.active] = chat
        if not name:
            print("\n".join(f"{'*' if one == self.adapters.active else ' '} {one}" for one in self.adapters.names))
            return chat
        try:
            tokenizer = self.adapters.switch(name)
        except InputError as error:
            print(f"error: {error}", file=sys.stderr)
            return chat
        is_new = name not in self.chats
        print(f"{'A new' if is_new else 'The earlier'} conversation, with {name}.", file=sys.stderr)
        return self.begin(self.adapters.folders[name], tokenizer) if is_new else self.chats[name]


def converse(chat: "Chat", switch: Switch | None = None, **sampling) -> None:
    """
    Reads questions and commands from standard input, one a line, and prints the answers as they are written, until it
    ends. A question that cannot be asked is complained of, and the next one read; those of a pipe are asked again by
    nobody, so that the command then ends with the status 1.
    """
    typed = sys.stdin.isatty()
    if typed:
        with suppress(ImportError):  # Windows has none
            import readline  # noqa: F401 (gives input() its line editing)

        print(START, file=sys.stderr)
    pending, is_failed = "", False  # the input of the next question; whether one could not be asked
    while True:
        try:
            line = input("> " if typed else "").strip()
        except EOFError:
            break
        except Terminated:
            raise
        except KeyboardInterrupt:
            print("\nCtrl-D ends.", file=sys.stderr)
            continue
        except UnicodeDecodeError:
            raise InputError("The question is not UTF-8 text.") from None
        command, _, rest = line.partition(" ")
        if line in ENDS:
            break
        if command == "/input":
            pending = rest.strip()
            _tell("The next question is about this text." if pending else "The next question has no input.", typed)
        elif command == "/adapter" and switch:
            chat, pending = switch(chat, rest.strip()), ""
        elif re.fullmatch("/[a-z]+", command):
            _run_command(chat, command, typed, switch is not None)
            pending = "" if command == "/reset" else pending
        elif line and _show_answer(chat, line, pending, sampling):
            pending = ""
        elif line:
            is_failed = True
    if typed:
        print()
    elif is_failed:
        sys.exit(1)


def _run_command(chat: "Chat", command: str, typed: bool, has_adapters: bool) -> None:
    """`/reset` and `/help`; anything else is answered with a hint."""
    if command == "/reset":
        chat.reset()
        _tell("A new conversation.", typed)
    elif command == "/help":
        print(_help(is_bot=hasattr(chat, "faq"), has_adapters=has_adapters), file=sys.stderr)
    elif command == "/adapter":
        print("error: There is one model only; start the chat with --adapter NAME=FOLDER.", file=sys.stderr)
    else:
        print(f"error: There is no command {command}; /help lists them.", file=sys.stderr)


def _help(is_bot: bool, has_adapters: bool) -> str:
    """The commands that do something: a bot answers each question by itself, from its FAQ."""
    idle = ("/reset", "Ctrl-C") if is_bot else ()
    idle += () if has_adapters else ("/adapter",)
    return "\n".join(line for line in HELP.splitlines() if not line.startswith(idle))


def _tell(sentence: str, typed: bool) -> None:
    if typed:
        print(sentence, file=sys.stderr)


def _show_answer(chat: "Chat", text: str, input: str, sampling: dict) -> bool:
    """Whether the question was asked; one that is refused was not."""
    try:
        before = chat.forgotten
        answer = chat.ask(text, input=input, **sampling)
        if chat.forgotten and not before:
            print("note: the conversation is too long; its oldest part is dropped from here on.", file=sys.stderr)
        for piece in answer:
            print(piece, end="", flush=True)
        print()
        if reply := getattr(chat, "reply", None):  # of a bot
            print(f"({reply.explanation})", file=sys.stderr)
    except Terminated:
        raise
    except KeyboardInterrupt:
        print()
    except InputError as error:
        print(f"error: {error}", file=sys.stderr)
        return False
    if chat.finish_reason == "length":
        print("note: the answer was cut at --max-new-tokens, or at the model's maximum length.", file=sys.stderr)
    return True
