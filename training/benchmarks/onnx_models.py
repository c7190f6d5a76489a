"""
A model of 124M in an ONNX folder, run by onnxruntime, against the same model in torch, in fp32 and in int8.

    python training/benchmarks/onnx_models.py

Four things are timed, all in alternating rounds: `classify` on one message from the start of the command to its end,
messages through `TextClassifier`, words typed into a session that has read fifty, and greedy decoding of one prompt.
The weights are random. In fp32 the labels and tokens must be equal, and the probabilities within 1e-4; by how much
those of int8 differ is told.
"""

import argparse
import subprocess
import sys
import tempfile
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent))
from side_by_side import SHAPES, Contender, add_options, apart, measure, missing, parse, ratios_of, row, write
from typed_words import STORY, WORDS, prefixes

MESSAGES = Path(__file__).parents[1] / "demo_data" / "messages.tsv"
TORCH, TORCH_INT8, ONNX, ONNX_INT8 = "torch fp32", "torch int8", "ONNX fp32", "ONNX int8"
WAYS = {TORCH: ("own", "fp32"), TORCH_INT8: ("own", "int8"), ONNX: ("fp32", "auto"), ONNX_INT8: ("int8", "auto")}
AGAINST = {ONNX: TORCH, ONNX_INT8: TORCH_INT8}
CLOSE = 1e-4
PLACE = 50  # words that are there before the first one that is timed
PROMPT, NEW = 32, 64  # tokens


def make_parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    add_options(parser, __file__)
    parser.add_argument("--messages", type=int, default=200, help="how many are classified in a round")
    return parser


def make_models(folder: Path, shape: str, seed: int) -> None:
    """Saves a classifier and a language model, as they are and as ONNX folders."""
    import torch

    from hf_gpt_scratch import GPTScratchConfig, GPTScratchForCausalLM, GPTScratchForSequenceClassification
    from hf_gpt_scratch.conversion.onnx import export_onnx
    from hf_gpt_scratch.tokenizer import train_tokenizer

    tokenizer = train_tokenizer(STORY.read_text(encoding="utf-8").splitlines(), 4000)
    n_embd, n_layer, n_head = SHAPES[shape]
    config = GPTScratchConfig(
        **{"n_embd": n_embd, "n_layer": n_layer, "n_head": n_head, "num_labels": 2},
        **{f"{kind}_token_id": getattr(tokenizer, f"{kind}_token_id") for kind in ("bos", "eos", "pad")},
        initializer_range=0.02 if shape == "124M" else 0.2,
    )
    torch.manual_seed(seed)
    for name, model_class in (("classifier", GPTScratchForSequenceClassification), ("writer", GPTScratchForCausalLM)):
        model_class(config).save_pretrained(folder / name / "own")
        tokenizer.save_pretrained(folder / name / "own")
        for dtype in ("fp32", "int8"):
            export_onnx(folder / name / "own", folder / name / dtype, dtype)


def make_start(folder: str, dtype: str):
    """The command on one message, in a process of its own."""
    command = [sys.executable, "-m", "hf_gpt_scratch_cli", "classify", folder, "You have won a free prize"]
    command += ["--json", "--device", "cpu", "--dtype", dtype]

    def unit():
        done = subprocess.run(command, capture_output=True, text=True, check=True)
        return 1, done.stdout.split('"probability"')[0]  # the label

    return unit


def make_messages(folder: str, dtype: str, texts: list[str]):
    from hf_gpt_scratch.classification.classifier import TextClassifier

    classifier = TextClassifier.from_pretrained(folder, device="cpu", dtype=dtype)
    return lambda: (len(texts), [one.probabilities for one in classifier.classify(texts)])


def make_typing(folder: str, dtype: str):
    """Types the next words into a session that has read those before; they are taken back before the next round."""
    from hf_gpt_scratch.classification.classifier import TextClassifier

    texts = prefixes(PLACE)
    session = TextClassifier.from_pretrained(folder, device="cpu", dtype=dtype).session()

    def unit():
        session.read(texts[0])
        return WORDS, [session.read(text).probabilities for text in texts[1:]]

    unit()
    return unit


def make_decoding(folder: str, dtype: str, new_tokens: int):
    import torch

    from hf_gpt_scratch import GPTScratchForCausalLM
    from hf_gpt_scratch.generation.sampling import sample
    from hf_gpt_scratch.pretrained import load_with_tokenizer

    model, _ = load_with_tokenizer(GPTScratchForCausalLM, folder, device="cpu", dtype=dtype)
    ids = torch.randint(model.config.vocab_size, (1, PROMPT), generator=torch.Generator().manual_seed(0))
    model.config.eos_token_id = model.generation_config.eos_token_id = None  # random weights end by chance

    def unit():
        written = list(sample(model, ids, new_tokens, temperature=0))
        return len(written), written

    return unit


def moved(outputs: dict, name: str) -> float:
    """By how much the probabilities differ from torch's in fp32, at most; 1 where tokens or labels do."""
    expected, found = outputs[TORCH], outputs[name]
    if not isinstance(expected[0], tuple):
        return float(found != expected)
    return max(abs(one - other) for pair in zip(expected, found, strict=True) for one, other in zip(*pair))


def differences(outputs: dict) -> str | None:
    return f"those of {ONNX} by {moved(outputs, ONNX):.6f}" if moved(outputs, ONNX) > CLOSE else None


def rows_of(what: str, unit: str, measured: dict, outputs: dict, reasons: dict) -> list[dict]:
    """A row for each precision of ONNX, against torch in the same one."""
    rows = []
    for name, other in AGAINST.items():
        other = TORCH if other in reasons else other
        ratios, memory = ratios_of(measured, name, other)
        speeds = [measured["contenders"][one]["per_second"] for one in (name, other)]
        if unit == "s":
            note = "{:.2f} s, torch {:.2f} s".format(*(1 / speed for speed in speeds))
        else:
            note = "{:.1f} {unit}, torch {:.1f}".format(*speeds, unit=unit)
            note += f"; {memory:.2f} times the memory"
        if name == ONNX_INT8 and isinstance(outputs[TORCH][0], tuple):
            note += f"; probabilities at most {moved(outputs, name):.4f} from fp32's"
        rows.append(row(f"{what}, {name}", other, None, ratios, note=note))
    return rows


def works(texts: list[str], new_tokens: int) -> dict[str, tuple]:
    """What is timed: the words of its rows, the unit of its speed, the model, the contenders' function, its data."""
    return {
        "start": ("classify one message, from start to end", "s", "classifier", make_start, {}),
        "messages": (f"classify {len(texts)} messages", "messages/s", "classifier", make_messages, {"texts": texts}),
        "typing": ("the next word's opinion", "words/s", "classifier", make_typing, {}),
        "decoding": (
            f"decode {PROMPT} + {new_tokens} tokens",
            *("tokens/s", "writer", make_decoding, {"new_tokens": new_tokens}),
        ),
    }


def time_work(folder: Path, work: tuple, shape: str, rounds: int, reasons: dict) -> tuple[dict, list[dict]]:
    """What `measure` returns of a work, and its rows; without the contenders of which `reasons` says why."""
    words, unit, model, make, more = work
    outputs: dict = {}
    contenders = [
        Contender(name, make, {"folder": str(folder / model / held), "dtype": dtype, **more})
        for name, (held, dtype) in WAYS.items()
        if name not in reasons
    ]
    measured = measure(contenders, rounds, TORCH, lambda told: outputs.update(told) or differences(told))
    return measured, rows_of(f"{words}, {shape}", unit, measured, outputs, reasons)


def main(argv: list[str] | None = None) -> dict:
    args = parse(make_parser(), argv)
    from hf_gpt_scratch.data.sms_spam import load_messages
    from hf_gpt_scratch.utils.int8 import is_exact

    shape, new_tokens = ("tiny", 8) if args.quick else ("124M", NEW)
    texts = [text.strip() for text in load_messages(MESSAGES).texts][: 20 if args.quick else args.messages]
    reasons = {} if is_exact() else {TORCH_INT8: "this CPU's int8 products are inexact"}
    absent = next(filter(None, map(missing, ("onnx", "onnxscript", "onnxruntime"))), None)
    rows, found = [], {}
    with tempfile.TemporaryDirectory() as temporary:
        if absent is None:
            apart(make_models, Path(temporary), shape, args.seed)
        for key, work in works(texts, new_tokens).items():
            if args.quick and key == "start":  # sixteen processes that import torch
                continue
            if absent:
                rows += [row(f"{work[0]}, {shape}, {one}", AGAINST[one], None, None, note=absent) for one in AGAINST]
                continue
            found[key], told = time_work(Path(temporary), work, shape, args.rounds, reasons)
            rows += told
    compared = f"in fp32 the labels and the tokens, and the probabilities within {CLOSE}"
    task = f"a classifier and a language model of {shape} as ONNX folders, against torch"
    return write({"works": found}, __file__, args, argv, task=task, compared=compared, rows=rows)


if __name__ == "__main__":
    from hf_gpt_scratch.utils.errors import run_reporting_errors

    sys.exit(run_reporting_errors(lambda: main() and None))
