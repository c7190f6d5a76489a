"""
Questions and answers, in whatever shape they come, as conversations: lists of messages with a `role` and a `content`.

A row of Alpaca, of a prompt and its completion, or of a question and its answer is a conversation of one question;
`messages` (OpenAI) and `conversations` (ShareGPT) hold several turns. `data.turns` makes tokens of them.
"""

import json
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace

from ..prompts import user_message
from ..utils.errors import InputError, UsageError
from ..utils.text import has_lone_surrogates
from . import alpaca
from .tables import Table, read_table

# The columns of a question and its answer, by the name of the shape; the first that a table has counts.
SINGLE = {
    "Alpaca": ("instruction", "output"),
    "Dolly": ("instruction", "response"),
    "prompt and completion": ("prompt", "completion"),
    "prompt and response": ("prompt", "response"),
    "question and answer": ("question", "answer"),
}
# Those that hold whole conversations.
SEVERAL = {"messages": "OpenAI's messages", "conversations": "ShareGPT's conversations"}
INPUTS, SYSTEMS = ("input", "context"), ("system", "system_prompt")
ROLES = {
    **{"system": "system", "developer": "system", "user": "user", "human": "user"},
    **{"assistant": "assistant", "gpt": "assistant", "model": "assistant", "chatgpt": "assistant", "bot": "assistant"},
}
TOOL_ROLES = ("tool", "function", "function_call", "tool_call", "tool_response", "observation", "ipython")

Message = dict[str, str]


@dataclass(frozen=True)
class Conversations:
    """
    Rows `{"messages": [...]}`, each perhaps a system message, then questions (`user`) and answers (`assistant`) in
    turn, an answer last.

    Attributes:
        shape: what the rows were, such as "Alpaca: instruction, input, output".
        source, sha256: of the table.
        dropped: rows that were bad and left out.
        notes: sentences of what was found out about the file.
    """

    rows: list[dict[str, list[Message]]]
    shape: str
    source: str
    sha256: str
    dropped: int = 0
    notes: list[str] = field(default_factory=list)


class BadRow(Exception):
    """What is wrong, behind the name of its column."""


def load_conversations(
    data_file: str | os.PathLike | None = None, dataset_name: str | None = None, bad_rows: str = "fail"
) -> Conversations:
    """
    The conversations of `data_file` or of the Hub data set `dataset_name`, as `tables.read_table` reads them, or else
    those of the book's set (`data.alpaca`), which is downloaded.

    Args:
        bad_rows: "fail", or "drop" to leave bad rows out and count them.

    Raises:
        InputError: when the columns are of no known shape, or naming the first bad row (no question or no answer,
            roles out of order or unknown, a tool call) with its column.
    """
    if data_file and dataset_name:
        raise UsageError("Give --data_file or --dataset_name, not both.")
    if not data_file and not dataset_name:
        from .download import download

        return conversations_of(replace(read_table(download(alpaca.URL, alpaca.SHA256)), source=alpaca.URL))
    return conversations_of(read_table(data_file, dataset_name, keep_faulty=bad_rows == "drop"), bad_rows)


def conversations_of(table: Table, bad_rows: str = "fail") -> Conversations:
    """The conversations of a table; arguments and errors are those of `load_conversations`."""
    columns, shape = find_columns(table)
    rows, problems = [], []
    for number, (place, row) in enumerate(zip(table.places, table.rows, strict=True)):
        try:
            if number in table.faults:
                raise BadRow(table.faults[number])
            rows.append({"messages": _messages(row, columns)})
        except BadRow as problem:
            problems.append(f"{place}, {problem}")
    if problems and (bad_rows == "fail" or not rows):
        more = f" ({len(problems) - 1:,} more {'row is' if len(problems) == 2 else 'rows are'} bad)"
        more = more if len(problems) > 1 else ""
        advice = "correct it, or leave bad rows out with --bad_rows drop" if rows else "correct the rows"
        raise InputError(f"{problems[0]}{more}; {advice}.")
    if not rows:
        raise InputError(f"{table.source} has no rows.")
    return Conversations(rows, shape, table.source, table.sha256, len(problems), list(table.notes))


def find_columns(table: Table) -> tuple[dict[str, str | None], str]:
    """
    The columns that hold what (`several`, or `question`, `answer`, `input`; and `system`), and the shape's name;
    raises `InputError` where they are of no known shape.
    """
    named = {name.strip().lower(): name for name in reversed(table.columns)}

    def first(names: Sequence[str]) -> str | None:
        return next((named[name] for name in names if name in named), None)

    system = first(SYSTEMS)
    for name, shape in SEVERAL.items():
        if name in named:
            return {"several": named[name], "system": system}, shape
    for shape, (question, answer) in SINGLE.items():
        if question in named and answer in named:
            columns = {"question": named[question], "answer": named[answer], "input": first(INPUTS), "system": system}
            found = [columns[key] for key in ("system", "question", "input", "answer") if columns[key]]
            return columns, f"{shape}: {', '.join(found)}"
    pairs = ", ".join(f"{question} and {answer}" for question, answer in SINGLE.values())
    raise InputError(
        f"{table.source} has the columns {', '.join(table.columns)}, and none of them are known to hold questions and"
        f" answers; name them {pairs}, or give {' or '.join(SEVERAL)}."
    )


def _messages(row: Mapping, columns: Mapping[str, str | None]) -> list[Message]:
    """The messages of a row; raises `BadRow`."""
    system = _optional(row, columns["system"])
    if "several" in columns:
        column = columns["several"]
        return _checked(column, _listed(column, row.get(column)), system)
    question, answer = row.get(columns["question"]), row.get(columns["answer"])
    asked, answered = held_messages(question), held_messages(answer)
    if asked or answered:  # TRL's conversational prompt and completion
        asked = asked or [{"role": "user", "content": question}]
        answered = answered or [{"role": "assistant", "content": answer}]
        return _checked(columns["question"], [*asked, *answered], system)
    asked = user_message(_text(columns["question"], question), _optional(row, columns["input"]))
    messages = [{"role": "user", "content": asked}]
    messages.append({"role": "assistant", "content": _text(columns["answer"], answer)})
    return [{"role": "system", "content": system}, *messages] if system else messages


def _optional(row: Mapping, column: str | None) -> str:
    """The text of a column that may be missing or empty."""
    value = row.get(column) if column else None
    return "" if value is None or (isinstance(value, str) and not value.strip()) else _text(column, value)


def _text(column: str, value, what: str = "it") -> str:
    """A text that is there, or the joined parts of one; raises `BadRow`."""
    if isinstance(value, (list, tuple)) or hasattr(value, "tolist"):
        value = "\n".join(_part(column, part, what) for part in value)
    if value is None:
        raise BadRow(f"column {column}: {what} is empty")
    if not isinstance(value, str):
        raise BadRow(f"column {column}: {what} must be text, not {_kind(value)}")
    if has_lone_surrogates(value):
        raise BadRow(f"column {column}: {what} holds half a character (a lone surrogate)")
    if not value.strip():
        raise BadRow(f"column {column}: {what} is empty")
    return value


def _part(column: str, part, what: str) -> str:
    """The text of a part of a message's content, as OpenAI's `{"type": "text", "text": ...}`."""
    if isinstance(part, Mapping) and part.get("type", "text") == "text" and isinstance(part.get("text"), str):
        return part["text"]
    if isinstance(part, str):
        return part
    kind = part.get("type") if isinstance(part, Mapping) else None
    raise BadRow(f"column {column}: {what} has a part that is not text ({kind or _kind(part)})")


def held_messages(value) -> list | None:
    """The messages in a cell, a list or its JSON as a CSV holds it; `None` where it holds another thing, as a text."""
    if isinstance(value, str) and value.lstrip().startswith("["):
        try:
            value = json.loads(value)
        except (ValueError, RecursionError):
            return None
    if not isinstance(value, (list, tuple)) or not value:
        return None
    return list(value) if all(isinstance(one, Mapping) and ("role" in one or "from" in one) for one in value) else None


def _listed(column: str, value) -> list:
    """The messages of a cell: a list, or its JSON as a CSV holds it."""
    if isinstance(value, str) and value.strip():
        try:
            value = json.loads(value)
        except (ValueError, RecursionError):
            raise BadRow(f"column {column}: it is not a list of messages as JSON") from None
    if hasattr(value, "tolist"):  # of Parquet
        value = value.tolist()
    if not isinstance(value, (list, tuple)) or not value:
        raise BadRow(f"column {column}: it holds no list of messages")
    return list(value)


def _checked(column: str, listed: list, system: str = "") -> list[Message]:
    """The messages of one conversation, in the one form; raises `BadRow`."""
    messages = read_messages(column, listed)
    if system and (not messages or messages[0]["role"] != "system"):
        messages.insert(0, {"role": "system", "content": system})
    require_turns(column, messages)
    if not messages or messages[-1]["role"] != "assistant":
        raise BadRow(f"column {column}: the conversation ends without an answer")
    return messages


def read_messages(column: str, listed: list) -> list[Message]:
    """Messages in the one form, without a first system message that is empty; raises `BadRow`."""
    first = listed[0]
    is_empty = isinstance(first, Mapping) and _role(first) in ("system", "developer") and _content(first) in ("", None)
    return [_message(column, number, one) for number, one in enumerate(listed, start=1) if number > is_empty]


def require_turns(column: str, messages: Sequence[Message]) -> None:
    """Raises `BadRow` unless questions and answers take turns, behind at most one system message."""
    first = bool(messages) and messages[0]["role"] == "system"
    for number, message in enumerate(messages[first:]):
        expected = ("user", "assistant")[number % 2]
        if message["role"] != expected:
            raise BadRow(
                f"column {column}: the roles are out of order (message {number + first + 1} is of the role"
                f" {message['role']}, where one of the role {expected} must be)"
            )


def _role(message: Mapping) -> str:
    return str(message.get("role", message.get("from")) or "").strip().lower()


def _content(message: Mapping):
    content = message.get("content", message.get("value"))
    return content.strip() if isinstance(content, str) else content


def _message(column: str, number: int, message) -> Message:
    """A message of OpenAI's or ShareGPT's kind in the one form, without white space around it; raises `BadRow`."""
    if not isinstance(message, Mapping):
        raise BadRow(f"column {column}: message {number} must be an object, not {_kind(message)}")
    role, known = message.get("role", message.get("from")), _role(message)
    if known in TOOL_ROLES or message.get("tool_calls") or message.get("function_call"):
        raise BadRow(f"column {column}: message {number} is a tool call or its result, which are not learned")
    if known not in ROLES:
        named = f"the role {role!r}" if role else "no role"
        raise BadRow(f"column {column}: message {number} has {named}; known are system, user and assistant")
    content = _text(column, _content(message), f"message {number} ({ROLES[known]})")
    return {"role": ROLES[known], "content": content.strip()}


def _kind(value) -> str:
    """What JSON calls a value."""
    kinds = {dict: "an object", list: "a list", str: "text", bool: "true or false", type(None): "nothing"}
    return kinds.get(type(value), "a number")
