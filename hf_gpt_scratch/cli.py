"""The parser of the command `hf-gpt-scratch`, made of the modules in `commands/`, none of which imports torch."""

import argparse
import sys
from collections.abc import Callable
from importlib import import_module

import hf_gpt_scratch

from .commands import COMMANDS
from .utils.errors import run_reporting_errors


class CommandParser(argparse.ArgumentParser):
    """
    The parser of one command. Its module is imported when the command is given, and its options may stand anywhere:
    `classify DIR --stream TEXT` too.
    """

    home: str | None = None  # the module whose `add_arguments` is still to be called
    keep_words: Callable | None = None  # in place of argparse's own parsing, for a command that reads its words itself
    _intermixing = False

    def load(self) -> None:
        """Adds the arguments of the command's module, once."""
        if self.home is not None:
            module, _, name = self.home.partition(":")
            self.home = None
            command = import_module(f".{module}", __package__)
            command = getattr(command, name) if name else command
            command.add_arguments(self)
            self.set_defaults(run=command.run)

    def parse_known_args(self, args=None, namespace=None):
        self.load()
        if self.keep_words:
            return self.keep_words(args, namespace)
        if self._intermixing or self._subparsers:  # a command that has commands of its own cannot intermix
            return super().parse_known_args(args, namespace)
        self._intermixing = True
        try:
            return self.parse_known_intermixed_args(args, namespace)  # calls the above
        finally:
            self._intermixing = False


class PrintCompletion(argparse.Action):
    """`--print-completion SHELL`: a script that completes commands, options and files, made by `shtab`."""

    def __call__(self, parser, namespace, shell, option_string=None):
        import shtab

        load_all(parser)
        parser._print_message(shtab.complete(parser, shell) + "\n", sys.stdout)
        parser.exit()


def load_all(parser: argparse.ArgumentParser) -> None:
    """Adds the arguments of every command, and of those below it."""
    for action in parser._actions:
        if isinstance(action, argparse._SubParsersAction):
            for command in action.choices.values():
                command.load()
                load_all(command)


def make_parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="hf-gpt-scratch",
        description="A GPT written from scratch, for Hugging Face.",
        epilog="Example: hf-gpt-scratch generate openai-community/gpt2 --prompt 'Every effort moves you'",
    )
    parser.add_argument("--version", action="version", version=f"%(prog)s {hf_gpt_scratch.__version__}")
    parser.add_argument(
        "--print-completion",
        action=PrintCompletion,
        choices=["bash", "zsh", "tcsh"],
        help='print a script for the shell\'s completion; bash: eval "$(hf-gpt-scratch --print-completion bash)"',
    )
    add_commands(parser, "command", "COMMAND", COMMANDS)
    return parser


def add_commands(parser: argparse.ArgumentParser, dest: str, metavar: str, table: dict) -> None:
    """A command for each row of `table`, as in `COMMANDS`."""
    subparsers = parser.add_subparsers(dest=dest, required=True, metavar=metavar, parser_class=CommandParser)
    for name, (help, home) in table.items():
        command = subparsers.add_parser(
            name, help=help, description=help, formatter_class=argparse.RawDescriptionHelpFormatter
        )
        if isinstance(home, dict):
            add_commands(command, name, name.upper(), home)
        else:
            command.home = home


def main(argv: list[str] | None = None) -> int:
    """Runs one command and returns its exit status: 0, or 1 when it failed; bad usage exits with 2."""
    argv = sys.argv[1:] if argv is None else list(argv)

    def work() -> int | None:
        args = make_parser().parse_args(argv, argparse.Namespace(argv=argv))  # for the records of results
        hf_gpt_scratch.register()
        return args.run(args)

    return run_reporting_errors(work)


def run() -> None:
    """The console script of version 0.1."""
    sys.exit(main())
