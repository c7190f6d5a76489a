"""What the jobs share: how a run begins, what is recorded of it, and how it ends."""

import os
import shlex
import sys
import time
from collections.abc import Sequence
from contextlib import ExitStack
from pathlib import Path

from transformers import HfArgumentParser, Trainer

from ..adapters import is_adapter_folder, require_peft
from ..hub.push import push_trained
from ..utils.errors import naming
from ..utils.files import read_json_object, write_json
from ..utils.locks import lock
from ..utils.provenance import command_line, environment, public_name, shown_path
from ..utils.result_card import Metric, ResultCard, rounded
from . import configs
from .arguments import parse_yaml_and_args, training_settings
from .checkpoints import is_complete, remove
from .data_workers import is_of_dead_loading
from .interruption import how_to_go_on, interrupted, left_out
from .progress import quieten
from .resuming import TrainedOn, make_record, require_same, resume_checkpoint
from .run_file import RunFile
from .stopping import stopped_by_signals

OUTPUTS = (
    *("samples.jsonl", "predictions.csv", "responses.json", "responses_before.json", "replies.csv"),
    *("judge.json", "judge.png"),
)

DATA_ORDER = "by the seed and the epoch; word dropout also by the row"


class Run:
    """
    One run of a job, from its words to its folder, which no other run may write from `train` to the end of the block.

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
        self.output_dir, self._held = Path(self.training_args.output_dir), ExitStack()
        overwrite, resume = self.training_args.overwrite_output_dir, self.training_args.resume_from_checkpoint
        configs.require_free(self.output_dir, overwrite, resume, getattr(self.args, "model_name_or_path", None))
        self.start = time.perf_counter()
        self.train_seconds = None
        if not self.training_args.verbose:
            quieten()

    def __enter__(self) -> "Run":
        return self

    def __exit__(self, *error) -> None:
        self._held.close()

    @property
    def split_seed(self) -> int:
        """The seed of the split: `--split_seed`, or else that of the training."""
        return self.training_args.seed if self.args.split_seed is None else self.args.split_seed

    def train(self, trainer: Trainer, **data: str | int | None) -> bool:
        """
        Trains; from a checkpoint, where this is a repeated command whose run has one. Returns whether there is more to
        do: where the run was finished nothing is, and `finished` has what it returned.

        Args:
            data: `sha256`, `split_seed` and what else identifies the data and the split, for those who resume.

        Raises:
            InputError: when there is no such checkpoint, it was trained on something else, or `output_dir` holds
                another run.
            KeyboardInterrupt: after Ctrl-C or SIGTERM, saying how to go on.
        """
        args = self.training_args
        record = make_record(self.job, self.args, trainer, data)
        file = RunFile.read(self.output_dir)
        if not args.overwrite_output_dir and file.is_finished_run(record, self.args, args):
            print(
                f"{shown_path(self.output_dir)} is finished: nothing is left to do. To train it anew, add"
                " --overwrite_output_dir true."
            )
            return False
        resumed = resume_checkpoint(args)
        if resumed:
            require_same(resumed, record, is_asked=args.resume_from_checkpoint is not None)
        elif not args.overwrite_output_dir:
            file.require_replaceable(record)
        trainer.add_callback(TrainedOn(record))
        is_main = args.process_index == 0
        if args.world_size > 1:
            trainer.accelerator.wait_for_everyone()  # until all have read what the first one now changes
        self.output_dir.mkdir(parents=True, exist_ok=True)
        with naming(self.output_dir):
            if is_main:
                self._held.enter_context(lock(self.output_dir / ".run.lock", self.output_dir))
                self._say_where_it_begins(resumed, file)
                self._prepare_folder(file, resumed, record)
            self._train(trainer, resumed)
        return True

    def _say_where_it_begins(self, resumed: str | None, file: RunFile) -> None:
        if resumed:
            print(f"Going on from {shown_path(Path(resumed))}.")
        elif file.is_begun and not self.training_args.overwrite_output_dir:
            print(f"No checkpoint was saved in {shown_path(self.output_dir)} yet: starting anew.")

    def _prepare_folder(self, file: RunFile, resumed: str | None, record: dict) -> None:
        if self.training_args.overwrite_output_dir:
            self.remove_earlier_run()
        for folder in configs.checkpoints(self.output_dir):
            if not is_complete(folder):  # of a run that was killed while it saved
                remove(folder)
        file.begin(record, self.args, self.training_args)

    def _train(self, trainer: Trainer, resumed: str | None) -> None:
        try:
            with stopped_by_signals() as stop:
                trainer.listen_to(stop)
                try:
                    trainer.train(resume_from_checkpoint=resumed)
                except Exception as error:
                    if stop.error is None or not is_of_dead_loading(error):
                        raise
                    raise stop.error from None  # the same signal has ended a process as it began to load data
                if stop.is_agreed(self.training_args.world_size, is_moment=True):  # since the last step
                    raise stop.error
        except KeyboardInterrupt as interruption:
            args = self.training_args
            said = how_to_go_on(interruption, self.output_dir, args.overwrite_output_dir, args.resume_from_checkpoint)
            raise type(interruption)(said) from None
        self.train_seconds = trainer.seconds
        self.start -= trainer.seconds_before  # of the same run

    def finished(self, trainer: Trainer) -> dict:
        """What a finished run has returned; a push that was killed is made now."""
        is_pushing = self.training_args.push_to_hub and self.training_args.process_index == 0
        if is_pushing and not RunFile.read(self.output_dir).is_pushed(self._pushed_to(trainer.hub_model_id)):
            self.finish(trainer.hub_model_id)
        return read_json_object(self.output_dir / "metrics.json")

    def remove_earlier_run(self) -> None:
        """
        Deletes the checkpoints and outputs of an earlier run. Its model stays until the new one takes its place, and
        its measurements go then (`model_folder.saving`).
        """
        (self.output_dir / configs.RUN_FILE).unlink(missing_ok=True)  # first: what is left is no finished run
        for folder in configs.checkpoints(self.output_dir):
            remove(folder)
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
            "hash_seed": os.environ.get("PYTHONHASHSEED") or "random",  # which decides nothing
            "data_order": DATA_ORDER,
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

    def finish(self, repo_id: str | None) -> None:
        """Notes that all is written, and pushes what was saved, if the settings say so."""
        file, args = RunFile.read(self.output_dir), self.training_args
        file.finish()
        try:
            push_trained(args, repo_id)
        except KeyboardInterrupt as interruption:
            without = left_out(args.overwrite_output_dir, args.resume_from_checkpoint)
            said = f"{interrupted(interruption)}; {shown_path(self.output_dir)} is finished but for the push"
            raise type(interruption)(f"{said}, which the same command{without} makes.") from None
        if args.push_to_hub:
            file.finish(self._pushed_to(repo_id))

    def _pushed_to(self, repo_id: str | None) -> list[str | None]:
        return [repo_id, self.training_args.hub_revision]
