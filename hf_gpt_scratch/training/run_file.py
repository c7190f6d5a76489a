"""
Which run a folder is of, and whether that is finished: run.json in the `--output_dir`, written when a run begins and
again when all of its outputs are.
"""

import json
from collections.abc import Iterator, Mapping
from pathlib import Path

from transformers import TrainingArguments

from ..utils.errors import InputError
from ..utils.files import write_json
from . import configs
from .resuming import is_record, refuse_others

# Of the training arguments, those that a resumed run may change, and a finished one was finished with
LENGTH = (
    *("max_steps", "num_train_epochs", "eval_strategy", "eval_steps", "save_strategy", "save_steps", "logging_steps"),
    *("load_best_model_at_end", "metric_for_best_model", "early_stopping_patience"),
)
BY_CONTENT = ("data_file", "model_name_or_path", "tokenizer_name")  # files that are compared by what they hold


class RunFile:
    """
    Attributes:
        path: of the file.
        content: what it holds; empty where there is none.
    """

    def __init__(self, path: Path, content: dict):
        self.path, self.content = path, content

    @classmethod
    def read(cls, output_dir: Path) -> "RunFile":
        """That of a run's folder; one that cannot be read counts as none."""
        path = Path(output_dir) / configs.RUN_FILE
        try:
            content = json.loads(path.read_text(encoding="utf-8"))
        except (OSError, ValueError, RecursionError):
            content = {}
        is_ours = isinstance(content, dict) and is_record(content.get("record"))
        return cls(path, content if is_ours and isinstance(content.get("asked"), dict) else {})

    @property
    def is_begun(self) -> bool:
        """Whether a run began here."""
        return bool(self.content)

    def is_pushed(self, to: list[str | None]) -> bool:
        """Whether what it made is on the Hub, in this repository and revision."""
        return self.content.get("pushed_to") == to

    def begin(self, record: Mapping, args, training_args: TrainingArguments) -> None:
        """Notes that a run begins, or goes on."""
        asked = _asked(args, training_args)
        self.content = {"is_finished": False, "pushed_to": None, "record": record, "asked": asked}
        write_json(self.path, self.content)

    def finish(self, pushed_to: list[str | None] | None = None) -> None:
        """
        Notes that all outputs are written, and to which repository and revision they are pushed: the last one alone.
        Without one, where they were pushed before is kept.
        """
        self.content |= {"is_finished": True}
        if pushed_to is not None:
            self.content["pushed_to"] = pushed_to
        write_json(self.path, self.content)

    def is_finished_run(self, record: Mapping, args, training_args: TrainingArguments) -> bool:
        """
        Whether the run of these settings is finished here. With `--resume_from_checkpoint` one that was shorter goes
        on, and so does one whose checkpoint is named.

        Raises:
            InputError: when a run of other settings is.
        """
        if not self.content.get("is_finished") or not self._has_outputs():
            return False
        resume = training_args.resume_from_checkpoint
        if resume is not None and not configs.is_last(resume):
            return False
        refuse_others(str(self.path.parent), self.content["record"], record)
        differences = dict(self._differences(_asked(args, training_args)))
        if resume is not None and differences.keys() & set(LENGTH):
            return False
        if differences:
            raise InputError(
                f"{self.path.parent} is finished, with another {', '.join(differences.values())}; give the same again,"
                f" {configs.OTHERWISE}."
            )
        return True

    def require_replaceable(self, record: Mapping) -> None:
        """
        Raises `InputError` where a new run would remove what is another's: the folder holds a model and this file is
        of another run than `record`'s, or it holds checkpoints and no such file.
        """
        if self.is_begun and self._has_model():
            refuse_others(str(self.path.parent), self.content["record"], record)
        if not self.is_begun and (found := configs.checkpoints(self.path.parent)):
            raise InputError(
                f"{self.path.parent} holds {found[-1].name}, from which no run can go on; {configs.OTHERWISE}."
            )

    def _has_model(self) -> bool:
        return any((self.path.parent / name).is_file() for name in ("config.json", "adapter_config.json"))

    def _has_outputs(self) -> bool:
        return self._has_model() and (self.path.parent / "metrics.json").is_file()

    def _differences(self, asked: Mapping) -> Iterator[tuple[str, str]]:
        """By its name, each option that is another than it was, in words."""
        was = self.content["asked"]
        for name in sorted(was.keys() & asked.keys()):
            if was[name] != asked[name]:
                yield name, f"--{name} ({was[name]}, here {asked[name]})"


def _asked(args, training_args: TrainingArguments) -> dict:
    """The job's options and the length of the training, as JSON has them."""
    asked = {name: value for name, value in vars(args).items() if name not in BY_CONTENT}
    asked |= {name: getattr(training_args, name) for name in LENGTH if hasattr(training_args, name)}
    return json.loads(json.dumps(asked, default=lambda value: getattr(value, "value", str(value))))
