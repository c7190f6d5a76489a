"""The Trainer of the jobs: it stops when the loss is NaN, and saves a complete model or none."""

import shutil
import sys
from collections.abc import Callable
from contextlib import ExitStack
from pathlib import Path

import torch
from huggingface_hub import HfApi
from safetensors.torch import load_file
from transformers import EarlyStoppingCallback, Trainer, TrainerCallback, TrainingArguments
from transformers.utils import PushInProgress

from ..evaluation.plots import Saved
from ..hub.files import check_texts, uploadable
from ..hub.findings import CheckFailed
from ..hub.repository import hub_errors, prepare
from ..model_folder.code import package_code
from ..model_folder.contents import ADAPTER_CONFIG, CODE_FILES
from ..model_folder.saving import replace_model
from ..pretrained import record_reference_logits
from ..utils.errors import InputError, UsageError, naming
from ..utils.files import read_json_object, scratch_folder, write_json, write_whole
from .causal_attention import use_dropout_attention
from .checkpoints import complete_checkpoints
from .exact_trainer import ExactTrainer
from .precision import suit_cpu
from .progress import use_table
from .resuming import recorded_precision

SCRATCH = ".model."  # what the names of unfinished models in a run's folder begin with


class ModelCodeCallback(TrainerCallback):
    """
    For transformers' own Trainer with `push_to_hub=True`: what it pushes while it trains is the weights and
    config.json alone (`Trainer._push_from_checkpoint`); this lays the model's code beside them, so that each of those
    commits loads.
    """

    def on_push_begin(self, args, state, control, model=None, **kwargs):
        if state.is_world_process_zero and not hasattr(model, "peft_config"):  # an adapter's code is its base's
            for name in CODE_FILES:
                write_whole(Path(args.output_dir, name), package_code(name).read_bytes())


class ScratchTrainer(ExactTrainer):
    """
    A Trainer that stops when the loss is NaN or infinite, whose every push loads, and that prints a table of losses.

    Args:
        shown_metric: what of an evaluation the table shows beside its loss; the others are `Trainer`'s.

    Raises:
        InputError: then, naming the step and the last checkpoint; and when the Hub refuses.
    """

    def __init__(self, model=None, args=None, *, shown_metric: str | None = None, **kwargs):
        suit_cpu(args, model, recorded_precision)
        super().__init__(model=model, args=args, **kwargs)
        if self.processing_class is not None:  # which is saved with the model
            self.processing_class.model_max_length = self.model.config.n_positions
        if not self.args.torch_compile:
            use_dropout_attention(self.model)
        if not self.args.verbose:
            use_table(self, shown_metric)

    def init_hf_repo(self, *args, **kwargs) -> None:
        """Besides what Trainer does, finds out before the training what a push would refuse after it."""
        with hub_errors(self.args.hub_model_id or Path(self.args.output_dir).absolute().name):
            super().init_hf_repo(*args, **kwargs)
            if self.is_world_process_zero():
                # An adapter may be merged in the end, and pushed as a whole model.
                is_adapter = None if self._has_adapter() and self.args.hub_strategy == "end" else self._has_adapter()
                prepare(self.hub_model_id, self.args.hub_private_repo, self.args.hub_revision, is_adapter)

    def _has_adapter(self) -> bool:
        return hasattr(self.model, "peft_config")

    def _push_from_checkpoint(self, checkpoint_folder: str) -> None:
        """
        Pushes the model in a checkpoint in the background, unless the last push is still under way. In place of
        Trainer's own, which pushes everything in `output_dir`.
        """
        if not self.is_world_process_zero() or self.args.hub_strategy == "end":
            return
        if not (self.args.hub_always_push or self.push_in_progress is None or self.push_in_progress.is_done()):
            return
        # A copy: the checkpoint may be deleted before it has arrived.
        with ExitStack() as stack:
            copy = stack.enter_context(scratch_folder(self.args.output_dir, SCRATCH))
            for path in uploadable(Path(checkpoint_folder)):
                if path.name != "README.md":  # PEFT's, of empty headings
                    shutil.copy(path, copy)
            try:
                check_texts(copy)
            except CheckFailed as failure:
                print(f"note: this checkpoint was not pushed ({failure}).", file=sys.stderr)
                return
            pushing = HfApi().upload_folder(
                repo_id=self.hub_model_id,
                folder_path=copy,
                commit_message=f"Training in progress, step {self.state.global_step}",
                revision=self.args.hub_revision,
                run_as_future=True,
            )
            until_pushed = stack.pop_all()
        pushing.add_done_callback(lambda _: until_pushed.close())
        self.push_in_progress = PushInProgress([pushing])

    def training_step(self, *args, **kwargs) -> torch.Tensor:
        loss = super().training_step(*args, **kwargs)
        if not loss.isfinite().all():
            step = self.state.global_step
            # The update that spoils the weights comes a step before the loss that shows it, and may have been saved.
            good = next(filter(_is_finite, reversed(complete_checkpoints(self.args.output_dir))), None)
            rescue = f"the last good checkpoint is {good}" if good else "there is no good checkpoint"
            raise InputError(
                f"The loss is {loss.item()} after {step} steps; {rescue}. Try a lower --learning_rate, more"
                " --warmup_steps or --precision fp32."
            )
        return loss

    def save_final(self, finish: Callable[[Path], None] = lambda folder: None) -> bool:
        """
        Saves the model, or the adapter of a PEFT model, and its tokenizer into `output_dir`, complete or not at all,
        and says whether this is the main process. To be called by every process: under FSDP each holds a part of the
        weights. What was measured of a model that was there before goes with it (`model_folder.saving`), so the new
        one's measurements are written after this.

        Args:
            finish: called by the main process with the folder that was saved, to change it before it takes its place.
        """
        output_dir = Path(self.args.output_dir)
        self.model.config.use_cache = True  # Trainer turned it off; who loads the model wants to generate
        is_main = self.is_world_process_zero()
        with naming(output_dir), scratch_folder(output_dir if is_main else None, SCRATCH) as partial:
            model = partial / "model"
            self.save_model(str(model), _internal_call=True)
            if is_main:
                (model / "training_args.bin").unlink()
                (model / "README.md").unlink(missing_ok=True)  # PEFT's, of empty headings
                if (model / ADAPTER_CONFIG).is_file():  # PEFT leaves them out
                    self.model.generation_config.save_pretrained(model)
                make_base_absolute(model)
                finish(model)
                replace_model(model, output_dir)
                try:
                    record_reference_logits(output_dir)
                except (InputError, MemoryError, RuntimeError) as error:  # the model itself is safe
                    print(
                        f"note: the reference logits were not recorded ({error}); `check` can do it later.",
                        file=sys.stderr,
                    )
        return is_main


def saved_weights(trainer: Trainer) -> Saved:
    """Which step's weights a trainer ended with, and by which metric they were chosen."""
    args, state = trainer.args, trainer.state
    if args.load_best_model_at_end and state.best_model_checkpoint:
        step, metric = state.best_global_step, args.metric_for_best_model.removeprefix("eval_")
    else:
        step, metric = state.global_step, None
    epoch = next((entry["epoch"] for entry in state.log_history if entry["step"] == step and "epoch" in entry), None)
    return Saved(step, metric, epoch)


def make_base_absolute(adapter: Path) -> None:
    """
    Writes out in full which folder an adapter's base model is. PEFT notes what was typed; from another folder, and on
    the Hub, `runs/small` would be taken for the repository of someone of the name of runs.
    """
    path = adapter / ADAPTER_CONFIG
    settings = read_json_object(path) if path.is_file() else {}
    base = settings.get("base_model_name_or_path")
    if base and Path(base).is_dir():
        write_json(path, settings | {"base_model_name_or_path": str(Path(base).absolute())})


def early_stopping(patience: int | None, args: TrainingArguments) -> list[TrainerCallback]:
    """
    The callback that stops after `patience` evaluations without a better one; none without a patience.

    Raises:
        UsageError: when it is less than 1, or nothing is kept of the best evaluation.
    """
    if patience is None:
        return []
    if patience < 1 or not args.load_best_model_at_end:
        raise UsageError(
            "--early_stopping_patience must be 1 or more and keeps the best evaluation's weights: omit --eval_strategy"
            " no and --load_best_model_at_end false."
        )
    return [EarlyStoppingCallback(early_stopping_patience=patience)]


def _is_finite(checkpoint: Path) -> bool:
    files = list(checkpoint.glob("*.safetensors"))
    return bool(files) and all(tensor.isfinite().all() for file in files for tensor in load_file(file).values())
