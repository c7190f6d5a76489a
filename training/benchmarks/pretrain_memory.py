"""
The memory and the time to the first step that pretraining takes on a small and on a large text.

    python training/benchmarks/pretrain_memory.py --output runs/pretrain_memory.json

Makes a text of 10 MB and one of 1 GB from random words, and trains a tiny GPT on each, in a process of its own, for
some steps. A text larger than memory must cost no more than a small one.
"""

import argparse
import json
import random
import subprocess
import sys
import tempfile
from pathlib import Path

MEGABYTES = {"small": 10, "large": 1000}
TRAINING = """
import json, re, sys, time
start = time.perf_counter()
from hf_gpt_scratch.training import pretrain
from hf_gpt_scratch.training.trainer import ScratchTrainer

first, step = [], ScratchTrainer.training_step

def timed(*args, **kwargs):
    first.append((time.perf_counter() - start, time.process_time()))
    return step(*args, **kwargs)

ScratchTrainer.training_step = timed
pretrain.main(sys.argv[1:])
peak = int(re.search(r"VmHWM:\\s+(\\d+)", open("/proc/self/status").read())[1]) / 1e3
print(json.dumps({"peak_mb": peak, "seconds_to_first_step": first[0][0], "cpu_seconds_to_first_step": first[0][1]}))
"""


def make_parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--steps", type=int, default=50)
    parser.add_argument("--streaming", choices=["auto", "yes"], default="auto", help="auto holds the small in memory")
    parser.add_argument("--folder", default=tempfile.gettempdir(), help="where to put the texts")
    parser.add_argument("--output", default="runs/pretrain_memory.json", help="the JSON to write")
    return parser


def make_text(path: Path, megabytes: int) -> None:
    """A text of random words, some frequent and some rare, in lines; after 10 MB it repeats."""
    draw = random.Random(0)
    words = ["".join(draw.choices("etaoinshrdlu", k=draw.randint(2, 9))) for _ in range(30_000)]
    weights = [1 / rank for rank in range(1, len(words) + 1)]  # Zipf's law
    drawn = draw.choices(words, weights, k=2_000_000)
    block = "".join(f"{' '.join(drawn[i : i + 12])}.\n" for i in range(0, len(drawn), 12))[:10_000_000]
    with open(path, "w", encoding="ascii") as file:
        for _ in range(megabytes // 10):
            file.write(block)


def main(argv: list[str] | None = None) -> dict:
    args = make_parser().parse_args(argv)
    from hf_gpt_scratch.utils.files import write_json
    from hf_gpt_scratch.utils.provenance import command_line, environment

    shape = "--train_tokenizer 2000 --n_embd 64 --n_layer 2 --n_head 2 --n_positions 128 --use_cpu true"
    run = f"--max_steps {args.steps} --streaming {args.streaming} --save_strategy no --validation_share 0.02"
    settings = f"{shape} {run}".split()
    measured = {}
    Path(args.output).parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=args.folder) as scratch:
        for name, megabytes in MEGABYTES.items():
            path = Path(scratch) / f"{name}.txt"
            make_text(path, megabytes)
            options = [*settings, "--data_file", str(path), "--output_dir", str(Path(scratch) / name)]
            command = [sys.executable, "-P", "-c", TRAINING, *options]
            done = subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True)
            measured[name] = {"megabytes": megabytes, **json.loads(done.stdout.splitlines()[-1])}
            print(name, measured[name], flush=True)
            path.unlink()
    result = {**measured, "extra_mb_of_the_large": measured["large"]["peak_mb"] - measured["small"]["peak_mb"]}
    command = command_line("training/benchmarks/pretrain_memory.py", sys.argv[1:] if argv is None else argv)
    write_json(args.output, {**result, "command": command, **environment()})
    print(f"The large text takes {result['extra_mb_of_the_large']:.0f} MB more.")
    return result


if __name__ == "__main__":
    from hf_gpt_scratch.utils.errors import run_reporting_errors

    sys.exit(run_reporting_errors(lambda: main() and None))
