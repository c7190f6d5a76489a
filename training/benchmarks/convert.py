"""
The time and the memory that converting takes, beside the time that copying the same files takes.

    python training/benchmarks/convert.py --size 1558M

Makes a stock GPT-2 of random weights in the true shapes, converts it once with the proof (the logits of both are
compared), then copies and converts it in turns. The memory is the peak of the converting process above that of the
interpreter with everything imported, which the conversion of a tiny model has seen to.
"""

import argparse
import os
import shutil
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

from side_by_side import SHAPES, Contender, add_options, apart, measure, parse, peak_bytes, row, write

ASKED = {"times": 2.0, "gb": 0.35}


def make_parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--size", choices=SHAPES, default="1558M")
    parser.add_argument("--folder", default=tempfile.gettempdir(), help="where to put the files, twice the model")
    add_options(parser, __file__)
    return parser


def make_stock_gpt2(folder: Path, shape: str, seed: int) -> None:
    """A folder of stock GPT-2 with random weights, made a tensor at a time."""
    import torch
    from transformers import GPT2Config, GPT2LMHeadModel

    from hf_gpt_scratch.conversion.safetensors_file import write_safetensors

    n_embd, n_layer, n_head = SHAPES[shape]
    config = GPT2Config(n_layer=n_layer, n_embd=n_embd, n_head=n_head, architectures=["GPT2LMHeadModel"])
    with torch.device("meta"):
        model = GPT2LMHeadModel(config)
    layout = dict(model.named_parameters())
    folder.mkdir()
    config.save_pretrained(folder)
    torch.manual_seed(seed)
    write_safetensors(folder, layout, lambda name: torch.randn(layout[name].shape) * 0.02)


def gigabytes(folder: Path) -> float:
    return sum(file.stat().st_size for file in folder.iterdir()) / 1e9


def copying(source: Path, target: Path) -> Callable:
    def unit() -> tuple[float, float]:
        shutil.copytree(source, target)
        return gigabytes(source), 0.0

    return unit


def converting(source: Path, target: Path, prove: bool = False) -> Callable:
    """A unit converts and tells the peak in GB above that of the interpreter."""
    from hf_gpt_scratch.conversion.convert import convert

    with tempfile.TemporaryDirectory() as scratch:
        make_stock_gpt2(Path(scratch) / "tiny", "tiny", seed=0)
        convert(Path(scratch) / "tiny", Path(scratch) / "out", prove=prove)
    imported = peak_bytes()

    def unit() -> tuple[float, float]:
        convert(source, target, prove=prove)
        return gigabytes(source), (peak_bytes() - imported) / 1e9

    return unit


def proven(source: Path, target: Path) -> dict:
    """What a conversion that compares the logits takes; it raises `InputError` where they differ."""
    unit = converting(source, target, prove=True)
    start = time.perf_counter()
    _, peak_gb = unit()
    return {"seconds": time.perf_counter() - start, "peak_gb": peak_gb}


def main(argv: list[str] | None = None) -> dict:
    args = parse(make_parser(), argv)
    shape = "tiny" if args.quick else args.size
    peak_gb = []

    with tempfile.TemporaryDirectory(dir=args.folder) as scratch:
        source, target = Path(scratch) / "stock", Path(scratch) / "out"

        def clear() -> None:
            shutil.rmtree(target, ignore_errors=True)
            os.sync()  # else the one would wait for what the other left to be written to the disk

        apart(make_stock_gpt2, source, shape, args.seed)
        with_proof = apart(proven, source, target)
        arguments = {"source": source, "target": target}
        measured = measure(
            [Contender("copying", copying, arguments), Contender("converting", converting, arguments)],
            args.rounds,
            compare=lambda outputs: peak_gb.append(outputs["converting"]),
            before=clear,
        )
    question = row(
        f"conversion of GPT-2 {shape}",
        "copying the same files",
        ASKED["times"],
        [1 / ratio for ratio in measured["contenders"]["converting"]["ratios"]],
        at_most=True,
        memory_asked=ASKED["gb"],
        memory_ratio=peak_gb[0],
        memory_unit="GB",
        note=f"with the proof {with_proof['seconds']:.0f} s and {with_proof['peak_gb']:.2f} GB",
    )
    return write(
        {**measured, "with_the_proof": with_proof},
        __file__,
        args,
        argv,
        task=f"the files of GPT-2 {shape}, converted and copied, in GB",
        compared="the logits of the converted model with those of the source, by the proof",
        rows=[question],
    )


if __name__ == "__main__":
    from hf_gpt_scratch.utils.errors import run_reporting_errors

    sys.exit(run_reporting_errors(lambda: main() and None))
