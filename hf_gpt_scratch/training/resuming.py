"""
What a run trains on, recorded in its checkpoints: a run that is resumed with something else would train on, and seen
rows again, on its test set, or with tokens that were renumbered. And from which checkpoint a run goes on.

Trainer saves the state of every `ExportableState` callback in the checkpoint's trainer_state.json; so a checkpoint
that is complete has its record.
"""

import hashlib
import json
import sys
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path

import numpy as np
import torch
from transformers import Trainer, TrainerCallback, TrainingArguments
from transformers.trainer_callback import ExportableState

from ..data.word_dropout import WordDropout
from ..tokenizer import fingerprint
from ..utils.errors import InputError
from . import configs
from .arguments import training_settings
from .checkpoints import MARK, complete_checkpoints, fault, last_good, saved_record

# The job's options that change nothing of the training, or are compared by what they stand for.
NOT_COMPARED = {
    *("data_file", "bad_rows", "model_name_or_path", "tokenizer_name", "lora_alpha"),
    *("early_stopping_patience", "merge_adapter"),
    *("sample_every", "sample_prompt", "sample_tokens", "temperature", "top_k"),
    *("max_new_tokens", "repetition_penalty", "generation_batch_size", "answered_rows"),
    *("refuse", "refusal"),
}
# Of the training arguments, those that `training_settings` lacks: the checkpoint's optimizer has the last three.
DECIDING = ("seed", "data_seed", "adam_beta1", "adam_beta2", "adam_epsilon")
NOT_SHAPE = {  # of a configuration: how the model is run, saved or used afterwards
    *("transformers_version", "use_cache", "dtype", "torch_dtype", "attn_implementation", "architectures"),
    *("auto_map", "custom_pipelines", "calibration", "loss_chunk_size"),
}
SAMPLE = 256  # rows that are read of a data set, and values of a matrix


class TrainedOn(TrainerCallback, ExportableState):
    """Keeps the record of `make_record` in every checkpoint."""

    def __init__(self, record: dict | None = None):
        self.record = record or {}

    def state(self) -> dict:
        """What Trainer saves, and makes the callback of again."""
        return {"args": {"record": self.record}, "attributes": {}}

    def on_train_begin(self, args, state, control, **kwargs):
        state.stateful_callbacks.setdefault(type(self).__name__, self.state())  # a checkpoint without one is resumed


def make_record(job: str, args, trainer: Trainer, data: Mapping) -> dict:
    """
    What decides a training, besides how long it is.

    Args:
        args: the job's own options.
        data: what identifies the data and the split, such as `sha256`; an option of such a name, which may be left
            out, is compared by what it stands for here.
    """
    model, known = trainer.model, NOT_COMPARED | data.keys()
    settings = {name: value for name, value in vars(args).items() if name not in known}
    record = {
        MARK: True,
        "job": job,
        "data": dict(data),
        "settings": {**settings, **_training_settings(trainer.args)},
        "tokenizer": trainer.processing_class and fingerprint(trainer.processing_class),
        "model": _shape(model.config.to_dict()),
        "adapter": _adapter(model),
        "precision": training_settings(trainer.args)["precision"],  # not compared: that of another machine will do
        "training rows": rows_fingerprint(trainer.train_dataset),
        "validation rows": rows_fingerprint(trainer.eval_dataset),
    }
    return json.loads(json.dumps(record, default=str))  # as it comes out of a checkpoint


def _training_settings(args: TrainingArguments) -> dict:
    settings = training_settings(args) | {name: getattr(args, name) for name in DECIDING}
    del settings["precision"]
    return settings


def _shape(config: Mapping) -> dict:
    return {name: value for name, value in config.items() if name not in NOT_SHAPE and not name.startswith("_")}


def _adapter(model: torch.nn.Module) -> dict | None:
    """The settings of the LoRA adapter that is trained, and what its frozen base model is."""
    if not hasattr(model, "peft_config"):
        return None
    frozen = weights_fingerprint(parameter for parameter in model.parameters() if not parameter.requires_grad)
    [settings] = model.peft_config.values()
    names = ("r", "lora_alpha", "lora_dropout")
    return {name: getattr(settings, name, None) for name in names} | {"base": frozen}


def weights_fingerprint(parameters: Iterable[torch.Tensor]) -> str:
    """Eight digits of the SHA-256 of a sample of the weights."""
    digest = hashlib.sha256()
    for parameter in parameters:
        values = parameter.detach().flatten()
        digest.update(values[:: max(1, len(values) // SAMPLE)].float().cpu().numpy().tobytes())
    return digest.hexdigest()[:8]


def rows_fingerprint(rows) -> str | None:
    """The number of rows, and eight digits of the SHA-256 of a sample of them; `None` for a stream."""
    if isinstance(rows, Mapping):  # several validation sets
        return json.dumps({name: rows_fingerprint(part) for name, part in rows.items()})
    rows = rows.rows if isinstance(rows, WordDropout) else rows  # which draws at random
    if rows is None or not hasattr(rows, "__len__"):
        return None
    digest = hashlib.sha256()
    for number in np.linspace(0, len(rows) - 1, min(len(rows), SAMPLE)).astype(int):
        row = rows[int(number)]
        if isinstance(row, Mapping):  # without what TRL computed of it, which another machine rounds in another way
            row = {name: value for name, value in row.items() if not name.startswith("ref_")}
        digest.update(json.dumps(row, sort_keys=True, default=_plain).encode())
    return f"{len(rows)}, {digest.hexdigest()[:8]}"


def _plain(value):
    return value.tolist() if hasattr(value, "tolist") else type(value).__name__


def resume_checkpoint(args: TrainingArguments) -> str | None:
    """
    The checkpoint that the run goes on from: the one given with `--resume_from_checkpoint`, or else the newest in
    `output_dir` that is not damaged. `None` where there is none yet, or `--overwrite_output_dir` is given.

    Raises:
        InputError: when there is none though one is asked for, or all are damaged.
    """
    wanted, overwrite = args.resume_from_checkpoint, getattr(args, "overwrite_output_dir", False)
    if overwrite or (wanted is not None and not configs.is_resumed(wanted)):
        return None
    if wanted is None or configs.is_last(wanted):
        folder, place = last_good(args.output_dir, args.load_best_model_at_end), args.output_dir
    else:
        reason = fault(Path(wanted), args.load_best_model_at_end)
        folder, place = (None, f"{wanted} ({reason})") if reason else (Path(wanted), wanted)
    if folder is None and wanted is not None:
        raise InputError(f"There is no complete checkpoint to resume from in {place}; omit --resume_from_checkpoint.")
    return folder and str(folder)


def recorded_precision(args: TrainingArguments) -> str | None:
    """In which precision the run computed that is to be resumed; `None` where none is, or nothing says it."""
    wanted, overwrite = args.resume_from_checkpoint, getattr(args, "overwrite_output_dir", False)
    if overwrite or (wanted is not None and not configs.is_resumed(wanted)):
        return None
    is_named = wanted is not None and not configs.is_last(wanted)
    saved = [Path(wanted)] if is_named else complete_checkpoints(args.output_dir)
    return next((record["precision"] for record in map(saved_record, reversed(saved)) if "precision" in record), None)


def require_same(checkpoint: str, record: Mapping, is_asked: bool) -> None:
    """
    Compares a run's record with that of the checkpoint that it is to be resumed from. Of a checkpoint of an older
    version, which has none, it says that this cannot be compared.

    Args:
        is_asked: whether `--resume_from_checkpoint` asks for it; without it a checkpoint without a record is refused.

    Raises:
        InputError: where they differ, naming what does.
    """
    saved = saved_record(Path(checkpoint))
    if not saved and not is_asked:
        raise InputError(
            f"{checkpoint} does not say what it was trained on, as an older version saved it: go on from it with"
            " --resume_from_checkpoint true, or begin anew with --overwrite_output_dir true."
        )
    if not saved:
        print(
            f"note: {checkpoint} does not say what it was trained on, as an older version saved it; make sure that"
            " the data and the settings are the same.",
            file=sys.stderr,
        )
        return
    if not is_record(saved):
        raise InputError(
            f"The record in {checkpoint}/trainer_state.json cannot be read; go on from another checkpoint, or begin"
            " anew with --overwrite_output_dir true."
        )
    refuse_others(checkpoint, saved, record)


def is_record(saved) -> bool:
    """Whether it can be compared with what `make_record` makes."""
    if not isinstance(saved, Mapping):
        return False
    parts = [saved.get(name, {}) for name in ("data", "settings", "model", "adapter")]
    names = ("job", "tokenizer", "training rows", "validation rows")
    return all(name in saved for name in names) and all(part is None or isinstance(part, Mapping) for part in parts)


def refuse_others(place: str, saved: Mapping, record: Mapping) -> None:
    """Raises `InputError` where a run is not that of a record, naming what differs."""
    if differences := list(_differences(saved, record)):
        raise InputError(
            f"{place} was trained {', '.join(differences)}; give the same again, begin anew with"
            " --overwrite_output_dir true, or choose another --output_dir."
        )


def _differences(old: Mapping, new: Mapping) -> Iterator[str]:
    """What differs, the causes alone: with other data, the tokenizer that was trained on them differs too."""
    if old["job"] != new["job"]:
        yield f"by `hf-gpt-scratch train {old['job']}`"
        return
    data = _changed(old, new, "data")
    found = [f"on other data (sha256 {data['sha256']})"] if "sha256" in data else _named(data, "")
    found += _named(_changed(old, new, "settings"), "--")
    if not found:
        if old["tokenizer"] != new["tokenizer"]:
            found.append(f"with another tokenizer (fingerprint {old['tokenizer']}, here {new['tokenizer']})")
        found += _named(_changed(old, new, "model"), "") + _named(_changed(old, new, "adapter"), "LoRA ")
    if not found:
        found = [f"on other {name}" for name in ("training rows", "validation rows") if old[name] != new[name]]
    yield from found


def _changed(old: Mapping, new: Mapping, part: str) -> dict[str, str]:
    """Of what both records have, since a version may add something: what differs, and how."""
    was, now = old.get(part) or {}, new[part] or {}
    names = [name for name in was if name in now and was[name] != now[name]]
    return {name: f"{_shown(was[name])}, here {_shown(now[name])}" for name in names}


def _named(changed: Mapping[str, str], before: str) -> list[str]:
    names = {name: name if name == "batch_size" else f"{before}{name}" for name in changed}  # of two options' product
    return [f"with another {names[name]} ({values})" for name, values in changed.items()]


def _shown(value) -> str:
    text = str(value)
    is_hash = len(text) == 64 and not text.strip("0123456789abcdef")
    return f"{text[:8]}..." if is_hash else "none" if value is None else text
