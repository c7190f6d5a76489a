"""
What a pretrained start buys over random weights of the same shape with the same tokenizer: as a spam filter, and as
a follower of instructions.

    python training/benchmarks/transfer.py --model runs/small --seeds 1 2 3 --output_dir runs/transfer

Runs the two jobs once a start and a seed, each otherwise with the settings of its YAML, and compares what
they wrote: the result on the test set, the lowest validation loss, and the step at which each start first had the
validation loss that random weights reached at best. Prints a table a job and writes `transfer.json`. Options behind
`--spam_options` or `--instruct_options`, such as `--spam_options="--data_file messages.tsv"`, are the job's own.
"""

import argparse
import json
import shlex
import statistics
import sys
from importlib import import_module
from pathlib import Path

STARTS = ("random", "pretrained")
SCORES = {"spam": "f1", "instruct": "response_perplexity"}  # of metrics.json, on the test set
SHAPE = ("n_positions", "n_embd", "n_layer", "n_head")


def make_parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", type=Path, default=Path("runs/small"), help="the folder of the pretrained model")
    parser.add_argument("--jobs", nargs="+", choices=SCORES, default=list(SCORES))
    parser.add_argument("--seeds", nargs="+", type=int, default=[1, 2, 3])
    parser.add_argument("--eval_steps", type=int, default=20, help="steps between two validations")
    parser.add_argument("--spam_config", default="transfer", metavar="CONFIG")
    parser.add_argument("--instruct_config", default="cpu_small", metavar="CONFIG")
    parser.add_argument("--spam_options", default="", metavar="OPTIONS")
    parser.add_argument("--instruct_options", default="", metavar="OPTIONS")
    parser.add_argument("--output_dir", type=Path, default=Path("runs/transfer"))
    return parser


def options(job: str, config: str, start: str, model: Path) -> list[str]:
    """The settings of a config as options, from `model` or from random weights like it."""
    from hf_gpt_scratch.model_folder.contents import read_config
    from hf_gpt_scratch.training import configs

    settings = configs.read(configs.find(config, job))
    for key in ("model_name_or_path", "tokenizer_name", "train_tokenizer", "individual_digits"):
        settings.pop(key, None)
    if start == "pretrained":
        settings["model_name_or_path"] = model
    else:
        shape = read_config(model, "gpt_scratch")
        settings |= {"tokenizer_name": model, **{key: shape[key] for key in SHAPE}}
    return configs.as_options(settings)


def train(job: str, start: str, seed: int, args: argparse.Namespace) -> dict:
    """One run of a job: its score on the test set, and the validation losses `[[step, loss], ...]`."""
    folder = args.output_dir / f"{job}-{start}-{seed}"
    argv = options(job, getattr(args, f"{job}_config"), start, args.model)
    argv += ["--eval_strategy", "steps", "--eval_steps", str(args.eval_steps), "--load_best_model_at_end", "false"]
    argv += ["--save_strategy", "steps", "--save_steps", str(args.eval_steps), "--save_total_limit", "1"]
    argv += ["--seed", str(seed), "--output_dir", str(folder), *shlex.split(getattr(args, f"{job}_options"))]
    metrics = import_module(f"hf_gpt_scratch.training.{job}").main(argv)
    states = [json.loads(path.read_text(encoding="utf-8")) for path in folder.glob("checkpoint-*/trainer_state.json")]
    history = max(states, key=lambda state: state["global_step"])["log_history"]
    return {
        "start": start,
        "seed": seed,
        "score": metrics[SCORES[job]],
        "eval_losses": [[entry["step"], entry["eval_loss"]] for entry in history if "eval_loss" in entry],
        "baseline": metrics["baseline"]["f1"] if job == "spam" else None,
        "data": metrics["data"],
        "command": metrics["command"],
    }


def compare(runs: list[dict]) -> dict:
    """Both starts' means over the seeds, and their steps to the loss that random weights had at best, seed by seed."""
    targets = {run["seed"]: min(loss for _, loss in run["eval_losses"]) for run in runs if run["start"] == "random"}
    rows = {}
    for start in STARTS:
        mine = [run for run in runs if run["start"] == start]
        steps = [
            next((step for step, loss in run["eval_losses"] if loss <= targets[run["seed"]]), None) for run in mine
        ]
        rows[start] = {
            "score": statistics.mean(run["score"] for run in mine),
            "lowest_eval_loss": statistics.mean(min(loss for _, loss in run["eval_losses"]) for run in mine),
            "steps_to_the_loss_of_random": steps,  # None: never
            "mean_steps": None if None in steps else statistics.mean(steps),
        }
    return rows


def print_table(job: str, rows: dict) -> None:
    print(f"\n{job:12}{'test ' + SCORES[job]:>26}{'lowest eval loss':>18}{'steps to the same loss':>24}")
    for start, row in rows.items():
        steps = "never" if row["mean_steps"] is None else f"{row['mean_steps']:.0f}"
        print(f"{start:12}{row['score']:26.4f}{row['lowest_eval_loss']:18.4f}{steps:>24}")


def main(argv: list[str] | None = None) -> dict:
    argv = sys.argv[1:] if argv is None else argv
    args = make_parser().parse_args(argv)
    from hf_gpt_scratch.model_folder.contents import read_config
    from hf_gpt_scratch.utils.errors import InputError
    from hf_gpt_scratch.utils.files import write_json
    from hf_gpt_scratch.utils.provenance import command_line, environment, sha256

    read_config(args.model, "gpt_scratch")
    left = [f"{job}-{start}-{seed}" for job in args.jobs for start in STARTS for seed in args.seeds]
    left = [name for name in left if (args.output_dir / name).exists()]
    if left:
        raise InputError(f"{args.output_dir} holds {left[0]} of an earlier comparison; choose another folder.")
    result = {"task": "a pretrained start against random weights", "jobs": {}}
    for job in args.jobs:
        runs = [train(job, start, seed, args) for seed in args.seeds for start in STARTS]
        result["jobs"][job] = {"score": f"{SCORES[job]} on the test set", **compare(runs), "runs": runs}
    result |= {
        "model_sha256": sha256(args.model / "model.safetensors"),
        "seeds": args.seeds,
        "command": command_line("training/benchmarks/transfer.py", argv),
        **environment(),
    }
    write_json(args.output_dir / "transfer.json", result)
    for job in args.jobs:
        print_table(job, {start: result["jobs"][job][start] for start in STARTS})
    print(f"\ntransfer.json and the models are in {args.output_dir}.")
    return result


if __name__ == "__main__":
    from hf_gpt_scratch.utils.errors import run_reporting_errors

    sys.exit(run_reporting_errors(lambda: main() and None))
