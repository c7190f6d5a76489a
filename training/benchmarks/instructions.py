"""The encoded conversations that the benchmarks of instruction tuning train on, and the tokenizer."""

import argparse
import json
import random
from pathlib import Path


def add_data_options(parser: argparse.ArgumentParser) -> None:
    """Where the conversations and the tokenizer come from; `--quick` needs neither."""
    parser.add_argument("--data_file", help="questions and answers; by default the book's set, which is downloaded")
    parser.add_argument(
        "--tokenizer", default="openai-community/gpt2", help="folder or repository of GPT-2's tokenizer"
    )


def save_documents(args: argparse.Namespace, path: Path, mask_prompt: bool = False) -> int:
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
    encoded, _ = turns.encode_splits(splits, tokenizer, 1024, mask_prompt)
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
    from side_by_side import SHAPES

    from hf_gpt_scratch.training.precision import NARROWEST
    from hf_gpt_scratch.utils.precision import fast_cpu_dtype

    return "bf16" if SHAPES[size][0] >= NARROWEST and fast_cpu_dtype() == torch.bfloat16 else "fp32"
