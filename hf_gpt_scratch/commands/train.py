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
        parser.keep_words = self.keep

    def keep(self, words: Sequence[str], namespace: argparse.Namespace | None = None):
        """In place of argparse's method: keeps the words for `run`, and raises `InputError` for what is wrong."""
        if not {"-h", "--help"} & set(words):
            configs.check_words(words, self.name)
        return argparse.Namespace(words=list(words), run=self.run), []

    def run(self, args: argparse.Namespace) -> None:
        """The command."""
        import_module(f"..training.{self.name}", __package__).main(args.words)


PRETRAIN, SPAM, INSTRUCT = Job("pretrain"), Job("spam"), Job("instruct")
