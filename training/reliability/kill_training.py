"""
The training jobs as subjects of `kill`: tiny models on real texts, some seconds each. And what else ends a run: damage
to its newest checkpoint, SIGTERM, Ctrl-C, and that it is finished.
"""

import json
import random
import shutil
import signal
from collections.abc import Callable, Iterator, Sequence
from importlib import resources
from pathlib import Path

import kill
from faults import Row, Settings
from forks import Fork
from kill_subject import Subject, bytes_differ, json_differs

ROOT = Path(__file__).parents[2]
REAL, DEMO = ROOT.parent / "shared" / "data", ROOT / "training" / "demo_data"
MESSAGES, INSTRUCTIONS = 240, 60  # rows that are trained on and tested with
SHAPE = ["--train_tokenizer", "300", "--n_embd", "16", "--n_layer", "1", "--n_head", "2", "--n_positions", "64"]
ANSWERS = ["--max_new_tokens", "4", "--answered_rows", "3"]
TIMES = ("seconds", "train_seconds", "tokens_per_second", "date", "created", "environment")
JOBS = ("pretrain", "spam", "classify", "instruct", "chat", "prefer")
MODULES = (
    *(f"hf_gpt_scratch.training.{job}" for job in JOBS),
    *("matplotlib.pyplot", "matplotlib.backends.backend_agg", "sklearn.svm", "sklearn.feature_extraction.text"),
    *("datasets.arrow_writer", "peft", "trl", "trl.trainer.dpo_trainer"),
)
LONGER = [*SHAPE[:-1], "256"]
LATE = 1.0  # seconds before its end in which a run that is told to stop may end well; a busy machine needs them
OUT = "run"  # the --output_dir, in the folder of a try


def real(name: str, demo: str) -> Path:
    """A real data set where it is beside the project, or else the demo's."""
    return REAL / name if (REAL / name).exists() else DEMO / demo


def messages(folder: Path) -> None:
    """The first of the SMS messages."""
    lines = real("sms_spam/SMSSpamCollection", "messages.tsv").read_text(encoding="utf-8").split("\n")[:MESSAGES]
    (folder / "messages.tsv").write_text("\n".join(lines) + "\n", encoding="utf-8")


def story(folder: Path) -> None:
    """The Verdict."""
    text = real("verdict/the-verdict.txt", "story.txt").read_text(encoding="utf-8")
    (folder / "story.txt").write_text(text, encoding="utf-8")


def instructions(folder: Path) -> None:
    """The first of the instructions."""
    rows = json.loads(real("instruction/instruction-data.json", "instructions.json").read_text(encoding="utf-8"))
    (folder / "instructions.json").write_text(json.dumps(rows[:INSTRUCTIONS]), encoding="utf-8")


def tickets(folder: Path) -> None:
    """The table of tickets that `hf-gpt-scratch examples` writes."""
    text = (resources.files("hf_gpt_scratch.example_data") / "tickets.csv").read_text(encoding="utf-8")
    (folder / "tickets.csv").write_text("\n".join(text.split("\n")[:160]) + "\n", encoding="utf-8")


def faq(folder: Path) -> None:
    """Of an airline's questions some that are answered and some that are not."""
    text = (resources.files("hf_gpt_scratch.example_data") / "airline.jsonl").read_text(encoding="utf-8")
    lines = text.splitlines()
    (folder / "faq.jsonl").write_text("\n".join(lines[:12] + lines[-60::3]) + "\n", encoding="utf-8")


def follower(folder: Path) -> None:
    """A model that was taught instructions, and preferences for short answers to them."""
    from hf_gpt_scratch import cli

    instructions(folder)
    words = ["train", "instruct", "--data_file", "instructions.json", *LONGER, "--max_steps", "2", "--use_cpu", "true"]
    words += [*ANSWERS, "--save_strategy", "no", "--load_best_model_at_end", "false", "--output_dir", "follower"]
    ended = Fork(lambda: cli.main(words), folder, folder / "follower.log").end()
    if ended.status:
        raise RuntimeError(ended.said[-2000:])
    rows = json.loads((folder / "instructions.json").read_text(encoding="utf-8"))
    pairs = [
        {"prompt": row["instruction"], "chosen": row["output"][:20], "rejected": row["output"][::-1]} for row in rows
    ]
    (folder / "pairs.jsonl").write_text("".join(json.dumps(pair) + "\n" for pair in pairs), encoding="utf-8")


def of_steps(steps: int, every: int) -> list:
    """Trains so many steps, and saves a checkpoint every few."""
    saving = ["--save_strategy", "steps", "--save_steps", every, "--eval_strategy", "steps", "--eval_steps", every]
    return ["--max_steps", steps, *saving, "--logging_steps", 2, "--use_cpu", "true", "--output_dir", OUT]


def spam(inputs: Path) -> Sequence:
    """Word dropout, and checkpoints within epochs."""
    data = ["--data_file", inputs / "messages.tsv", "--word_dropout", "0.3", "--per_device_train_batch_size", "16"]
    return ["train", "spam", *data, *SHAPE, *of_steps(16, 3)]


def pretrain(inputs: Path) -> Sequence:
    """Samples too."""
    data = ["--data_file", inputs / "story.txt", "--sample_every", "6", "--sample_tokens", "8"]
    return ["train", "pretrain", *data, *SHAPE, *of_steps(16, 3), "--per_device_train_batch_size", "16"]


def classify(inputs: Path) -> Sequence:
    """By epochs, the best of which is kept."""
    data = ["--data_file", inputs / "tickets.csv", "--per_device_train_batch_size", "16", "--num_train_epochs", "4"]
    return ["train", "classify", *data, *SHAPE, "--word_dropout", "0.2", "--use_cpu", "true", "--output_dir", OUT]


def instruct(inputs: Path) -> Sequence:
    """From random weights."""
    data = ["--data_file", inputs / "instructions.json", *ANSWERS]
    return ["train", "instruct", *data, *LONGER, *of_steps(10, 3), "--packing", "true"]


def lora(inputs: Path) -> Sequence:
    """An adapter on a model."""
    data = ["--data_file", inputs / "instructions.json", "--model_name_or_path", inputs / "follower", *ANSWERS]
    return ["train", "instruct", *data, "--lora_r", "4", *of_steps(10, 3)]


def chat(inputs: Path) -> Sequence:
    """A bot of an FAQ."""
    data = ["--data_file", inputs / "faq.jsonl", "--max_new_tokens", "4"]
    return ["train", "chat", *data, *LONGER, *of_steps(9, 2), "--load_best_model_at_end", "false"]


def prefer(inputs: Path) -> Sequence:
    """By DPO."""
    data = ["--data_file", inputs / "pairs.jsonl", "--model_name_or_path", inputs / "follower", *ANSWERS]
    return ["train", "prefer", *data, *of_steps(9, 2)]


def differs(whole: Path, tried: Path, ignored: Sequence[str] = TIMES) -> list[str]:
    """Every file to the byte, and metrics and cards in all but what is `ignored`; pictures are of these numbers."""
    one, other = whole / OUT, tried / OUT

    def is_told_apart(name: str) -> bool:
        return name.startswith(("checkpoint-", "plots/", "results/")) or name == "metrics.json"

    found = bytes_differ(one, other, is_told_apart)
    for path in [one / "metrics.json", *sorted((one / "results").glob("*.json"))]:
        name = path.relative_to(one)
        if not (other / name).exists():
            found.append(str(name))
            continue
        found += json_differs(path, other / name, ignored)
    return found


def job(name: str, words: Callable, inputs: Callable) -> Subject:
    """A training job as a subject."""
    return Subject(name, words, differs, inputs=inputs, modules=MODULES)


SPAM = job("train spam, word dropout, checkpoints by steps", spam, messages)
SUBJECTS = [
    SPAM,
    job("train pretrain", pretrain, story),
    job("train classify", classify, tickets),
    job("train instruct", instruct, instructions),
    job("train instruct, LoRA", lora, follower),
    job("train chat", chat, faq),
    job("train prefer", prefer, follower),
]


def rows(settings: Settings) -> Iterator[Row]:
    """A row for each of `FAULTS`, of the job with word dropout."""
    yield from rows_of(SPAM, FAULTS, settings)


def rows_of(subject: Subject, faults: dict[str, tuple[Callable, int]], settings: Settings) -> Iterator[Row]:
    """A row for each of the faults of a job, which are by their names, each with its number of tries."""
    wanted = {name: fault for name, fault in faults.items() if settings.of(f"{name} {subject.name}")}
    if not wanted:
        return
    bench, draw = kill.Bench(subject, settings.folder), random.Random(settings.seed)
    for count, (name, (fault, tries)) in enumerate(wanted.items()):
        tries = settings.tries or (kill.QUICK if settings.quick else tries)
        found, bench.late = [], 0
        for number in range(tries):
            folder = bench.new(f"{count}-{number}")
            if wrong := fault(bench, folder, number, draw):
                found.append(wrong)
                print(f"  {name}: {wrong}", flush=True)
            shutil.rmtree(folder)
        told = [f"{bench.late} signals came when it had all but ended"] if bench.late else []
        yield Row(name, subject.name, tries, tries - len(found), len(found), note="; ".join([*told, *found[:1]]))


def damaged(bench: kill.Bench, folder: Path, number: int, draw: random.Random) -> str | None:
    """A file of the newest checkpoint of a killed run is damaged: it is told, and the run goes on from the other."""
    checkpoint = killed_with(bench, folder, "checkpoint-9", before="checkpoint-12")
    before = max(
        path.parent for path in (folder / OUT).glob("checkpoint-?/manifest.json") if path.parent != checkpoint
    )
    path, way = checkpoint / DAMAGED[number % len(DAMAGED)], WAYS[number // len(DAMAGED) % len(WAYS)]
    content = path.read_bytes()
    place = draw.randrange(len(content))
    if way == "missing":
        path.unlink()
    else:
        flipped = content[:place] + bytes([content[place] ^ 1]) + content[place + 1 :]
        path.write_bytes({"cut": content[:place], "emptied": b"", "flipped": flipped}[way])
    ended = bench.start(folder).end()
    if "checkpoint-9 is damaged" not in ended.said or f"; going on from {before.name}." not in ended.said:
        return f"{path.name} {way}: {ended.last_line}"
    return bench.fault(folder, ended)


def killed_with(bench: kill.Bench, folder: Path, newest: str, before: str) -> Path:
    """The checkpoint of that name, the newest of a run that is killed before it begins another."""
    for _ in range(5):
        run = bench.start(folder)
        while not (folder / OUT / newest / "manifest.json").exists() and not run.wait(0.002):
            pass
        run.send(signal.SIGKILL)
        run.end()
        if not (folder / OUT / before).exists() and (folder / OUT / newest).exists():
            return folder / OUT / newest
        shutil.rmtree(folder / OUT)
    raise RuntimeError(f"The run could not be killed between {newest} and {before}.")


def signalled(number: int, status: int, to_all: bool = False) -> Callable:
    def fault(bench: kill.Bench, folder: Path, count: int, draw: random.Random) -> str | None:
        """
        A signal at any moment, to the run's own process or to all that it has started: the run ends in a sentence
        that says how it goes on, and so it does.
        """
        run = bench.start(folder)
        run.wait(0.3 + draw.random() * (bench.seconds - 0.3))
        sent = run.seconds()
        run.send(number, to_all)
        ended = run.end()
        is_told = ended.status == status and "the same command" in ended.last_line
        is_late = ended.status == 0 and ended.seconds - sent < LATE
        bench.late += is_late
        if ended.has_traceback or not (is_told or is_late):
            return f"exit status {ended.status}: {ended.last_line}"
        if left := run.orphans(kill.ORPHANED):
            return f"{len(left)} processes still run: {left[0][:200]}"
        return bench.fault(folder, bench.start(folder).end())

    return fault


def repeated(bench: kill.Bench, folder: Path, number: int, draw: random.Random) -> str | None:
    """A finished run is repeated: it says so, changes nothing and ends well."""
    shutil.copytree(bench.whole / OUT, folder / OUT)
    before = {path: path.stat().st_mtime_ns for path in (folder / OUT).rglob("*")}
    ended = bench.start(folder).end()
    if "is finished: nothing is left to do" not in ended.said:
        return f"exit status {ended.status}: {ended.last_line}"
    changed = [path.name for path in before if path.stat().st_mtime_ns != before[path] and path.is_file()]
    return f"it wrote {', '.join(changed)}" if changed else bench.fault(folder, ended)


DAMAGED = ("model.safetensors", "optimizer.pt", "rng_state.pth", "trainer_state.json")
WAYS = ("flipped", "cut", "emptied", "missing")
FAULTS = {
    "newest checkpoint damaged": (damaged, len(DAMAGED) * len(WAYS)),
    "SIGTERM": (signalled(signal.SIGTERM, 143), 10),
    "Ctrl-C": (signalled(signal.SIGINT, 130), 10),
    "finished run repeated": (repeated, 3),
}
