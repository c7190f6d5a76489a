"""
Runs the benchmarks one after the other and writes their table into docs/results.md.

    python training/benchmarks/all.py                       # an hour or two on an idle machine of two cores
    python training/benchmarks/all.py --only convert startup
    python training/benchmarks/all.py --tables              # the table alone, from what was measured before

What was measured is kept in training/results/benchmarks.json, without the folders of the machine, a benchmark that is
run again in place of itself. A benchmark that fails is told at the end, and the others are run. `--quick` only shows
that all of them run: it keeps nothing.
"""

import argparse
import json
import re
import subprocess
import sys
from collections import Counter
from pathlib import Path

BENCHMARKS = (  # in the order of the table
    "classify_messages",
    "typed_words",
    "train_step",
    "packing",
    "instruct",
    "spam_finetune",
    "decode",
    "onnx_models",
    "answers",
    "pretrain_memory",
    "convert",
    "growth",
    "startup",
)
APART = ("engines",)  # which keeps and writes a table of its own, in docs/serving.md
MESSAGES = ("classify_messages", "spam_finetune")  # which read the SMS Spam Collection
INSTRUCTIONS = ("packing", "instruct", "answers")  # which read the book's instructions
TOKENIZER = ("classify_messages", "spam_finetune", "packing", "instruct", "decode", "answers")  # GPT-2's
ROOT = Path(__file__).parents[2]
KEPT = ROOT / "training" / "results" / "benchmarks.json"
PAGE = ROOT / "docs" / "results.md"
TABLE = re.compile(r"(<!-- benchmarks -->\n).*?(<!-- end of benchmarks -->)", re.S)
MORE = {"train_step": ["--compile"]}  # what is also measured, without --quick
HEADER = ("question", "against", "asked", "reached (lowest to highest)", "memory: asked", "reached")
PACKAGES = ("torch", "transformers")  # whose versions the sentence on the machine has


def make_parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--only", nargs="+", metavar="NAME", choices=BENCHMARKS, default=BENCHMARKS)
    parser.add_argument("--quick", action="store_true", help="tiny shapes, and nothing is kept: to see that they run")
    parser.add_argument("--tables", action="store_true", help="run nothing, write the table from what is kept")
    parser.add_argument("--messages", metavar="FILE", help="the SMS Spam Collection (default: download it)")
    parser.add_argument("--instructions", metavar="FILE", help="the book's instructions (default: download them)")
    parser.add_argument("--tokenizer", metavar="DIR", help="GPT-2's tokenizer (default: of the Hub)")
    return parser


def data_options(name: str, args: argparse.Namespace) -> list[str]:
    """Where a benchmark finds its data, in its own options."""
    given = (("--data_file", args.messages, MESSAGES), ("--data_file", args.instructions, INSTRUCTIONS))
    given += (("--tokenizer", args.tokenizer, TOKENIZER),)
    return [word for option, value, readers in given if value and name in readers for word in (option, value)]


def run(name: str, quick: bool, options: list[str]) -> dict | None:
    """What a benchmark measured, in a process of its own, or `None` where it failed."""
    output = ROOT / "runs" / "benchmarks" / f"{name}{'.quick' if quick else ''}.json"
    output.unlink(missing_ok=True)
    command = [sys.executable, f"training/benchmarks/{name}.py", "--output", str(output.relative_to(ROOT)), *options]
    print(f"\n--- {name}", flush=True)
    done = subprocess.run([*command, *(["--quick"] if quick else MORE.get(name, []))], cwd=ROOT)
    return json.loads(output.read_text(encoding="utf-8")) if done.returncode == 0 and output.exists() else None


def kept() -> dict:
    """What was measured before, by the benchmarks' names."""
    return json.loads(KEPT.read_text(encoding="utf-8")) if KEPT.exists() else {}


def keep(name: str, result: dict) -> None:
    """Keeps a benchmark's rows, the machine and the command, in place of what was kept of it."""
    from hf_gpt_scratch.hub.secrets import public_command
    from hf_gpt_scratch.utils.files import write_json

    told = {key: result[key] for key in ("rows", "date", "seed", "python", "versions", "hardware", "torch_threads")}
    write_json(KEPT, {**kept(), name: {**told, "command": public_command(result["command"])}})


def amount(value: float, unit: str) -> str:
    """A value with its unit: "1.40x", "85 %", "0.35 GB"."""
    return f"{value:.2f}x" if unit == "x" else f"{value:.{0 if abs(value) >= 20 else 2}f} {unit}".rstrip()


def cells(row: dict) -> list[str]:
    """The cells of a row of the table."""
    from hf_gpt_scratch.utils.markdown import MISSING, escape

    unit, memory_unit = row["unit"], row["memory_unit"]
    reached, asked = MISSING, [""] * 2
    if row["ratio"] is not None:
        ends = [amount(row[end], unit).removesuffix(f" {unit}") for end in ("lowest", "highest")]
        reached = amount(row["ratio"], unit)
        if ends[0] != ends[1]:
            reached += f" ({' to '.join(ends)})"
    if row["asked"] is not None:
        asked[0] = f"at {'most' if row['at_most'] else 'least'} {amount(row['asked'], unit)}"
    if row["memory_asked"] is not None:
        asked[1] = f"at most {amount(row['memory_asked'], memory_unit)}"
    memory = MISSING if asked[1] else ""
    if row["memory_ratio"] is not None:
        memory = amount(row["memory_ratio"], memory_unit)
    return [escape(row["question"]), escape(row["against"]), asked[0], reached, asked[1], memory]


def table(measured: dict) -> str:
    """The table of all rows, then what there is to say of single rows, then the machines."""
    measured = {name: measured[name] for name in BENCHMARKS if name in measured}
    rows = [row for one in measured.values() for row in one["rows"]]
    lines = [f"| {' | '.join(line)} |" for line in (HEADER, *map(cells, rows))]
    lines.insert(1, f"|{'---|' * len(HEADER)}")
    told = notes(rows)
    return "\n".join([*lines, "", *told, *([""] if told else []), *machines(measured)])


def notes(rows: list[dict]) -> list[str]:
    """What there is to say of single rows, with the peer where a question is asked of several."""
    from side_by_side import missed

    from hf_gpt_scratch.utils.markdown import escape

    times, found = Counter(row["question"] for row in rows), []
    for row in rows:
        of = row["question"] + (f", against {row['against']}" if times[row["question"]] > 1 else "")
        said = "; ".join(filter(None, ["missed"] * missed(row) + [row["note"].rstrip(".")]))
        found += [f"- {escape(of)}: {said}."] if said else []
    return found


def machines(measured: dict) -> list[str]:
    """A sentence for each machine that the rows are from."""
    names_of: dict[str, list[str]] = {}
    for name, one in measured.items():
        names_of.setdefault(machine(one), []).append(name)
    if len(names_of) == 1:
        return [f"Measured on {next(iter(names_of))}."]
    return [f"Measured by {', '.join(names)} on {said}." for said, names in names_of.items()]


def machine(one: dict) -> str:
    """The machine of a benchmark in words, with the versions and the day."""
    hardware, versions = one["hardware"], one["versions"]
    features = [name.upper().replace("_", "-") for name in hardware["features"]]
    has = f"with {', '.join(features)}" if features else "whose features are not known"
    lacks = "" if "amx_bf16" in hardware["features"] else " and without AMX"
    gpu = f", {hardware['gpu']}" if "gpu" in hardware else ""
    packages = ", ".join(f"{name} {versions[name]}" for name in PACKAGES)
    return (
        f"{hardware['cpu']} {has}{lacks}, {hardware['cores']} cores, {one['torch_threads']} threads,"
        f" {hardware['memory_gb']:.0f} GB of memory{gpu}; Python {one['python']}, {packages}; {one['date']}"
    )


def with_table(text: str) -> str:
    """A page with its table written anew from what is kept."""
    return TABLE.sub(lambda match: f"{match[1]}\n{table(kept())}\n\n{match[2]}", text)


def main(argv: list[str] | None = None) -> int:
    """Returns the exit status: 1 where a benchmark failed."""
    args = make_parser().parse_args(argv)
    from hf_gpt_scratch.utils.files import write_whole

    failed = []
    for name in () if args.tables else args.only:
        result = run(name, args.quick, data_options(name, args))
        if result is None:
            failed.append(name)
        elif not args.quick:
            keep(name, result)
    if not args.quick:
        write_whole(PAGE, with_table(PAGE.read_text(encoding="utf-8")))
        print(f"The table in {PAGE.relative_to(ROOT)} is that of {KEPT.relative_to(ROOT)}.")
    if failed:
        print(f"error: {', '.join(failed)} failed; see above.", file=sys.stderr)
    return 1 if failed else 0


if __name__ == "__main__":
    from hf_gpt_scratch.utils.errors import run_reporting_errors

    sys.exit(run_reporting_errors(main))
