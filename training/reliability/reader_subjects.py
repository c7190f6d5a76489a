"""
The readers of the package: for each a valid file, in what form it is, and what a command does with it. The checkpoints
of other formats are those of the tests (`tests/support/checkpoints.py`).
"""

import json
import sys
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from functools import cache, partial
from pathlib import Path

ROOT = Path(__file__).parents[2]
sys.path.append(str(ROOT / "tests"))

DATA = ROOT / "training/demo_data"
EXAMPLES = ROOT / "hf_gpt_scratch/example_data"
TEXTS = ("win a free prize now", "see you at home")


@dataclass(frozen=True)
class Reader:
    """
    Args:
        file: which is lied about, in the folder.
        make: writes what is valid into an empty folder.
        read: reads it, and uses what it read as a command would.
        form: of the file, for `lies.tell`.
        fresh: a name in the folder that each reading makes, to be removed after it.
    """

    file: str
    make: Callable[[Path], object]
    read: Callable[[Path], object]
    form: str = "bytes"
    fresh: str = ""


def _write(name: str, value) -> Callable[[Path], object]:
    """What writes a file of text, or of JSON."""
    text = value if isinstance(value, str) else json.dumps(value)
    return lambda folder: (folder / name).write_text(text, encoding="utf-8")


# --- data


def _make_messages(folder: Path) -> None:
    lines = (DATA / "messages.tsv").read_text(encoding="utf-8").splitlines(keepends=True)
    few = [line for label in ("ham", "spam") for line in [one for one in lines if one.startswith(label)][:12]]
    (folder / "messages.tsv").write_text("".join(few), encoding="utf-8")


def _read_messages(folder: Path) -> None:
    from hf_gpt_scratch.data import sms_spam

    messages = sms_spam.load_messages(folder / "messages.tsv")
    try:
        sms_spam.split(messages, "grouped", 1)
    finally:
        sms_spam.split(messages, "book", 1)


def _read_labelled(name: str, folder: Path, **settings) -> None:
    from hf_gpt_scratch.data import labelled_texts

    labelled_texts.split(labelled_texts.load_labelled_texts(folder / name, **settings), 1)


def _read_tickets(name: str, folder: Path) -> None:
    """As one label a text, as several, and without the bad rows; then as texts to classify."""
    from hf_gpt_scratch.data.columns import read_texts
    from hf_gpt_scratch.utils.errors import InputError

    refusal = None
    for settings in ({}, {"multi_label": True}, {"bad_rows": "drop"}):
        try:
            _read_labelled(name, folder, **settings)
        except InputError as error:
            refusal = error
    if name:
        read_texts(folder / name)
    if refusal:
        raise refusal


def _make_tickets(kind: str, folder: Path) -> None:
    import pandas

    table = pandas.read_csv(EXAMPLES / "tickets.csv")
    table = table[table.topic.isin(("account", "delivery"))].groupby("topic").head(12)
    if kind == "csv":
        table.to_csv(folder / "tickets.csv", index=False)
    elif kind == "json":
        table.to_json(folder / "tickets.json", orient="records")
    elif kind == "jsonl":
        table.to_json(folder / "tickets.jsonl", orient="records", lines=True)
    elif kind == "parquet":
        table.to_parquet(folder / "tickets.parquet")
    else:
        table.head(14).to_csv(folder / "train.csv", index=False)
        table.tail(10).to_csv(folder / "test.csv", index=False)


ALPACA = [{"instruction": f"Name {n} colours.", "input": "" if n % 2 else "x", "output": "Red."} for n in range(12)]
TURNS = [{"role": "user", "content": "Hello"}, {"role": "assistant", "content": "Hi"}]
MESSAGES = "".join(json.dumps({"messages": [*TURNS, *TURNS], "id": n}) + "\n" for n in range(6))
CHOSEN = {"prompt": TURNS[:1], "chosen": TURNS[1:], "rejected": [{"role": "assistant", "content": "No"}]}
PREFERENCES = "".join(
    json.dumps({**CHOSEN, "prompt": [{"role": "user", "content": f"Say {n}"}]}) + "\n" for n in range(12)
)


def _read_conversations(name: str, folder: Path) -> None:
    from hf_gpt_scratch.data import conversations, first_look

    first_look.look(folder / name, conversations.find_columns)
    conversations.load_conversations(folder / name)


def _read_preferences(folder: Path) -> None:
    from hf_gpt_scratch.data import preferences

    preferences.split(preferences.load_preferences(folder / "pairs.jsonl").rows, 1)


def _make_faq(folder: Path) -> None:
    lines = (EXAMPLES / "airline.jsonl").read_text(encoding="utf-8").splitlines(keepends=True)
    (folder / "faq.jsonl").write_text("".join(lines[:30]), encoding="utf-8")


def _read_faq(name: str, folder: Path) -> None:
    from hf_gpt_scratch.data import faq

    faq.split(faq.load_faq(folder / name), 1)


@cache
def _tokenizer():
    from hf_gpt_scratch.tokenizer import train_tokenizer

    return train_tokenizer(["the lamp on the hill"] * 5, 300)


def _make_story(folder: Path) -> None:
    story = (DATA / "story.txt").read_text(encoding="utf-8")
    (folder / "story.txt").write_text(story[:3000], encoding="utf-8")


def _read_plain_text(folder: Path) -> None:
    from hf_gpt_scratch.data import text

    for streaming in (False, True):
        parts = text.split(text.load_text(folder / "story.txt"), 0.1, streaming, 100)[:2]
        for part in parts:
            list(text.tokenize(part, _tokenizer()))


# --- runs


def _read_config(folder: Path) -> None:
    """A job's config, as `train classify` reads it twice: before torch is imported, and after."""
    from hf_gpt_scratch.training import configs
    from hf_gpt_scratch.training.arguments import parse_yaml_and_args
    from hf_gpt_scratch.training.classify import make_parser

    words = ["--config", str(folder / "mine.yaml"), "--output_dir", str(folder / "out")]
    configs.check_words(words, "classify")
    parse_yaml_and_args(make_parser(), words, "classify")


CONFIG = "data_file: {}\ntrain_tokenizer: 300\nn_embd: 16\nn_head: 2\nnum_train_epochs: 2\nlearning_rate: 1.0e-3\n" + (
    "eval_strategy: steps\neval_steps: 5\nsave_strategy: steps\nsave_steps: 5\nlabel_column: topic\nbad_rows: drop\n"
    "precision: fp32\n"
    "warmup_steps: 0.1\noptim: adamw_torch\nlr_scheduler_type: cosine\ndeepspeed: null\nfsdp: null\nreport_to: none\n"
    "outside_labels: [other]\ndataloader_num_workers: 0\nadam_beta2: 0.95\nmax_steps: -1\nrun_name: x\n"
    "long_texts: first\n"
)


def _make_config(folder: Path) -> None:
    _make_tickets("csv", folder)
    (folder / "mine.yaml").write_text(CONFIG.format(folder / "tickets.csv"))


RECORD = {
    **{"job": "classify", "data": {"sha256": "0" * 64}, "settings": {"seed": 1, "batch_size": 8}, "tokenizer": "x"},
    **{"model": {"n_layer": 2}, "adapter": None, "precision": "fp32", "training rows": "1", "validation rows": "1"},
}


def _make_checkpoint(folder: Path) -> None:
    from transformers import TrainerState

    from hf_gpt_scratch.training.resuming import TrainedOn

    (folder / "checkpoint-5").mkdir()
    state = TrainerState(global_step=5, max_steps=10, epoch=0.5, log_history=[{"loss": 1.0, "step": 5, "epoch": 0.5}])
    state.stateful_callbacks = {"TrainedOn": TrainedOn(RECORD).state()}
    state.save_to_json(str(folder / "checkpoint-5/trainer_state.json"))


def _read_checkpoint(folder: Path) -> None:
    """As a run does that goes on: the newest by itself, the newest by name, and that one."""
    from types import SimpleNamespace

    from hf_gpt_scratch.training import resuming

    for wanted in (None, "true", str(folder / "checkpoint-5")):
        args = SimpleNamespace(resume_from_checkpoint=wanted, output_dir=str(folder), load_best_model_at_end=True)
        resuming.recorded_precision(args)
        if checkpoint := resuming.resume_checkpoint(args):
            resuming.require_same(checkpoint, RECORD, wanted is not None)


# --- results


def _make_card(folder: Path) -> None:
    from hf_gpt_scratch.utils.result_card import Metric, ResultCard

    metrics = {"f1": Metric(0.9, [0.8, 0.95]), "log_loss": Metric(0.2, None, False)}
    ResultCard(
        task="SMS spam classification",
        protocol="A split of 70, 10 and 20 %.",
        data=[{"source": "x.tsv", "sha256": "0" * 64}],
        metrics=metrics,
        baselines={"TF-IDF": metrics},
        seeds=[1],
        command="hf-gpt-scratch train spam",
        environment={"python": "3.11", "versions": {"torch": "2"}, "hardware": {"cpu": "x", "cores": 2}},
        predictions="predictions.csv",
    ).write(folder / "run", "spam")


def _read_card(folder: Path) -> None:
    from hf_gpt_scratch.evaluation import report
    from hf_gpt_scratch.training.configs import require_free
    from hf_gpt_scratch.utils.errors import InputError

    with suppress(InputError):  # it holds a run
        require_free(folder / "run", False, None)
    report.report_text(report.read_groups([folder / "run"]), [""])


RESPONSES = [
    {**row, "model_response": f"Red {n}.", "history": TURNS if n % 3 == 0 else []} for n, row in enumerate(ALPACA)
]
OTHERS = [{**row, "model_response": "Blue."} for row in RESPONSES]


def _make_pairs(folder: Path) -> None:
    _write("a.json", RESPONSES)(folder)
    _write("b.json", OTHERS)(folder)
    from hf_gpt_scratch.evaluation.preference import load_pairs

    pairs = load_pairs(folder / "a.json", folder / "b.json")
    items = [
        {"instruction": one.instruction, "input": one.input, "model_response_a": one.a, "model_response_b": one.b}
        for one in pairs
    ]
    judged = [{**item, "winner": winner} for item, winner in zip(items, ["A", "B", "tie", None] * 9)]
    _write("judge.json", {"items": judged, "n_unparsed": 0, "judge": {"model": "x"}, "task": "pairs"})(folder)


def _read_pairs(folder: Path) -> None:
    from hf_gpt_scratch.evaluation.responses import read_pairs, read_responses

    read_responses(folder / "a.json")
    read_pairs(folder / "a.json", folder / "b.json")


def _read_verdicts(folder: Path) -> None:
    from hf_gpt_scratch.evaluation import preference
    from hf_gpt_scratch.evaluation.judge.scoring import check_output

    pairs = preference.load_pairs(folder / "a.json", folder / "b.json")
    preference.load_verdicts(folder / "judge.json", pairs)
    check_output([folder / "a.json"], str(folder / "judge.json"))


def _make_votes(folder: Path) -> None:
    from hf_gpt_scratch.evaluation.preference import Votes

    _make_pairs(folder)
    votes = Votes.open_or_create(folder / "votes.sqlite", folder / "a.json", folder / "b.json", len(RESPONSES))
    for item, choice in enumerate(("left", "right", "tie")):
        votes.vote("ann", item, choice)


def _read_votes(folder: Path) -> None:
    from hf_gpt_scratch.evaluation import preference

    votes = preference.Votes.open_or_create(
        folder / "votes.sqlite", folder / "a.json", folder / "b.json", len(RESPONSES)
    )
    votes.next_item("ann")
    votes.vote("bob", votes.next_item("bob"), "left")
    preference.statistics(votes.all())
    preference.judge_statistics(votes.all(), {0: "A", 1: "tie"})


def _read_journal(folder: Path) -> None:
    from hf_gpt_scratch.evaluation.judge import scoring

    scoring._read_journal(folder / "judge.x.partial.jsonl")


JOURNAL = "".join(
    json.dumps({"key": str(n), "text": "Score: 7", "value": 7.0, "details": {"n": n}}) + "\n" for n in range(6)
)


READERS: dict[str, Reader] = {
    "SMS file": Reader("messages.tsv", _make_messages, _read_messages),
    **{
        f"labelled texts, {kind}": Reader(
            f"tickets.{kind}",
            partial(_make_tickets, kind),
            partial(_read_tickets, f"tickets.{kind}"),
            kind,
        )
        for kind in ("csv", "json", "jsonl", "parquet")
    },
    "labelled texts, folder": Reader("train.csv", partial(_make_tickets, "folder"), partial(_read_tickets, ""), "csv"),
    "instructions, Alpaca": Reader(
        "alpaca.json", _write("alpaca.json", ALPACA), partial(_read_conversations, "alpaca.json"), "json"
    ),
    "instructions, messages": Reader(
        "chat.jsonl", _write("chat.jsonl", MESSAGES), partial(_read_conversations, "chat.jsonl"), "jsonl"
    ),
    "preferences": Reader("pairs.jsonl", _write("pairs.jsonl", PREFERENCES), _read_preferences, "jsonl"),
    "FAQ": Reader(
        "faq.jsonl",
        _make_faq,
        partial(_read_faq, "faq.jsonl"),
        "jsonl",
    ),
    "plain text": Reader("story.txt", _make_story, _read_plain_text),
    "config of a job": Reader("mine.yaml", _make_config, _read_config, "yaml"),
    "trainer_state.json": Reader("checkpoint-5/trainer_state.json", _make_checkpoint, _read_checkpoint, "json"),
    "result card": Reader("run/results/spam.json", _make_card, _read_card, "json"),
    "responses": Reader("a.json", _make_pairs, _read_pairs, "json"),
    "judge.json": Reader("judge.json", _make_pairs, _read_verdicts, "json"),
    "judge's answers": Reader(
        "judge.x.partial.jsonl", _write("judge.x.partial.jsonl", JOURNAL), _read_journal, "jsonl"
    ),
    "votes.sqlite": Reader("votes.sqlite", _make_votes, _read_votes, "sqlite"),
}
