"""
What a GPU has to show, by one command; about ten minutes on a T4 or better, without the network.

    pip install -c constraints.txt -e ".[test]"
    python training/benchmarks/gpu.py --folder runs/gpu

Training steps in fp32, bf16 and fp16, compiled and with flash attention; packing; decoding; classification; the
configs for Colab's T4 and their peak memory, with QLoRA on GPT-2 1558M; DDP; the tests. Each piece runs in a process
of its own with a time limit; one that fails is told with its last line, and the rest goes on. Writes gpu.json, gpu.md,
and what each piece printed. Without a GPU, `--device cpu --quick` runs them on tiny shapes, to see that they run.
"""

import argparse
import json
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path

import gpu_pieces as pieces
from side_by_side import machine


@dataclass(frozen=True)
class Piece:
    """`function(settings, **options)` returns rows; `seconds` is its time limit."""

    function: Callable
    seconds: int = 180
    only_gpu: str = ""  # why there is nothing to show on a CPU
    options: dict = field(default_factory=dict)


SHORT = {"max_new_tokens": 3, "answered_rows": 2}  # the answers to the test questions
PIECES = {
    "steps_fp32": Piece(pieces.training_steps, options={"precision": "fp32"}),
    "steps_bf16": Piece(pieces.training_steps, options={"precision": "bf16"}),
    "steps_fp16": Piece(pieces.training_steps, options={"precision": "fp16"}, only_gpu="fp16 is for GPUs"),
    "steps_compiled": Piece(
        pieces.training_steps, 300, options={"precision": "bf16", "compiled": True}, only_gpu="compiling takes minutes"
    ),
    "steps_flash": Piece(
        pieces.training_steps,
        options={"precision": "bf16", "attention": "flash_attention_2"},
        only_gpu="flash attention is for GPUs",
    ),
    "packing": Piece(pieces.packing),
    "decoding": Piece(pieces.decoding),
    "classification": Piece(pieces.classification),
    "spam": Piece(pieces.finetune, options={"job": "spam", "config": "colab_t4", "shape": "small"}),
    "classify": Piece(pieces.finetune, options={"job": "classify", "config": "colab_t4", "shape": "small"}),
    "pretrain": Piece(pieces.finetune, options={"job": "pretrain", "config": "colab_t4", "shape": "small"}),
    "instruct": Piece(
        pieces.finetune, 300, options={"job": "instruct", "config": "colab_t4", "shape": "medium", **SHORT}
    ),
    "qlora": Piece(pieces.finetune, 600, options={"job": "instruct", "config": "qlora", "shape": "large", **SHORT}),
    "ddp": Piece(pieces.ddp),
    "gpu_tests": Piece(partial(pieces.tests, words=("-m", "gpu")), 300, only_gpu="they are for GPUs"),
    "tests": Piece(partial(pieces.tests, words=("-n", "4")), 900, only_gpu="CI runs them"),
}


def make_parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--folder", type=Path, default=Path("runs/gpu"), help="where to write")
    parser.add_argument("--only", nargs="+", metavar="PIECE", choices=PIECES, help=f"of {', '.join(PIECES)}")
    parser.add_argument("--device", choices=("cuda", "cpu"), default="cuda")
    parser.add_argument("--quick", action="store_true", help="tiny shapes, all in this process: to see that it runs")
    parser.add_argument("--seed", type=int, default=123)
    parser.add_argument("--piece", choices=PIECES, help=argparse.SUPPRESS)  # the process of a piece
    parser.add_argument("--models", type=Path, help=argparse.SUPPRESS)
    return parser


def run_piece(name: str, args: argparse.Namespace, folder: Path) -> list[dict]:
    """The rows of a piece; `folder` is where models and runs go."""
    settings = argparse.Namespace(device=args.device, quick=args.quick, seed=args.seed, folder=folder)
    return PIECES[name].function(settings, **PIECES[name].options)


def here(name: str, args: argparse.Namespace, folder: Path) -> tuple[list[dict], str | None]:
    """The rows of a piece, and what it failed of."""
    try:
        return run_piece(name, args, folder), None
    except (Exception, SystemExit) as error:  # whatever it is, the other pieces go on
        return [], last_line(f"{type(error).__name__}: {error}")


def in_a_process(name: str, args: argparse.Namespace, folder: Path) -> tuple[list[dict], str | None]:
    """The same from a process of its own, which has the piece's time limit, and whose output is kept."""
    words = ["--piece", name, "--device", args.device, "--seed", args.seed, "--models", folder]
    words += ["--quick"] * args.quick + ["--folder", args.folder]
    log, rows = args.folder / f"{name}.log", args.folder / f"{name}.json"
    rows.unlink(missing_ok=True)
    with open(log, "w", encoding="utf-8") as output:
        try:
            command = [sys.executable, __file__, *map(str, words)]
            status = subprocess.run(command, stdout=output, stderr=output, timeout=PIECES[name].seconds).returncode
        except subprocess.TimeoutExpired:
            return [], f"it took more than {PIECES[name].seconds} s"
    if status or not rows.is_file():
        return [], last_line(log.read_text(encoding="utf-8", errors="replace")) or f"it ended with status {status}"
    return json.loads(rows.read_text(encoding="utf-8")), None


def last_line(text: str) -> str:
    lines = [line.strip() for line in text.splitlines() if line.strip()]
    return lines[-1][:300] if lines else ""


def measured_before(path: Path) -> dict:
    """The pieces of an earlier run into the same folder, which `--only` adds to."""
    return json.loads(path.read_text(encoding="utf-8"))["pieces"] if path.is_file() else {}


def table(done: dict) -> str:
    """The pieces' rows in Markdown."""
    lines = ["| question | against | asked | measured | memory | |", "|---|---|---|---|---|---|"]
    for name, piece in done.items():
        if piece["failed"]:
            lines.append(f"| {name} | | | failed | | {piece['failed'].replace('|', '/')} |")
        for row in piece["rows"]:
            unit = "" if row["unit"] == "x" else f" {row['unit']}"
            asked = "" if row["asked"] is None else f"{row['asked']:g}{unit}"
            measured = "" if row["ratio"] is None else f"{row['ratio']:.2f}{unit}"
            memory = "" if row["memory_ratio"] is None else f"{row['memory_ratio']:.2f}"
            cells = [row["question"], row["against"], asked, measured, memory, row["note"].replace("|", "/")]
            lines.append(f"| {' | '.join(cells)} |")
    return "\n".join(lines) + "\n"


def main(argv: list[str] | None = None) -> dict:
    args = make_parser().parse_args(argv)
    import torch

    from hf_gpt_scratch.utils.errors import InputError
    from hf_gpt_scratch.utils.files import write_json, write_whole
    from hf_gpt_scratch.utils.provenance import command_line

    if args.device == "cuda" and not torch.cuda.is_available():
        raise InputError("There is no GPU here; to see that the pieces run, give --device cpu --quick.")
    if args.device == "cpu" and not args.quick:
        raise InputError("The shapes are for a GPU; with --device cpu give --quick.")
    args.folder.mkdir(parents=True, exist_ok=True)
    if args.piece:
        write_json(args.folder / f"{args.piece}.json", run_piece(args.piece, args, args.models))
        return {}
    done = measured_before(args.folder / "gpu.json") if args.only else {}
    command = command_line("training/benchmarks/gpu.py", sys.argv[1:] if argv is None else argv)
    with tempfile.TemporaryDirectory() as models:
        for name in args.only or PIECES:
            if args.device == "cpu" and (why := PIECES[name].only_gpu):
                print(f"{name}: not on a CPU; {why}")
                continue
            start = time.perf_counter()
            rows, failed = (here if args.quick else in_a_process)(name, args, Path(models))
            done[name] = {"rows": rows, "failed": failed, "seconds": time.perf_counter() - start}
            print(f"{name}: {f'failed: {failed}' if failed else 'done'} ({done[name]['seconds']:.0f} s)", flush=True)
            # After each piece: a machine that is lent for a time may be gone before the last.
            rows = [row for piece in done.values() for row in piece["rows"]]
            result = {"pieces": done, "rows": rows, "quick": args.quick, "seed": args.seed, "command": command}
            write_json(args.folder / "gpu.json", result | machine())
            write_whole(args.folder / "gpu.md", table(done))
    print(table(done))
    return {"pieces": done}


def run() -> int:
    """The status is 1 where a piece failed."""
    result = main()
    return int(any(piece["failed"] for piece in result.get("pieces", {}).values()))


if __name__ == "__main__":
    from hf_gpt_scratch.utils.errors import run_reporting_errors

    sys.exit(run_reporting_errors(run))
