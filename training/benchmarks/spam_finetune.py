"""
Fine-tuning a GPT-2 to tell spam, in messages per second, from the same weights on the same messages.

    python training/benchmarks/spam_finetune.py --data_file SMSSpamCollection --tokenizer openai-community/gpt2

Against the loop of chapter 6 of "Build a Large Language Model (From Scratch)": the last block, the final LayerNorm and
the head are trained on batches of 8, all padded to the longest message of the training set. And against transformers'
GPT2ForSequenceClassification, Trainer and DataCollatorWithPadding: everything is trained, batches of 8 at random. One
unit of work is one epoch over `--messages` messages, the first of the book's training set, which is itself in random
order. Ours is LengthGroupedTrainer, as in `train spam`, with the precision that `auto` finds and in fp32. Before
anything is timed, the losses of the same messages are compared.
"""

import argparse
import json
import random
import statistics
import sys
import tempfile
from pathlib import Path

from finetuning import SETTINGS, add_data_options, auto_precision, save_tokenizer
from side_by_side import Contender, add_options, apart, measure, missing, parse, row, stock_and_ours, write

PAD = 50256
# Names of ours and the book's; those of the blocks follow after the block's number
OUTER = {"transformer.wte.": "tok_emb.", "transformer.wpe.": "pos_emb.", "transformer.ln_f.": "final_norm."}
INNER = {
    "attn.q_proj": "att.W_query",
    "attn.k_proj": "att.W_key",
    "attn.v_proj": "att.W_value",
    "attn.o_proj": "att.out_proj",
    "mlp.fc_in": "ff.layers.0",
    "mlp.fc_out": "ff.layers.2",
    "ln_1": "norm1",
    "ln_2": "norm2",
}


def make_parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    add_options(parser, __file__, rounds=2)
    add_data_options(parser, "the SMS Spam Collection")
    parser.add_argument("--messages", type=int, default=128, help="how many are learned in a round")
    return parser


def save_messages(args: argparse.Namespace, folder: str, count: int) -> tuple[int, int]:
    """
    Saves the messages as JSON, rows of `input_ids` and `label`; returns the size of the vocabulary and the tokens of
    the longest message of the training set.
    """
    if args.quick:
        draw = random.Random(args.seed)
        texts = [[draw.randrange(500) for _ in range(draw.randint(3, 60))] for _ in range(count)]
        labels, vocab_size = [number % 2 for number in range(count)], 500
    else:
        from hf_gpt_scratch.data import sms_spam
        from hf_gpt_scratch.tokenizer import load_tokenizer

        train = sms_spam.split(sms_spam.load_messages(args.data_file), "book", args.seed)["train"]
        tokenizer = load_tokenizer(args.tokenizer)
        texts = tokenizer(list(train["text"]), split_special_tokens=True)["input_ids"]
        labels, vocab_size = train["label"], len(tokenizer)
    rows = [{"input_ids": ids, "label": label} for ids, label in zip(texts[:count], labels)]
    Path(folder, "messages.json").write_text(json.dumps(rows))
    return vocab_size, max(map(len, texts))


def read_messages(folder: str) -> list[dict]:
    return json.loads(Path(folder, "messages.json").read_text())


def new_head(width: int, seed: int):
    """The weights of the head that all begin with, `(2, width)`."""
    import torch

    return torch.randn(2, width, generator=torch.Generator().manual_seed(seed)) * 0.02


def loss_of_each(rows: list[dict], logits_of) -> list[float]:
    """The loss of some messages, each by itself without padding."""
    import torch
    from torch.nn import functional as F

    with torch.no_grad():
        logits = [logits_of(torch.tensor([one["input_ids"]])) for one in rows[:8]]
        return [F.cross_entropy(one, torch.tensor([row["label"]])).item() for one, row in zip(logits, rows)]


def train_by_trainer(trainer, rows: list[dict]):
    """An epoch of a Trainer; the first also gives the losses before it."""
    losses = loss_of_each(rows, lambda ids: trainer.model.eval()(ids).logits)

    def train():
        trainer.train()
        return len(rows), losses

    return train


def make_ours(folder: str, seed: int, precision: str, layers: str, dropout: float):
    """The Trainer of `train spam`, without evaluations."""
    import torch
    from datasets import Dataset
    from transformers import AutoTokenizer, DataCollatorWithPadding

    from hf_gpt_scratch import GPTScratchForSequenceClassification
    from hf_gpt_scratch.training.arguments import ScratchTrainingArguments
    from hf_gpt_scratch.training.classifiers import freeze
    from hf_gpt_scratch.training.progress import quieten
    from hf_gpt_scratch.training.samplers import LengthGroupedTrainer

    quieten()
    rows = read_messages(folder)
    dropouts = dict.fromkeys(("resid_pdrop", "embd_pdrop", "attn_pdrop"), dropout)
    model = GPTScratchForSequenceClassification.from_pretrained(f"{folder}/ours", num_labels=2, **dropouts)
    model.score.weight.data = new_head(model.config.n_embd, seed)
    freeze(model, layers)
    args = ScratchTrainingArguments(f"{folder}/run", **SETTINGS, seed=seed, precision=precision)
    tokenizer = AutoTokenizer.from_pretrained(f"{folder}/tokenizer")
    tokenizer.pad_token = tokenizer.pad_token or tokenizer.eos_token
    torch.manual_seed(seed)
    trainer = LengthGroupedTrainer(
        model=model,
        args=args,
        train_dataset=Dataset.from_list([{**one, "attention_mask": [1] * len(one["input_ids"])} for one in rows]),
        data_collator=DataCollatorWithPadding(tokenizer),
    )
    return train_by_trainer(trainer, rows)


def make_stock(folder: str, seed: int, bf16: bool):
    """transformers' own model and Trainer."""
    from datasets import Dataset
    from transformers import (
        AutoTokenizer,
        DataCollatorWithPadding,
        GPT2ForSequenceClassification,
        Trainer,
        TrainingArguments,
    )
    from transformers.utils.logging import disable_progress_bar, set_verbosity_error

    set_verbosity_error()
    disable_progress_bar()
    rows = read_messages(folder)
    model = GPT2ForSequenceClassification.from_pretrained(f"{folder}/stock", num_labels=2)
    model.score.weight.data = new_head(model.config.n_embd, seed)
    tokenizer = AutoTokenizer.from_pretrained(f"{folder}/tokenizer")
    tokenizer.pad_token = tokenizer.pad_token or tokenizer.eos_token
    model.config.pad_token_id = tokenizer.pad_token_id
    trainer = Trainer(
        model=model,
        args=TrainingArguments(f"{folder}/stock_run", **SETTINGS, seed=seed, bf16=bf16),
        train_dataset=Dataset.from_list([{**one, "attention_mask": [1] * len(one["input_ids"])} for one in rows]),
        data_collator=DataCollatorWithPadding(tokenizer),
    )
    return train_by_trainer(trainer, rows)


def book_weights(model) -> dict:
    """The weights of one of our language models by the book's names, without the head's."""
    weights = {}
    for name, value in model.state_dict().items():
        for ours, theirs in OUTER.items():
            name = name.replace(ours, theirs)
        if name.startswith("transformer.h."):
            number, _, inner = name.removeprefix("transformer.h.").partition(".")
            layer, _, part = inner.rpartition(".")
            name = f"trf_blocks.{number}.{INNER[layer]}.{part}"
        if "norm" in name:
            name = name.replace(".weight", ".scale").replace(".bias", ".shift")
        if name != "lm_head.weight":
            weights[name] = value
    return weights


def make_book(folder: str, seed: int, longest: int):
    """The book's model and its loop."""
    import torch
    from llms_from_scratch.ch04 import GPTModel
    from torch.nn import functional as F

    from hf_gpt_scratch import GPTScratchForCausalLM

    ours = GPTScratchForCausalLM.from_pretrained(f"{folder}/ours")
    config = ours.config
    shape = {"vocab_size": config.vocab_size, "context_length": config.n_positions, "emb_dim": config.n_embd}
    shape |= {"n_heads": config.n_head, "n_layers": config.n_layer, "drop_rate": 0.0, "qkv_bias": True}
    model = GPTModel(shape)
    missed = model.load_state_dict(book_weights(ours), strict=False).missing_keys
    assert all("mask" in name or "out_head" in name for name in missed), missed
    del ours
    model.requires_grad_(False)
    model.out_head = torch.nn.Linear(config.n_embd, 2)
    model.out_head.weight.data, model.out_head.bias.data = new_head(config.n_embd, seed), torch.zeros(2)
    for module in (model.trf_blocks[-1], model.final_norm):
        module.requires_grad_(True)
    rows = read_messages(folder)
    losses = loss_of_each(rows, lambda ids: model(ids)[:, -1])
    padding = PAD if config.vocab_size > PAD else 0
    ids = torch.tensor([one["input_ids"] + [padding] * (longest - len(one["input_ids"])) for one in rows])
    labels = torch.tensor([one["label"] for one in rows])
    optimizer = torch.optim.AdamW(
        model.parameters(), lr=SETTINGS["learning_rate"], weight_decay=SETTINGS["weight_decay"]
    )

    def train():
        model.train()
        for batch in torch.randperm(len(rows)).split(SETTINGS["per_device_train_batch_size"]):
            optimizer.zero_grad()
            F.cross_entropy(model(ids[batch])[:, -1], labels[batch]).backward()
            optimizer.step()
        return len(rows), losses

    return train


def compare(outputs: dict) -> str | None:
    """How the losses of single messages differ, or `None` where they are equal but for rounding."""
    (first, expected), *others = outputs.items()
    for name, losses in others:
        if not max(abs(own - other) for own, other in zip(losses, expected, strict=True)) <= 1e-4:
            return f"the losses of {name} are {losses}, those of {first} {expected}"
    return None


def prepare(args: argparse.Namespace, folder: str, size: str, count: int) -> tuple[int, float, str]:
    """
    Saves what the contenders begin with; returns the tokens of the longest message, those of the mean one, and the
    precision that `train spam` chooses on this CPU.
    """
    vocab_size, longest = save_messages(args, folder, count)
    save_tokenizer(args, f"{folder}/tokenizer")
    stock_and_ours(folder, size, args.seed, vocab_size=vocab_size)
    mean = statistics.mean(len(one["input_ids"]) for one in read_messages(folder))
    return longest, mean, auto_precision(size)


def make_rows(
    measured: dict | None, question: str, peer: str, asked: float, auto: str, note: str = "", why: str = ""
) -> list[dict]:
    """A row for our default precision, and for fp32 where that is another."""
    if measured is None:
        return [row(question, peer, asked, None, note=note)]
    rows = []
    for precision in dict.fromkeys((auto, "fp32")):
        one = measured["contenders"][f"ours, {precision}"]
        said = "the default here" if precision == auto else "the peer's precision"
        ratios, note = one["ratios"], f"ours in {precision}, {said}; the peer in fp32"
        told = {"memory_ratio": one["memory_ratio"], "note": note, "if_missed": why}
        rows.append(row(f"{question}, {precision}", peer, asked, ratios, **told))
    return rows


def main(argv: list[str] | None = None) -> dict:
    args = parse(make_parser(), argv)
    size, count = ("tiny", 24) if args.quick else (args.size, args.messages)
    reason, runs, rows = missing("llms_from_scratch"), {}, []
    with tempfile.TemporaryDirectory() as folder:
        longest, mean, auto = apart(prepare, args, folder, size, count)
        precisions = list(dict.fromkeys((auto, "fp32")))

        def against(name: str, make, arguments: dict, layers: str, dropout: float) -> dict:
            common = {"folder": folder, "seed": args.seed}
            ours = [
                Contender(
                    f"ours, {one}", make_ours, {**common, "precision": one, "layers": layers, "dropout": dropout}
                )
                for one in precisions
            ]
            return measure([Contender(name, make, {**common, **arguments}), *ours], args.rounds, name, compare)

        question, book = f"spam fine-tuning of the last block, {size}", "the book's loop"
        if not reason:
            runs[question] = against(book, make_book, {"longest": longest}, "1", 0.0)
        note = f"{reason}: pip install --no-deps llms-from-scratch"
        why = f"padded to {longest} tokens, the loop reads {longest / mean:.1f} times as many tokens as there are"
        rows += make_rows(runs.get(question), question, book, 4.0, auto, note, why)
        question, stock = f"spam fine-tuning of all layers, {size}", "GPT2ForSequenceClassification and Trainer"
        runs[question] = against(stock, make_stock, {"bf16": False}, "all", 0.1)
        rows += make_rows(runs[question], question, stock, 1.5, auto)
    return write(
        {"runs": runs},
        __file__,
        args,
        argv,
        task=f"an epoch over {count} messages of the book's training set, batches of 8, GPT-2 {size}",
        compared="the losses of single messages, within 1e-4",
        rows=rows,
    )


if __name__ == "__main__":
    from hf_gpt_scratch.utils.errors import run_reporting_errors

    sys.exit(run_reporting_errors(lambda: main() and None))
