"""
Messages classified with a GPT-2 of 124M: `TextClassifier` against `pipeline("text-classification", batch_size=8)` on
transformers' own GPT2ForSequenceClassification with the same weights.

    python training/benchmarks/classify_messages.py --messages 5574

The messages are those of the SMS Spam Collection, in the order of its file: all 5,574 or a sample of them. The weights
are random but for the head, which is fitted to some of the messages, so that the labels are sure of themselves as a
trained classifier's are. Compared before anything is timed: the labels, and the probabilities (within 0.01).
"""

import argparse
import random
import sys
import tempfile
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent))
from side_by_side import SHAPES, Contender, add_options, apart, measure, parse, row, write

LABELS = ("ham", "spam")
FITTED = 256  # messages that the head is fitted to
EXACT, CLOSE = 1e-4, 0.05  # how far probabilities may differ in fp32, and below it
SMALL = Path(__file__).parents[1] / "demo_data" / "messages.tsv"
PIPELINE = "pipeline"
DTYPES = {"ours fp32": "fp32", "ours bf16": "bf16", "ours int8": "int8"}


def make_parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    add_options(parser, __file__, rounds=3)
    parser.add_argument("--data_file", help="the SMS Spam Collection; by default downloaded from UCI")
    parser.add_argument("--messages", type=int, default=500, help="how many of them, drawn by --seed")
    parser.add_argument("--tokenizer", help="a folder with one (default: trained on the messages)")
    return parser


def make_models(folder: Path, shape: str, texts: list[str], labels: list[int], tokenizer: str | None, seed: int):
    """Saves the classifier as stock GPT-2 in `folder`/stock and as ours in `folder`/ours."""
    import torch
    from transformers import GPT2Config, GPT2ForSequenceClassification

    from hf_gpt_scratch.conversion.convert import convert
    from hf_gpt_scratch.tokenizer import load_tokenizer, train_tokenizer

    tokenizer = load_tokenizer(tokenizer) if tokenizer else train_tokenizer(texts, 8000)
    n_embd, n_layer, n_head = SHAPES[shape]
    config = GPT2Config(
        vocab_size=max(50257, len(tokenizer)) if shape == "124M" else len(tokenizer),
        **{"n_embd": n_embd, "n_layer": n_layer, "n_head": n_head},
        pad_token_id=tokenizer.pad_token_id,
        **{"bos_token_id": tokenizer.eos_token_id, "eos_token_id": tokenizer.eos_token_id},
        **{"id2label": dict(enumerate(LABELS)), "label2id": {name: number for number, name in enumerate(LABELS)}},
    )
    torch.manual_seed(seed)
    model = GPT2ForSequenceClassification(config).eval()
    fit_head(model, tokenizer, texts[:FITTED], torch.tensor(labels[:FITTED]))
    model.save_pretrained(folder / "stock")
    tokenizer.save_pretrained(folder / "stock")
    convert(str(folder / "stock"), folder / "ours")


def fit_head(model, tokenizer, texts: list[str], labels) -> None:
    """Ridge regression of the log-odds, 3 for the right label, on what stands at a message's last token."""
    import torch

    with torch.no_grad():
        last = [
            model.transformer(torch.tensor([tokenizer(text.strip())["input_ids"]])).last_hidden_state[0, -1]
            for text in texts
        ]
        features = torch.stack(last).double()  # (N, C)
        ridge = features.T @ features + len(texts) * 0.01 * torch.eye(features.shape[1])
        weight = torch.linalg.solve(ridge, features.T @ (3.0 * (2 * labels.double() - 1)))  # (C,)
        model.score.weight.copy_(torch.stack([-weight / 2, weight / 2]))


def make_pipeline(folder: str, texts: list[str]):
    import torch
    from transformers import pipeline

    classify = pipeline("text-classification", folder, device="cpu", dtype=torch.float32)

    def unit():
        found = classify(texts, batch_size=8)
        return len(texts), [(one["label"], one["score"]) for one in found]

    return unit


def make_ours(folder: str, texts: list[str], dtype: str):
    from hf_gpt_scratch.classification.classifier import TextClassifier

    classifier = TextClassifier.from_pretrained(folder, device="cpu", dtype=dtype)

    def unit():
        found = list(classifier.classify(texts))
        return len(texts), [(one.label, max(one.probabilities)) for one in found]

    return unit


def moved(outputs: dict) -> dict[str, list[float]]:
    """By how much each contender's probabilities of spam differ from the pipeline's."""
    stock = [probability_of_spam(*one) for one in outputs[PIPELINE]]
    return {
        name: [abs(own - probability_of_spam(*other)) for own, other in zip(stock, found, strict=True)]
        for name, found in outputs.items()
    }


def differences(outputs: dict) -> str | None:
    """What is wrong: below fp32 a probability may be moved a little, and a label where it is nearly 0.5."""
    for name, distances in moved(outputs).items():
        close = EXACT if name in (PIPELINE, "ours fp32") else CLOSE
        if max(distances) > close:
            return f"a probability of {name} differs by {max(distances):.4f}"
        pairs = zip(outputs[PIPELINE], outputs[name], strict=True)
        if wrong := sum(one[0] != other[0] and one[1] > 0.5 + close for one, other in pairs):
            return f"{wrong} labels of {name} differ"
    return None


def what_it_costs(outputs: dict, name: str) -> str:
    """By how much its probabilities and labels differ from the pipeline's, in words."""
    distances = moved(outputs)[name]
    labels = sum(one[0] != other[0] for one, other in zip(outputs[PIPELINE], outputs[name]))
    mean, most = sum(distances) / len(distances), max(distances)
    return f"probabilities differ by {mean:.4f} on average and {most:.4f} at most, {labels} labels"


def probability_of_spam(label: str, probability: float) -> float:
    return probability if label == LABELS[1] else 1 - probability


def main(argv: list[str] | None = None) -> dict:
    args = parse(make_parser(), argv)
    from hf_gpt_scratch.data.sms_spam import load_messages
    from hf_gpt_scratch.utils.int8 import is_exact
    from hf_gpt_scratch.utils.precision import fast_cpu_dtype, why_cpu_dtype

    shape, count = ("tiny", 60) if args.quick else ("124M", args.messages)
    messages = load_messages(SMALL if args.quick else args.data_file)
    chosen = sorted(random.Random(args.seed).sample(range(len(messages.texts)), min(count, len(messages.texts))))
    texts = [messages.texts[i].strip() for i in chosen]  # the pipeline keeps spaces at the ends, which we do not read
    labels = [messages.labels[i] for i in chosen]
    reasons = {} if str(fast_cpu_dtype()) == "torch.bfloat16" or args.quick else {"ours bf16": why_cpu_dtype()}
    reasons |= {} if is_exact() else {"ours int8": "this CPU's int8 products are inexact"}
    names = [name for name in DTYPES if name not in reasons]
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary)
        apart(make_models, folder, shape, texts, labels, args.tokenizer, args.seed)
        contenders = [Contender(PIPELINE, make_pipeline, {"folder": str(folder / "stock"), "texts": texts})]
        for name in names:
            arguments = {"folder": str(folder / "ours"), "texts": texts, "dtype": DTYPES[name]}
            contenders.append(Contender(name, make_ours, arguments))
        outputs = {}
        measured = measure(contenders, args.rounds, compare=lambda found: outputs.update(found) or differences(found))
    task = f"{len(texts):,} of the {len(messages.texts):,} messages, {shape}"
    against = "transformers' pipeline, batch 8, fp32"
    found = measured["contenders"]
    best, rows = max(names, key=lambda name: found[name]["ratio"]), []
    for name in DTYPES:
        question = f"classify {len(texts):,} messages, {shape}, {name.removeprefix('ours ')}"
        asked = 5 if name == best else 1.7 if name == "ours fp32" else None
        if name in reasons:
            rows.append(row(question, against, asked, None, note=reasons[name]))
        else:
            note = "; ".join(["the fastest precision here"] * (name == best) + [what_it_costs(outputs, name)])
            rows.append(row(question, against, asked, found[name]["ratios"], note=note, if_missed=why_cpu_dtype()))
    compared = f"probabilities within {EXACT} in fp32 and {CLOSE} in others, and the labels of all that are clearer"
    return write({**measured, "messages": len(texts)}, __file__, args, argv, task=task, compared=compared, rows=rows)


if __name__ == "__main__":
    from hf_gpt_scratch.utils.errors import run_reporting_errors

    sys.exit(run_reporting_errors(lambda: main() and None))
