"""The command `hf-gpt-scratch`: its parser, made of the modules that each command has for itself."""

import argparse
import sys
from functools import partial
from importlib.metadata import version
from types import ModuleType


class CommandParser(argparse.ArgumentParser):
    """The parser of one command, whose options may stand anywhere: `classify DIR --stream TEXT` too."""

    _intermixing = False

    def parse_known_args(self, args=None, namespace=None):
        if self._intermixing or self._subparsers:  # a command that has commands of its own cannot intermix
            return super().parse_known_args(args, namespace)
        self._intermixing = True
        try:
            return self.parse_known_intermixed_args(args, namespace)  # calls the above
        finally:
            self._intermixing = False


def make_parser() -> argparse.ArgumentParser:
    from .apps import chat as chat_page
    from .apps import compare
    from .apps import spam as spam_page
    from .commands import chat, classify, convert, export, generate
    from .evaluation import judge
    from .hub import check, push

    parser = argparse.ArgumentParser(
        prog="hf-gpt-scratch", description="A GPT written from scratch, for Hugging Face."
    )
    parser.add_argument("--version", action="version", version=f"%(prog)s {version('hf_gpt_scratch')}")
    commands = parser.add_subparsers(dest="command", required=True, metavar="COMMAND", parser_class=CommandParser)
    add = partial(_add_command, commands)
    add("convert", convert, "make a model of this package from another GPT-2")
    add("export", export, "write a model of this package in another format")
    add("generate", generate, "let a language model go on from a prompt")
    add("chat", chat, "talk with an instruction-tuned model")
    add("classify", classify, "tell spam from ham: each message's label and its probability of being spam")
    add("judge", judge, "let a larger language model score the answers of a model")
    app = commands.add_parser("app", help="pages in the browser")
    add_page = partial(_add_command, app.add_subparsers(dest="app", required=True, metavar="APP"))
    add_page("chat", chat_page, "chat with an instruction follower")
    add_page("spam", spam_page, "watch a spam filter read, word by word")
    add_page("compare", compare, "vote blindly between two models' answers")
    add("check", check, "whether a model's folder loads for anyone, anywhere")
    add("push", push, "a model's folder, with its card, to the Hub")
    return parser


def _add_command(commands, name: str, module: ModuleType, help: str) -> None:
    """A command whose arguments and work are `add_arguments` and `run` of a module."""
    command = commands.add_parser(name, help=help)
    module.add_arguments(command)
    command.set_defaults(run=module.run)


def main(argv: list[str] | None = None) -> int:
    """Runs one command and returns its exit status: 0, or 1 when it failed; bad usage exits with 2."""
    args = make_parser().parse_args(argv)
    from .errors import run_reporting_errors

    return run_reporting_errors(lambda: args.run(args))


def run() -> None:
    """The console script."""
    sys.exit(main())
