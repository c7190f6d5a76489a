"""What a run prints: a progress bar and a table of losses, instead of the libraries' lines and bars."""

import sys
from dataclasses import dataclass

import datasets
from tqdm import tqdm
from transformers import PrinterCallback, ProgressCallback, TrainerCallback

from ..utils.terminal import quieten_transformers

ROWS = 20  # of a table, besides those of evaluations


def quieten() -> None:
    """Keeps the libraries' warnings and bars off the terminal, for the rest of the process."""
    quieten_transformers()
    datasets.disable_progress_bars()


@dataclass
class Row:
    """A line of the table."""

    step: int
    epoch: float
    loss: float | None = None
    measured: dict[str, float] | None = None


class LossTable(TrainerCallback):
    """
    Prints a table of the losses, a row for each evaluation and for every twentieth part of the run; where stderr is a
    terminal, a bar shows every step. Trainer's log and the pictures have all points.

    Args:
        metric: the metric of an evaluation to show next to its loss, such as f1.
        bar: whether there may be a bar.
    """

    def __init__(self, metric: str | None = None, bar: bool = True):
        self.metric, self.bar_is_wanted = metric, bar
        self.bar = self.row = None
        self.next_step, self.row_is_due = 0, False

    def on_train_begin(self, args, state, control, **kwargs):
        if not state.is_world_process_zero:
            return
        self.bar = tqdm(total=state.max_steps, initial=state.global_step, disable=None if self.bar_is_wanted else True)
        self.next_step = state.global_step
        columns = f"{'step':>7}{'epoch':>8}{'loss':>10}{'validation loss':>18}"
        print_line(columns + (f"{self.metric:>12}" if self.metric else ""))

    def on_step_begin(self, args, state, control, **kwargs):
        self._print_row(state)  # after the evaluation that may have followed the last step

    def on_step_end(self, args, state, control, **kwargs):
        if self.bar is not None:
            self.bar.update(state.global_step - self.bar.n)

    def on_log(self, args, state, control, logs=None, **kwargs):
        if self.bar is None:  # another process, or after the training
            return
        if self.row is None or self.row.step != state.global_step:
            self._print_row(state)
            self.row = Row(state.global_step, state.epoch or 0)
        if "loss" in logs:
            self.row.loss = logs["loss"]
            self.row_is_due |= state.global_step >= self.next_step or state.global_step == state.max_steps
        elif "eval_loss" in logs:
            self.row.measured = logs
            self.row_is_due = True

    def on_train_end(self, args, state, control, **kwargs):
        if self.bar is not None:
            self._print_row(state)
            self.bar.close()
            self.bar = None

    def _print_row(self, state) -> None:
        if not self.row_is_due:
            return
        self.row_is_due = False
        row, measured = self.row, self.row.measured or {}
        self.next_step = row.step + state.max_steps / ROWS
        loss = f"{'-':>10}" if measured and row.loss is None else _number(row.loss, 10)  # between two logged steps
        cells = [f"{row.step:>7}{row.epoch:>8.2f}", loss, _number(measured.get("eval_loss"), 18)]
        if self.metric:
            cells.append(_number(measured.get(f"eval_{self.metric}"), 12))
        print_line("".join(cells).rstrip())


def print_line(line: str) -> None:
    """Prints a line above the bar, if there is one."""
    with tqdm.external_write_mode(file=sys.stdout):
        print(line, flush=True)


def _number(value: float | None, width: int) -> str:
    return " " * width if value is None else f"{value:>{width}.4f}"


def use_table(trainer, metric: str | None) -> None:
    """Gives a Trainer the table in place of transformers' lines of dictionaries; in a notebook its own table stays."""
    replaced = [kind for kind in (PrinterCallback, ProgressCallback) if trainer.pop_callback(kind)]
    if replaced:
        trainer.add_callback(LossTable(metric, bar=not trainer.args.disable_tqdm))
        callbacks = trainer.callback_handler.callbacks
        callbacks.insert(1, callbacks.pop())  # before a job's own, so that its header is the first line
