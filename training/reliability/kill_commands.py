"""
The commands as subjects of `kill`: what they write must be the same to the byte as without a kill, and nothing else
may be left, neither in the folder that they write nor in that for temporary files. The votes of a blind comparison:
every one that was acknowledged is there, once.
"""

import atexit
import json
import os
import re
import shutil
import sqlite3
import tempfile
import urllib.request
from collections.abc import Callable, Sequence
from contextlib import closing
from functools import cache
from pathlib import Path

from command_inputs import (
    TO_ONNX,
    answers,
    few_tasks,
    language_model,
    npm_archives,
    small_model,
    spam_filters,
    stock_model,
    tasks,
)
from forks import Fork
from kill_subject import Subject, Words, bytes_differ, json_differs, nothing
from stand_ins import CleanProcesses, hub, judge

RATERS = ("ann", "bob", "cas")
TEMPORARY = "temporary"  # the folder for temporary files, in that of a try
DONE = "already exists"  # what a command says whose folder is there, since it was killed after its last step
REPOSITORY = "user/model"
TASKS = ("sums", "texts")


# What the commands work on


@cache
def clean_processes() -> CleanProcesses:
    folder = Path(tempfile.mkdtemp(prefix="clean."))
    atexit.register(shutil.rmtree, folder, ignore_errors=True)
    return CleanProcesses(folder)


def apart(make: Callable[[Path], object]) -> Callable[[Path], None]:
    """`make` in a process of its own, so that this one, which is forked, computes nothing."""

    def made(folder: Path) -> None:
        log = folder.with_name(f"{folder.name}.log")
        if (ended := Fork(lambda: make(folder) and None, folder, log).end()).status:
            raise RuntimeError(f"The inputs could not be made:\n{ended.said[-3000:]}")

    return made


def voted(folder: Path) -> None:
    answers(folder)
    os.chdir(folder)
    vote(["a.json", "b.json"])


# How they are run


def in_own_place(words: Sequence[str]) -> int:
    """The command, with a folder for temporary files of its own, and forks as clean processes."""
    from hf_gpt_scratch.cli import main
    from hf_gpt_scratch.model_folder import clean_process

    place = Path(TEMPORARY).absolute()
    place.mkdir(exist_ok=True)
    os.environ["TMPDIR"] = tempfile.tempdir = str(place)
    clean_process.subprocess = clean_processes()
    return main(list(words))


def with_hub(words: Sequence[str]) -> int:
    """The command, with the stand-in of this try as the Hub."""
    from huggingface_hub import constants, hf_api

    from support.stand_in import TOKEN

    url = address(Path.cwd())
    os.environ |= {"HF_TOKEN": TOKEN, "HF_HUB_DISABLE_XET": "1"}
    constants.HF_HUB_OFFLINE, constants.HF_HUB_DISABLE_XET = False, True
    constants.ENDPOINT = hf_api.api.endpoint = url
    constants.HUGGINGFACE_CO_URL_TEMPLATE = url + "/{repo_id}/resolve/{revision}/{filename}"
    return in_own_place(words)


def with_few_tasks(words: Sequence[str]) -> int:
    """The command, which of the harness's tasks reads only our own."""
    few_tasks()
    return in_own_place(words)


def with_packages(words: Sequence[str]) -> int:
    """The command, with archives of our own in place of npm's, which it keeps in this try's folder."""
    from huggingface_hub import constants

    npm_archives()
    constants.HF_HOME = str(Path("home").absolute())
    return in_own_place(words)


def vote(words: Sequence[str]) -> int:
    """Votes as the page does, item by item, and writes down what was acknowledged."""
    from zlib import crc32

    from hf_gpt_scratch.evaluation.preference import CHOICES, Votes, load_pairs

    a, b = words
    votes = Votes.open_or_create("votes.sqlite", a, b, len(load_pairs(a, b)))
    with open("acknowledged.txt", "a", encoding="utf-8") as acknowledged:
        for rater in RATERS:
            while (item := votes.next_item(rater)) < votes.items:
                choice = list(CHOICES)[crc32(f"{rater} {item}".encode()) % len(CHOICES)]
                if votes.vote(rater, item, choice):
                    acknowledged.write(f"{rater} {item}\n")
                    acknowledged.flush()
    return 0


# What is compared


def differs(whole: Path, tried: Path) -> list[str]:
    """Files that are not the same to the byte, and what is left of killed runs."""
    return [*bytes_differ(whole, tried, lambda name: name.startswith(TEMPORARY)), *left_over(tried)]


def evaluations_differ(whole: Path, tried: Path) -> list[str]:
    """The same, but for the date in harness.json."""
    name = "evaluated/harness.json"
    found = [*bytes_differ(whole, tried, lambda one: one == name or one.startswith(TEMPORARY)), *left_over(tried)]
    return found or json_differs(whole / name, tried / name, ("date",))


def left_over(folder: Path) -> list[str]:
    """Temporary files and folders, and locks."""
    paths = [*folder.rglob("*.partial*"), *folder.rglob("*.lock"), *(folder / TEMPORARY).glob("*")]
    return [f"{path.relative_to(folder).as_posix()} is left" for path in paths]


def votes_differ(whole: Path, tried: Path) -> list[str]:
    """Votes that are lost, or not those of the whole run; one that was acknowledged twice was lost in between."""
    one, other = (votes_in(folder / "votes.sqlite") for folder in (whole, tried))
    told = (tried / "acknowledged.txt").read_text(encoding="utf-8").splitlines()
    lost = {name for name in told if told.count(name) > 1} | set(told) - {
        f"{rater} {item}" for rater, item, _ in other
    }
    return [*(f"lost: {name}" for name in sorted(lost)), *map(str, one ^ other), *left_over(tried)] + [
        path.name for path in tried.glob("votes.sqlite-*")
    ]


def votes_in(path: Path) -> set[tuple[str, int, str]]:
    with closing(sqlite3.connect(path)) as connection:
        return set(connection.execute("SELECT rater, item, winner FROM votes"))


def pushed_differ(whole: Path, tried: Path, branches: Sequence[str] = ("main", "gpt2")) -> list[str]:
    """The same of the files in the repository, on its branches; cards name commits, which others came before."""
    found = left_over(tried)
    for branch in branches:
        one, other = (files_of(address(folder), branch) for folder in (whole, tried))
        found += [
            f"{branch}: {name}" for name in sorted(one.keys() | other.keys()) if one.get(name) != other.get(name)
        ]
    return found


def address(folder: Path) -> str:
    """Of the stand-in for the Hub that a try has."""
    return f"http://127.0.0.1:{(folder.parent / f'{folder.name}.port').read_text()}"


def start_hub(folder: Path) -> None:
    (folder.parent / f"{folder.name}.port").write_text(str(hub()))


def files_of(url: str, branch: str) -> dict[str, bytes]:
    """The files of the repository by name, that of a card without the names of commits and the time of training."""

    def read(path: str) -> bytes:
        with urllib.request.urlopen(f"{url}{path}", timeout=30) as answer:
            return answer.read()

    names = [one["rfilename"] for one in json.loads(read(f"/api/models/{REPOSITORY}/revision/{branch}"))["siblings"]]
    files = {name: read(f"/{REPOSITORY}/resolve/{branch}/{name}") for name in names}
    return {
        name: re.sub(rb"\b[0-9a-f]{7,40}\b|\| Training time .*", b"", file) if name == "README.md" else file
        for name, file in files.items()
    }


# The subjects


def command(name: str, words: Words, inputs: Callable[[Path], object], prepare=nothing, **more) -> Subject:
    def prepared(folder: Path) -> None:
        clean_processes()  # in the process that is forked, for all tries
        prepare(folder)

    settings = {"differs": differs, "run": in_own_place, "done": DONE} | more
    return Subject(name, words, prepare=prepared, inputs=apart(inputs), **settings)


def export(to: str, inputs: Callable[[Path], object], source: str, **more) -> Subject:
    return command(f"export --to {to}", lambda at: ["export", at / source, "out", "--to", to], inputs, **more)


def copied(name: str) -> Callable[[Path], None]:
    """Puts one of the inputs, which the command changes or adds to, into the folder of a try."""

    def prepare(folder: Path) -> None:
        source = folder.parent / "inputs" / name
        shutil.copytree(source, folder / name) if source.is_dir() else shutil.copy(source, folder / name)

    return prepare


def judged(inputs: Path) -> Sequence[str]:
    url = f"http://127.0.0.1:{judge_port()}/v1"
    return ["judge", inputs / "a.json", "--base-url", url, "--model", "stand-in", "--output", "judge.json"]


judge_port = cache(judge)  # one judge for all tries


def compare(*options: str) -> Words:
    return lambda at: ["app", "compare", at / "a.json", at / "b.json", "--output", "votes.sqlite", *options]


# Imported late
CONVERSIONS = ("hf_gpt_scratch.conversion.convert", "hf_gpt_scratch.conversion.export")
SPAM = ("sklearn.linear_model", "matplotlib.pyplot", "hf_gpt_scratch.evaluation.text_classification.benchmark")
SUBJECTS = [
    command("convert", lambda at: ["convert", at / "stock", "out"], stock_model, modules=CONVERSIONS),
    export("hf-gpt2", language_model, "model", modules=CONVERSIONS),
    export("gguf", language_model, "model", modules=("gguf", "hf_gpt_scratch.conversion.gguf")),
    export("onnx", small_model, "model", modules=TO_ONNX),
    command(
        "push --with-twin",
        lambda at: ["push", at / "model", REPOSITORY, "--with-twin"],
        language_model,
        differs=pushed_differ,
        run=with_hub,
        prepare=start_hub,
        modules=("hf_gpt_scratch.hub.push",),
    ),
    command(
        "check --record",
        lambda at: ["check", "model", "--record"],
        language_model,
        prepare=copied("model"),
        modules=("hf_gpt_scratch.hub.push",),
    ),
    command(
        "classify --output",
        lambda at: [
            "classify",
            at / "spam-1",
            "--file",
            at / "messages.csv",
            "--output",
            "out.csv",
            "--device",
            "cpu",
        ],
        spam_filters(1),
        modules=SPAM,
    ),
    command("judge", judged, answers, modules=("hf_gpt_scratch.evaluation.judge.scoring", "matplotlib.pyplot")),
    command(
        "calibrate",
        lambda at: ["calibrate", "spam-1", "--data_file", at / "messages.tsv", "--device", "cpu"],
        spam_filters(1),
        prepare=copied("spam-1"),
        modules=SPAM,
    ),
    command(
        "benchmark",
        lambda at: ["benchmark", at / "spam-1", at / "spam-2", "--output_dir", "benchmark"],
        spam_filters(1, 2),
        modules=SPAM,
    ),
    command(
        "report",
        lambda at: ["report", at / "spam-1", at / "spam-2", "--output_dir", "report"],
        spam_filters(1, 2),
        modules=("hf_gpt_scratch.evaluation.report", "matplotlib.pyplot"),
    ),
    command(
        "evaluate",
        lambda at: ["evaluate", at / "model", "--tasks", *TASKS, "--include_path", at, "--output_dir", "evaluated"],
        tasks,
        differs=evaluations_differ,
        run=with_few_tasks,
        modules=("lm_eval", "lm_eval.tasks", "lm_eval.models.huggingface"),
    ),
    command(
        "app classify --export-static",
        lambda at: ["app", "classify", at / "spam-1", "--export-static", "page"],
        spam_filters(1),
        run=with_packages,
        modules=TO_ONNX,
    ),
    command(
        "votes of app compare", lambda at: [at / "a.json", at / "b.json"], answers, differs=votes_differ, run=vote
    ),
    command("app compare --results", compare("--results"), voted, prepare=copied("votes.sqlite"), modules=SPAM),
    command(
        "app compare --export-preferences",
        compare("--export-preferences", "preferences.jsonl"),
        voted,
        prepare=copied("votes.sqlite"),
    ),
    command("examples", lambda at: ["examples"], nothing),
]
