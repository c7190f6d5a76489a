"""
Does to the package what should not happen to it, and writes what survived into docs/reliability.md.

    pip install -c constraints.txt -e '.[test,trl]'
    python training/reliability/all.py                      # some hours on two cores
    python training/reliability/all.py --only kill --subjects spam --tries 20
    python training/reliability/all.py --tables             # the table alone, from what was tried before

What was tried is kept in training/results/reliability.json as it comes, with the command, the day and the machine of
each run. A part that is run whole begins anew; with `--subjects`, a row is kept in place of itself. The exit status is
1 where something was lost or executed. `--quick` tries each fault a few times and keeps nothing.
"""

import argparse
import importlib
import json
import re
import shutil
import sys
import tempfile
from collections.abc import Callable
from dataclasses import asdict
from datetime import date
from pathlib import Path

from faults import Row, Settings

PARTS = ("kill", "starve", "readers", "foreign_code", "load", "repeat")  # modules, in the order of the table
ROOT = Path(__file__).parents[2]
KEPT = ROOT / "training" / "results" / "reliability.json"
PAGE = ROOT / "docs" / "reliability.md"
TABLE = re.compile(r"(<!-- reliability -->\n).*?(<!-- end of reliability -->)", re.S)
HEADER = ("fault", "subject", "tries", "survived", "lost", "executed", "")


def make_parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument(
        "--only", nargs="+", metavar="PART", choices=PARTS, default=PARTS, help=f"of {', '.join(PARTS)}"
    )
    parser.add_argument(
        "--subjects", nargs="+", metavar="WORD", default=(), help="only subjects with one of these words"
    )
    parser.add_argument(
        "--tries",
        type=int,
        help="of each fault of kill, starve, readers, load's Ctrl-C and repeat (default: their own)",
    )
    parser.add_argument("--seed", type=int, default=123)
    parser.add_argument("--quick", action="store_true", help="a few tries, and nothing is kept: to see that it runs")
    parser.add_argument("--tables", action="store_true", help="run nothing, write the table from what is kept")
    parser.add_argument("--folder", type=Path, help="where to work (default: a temporary folder, removed at the end)")
    return parser


def kept() -> dict:
    """What was tried before, by the parts' names."""
    return json.loads(KEPT.read_text(encoding="utf-8")) if KEPT.exists() else {}


def forget(name: str) -> None:
    """Removes what was tried before of a part."""
    _change(lambda tried: {other: runs for other, runs in tried.items() if other != name})


def keep(name: str, row: Row, told: dict) -> None:
    """Keeps a row in place of an earlier one of the same fault and subject, with what is `told` of its run."""

    def change(tried: dict) -> dict:
        runs = [{**run, "rows": [one for one in run["rows"] if not _is_same(one, row)]} for run in tried.get(name, [])]
        if not runs or {**runs[-1], "rows": []} != {**told, "rows": []}:
            runs.append({**told, "rows": []})
        runs[-1]["rows"].append(asdict(row))
        return {**tried, name: [run for run in runs if run["rows"]]}

    _change(change)


def _is_same(kept_row: dict, row: Row) -> bool:
    return (kept_row["fault"], kept_row["subject"]) == (row.fault, row.subject)


def _change(change: Callable[[dict], dict]) -> None:
    """Changes what is kept, which two runs may do at a time."""
    from hf_gpt_scratch.utils.files import write_json
    from hf_gpt_scratch.utils.locks import lock

    with lock(KEPT.with_suffix(".lock"), KEPT, wait=30):
        write_json(KEPT, change(kept()))


def table(tried: dict) -> str:
    """The table of all rows, and the machines and days that they are of."""
    from hf_gpt_scratch.utils.markdown import escape

    lines = [f"| {' | '.join(HEADER)} |", f"|{'---|' * len(HEADER)}"]
    parts: dict[str, dict[str, None]] = {}
    for name in PARTS:
        for run in tried.get(name, []):
            hardware = run["hardware"]
            when = f"{hardware['cpu']}, {hardware['cores']} cores; Python {run['python']}; {run['date']}"
            parts.setdefault(when, {})[name] = None
            for row in run["rows"]:
                executed = "" if row["executed"] is None else row["executed"]
                numbers = [f"{row[key]:,}" for key in ("tries", "survived", "lost")]
                cells = [escape(row["fault"]), escape(row["subject"]), *numbers, str(executed), escape(row["note"])]
                lines.append(f"| {' | '.join(cells)} |")
    return "\n".join([*lines, "", *(f"Tried by {', '.join(names)} on {when}." for when, names in parts.items())])


def with_table(text: str) -> str:
    """A page with its table written anew from what is kept."""
    return TABLE.sub(lambda match: f"{match[1]}\n{table(kept())}\n\n{match[2]}", text)


def run(name: str, settings: Settings, command: str) -> list[Row]:
    """The rows of a part, each told and kept as it comes."""
    from hf_gpt_scratch.utils.provenance import environment

    told = {"date": date.today().isoformat(), "seed": settings.seed, "command": command, **environment()}
    rows = []
    if not (settings.quick or settings.subjects):
        forget(name)
    for row in importlib.import_module(name).rows(settings):
        executed = "" if row.executed is None else f", {row.executed} executed"
        note = f" ({row.note})" if row.note else ""
        survived = f"{row.survived} of {row.tries} survived, {row.lost} lost{executed}"
        print(f"{row.fault}: {row.subject}: {survived}{note}", flush=True)
        rows.append(row)
        if not settings.quick:
            keep(name, row, told)
    return rows


def main(argv: list[str] | None = None) -> int:
    """Returns the exit status: 1 where something was lost or executed."""
    args = make_parser().parse_args(argv)
    from hf_gpt_scratch.utils.errors import UsageError
    from hf_gpt_scratch.utils.files import write_whole
    from hf_gpt_scratch.utils.provenance import command_line
    from hf_gpt_scratch.utils.requirements import require_package

    if not args.tables and sys.platform != "linux":
        raise UsageError("Memory, signals and disks are those of Linux: run it there; --tables runs anywhere.")
    for package in () if args.tables else ("hypothesis", "peft"):
        require_package(package, "test", "The report")
    base, all_rows = args.folder or Path(tempfile.mkdtemp(prefix="reliability-")), []
    command = command_line("training/reliability/all.py", sys.argv[1:] if argv is None else argv)
    for name in () if args.tables else args.only:
        print(f"\n--- {name}", flush=True)
        (base / name).mkdir(parents=True, exist_ok=True)
        settings = Settings((base / name).absolute(), args.seed, args.quick, args.tries, tuple(args.subjects))
        all_rows += run(name, settings, command)
    if not args.folder:
        shutil.rmtree(base, ignore_errors=True)
    if args.subjects and not (all_rows or args.tables):
        raise UsageError(f"Nothing in {', '.join(args.only)} has a name with one of {', '.join(args.subjects)}.")
    if not args.quick:
        write_whole(PAGE, with_table(PAGE.read_text(encoding="utf-8")))
        print(f"The table in {PAGE.relative_to(ROOT)} is that of {KEPT.relative_to(ROOT)}.")
    bad = [row for row in all_rows if not row.is_good]
    for row in bad:
        print(f"error: {row.fault}: {row.subject}: {row.tries - row.survived} of {row.tries} failed.", file=sys.stderr)
    return 1 if bad else 0


if __name__ == "__main__":
    from hf_gpt_scratch.utils.errors import run_reporting_errors

    sys.exit(run_reporting_errors(main))
