"""
One training step of a GPT-2 124M, ours against transformers' own, with the same weights and the same batches.

    python training/benchmarks/train_step.py --rounds 5 --output runs/train_step.json

Each model trains in a process of its own, so that its peak memory (the most the process ever held) is its own; their
steps alternate, so that both meet the same noise. fp32, fused AdamW, dropout on. Before anything is timed, another
process compares the two models' outputs.
"""

import argparse
import multiprocessing
import resource
import statistics
import sys
import tempfile
import time
from pathlib import Path

SIZES = {"124M": (768, 12, 12), "355M": (1024, 24, 16), "tiny": (64, 2, 2)}  # n_embd, n_layer, n_head


def make_parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--size", choices=SIZES, default="124M")
    parser.add_argument("--rounds", type=int, default=5, help="timed steps of each model, after one to warm up")
    parser.add_argument("--batch_size", type=int, default=4)
    parser.add_argument("--length", type=int, default=256, help="tokens per row")
    parser.add_argument("--seed", type=int, default=123)
    parser.add_argument("--output", default="runs/train_step.json")
    return parser


def make_models(folder: Path, args: argparse.Namespace, pipe) -> None:
    """Saves the same random weights as a stock GPT-2 and as ours, and sends how far their logits and losses differ."""
    import torch
    from transformers import GPT2Config, GPT2LMHeadModel

    from hf_gpt_scratch import GPTScratchForCausalLM
    from hf_gpt_scratch.conversion.convert import convert

    n_embd, n_layer, n_head = SIZES[args.size]
    torch.manual_seed(args.seed)
    GPT2LMHeadModel(GPT2Config(n_embd=n_embd, n_layer=n_layer, n_head=n_head)).save_pretrained(folder / "stock")
    convert(str(folder / "stock"), folder / "ours")
    stock = GPT2LMHeadModel.from_pretrained(folder / "stock")
    ours = GPTScratchForCausalLM.from_pretrained(folder / "ours")
    ids = torch.randint(stock.config.vocab_size, (args.batch_size, args.length))
    with torch.no_grad():
        logit_difference = (stock(ids).logits - ours(ids).logits).abs().max().item()
        pipe.send((logit_difference, abs(stock(ids, labels=ids).loss - ours(ids, labels=ids).loss).item()))


def train(folder: str, args: argparse.Namespace, pipe) -> None:
    """For each `True` on `pipe` makes one training step and sends its seconds; at the `False`, its peak bytes."""
    import torch
    from transformers import AutoModelForCausalLM

    import hf_gpt_scratch  # noqa: F401 (registers the model)

    model = AutoModelForCausalLM.from_pretrained(folder).train()
    optimizer = torch.optim.AdamW(model.parameters(), lr=5e-5, weight_decay=0.1, fused=True)
    generator = torch.Generator().manual_seed(args.seed)
    while pipe.recv():
        ids = torch.randint(model.config.vocab_size, (args.batch_size, args.length), generator=generator)
        start = time.perf_counter()
        model(ids, labels=ids, use_cache=False).loss.backward()
        optimizer.step()
        optimizer.zero_grad()
        pipe.send(time.perf_counter() - start)
    # ru_maxrss is in KiB on Linux and in bytes on macOS
    pipe.send(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * (1 if sys.platform == "darwin" else 1024))


def main(argv: list[str] | None = None) -> dict:
    args = make_parser().parse_args(argv)
    from hf_gpt_scratch.utils.files import write_json
    from hf_gpt_scratch.utils.provenance import command_line, environment

    context = multiprocessing.get_context("spawn")
    with tempfile.TemporaryDirectory() as folder:
        processes = []

        def start(target, path):
            pipe, theirs = context.Pipe()
            processes.append(context.Process(target=target, args=(path, args, theirs), daemon=True))
            processes[-1].start()
            return pipe

        logit_difference, loss_difference = start(make_models, Path(folder)).recv()
        if logit_difference > 1e-4:
            sys.exit(f"error: the models' logits differ by {logit_difference}; comparing their speed means nothing.")
        pipes = {name: start(train, f"{folder}/{name}") for name in ("stock", "ours")}
        seconds = {name: [] for name in pipes}
        for number in range(args.rounds + 1):
            for name, pipe in pipes.items():
                pipe.send(True)
                seconds[name].append(pipe.recv())
            print(f"round {number}: " + ", ".join(f"{name} {times[-1]:.2f} s" for name, times in seconds.items()))
        peak = {}
        for name, pipe in pipes.items():
            pipe.send(False)
            peak[name] = pipe.recv()
        for process in processes:
            process.join()

    tokens = args.batch_size * args.length
    ratios = [stock / ours for stock, ours in zip(seconds["stock"][1:], seconds["ours"][1:])]
    result = {
        "task": f"training step, GPT-2 {args.size}, {args.batch_size} x {args.length} tokens, fp32, fused AdamW",
        "max_logit_difference": logit_difference,
        "loss_difference": loss_difference,
        "tokens_per_second": {name: tokens / statistics.median(times[1:]) for name, times in seconds.items()},
        "speed_ratio": statistics.median(ratios),
        "peak_gb": {name: value / 1e9 for name, value in peak.items()},
        "memory_ratio": peak["ours"] / peak["stock"],
        "seed": args.seed,
        "command": command_line("training/benchmarks/train_step.py", sys.argv[1:] if argv is None else argv),
        **environment(),
    }
    print(f"\n{'':8}{'tokens/s':>10}{'peak GB':>10}")
    for name in ("stock", "ours"):
        print(f"{name:8}{result['tokens_per_second'][name]:10.1f}{result['peak_gb'][name]:10.2f}")
    print(f"{'ratio':8}{result['speed_ratio']:10.2f}{result['memory_ratio']:10.2f}")
    Path(args.output).parent.mkdir(parents=True, exist_ok=True)
    write_json(args.output, result)
    return result


if __name__ == "__main__":
    from hf_gpt_scratch.utils.errors import run_reporting_errors

    sys.exit(run_reporting_errors(lambda: main() and None))
