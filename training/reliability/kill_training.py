"""The training jobs as subjects of `kill`: tiny models on real texts, some seconds each."""

from collections.abc import Sequence
from pathlib import Path

from kill_subject import Subject, bytes_differ, json_differs

ROOT = Path(__file__).parents[2]
REAL, DEMO = ROOT.parent / "shared" / "data", ROOT / "training" / "demo_data"
MESSAGES, INSTRUCTIONS = 400, 60  # rows that are trained on and tested with
SHAPE = ["--train_tokenizer", "300", "--n_embd", "16", "--n_layer", "1", "--n_head", "2", "--n_positions", "64"]
TIMES = ("seconds", "train_seconds", "tokens_per_second", "date", "created", "environment")
JOBS = ("pretrain", "spam", "classify", "instruct", "chat", "prefer")
MODULES = (
    *(f"hf_gpt_scratch.training.{job}" for job in JOBS),
    *("matplotlib.pyplot", "matplotlib.backends.backend_agg", "sklearn.svm", "sklearn.feature_extraction.text"),
    *("datasets.arrow_writer", "peft", "trl", "trl.trainer.dpo_trainer"),
)
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


def of_steps(steps: int, every: int) -> list[str]:
    """Trains so many steps, and saves a checkpoint every few."""
    return ["--max_steps", steps, "--save_strategy", "steps", "--save_steps", every, "--eval_strategy", "steps"] + [
        *("--eval_steps", every, "--logging_steps", 2, "--use_cpu", "true", "--output_dir", OUT)
    ]


def spam(inputs: Path) -> Sequence[str]:
    """Word dropout, and checkpoints within epochs."""
    data = ["--data_file", inputs / "messages.tsv", "--word_dropout", "0.3", "--per_device_train_batch_size", "16"]
    return ["train", "spam", *data, *SHAPE, *of_steps(27, 4)]


def pretrain(inputs: Path) -> Sequence[str]:
    """Samples too."""
    data = ["--data_file", inputs / "story.txt", "--sample_every", "9", "--sample_tokens", "8"]
    return ["train", "pretrain", *data, *SHAPE, *of_steps(26, 4), "--per_device_train_batch_size", "16"]


def differs(whole: Path, tried: Path) -> list[str]:
    """Every file to the byte, and metrics and cards in all but times; pictures are of these numbers."""
    one, other = whole / OUT, tried / OUT

    def is_told_apart(name: str) -> bool:
        return name.startswith(("checkpoint-", "plots/", "results/")) or name == "metrics.json"

    found = bytes_differ(one, other, is_told_apart)
    for path in [one / "metrics.json", *sorted((one / "results").glob("*.json"))]:
        name = path.relative_to(one)
        if not (other / name).exists():
            found.append(str(name))
            continue
        found += json_differs(path, other / name, TIMES)
    return found


SUBJECTS = [
    Subject("spam with word dropout, checkpoints by steps", spam, differs, inputs=messages, modules=MODULES),
    Subject("pretrain", pretrain, differs, inputs=story, modules=MODULES),
]
