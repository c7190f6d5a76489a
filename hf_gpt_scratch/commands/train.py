"""
`hf-gpt-scratch train JOB [CONFIG] [--key value ...]`: one of the jobs of `hf_gpt_scratch.training`.

A job has some 150 options, most of them transformers' TrainingArguments. Reading them needs torch and transformers, so
the job's words are passed on as they are, after a check for what is wrong in them. `--help` needs neither.
"""

import argparse
import pickle
import sys
from collections.abc import Sequence
from importlib import import_module

from ..training import configs, job_help
from ..training.interruption import how_to_go_on
from ..utils.errors import InputError
from ..utils.requirements import TRL, require_package


class Job:
    """
    The command of the job that is the module `training.NAME`; `needs` are the arguments of `require_package` for one
    that takes another package.
    """

    def __init__(self, name: str, needs: tuple[str, str, str] | None = None):
        self.name, self.needs = name, needs

    def add_arguments(self, parser: argparse.ArgumentParser) -> None:
        """Adds the arguments for a shell's completion only."""
        parser.parse_words = self.parse
        names = configs.names(self.name)
        parser.add_argument("--help-all", action="store_true")
        parser.add_argument("config", metavar="CONFIG", nargs="?", choices=names)
        parser.add_argument("--config", metavar="CONFIG", choices=names)
        for name in sorted(job_help.option_names(self.name)):
            parser.add_argument(f"--{name}")

    def parse(self, words: Sequence[str], namespace: argparse.Namespace | None = None):
        """In place of argparse's method: keeps the words as they are, but for `--help`."""
        if {"-h", "--help"} & set(words):
            print(job_help.help_text(self.name, configs.names(self.name)), end="")
            sys.exit(0)
        return argparse.Namespace(words=list(words), run=self.run, check=self.check), []

    def check(self, args: argparse.Namespace) -> None:
        """What can be seen before torch is imported."""
        if "--help-all" not in args.words:
            configs.check_words(args.words, self.name)
        if self.needs:
            require_package(*self.needs)

    def run(self, args: argparse.Namespace) -> None:
        """
        The command; raises `InputError` for a checkpoint with a pickle that is not loaded, and a `KeyboardInterrupt`
        that says how the run goes on.
        """
        words = ["--help"] if "--help-all" in args.words else args.words
        try:
            import_module(f"..training.{self.name}", __package__).main(words, args.program)
        except pickle.UnpicklingError:
            raise InputError(
                "A file of the checkpoint to go on from holds more than tensors and plain values, which could be code,"
                " so it was not loaded: begin anew with --overwrite_output_dir true."
            ) from None
        except KeyboardInterrupt as interruption:
            if str(interruption) or "--help-all" in args.words:  # said where it was trained
                raise
            settings = configs.settings_of(words, self.name)
            overwrite = configs.is_on(settings.get("overwrite_output_dir", False))
            resume = settings.get("resume_from_checkpoint")
            raise type(interruption)(how_to_go_on(interruption, settings["output_dir"], overwrite, resume)) from None


PRETRAIN, CLASSIFY, SPAM, INSTRUCT = Job("pretrain"), Job("classify"), Job("spam"), Job("instruct")
PREFER = Job("prefer", needs=TRL)
CHAT = Job("chat")
