"""
Three small GPTs in about three minutes on a laptop's CPU, without a download: one writes stories, one answers
questions, one tells spam from ham. At the end they work in a process that cannot import this package.

    python training/demo.py

The stories, the questions and the messages in `demo_data/` were written for this project. The models, their
measurements and `summary.json` are written to `runs/demo`.
"""

import argparse
import contextlib
import importlib.util
import io
import json
import os
import re
import shlex
import shutil
import subprocess
import sys
import textwrap
import time
from importlib import import_module
from pathlib import Path

import hf_gpt_scratch_cli  # noqa: F401 - sets the environment before torch is imported

HERE = Path(__file__).parent
STORY = HERE / "demo_data" / "story.txt"
INSTRUCTIONS = HERE / "demo_data" / "instructions.json"
QUESTIONS = HERE / "demo_data" / "questions.json"
MESSAGES = HERE / "demo_data" / "messages.tsv"
OBVIOUS_MESSAGES = HERE / "demo_data" / "obvious_messages.tsv"
PROMPT = "Tilly looked at the lamp and"
MESSAGE = "Hi, are you free on Friday? Reply YES now to claim your prize of 500 in cash"
WIDTH = 96  # of what is printed


def make_parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--output_dir", default="runs/demo", help="replaces the models of an earlier demo there")
    parser.add_argument("--seed", type=int, default=123)
    parser.add_argument("--pretrain_steps", type=int, default=300)
    parser.add_argument("--instruct_epochs", type=float, default=13)
    parser.add_argument("--spam_epochs", type=float, default=8)
    return parser


def heading(text: str) -> None:
    print(f"\n=== {text}", flush=True)


class TableFilter(io.TextIOBase):
    """
    Passes a job's table of losses on to `out`, and nothing else that the job prints.

    Args:
        columns: how many characters of a line to show.
    """

    LINE = re.compile(r" *(step +epoch|\d+ +[\d.]+( |$))")

    def __init__(self, out: io.TextIOBase, columns: int):
        self.out, self.columns, self.rest = out, columns, ""

    def write(self, text: str) -> int:
        *lines, self.rest = (self.rest + text).split("\n")
        for line in filter(self.LINE.match, lines):
            print(line[: self.columns].rstrip(), file=self.out, flush=True)
        return len(text)


def train(job: str, columns: int = WIDTH, **settings) -> dict:
    """Runs a job, as `hf-gpt-scratch train JOB` would, shows its losses and returns its metrics."""
    words = [word for key, value in settings.items() for word in (f"--{key}", str(value))]
    with contextlib.redirect_stdout(TableFilter(sys.stdout, columns)):
        return import_module(f"hf_gpt_scratch.training.{job}").main([*words, "--use_cpu", "true"])


def in_parts(parts: int, keep_best: bool) -> dict:
    """Settings that evaluate after each of so many parts of the run, and save the best model there, or the last."""
    points = {f"{name}_steps": 1 / parts for name in ("eval", "save", "logging")}
    saving = {"save_strategy": "steps" if keep_best else "no", "load_best_model_at_end": keep_best}
    return {"eval_strategy": "steps", **saving, **points}


def make_tokenizer(folder: Path, seed: int) -> None:
    """Trains a tokenizer on the stories, and on the questions and answers that the model learns next."""
    from hf_gpt_scratch.data import turns
    from hf_gpt_scratch.tokenizer import train_tokenizer

    later = ["".join(turns.texts(row)) for row in training_rows(seed)]
    train_tokenizer([STORY.read_text(encoding="utf-8"), *later], 1600, model_max_length=128).save_pretrained(folder)


def train_writer(folder: Path, steps: int, seed: int) -> dict:
    """Trains a small GPT on the stories; returns its metrics, and what it wrote before and after."""
    tokenizer = folder.with_name("tokenizer")
    make_tokenizer(tokenizer, seed)
    metrics = train(
        "pretrain",
        data_file=STORY,
        tokenizer_name=tokenizer,
        output_dir=folder,
        n_positions=128,
        n_embd=128,
        n_layer=2,
        n_head=4,
        dropout=0.0,
        max_length=128,
        stride=3,
        validation_share=0.05,
        max_steps=steps,
        per_device_train_batch_size=16,
        learning_rate=3e-3,
        warmup_steps=20,
        **in_parts(6, keep_best=False),
        sample_every=steps,
        sample_prompt=PROMPT,
        sample_tokens=60,
        temperature=0.5,
        top_k=20,
        seed=seed,
    )
    samples = (folder / "samples.jsonl").read_text(encoding="utf-8").splitlines()
    return {"metrics": metrics, **dict(zip(("before", "after"), (json.loads(line)["text"] for line in samples)))}


def train_follower(folder: Path, writer: Path, epochs: float, seed: int) -> dict:
    """Fine-tunes the writer on the instructions; returns its metrics, and how it answers questions."""
    metrics = train(
        "instruct",
        columns=43,  # without the perplexity of the prompts, which it does not learn
        model_name_or_path=writer,
        data_file=INSTRUCTIONS,
        output_dir=folder,
        mask_prompt=True,
        num_train_epochs=epochs,
        per_device_train_batch_size=16,
        learning_rate=3e-3,
        lr_scheduler_type="cosine",
        warmup_steps=20,
        dropout=0.0,
        max_new_tokens=32,
        seed=seed,
        **in_parts(6, keep_best=False),
    )
    return {"metrics": metrics, "questions": ask_questions(folder, seed), "held_out": held_out_answers(folder, seed)}


def training_rows(seed: int) -> list[dict]:
    """The questions and answers that the follower is trained on."""
    from hf_gpt_scratch.data import turns
    from hf_gpt_scratch.data.conversations import load_conversations

    return list(turns.split(load_conversations(INSTRUCTIONS).rows, seed)["train"])


def ask_questions(folder: Path, seed: int) -> list[dict]:
    """
    What the follower answers to the questions that anyone would type, in one chat with its saved settings. `is_right`:
    it is the expected answer, to the letter; `in_training`: the question was, apart from case and punctuation.
    """
    from hf_gpt_scratch import Chat
    from hf_gpt_scratch.data.turns import first_question, normalize

    known = {first_question(row) for row in training_rows(seed)}
    chat, asked = Chat.from_pretrained(folder), []
    for row in json.loads(QUESTIONS.read_text(encoding="utf-8")):
        answer = "".join(chat.ask(row["question"]))
        in_training = normalize(row["question"]) in known
        asked.append({**row, "answered": answer, "is_right": answer == row["answer"], "in_training": in_training})
    return asked


def held_out_answers(folder: Path, seed: int) -> dict:
    """
    How many of the test instructions are answered right, to the letter: those that ask in other words for an answer
    that was in training, and those whose answer was not.
    """
    known = {row["messages"][-1]["content"] for row in training_rows(seed)}
    counts = {kind: {"right": 0, "of": 0} for kind in ("new_words", "new_answer")}
    for row in json.loads((folder / "responses.json").read_text(encoding="utf-8")):
        count = counts["new_words" if row["output"] in known else "new_answer"]
        count["of"] += 1
        count["right"] += row["model_response"] == row["output"]
    return counts


def train_classifier(folder: Path, epochs: float, seed: int) -> dict:
    """Runs the spam job on the messages of `demo_data` and returns its metrics."""
    return train(
        "spam",
        data_file=MESSAGES,
        output_dir=folder,
        train_tokenizer=3000,
        lowercase=True,
        n_embd=128,
        n_layer=2,
        n_positions=128,
        dropout=0.3,
        word_dropout=0.3,
        prefix_loss_weight=0.1,
        num_train_epochs=epochs,
        per_device_train_batch_size=64,
        learning_rate=1e-3,
        warmup_steps=20,
        **in_parts(6, keep_best=True),
        seed=seed,
    )


def obvious_messages(folder: Path) -> list[tuple[str, str, float]]:
    """
    Messages that anyone would try a spam filter with, none of them trained on: each with its label and the
    probability of spam that the classifier in `folder` gives it.
    """
    from hf_gpt_scratch.classification.classifier import TextClassifier
    from hf_gpt_scratch.data.sms_spam import LABELS, load_messages

    messages = load_messages(OBVIOUS_MESSAGES)
    predictions = TextClassifier.from_pretrained(folder).classify(messages.texts)
    return [(read.text, LABELS[label], read.probability) for read, label in zip(predictions, messages.labels)]


def use_elsewhere(folder: Path) -> float:
    """
    Lets the writer and the classifier work in a process that cannot import this package. Returns how far the
    classifier's two answers are apart; ends the program when that is more than rounding.
    """
    from hf_gpt_scratch.classification.classifier import TextClassifier
    from hf_gpt_scratch.model_folder.clean_process import run_jobs

    probability = next(TextClassifier.from_pretrained(folder / "spam").classify([MESSAGE])).probability
    generate = {"max_new_tokens": 30, "do_sample": True, "temperature": 0.5, "top_k": 20}
    [written], _ = run_jobs(
        folder / "writer", [{"auto_class": "AutoModelForCausalLM", "text": PROMPT, "generate": generate}]
    )
    [judged], answers = run_jobs(
        folder / "spam", [{"auto_class": "AutoModelForSequenceClassification", "text": MESSAGE}]
    )
    if failure := written.get("error") or judged.get("error"):
        sys.exit(f"error: a model does not load without this package: {failure}")
    elsewhere = answers["answer.0"].softmax(-1)[0, 1].item()
    difference = abs(elsewhere - probability)
    if difference > 1e-5:
        sys.exit(f"error: the reloaded classifier's probability differs by {difference}.")
    show_text("writer", written["text"])
    show_text("classifier", f"{MESSAGE} -> {elsewhere:.1%} spam")
    return difference


def show_text(name: str, text: str) -> None:
    """Prints a text of any length as a paragraph beside a name."""
    print(textwrap.fill(" ".join(text.split()), WIDTH, initial_indent=f"{name + ':':12}", subsequent_indent=" " * 12))


def show_writer(writer: dict) -> None:
    """What the writer wrote, before and after."""
    print()
    show_text("before", textwrap.shorten(writer["before"], WIDTH - 12, placeholder=" ..."))
    show_text("after", writer["after"])


def show_follower(follower: dict) -> None:
    """The questions and the answers, those that are not the expected ones marked."""
    print("\nTwenty questions that anyone might type, and what it answers (x: wrong):")
    for row in follower["questions"]:
        mark = " " if row["is_right"] else "x"
        print(f"{mark} {row['question']:42} {textwrap.shorten(row['answered'], WIDTH - 44, placeholder=' ...')}")
    words, answers = (follower["held_out"][kind] for kind in ("new_words", "new_answer"))
    print(
        f"Of its held-out questions, {words['right']} of {words['of']} that put a known fact in new words are right,"
    )
    print(f"and {answers['right']} of {answers['of']} whose answer was never shown.")


def is_right(label: str, probability: float) -> bool:
    """Whether a probability of spam is on the side of the message's label."""
    return (probability > 0.5) == (label == "spam")


def show_classifier(folder: Path, obvious: list[tuple[str, str, float]]) -> None:
    """The probability of spam of the obvious messages, and of one message word by word."""
    from hf_gpt_scratch.classification.classifier import TextClassifier

    print("\nTwenty messages that anyone might try, and its probability of spam (x: wrong):")
    for text, label, probability in obvious:
        mark = " " if is_right(label, probability) else "x"
        print(f"{mark} {probability:4.0%}  {textwrap.shorten(text, WIDTH - 8, placeholder=' ...')}")
    words = TextClassifier.from_pretrained(folder).word_probabilities(MESSAGE)
    print("\nThe probability of spam, word by word:")
    print(textwrap.fill("  ".join(f"{word.strip()}({probability:.0%})" for word, probability in words), WIDTH))


def quoted(text: str) -> str:
    return subprocess.list2cmdline([text]) if os.name == "nt" else shlex.quote(text)


def shortest(path: Path) -> str:
    """The path as one would type it here."""
    return str(path.relative_to(Path.cwd()) if path.is_relative_to(Path.cwd()) else path)


def program() -> str:
    """What to type for this environment's `hf-gpt-scratch`: its name alone where the environment is activated."""
    here = shutil.which("hf-gpt-scratch", path=str(Path(sys.executable).parent))
    if here is None:
        return f"{quoted(sys.executable)} -m hf_gpt_scratch_cli"
    found = shutil.which("hf-gpt-scratch")
    return "hf-gpt-scratch" if found and Path(found).samefile(here) else quoted(shortest(Path(here)))


def next_commands(folder: Path) -> list[tuple[str, str]]:
    """What to do with the models, each with its command."""
    writer, follower, spam = (quoted(shortest(folder / name)) for name in ("writer", "follower", "spam"))
    browser = "in a browser" if importlib.util.find_spec("gradio") else "in a browser *"
    commands = [
        ("write a story", f'generate {writer} --prompt "Tilly looked at"'),
        ("ask questions", f"chat {follower}"),
        (browser, f"app chat {follower}"),
        ("judge a message", f'classify {spam} --stream "You have won a free prize"'),
        (browser, f"app classify {spam}"),
        ("check a model", f"check {writer}"),
        ("publish it", f"push {writer} you/my-gpt"),
    ]
    return [(name, f"{program()} {words}") for name, words in commands]


def results(writer: dict, follower: dict, classifier: dict, obvious: list, difference: float) -> dict[str, str]:
    """The results, a line each."""
    spam_right = sum(is_right(label, probability) for _, label, probability in obvious)
    losses, asked, held_out = writer["metrics"], follower["questions"], follower["held_out"]
    right, known = sum(row["is_right"] for row in asked), sum(row["in_training"] for row in asked)
    return {
        "writer": "a loss of {train_loss:.2f} on what it read, {eval_loss:.2f} on the rest".format(**losses),
        "follower": f"{right} of {len(asked)} typed questions right ({known} of them trained on in these words)",
        "held out": "{right} of {of} right in new words, ".format(**held_out["new_words"])
        + "{right} of {of} with a new answer".format(**held_out["new_answer"]),
        "spam filter": f"{spam_right} of {len(obvious)} obvious messages right, none of them trained on",
        "on a test set": f"F1 {classifier['f1']:.3f}, that of a linear model {classifier['baseline']['f1']:.3f}",
        "reloaded": f"without this package: the same probability within {max(difference, 1e-9):.0e}",
    }


def show_summary(folder: Path, lines: dict[str, str], seconds: float) -> None:
    heading(f"Done in {seconds:.0f} seconds: three small GPTs, trained here from random weights")
    for name, text in lines.items():
        print(f"{name:16} {text}")
    print(f"\nThey are toys, and they are yours, in {shortest(folder)}. Next:\n")
    for name, command in next_commands(folder):
        print(f"{name:16} {command}")
    if not importlib.util.find_spec("gradio"):
        print("* first: pip install -c constraints.txt gradio")


def main(argv: list[str] | None = None) -> None:
    args = make_parser().parse_args(argv)
    start = time.perf_counter()
    from hf_gpt_scratch.utils.files import write_json

    folder = Path(args.output_dir).absolute()
    for part in ("tokenizer", "writer", "follower", "spam"):
        shutil.rmtree(folder / part, ignore_errors=True)

    words = len(STORY.read_text(encoding="utf-8").split())
    heading(f"1 of 4: A GPT learns to write from {words:,} words of stories, in {args.pretrain_steps} steps")
    print("They are too few to learn English from, but enough to learn them by heart: the loss falls on what it reads")
    print("and rises on the rest.\n")
    writer = train_writer(folder / "writer", args.pretrain_steps, args.seed)
    show_writer(writer)

    heading(f"2 of 4: It learns to answer, from {len(training_rows(args.seed)):,} questions")
    follower = train_follower(folder / "follower", folder / "writer", args.instruct_epochs, args.seed)
    show_follower(follower)

    heading("3 of 4: Another GPT learns to tell spam from ham")
    classifier = train_classifier(folder / "spam", args.spam_epochs, args.seed)
    obvious = obvious_messages(folder / "spam")
    show_classifier(folder / "spam", obvious)

    heading("4 of 4: The models work in a process that cannot import this package")
    difference = use_elsewhere(folder)

    seconds, lines = time.perf_counter() - start, results(writer, follower, classifier, obvious, difference)
    details = {"writer": writer, "follower": follower, "spam": {"metrics": classifier, "obvious_messages": obvious}}
    facts = {"results": lines, "difference": difference, "seconds": round(seconds, 1), "seed": args.seed}
    write_json(folder / "summary.json", {**facts, **details})
    show_summary(folder, lines, seconds)


if __name__ == "__main__":
    from hf_gpt_scratch.utils.errors import run_reporting_errors

    sys.exit(run_reporting_errors(main))
