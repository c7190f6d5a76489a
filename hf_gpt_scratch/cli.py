"""The parser of the command `hf-gpt-scratch`, made of the modules in `commands/`, none of which imports torch."""

import argparse
import difflib
import logging
import sys
import textwrap
from collections.abc import Callable, Sequence
from importlib import import_module

import hf_gpt_scratch

from .commands import COMMANDS, GROUPS
from .utils.errors import run_reporting_errors
from .utils.terminal import plain, plain_output

EXAMPLES = """\
Examples, with the models that the demo (training/demo.py) makes:
  hf-gpt-scratch generate runs/demo/writer --prompt 'Tilly looked at'
  hf-gpt-scratch chat runs/demo/follower
  hf-gpt-scratch classify runs/demo/spam 'You have won a free prize' --stream

The options of a command: hf-gpt-scratch COMMAND --help"""


class HelpFormatter(argparse.RawDescriptionHelpFormatter):
    """Wraps a description's paragraphs, but for lists and examples, whose lines are to stay as they are."""

    def _fill_text(self, text: str, width: int, indent: str) -> str:
        return "\n\n".join(
            part if "\n" in part or part.startswith("Example") else textwrap.fill(part, width)
            for part in text.split("\n\n")
        )


class CommandParser(argparse.ArgumentParser):
    """
    The parser of one command. Its module is imported when the command is given, and its options may stand anywhere:
    `classify DIR --stream TEXT` too.
    """

    module: str | None = None  # whose `add_arguments` is still to be called
    parse_words: Callable | None = None  # in place of argparse's parsing, for a command that reads its words itself
    _intermixing = False

    def load(self) -> None:
        """Adds the arguments of the command's module, once."""
        if self.module is not None:
            module, _, name = self.module.partition(":")
            self.module = None
            command = import_module(f".{module}", __package__)
            command = getattr(command, name) if name else command
            command.add_arguments(self)
            is_light = getattr(command, "IS_LIGHT", False)
            self.set_defaults(run=command.run, check=getattr(command, "check", None), is_light=is_light)

    def parse_known_args(self, args=None, namespace=None):
        self.load()
        if self.parse_words:
            return self.parse_words(args, namespace)
        self._require_choice(sys.argv[1:] if args is None else args)
        if self._intermixing or self._subparsers:  # a command that has commands of its own cannot intermix
            return super().parse_known_args(args, namespace)
        self._intermixing = True
        try:
            namespace, unknown = self.parse_known_intermixed_args(args, namespace)  # calls the above
        finally:
            self._intermixing = False
        if unknown:  # told here, with the usage of this command and not that of all
            self.error(f"unrecognized arguments: {' '.join(unknown)}{self._advice(unknown[0])}")
        return namespace, []

    def error(self, message: str):
        """As argparse's; a word may come from a list of files."""
        super().error(plain(message))

    def _advice(self, word: str) -> str:
        """The option that was perhaps meant."""
        near = difflib.get_close_matches(word.partition("=")[0], self._option_string_actions, 1)
        return f" (did you mean {near[0]}?)" if near and word.startswith("-") else ""

    def _check_value(self, action, value):
        """As argparse's, with the command that was perhaps meant."""
        is_unknown = isinstance(action, argparse._SubParsersAction) and value not in action.choices
        if is_unknown and (near := difflib.get_close_matches(value, action.choices, 1)):
            self.error(f"There is no {action.metavar.lower()} {value!r} (did you mean {near[0]}?).")
        super()._check_value(action, value)

    def _require_choice(self, words: Sequence[str]) -> None:
        """Without any words, says which commands there are to choose from."""
        for action in self._actions:
            if isinstance(action, argparse._SubParsersAction) and not words:
                self.error(f"{action.metavar} is missing; choose one of {', '.join(action.choices)}.")


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
    parser = CommandParser(
        prog="hf-gpt-scratch",
        formatter_class=HelpFormatter,
        description="A GPT written from scratch, for Hugging Face: train it, use it, share it.",
        epilog=EXAMPLES,
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
    for name, (help, module) in table.items():
        sentence = f"{help[0].upper()}{help[1:]}."
        command = subparsers.add_parser(name, help=help, description=sentence, formatter_class=HelpFormatter)
        if isinstance(module, dict):
            metavar, command.description, command.epilog = GROUPS[name]
            add_commands(command, name, metavar, module)
        else:
            command.module = module


def main(argv: list[str] | None = None, program: str | None = None) -> int:
    """
    Runs one command and returns its exit status: 0, or 1 when it failed; bad usage exits with 2.

    Args:
        argv: its words; by default those of this process.
        program: what was started to run it, such as "training/pretrain.py", where that is to be recorded.
    """
    argv = sys.argv[1:] if argv is None else list(argv)
    # Where bitsandbytes is installed, importing transformers' Trainer imports it, and on a CPU it has a line to say.
    logging.getLogger("bitsandbytes").setLevel(logging.ERROR)

    def work() -> int | None:
        known = argparse.Namespace(argv=argv, program=program)  # for the records of results
        args = make_parser().parse_args(argv, known)
        with plain_output():
            return act(args)

    def act(args: argparse.Namespace) -> int | None:
        if args.check:  # what is wrong is told before torch and transformers are imported, which takes seconds
            args.check(args)
        if not getattr(args, "is_light", False):
            hf_gpt_scratch.register()
        return args.run(args)

    return run_reporting_errors(work)
