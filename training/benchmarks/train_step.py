"""
One training step of a GPT-2 124M, ours against transformers' own, with the same weights and the same batches.

    python training/benchmarks/train_step.py --compile

Fused AdamW, dropout on, in fp32 and in bf16 autocast, eager against eager and compiled against compiled. Ours has what
our training jobs turn on. Before anything is timed, the models' logits and losses are compared. A third contender
multiplies matrices of the shapes of the step's linear layers, forward and backward, and does nothing else: the fastest
that a step could be. Where an eager step's time goes is then shown by torch's profiler.
"""

import argparse
import sys
import tempfile
from collections import Counter
from contextlib import contextmanager
from itertools import product
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent))
from side_by_side import SHAPES, Contender, add_options, apart, measure, parse, row, state_gb, stock_and_ours, write

ASKED = {"fp32": 1.4, "bf16": 1.3}
CLOSE = 1e-4
VOCABULARY = 50257
# What part of a step an operation belongs to: the first whose words are in its name or in that of what called it
PARTS = {
    "optimizer": ("Optimizer", "_fused_adamw_"),
    "loss": ("ChunkedLoss", "part: loss", "LogSoftmax", "NllLoss", "evaluate_function: MmBackward"),
    "attention": ("_DropoutAttention", "part: attention", "ScaledDotProduct", "SoftmaxBackward", "BmmBackward"),
    "dropout": ("part: dropout", "NativeDropout", "WhereBackward"),
    "GELU": ("aten::gelu", "GeluBackward", "part: GELU", "TanhBackward", "PowBackward"),
    "LayerNorm": ("layer_norm", "LayerNorm"),
    "linear layers": ("aten::linear", "aten::addmm", "AddmmBackward", "TBackward"),
    "embeddings": ("embedding", "Embedding"),
    "gradients added": ("AccumulateGrad",),
}


def make_parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--size", choices=SHAPES, default="124M")
    parser.add_argument("--precision", nargs="+", choices=ASKED, default=list(ASKED))
    parser.add_argument("--compile", action="store_true", help="also steps compiled by torch.compile")
    parser.add_argument("--batch_size", type=int, default=4)
    parser.add_argument("--length", type=int, default=256, help="tokens per row")
    add_options(parser, __file__)
    return parser


@contextmanager
def in_precision(precision: str):
    import torch

    with torch.autocast("cpu", torch.bfloat16, enabled=precision == "bf16"):
        yield


def load(folder: str, name: str):
    """The model in training, with the attention that our jobs give ours; and what it says with dropout off."""
    import torch
    from transformers import AutoModelForCausalLM

    from hf_gpt_scratch.training.causal_attention import use_dropout_attention

    model = AutoModelForCausalLM.from_pretrained(f"{folder}/{name}").eval()
    ids = torch.arange(64).view(2, 32) * 7 % model.config.vocab_size
    with torch.no_grad():
        outputs = model(ids, labels=ids)
    if name == "ours":
        use_dropout_attention(model)
    return model.train(), (outputs.logits[:, -1].numpy(), outputs.loss.item())


def make_step(folder: str, name: str, precision: str, compiled: bool, batch: tuple[int, int], seed: int):
    """A training step of stock GPT-2 or of ours."""
    import torch

    model, output = load(folder, name)
    optimizer = torch.optim.AdamW(model.parameters(), lr=5e-5, weight_decay=0.1, fused=True)
    generator = torch.Generator().manual_seed(seed)
    called = torch.compile(model) if compiled else model

    def step():
        ids = torch.randint(model.config.vocab_size, batch, generator=generator)
        with in_precision(precision):
            loss = called(ids, labels=ids, use_cache=False).loss
        loss.backward()
        optimizer.step()
        optimizer.zero_grad()
        return ids.numel(), output

    return step


def make_products(size: str, precision: str, tokens: int):
    """The matrix products of a step's linear layers, each into memory that is there."""
    import torch

    products = []
    for (inputs, outputs), times in product_shapes(size).items():
        dtype = torch.bfloat16 if precision == "bf16" else torch.float32
        width = -(-outputs // 16) * 16  # rows that begin at round addresses are faster
        x, weight = torch.ones(tokens, inputs, dtype=dtype), torch.ones(outputs, inputs, dtype=dtype)
        y = torch.ones(tokens, width, dtype=dtype)[:, :outputs]
        x_grad, weight_grad = torch.empty_like(x), torch.empty_like(weight)
        products += [(x, weight.t(), y), (y, weight, x_grad), (y.t(), x, weight_grad)] * times

    def multiply():
        for left, right, result in products:
            torch.mm(left, right, out=result)
        return tokens

    return multiply


def product_shapes(size: str) -> Counter:
    """How many linear layers of each shape `(in, out)` a model has."""
    n_embd, n_layer, _ = SHAPES[size]
    inner = 4 * n_embd
    blocks = {(n_embd, n_embd): 4 * n_layer, (n_embd, inner): n_layer, (inner, n_embd): n_layer}
    return Counter(blocks | {(n_embd, VOCABULARY): 1})


def difference(outputs: dict) -> str | None:
    """How stock's and our logits and losses differ."""
    (stock, stock_loss), (ours, our_loss) = outputs["stock"], outputs["ours"]
    logits, losses = abs(stock - ours).max(), abs(stock_loss - our_loss)
    return f"logits by {logits}, losses by {losses}" if max(logits, losses) > CLOSE else None


def profile(folder: str, name: str, precision: str, batch: tuple[int, int], seed: int) -> dict[str, float]:
    """Where an eager step's time goes: the seconds of each of `PARTS`, and of the rest."""
    import torch
    from torch.profiler import ProfilerActivity, record_function
    from torch.profiler import profile as profiler

    import hf_gpt_scratch.modeling_gpt_scratch as ours

    def named(part, function):
        def call(*args, **kwargs):
            with record_function(f"part: {part}"):
                return function(*args, **kwargs)

        return call

    ours.ByteMaskDropout.forward = named("dropout", ours.ByteMaskDropout.forward)
    torch.nn.Dropout.forward = named("dropout", torch.nn.Dropout.forward)
    torch.nn.functional.scaled_dot_product_attention = named(
        "attention", torch.nn.functional.scaled_dot_product_attention
    )
    torch.nn.functional.cross_entropy = named("loss", torch.nn.functional.cross_entropy)
    step = make_step(folder, name, precision, False, batch, seed)
    step()
    with profiler(activities=[ProfilerActivity.CPU]) as profiled:
        step()
    seconds = Counter()
    for event in profiled.events():
        seconds[part_of(event)] += event.self_cpu_time_total / 1e6
    return dict(seconds.most_common())


def part_of(event) -> str:
    """The part of a step that an operation belongs to."""
    names = []
    while event is not None:
        names.append(event.name)
        event = event.cpu_parent
    for part, words in PARTS.items():
        if any(word in name for name in names for word in words):
            return part
    return "rest"


def main(argv: list[str] | None = None) -> dict:
    args = parse(make_parser(), argv)
    if args.quick:
        args.size, args.batch_size, args.length = "tiny", 2, 16
    from hf_gpt_scratch.utils.precision import fast_cpu_dtype, why_cpu_dtype

    settings = {"batch": (args.batch_size, args.length), "seed": args.seed}
    found, rows = {}, []
    with tempfile.TemporaryDirectory() as folder:
        apart(stock_and_ours, folder, args.size, args.seed)
        for precision, how in product(args.precision, ["eager", "compiled"][: 1 + args.compile]):
            name = f"{args.size}, {precision}, {how}"
            is_slow = precision == "bf16" and str(fast_cpu_dtype()) != "torch.bfloat16" and not args.quick
            if not is_slow:
                print(f"{name}:")
                found[name] = steps(folder, args.size, precision, how == "compiled", args.rounds, **settings)
            rows += make_rows(found.get(name), args.size, name, precision, why_cpu_dtype() if is_slow else "")
    return write(
        {"runs": found},
        __file__,
        args,
        argv,
        task=f"training step, GPT-2 {args.size}, {args.batch_size} x {args.length} tokens, fused AdamW",
        compared=f"logits and losses within {CLOSE}, dropout off",
        rows=rows,
    )


def steps(
    folder: str, size: str, precision: str, compiled: bool, rounds: int, batch: tuple[int, int], seed: int
) -> dict:
    """Both models' steps in turns beside their products, and where the time of eager ones goes."""
    common = {"folder": folder, "precision": precision, "batch": batch, "seed": seed}
    contenders = [
        Contender(name, make_step, {**common, "name": name, "compiled": compiled}) for name in ("stock", "ours")
    ]
    alone = {"size": size, "precision": precision, "tokens": batch[0] * batch[1]}
    contenders.append(Contender("products alone", make_products, alone))
    measured = measure(contenders, rounds, compare=difference)
    if not compiled:
        profiles = {name: apart(profile, folder, name, precision, batch, seed) for name in ("ours", "stock")}
        show(profiles)
        measured["profile"] = profiles
    return measured


def make_rows(measured: dict | None, size: str, name: str, precision: str, reason: str) -> list[dict]:
    """A row for the speed, and one for the share of the rate that the products alone have."""
    question, against, asked = f"training step, {name}", "transformers' GPT-2, fused AdamW", ASKED[precision]
    if measured is None:
        return [row(question, against, asked, None, memory_asked=0.70, note=reason)]
    ours, alone = measured["contenders"]["ours"], measured["contenders"]["products alone"]
    parts = measured.get("profile", {}).get("ours", {})
    shares = [100 * best / step for best, step in zip(alone["seconds"], ours["seconds"])]
    why = f"a step of its matrix products alone would be {alone['ratio']:.2f}x"
    why += f"; {state_gb(size):.1f} of the {ours['peak_gb']:.1f} GB are weights, gradients and AdamW's moments"
    if name.endswith("compiled"):
        why += "; compiled, ours has the plain loss and torch's dropout, so that both become much the same program"
    memory = {"memory_asked": 0.70, "memory_ratio": ours["memory_ratio"]}
    return [
        row(question, against, asked, ours["ratios"], if_missed=why, **memory),
        row(
            f"{question}: share of the rate of its matrix products",
            "the products alone",
            85 if precision == "fp32" and parts else None,
            shares,
            unit="%",
            if_missed=", ".join(f"{part} {100 * took / sum(parts.values()):.0f} %" for part, took in parts.items()),
        ),
    ]


def show(profiles: dict[str, dict]) -> None:
    """Prints where the time of a step goes."""
    totals = {name: sum(parts.values()) for name, parts in profiles.items()}
    print(f"{'':18}" + "".join(f"{name:>16}" for name in profiles))
    for part in [*profiles["ours"], *(profiles["stock"].keys() - profiles["ours"].keys())]:
        cells = [(parts.get(part, 0), totals[name]) for name, parts in profiles.items()]
        print(f"{part:18}" + "".join(f"{seconds:8.2f} s {seconds / total:5.0%}" for seconds, total in cells))


if __name__ == "__main__":
    from hf_gpt_scratch.utils.errors import run_reporting_errors

    sys.exit(run_reporting_errors(lambda: main() and None))
