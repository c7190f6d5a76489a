"""Files of responses, as instruction tuning writes them: reading, checking, and pairing two of them."""

import os
from collections import defaultdict

from ..prompts import user_message
from ..utils.errors import InputError, UsageError
from ..utils.files import read_json
from ..utils.text import has_lone_surrogates

QUESTION = ("instruction", "input")
REFERENCE = "output"
RESPONSE = "model_response"
HISTORY, MESSAGES = "history", "messages"


def _kind(value) -> str:
    """What JSON calls a value."""
    names = {dict: "an object", list: "a list", str: "text", bool: "true or false", type(None): "null"}
    return names.get(type(value), "a number")


def read_responses(path: str | os.PathLike, needs_reference: bool = True) -> list[dict[str, str]]:
    """
    The rows of a file of responses, each with the texts `instruction`, `input`, `model_response` and, where it is
    needed, the reference answer `output`. The `instruction` of a row with a `history`, the messages before it in its
    conversation, begins with these; `messages` are both as a chat has them.

    Raises:
        InputError: naming the first row (from 1 on) that lacks a field.
    """
    fields = (*QUESTION, *([REFERENCE] if needs_reference else []), RESPONSE)
    rows = read_json(path, whole_characters=False)
    if not isinstance(rows, list):
        raise InputError(
            f"{path} must be a list of objects with {', '.join(fields)}, not {_kind(rows)}; give the"
            " responses.json that `hf-gpt-scratch train instruct` writes."
        )
    if not rows:
        raise InputError(f"{path} holds no responses.")
    for number, row in enumerate(rows, start=1):
        if not isinstance(row, dict):
            raise InputError(f"{path}, row {number}: expected an object, not {_kind(row)}.")
        for name in fields:
            if name not in row:
                raise InputError(f"{path}, row {number}: it has no field {name!r}.")
            if not isinstance(row[name], str):
                raise InputError(f"{path}, row {number}: its {name} must be text, not {_kind(row[name])}.")
            if has_lone_surrogates(row[name]):
                raise InputError(
                    f"{path}, row {number}: its {name} holds half a character (a lone surrogate); correct it."
                )
    return [_with_history(row, f"{path}, row {number}") for number, row in enumerate(rows, start=1)]


def _with_history(row: dict, place: str) -> dict:
    if not row.get(HISTORY):
        return row
    try:
        before = [f"{one['role'].capitalize()}: {one['content']}" for one in row[HISTORY]]
        "".join(before).encode()
    except (TypeError, KeyError, AttributeError, UnicodeEncodeError):
        raise InputError(f"{place}: its {HISTORY} must be a list of messages with role and content.") from None
    messages = [*row[HISTORY], {"role": "user", "content": user_message(row["instruction"], row["input"])}]
    return {**row, "instruction": "\n\n".join([*before, f"User: {row['instruction']}"]), MESSAGES: messages}


def read_pairs(
    a_path: str | os.PathLike, b_path: str | os.PathLike, needs_reference: bool = True
) -> list[tuple[dict[str, str], dict[str, str]]]:
    """
    The rows of two files that answer the same questions, in the order of the first.

    Raises:
        InputError: as `read_responses`, or when one file has a question, or a reference, that the other has not.
        UsageError: when both are the same file.
    """
    if os.path.exists(a_path) and os.path.exists(b_path) and os.path.samefile(a_path, b_path):
        raise UsageError("Both files of responses are the same one; give those of two models.")
    a_rows, b_rows = (read_responses(path, needs_reference) for path in (a_path, b_path))
    if len(a_rows) != len(b_rows):
        raise InputError(
            f"{a_path} answers {len(a_rows)} questions and {b_path} {len(b_rows)}; compare them on the same ones."
        )
    same = (*QUESTION, *([REFERENCE] if needs_reference else []))
    waiting = defaultdict(list)
    for row in reversed(b_rows):
        waiting[tuple(row[name] for name in same)].append(row)
    pairs = []
    for number, row in enumerate(a_rows, start=1):
        rows = waiting[tuple(row[name] for name in same)]
        if not rows:
            raise InputError(
                f"{a_path} and {b_path} answer different questions: row {number} of the first is not in the second;"
                " compare two models on the same test set."
            )
        pairs.append((row, rows.pop()))
    return pairs
