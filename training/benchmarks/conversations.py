"""
Whether a chat worsens with its second question: training on single questions against training on conversations of two.

    python training/benchmarks/conversations.py --seeds 1 2 3 --output runs/conversations.json

Conversations are derived from the book's instruction set (or `--data_file`) by `pairs`: the rows of a part, shuffled,
two by two, the second question after the first and its answer. For each seed, two models of the same random weights
and tokenizer learn the same answers, as single rows and as conversations, in as many steps. Then both are given each
held-out question twice: alone, and as the second one of a conversation. `--write FOLDER` only writes the derived
sets, singles.jsonl and conversations.jsonl, for `train instruct --data_file` and `chat`.
"""

import argparse
import json
import math
import random
from collections.abc import Sequence
from pathlib import Path

KINDS = ("singles", "conversations")


def make_parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data_file", help="questions and answers; by default the book's set, which is downloaded")
    parser.add_argument("--seeds", nargs="+", type=int, default=[1, 2, 3])
    parser.add_argument("--epochs", type=float, default=8)
    parser.add_argument("--batch_size", type=int, default=8, help="answers per step")
    parser.add_argument("--learning_rate", type=float, default=1e-3)
    parser.add_argument("--tokens", type=int, default=2000, help="of the vocabulary")
    parser.add_argument("--n_embd", type=int, default=128)
    parser.add_argument("--n_layer", type=int, default=3)
    parser.add_argument("--n_positions", type=int, default=384)
    parser.add_argument("--write", type=Path, metavar="FOLDER")
    parser.add_argument("--output", type=Path, default=Path("runs/conversations.json"))
    return parser


def pairs(rows: Sequence[dict], seed: int) -> list[dict]:
    """Conversations of two questions, each row in one of them; of an odd number of rows the last stays alone."""
    rows = list(rows)
    random.Random(seed).shuffle(rows)
    return [
        {"messages": [message for row in rows[start : start + 2] for message in row["messages"]]}
        for start in range(0, len(rows), 2)
    ]


def train(rows: Sequence[dict], tokenizer, args: argparse.Namespace, seed: int, rows_per_step: int):
    """A model of random weights that has learned the answers of the rows."""
    from transformers import Trainer, TrainingArguments, set_seed

    from hf_gpt_scratch import GPTScratchConfig, GPTScratchForCausalLM
    from hf_gpt_scratch.data import turns
    from hf_gpt_scratch.data.packing import LanguageModelCollator

    set_seed(seed)
    special = {f"{kind}_token_id": getattr(tokenizer, f"{kind}_token_id") for kind in ("bos", "eos", "pad")}
    shape = {"n_embd": args.n_embd, "n_layer": args.n_layer, "n_head": args.n_embd // 32}
    config = GPTScratchConfig(vocab_size=len(tokenizer), n_positions=args.n_positions, **shape, **special)
    settings = TrainingArguments(
        output_dir=str(args.output.parent / "conversations"),
        num_train_epochs=args.epochs,
        per_device_train_batch_size=rows_per_step,
        learning_rate=args.learning_rate,
        warmup_steps=20,
        seed=seed,
        save_strategy="no",
        logging_strategy="no",
        report_to="none",
        disable_tqdm=True,
    )
    encoded = [turns.encode(row, tokenizer, args.n_positions, mask_prompt=True) for row in rows]
    model = GPTScratchForCausalLM(config)
    Trainer(model, settings, LanguageModelCollator(tokenizer.pad_token_id), encoded).train()
    return model.eval()


def last_answer_losses(model, tokenizer, row: dict) -> list[float]:
    """The loss of each token of a conversation's last answer."""
    import torch

    from hf_gpt_scratch.data import turns
    from hf_gpt_scratch.data.losses import token_losses

    encoded = turns.encode(row, tokenizer, model.config.n_positions)
    if encoded["dropped_exchanges"]:
        return []
    (start, end), ids = encoded["answers"][-1], torch.tensor([encoded["input_ids"]])
    with torch.no_grad():
        losses = token_losses(model(ids.to(model.device)).logits.cpu(), ids)[0]
    return losses[start - 1 : end - 1].tolist()


def run(rows: Sequence[dict], args: argparse.Namespace, seed: int) -> dict[str, list]:
    """For each model the losses of the held-out answers' tokens, `[(alone, second), ...]`."""
    from hf_gpt_scratch.data import turns
    from hf_gpt_scratch.tokenizer import train_tokenizer

    splits = turns.split(rows, seed)
    tokenizer = train_tokenizer(("".join(turns.texts(row)) for row in splits["train"]), args.tokens)
    held_out = [row for name in ("validation", "test") for row in splits[name]]
    second = [
        {"messages": before["messages"] + row["messages"]} for before, row in zip(held_out[-1:] + held_out, held_out)
    ]
    learned = {"singles": list(splits["train"]), "conversations": pairs(splits["train"], seed)}
    found = {}
    for kind in KINDS:
        per_step = args.batch_size if kind == "singles" else args.batch_size // 2
        model = train(learned[kind], tokenizer, args, seed, per_step)
        losses = [tuple(last_answer_losses(model, tokenizer, row) for row in both) for both in zip(held_out, second)]
        found[kind] = [both for both in losses if all(both)]
    return found


def summarize(found: dict[str, list]) -> dict:
    """Perplexities of the answers alone and as second ones, and the ratios that matter, with 95 % intervals."""
    from hf_gpt_scratch.evaluation.intervals import bootstrap_mean

    def perplexity(answers: Sequence[Sequence[float]]) -> dict:
        mean = sum(map(sum, answers)) / sum(map(len, answers))
        return {"value": math.exp(mean), "interval": [math.exp(end) for end in bootstrap_mean(answers)]}

    def ratio(above: Sequence[Sequence[float]], below: Sequence[Sequence[float]]) -> dict:
        return perplexity([[a - b for a, b in zip(*answer)] for answer in zip(above, below)])

    summary = {}
    for kind in KINDS:
        alone, second = zip(*found[kind])
        summary[kind] = {
            "alone": perplexity(alone),
            "second": perplexity(second),
            "second_to_alone": ratio(second, alone),
        }
    seconds = [[second for _, second in found[kind]] for kind in KINDS]
    return {**summary, "singles_to_conversations": ratio(*seconds)}


def shown(number: dict) -> str:
    low, high = number["interval"]
    return f"{number['value']:.4g} [{low:.4g}, {high:.4g}]"


def main(argv: Sequence[str] | None = None) -> dict:
    args = make_parser().parse_args(argv)
    from hf_gpt_scratch.data.conversations import load_conversations
    from hf_gpt_scratch.utils.files import write_json
    from hf_gpt_scratch.utils.provenance import environment

    data = load_conversations(args.data_file)
    if args.write:
        args.write.mkdir(parents=True, exist_ok=True)
        for kind, rows in {"singles": data.rows, "conversations": pairs(data.rows, args.seeds[0])}.items():
            lines = "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows)
            (args.write / f"{kind}.jsonl").write_text(lines, encoding="utf-8")
        return {}
    found = {kind: [] for kind in KINDS}
    for seed in args.seeds:
        for kind, losses in run(data.rows, args, seed).items():
            found[kind] += losses
        print(f"seed {seed}: {len(found['singles'])} held-out answers so far", flush=True)
    summary = summarize(found)
    print(f"{'trained on':16}{'alone':>26}{'second, with history':>26}{'second / alone':>26}")
    for kind in KINDS:
        print(f"{kind:16}" + "".join(f"{shown(summary[kind][name]):>26}" for name in summary[kind]))
    print(f"second answers, singles / conversations: {shown(summary['singles_to_conversations'])}")
    settings = {name: value for name, value in vars(args).items() if name not in ("output", "write")}
    facts = {"answers": len(found["singles"]), "data": {"sha256": data.sha256}, "settings": settings}
    args.output.parent.mkdir(parents=True, exist_ok=True)
    write_json(args.output, {**summary, **facts, **environment()})
    return summary


if __name__ == "__main__":
    main()
