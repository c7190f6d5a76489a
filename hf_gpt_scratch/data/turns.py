"""
Conversations of `data.conversations` as rows to train on: a split that does not leak, and tokens as a chat reads them.
"""

import random
from collections import defaultdict
from collections.abc import Hashable, Iterable, Iterator, Mapping, Sequence

from datasets import Dataset, DatasetDict
from transformers import PreTrainedTokenizerBase

from ..prompts import PREAMBLE, as_text, question_parts, render_turn, user_message
from ..utils.errors import InputError
from ..utils.special_tokens import plain_ids, text_ids
from ..utils.text import plain_words
from .conversations import Message
from .packing import IGNORED

PARTS = {"train": 0.85, "validation": 0.05, "test": 0.10}
# From this share of conversations with several questions on, a model is one that reads the history in a chat.
CONVERSATIONAL = 0.1

Row = Mapping[str, Sequence[Message]]


def system_of(row: Row) -> str:
    """The system message of a conversation, "" where it has none."""
    first = row["messages"][0]
    return first["content"] if first["role"] == "system" else ""


def exchanges(row: Row) -> list[tuple[str, str]]:
    """The questions of a conversation, each with its answer."""
    contents = [one["content"] for one in row["messages"] if one["role"] != "system"]
    return list(zip(contents[::2], contents[1::2], strict=True))


def texts(row: Row) -> Iterator[str]:
    """What a model reads and writes of a conversation, piece by piece: prompt, answer, the next prompt, and so on."""
    before = system_of(row) or PREAMBLE
    for question, answer in exchanges(row):
        yield render_turn(question, before)
        yield as_text(answer)
        before = ""


def questions(row: Row) -> list[dict]:
    """The questions of a conversation as `instruction`, `input` and `output`, and the messages before, if any."""
    found, before = [], [dict(one) for one in row["messages"] if one["role"] == "system"]
    for question, answer in exchanges(row):
        instruction, input = question_parts(question)
        history = {"history": list(before)} if before else {}
        found.append({"instruction": instruction, "input": input, "output": answer, **history})
        before += [{"role": "user", "content": question}, {"role": "assistant", "content": answer}]
    return found


def is_conversational(rows: Iterable[Row]) -> bool:
    """Whether a model of these rows has learned to read a question together with those before it."""
    several = [len(exchanges(row)) > 1 for row in rows]
    return sum(several) >= CONVERSATIONAL * len(several) > 0


def normalize(message: str) -> tuple[str, str]:
    """What copies of a question and its input share: words in lower case, without punctuation."""
    return tuple(plain_words(text) for text in question_parts(message))


def first_question(row: Row) -> tuple[str, str]:
    """The first question of a conversation, normalized: conversations that share it stay in one part of a split."""
    return normalize(exchanges(row)[0][0])


def split(rows: Sequence[Row], seed: int) -> DatasetDict:
    """Train, validation and test sets as `split_by` makes them, conversations of the same first question in one."""
    return split_by(rows, [first_question(row) for row in rows], seed)


def split_by(rows: Sequence[Mapping], keys: Sequence[Hashable], seed: int) -> DatasetDict:
    """
    Train, validation and test sets of 85, 5 and 10 %, such that rows of the same key are in one set.

    Raises:
        InputError: when there are too few different keys for three sets. Rows of a key that are more than a set has
            room for stay in train.
    """
    copies = defaultdict(list)
    for number, key in enumerate(keys):
        copies[key].append(number)
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


def leaked_pairs(splits: Mapping[str, Iterable[Row]]) -> int:
    """How many validation and test conversations have a copy of their first question in the training set."""
    seen = {first_question(row) for row in splits["train"]}
    return sum(first_question(row) in seen for name in ("validation", "test") for row in splits[name])


def repeated_exchanges(splits: Mapping[str, Iterable[Row]]) -> int:
    """How many later questions of validation and test conversations are in the training set with the same answer."""

    def normalized(row: Row) -> list[tuple]:
        return [(*normalize(question), normalize(answer)) for question, answer in exchanges(row)]

    seen = {pair for row in splits["train"] for pair in normalized(row)}
    return sum(pair in seen for name in ("validation", "test") for row in splits[name] for pair in normalized(row)[1:])


def encode_prompt(
    tokenizer: PreTrainedTokenizerBase, question: str, max_length: int, before: str = PREAMBLE
) -> tuple[list[int], bool]:
    """
    The tokens of a conversation's first prompt, the same in training and in a chat, and whether it was cut: to three
    quarters of `max_length`, so that an answer has room, on the left of the input. The instruction and the headings
    stay.

    Args:
        before: the system message.

    Raises:
        InputError: when even without its input the prompt is longer.
    """
    limit = longest_prompt(max_length)
    instruction, text = question_parts(question)
    ids, is_cut = _prompt_ids(tokenizer, question, before), False
    while len(ids) > limit and text:
        starts = _character_starts(tokenizer, text)[len(ids) - limit :]
        offsets = [start for start in starts if start > 0]
        text, is_cut = text[offsets[0] :].lstrip() if offsets else "", True
        ids = _prompt_ids(tokenizer, user_message(instruction, text), before)
    if len(ids) > limit:
        raise InputError(
            f"The prompt of {instruction[:60]!r} takes {len(ids)} tokens, and at most {limit} of the"
            f" {max_length} tokens of a row may be prompt, to leave room for the answer."
        )
    return ids, is_cut


def longest_prompt(max_length: int) -> int:
    """How many of a row's tokens may be prompt: a quarter is kept for the answer."""
    return max_length - max_length // 4


def is_too_long(tokenizer: PreTrainedTokenizerBase, row: Row, max_length: int) -> bool:
    """Whether `encode_prompt` refuses a conversation, whatever its input."""
    instruction, _ = question_parts(exchanges(row)[0][0])
    return len(_prompt_ids(tokenizer, instruction, system_of(row) or PREAMBLE)) > longest_prompt(max_length)


def encode(row: Row, tokenizer: PreTrainedTokenizerBase, max_length: int, mask_prompt: bool = False) -> dict:
    """
    A conversation as tokens to learn: prompt, answer, EOS token, the next prompt, and so on. Prompts and answers are
    encoded apart, so that training meets the very tokens that a chat reads.

    A conversation that is too long keeps its beginning: an exchange that does not fit as a whole is left out, with
    those after it. Of the first one, the input is cut on its left and the answer at its end.

    Returns:
        `input_ids` and `labels` of at most `max_length`; `prompt_length`, of the first prompt; `answers`, where each
        answer begins and ends; `cut_prompt` and `cut_response`, whether either was too long; `dropped_exchanges`, how
        many did not fit. An answer that was cut has no EOS token. The first label is ignored, as nothing stands before
        it, and with `mask_prompt` are those of all prompts; those of EOS tokens never are.
    """
    (question, answer), *later = exchanges(row)
    ids, cut_prompt = encode_prompt(tokenizer, question, max_length, system_of(row) or PREAMBLE)
    prompt_length, response = len(ids), _answer_ids(tokenizer, answer)
    cut_response = prompt_length + len(response) > max_length
    ids = (ids + response)[:max_length]
    answers = [[prompt_length, len(ids)]]
    for question, answer in later:
        prompt = plain_ids(tokenizer, render_turn(question))
        start, response = len(ids) + len(prompt), _answer_ids(tokenizer, answer)
        if start > longest_prompt(max_length) or start + len(response) > max_length:
            break
        ids += prompt + response
        answers.append([start, len(ids)])
    labels = [IGNORED] * len(ids)
    for start, end in answers if mask_prompt else [(1, len(ids))]:
        labels[start:end] = ids[start:end]
    return {
        "input_ids": ids,
        "labels": labels,
        "prompt_length": prompt_length,
        "answers": answers,
        "cut_prompt": cut_prompt,
        "cut_response": cut_response,
        "dropped_exchanges": len(later) + 1 - len(answers),
    }


def encode_splits(splits: DatasetDict, tokenizer: PreTrainedTokenizerBase, max_length: int, mask_prompt: bool):
    """The splits as tokens, and how many prompts and responses of each had to be cut, and exchanges left out."""
    encoded = splits.map(lambda row: encode(row, tokenizer, max_length, mask_prompt), desc="Tokenizing")
    cut = {
        name: {
            "prompts": sum(rows["cut_prompt"]),
            "responses": sum(rows["cut_response"]),
            "exchanges": sum(rows["dropped_exchanges"]),
        }
        for name, rows in encoded.items()
    }
    return encoded, cut


def _prompt_ids(tokenizer: PreTrainedTokenizerBase, question: str, before: str) -> list[int]:
    return text_ids(tokenizer, render_turn(question, before), split_special_tokens=True)


def _answer_ids(tokenizer: PreTrainedTokenizerBase, answer: str) -> list[int]:
    # Special tokens spelled out in the data stay text: an EOS token in the middle would end the document.
    return [*plain_ids(tokenizer, as_text(answer)), tokenizer.eos_token_id]


def _character_starts(tokenizer: PreTrainedTokenizerBase, text: str) -> list[int]:
    """Where each token of a text begins, about: a special token that is spelled in it counts as one here."""
    found = tokenizer(text, return_offsets_mapping=True, add_special_tokens=False, verbose=False)
    return [start for start, _ in found["offset_mapping"]]
