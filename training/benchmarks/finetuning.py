"""What the benchmarks of fine-tuning share: the encoded conversations, the tokenizer, the options of a Trainer."""

import argparse
import json
import random
from pathlib import Path

from side_by_side import SHAPES

SETTINGS = {  # of all Trainers
    "per_device_train_batch_size": 8,
    "num_train_epochs": 1,
    "learning_rate": 5e-5,
    "weight_decay": 0.1,
    "save_strategy": "no",
    "eval_strategy": "no",
    "report_to": "none",
    "disable_tqdm": True,
    "logging_strategy": "no",
    "use_cpu": True,
}


def add_data_options(parser: argparse.ArgumentParser, data: str) -> None:
    """Where the data, the tokenizer and the shape come from; `--quick` needs none."""
    parser.add_argument("--data_file", help=f"{data}, which is downloaded by default")
    parser.add_argument("--size", choices=SHAPES, default="124M", help="shape of the model")
    parser.add_argument(
        "--tokenizer", default="openai-community/gpt2", help="folder or repository of GPT-2's tokenizer"
    )


def save_documents(args: argparse.Namespace, path: Path) -> int:
    """
    Saves the training conversations as JSON, rows of `input_ids` and `labels` as `train instruct` makes them, and
    returns the size of the vocabulary. With `--quick` they are random tokens, as long as the book's.
    """
    if args.quick:
        draw = random.Random(args.seed)
        ids = [[draw.randrange(500) for _ in range(int(draw.triangular(30, 92, 50)))] for _ in range(200)]
        path.write_text(json.dumps([{"input_ids": row, "labels": row} for row in ids]))
        return 500
    from hf_gpt_scratch.data import turns
    from hf_gpt_scratch.data.conversations import load_conversations
    from hf_gpt_scratch.prompts import chat_template
    from hf_gpt_scratch.tokenizer import load_tokenizer
    from hf_gpt_scratch.training.progress import quieten

    quieten()
    splits = turns.split(load_conversations(args.data_file).rows, args.seed)
    tokenizer = load_tokenizer(args.tokenizer)
    tokenizer.chat_template = chat_template(False, turns.is_conversational(splits["train"]))
    encoded, _ = turns.encode_splits(splits, tokenizer, 1024, False)
    rows = encoded["train"].select_columns(["input_ids", "labels"])
    path.write_text(json.dumps(rows.to_list()))
    return len(tokenizer)


def save_tokenizer(args: argparse.Namespace, folder: str) -> None:
    """Saves the tokenizer where others find it; with `--quick` one of 500 tokens."""
    from hf_gpt_scratch.tokenizer import load_tokenizer, train_tokenizer

    if args.quick:
        tokenizer = train_tokenizer([" ".join(str(i) for i in range(2000))], 500)
    else:
        tokenizer = load_tokenizer(args.tokenizer)
    tokenizer.save_pretrained(folder)


def auto_precision(size: str) -> str:
    """What the jobs' `--precision auto` is on this machine's CPU for a model of this shape, "bf16" or "fp32"."""
    import torch

    from hf_gpt_scratch.training.precision import NARROWEST
    from hf_gpt_scratch.utils.precision import fast_cpu_dtype

    return "bf16" if SHAPES[size][0] >= NARROWEST and fast_cpu_dtype() == torch.bfloat16 else "fp32"
