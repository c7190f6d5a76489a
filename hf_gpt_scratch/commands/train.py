"""
`hf-gpt-scratch train JOB [CONFIG] [--key value ...]`: one of the jobs of `hf_gpt_scratch.training`.

A job has some 150 options, most of them transformers' TrainingArguments. Only the job itself can list and read them,
with torch and transformers imported, so its words are passed on as they are, after a look at what is wrong in them.
"""

import argparse
from collections.abc import Sequence
from importlib import import_module

from ..training import configs


class Job:
    """The command of the job that is the module `training.NAME`."""

    def __init__(self, name: str):
        self.name = name

    def add_arguments(self, parser: argparse.ArgumentParser) -> None:
        """Names the arguments for a shell's completion, which is all that they are good for here."""
        parser.parse_words = self.parse
        names = configs.names(self.name)
        parser.add_argument("config", metavar="CONFIG", nargs="?", choices=names)
        parser.add_argument("--config", metavar="CONFIG", choices=names)
        for name in sorted(configs.option_names(self.name)):
            parser.add_argument(f"--{name}")

    def parse(self, words: Sequence[str], namespace: argparse.Namespace | None = None):
        """In place of argparse's method: keeps the words as they are."""
        return argparse.Namespace(words=list(words), run=self.run, check=self.check), []

    def check(self, args: argparse.Namespace) -> None:
        """What can be seen before torch is imported."""
        if not {"-h", "--help"} & set(args.words):
            configs.check_words(args.words, self.name)

    def run(self, args: argparse.Namespace) -> None:
        """The command."""
        import_module(f"..training.{self.name}", __package__).main(args.words, args.program)


PRETRAIN, SPAM, INSTRUCT = Job("pretrain"), Job("spam"), Job("instruct")
