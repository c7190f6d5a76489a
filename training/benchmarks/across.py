"""
What classifiers make of texts of another kind: each run's model on its own test texts and on those of the other runs,
beside linear models trained on the same texts.

    python training/benchmarks/across.py runs/spam-1 runs/mails --output_dir runs/across

The runs are of `train spam` or `train classify`, with the same two labels. Writes one result card for each run's test
texts, `results/RUN.json`, with a row for each model; no threshold is fitted to the other texts.
"""

import argparse
import sys
from pathlib import Path


def make_parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("runs", nargs="+", type=Path, metavar="RUN", help="output folders of trainings")
    parser.add_argument("--output_dir", type=Path, default=Path("runs/across"))
    return parser


def open_runs(folders: list[Path]) -> dict:
    """The runs by their folders' names; raises `InputError` where their labels are not the same two."""
    from hf_gpt_scratch.evaluation.text_classification.runs import load_messages, open_run
    from hf_gpt_scratch.utils.errors import InputError, UsageError

    if len({folder.name for folder in folders}) < max(2, len(folders)):
        raise UsageError("Give two or more runs, of different names.")
    runs = {folder.name: open_run(folder, load_messages(folder, None, None)) for folder in folders}
    first = next(iter(runs.values()))
    for run in runs.values():
        if not run.is_binary or run.names != first.names:
            raise InputError(
                f"{run.folder} has the labels {', '.join(run.names)} and {first.folder} {', '.join(first.names)}; give"
                " runs with the same two."
            )
    return runs


def verdicts(runs: dict) -> dict[str, dict]:
    """For each run's test texts the scores of label 1 by each model, `(N,)`: above 0 where it is said."""
    from hf_gpt_scratch.evaluation.text_classification.baselines import STRONGEST, baseline_scores
    from hf_gpt_scratch.evaluation.text_classification.runs import log_odds

    scores = {name: {} for name in runs}
    for trained, run in runs.items():
        classifier, train = run.load_classifier(), run.splits["train"]
        tests = {name: other.splits["test"] for name, other in runs.items()}
        linear = baseline_scores(STRONGEST, train, *tests.values())
        for (name, test), of_linear in zip(tests.items(), linear):
            scores[name][f"GPT of {trained}"] = log_odds(classifier, test["text"])
            scores[name][f"{STRONGEST} of {trained}"] = of_linear
    return scores


def numbers(labels, scores) -> dict:
    """Of label 1, by the verdict "above 0"; the area under the curve does not depend on where the threshold is."""
    from sklearn.metrics import average_precision_score

    from hf_gpt_scratch.evaluation.metrics import BinaryClassification
    from hf_gpt_scratch.utils.result_card import Metric

    found = BinaryClassification().compute(predictions=(scores > 0).astype(int), references=labels)
    measured = {name: Metric(found[name], found["intervals"][name]) for name in ("f1", "precision", "recall", "mcc")}
    return measured | {"pr_auc": Metric(float(average_precision_score(labels, scores)))}


def main(argv: list[str] | None = None) -> dict:
    argv = sys.argv[1:] if argv is None else argv
    args = make_parser().parse_args(argv)
    from hf_gpt_scratch.evaluation.text_classification.runs import read_metrics
    from hf_gpt_scratch.utils.provenance import command_line, environment
    from hf_gpt_scratch.utils.result_card import ResultCard

    runs = open_runs(args.runs)
    cards = {}
    for name, scores in verdicts(runs).items():
        run, data = runs[name], read_metrics(runs[name].folder)["data"]
        rows = {model: numbers(run.labels("test"), of_model) for model, of_model in scores.items()}
        own = f"GPT of {name}"
        cards[name] = ResultCard(
            task="classification by models of other texts",
            protocol=f"{len(run.labels('test'))} test texts of {name}, split {run.split_seed}; no threshold is fitted",
            data=[{"source": data["source"], "sha256": data["sha256"]}],
            metrics=rows.pop(own),
            baselines=rows,
            command=command_line("training/benchmarks/across.py", argv),
            environment=environment(),
            seeds=sorted({one.split_seed for one in runs.values()}),
        )
        cards[name].write(args.output_dir, name)
        print(f"\n{cards[name].protocol}:")
        for model, row in {own: cards[name].metrics, **rows}.items():
            print(f"  {model:40}" + "".join(f"  {key} {metric.value:.4f}" for key, metric in row.items()))
    return cards


if __name__ == "__main__":
    from hf_gpt_scratch.utils.errors import run_reporting_errors

    sys.exit(run_reporting_errors(lambda: main() and None))
