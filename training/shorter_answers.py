"""
Preferences for a trait that can be measured, since nobody votes here: of two right answers, the shorter one.

    python training/shorter_answers.py data runs/two_answers
    hf-gpt-scratch train instruct --data_file runs/two_answers/rows.json ... --output_dir runs/either
    hf-gpt-scratch train prefer --model_name_or_path runs/either --data_file runs/two_answers/preferences.jsonl ...
    python training/shorter_answers.py measure runs/shorter

`data` writes questions with two right answers each, a sentence and its last word, from the demo's instructions; and
preferences for the shorter one. `measure` compares the answers to the held-out questions before and after, and writes
`results/shorter.json`. docs/results.md has the commands.
"""

import argparse
import json
import re
import sys
from collections.abc import Sequence
from pathlib import Path

ROOT = Path(__file__).parents[1]
# Sentences whose last word is the answer
ANSWER = re.compile(r"(?:The .+ is|\w+ rhymes with|An? \w+ says|\d+ \+ \d+ is) ([\w-]+)\.")


def questions() -> dict[str, tuple[str, str]]:
    """The demo's questions with a short answer: their two right answers, the sentence and its last word."""
    rows = json.loads((ROOT / "training" / "demo_data" / "instructions.json").read_text(encoding="utf-8"))
    found = {}
    for row in rows:
        match = ANSWER.fullmatch(row["output"])
        if match and not row["input"]:
            word = match[1]
            found[row["instruction"]] = (row["output"], f"{word[0].upper()}{word[1:]}.")
    return found


def is_right(text: str, answers: Sequence[str]) -> bool:
    """Whether a text is one of the right answers, by its last word."""
    return text.split()[-1:] != [] and text.split()[-1].lower() == answers[1].lower()


def write_data(args: argparse.Namespace) -> None:
    from hf_gpt_scratch.utils.files import atomic_folder, write_json, write_whole

    known = questions()
    rows = [{"instruction": one, "input": "", "output": text} for one, texts in known.items() for text in texts]
    pairs = [{"prompt": one, "chosen": short, "rejected": long} for one, (long, short) in known.items()]
    with atomic_folder(args.folder) as folder:
        write_json(folder / "rows.json", rows)
        write_whole(folder / "preferences.jsonl", "".join(json.dumps(pair) + "\n" for pair in pairs))
    print(f"Wrote {args.folder}: {len(rows)} rows and {len(pairs)} preferences.")


def measure(args: argparse.Namespace) -> None:
    from hf_gpt_scratch.evaluation.intervals import bootstrap_mean, wilson
    from hf_gpt_scratch.evaluation.responses import RESPONSE, read_pairs
    from hf_gpt_scratch.utils.files import read_json
    from hf_gpt_scratch.utils.provenance import environment
    from hf_gpt_scratch.utils.result_card import Metric, ResultCard

    run, known = Path(args.run), questions()
    pairs = read_pairs(run / "responses.json", run / "responses_before.json")
    metrics = read_json(run / "metrics.json")

    def numbers(side: int) -> dict[str, Metric]:
        words = [[float(len(pair[side][RESPONSE].split()))] for pair in pairs]
        right = sum(is_right(pair[side][RESPONSE], known[pair[side]["instruction"]]) for pair in pairs)
        points = [[_points(pair[side], pair[1 - side])] for pair in pairs]
        return {
            "words": Metric(sum(map(sum, words)) / len(words), bootstrap_mean(words), higher_is_better=False),
            "right": Metric(right / len(pairs), wilson(right, len(pairs))),
            "win_rate": Metric(sum(map(sum, points)) / len(points), bootstrap_mean(points)),
        }

    card = ResultCard(
        task="answers preferred by a rule",
        protocol=f"{len(pairs)} held-out questions, answered greedily; the answer of fewer words wins, a tie is half",
        data=[{key: metrics["data"][key] for key in ("source", "sha256")}],
        metrics=numbers(0),
        baselines={"before": numbers(1)},
        command=f"python training/shorter_answers.py measure {args.run}",
        environment=environment(),
        seeds=[metrics["seed"]],
        predictions="responses.json",
    )
    print(card.write(run, "shorter"))
    for name in card.metrics:
        before, after = card.baselines["before"][name], card.metrics[name]
        print(f"{name:10} before {before.value:.3f} {before.interval}, after {after.value:.3f} {after.interval}")


def _points(own: dict, other: dict) -> float:
    """What an answer wins over another to the same question by its length: 1, 0, or half of a tie."""
    ours, theirs = (len(row["model_response"].split()) for row in (own, other))
    return 0.5 if ours == theirs else float(ours < theirs)


def main(argv: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    commands = parser.add_subparsers(required=True)
    data = commands.add_parser("data", help="write questions with two right answers each, and preferences")
    data.add_argument("folder")
    data.set_defaults(run_it=write_data)
    compared = commands.add_parser("measure", help="compare the answers before and after `train prefer`")
    compared.add_argument("run")
    compared.set_defaults(run_it=measure)
    args = parser.parse_args(argv)
    args.run_it(args)


if __name__ == "__main__":
    from hf_gpt_scratch.utils.errors import run_reporting_errors

    sys.exit(run_reporting_errors(main))
