"""
A judgement from start to finish: where it may be written, the judge's answers to all questions, the files.

Answers are saved as they come, in a file of JSON lines next to the output, under a hash of the judge's settings and
the whole question: a stopped run continues there, and answers of another judge or to other texts are not mixed in.
"""

import json
import os
import sys
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import Path

from tqdm import tqdm

from ...utils.errors import InputError, Terminated, UsageError
from ...utils.files import claim, read_json_object, together, write_json
from ...utils.numbers import is_number
from ...utils.provenance import environment, json_sha256
from ..responses import QUESTION, REFERENCE, RESPONSE
from .answers import Answer, whole_characters
from .prompts import Task
from .results import TASKS, make_card, plot, summarize

NAME = "judge.json"


def check_output(files: Sequence[Path], wanted: str | None) -> Path:
    """Where to write; found out before hours of work, as is what must not be overwritten."""
    output = Path(wanted) if wanted else files[0].with_name(NAME)
    if output.is_dir():
        output = output / NAME
    if output.is_symlink():  # else its target would stay as it is, and the link go
        output = Path(os.path.realpath(output))
    if output.suffix != ".json":
        raise UsageError(f"--output must be an existing folder or a name that ends in .json, not {output.name}.")
    card, remedy = _card_of(output), "choose another --output"
    try:
        output.parent.mkdir(parents=True, exist_ok=True)
        for folder in {output.parent, card.parent if os.path.lexists(card.parent) else output.parent}:
            tempfile.TemporaryFile(dir=folder).close()
    except OSError as error:
        raise InputError(f"{output} cannot be written ({error.strerror}); {remedy}.") from None
    is_ours = "n_unparsed" in _read_object(output)
    for path, may_go in {
        output: is_ours,
        output.with_suffix(".png"): is_ours,
        card: _read_object(card).get("task") in TASKS.values(),
    }.items():
        if os.path.lexists(path) and (path.is_symlink() or not path.is_file()):
            raise InputError(f"{path} exists and is not a regular file; {remedy}.")
        if path.exists() and (not may_go or any(path.samefile(file) for file in files)):
            raise InputError(f"{path} exists and was not written by this command; {remedy} or delete it.")
    return output


def check_same_judge(output: Path, judge, task: str) -> None:
    """Another judge's result is not overwritten. One of fewer or more tokens an answer is not another."""
    if not output.exists():
        return
    old = _read_object(output)
    described = {**old.get("judge", {}), "task": old.get("task")}
    wanted = {**judge.identity, "task": task}
    if differing := [name for name in wanted if name != "max_tokens" and described.get(name) != wanted[name]]:
        raise InputError(
            f"{output} holds the result of another judge or task (different {', '.join(differing)}); choose another"
            " --output or delete it."
        )


def _card_of(output: Path) -> Path:
    return output.parent / "results" / output.name


def _read_object(path: Path) -> dict:
    """What a JSON file holds, `{}` where there is none or it holds something else."""
    try:
        return read_json_object(path)
    except InputError:
        return {}


def journal_of(output: Path, judge) -> Path:
    """The file of the answers so far, which the same command reads again."""
    return output.with_name(f"{output.stem}.{json_sha256(judge.identity)[:8]}.partial.jsonl")


def measure(judge, rows: Sequence[Sequence[Mapping[str, str]]], journal: Path, facts: Mapping) -> dict:
    """
    All that `judge.json` holds, of rows of one response or of two to compare; `facts` are added to it.

    Raises:
        InputError: as `collect` does, or when another command is asking the same judge.
    """
    tasks = [[Task(*_question(row[0]), tuple(one[RESPONSE] for one in row))] for row in rows]
    if len(rows[0]) == 2:  # each pair in both orders
        tasks = [[task, Task(*_question(row), task.responses[::-1])] for (row, _), [task] in zip(rows, tasks)]
    with claim(journal):  # of two commands at once, the second would ask for the same answers
        result = summarize(tasks, collect(judge, tasks, journal))
    items = result.pop("items")
    places = ("{response}", "{other response}")[: len(rows[0])]
    prompt = Task("{instruction}", "{input}", "{output}", places).message(judge.form(tasks[0][0]))
    return {**result, "judge": judge.describe(), "prompt": prompt, **facts, **environment(), "items": items}


def write(result: dict, judge: str, output: Path) -> None:
    """Writes a result, its picture and its card; of a result without a score there is no card, nor an older one."""
    with together(output.parent) as partial:
        write_json(partial / output.name, result)
        plot(result, partial / output.with_suffix(".png").name)
        if result["n_scored"]:
            make_card(result, judge, output.parent).write(partial, output.stem)
    if not result["n_scored"]:
        _card_of(output).unlink(missing_ok=True)


def _question(row: Mapping[str, str]) -> tuple[str, str, str]:
    return tuple(row[name] for name in (*QUESTION, REFERENCE))


def collect(judge, tasks: list[list[Task]], journal: Path) -> list[list]:
    """
    The judge's `Answer` to each task, or `NoAnswer`, in the same lists; answers in the journal are not asked again.

    Raises:
        InputError: when the judge does not answer, saying how much was kept.
    """
    keys = [[json_sha256([judge.identity, task.message(judge.form(task))]) for task in row] for row in tasks]
    by_key = {key: task for key_row, row in zip(keys, tasks) for key, task in zip(key_row, row)}
    read, known = _read_journal(journal)
    judge.resume(known)
    outcomes = {key: answer for key, answer in read.items() if key in by_key}
    waiting = {key: task for key, task in by_key.items() if key not in outcomes}
    if outcomes:
        print(f"{len(outcomes)} of {len(by_key)} answers are saved already.", file=sys.stderr)
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
                    file.write("\n" + json.dumps({"key": key, **asdict(outcome), "known": judge.known}))
                    file.flush()
                    answered += 1
                progress.update()
    except (InputError, KeyboardInterrupt) as error:
        kept = f"{answered} of {len(by_key)} answers are saved, and the same command continues from there."
        if isinstance(error, InputError):
            raise InputError(f"{str(error).rstrip('.')}; {kept}" if answered else str(error)) from None
        told = "Terminated" if isinstance(error, Terminated) else "Interrupted"
        raise type(error)(f"{told}; {kept}") from None
    finally:
        if journal.is_file() and journal.stat().st_size == 0:
            journal.unlink()
    return [[outcomes[key] for key in row] for row in keys]


def _is_value(value) -> bool:
    """What `Answer.value` may be."""
    return value is None or is_number(value)


def _are_details(details) -> bool:
    """What `Answer.details` may be: of a judge in process the mass too, of an endpoint what it had to be asked."""
    if not isinstance(details, dict) or not isinstance(details.get("changed", []), list):
        return False
    masses = {name: details[name] for name in ("probability_mass", "truncated") if name in details}
    is_whole = not masses or (is_number(masses.get("probability_mass")) and isinstance(masses.get("truncated"), bool))
    return is_whole and all(isinstance(name, str) for name in details.get("changed", []))


def _read_journal(journal: Path) -> tuple[dict[str, Answer], dict]:
    """The answers by their keys, and what was known of the judge at the last one."""
    answers, known = {}, {}
    if journal.is_file():
        for line in journal.read_text(encoding="utf-8", errors="replace").split("\n"):
            try:
                record = json.loads(line)
                text, value, details, key = (record[name] for name in ("text", "value", "details", "key"))
            except (ValueError, TypeError, KeyError, RecursionError):
                continue  # empty, or cut when the machine stopped
            if isinstance(text, str) and _is_value(value) and _are_details(details) and isinstance(key, str):
                answers[key] = Answer(whole_characters(text), value, details)
                if isinstance(record.get("known"), dict):
                    known = record["known"]
    return answers, known
