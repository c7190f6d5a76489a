"""
How cost grows: the time and the memory of training steps against the length of rows and their number, of a classifier
against its labels, of `hf-gpt-scratch classify` against the messages, of making a split against the rows of a table.

    python training/benchmarks/growth.py

A straight line on two logarithmic axes is a power: cost ~ x^slope. The slope fitted to each is told beside the one
that it should be, and drawn. One process works at a time, as two of the larger ones do not fit into every memory.
"""

import argparse
import contextlib
import csv
import io
import math
import random
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path

from side_by_side import SHAPES, Contender, add_options, apart, measure, parse, peak_bytes, row, write

CLASSIFIER = {"n_embd": 128, "n_layer": 4, "n_head": 4, "n_positions": 128}
PICTURES = Path(__file__).parents[2] / "docs" / "pictures"  # with --quick they go beside --output
WORDS, TOKENS = 5000, 4000
SLACK = 0.15  # above the law, before a slope is called worse than it


@dataclass(frozen=True)
class Sweep:
    """
    What is measured over some sizes.

    Attributes:
        make: of a contender, given a size and `arguments`; its unit of work returns how much it did and, for the
            memory above that of a tiny unit of work, what the process had held at most after that one.
        axis: what the sizes are.
        unit: of the work.
        time_law, memory_law: the slopes that there should be, of the seconds of a unit and of the memory.
        of_all: whether `memory_law` is about all memory, which should stay flat, or about what comes on top.
        why: where the laws come from.
    """

    title: str
    make: Callable
    sizes: tuple[int, ...]
    axis: str
    unit: str
    time_law: float
    memory_law: float
    of_all: bool
    why: str
    arguments: dict = field(default_factory=dict)


def training_steps(size: int, length: int, rows: int, shape: str, seed: int) -> Callable:
    """
    Steps of a GPT with random weights on `rows` of `length` tokens, of which 0 stands for `size`; fp32, AdamW, dropout
    and the attention that our training jobs turn on.
    """
    import torch

    from hf_gpt_scratch import GPTScratchConfig, GPTScratchForCausalLM
    from hf_gpt_scratch.training.causal_attention import use_dropout_attention

    torch.manual_seed(seed)
    n_embd, n_layer, n_head = SHAPES[shape]
    model = GPTScratchForCausalLM(GPTScratchConfig(n_embd=n_embd, n_layer=n_layer, n_head=n_head)).train()
    use_dropout_attention(model)
    optimizer = torch.optim.AdamW(model.parameters(), lr=5e-5, fused=True)
    length, rows = length or size, rows or size

    def step(shape: tuple[int, int]) -> None:
        ids = torch.randint(model.config.vocab_size, shape)
        model(ids, labels=ids, use_cache=False).loss.backward()
        optimizer.step()
        optimizer.zero_grad()

    step((1, 8))  # with the gradients and the optimizer's state
    before = peak_bytes()

    def unit():
        step((rows, length))
        return rows * length, before

    return unit


def labels(size: int, messages: int, seed: int) -> Callable:
    """Classification of messages by a model of `size` labels."""
    classifier, texts = make_classifier(size, seed), make_texts(messages, seed)
    list(classifier.classify(texts[:1]))
    before = peak_bytes()
    return lambda: (len(list(classifier.classify(texts))), before)


def messages(size: int, folder: str, seed: int) -> Callable:
    """`hf-gpt-scratch classify` of a table of `size` messages, from the file to the file."""
    from hf_gpt_scratch.cli import main as command

    def classify(table: Path) -> None:
        words = ["classify", f"{folder}/model", "--file", str(table), "--output", f"{folder}/labelled.csv"]
        with contextlib.redirect_stdout(io.StringIO()), contextlib.redirect_stderr(io.StringIO()):
            command(words)

    few, many = Path(folder, "few.csv"), Path(folder, f"{size}.csv")
    make_table(few, 10, 2, seed)
    make_table(many, size, 2, seed)
    classify(few)
    before = peak_bytes()

    def unit():
        classify(many)
        return size, before

    return unit


def table_rows(size: int, folder: str, seed: int) -> Callable:
    """Reading a table of labelled texts and splitting it, near-copies together."""
    from hf_gpt_scratch.data.labelled_texts import load_labelled_texts, split

    def prepare(table: Path) -> None:
        split(load_labelled_texts(table), seed)

    few, many = Path(folder, "few.csv"), Path(folder, f"{size}.csv")
    make_table(few, 200, 10, seed)
    make_table(many, size, 10, seed)
    prepare(few)
    before = peak_bytes()

    def unit():
        prepare(many)
        return size, before

    return unit


def make_texts(number: int, seed: int) -> list[str]:
    """Texts of 5 to 30 random words, some frequent and some rare."""
    draw = random.Random(seed)
    words = ["".join(draw.choices("etaoinshrdlu", k=draw.randint(2, 9))) for _ in range(WORDS)]
    weights = [1 / rank for rank in range(1, WORDS + 1)]  # Zipf's law
    return [" ".join(draw.choices(words, weights, k=draw.randint(5, 30))) for _ in range(number)]


def make_table(path: Path, rows: int, names: int, seed: int) -> None:
    with open(path, "w", encoding="utf-8", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(["text", "label"])
        writer.writerows((text, f"label {i % names}") for i, text in enumerate(make_texts(rows, seed)))


def make_classifier(names: int, seed: int):
    """A `TextClassifier` of random weights with so many labels."""
    import torch

    from hf_gpt_scratch import GPTScratchConfig, GPTScratchForSequenceClassification, TextClassifier
    from hf_gpt_scratch.tokenizer import train_tokenizer

    tokenizer = train_tokenizer(make_texts(1000, seed), TOKENS)
    torch.manual_seed(seed)
    ends = {f"{kind}_token_id": getattr(tokenizer, f"{kind}_token_id") for kind in ("bos", "eos", "pad")}
    config = GPTScratchConfig(**CLASSIFIER, vocab_size=len(tokenizer), num_labels=names, **ends)
    return TextClassifier(GPTScratchForSequenceClassification(config), tokenizer)


def save_classifier(folder: str, seed: int) -> None:
    classifier = make_classifier(2, seed)
    classifier.model.save_pretrained(folder)
    classifier.tokenizer.save_pretrained(folder)


def share_of_attention(shape: str, length: int) -> float:
    """
    The share of the products of queries, keys and values in a step's operations, which grow with the square of the
    length, beside the linear layers' and the output layer's, which grow with the length.
    """
    n_embd, n_layer, _ = SHAPES[shape]
    linear = 12 * n_layer * n_embd**2 + 50257 * n_embd  # multiplications a token
    square = n_layer * n_embd * length  # a token looks at half of the row on average
    return square / (linear + square)


def law_of_length(shape: str, lengths: Sequence[int]) -> float:
    """The slope of a step's operations over these lengths."""
    operations = [length / (1 - share_of_attention(shape, length)) for length in lengths]
    return slope(lengths, operations)


def memory_law_of_length(shape: str, lengths: Sequence[int]) -> float:
    """
    The slope of what a step keeps for its backward pass: for each token and layer 16.5 numbers as wide as the model
    (what LayerNorms, linear layers and GELU were given, and bytes for dropout), and for each head its weights and a
    byte for dropout beside each, of the tokens up to its own.
    """
    n_embd, _, n_head = SHAPES[shape]
    return slope(lengths, [length * (4 * 16.5 * n_embd + 5 * n_head * length / 2) for length in lengths])


def sweeps(quick: bool, folder: str, seed: int, shape: str = "124M") -> dict[str, Sweep]:
    shape = "tiny" if quick else shape
    lengths = (16, 32) if quick else (128, 256, 512, 1024)
    step = {"shape": shape, "seed": seed}
    share = share_of_attention(shape, lengths[-1])
    return {
        "length": Sweep(
            f"A training step, {shape}, 2 rows", training_steps, lengths, "tokens a row", "tokens",
            law_of_length(shape, lengths), memory_law_of_length(shape, lengths), False,
            f"only the products within the attention grow with the square of the length, {share:.0%} of the operations"
            f" at {lengths[-1]:,} tokens, and with dropout on a CPU what is kept of them",
            {"length": 0, "rows": 2, **step},
        ),
        "batch": Sweep(
            f"A training step, {shape}, {lengths[0]} tokens a row", training_steps,
            (1, 2) if quick else (1, 2, 4, 8, 16), "rows a batch", "tokens", 1, 1, False,
            "each row costs the same; the optimizer's step, which costs the same whatever the batch, makes small ones"
            " dearer",
            {"length": lengths[0], "rows": 0, **step},
        ),
        "labels": Sweep(
            "Classification of messages", labels,
            (2, 5) if quick else (2, 10, 100, 1000), "labels", "messages", 0, 0, True,
            "a label is one more row of the last matrix",
            {"messages": 20 if quick else 1000, "seed": seed},
        ),
        "messages": Sweep(
            "hf-gpt-scratch classify --output", messages, (10, 40) if quick else (100, 1000, 10_000), "messages",
            "messages", 1, 0, True,
            "they are read in batches; what is kept of each is its row of the table",
            {"folder": folder, "seed": seed},
        ),
        "rows": Sweep(
            "Reading and splitting a table", table_rows, (200, 400) if quick else (1000, 10_000, 100_000), "rows",
            "rows", 1, 1, False,
            "each row is read, compared with its near-copies by a hash and put into a part",
            {"folder": folder, "seed": seed},
        ),
    }  # fmt: skip


def slope(x: Sequence[float], y: Sequence[float]) -> float:
    """Of the straight line through the points on two logarithmic axes, by least squares."""
    logs = [(math.log(one), math.log(other)) for one, other in zip(x, y)]
    mean_x, mean_y = (sum(values) / len(logs) for values in zip(*logs))
    return sum((u - mean_x) * (v - mean_y) for u, v in logs) / sum((u - mean_x) ** 2 for u, _ in logs)


def in_a_process(sweep: Sweep, size: int, rounds: int) -> tuple[float, float, float, float]:
    """How much a unit of work is, how much was done a second, and the peak bytes after and before the work."""
    before = {}
    contender = Contender(f"{size:,}", sweep.make, {"size": size, **sweep.arguments})
    done = measure([contender], rounds, compare=before.update)["contenders"][contender.name]
    return done["units"][0], done["per_second"], done["peak_gb"] * 1e9, before[contender.name]


def here(sweep: Sweep, size: int, rounds: int) -> tuple[float, float, float, float]:
    """The same in this process, whose memory is that of all sizes: for `--quick`, as a process takes seconds."""
    unit = sweep.make(size, **sweep.arguments)
    start = time.perf_counter()
    count, before = unit()
    return count, count / (time.perf_counter() - start), peak_bytes(), before


def run(sweep: Sweep, rounds: int, quick: bool) -> dict:
    """The measurements of a sweep and the slopes of its time and memory."""
    found = {"sizes": list(sweep.sizes), "per_second": [], "seconds": [], "peak_gb": [], "extra_gb": []}
    for size in sweep.sizes:
        print(f"{sweep.title}, {size:,} {sweep.axis}", flush=True)
        count, speed, peak, before = (here if quick else in_a_process)(sweep, size, rounds)
        found["per_second"].append(speed)
        found["seconds"].append(count / speed)
        found["peak_gb"].append(peak / 1e9)
        found["extra_gb"].append(max(peak - before, 1e6) / 1e9)
    memory = found["peak_gb" if sweep.of_all else "extra_gb"]
    return {
        **found,
        "slope": slope(sweep.sizes, found["seconds"]),
        "law": sweep.time_law,
        "memory_slope": slope(sweep.sizes, memory),
        "memory_law": sweep.memory_law,
        "why": sweep.why,
    }


def told(sweep: Sweep, found: dict) -> dict:
    """The row of the table."""
    worse = [
        f"{what} grows faster than it should"
        for what, kind in (("time", ""), ("memory", "memory_"))
        if found[f"{kind}slope"] > found[f"{kind}law"] + SLACK
    ]
    memory = f"memory{'' if sweep.of_all else ' above that of a tiny unit'} ~ {_power(found['memory_slope'])}"
    low, high = (f"{value:.2f}" for value in (found["peak_gb"][0], found["peak_gb"][-1]))
    return row(
        f"{sweep.title}: slope of the time, {sweep.sizes[0]:,} to {sweep.sizes[-1]:,} {sweep.axis}",
        f"the slope that there should be, {found['law']:.2f}",
        None,
        [found["slope"]],
        unit="",
        note="; ".join([*worse, f"{memory} (should be {found['memory_law']:.3g}), {low} to {high} GB", sweep.why]),
    )


def _power(value: float) -> str:
    return f"x^{value:.2f}"


def draw(sweep: Sweep, found: dict, path: Path) -> None:
    """Work a second and memory against the sizes, each with the line of its law."""
    from matplotlib.figure import Figure
    from matplotlib.ticker import EngFormatter, LogLocator, NullFormatter
    from PIL import Image

    from hf_gpt_scratch.evaluation.plots import BLUE, GREY, VERMILION, save_figure

    figure = Figure(figsize=(7, 2.9), layout="constrained")
    figure.suptitle(sweep.title, fontsize="medium")
    memory = found["peak_gb" if sweep.of_all else "extra_gb"]
    time_law, memory_law = -found["law"], found["memory_law"]
    if sweep.time_law:
        time_law += 1  # of the work a second
    panels = (
        (BLUE, found["per_second"], time_law, f"{sweep.unit} a second", f"time ~ {_power(found['slope'])}"),
        (VERMILION, [value * 1e9 for value in memory], memory_law, _memory_label(sweep), _memory_power(found)),
    )
    for axis, (colour, values, law, label, measured) in zip(figure.subplots(1, 2), panels):
        axis.plot(found["sizes"], values, color=colour, marker="o", markersize=5, label=f"measured: {measured}")
        middle = math.exp(sum(math.log(v) - law * math.log(x) for x, v in zip(found["sizes"], values)) / len(values))
        line = [middle * x**law for x in found["sizes"]]
        said = found["law"] if colour == BLUE else memory_law
        axis.plot(found["sizes"], line, color=GREY, linestyle=":", label=f"law: x^{said:.3g}")
        axis.set(xscale="log", yscale="log", xlabel=sweep.axis, ylabel=label)
        low, high = min(*values, *line), max(*values, *line)
        axis.set_ylim(low / 2, high * 2)  # so that what is nearly flat looks flat
        axis.set_xticks(found["sizes"], [f"{size:,}" for size in found["sizes"]])
        axis.xaxis.set_minor_formatter(NullFormatter())
        axis.yaxis.set_major_formatter(EngFormatter("B" if colour == VERMILION else "", sep=" "))
        axis.yaxis.set_major_locator(LogLocator(subs=(1, 2, 5)))
        axis.yaxis.set_minor_formatter(NullFormatter())
        axis.grid(alpha=0.3)
        axis.legend(fontsize="small", frameon=False)
    path.parent.mkdir(parents=True, exist_ok=True)
    save_figure(figure, path)
    with Image.open(path) as picture:  # of few colours: a third of the size
        picture.convert("RGB").quantize(48).save(path, optimize=True)


def _memory_label(sweep: Sweep) -> str:
    return "peak memory" if sweep.of_all else "additional memory"


def _memory_power(found: dict) -> str:
    return f"memory ~ {_power(found['memory_slope'])}"


def make_parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    add_options(parser, __file__, rounds=2)
    parser.add_argument("--shape", choices=SHAPES, default="124M", help="of the training steps")
    parser.add_argument("--pictures", metavar="FOLDER", help="where to draw growth_NAME.png (default: docs/pictures)")
    parser.add_argument("--only", nargs="+", metavar="NAME", help="of length, batch, labels, messages and rows")
    return parser


def main(argv: list[str] | None = None) -> dict:
    args = parse(make_parser(), argv)
    pictures = Path(args.pictures or (Path(args.output).parent if args.quick else PICTURES))
    done, rows = {}, []
    with tempfile.TemporaryDirectory() as folder:
        (save_classifier if args.quick else partial(apart, save_classifier))(f"{folder}/model", args.seed)
        for name, sweep in sweeps(args.quick, folder, args.seed, args.shape).items():
            if args.only and name not in args.only:
                continue
            done[name] = run(sweep, args.rounds, args.quick)
            rows.append(told(sweep, done[name]))
            draw(sweep, done[name], pictures / f"growth_{name}.png")
    return write(
        {"sweeps": done},
        __file__,
        args,
        argv,
        task="the same work on more and more: the slope of time and memory on logarithmic axes",
        compared="nothing: one program at several sizes",
        rows=rows,
    )


if __name__ == "__main__":
    from hf_gpt_scratch.utils.errors import run_reporting_errors

    sys.exit(run_reporting_errors(lambda: main() and None))
