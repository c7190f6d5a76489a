"""
The memory and the time that converting takes, beside the time that copying the same files takes.

    python training/benchmarks/convert.py --size 1558M --output runs/convert.json

Makes a stock GPT-2 of random weights in the true shapes, then copies and converts it in turns, each conversion in a
process of its own, whose peak memory is taken above that of the interpreter with everything imported.
"""

import argparse
import json
import os
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

SIZES = {"124M": (12, 768, 12), "355M": (24, 1024, 16), "774M": (36, 1280, 20), "1558M": (48, 1600, 25)}

CONVERSION = """
import json, re, resource, sys, time
from hf_gpt_scratch.conversion.convert import convert

def peak():  # in GB; what getrusage tells would begin with the parent's
    return int(re.search(r"VmHWM:\\s+(\\d+)", open("/proc/self/status").read())[1]) / 1e6

imported, start = peak(), time.perf_counter()
convert(sys.argv[1], sys.argv[2], prove=sys.argv[3] == "True")
seconds = time.perf_counter() - start
loading = resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss / 1e6
print(json.dumps({"seconds": seconds, "peak_gb": peak() - imported, "proof_process_gb": loading}))
"""


def make_parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--size", choices=SIZES, default="1558M")
    parser.add_argument("--rounds", type=int, default=3, help="how often to copy and to convert")
    parser.add_argument("--folder", default=tempfile.gettempdir(), help="where to put the files, four times the model")
    parser.add_argument("--output", default="runs/convert.json", help="the JSON to write")
    return parser


def make_stock_gpt2(folder: Path, n_layer: int, n_embd: int, n_head: int) -> None:
    """A folder of stock GPT-2 with random weights, made a tensor at a time."""
    import torch
    from transformers import GPT2Config, GPT2LMHeadModel

    from hf_gpt_scratch.conversion.safetensors_file import write_safetensors

    config = GPT2Config(n_layer=n_layer, n_embd=n_embd, n_head=n_head, architectures=["GPT2LMHeadModel"])
    with torch.device("meta"):
        model = GPT2LMHeadModel(config)
    layout = dict(model.named_parameters())
    config.save_pretrained(folder)
    torch.manual_seed(0)
    write_safetensors(folder, layout, lambda name: torch.randn(layout[name].shape) * 0.02)


def convert(source: Path, target: Path, prove: bool) -> dict:
    os.sync()
    command = [sys.executable, "-P", "-c", CONVERSION, str(source), str(target), str(prove)]
    measured = json.loads(subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True).stdout)
    shutil.rmtree(target)
    return measured


def main(argv: list[str] | None = None) -> dict:
    args = make_parser().parse_args(argv)
    from hf_gpt_scratch.utils.files import write_json
    from hf_gpt_scratch.utils.provenance import command_line, environment

    copies, conversions = [], []
    with tempfile.TemporaryDirectory(dir=args.folder) as scratch:
        source, target = Path(scratch) / "stock", Path(scratch) / "out"
        source.mkdir()
        make_stock_gpt2(source, *SIZES[args.size])
        size = sum(file.stat().st_size for file in source.iterdir())
        for round_number in range(1, args.rounds + 1):
            os.sync()  # else the one would wait for what the other left to be written to the disk
            start = time.perf_counter()
            shutil.copytree(source, target)
            copies.append(time.perf_counter() - start)
            shutil.rmtree(target)
            conversions.append(convert(source, target, prove=False))
            print(
                f"round {round_number}: copied in {copies[-1]:.1f} s, converted in {conversions[-1]['seconds']:.1f} s"
            )
        proven = convert(source, target, prove=True)
    result = {
        "size": args.size,
        "gb": size / 1e9,
        "copy_seconds": statistics.median(copies),
        "convert_seconds": statistics.median(conversion["seconds"] for conversion in conversions),
        "ratio": statistics.median(c["seconds"] / copy for c, copy in zip(conversions, copies)),
        "peak_gb_above_the_interpreter": max(conversion["peak_gb"] for conversion in conversions),
        "with_the_proof": proven,
    }
    write_json(
        args.output,
        {**result, "command": command_line("training/benchmarks/convert.py", argv or sys.argv[1:]), **environment()},
    )
    for name, value in result.items():
        print(f"{name:32} {value if isinstance(value, (str, dict)) else round(value, 2)}")
    return result


if __name__ == "__main__":
    from hf_gpt_scratch.utils.errors import run_reporting_errors

    sys.exit(run_reporting_errors(lambda: main() and None))
