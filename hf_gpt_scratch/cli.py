"""The parser of the command `hf-gpt-scratch`, made of the modules in `commands/`, none of which imports torch."""

import argparse
import sys
from importlib.metadata import version

import hf_gpt_scratch

from .commands import COMMANDS
from .utils.errors import run_reporting_errors


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
    parser = argparse.ArgumentParser(
        prog="hf-gpt-scratch",
        description="A GPT written from scratch, for Hugging Face.",
        epilog="Example: hf-gpt-scratch generate openai-community/gpt2 --prompt 'Every effort moves you'",
    )
    parser.add_argument("--version", action="version", version=f"%(prog)s {version('hf_gpt_scratch')}")
    add_commands(parser, "command", "COMMAND", COMMANDS)
    return parser


def add_commands(parser: argparse.ArgumentParser, dest: str, metavar: str, table: dict) -> None:
    """
    A command for each row of `table`: its name, its help, and a module of `add_arguments` and `run`, or another table
    of commands.
    """
    subparsers = parser.add_subparsers(dest=dest, required=True, metavar=metavar, parser_class=CommandParser)
    for name, (help, home) in table.items():
        command = subparsers.add_parser(
            name, help=help, description=help, formatter_class=argparse.RawDescriptionHelpFormatter
        )
        if isinstance(home, dict):
            add_commands(command, name, name.upper(), home)
            continue
        home.add_arguments(command)
        command.set_defaults(run=home.run)


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
