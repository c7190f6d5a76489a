"""
`hf-gpt-scratch judge`: a language model scores the responses of another from 0 to 100, or compares those of two.

Answers are kept as they come, in a file of JSON lines beside the output, under a hash of the judge's settings and the
whole question: a run that was stopped goes on there, and answers of another judge or to other texts are not mixed in.
"""

import argparse
import json
import os
import shlex
import sys
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import Path

from ...commands.arguments import above_0, count, positive
from ...utils.errors import InputError, UsageError
from ...utils.files import read_json
from ...utils.provenance import environment, json_sha256, sha256
from ...utils.text import has_lone_surrogates
from ..responses import QUESTION, REFERENCE, RESPONSE, read_pairs, read_responses
from .prompts import Task

NAME = "judge.json"
LONGEST_TIMEOUT = 86_400
DEFAULTS = {"workers": 4, "timeout": 300.0, "retries": 4, "max_tokens": 512, "seed": 0}


def seconds(text: str) -> float:
    value = above_0(text)
    if value > LONGEST_TIMEOUT:  # far less than a socket or a lock can count
        raise argparse.ArgumentTypeError(f"must be at most {LONGEST_TIMEOUT:,}, a day, not {text}")
    return value


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
        "timeout": (seconds, "seconds to wait for an answer, enough for a CPU"),
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
    The command: writes `judge.json`, a picture of the same name and a result card.

    Raises:
        InputError: for what is wrong with the files or the judge; also, when all is written, where the judge failed
            on some of the responses or gave no answer that could be told.
    """
    from .results import report, untold

    files = [Path(name) for name in args.responses]
    _check_usage(args, files)
    rows = read_pairs(*files) if len(files) == 2 else [(row,) for row in read_responses(files[0])]
    data = [{"file": str(path), "sha256": sha256(path)} for path in files]
    output = _check_output(files, args.output)
    judge = _make_judge(args)
    _check_same_judge(output, judge, "comparison" if len(files) == 2 else "scores")
    journal = output.with_name(f"{output.stem}.{json_sha256(judge.identity)[:8]}.partial.jsonl")
    result = measure(judge, rows, journal, {"data": data, "command": _command(args, judge)})
    write(result, judge.name, output)
    print(report(result, judge.name))
    print(f"The answers and all numbers are in {output}, their picture in {output.with_suffix('.png')}.")
    if result["n_failed"]:
        answers = [one for item in result["items"] for one in item.get("orders", [item])]
        error = next(one["error"] for one in answers if "error" in one)
        reason = f"{result['n_failed']} of {result['n']} could not be judged, as the judge {error}"
        if args.judge_model:  # it would fail at the same again
            journal.unlink(missing_ok=True)
            raise InputError(f"{reason}.")
        raise InputError(f"{reason}; the same command asks for these again.")
    journal.unlink(missing_ok=True)
    if not result["n_scored"]:
        was_cut = any(one.get("finish_reason") == "length" for one in untold(result))
        remedy = "raise --max-tokens" if was_cut else "take another judge"
        raise InputError(
            f"None of the {result['n']} could be scored, as no answer of the judge could be told; {remedy} (the"
            f" answers are in {output})."
        )


def measure(judge, rows: Sequence[Sequence[Mapping[str, str]]], journal: Path, facts: Mapping) -> dict:
    """All that `judge.json` holds, of rows of one response or of two to compare; `facts` are added to it."""
    from .results import summarize

    tasks = [[Task(*_question(row[0]), tuple(one[RESPONSE] for one in row))] for row in rows]
    if len(rows[0]) == 2:  # each pair in both orders
        tasks = [[task, Task(*_question(row), task.responses[::-1])] for (row, _), [task] in zip(rows, tasks)]
    result = summarize(tasks, collect(judge, tasks, journal))
    items = result.pop("items")
    places = ("{response}", "{other response}")[: len(rows[0])]
    prompt = Task("{instruction}", "{input}", "{output}", places).message(judge.form(tasks[0][0]))
    return {**result, "judge": judge.describe(), "prompt": prompt, **facts, **environment(), "items": items}


def write(result: dict, judge: str, output: Path) -> None:
    """Writes a result, its picture and its card; of a result without a score there is no card, nor an older one."""
    from ...utils.files import write_json
    from .results import make_card, plot

    write_json(output, result)
    plot(result, output.with_suffix(".png"))
    if result["n_scored"]:
        make_card(result, judge, output.parent).write(output.parent, output.stem)
    else:
        _card_of(output).unlink(missing_ok=True)


def _check_usage(args: argparse.Namespace, files: Sequence[Path]) -> None:
    if len(files) > 2:
        raise UsageError("Give one file of responses, or two to compare.")
    if args.judge_model and (args.base_url or args.model):
        raise UsageError("Give --base-url and --model for an endpoint or --judge-model for a model here, not both.")
    if not args.judge_model and not (args.base_url and args.model):
        raise UsageError("Give --base-url and --model of an endpoint, or --judge-model with a model's folder.")
    names = (*args.responses, args.base_url, args.model, args.judge_model, args.output)
    if any(has_lone_surrogates(name) for name in names if name):
        raise UsageError("The names of files and models must be UTF-8 text, as they are written into the result.")


def _question(row: Mapping[str, str]) -> tuple[str, str, str]:
    return tuple(row[name] for name in (*QUESTION, REFERENCE))


def _check_output(files: Sequence[Path], wanted: str | None) -> Path:
    """Where to write; found out before hours of work, as is what must not be overwritten."""
    from .results import TASKS

    output = Path(wanted) if wanted else files[0].with_name(NAME)
    if output.is_dir():
        output = output / NAME
    if output.is_symlink():  # else its target would stay as it is, and the link go
        output = Path(os.path.realpath(output))
    if output.suffix != ".json":
        raise UsageError(f"--output must be a folder or a name that ends in .json, not {output.name}.")
    card, remedy = _card_of(output), "choose another --output"
    try:
        output.parent.mkdir(parents=True, exist_ok=True)
        for folder in {output.parent, card.parent if os.path.lexists(card.parent) else output.parent}:
            tempfile.TemporaryFile(dir=folder).close()
    except OSError as error:
        raise InputError(f"No files can be made in {output.parent} ({error.strerror}); {remedy}.") from None
    is_ours = "n_unparsed" in _read_object(output)
    for path, may_go in {
        output: is_ours,
        output.with_suffix(".png"): is_ours,
        card: _read_object(card).get("task") in TASKS.values(),
    }.items():
        if os.path.lexists(path) and (path.is_symlink() or not path.is_file()):
            raise InputError(f"{path} is there already and is no regular file; {remedy}.")
        if path.exists() and (not may_go or any(path.samefile(file) for file in files)):
            raise InputError(f"{path} is there already and was not written by this command; {remedy} or delete it.")
    return output


def _check_same_judge(output: Path, judge, task: str) -> None:
    """Another judge's result is not overwritten. One of fewer or more tokens an answer is not another."""
    if not output.exists():
        return
    old = _read_object(output)
    described = {**old.get("judge", {}), "task": old.get("task")}
    wanted = {**judge.identity, "task": task}
    if differing := [name for name in wanted if name != "max_tokens" and described.get(name) != wanted[name]]:
        raise InputError(
            f"{output} holds the result of another judge or for another task (another {', '.join(differing)}); choose"
            " another --output or delete it."
        )


def _card_of(output: Path) -> Path:
    return output.parent / "results" / output.name


def _read_object(path: Path) -> dict:
    """What a JSON file holds, `{}` where there is none or it holds something else."""
    try:
        values = read_json(path)
    except InputError:
        return {}
    return values if isinstance(values, dict) else {}


def _make_judge(args: argparse.Namespace):
    if args.judge_model:
        from ...utils.terminal import quieten_transformers
        from .in_process import ModelJudge

        quieten_transformers()
        return ModelJudge(args.judge_model)
    from .endpoint import EndpointJudge

    return EndpointJudge(args.base_url, args.model, **{name: getattr(args, name) for name in DEFAULTS})


def collect(judge, tasks: list[list[Task]], journal: Path) -> list[list]:
    """
    The judge's `Answer` to each task, or its `Failure`, in the same lists; answers in the journal are not asked again.

    Raises:
        InputError: when the judge does not answer, saying how much was kept.
    """
    from tqdm import tqdm

    from .endpoint import Answer

    keys = [[json_sha256([judge.identity, task.message(judge.form(task))]) for task in row] for row in tasks]
    by_key = {key: task for key_row, row in zip(keys, tasks) for key, task in zip(key_row, row)}
    outcomes = {key: answer for key, answer in _read_journal(journal).items() if key in by_key}
    waiting = {key: task for key, task in by_key.items() if key not in outcomes}
    if outcomes:
        print(f"{len(outcomes)} of {len(by_key)} answers are there already.", file=sys.stderr)
    answered = len(outcomes)
    try:
        with (
            open(journal, "a", encoding="utf-8") as file,
            tqdm(total=len(by_key), initial=answered, desc="judging", unit="answer", disable=None) as progress,
        ):
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
        if journal.is_file() and journal.stat().st_size == 0:
            journal.unlink()
    return [[outcomes[key] for key in row] for row in keys]


def _read_journal(journal: Path) -> dict:
    from .endpoint import Answer, whole_characters

    answers = {}
    if journal.is_file():
        for line in journal.read_text(encoding="utf-8", errors="replace").split("\n"):
            try:
                record = json.loads(line)
                answer = Answer(whole_characters(record["text"]), record["value"], record["details"])
            except (ValueError, TypeError, KeyError):
                continue  # empty, or cut when the machine stopped
            answers[record["key"]] = answer
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
                words += [f"--{name.replace('_', '-')}", str(getattr(args, name))]
    if args.output:
        words += ["--output", args.output]
    return shlex.join(words)
