"""What is starved: every job and command that writes, on tiny models; and what it finds where it writes."""

import json
import shutil
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from command_inputs import TO_ONNX, answers, few_tasks, harness_tasks, npm_archives
from kill_training import messages, real, story

ROOT = Path(__file__).parents[2]
REPOSITORY = "user/spam"  # on the stand-in for the Hub
STEPS = [
    "--max_steps",
    4,
    "--save_strategy",
    "steps",
    "--save_steps",
    2,
    "--eval_strategy",
    "steps",
    "--eval_steps",
    2,
]
QUICK = [*STEPS, "--logging_steps", 1, "--use_cpu", "true", "--per_device_train_batch_size", 4]
LITTLE = ["--max_new_tokens", 4]
SHAPE = ["--train_tokenizer", 330, "--n_embd", 16, "--n_layer", 1, "--n_head", 2, "--n_positions", 256]


@dataclass(frozen=True)
class Subject:
    """
    Attributes:
        name: in the table.
        words: of the command behind `hf-gpt-scratch`, given the folder of inputs; it runs in the folder that starves.
        old: of what is in that folder before, the names in the folder of inputs.
        writes: whether it writes there at all.
        keeps: a pattern of a file that it leaves where it fails, to go on from.
        within: called in the process of the command, before it.
        modules: what it imports late, so that a try does not wait for that.
    """

    name: str
    words: Callable[[Path], Sequence]
    old: tuple[str, ...] = ()
    writes: bool = True
    keeps: str = ""
    within: Callable[[], None] = lambda: None
    modules: tuple[str, ...] = ()


def job(name: str, *words: str | Callable[[Path], Path]) -> Subject:
    """A training job; a word that is a function is called with the folder of inputs."""

    def all_words(inputs: Path) -> list:
        said = [word(inputs) if callable(word) else word for word in words]
        return ["train", name, *said, *QUICK, "--output_dir", "run"]

    return Subject(f"train {name}", all_words, old=("keep.txt",))


def among(name: str) -> Callable[[Path], Path]:
    return lambda inputs: inputs / name


def command(name: str, *words, **more) -> Subject:
    return Subject(name, lambda inputs: [word(inputs) if callable(word) else word for word in words], **more)


BASE = ("--model_name_or_path", among("writer"))
FOLLOWER = ("--model_name_or_path", among("follower"))
VOTES = ("app", "compare", among("a.json"), among("b.json"), "--output", "votes.sqlite")
EVALUATE = ("--tasks", "sums", "--include_path", among("tasks"), "--output_dir", "evaluated", "--device", "cpu")
STATIC = ("app", "classify", among("spam"), "--export-static", "page")
JUDGE = ("--model", "any", "--base-url", lambda inputs: (inputs / "judge.url").read_text())
TRAINING = [
    job("pretrain", "--data_file", among("story.txt"), *SHAPE, "--sample_every", 2, "--sample_tokens", 4),
    job("spam", "--data_file", among("messages.tsv"), *SHAPE),
    job("classify", "--data_file", among("tickets.csv"), *SHAPE),
    job("instruct", "--data_file", among("instructions.json"), *BASE, *LITTLE),
    job("prefer", "--data_file", among("preferences.jsonl"), *FOLLOWER, *LITTLE, "--answered_rows", 3),
    job("chat", "--data_file", among("faq.jsonl"), *BASE, *LITTLE, "--refusal", "Ask a person."),
]
COMMANDS = [
    command("convert", "convert", among("stock"), "converted", old=("keep.txt",)),
    command("export to stock GPT-2", "export", among("writer"), "stock", "--to", "hf-gpt2", old=("keep.txt",)),
    command("export to GGUF", "export", among("writer"), "gguf", "--to", "gguf", old=("keep.txt",)),
    command("export to ONNX", "export", among("writer"), "onnx", "--to", "onnx", old=("keep.txt",), modules=TO_ONNX),
    command(
        "classify a table",
        *("classify", among("spam"), "--file", among("texts.csv"), "--output", "labelled.csv"),
        old=("labelled.csv",),
    ),
    command(
        "judge",
        *("judge", among("responses.json"), *JUDGE, "--output", "judge.json"),
        old=("judge.json",),
        keeps="judge.????????.partial.jsonl",
    ),
    command("calibrate", "calibrate", "spam", "--data_file", among("messages.tsv"), old=("spam",)),
    command("report", "report", among("spam"), among("follower"), "--output_dir", "report", old=("report",)),
    command("generate", "generate", among("writer"), "--prompt", "Every", "--max-new-tokens", 8, writes=False),
    command("push", "push", "spam", REPOSITORY, old=("spam",)),
    command("a page of its own", "app", "chat", among("follower"), "--export-space", "page", old=("keep.txt",)),
    command("a static page", *STATIC, old=("keep.txt",), within=npm_archives, modules=TO_ONNX),
    command("a comparison's results", *VOTES, "--results", old=("votes.sqlite",)),
    command("a comparison's export", *VOTES, "--export-preferences", "rows.jsonl", old=("votes.sqlite",)),
    command("benchmark", "benchmark", among("spam"), among("spam-2"), "--output_dir", "compared", old=("keep.txt",)),
    command(
        "evaluate",
        "evaluate",
        among("writer"),
        *EVALUATE,
        old=("keep.txt",),
        within=few_tasks,
        modules=("lm_eval.tasks",),
    ),
    command("check --record", "check", "writer", "--record", old=("writer",)),
    command("examples", "examples", "examples", old=("keep.txt",)),
]
SUBJECTS = [*TRAINING, *COMMANDS]


def make_inputs(folder: Path, run: Callable[[Sequence, Path], None]) -> None:
    """
    What the subjects read, made by the commands themselves.

    Args:
        run: runs a command in a folder, and raises where it fails.
    """
    messages(folder)
    story(folder)
    (folder / "keep.txt").write_text("Mine.\n")
    shutil.copy(ROOT / "hf_gpt_scratch" / "example_data" / "tickets.csv", folder)
    faq = (ROOT / "hf_gpt_scratch" / "example_data" / "airline.jsonl").read_text(encoding="utf-8").splitlines()
    (folder / "faq.jsonl").write_text("\n".join([*faq[:12], *faq[-12:]]) + "\n", encoding="utf-8")
    rows = json.loads(real("instruction/instruction-data.json", "instructions.json").read_text(encoding="utf-8"))[:60]
    (folder / "instructions.json").write_text(json.dumps(rows), encoding="utf-8")
    preferred = [
        {"prompt": f"Name thing {n}.", "chosen": "A lamp.", "rejected": "It is a lamp on a hill."} for n in range(40)
    ]
    (folder / "preferences.jsonl").write_text("".join(json.dumps(row) + "\n" for row in preferred))
    (folder / "texts.csv").write_text("text\n" + "".join(f"You have won prize {n}\n" for n in range(200)))
    answered = [{**row, "model_response": "worth 37", "finish_reason": "stop"} for row in rows[:20]]
    (folder / "responses.json").write_text(json.dumps(answered), encoding="utf-8")
    for name, made in (("pretrain", "writer"), ("spam", "spam"), ("instruct", "follower")):
        subject = next(one for one in TRAINING if one.name == f"train {name}")
        run([*subject.words(folder)[:-2], "--output_dir", made], folder)
    spam = next(one for one in TRAINING if one.name == "train spam").words(folder)
    run([*spam[:-2], "--seed", 7, "--output_dir", "spam-2"], folder)
    run(["export", "writer", "stock", "--to", "hf-gpt2"], folder)
    run(["classify", "spam", "--file", "texts.csv", "--output", "labelled.csv"], folder)
    run(["report", "spam", "--output_dir", "report"], folder)
    run(["judge", "responses.json", *JUDGE[:-1], (folder / "judge.url").read_text(), "--output", "judge.json"], folder)
    answers(folder)
    vote(folder)
    (folder / "tasks").mkdir()
    harness_tasks(folder / "tasks")


def vote(folder: Path) -> None:
    """Two raters' votes on the answers."""
    from hf_gpt_scratch.evaluation.preference import Votes, load_pairs

    files = folder / "a.json", folder / "b.json"
    votes = Votes.open_or_create(folder / "votes.sqlite", *files, len(load_pairs(*files)))
    for rater in ("ann", "bob"):
        for item in range(votes.items):
            votes.vote(rater, item, ("left", "right", "tie")[item % 3])
