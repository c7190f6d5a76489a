"""
A Trainer whose runs, killed at any moment and resumed, end with the same weights, log and totals as those that nobody
killed. What transformers' own leaves to be done for that:

- a checkpoint counts from the moment that all of it is on the disk, and none before it is deleted earlier
  (`checkpoints`);
- one at the end of an epoch is saved after what the end of the epoch measures;
- the losses since the last line of the log, and the seconds of all sessions, are kept in it (`PROGRESS`);
- a run that was at its end trains no further step;
- a signal saves a checkpoint (`stopping`).
"""

import json
import time
from pathlib import Path

import torch
from transformers import EarlyStoppingCallback, Trainer, TrainerCallback

from ..utils.files import write_json
from .checkpoints import PROGRESS, remove, rotate, write_manifest
from .data_workers import leave_signals_to_parent
from .stopping import Stop


class Moments(TrainerCallback):
    """
    Attributes:
        in_step: whether a step has begun, and its epoch has not ended.
        save_is_due: whether a checkpoint is to be saved at the end of the epoch.
        stop: the signal that asks the run to end.
        is_stopping: whether all processes know of it.
    """

    def __init__(self):
        self.in_step = self.save_is_due = self.is_stopping = False
        self.stop = Stop()

    def on_step_begin(self, args, state, control, **kwargs):
        self.in_step = True

    def on_step_end(self, args, state, control, **kwargs):
        is_moment = control.should_log or control.should_save or control.should_evaluate
        if self.stop.is_agreed(args.world_size, is_moment):
            control.should_save = self.is_stopping = True

    def on_epoch_end(self, args, state, control, **kwargs):
        if self.stop.is_agreed(args.world_size, is_moment=True):  # by a signal since the step
            self.save_is_due = self.is_stopping = True
        control.should_save |= self.save_is_due
        self.in_step = self.save_is_due = False


class ExactTrainer(Trainer):
    """
    The arguments are those of Trainer.

    Attributes:
        seconds: that the training took, in all sessions; `None` where an earlier version began it.
        seconds_before: those of the sessions before this one, as far as a checkpoint tells.
    """

    def __init__(self, *args, **kwargs):
        super().__init__(*args, **kwargs)
        self._moments = Moments()
        self.add_callback(self._moments)
        self._earlier: dict | None = None
        self._is_resumed, self.seconds_before, self._begun, self.seconds = False, 0.0, 0.0, None

    def listen_to(self, stop: Stop) -> None:
        """Saves a checkpoint at the end of the step in which `stop` is asked for, and raises its error."""
        self._moments.stop = stop

    def train(self, resume_from_checkpoint: str | None = None, *args, **kwargs):
        self._is_resumed, self._begun = bool(resume_from_checkpoint), time.time()
        self._earlier = self._read_progress(resume_from_checkpoint) if resume_from_checkpoint else None
        self.seconds_before = (self._earlier or {}).get("seconds", 0.0)
        return super().train(resume_from_checkpoint, *args, **kwargs)

    def _get_dataloader(self, *args, **kwargs):
        loader = super()._get_dataloader(*args, **kwargs)
        leave_signals_to_parent(getattr(loader, "base_dataloader", loader))  # that which accelerate's starts them by
        return loader

    # What is kept between sessions

    def progress(self) -> dict:
        """What a checkpoint keeps of this process besides Trainer's own."""
        return {
            "loss": self._tr_loss.item(),
            "total_loss": self._total_loss_scalar,
            "last_logged": self._globalstep_last_logged,
            "is_stopped_early": self.control.should_training_stop and self.state.global_step < self.state.max_steps,
            "length": self._length(),
            "seconds": self.seconds_before + time.time() - self._begun,
        }

    def _length(self) -> list:
        """What decides when the run ends: its steps, and the patience of early stopping."""
        return [self.state.max_steps, *(callback.early_stopping_patience for callback in self._early_stopping())]

    def _early_stopping(self) -> list[EarlyStoppingCallback]:
        return [one for one in self.callback_handler.callbacks if isinstance(one, EarlyStoppingCallback)]

    def _load_callback_state(self) -> None:
        given = [callback.early_stopping_patience for callback in self._early_stopping()]
        super()._load_callback_state()
        for callback, patience in zip(self._early_stopping(), given):  # which may be another than the checkpoint's
            callback.early_stopping_patience = patience

    def restore_progress(self, saved: dict) -> None:
        """Takes up what `progress` has kept."""
        self._tr_loss = torch.tensor(saved["loss"], device=self.args.device)
        self._total_loss_scalar, self._globalstep_last_logged = saved["total_loss"], saved["last_logged"]
        self._initial_num_input_tokens_seen = self._initial_global_step = 0  # as the times are those of all sessions

    def _read_progress(self, checkpoint: str) -> dict | None:
        path = Path(checkpoint, PROGRESS.format(self.args.process_index))
        return json.loads(path.read_text(encoding="utf-8")) if path.is_file() else None

    def _init_training_state(self, *args, **kwargs):
        found = super()._init_training_state(*args, **kwargs)
        # A run's folder may have been moved, or be named from another place
        best = Path(self.args.output_dir, f"checkpoint-{self.state.best_global_step}")
        if self._is_resumed and self.state.best_global_step and best.is_dir():
            self.state.best_model_checkpoint = str(best)
        return found

    def _run_epoch(self, *args, **kwargs) -> None:
        earlier = self._take_up()
        is_stopped_early = earlier.get("is_stopped_early") and earlier.get("length") == self._length()
        if self.state.global_step >= self.state.max_steps or is_stopped_early:
            self.control.should_training_stop = True  # before a step, as Trainer asks after one
            return
        super()._run_epoch(*args, **kwargs)

    def _take_up(self) -> dict:
        """Restores what the checkpoint has kept, once, and returns it."""
        earlier, self._earlier = self._earlier, None
        if earlier is not None:
            self.restore_progress(earlier)
        return earlier or {}

    def _evaluate(self, trial, ignore_keys_for_eval, skip_scheduler: bool = False):
        if skip_scheduler and self._is_resumed:  # `eval_on_start`, which was done
            return {}
        return super()._evaluate(trial, ignore_keys_for_eval, skip_scheduler)

    def log(self, logs: dict[str, float], start_time: float | None = None) -> None:
        super().log(logs, None if start_time is None else start_time - self.seconds_before)

    def _finalize_training(self, trial, num_train_samples, start_time):
        self._take_up()  # where no epoch was left
        found = super()._finalize_training(trial, num_train_samples, start_time - self.seconds_before)
        is_known = not self._is_resumed or self._initial_global_step == 0
        self.seconds = found.metrics["train_runtime"] if is_known else None
        return found

    # How a checkpoint is saved

    def _save_checkpoint(self, model, trial) -> None:
        is_epoch_over = float(self.state.epoch or 0).is_integer() or self.control.should_training_stop
        if self._moments.in_step and is_epoch_over:
            self._moments.save_is_due = True
            return
        folder = Path(self.args.output_dir, f"checkpoint-{self.state.global_step}")
        if self.is_world_process_zero() and folder.exists():  # what a killed run has left, or a damaged one
            remove(folder)
        self.accelerator.wait_for_everyone()
        limit, self.args.save_total_limit = self.args.save_total_limit, None  # nothing is deleted yet
        try:
            super()._save_checkpoint(model, trial)
        finally:
            self.args.save_total_limit = limit
        write_json(folder / PROGRESS.format(self.args.process_index), self.progress())
        self.accelerator.wait_for_everyone()
        if self.args.should_save:
            write_manifest(folder)
            rotate(self.args.output_dir, folder, limit, self.state.best_model_checkpoint)
        if self._moments.is_stopping:
            self.accelerator.wait_for_everyone()  # torchrun ends all processes soon after the first that has ended
            raise self._moments.stop.error
