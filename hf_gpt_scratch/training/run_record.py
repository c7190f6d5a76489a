"""What the jobs share: how a run begins, what is recorded of it, and how it ends."""

import sys
import time
from collections.abc import Sequence
from pathlib import Path

from transformers import HfArgumentParser, Trainer

from ..adapters import is_adapter_folder, require_peft
from ..hub.push import push_trained
from ..model_folder.saving import measurements
from ..utils.files import write_json
from ..utils.provenance import command_line, environment, recorded_source
from ..utils.result_card import Metric, ResultCard
from .arguments import parse_yaml_and_args, resume_checkpoint, training_settings
from .progress import quieten


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
        self.program, self.argv = (
            program or f"hf-gpt-scratch train {job}",
            list(sys.argv[1:] if argv is None else argv),
        )
        self.args, self.training_args = parse_yaml_and_args(parser, self.argv, job)
        if is_adapter_folder(self.args.model_name_or_path):
            require_peft()
        self.output_dir = Path(self.training_args.output_dir)
        self.start = time.perf_counter()
        self.train_seconds = None
        if not self.training_args.verbose:
            quieten()

    def train(self, trainer: Trainer) -> None:
        """Trains, from a checkpoint where the settings name one."""
        resumed = resume_checkpoint(self.training_args)
        self.warn_of_deletions()
        seconds = trainer.train(resume_from_checkpoint=resumed).metrics["train_runtime"]
        self.train_seconds = None if resumed else seconds  # Trainer knows those of the last session

    def warn_of_deletions(self) -> None:
        """Names the measurements of an older model in the folder, which go when the new one takes its place."""
        paths = measurements(self.output_dir)
        if paths and self.training_args.process_index == 0:
            names = ", ".join(str(path.relative_to(self.output_dir)) for path in paths)
            print(
                f"note: {self.output_dir} holds a model that was measured; when the new one is saved in its place,"
                f" {names} will be deleted. To keep them, stop now and name another --output_dir.",
                file=sys.stderr,
            )

    def facts(self, **data: str | None) -> dict:
        """
        What metrics.json says of every run.

        Args:
            data: `source`, `sha256` and what else tells the data.
        """
        seed = self.training_args.seed
        return {
            "train_seconds": self.train_seconds,
            "seconds": round(time.perf_counter() - self.start, 1),
            "seed": seed,
            "settings": training_settings(self.training_args),
            "base_model": recorded_source(self.args.model_name_or_path),
            "data": {**data, "dataset": self.args.dataset_name},
            "command": self.command(),
            **environment(),
        }

    def command(self) -> str:
        """The command that began it."""
        return command_line(self.program, self.argv)

    def write(self, name: str, metrics: dict, numbers: dict[str, Metric], task: str | None = None, **card) -> None:
        """Writes metrics.json, and the result card of that name with `numbers` and the other fields of `card`."""
        write_json(self.output_dir / "metrics.json", metrics)
        ResultCard(
            task=task or metrics["task"],
            data=[{key: value for key, value in metrics["data"].items() if value}],
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

    def push(self, repo_id: str | None) -> None:
        """Pushes what was saved, if the settings say so."""
        push_trained(self.training_args, repo_id)
