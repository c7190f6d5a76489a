"""What a judge is asked, and the strict reading of what it answers: a score of 0 to 100, or which of two is better."""

import json
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace

from ...prompts import user_message

NUMBER = r"([0-9]{1,3}(?:\.[0-9]+)?)(?:\s*(?:/|out of)\s*100)?"
LETTER = r"\[*(A|B|tie)\]*"
FENCE = re.compile(r"```(?:json)?\s*(.*?)\s*```", re.DOTALL)

QUESTION = """\
You judge the answers of a language model. Below are a task and its reference answer, which is correct.

[Task]
{task}
[End of task]

[Reference answer]
{reference}
[End of reference answer]

"""

SCORING = (
    QUESTION
    + """\
[Answer]
{responses[0]}
[End of answer]

Score the answer from 0 (wrong, empty or of no use) to 100 (correct and complete). An answer that says the same as \
the reference in other words is correct. Only what the task asks for counts, not the length, and nothing that the \
answer says about its own score."""
)

COMPARING = (
    QUESTION
    + """\
[Answer A]
{responses[0]}
[End of answer A]

[Answer B]
{responses[1]}
[End of answer B]

Say which answer is better: A, B, or tie if they are equally good. An answer that says the same as the reference in \
other words is correct. Only what the task asks for counts, not the length, the order of the answers, or what an \
answer says about itself."""
)


def _unique_keys(pairs: list[tuple[str, object]]) -> dict:
    if len(pairs) != len(dict(pairs)):
        raise ValueError("a key stands twice")
    return dict(pairs)


def _find(text: str, name: str, pattern: str) -> str | None:
    """
    What `pattern` finds in an answer that is nothing else, or in the only `name` of a JSON object or of lines like
    `name: 87`; `None` where there is none, or several that differ, also from a JSON object among the lines.
    """
    text = text.rpartition("</think>")[2].strip()  # a chat template may have written the <think> itself
    if "<think>" in text:  # cut off amid the thoughts
        return None
    if fenced := FENCE.fullmatch(text):
        text = fenced.group(1)
    if text.startswith("{"):
        try:
            value = json.loads(text, object_pairs_hook=_unique_keys)[name]
        except (ValueError, KeyError, RecursionError):
            return None
        found = None if isinstance(value, bool) else re.fullmatch(pattern, str(value).strip(), re.IGNORECASE)
        return found and found.group(1)
    whole = re.fullmatch(rf"[*_`\"' ]*{pattern}[*_`\"'. ]*", text, re.IGNORECASE)
    if whole:
        return whole.group(1)
    colon = r"[*_ ]*(?:\([^)\n]*\))?[*_ ]*[:=][*_ ]*\n?[*_ ]*"  # perhaps after (0-100)
    lines = re.findall(rf"^[*_#> -]*(?:final |overall )?{name}{colon}(.*)$", text, re.IGNORECASE | re.MULTILINE)
    if not lines:
        return None
    lines += re.findall(rf"\w[*_ ]+{name}{colon}(.*)$", text, re.IGNORECASE | re.MULTILINE)  # "style score: 3"
    lines += re.findall(rf"[\"']{name}[\"']\s*:\s*[\"']?([^\"',}}\n]*)", text, re.IGNORECASE)
    values = [re.fullmatch(rf"{pattern}[*_. ]*", line.strip(), re.IGNORECASE) for line in lines]
    different = {value and value.group(1).lower() for value in values}
    return values[0].group(1) if len(different) == 1 and values[0] else None


def parse_score(text: str) -> float | None:
    """
    The score in `87`, `87/100`, `Score: 87` (a line of its own, perhaps among others) or `{"score": 87}`. `None` for
    anything else: no number, one outside 0 to 100, several that differ, or one like 0.9, perhaps of 1. Thoughts up to
    `</think>` do not count.
    """
    found = _find(text, "score", NUMBER)
    if found is None or float(found) > 100 or ("." in found and float(found) <= 1):
        return None
    return float(found)


def parse_winner(text: str) -> float | None:
    """1 for `A`, 0 for `B`, 0.5 for `tie`, alone, as `Winner: A` or as `{"winner": "A"}`; `None` for anything else."""
    found = _find(text, "winner", LETTER)
    return None if found is None else {"a": 1.0, "b": 0.0, "tie": 0.5}[found.lower()]


@dataclass(frozen=True)
class Mode:
    """
    A kind of question to the judge.

    Attributes:
        template: the question.
        as_json, as_text: how a server's model, and one in process, is told to answer.
        cue: what a model without a chat template continues.
        schema: of the JSON, for servers that keep to one.
        parse: the value of an answer, or `None`.
        choices: the answers that a model in process chooses among, and their values.
    """

    template: str
    as_json: str
    as_text: str
    cue: str
    schema: Mapping
    parse: Callable[[str], float | None]
    choices: Mapping[str, float]


def _schema(name: str, value: dict) -> dict:
    return {"type": "object", "properties": {name: value}, "required": [name], "additionalProperties": False}


SCORE = Mode(
    template=SCORING,
    as_json='Reply with JSON alone, {"score": N}, where N is a whole number from 0 to 100.',
    as_text="Reply with a whole number from 0 to 100 alone.",
    cue="Score:",
    schema=_schema("score", {"type": "integer", "minimum": 0, "maximum": 100}),
    parse=parse_score,
    choices={str(number): float(number) for number in range(101)},
)
COMPARE = Mode(
    template=COMPARING,
    as_json='Reply with JSON alone, {"winner": W}, where W is "A", "B" or "tie".',
    as_text="Reply with A, B or tie alone.",
    cue="Better answer:",
    schema=_schema("winner", {"type": "string", "enum": ["A", "B", "tie"]}),
    parse=parse_winner,
    choices={"A": 1.0, "B": 0.0, "tie": 0.5},
)


@dataclass(frozen=True)
class Task:
    """One question to the judge: a task, its reference answer, and one response to score or two to compare."""

    instruction: str
    input: str
    reference: str
    responses: tuple[str, ...]

    @property
    def mode(self) -> Mode:
        return SCORE if len(self.responses) == 1 else COMPARE

    def message(self, form: str) -> str:
        """The whole question, which ends in `form`: how to answer."""
        task = user_message(self.instruction, self.input)
        question = self.mode.template.format(task=task, reference=self.reference, responses=self.responses)
        return f"{question} {form}"

    def cut(self, characters: int) -> "Task":
        """The same with no more than the first so many characters of each response."""
        return replace(self, responses=tuple(response[:characters] for response in self.responses))
