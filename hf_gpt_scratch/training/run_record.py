"""What the jobs share: how a run begins, what is recorded of it, and how it ends."""

import os
import shlex
import shutil
import sys
import time
from collections.abc import Sequence
from pathlib import Path

from transformers import HfArgumentParser, Trainer

from ..adapters import is_adapter_folder, require_peft
from ..hub.push import push_trained
from ..utils.files import write_json
from ..utils.provenance import command_line, environment, public_name, shown_path
from ..utils.result_card import Metric, ResultCard, rounded
from . import configs
from .arguments import complete_checkpoints, parse_yaml_and_args, resume_checkpoint, training_settings
from .progress import quieten
from .resuming import TrainedOn, make_record, require_same

OUTPUTS = (
    *("samples.jsonl", "predictions.csv", "responses.json", "responses_before.json", "replies.csv"),
    *("judge.json", "judge.png"),
)


class Run:
    """
    One run of a job, from its words to its folder.

    Args:
        job: its name, as in `hf-gpt-scratch train NAME`.
        parser: of two dataclasses, the job's and ScratchTrainingArguments, which become `args` and `training_args`.
        argv: the words behind the job's name; by default those of this process.
        program: what was started to run it, for the record; by default `hf-gpt-scratch train NAME`.
    """

    def __init__(
        self, job: str, parser: HfArgumentParser, argv: Sequence[str] | None = None, program: str | None = None
    ):
        self.job = job
        self.program, self.argv = (
            program or f"hf-gpt-scratch train {job}",
            list(sys.argv[1:] if argv is None else argv),
        )
        self.args, self.training_args = parse_yaml_and_args(parser, self.argv, job)
        if is_adapter_folder(self.args.model_name_or_path):
            require_peft()
        self.output_dir = Path(self.training_args.output_dir)
        overwrite, resume = self.training_args.overwrite_output_dir, self.training_args.resume_from_checkpoint
        configs.require_free(self.output_dir, overwrite, resume, getattr(self.args, "model_name_or_path", None))
        self.start = time.perf_counter()
        self.train_seconds = None
        if not self.training_args.verbose:
            quieten()

    @property
    def split_seed(self) -> int:
        """The seed of the split: `--split_seed`, or else that of the training."""
        return self.training_args.seed if self.args.split_seed is None else self.args.split_seed

    def train(self, trainer: Trainer, **data: str | int | None) -> None:
        """
        Trains, from a checkpoint where the settings say so.

        Args:
            data: `sha256`, `split_seed` and what else identifies the data and the split, for those who resume.

        Raises:
            InputError: when there is no such checkpoint, or it was trained on something else.
        """
        resumed = resume_checkpoint(self.training_args)
        record = make_record(self.job, self.args, trainer, data)
        if resumed:
            require_same(resumed, record)
        trainer.add_callback(TrainedOn(record))
        if self.training_args.overwrite_output_dir and self.training_args.process_index == 0:
            self.remove_earlier_run()
        try:
            seconds = trainer.train(resume_from_checkpoint=resumed).metrics["train_runtime"]
        except KeyboardInterrupt:
            raise KeyboardInterrupt(self._how_to_go_on()) from None
        self.train_seconds = None if resumed else seconds  # Trainer knows those of the last session

    def _how_to_go_on(self) -> str:
        """What is said to whoever interrupts the training."""
        if not (kept := complete_checkpoints(self.output_dir)):
            return "Interrupted before the first checkpoint was saved, so nothing is kept."
        without = " and without --overwrite_output_dir" if self.training_args.overwrite_output_dir else ""
        return (
            f"Interrupted; {shown_path(kept[-1])} is kept: go on with the same command{without} and"
            " --resume_from_checkpoint true."
        )

    def remove_earlier_run(self) -> None:
        """
        Deletes the checkpoints and outputs of an earlier run. Its model stays until the new one takes its place, and
        its measurements go then (`model_folder.saving`).
        """
        for folder in configs.checkpoints(self.output_dir):
            shutil.rmtree(folder)
        for name in OUTPUTS:
            (self.output_dir / name).unlink(missing_ok=True)

    def facts(self, **data: str | None) -> dict:
        """
        What metrics.json says of every run.

        Args:
            data: `source`, `sha256` and what else identifies the data.
        """
        seed = self.training_args.seed
        return {
            "train_seconds": rounded(self.train_seconds),
            "seconds": round(time.perf_counter() - self.start, 1),
            "seed": seed,
            "settings": training_settings(self.training_args),
            "base_model": self.relative(self.args.model_name_or_path),
            "data": {
                **data,
                "source": public_name(data["source"]),
                "file": self.relative(self.args.data_file),
                "dataset": self.args.dataset_name,
            },
            "command": self.command(),
            **environment(),
        }

    def relative(self, name_or_path: str | None) -> str | None:
        """
        A local file or folder by its path from the run's folder, which holds wherever both are moved together, and
        which nobody takes for a repository; anything else, such as a repository, as it is.
        """
        if not name_or_path or not os.path.exists(name_or_path):
            return name_or_path
        try:
            path = Path(os.path.relpath(os.path.realpath(name_or_path), os.path.realpath(self.output_dir))).as_posix()
        except ValueError:  # another drive of Windows
            return name_or_path
        return path if path.startswith("..") else f"./{path}"

    def command(self) -> str:
        """The command that began it."""
        return command_line(self.program, self.argv)

    def write(self, name: str, metrics: dict, numbers: dict[str, Metric], task: str | None = None, **card) -> None:
        """Writes metrics.json, and the result card of that name with `numbers` and the other fields of `card`."""
        write_json(self.output_dir / "metrics.json", metrics)
        ResultCard(
            task=task or metrics["task"],
            data=[{key: value for key, value in metrics["data"].items() if value and key != "file"}],
            metrics=numbers,
            seeds=[metrics["seed"]],
            command=metrics["command"],
            environment=environment(),
            **card,
        ).write(self.output_dir, name)

    def picture(self, name: str) -> Path:
        """Where a picture goes."""
        (self.output_dir / "plots").mkdir(exist_ok=True)
        return self.output_dir / "plots" / f"{name}.png"

    def say_what_is_there(self, files: Sequence[str], command: str, *words: str) -> None:
        """Prints what the run wrote, and the command to go on with."""
        folder = shown_path(self.output_dir)
        print(f"\nWrote {folder} (the model, {', '.join(files)}).")
        print(f"Next: {' '.join(['hf-gpt-scratch', command, shlex.quote(folder), *words])}")

    def push(self, repo_id: str | None) -> None:
        """Pushes what was saved, if the settings say so."""
        push_trained(self.training_args, repo_id)
