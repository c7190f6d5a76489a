"""
Instruction tuning in real tokens per second: `train instruct` against TRL's SFTTrainer, from the same weights of a
GPT-2, on the same conversations with the same optimizer, batch size and learning rate.

    python training/benchmarks/instruct.py --data_file instruction-data.json --tokenizer openai-community/gpt2

One unit of work is a training of one epoch by each one's Trainer over `--conversations` of the book's, 8 a step. Ours
is what the command does by default: rows of similar length together, `--precision auto`. TRL has its defaults (bf16,
gradient checkpointing), then our precision without checkpointing, then that without padding. Before anything is timed,
the losses of the same conversations are compared.
"""

import argparse
import json
import sys
import tempfile
from pathlib import Path

from finetuning import SETTINGS, add_data_options, auto_precision, save_documents, save_tokenizer
from side_by_side import (
    Contender,
    add_options,
    apart,
    measure,
    missing,
    parse,
    ratios_of,
    row,
    state_gb,
    stock_and_ours,
    write,
)

NO_TRL = "trl is not installed: pip install trl"


def make_parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    add_options(parser, __file__, rounds=3)
    add_data_options(parser, "questions and answers: the book's set")
    parser.add_argument("--conversations", type=int, default=32, help="how many are learned in a round")
    return parser


def read_rows(documents: str, count: int):
    from datasets import Dataset

    return Dataset.from_list(json.loads(Path(documents).read_text())[:count])


def epoch(trainer, rows):
    """An epoch over the rows; the first also gives the loss of some of them, without dropout."""
    import torch

    found = []
    with torch.no_grad():
        trainer.model.eval()
        for one in list(rows)[:4]:
            ids = torch.tensor([one["input_ids"]])
            found.append(trainer.model(ids, labels=torch.tensor([one["labels"]]), use_cache=False).loss.item())
    tokens = sum(len(ids) for ids in rows["input_ids"])

    def train():
        trainer.train()
        return tokens, found

    return train


def make_ours(folder: str, documents: str, count: int, seed: int, precision: str):
    """What `train instruct` does, without evaluations."""
    from hf_gpt_scratch import GPTScratchForCausalLM
    from hf_gpt_scratch.data.packing import LanguageModelCollator
    from hf_gpt_scratch.training.arguments import ScratchTrainingArguments
    from hf_gpt_scratch.training.progress import quieten
    from hf_gpt_scratch.training.samplers import LengthGroupedTrainer

    quieten()
    rows = read_rows(documents, count)
    model = GPTScratchForCausalLM.from_pretrained(f"{folder}/ours")
    args = ScratchTrainingArguments(f"{folder}/run", **SETTINGS, seed=seed, precision=precision)
    collate = LanguageModelCollator(0)
    return epoch(LengthGroupedTrainer(model=model, args=args, train_dataset=rows, data_collator=collate), rows)


def make_trl(folder: str, documents: str, count: int, seed: int, **settings):
    """What TRL's documentation shows, with its defaults but for `settings`."""
    from datasets import disable_progress_bars
    from transformers import AutoTokenizer
    from transformers.utils.logging import disable_progress_bar, set_verbosity_error
    from trl import SFTConfig, SFTTrainer

    set_verbosity_error()
    disable_progress_bars()
    disable_progress_bar()
    rows = read_rows(documents, count)
    args = SFTConfig(f"{folder}/trl", **SETTINGS, seed=seed, **settings)
    tokenizer = AutoTokenizer.from_pretrained(f"{folder}/tokenizer")
    return epoch(SFTTrainer(model=f"{folder}/stock", args=args, train_dataset=rows, processing_class=tokenizer), rows)


def compare(outputs: dict) -> str | None:
    for name, losses in outputs.items():
        largest = max(abs(own - other) for own, other in zip(losses, outputs["ours"], strict=True))
        if not largest <= 0.02:
            return f"the losses of {name} are {losses}, ours {outputs['ours']}"
    return None


def prepare(args: argparse.Namespace, folder: str, size: str) -> str:
    """Saves what the contenders begin with; returns the precision that `train instruct` chooses on this CPU."""
    vocab_size = save_documents(args, Path(folder, "documents.json"))
    save_tokenizer(args, f"{folder}/tokenizer")
    stock_and_ours(folder, size, args.seed, vocab_size=vocab_size)
    return auto_precision(size)


def contenders(common: dict, ours: str) -> list[Contender]:
    """Ours, and TRL with its defaults, with our settings, and without padding where it has its defaults."""
    plain = {"gradient_checkpointing": False, "bf16": ours == "bf16"}
    return [
        Contender("TRL's defaults", make_trl, common),
        Contender(f"TRL, {ours}", make_trl, {**common, **plain}),
        Contender("TRL, no padding", make_trl, {**common, **plain, "padding_free": True, "max_length": None}),
        Contender("ours", make_ours, {**common, "precision": ours}),
    ]


def make_rows(measured: dict | None, size: str, ours: str) -> list[dict]:
    asked = [
        ("TRL's defaults", "TRL's SFTTrainer with its defaults (bf16, gradient checkpointing)", 1.8, 0.7),
        (f"TRL, {ours}", f"TRL's SFTTrainer in {ours}, without gradient checkpointing", None, None),
        ("TRL, no padding", f"TRL's SFTTrainer in {ours}, without checkpointing and padding", 1.8, 0.7),
    ]
    rows = []
    for name, against, speed, memory in asked:
        ratios = memory_ratio = None
        why = ""
        if measured:
            ratios, memory_ratio = ratios_of(measured, "ours", name)
            peak = measured["contenders"]["ours"]["peak_gb"]
            why = f"{state_gb(size):.1f} of the {peak:.1f} GB are weights, gradients and AdamW's moments"
        note = f"ours in {ours}, the default on this CPU" if measured else NO_TRL
        question = f"instruction tuning, {size}, real tokens/s"
        memory_of = {"memory_asked": memory, "memory_ratio": memory_ratio}
        rows.append(row(question, against, speed, ratios, note=note, if_missed=why, **memory_of))
    return rows


def main(argv: list[str] | None = None) -> dict:
    args = parse(make_parser(), argv)
    size, count = ("tiny", 16) if args.quick else (args.size, args.conversations)
    measured, ours = None, "fp32"
    if not missing("trl"):
        with tempfile.TemporaryDirectory() as folder:
            ours = apart(prepare, args, folder, size)
            documents = str(Path(folder, "documents.json"))
            common = {"folder": folder, "documents": documents, "count": count, "seed": args.seed}
            measured = measure(contenders(common, ours), args.rounds, "TRL's defaults", compare)
    return write(
        measured or {},
        __file__,
        args,
        argv,
        task=f"an epoch over {count} of the book's conversations, 8 a step, GPT-2 {size}",
        compared="the losses of the same conversations, within 0.02",
        rows=make_rows(measured, size, ours),
    )


if __name__ == "__main__":
    from hf_gpt_scratch.utils.errors import run_reporting_errors

    sys.exit(run_reporting_errors(lambda: main() and None))
