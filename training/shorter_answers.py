"""
Preferences for a trait that can be measured, since nobody votes here: of two right answers, the shorter one.

    python training/shorter_answers.py rows runs/shorter.json
    hf-gpt-scratch train instruct --data_file runs/shorter.json ... --output_dir runs/either
    python training/shorter_answers.py pairs runs/either --output runs/shorter.jsonl
    hf-gpt-scratch train prefer --model_name_or_path runs/either --data_file runs/shorter.jsonl ...
    python training/shorter_answers.py measure runs/shorter

`rows` writes questions with two right answers each, a sentence and its last word, from the demo's instructions.
`pairs` samples answers of a follower to these questions, and pairs its shortest and its longest right one. `measure`
compares the answers to the held-out questions before and after: `results/shorter.json`. docs/results.md has all of the
commands.
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
SAMPLES, TEMPERATURE = 8, 1.0


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


def write_rows(args: argparse.Namespace) -> None:
    from hf_gpt_scratch.utils.files import write_json

    rows = [{"instruction": one, "input": "", "output": text} for one, texts in questions().items() for text in texts]
    write_json(args.output, rows)
    print(f"Wrote {len(rows)} rows to {args.output}.")


def write_pairs(args: argparse.Namespace) -> None:
    from hf_gpt_scratch import Chat
    from hf_gpt_scratch.generation.batch import complete_prompts
    from hf_gpt_scratch.utils.files import write_whole
    from hf_gpt_scratch.utils.special_tokens import chat_ids

    chat, known = Chat.from_pretrained(args.follower), questions()
    asked = [one for one in known for _ in range(SAMPLES)]
    prompts = [chat_ids(chat.tokenizer, [{"role": "user", "content": one}]) for one in asked]
    settings = {"max_new_tokens": 24, "temperature": TEMPERATURE, "seed": args.seed, "tokenizer": chat.tokenizer}
    right: dict[str, set[str]] = {one: set() for one in known}
    for one, answer in zip(asked, complete_prompts(chat.model, prompts, **settings)):
        text = chat.tokenizer.decode(answer.token_ids)
        if answer.finish_reason == "stop" and is_right(text, known[one]):
            right[one].add(text)
    pairs = []
    for one, texts in right.items():
        chosen, *_, rejected = [*sorted(texts, key=lambda text: (len(text.split()), text)), "", ""][
            : max(2, len(texts))
        ]
        if rejected and len(chosen.split()) < len(rejected.split()):
            pairs.append({"prompt": one, "chosen": chosen, "rejected": rejected})
    write_whole(args.output, "".join(json.dumps(pair) + "\n" for pair in pairs))
    print(f"Wrote {len(pairs)} pairs of {len(known)} questions to {args.output}; the others had no two right answers.")


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
        points = [[_points(pair[side], pair[1 - side], known)] for pair in pairs]
        return {
            "words": Metric(sum(map(sum, words)) / len(words), bootstrap_mean(words), higher_is_better=False),
            "right": Metric(right / len(pairs), wilson(right, len(pairs))),
            "win_rate": Metric(sum(map(sum, points)) / len(points), bootstrap_mean(points)),
        }

    card = ResultCard(
        task="answers preferred by a rule",
        protocol=f"{len(pairs)} held-out questions, answered greedily; the shorter of two right answers wins, and a"
        " right one over a wrong one; else it is a tie, half a win",
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


def _points(own: dict, other: dict, known: dict) -> float:
    """What an answer wins over another to the same question: 1, 0, or half of a tie."""
    answers = known[own["instruction"]]
    ours, theirs = (
        (is_right(row["model_response"], answers), -len(row["model_response"].split())) for row in (own, other)
    )
    if not ours[0] and not theirs[0]:
        return 0.5
    return 0.5 if ours == theirs else float(ours > theirs)


def main(argv: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    commands = parser.add_subparsers(required=True)
    rows = commands.add_parser("rows", help="write questions with two right answers each")
    rows.add_argument("output")
    rows.set_defaults(run_it=write_rows)
    pairs = commands.add_parser("pairs", help="write preferences between a follower's own answers")
    pairs.add_argument("follower")
    pairs.add_argument("--output", required=True)
    pairs.add_argument("--seed", type=int, default=0)
    pairs.set_defaults(run_it=write_pairs)
    compared = commands.add_parser("measure", help="compare the answers before and after `train prefer`")
    compared.add_argument("run")
    compared.set_defaults(run_it=measure)
    args = parser.parse_args(argv)
    args.run_it(args)


if __name__ == "__main__":
    from hf_gpt_scratch.utils.errors import run_reporting_errors

    sys.exit(run_reporting_errors(main))
