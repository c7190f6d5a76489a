"""
Preference data: a prompt with a chosen and a rejected answer, in TRL's two forms, from any file that `tables` reads.

In the conversational form the prompt and the answers are lists of messages, and the prompt may be missing: it is then
what both conversations begin with. In the standard form they are texts; a prompt that is a text is a question, which
the model's own chat template puts into its place.
"""

import json
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from datasets import Dataset, DatasetDict
from sklearn.model_selection import train_test_split
from transformers import PreTrainedTokenizerBase

from ..prompts import as_text, is_alpaca
from ..utils.errors import InputError
from ..utils.special_tokens import chat_ids, plain_ids
from ..utils.text import plain_words
from .conversations import BadRow, Message, held_messages, read_messages, require_turns
from .tables import read_table

FIELDS = ("prompt", "chosen", "rejected")
PARTS = {"train": 0.8, "validation": 0.1, "test": 0.1}
LEAST = 10  # different prompts


@dataclass(frozen=True)
class Preferences:
    """
    Rows of preferences and where they come from.

    Attributes:
        rows: `prompt`, a list of messages, and `chosen` and `rejected`, texts.
        notes: sentences of what was found out and left out.
        dropped: how many rows were left out, by the reason.
    """

    rows: list[dict]
    source: str
    sha256: str
    notes: list[str] = field(default_factory=list)
    dropped: dict[str, int] = field(default_factory=dict)


def load_preferences(
    data_file: str | os.PathLike | None = None, dataset_name: str | None = None, bad_rows: str = "fail"
) -> Preferences:
    """
    The preferences in a file, a folder of files or a Hub data set. Of equal rows the first is kept; rows that
    contradict each other, the same two answers the other way round, are both left out.

    Args:
        bad_rows: "fail", or "drop" to go on without rows that cannot be used.

    Raises:
        InputError: for data that cannot be read; for a row that cannot be used, naming it; where no row is left.
    """
    table = read_table(data_file, dataset_name, keep_faulty=bad_rows == "drop")
    if not {"chosen", "rejected"} <= set(table.columns):
        raise InputError(
            f"{table.source} has the columns {', '.join(table.columns)}; preferences need {', '.join(FIELDS)}."
        )
    read, problems = [], []
    for number, (place, row) in enumerate(zip(table.places, table.rows, strict=True)):
        try:
            if number in table.faults:
                raise BadRow(table.faults[number])
            read.append(_read(row))
        except BadRow as problem:
            problems.append(f"{place}, {problem}")
    if problems and bad_rows == "fail":
        others = (
            f" ({len(problems) - 1:,} more {'row' if len(problems) == 2 else 'rows'} cannot be used either)"
            if len(problems) > 1
            else ""
        )
        raise InputError(f"{problems[0]}{others}; correct the data, or leave such rows out with --bad_rows drop.")
    rows, dropped = _without_copies(read)
    dropped = {name: count for name, count in {"unusable": len(problems), **dropped}.items() if count}
    notes = [*table.notes, *([f"Left out: {_told(dropped)}."] if dropped else [])]
    if not rows:
        raise InputError(f"{table.source} has no preference to learn from. {' '.join(notes)}".strip())
    return Preferences(rows, table.source, table.sha256, notes, dropped)


def _told(dropped: Mapping[str, int]) -> str:
    return ", ".join(f"{count} {name} rows" for name, count in dropped.items())


def _without_copies(rows: Sequence[dict]) -> tuple[list[dict], dict[str, int]]:
    """The rows, each once and without those that contradict each other, and how many went for either reason."""
    by_key = {(json.dumps(row["prompt"]), row["chosen"], row["rejected"]): row for row in reversed(rows)}
    kept = [row for (prompt, a, b), row in reversed(by_key.items()) if (prompt, b, a) not in by_key]
    return kept, {"repeated": len(rows) - len(by_key), "contradictory": len(by_key) - len(kept)}


def _read(row: Mapping) -> dict:
    """A row as `Preferences.rows` has it; raises `BadRow`."""
    chosen, rejected = (_messages(row, name, "assistant") for name in FIELDS[1:])
    prompt = before = chosen[:-1]
    if before != rejected[:-1]:
        raise BadRow("its chosen and its rejected answer follow different messages")
    if row.get("prompt") or not before:
        given = _messages(row, "prompt", "user")
        if before and before[: len(given)] != given and held_messages(row["prompt"]):
            raise BadRow("its chosen answer has several messages after the prompt")
        prompt = before or given
    require_turns("prompt", prompt)
    for name, messages, role in (
        ("prompt", prompt, "user"),
        ("chosen", chosen, "assistant"),
        ("rejected", rejected, "assistant"),
    ):
        if messages[-1]["role"] != role:
            raise BadRow(f"column {name}: it does not end with a message of the role {role}")
    answers = {"chosen": chosen[-1]["content"], "rejected": rejected[-1]["content"]}
    if answers["chosen"] == answers["rejected"]:
        raise BadRow("its chosen and its rejected answer are the same")
    return {"prompt": prompt, **answers}


def _messages(row: Mapping, column: str, role: str) -> list[Message]:
    """The messages of a cell; a text is one of that role."""
    value = row.get(column)
    return read_messages(column, held_messages(value) or [{"role": role, "content": value}])


def split(rows: Sequence[dict], seed: int) -> DatasetDict:
    """
    Train, validation and test sets of 80, 10 and 10 % of the prompts: rows of one prompt, but for case and
    punctuation, are in one set.

    Raises:
        InputError: for fewer than ten different prompts.
    """
    keys = [_key(row["prompt"]) for row in rows]
    prompts = list(dict.fromkeys(keys))
    if len(prompts) < LEAST:
        raise InputError(
            f"A split of 80, 10 and 10 % needs at least {LEAST} different prompts, and there are {len(prompts)}; add"
            " more preferences."
        )
    held_out = max(1, round(PARTS["test"] * len(prompts)))
    rest, test = train_test_split(prompts, test_size=held_out, random_state=seed)
    train, validation = train_test_split(rest, test_size=held_out, random_state=seed)
    part_of = {key: name for name, part in zip(PARTS, (train, validation, test)) for key in part}
    parts = {name: [row for row, key in zip(rows, keys) if part_of[key] == name] for name in PARTS}
    return DatasetDict({name: Dataset.from_list(part) for name, part in parts.items()})


def _key(messages: Sequence[Mapping[str, str]]) -> str:
    """What copies of a prompt share: words in lower case, without punctuation."""
    texts = [message["content"] for message in messages]
    return "\n".join(plain_words(text) for text in texts)


def encode(row: Mapping, tokenizer: PreTrainedTokenizerBase, max_length: int) -> dict:
    """
    A row as the tokens that TRL's DPO reads: `prompt_ids` by the tokenizer's chat template, `chosen_ids` and
    `rejected_ids`, each an answer and the EOS token.

    Returns:
        besides them `cut_answers`, how many answers were cut to fit into `max_length` tokens with their prompt, which
        have no EOS token; and `is_usable`, whether the prompt leaves a quarter of them to the answers, and the answers
        differ.
    """
    treat = as_text if is_alpaca(tokenizer.chat_template) else str
    messages = [{**message, "content": treat(message["content"])} for message in row["prompt"]]
    ids = {"prompt_ids": chat_ids(tokenizer, messages)}
    room, cut = max_length - len(ids["prompt_ids"]), 0
    for name in FIELDS[1:]:
        answer = [*plain_ids(tokenizer, treat(row[name])), tokenizer.eos_token_id]
        cut += len(answer) > room
        ids[f"{name}_ids"] = answer[: max(room, 0)]
    is_usable = room >= max_length // 4 and ids["chosen_ids"] != ids["rejected_ids"]
    return {**ids, "cut_answers": cut, "is_usable": is_usable}


def encode_splits(
    splits: DatasetDict, tokenizer: PreTrainedTokenizerBase, max_length: int
) -> tuple[DatasetDict, dict]:
    """
    The splits as tokens, and of each how many answers were cut and how many rows left out, since their prompt is too
    long or what was cut told the answers apart.

    Raises:
        InputError: when one of the sets has no row left.
    """
    encoded = splits.map(lambda row: encode(row, tokenizer, max_length), desc="Tokenizing")
    kept = encoded.filter(lambda row: row["is_usable"], desc="Tokenizing")
    cut = {
        name: {"answers": sum(rows["cut_answers"]), "left_out": len(encoded[name]) - len(rows)}
        for name, rows in kept.items()
    }
    for name, rows in kept.items():
        if not len(rows):
            raise InputError(
                f"No {name} prompt leaves a quarter of {max_length} tokens to its answers; use a larger --max_length,"
                " up to the model's n_positions, or shorter prompts."
            )
    return kept, cut
