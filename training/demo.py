"""
The whole story in a few minutes on a laptop's CPU, without a download: a GPT learns to write like a story and then to
follow instructions, another one learns to tell spam from ham, and they come back in a process that has never seen
this package.

    python training/demo.py

The story, the instructions and the messages in `demo_data/` were written for this project. Everything lands in
`runs/demo`.
"""

import argparse
import json
import shutil
import sys
import textwrap
import time
from importlib import import_module
from pathlib import Path

import hf_gpt_scratch_cli  # noqa: F401 - sets the environment before torch is imported

HERE = Path(__file__).parent
STORY = HERE / "demo_data" / "story.txt"
INSTRUCTIONS = HERE / "demo_data" / "instructions.json"
MESSAGES = HERE / "demo_data" / "messages.tsv"
OBVIOUS_MESSAGES = HERE / "demo_data" / "obvious_messages.tsv"
PROMPT = "Tilly looked at the lamp and"


def make_parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--output_dir", default="runs/demo", help="an older demo there is replaced")
    parser.add_argument("--seed", type=int, default=123)
    parser.add_argument("--pretrain_steps", type=int, default=300)
    parser.add_argument("--instruct_epochs", type=float, default=20)
    parser.add_argument("--spam_epochs", type=float, default=12)
    return parser


def heading(text: str) -> None:
    print(f"\n=== {text}", flush=True)


def make_tokenizer(folder: Path, seed: int) -> None:
    """Trains a tokenizer on the story, and on the instructions that are to be learnt later."""
    from hf_gpt_scratch.data import alpaca
    from hf_gpt_scratch.prompts import render_prompt
    from hf_gpt_scratch.tokenizer import train_tokenizer

    rows = alpaca.split(alpaca.load_instructions(INSTRUCTIONS).rows, seed)["train"]
    later = [render_prompt(row["instruction"], row["input"]) + row["output"] for row in rows]
    train_tokenizer([STORY.read_text(encoding="utf-8"), *later], 800, model_max_length=128).save_pretrained(folder)


def train(job: str, **settings) -> dict:
    """Runs a job, as `hf-gpt-scratch train JOB` would, and returns its metrics."""
    words = [word for key, value in settings.items() for word in (f"--{key}", str(value))]
    return import_module(f"hf_gpt_scratch.training.{job}").main([*words, "--use_cpu", "true"])


def in_parts(parts: int) -> dict:
    """Settings that evaluate, and save, after each of so many parts of the run."""
    points = {f"{name}_steps": 1 / parts for name in ("eval", "save", "logging")}
    return {"eval_strategy": "steps", "save_strategy": "steps", **points}


def train_writer(folder: Path, steps: int, seed: int) -> dict:
    """Lets a small GPT learn the story; its metrics, and what it wrote before and after."""
    tokenizer = folder.with_name("tokenizer")
    make_tokenizer(tokenizer, seed)
    metrics = train(
        "pretrain",
        data_file=STORY,
        tokenizer_name=tokenizer,
        output_dir=folder,
        n_positions=128,
        n_embd=128,
        n_layer=4,
        n_head=4,
        stride=16,
        max_steps=steps,
        per_device_train_batch_size=16,
        learning_rate=1e-3,
        warmup_steps=20,
        **{**in_parts(3), "save_strategy": "no"},
        sample_every=steps,
        sample_prompt=PROMPT,
        temperature=0.7,
        top_k=20,
        seed=seed,
    )
    samples = (folder / "samples.jsonl").read_text(encoding="utf-8").splitlines()
    return {"metrics": metrics, **dict(zip(("before", "after"), (json.loads(line)["text"] for line in samples)))}


def train_follower(folder: Path, writer: Path, epochs: float, seed: int) -> dict:
    """Teaches the writer the instructions of `demo_data`; its metrics, its answers, and how many are right."""
    metrics = train(
        "instruct",
        model_name_or_path=writer,
        data_file=INSTRUCTIONS,
        output_dir=folder,
        mask_prompt=True,
        num_train_epochs=epochs,
        per_device_train_batch_size=4,
        learning_rate=1e-3,
        lr_scheduler_type="cosine",
        warmup_steps=20,
        dropout=0.0,
        max_new_tokens=24,
        seed=seed,
        **in_parts(4),
    )
    answers = json.loads((folder / "responses.json").read_text(encoding="utf-8"))
    right = sum(answer["model_response"] == answer["output"] for answer in answers)
    return {"metrics": metrics, "answers": answers, "right": right}


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
        dropout=0.4,
        word_dropout=0.2,
        weight_decay=1.0,
        prefix_loss_weight=0.05,
        num_train_epochs=epochs,
        per_device_train_batch_size=64,
        learning_rate=2e-3,
        warmup_steps=20,
        load_best_model_at_end=False,
        seed=seed,
        **in_parts(3),
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
    Shows what the classifier thinks word by word, then lets it and the writer work without this package. Returns how
    far the classifier's two answers are apart, and ends the program where that is more than rounding.
    """
    from hf_gpt_scratch.classification.classifier import TextClassifier
    from hf_gpt_scratch.model_folder.clean_process import run_jobs

    heading("4. The probability of spam, word by word")
    classifier = TextClassifier.from_pretrained(folder / "spam")
    message = "Hi, are you free on Friday? Reply YES now to claim your prize of 500 in cash"
    read = (f"{word.strip()}({probability:.0%})" for word, probability in classifier.word_probabilities(message))
    print(textwrap.fill("  ".join(read), 100))
    probability = next(classifier.classify([message])).probability

    heading("5. Writer and classifier in a process that cannot import this package")
    generate = {"max_new_tokens": 30, "do_sample": True, "temperature": 0.7, "top_k": 20}
    [written], _ = run_jobs(
        folder / "writer", [{"auto_class": "AutoModelForCausalLM", "text": PROMPT, "generate": generate}]
    )
    [judged], answers = run_jobs(
        folder / "spam", [{"auto_class": "AutoModelForSequenceClassification", "text": message}]
    )
    if failure := written.get("error") or judged.get("error"):
        sys.exit(f"error: a model does not load elsewhere: {failure}")
    elsewhere = answers["answer.0"].softmax(-1)[0, 1].item()
    print(f"the writer:     {' '.join(written['text'].split())}")
    print(f"the classifier: {elsewhere:.1%} spam")
    difference = abs(elsewhere - probability)
    if difference > 1e-5:
        sys.exit(f"error: the reloaded classifier's answer differs by {difference}.")
    return difference


def main(argv: list[str] | None = None) -> None:
    args = make_parser().parse_args(argv)
    start = time.perf_counter()
    from hf_gpt_scratch.utils.files import write_json

    folder = Path(args.output_dir).absolute()
    for part in ("tokenizer", "writer", "follower", "spam"):
        shutil.rmtree(folder / part, ignore_errors=True)

    heading("1. A GPT learns to write from a story of 2,700 words")
    writer = train_writer(folder / "writer", args.pretrain_steps, args.seed)

    heading("2. It learns to follow instructions, from 450 of them")
    follower = train_follower(folder / "follower", folder / "writer", args.instruct_epochs, args.seed)
    print(f"{follower['right']} of {len(follower['answers'])} answers it was never shown are right, for example:")
    for answer in follower["answers"][:3]:
        print(f"  {answer['instruction']} {answer['input']} -> {answer['model_response']}")

    heading("3. A GPT learns to tell spam from ham, from 2,880 messages")
    metrics = train_classifier(folder / "spam", args.spam_epochs, args.seed)

    difference = use_elsewhere(folder)

    results = {
        "story loss": "{train_loss:.2f} on what it read, {eval_loss:.2f} on the rest".format(**writer["metrics"]),
        "instructions followed": f"{follower['right']} of {len(follower['answers'])} that it was never shown",
        "spam F1 on unseen messages": f"{metrics['f1']:.3f}, a linear model's {metrics['baseline']['f1']:.3f}",
    }
    end = {
        "reloaded without the package": f"same answer, difference {difference:.1e}",
        "the models": f"{folder}: writer, follower and spam, each with metrics.json and plots/",
        "what they are": "toys: `hf-gpt-scratch train` makes ones of use",
        "time": f"{time.perf_counter() - start:.0f} s",
    }
    details = {"writer": writer, "follower_metrics": follower["metrics"], "spam_metrics": metrics}
    write_json(folder / "summary.json", {**results, **end, "seed": args.seed, **details})
    heading("Done")
    for name, value in end.items():
        print(f"{name:30} {value}")
    command = Path(sys.executable).with_name("hf-gpt-scratch")
    print(f'Next: {command} classify {folder / "spam"} --stream "your message"')
    print(f"and:  {command} chat {folder / 'follower'}")


if __name__ == "__main__":
    from hf_gpt_scratch.utils.errors import run_reporting_errors

    sys.exit(run_reporting_errors(main))
