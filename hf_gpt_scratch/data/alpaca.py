"""
Instruction data in Alpaca's format (Taori et al. 2023): `instruction`, `input` (perhaps empty) and `output`.

The default set is that of "Build a Large Language Model (From Scratch)", chapter 7, of 1,100 rows. It holds 25
pairs of instruction and input twice, so that the usual split in file order tests on pairs seen in training: `split`
keeps such copies together.
"""

import hashlib
import json
import os
import random
import re
from collections import defaultdict
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

from datasets import Dataset, DatasetDict
from transformers import PreTrainedTokenizerBase

from ..prompts import render_prompt
from ..utils.errors import InputError, UsageError, one_line
from ..utils.provenance import sha256
from ..utils.special_tokens import text_ids
from ..utils.text import has_lone_surrogates
from .download import download, rows_from_hub
from .packing import IGNORED

URL = "https://raw.githubusercontent.com/rasbt/LLMs-from-scratch/main/ch07/01_main-chapter-code/instruction-data.json"
SHA256 = "7e09a9af353722ca15c18bc580f093f9c39d3178335a75177319cb1e1d163944"
FIELDS = ("instruction", "input", "output")
PARTS = {"train": 0.85, "validation": 0.05, "test": 0.10}


@dataclass(frozen=True)
class Instructions:
    """
    Rows of the three `FIELDS`, their source, and the SHA-256 of the file, or of a Hub set's rows as JSON lines.
    `dropped` rows of a Hub set had an empty instruction or output.
    """

    rows: list[dict[str, str]]
    source: str
    sha256: str
    dropped: int = 0


def load_instructions(data_file: str | os.PathLike | None = None, dataset_name: str | None = None) -> Instructions:
    """
    The rows of `data_file` (a JSON list of objects, or an object a line), of the Hub data set `dataset_name`
    (`tatsu-lab/alpaca`, `yahma/alpaca-cleaned`, or another with these fields), or else of the book's set, downloaded.

    Raises:
        InputError: when the data is missing, damaged or malformed, naming the row. Rows of a Hub set without an
            instruction or an output, of which Alpaca has some, are omitted and counted.
    """
    if data_file and dataset_name:
        raise UsageError("Give --data_file or --dataset_name, not both.")
    if dataset_name:
        return _from_hub(dataset_name)
    if not data_file:
        return _downloaded()
    path = Path(data_file)
    if not path.is_file():
        raise InputError(f"The data file {path} does not exist.")
    try:
        return Instructions(parse_instructions(path.read_text("utf-8-sig"), str(path)), str(path), sha256(path))
    except UnicodeDecodeError as error:
        raise InputError(f"{path} is not UTF-8 text ({error}).") from None


def parse_instructions(content: str, source: str) -> list[dict[str, str]]:
    """
    Reads a JSON list of objects, or JSON lines.

    Raises:
        InputError: naming the first row (from 1 on) that is not an object, lacks a field or has an empty one.
    """
    if content.lstrip().startswith("{"):
        numbered = ((number, line) for number, line in enumerate(content.split("\n"), start=1) if line.strip())
        rows = [
            _parse(line, lambda _, number=number: f"{source}, line {number}: not a JSON object.")
            for number, line in numbered
        ]
    else:
        rows = _parse(
            content,
            lambda error: (
                f"{source} is not valid JSON ({one_line(error)}); expected a list of objects with"
                " instruction, input and output."
            ),
        )
    if not isinstance(rows, list):
        raise InputError(f"{source} must be a list of objects with {', '.join(FIELDS)}, not a {type(rows).__name__}.")
    if not rows:
        raise InputError(f"{source} has no rows.")
    for number, row in enumerate(rows, start=1):
        problem = _problem_of(row)
        if problem:
            raise InputError(f"{source}, row {number}: {problem}.")
    return [_three_fields(row) for row in rows]


def normalize(row: Mapping[str, str]) -> tuple[str, str]:
    """What copies of an (instruction, input) pair share: words in lower case, without punctuation."""
    return tuple(re.sub(r"[\W_]+", " ", row[key].lower()).strip() or row[key] for key in ("instruction", "input"))


def split(rows: list[dict[str, str]], seed: int) -> DatasetDict:
    """
    Train, validation and test sets of 85, 5 and 10 %, such that copies of an (instruction, input) pair are in one set.

    Raises:
        InputError: when there are too few different pairs for three sets. A pair with more copies than a set has room
            for stays in train.
    """
    copies = defaultdict(list)
    for number, row in enumerate(rows):
        copies[normalize(row)].append(number)
    groups = list(copies.values())
    if len(groups) < 20:
        raise InputError(
            f"A split of 85, 5 and 10 % needs at least 20 different instructions, and there are {len(groups)}; add"
            " more."
        )
    random.Random(seed).shuffle(groups)
    numbers = {}
    for name in ("test", "validation"):
        wanted, numbers[name], left = round(PARTS[name] * len(rows)), [], []
        for group in groups:
            part = numbers[name] if len(numbers[name]) + len(group) <= wanted else left
            part += group if part is not left else [group]
        if not numbers[name]:
            raise InputError(
                f"The {name} part is empty, since too many rows have the same instruction and input; add other ones."
            )
        groups = left
    numbers["train"] = [number for group in groups for number in group]
    return DatasetDict({name: Dataset.from_list([rows[i] for i in sorted(numbers[name])]) for name in PARTS})


def leaked_pairs(splits: DatasetDict) -> int:
    """How many validation and test rows have a copy of their (instruction, input) pair in the training set."""
    seen = {normalize(row) for row in splits["train"]}
    return sum(normalize(row) in seen for name in ("validation", "test") for row in splits[name])


def encode_prompt(
    tokenizer: PreTrainedTokenizerBase, row: Mapping[str, str], max_length: int
) -> tuple[list[int], bool]:
    """
    The prompt's tokens, the same in training and in generation, and whether it was cut: to three quarters of
    `max_length`, so that an answer has room, on the left of the input. The instruction and the header stay.

    Raises:
        InputError: when even without its input the prompt is longer.
    """
    limit = max_length - max_length // 4
    text = row["input"]
    ids = _prompt_tokens(tokenizer, row["instruction"], text)
    while len(ids) > limit and text:
        starts = tokenizer(text, return_offsets_mapping=True, add_special_tokens=False, verbose=False)
        offsets = [start for start, _ in starts["offset_mapping"][len(ids) - limit :] if start > 0]
        text = text[offsets[0] :].lstrip() if offsets else ""
        ids = _prompt_tokens(tokenizer, row["instruction"], text)
    if len(ids) > limit:
        raise InputError(
            f"The prompt of {row['instruction'][:60]!r} takes {len(ids)} tokens, and at most {limit} of the"
            f" {max_length} tokens of a row may be prompt, to leave room for the answer."
        )
    return ids, text != row["input"]


def is_too_long(tokenizer: PreTrainedTokenizerBase, instruction: str, max_length: int) -> bool:
    """Whether `encode_prompt` refuses a row of this instruction, whatever its input."""
    return len(_prompt_tokens(tokenizer, instruction)) > max_length - max_length // 4


def encode(
    row: Mapping[str, str], tokenizer: PreTrainedTokenizerBase, max_length: int, mask_prompt: bool = False
) -> dict:
    """
    A row as tokens to learn: prompt, output, EOS token. Prompt and output are encoded apart, so that training meets
    the very tokens that generation starts from.

    Returns:
        `input_ids` and `labels` of at most `max_length`; `prompt_length`; `cut_prompt` and `cut_response`, whether
        either was too long. A response that was cut has no EOS token. The first label is ignored, as nothing stands
        before it, and with `mask_prompt` are those of the whole prompt; that of the EOS token never is.
    """
    prompt, cut_prompt = encode_prompt(tokenizer, row, max_length)
    response = [*_tokens(tokenizer, row["output"]), tokenizer.eos_token_id]
    ids = (prompt + response)[:max_length]
    ignored = len(prompt) if mask_prompt else 1
    return {
        "input_ids": ids,
        "labels": [IGNORED] * ignored + ids[ignored:],
        "prompt_length": len(prompt),
        "cut_prompt": cut_prompt,
        "cut_response": len(prompt) + len(response) > max_length,
    }


def _prompt_tokens(tokenizer: PreTrainedTokenizerBase, instruction: str, input: str = "") -> list[int]:
    return text_ids(tokenizer, render_prompt(instruction, input), split_special_tokens=True)


def _tokens(tokenizer: PreTrainedTokenizerBase, text: str) -> list[int]:
    # Special tokens spelled out in the data stay text: an EOS token in the middle would end the document.
    return tokenizer(text, add_special_tokens=False, split_special_tokens=True, verbose=False)["input_ids"]


def _problem_of(row) -> str | None:
    if not isinstance(row, dict):
        return f"expected an object with {', '.join(FIELDS)}, not a {type(row).__name__}"
    for name in FIELDS:
        if name not in row:
            return f"it has no field {name!r}" + (" (it may be empty, but must be there)" if name == "input" else "")
        if not isinstance(row[name], str) and not (name == "input" and row[name] is None):
            return f"its {name} must be text, not a {type(row[name]).__name__}"
        if has_lone_surrogates(row[name] or ""):
            return f"its {name} holds half a character (a lone surrogate)"
        if name != "input" and not row[name].strip():
            return f"its {name} is empty"
    return None


def _three_fields(row: Mapping) -> dict[str, str]:
    return {name: row[name] or "" for name in FIELDS}


def _parse(text: str, complaint: Callable[[Exception], str]):
    try:
        return json.loads(text)
    except (ValueError, RecursionError) as error:
        raise InputError(complaint(error)) from None


def _downloaded() -> Instructions:
    content = download(URL, SHA256).read_text("utf-8")
    return Instructions(parse_instructions(content, URL), URL, SHA256)


def _from_hub(name: str) -> Instructions:
    table = rows_from_hub(name)
    if not set(FIELDS) <= set(table.column_names):
        raise InputError(
            f"The data set {name} has the columns {', '.join(table.column_names)}, not {', '.join(FIELDS)}; choose"
            " another."
        )
    rows = [_three_fields(row) for row in table if _problem_of(row) is None]
    if not rows:
        raise InputError(f"The data set {name} has no row with an instruction and an output.")
    digest = hashlib.sha256("".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows).encode()).hexdigest()
    return Instructions(rows, name, digest, dropped=len(table) - len(rows))


def encode_splits(splits: DatasetDict, tokenizer: PreTrainedTokenizerBase, max_length: int, mask_prompt: bool):
    """The splits as tokens, and how many prompts and responses of each had to be cut."""
    encoded = splits.map(lambda row: encode(row, tokenizer, max_length, mask_prompt), desc="Tokenizing")
    cut = {
        name: {"prompts": sum(rows["cut_prompt"]), "responses": sum(rows["cut_response"])}
        for name, rows in encoded.items()
    }
    return encoded, cut
