"""
What the processes of `test_many_processes.py` run: Trainer on rows of very unequal lengths, then the spam job.

    python tests/support/distributed_train.py START OUT MODE

START holds a language model and its tokenizer, MODE is ddp, fsdp2, tp or zero2. Launched, it never imports the package
for the language model, whose code comes from START. Writes each job's model and checkpoints in a folder in OUT, and
what the first process measured in OUT/report.json.
"""

import json
import os
import sys
from pathlib import Path

if "RANK" in os.environ:  # processes that copied the code to one place at the same time would read halves of files
    os.environ["HF_MODULES_CACHE"] = f"{sys.argv[2]}/modules-{os.environ['RANK']}"

import torch
from accelerate import PartialState
from accelerate.utils import DistributedType
from datasets import Dataset
from torch.nn.utils.rnn import pad_sequence
from transformers import (
    AutoModelForCausalLM,
    AutoModelForSequenceClassification,
    AutoTokenizer,
    Trainer,
    TrainingArguments,
)
from transformers.distributed import DistributedConfig

HEADS = {"causal": AutoModelForCausalLM, "sequence": AutoModelForSequenceClassification}
JOBS = {"ddp": ["causal", "sequence", "spam"], "fsdp2": ["causal", "sequence", "spam"], "tp": ["causal"]}
JOBS |= {"zero2": ["causal", "spam"]}
GLOBAL_BATCH, STEPS = 8, 6
TRAINING = Path(__file__).parents[2] / "training"
SPAM = {
    "data_file": Path(__file__).with_name("messages.tsv"),
    "train_tokenizer": 400,
    "n_embd": 32,
    "n_layer": 2,
    "n_head": 2,
    "n_positions": 128,
    "dropout": 0.0,
    "prefix_loss_weight": 0.5,
    "num_train_epochs": 2,
    "learning_rate": 1e-2,
    "adam_epsilon": 1e-3,
    "disable_tqdm": True,
    "report_to": "none",
}
SPAM_BATCH = 24  # per step, over all processes: 336 messages are 14 times that


def make_rows(head: str) -> Dataset:
    """Half of every batch, one process's share, has rows of 2 to 5 tokens; the other's have 20 to 40."""
    torch.manual_seed(1)
    rows = []
    for i in range(GLOBAL_BATCH * 2 * STEPS):
        length = torch.randint(2, 6, ()) if i % GLOBAL_BATCH < GLOBAL_BATCH // 2 else torch.randint(20, 41, ())
        ids = ((torch.randint(200, ()) + torch.arange(length)) % 200 + 2).tolist()
        rows.append({"input_ids": ids, "labels": ids if head == "causal" else i % 2})
    return Dataset.from_list(rows)


def collate(rows: list[dict]) -> dict[str, torch.Tensor]:
    ids = [torch.tensor(row["input_ids"]) for row in rows]
    labels = [torch.tensor(row["labels"]) for row in rows]
    return {
        "input_ids": pad_sequence(ids, batch_first=True),
        "attention_mask": pad_sequence([torch.ones_like(row) for row in ids], batch_first=True),
        "labels": pad_sequence(labels, batch_first=True, padding_value=-100)
        if labels[0].ndim
        else torch.stack(labels),
    }


def device_options(mode: str) -> dict:
    """
    Options that keep Trainer on the CPU.

    accelerate has FSDP, tensor parallelism and ZeRO for accelerators only (on CPUs it silently runs DDP where FSDP was
    asked), so it is told that the CPU is one.
    """
    if mode in ("single", "ddp"):
        return {"use_cpu": True}
    os.environ["ACCELERATE_TORCH_DEVICE"] = "cpu"
    PartialState._prepare_backend = lambda *args: ("gloo", DistributedType.MULTI_GPU)
    if mode == "zero2":
        from deepspeed.comm import torch as deepspeed_comm

        deepspeed_comm.build_shm_op = lambda: None  # a minute of compiling, for nothing but speed
    return {"ddp_backend": "gloo"}


def train(head: str, start: str, out: Path, mode: str) -> dict:
    replicas = 2 if mode in ("ddp", "fsdp2", "zero2") else 1  # that read rows of their own
    arguments = TrainingArguments(
        output_dir=out,
        max_steps=STEPS,
        save_steps=STEPS // 2,
        save_only_model=mode == "tp",  # Trainer asks for it
        logging_steps=1,
        per_device_train_batch_size=GLOBAL_BATCH // replicas,
        gradient_accumulation_steps=2,
        train_sampling_strategy="sequential",
        learning_rate=1e-2,
        adam_epsilon=1e-3,  # else Adam makes steps out of rounding errors, and hides a wrong scale of the gradients
        report_to="none",
        disable_tqdm=True,
        **device_options(mode),
    )
    torch.manual_seed(0)  # for the classifier's head
    sharding = {"distributed_config": DistributedConfig(tp_size=2)} if mode == "tp" else {}
    model = HEADS[head].from_pretrained(start, trust_remote_code=True, pad_token_id=1, **sharding)
    trainer = Trainer(
        model=model,
        args=arguments,
        train_dataset=make_rows(head),
        data_collator=collate,
        processing_class=AutoTokenizer.from_pretrained(start, trust_remote_code=True),
    )
    trainer.train()
    trainer.save_model(out / "model")
    return {
        "losses": [entry["loss"] for entry in trainer.state.log_history if "loss" in entry],
        "kind": trainer.accelerator.distributed_type.value,
        "sharded": hasattr(next(trainer.model.parameters()), "placements"),
        "class": f"{type(trainer.model).__module__}.{type(trainer.model).__name__}",
    }


def train_spam(out: Path, mode: str) -> dict:
    from hf_gpt_scratch.training import spam

    # Two halves of each batch, whether for two processes or one after the other.
    accumulation = {"gradient_accumulation_steps": 2 if mode == "single" else 1}
    settings = {**SPAM, **accumulation, **device_options(mode), "per_device_train_batch_size": SPAM_BATCH // 2}
    options = [word for key, value in {**settings, "output_dir": out}.items() for word in (f"--{key}", str(value))]
    return spam.main(options)


def main(start: str, out: str, mode: str, jobs: list[str]) -> None:
    report = {
        job: train_spam(Path(out) / job, mode) if job == "spam" else train(job, start, Path(out) / job, mode)
        for job in jobs
    }
    if int(os.environ.get("RANK", 0)) == 0:
        (Path(out) / "report.json").write_text(json.dumps(report, default=str))


if __name__ == "__main__":
    main(*sys.argv[1:], JOBS[sys.argv[3]])
