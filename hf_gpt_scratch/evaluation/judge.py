"""
`hf-gpt-scratch judge`: a language model scores the responses of another from 0 to 100, or compares those of two.

Answers are kept as they come, in a file of JSON lines beside the output, under a hash of the judge's settings and the
whole question: a run that was stopped goes on there, and answers of another judge or to other texts are not mixed in.
"""

import argparse
import hashlib
import json
import shlex
import sys
from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path

from ..argument_types import above_0, count, positive
from ..errors import InputError, UsageError
from .judge_prompts import Task
from .responses import QUESTION, REFERENCE, RESPONSE, read_pairs, read_responses

DEFAULTS = {"workers": 4, "timeout": 300.0, "retries": 4, "max_tokens": 512, "seed": 0}


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.description = (
        "Scores the responses in a file from 0 to 100, or compares those of two files, by an OpenAI-compatible"
        " endpoint (Ollama, vLLM, llama.cpp...) or by a model in this process. The endpoint's key is taken from the"
        " environment: OPENAI_API_KEY, or HF_TOKEN for Hugging Face's hosts. A run that was stopped goes on when the"
        " same command is called again."
    )
    parser.add_argument(
        "responses",
        metavar="RESPONSES.json",
        nargs="+",
        help="a list of objects with instruction, input, output (the reference) and model_response, as"
        " training/finetune_instruct.py writes it; a second file is compared with the first",
    )
    parser.add_argument("--base-url", metavar="URL", help="of the endpoint, such as http://localhost:11434/v1")
    parser.add_argument("--model", metavar="NAME", help="the endpoint's model, such as llama3")
    parser.add_argument("--judge-model", metavar="DIR", help="judge by the language model in this folder, no server")
    parser.add_argument("--output", metavar="FILE", help="what to write (default: judge.json beside the first file)")
    defaults = {
        "workers": (positive, "requests at a time"),
        "timeout": (above_0, "seconds to wait for an answer, enough for a CPU"),
        "retries": (count, "of a request that failed in passing"),
        "max_tokens": (positive, "of an answer, thoughts included"),
        "seed": (int, "of the requests, whose temperature is 0"),
    }
    for name, (kind, help) in defaults.items():
        default = DEFAULTS[name]
        option = f"--{name.replace('_', '-')}"
        parser.add_argument(option, type=kind, default=default, help=f"{help} (default: {default:g})")


def run(args: argparse.Namespace) -> None:
    """
    The command: writes `judge.json` and a picture of the same name.

    Raises:
        InputError: for what is wrong with the files or the judge; also, when all is written, where the judge failed
            on some of the responses.
    """
    from ..provenance import environment, sha256
    from ..saving import write_json
    from .judge_results import make_card, plot, report, summarize

    _check_usage(args)
    files = [Path(name) for name in args.responses]
    rows = read_pairs(*files) if len(files) == 2 else [(row,) for row in read_responses(files[0])]
    data = [{"file": str(path), "sha256": sha256(path)} for path in files]
    output = _check_output(files[0], args.output)
    judge = _make_judge(args)

    tasks = [[Task(*_question(row[0]), tuple(one[RESPONSE] for one in row))] for row in rows]
    if len(files) == 2:  # each pair in both orders
        tasks = [[task, Task(*_question(row), task.responses[::-1])] for (row, _), [task] in zip(rows, tasks)]
    journal = output.with_name(f"{output.stem}.{_digest(judge.identity)[:8]}.partial.jsonl")
    outcomes = collect(judge, tasks, journal)
    result = summarize(tasks, outcomes)
    items = result.pop("items")
    result |= {
        "judge": judge.describe(),
        "prompt": Task(
            "{instruction}", "{input}", "{output}", ("{response}", "{other response}")[: len(files)]
        ).message(judge.form(tasks[0][0])),
        "data": data,
        "command": _command(args, judge),
        **environment(),
        "items": items,
    }
    write_json(output, result)
    plot(result, output.with_suffix(".png"))
    if card := make_card(result, judge.name, output.name):
        card.write(output.parent, output.stem)
    print(report(result, judge.name))
    print(f"The answers and all numbers are in {output}, their picture in {output.with_suffix('.png')}.")
    if result["n_failed"]:
        error = next(one["error"] for item in items for one in item.get("orders", [item]) if "error" in one)
        raise InputError(
            f"{result['n_failed']} of {result['n']} could not be judged, as the judge {error}; the same command asks"
            " for these again."
        )
    journal.unlink(missing_ok=True)


def _check_usage(args: argparse.Namespace) -> None:
    if len(args.responses) > 2:
        raise UsageError("Give one file of responses, or two to compare.")
    if args.judge_model and (args.base_url or args.model):
        raise UsageError("Give --base-url and --model for an endpoint or --judge-model for a model here, not both.")
    if not args.judge_model and not (args.base_url and args.model):
        raise UsageError("Give --base-url and --model of an endpoint, or --judge-model with a model's folder.")


def _question(row: Mapping[str, str]) -> tuple[str, str, str]:
    return tuple(row[name] for name in (*QUESTION, REFERENCE))


def _check_output(first: Path, wanted: str | None) -> Path:
    """Where to write, found out before hours of work."""
    output = Path(wanted) if wanted else first.with_name("judge.json")
    if output.is_dir():
        output = output / "judge.json"
    if output.is_file():
        try:
            is_ours = "n_unparsed" in json.loads(output.read_text(encoding="utf-8"))
        except (ValueError, TypeError, RecursionError):
            is_ours = False
        if not is_ours or output.samefile(first):
            raise InputError(
                f"{output} is there already and was not written by this command; choose another --output."
            )
    output.parent.mkdir(parents=True, exist_ok=True)
    return output


def _make_judge(args: argparse.Namespace):
    if args.judge_model:
        from .judge_in_process import ModelJudge

        return ModelJudge(args.judge_model)
    from .judges import EndpointJudge

    return EndpointJudge(args.base_url, args.model, **{name: getattr(args, name) for name in DEFAULTS})


def _digest(value) -> str:
    return hashlib.sha256(json.dumps(value, sort_keys=True).encode()).hexdigest()


def collect(judge, tasks: list[list[Task]], journal: Path) -> list[list]:
    """
    The judge's `Answer` to each task, or its `Failure`, in the same lists; answers in the journal are not asked again.

    Raises:
        InputError: when the judge does not answer, saying how much was kept.
    """
    from tqdm import tqdm

    from .judges import Answer

    keys = [[_digest([judge.identity, task.message(judge.form(task))]) for task in row] for row in tasks]
    by_key = {key: task for key_row, row in zip(keys, tasks) for key, task in zip(key_row, row)}
    outcomes = {key: answer for key, answer in _read_journal(journal).items() if key in by_key}
    waiting = {key: task for key, task in by_key.items() if key not in outcomes}
    if outcomes:
        print(f"{len(outcomes)} of {len(by_key)} answers are there already.", file=sys.stderr)
    answered = len(outcomes)
    with (
        open(journal, "a", encoding="utf-8") as file,
        tqdm(total=len(by_key), initial=answered, desc="judging", unit="answer", disable=None) as progress,
    ):
        try:
            for key, outcome in judge.answers(waiting, is_known_to_work=answered > 0):
                outcomes[key] = outcome
                if isinstance(outcome, Answer):
                    # The line's end comes first, so that a line which was cut by a crash does not spoil this one.
                    file.write("\n" + json.dumps({"key": key, **asdict(outcome)}))
                    file.flush()
                    answered += 1
                progress.update()
        except (InputError, KeyboardInterrupt) as error:
            kept = f"{answered} of {len(by_key)} answers are kept, and the same command goes on from there."
            if isinstance(error, InputError):
                raise InputError(f"{str(error).rstrip('.')}; {kept}" if answered else str(error)) from None
            print(f"\n{kept}", file=sys.stderr)
            raise
        finally:
            progress.close()
            file.close()
            if journal.stat().st_size == 0:
                journal.unlink()
    return [[outcomes[key] for key in row] for row in keys]


def _read_journal(journal: Path) -> dict:
    from .judges import Answer

    answers = {}
    if journal.is_file():
        for line in journal.read_text(encoding="utf-8", errors="replace").split("\n"):
            try:
                record = json.loads(line)
            except ValueError:
                continue  # empty, or cut when the machine stopped
            answers[record["key"]] = Answer(record["text"], record["value"], record["details"])
    return answers


def _command(args: argparse.Namespace, judge) -> str:
    """The command that does the same again, without what may be secret in --base-url."""
    words = ["hf-gpt-scratch", "judge", *args.responses]
    if args.judge_model:
        words += ["--judge-model", args.judge_model]
    else:
        words += ["--base-url", judge.base_url, "--model", args.model]
        for name, default in DEFAULTS.items():
            if getattr(args, name) != default:
                words += [f"--{name.replace('_', '-')}", f"{getattr(args, name):g}"]
    if args.output:
        words += ["--output", args.output]
    return shlex.join(words)
