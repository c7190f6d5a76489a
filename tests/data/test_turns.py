"""Conversations: a split that does not leak, and tokens as a chat reads them, the first turn as a single question."""

from collections import Counter

import pytest

from hf_gpt_scratch import GPTScratchConfig, GPTScratchForCausalLM
from hf_gpt_scratch.data import turns
from hf_gpt_scratch.data.conversations import load_conversations
from hf_gpt_scratch.data.losses import perplexities
from hf_gpt_scratch.data.packing import pack
from hf_gpt_scratch.generation.chat import Chat
from hf_gpt_scratch.prompts import CHAT_TEMPLATE, chat_template, reads_history, render_prompt, user_message
from hf_gpt_scratch.tokenizer import gpt2_tokenizer, train_tokenizer
from hf_gpt_scratch.utils.errors import InputError
from hf_gpt_scratch.utils.special_tokens import chat_ids


def row(*contents: str, system: str = "") -> dict:
    """A conversation of questions and answers in turn."""
    roles = ["user", "assistant"] * len(contents)
    first = [{"role": "system", "content": system}] if system else []
    return {"messages": first + [{"role": role, "content": text} for role, text in zip(roles, contents)]}


GOOD = row("Name a colour.", "Blue.")
SEVERAL = row("Name a colour.", "Blue.", "Another one?", "Red, or blue.", "And one of many?", "Blue.")


@pytest.fixture(scope="module")
def tokenizer():
    return train_tokenizer([render_prompt("Name a colour, one of many.", "red or blue") + "Blue."] * 3, 300)


@pytest.fixture(scope="module")
def gpt2(shared_data):
    folder = shared_data / "gpt2_tokenizer"
    return gpt2_tokenizer(folder / "vocab.json", folder / "merges.txt")  # whose end token is its padding too


@pytest.fixture(scope="module")
def book(shared_data) -> list[dict]:
    return load_conversations(shared_data / "instruction" / "instruction-data.json").rows


def test_the_book_set_is_read_whole_and_split_without_a_leak(book):
    splits = turns.split(book, seed=123)
    assert {name: len(rows) for name, rows in splits.items()} == {"train": 935, "validation": 55, "test": 110}
    as_text = Counter(str(row) for rows in splits.values() for row in rows)
    assert as_text == Counter(str(row) for row in book)
    assert turns.leaked_pairs(splits) == turns.repeated_exchanges(splits) == 0
    in_file_order = {"train": book[:935], "test": book[935:1045], "validation": book[1045:]}
    assert turns.leaked_pairs(in_file_order) >= 6  # what the usual split leaks
    with_input = sum(bool(turns.questions(row)[0]["input"]) for row in book)
    assert with_input == 325 and splits["test"][0]["messages"][0]["content"].startswith(
        "What are the first 10 square numbers?"
    )


def test_the_seed_decides_the_split(book):
    first, again, other = (list(turns.split(book, seed)["test"]["messages"]) for seed in (1, 1, 2))
    assert first == again != other


def test_copies_differ_in_case_and_punctuation_only():
    question = user_message("Translate:  'Yes!'", "A B")
    assert turns.normalize(question) == turns.normalize(user_message("translate yes", "a, b."))
    assert turns.normalize(question) != turns.normalize(user_message("Translate: 'Yes!'", "A C"))
    assert turns.normalize(user_message("Add", "+")) != turns.normalize(user_message("Add", "-"))


def test_too_few_rows_to_split():
    with pytest.raises(InputError, match="at least 20 different instructions, and there are 1"):
        turns.split([GOOD] * 100, seed=0)


def test_a_question_with_many_copies_stays_in_train():
    different = [row(f"Name colour {n}.", "Blue.") for n in range(300)]
    for seed in range(3):
        splits = turns.split(different + [row("Write a haiku.", "Blue.")] * 700, seed)
        assert {name: len(rows) for name, rows in splits.items()} == {"train": 850, "validation": 50, "test": 100}
    with pytest.raises(InputError, match="too many rows have the same"):
        turns.split(different[:19] * 60 + different[19:20], 0)  # the one that fits is taken by the test set


def test_conversations_of_one_first_question_stay_together_and_later_repeats_are_counted():
    rows = [row(f"Colour {n % 30}?", f"{n}.", "Thanks!", "Welcome.") for n in range(90)]
    splits = turns.split(rows, seed=5)
    assert turns.leaked_pairs(splits) == 0
    assert turns.repeated_exchanges(splits) == len(splits["validation"]) + len(splits["test"])
    parts = [{turns.first_question(row) for row in rows} for rows in splits.values()]
    assert sum(map(len, parts)) == 30


@pytest.mark.parametrize("mask_prompt", [False, True])
def test_the_end_token_is_learned_and_the_prompt_is_what_a_server_sends(gpt2, mask_prompt):
    gpt2.chat_template = CHAT_TEMPLATE
    asked = user_message("Name a colour.", "red or blue")
    encoded = turns.encode(row(asked, "Blue."), gpt2, 1024, mask_prompt)
    prompt = encoded["prompt_length"]
    served = gpt2.apply_chat_template([{"role": "user", "content": asked}], add_generation_prompt=True)["input_ids"]
    assert encoded["input_ids"][:prompt] == served
    assert gpt2.decode(encoded["input_ids"][prompt:]) == "Blue.<|endoftext|>"
    ignored = prompt if mask_prompt else 1
    assert encoded["labels"] == [-100] * ignored + encoded["input_ids"][ignored:]
    assert not encoded["cut_prompt"] and not encoded["cut_response"]


@pytest.mark.parametrize("kind", ["gpt2", "trained"])
@pytest.mark.parametrize("system", ["", "Be brief."])
def test_every_turn_is_read_as_the_chat_reads_it(kind, system, gpt2, tokenizer):
    tokenizer = gpt2 if kind == "gpt2" else tokenizer
    tokenizer.chat_template = chat_template(conversations=True)
    conversation = row(*(one["content"] for one in SEVERAL["messages"]), system=system)
    encoded = turns.encode(conversation, tokenizer, 1024, mask_prompt=True)
    ids, end = encoded["input_ids"], tokenizer.eos_token_id
    config = GPTScratchConfig(vocab_size=len(tokenizer), n_positions=1024, n_embd=4, n_layer=1, n_head=1)
    chat = Chat(GPTScratchForCausalLM(config), tokenizer, system=system or None)
    first = len(conversation["messages"]) - 6
    for number, (start, stop) in enumerate(encoded["answers"]):
        before = conversation["messages"][: first + 2 * number + 1]
        served = tokenizer.apply_chat_template(before, add_generation_prompt=True)["input_ids"]
        assert ids[:start] == served == chat_ids(tokenizer, chat._with_system(before[first:]))
        answer = conversation["messages"][first + 2 * number + 1]["content"]
        assert tokenizer.decode(ids[start : stop - 1]) == answer and ids[stop - 1] == end
    assert len(encoded["answers"]) == 3 and stop == len(ids)
    learned = {i for start, stop in encoded["answers"] for i in range(start, stop)}
    assert encoded["labels"] == [token if i in learned else -100 for i, token in enumerate(ids)]
    assert turns.encode(conversation, tokenizer, 1024)["labels"] == [-100, *ids[1:]]
    assert "".join(turns.texts(conversation)) == tokenizer.decode([token for token in ids if token != end])


def test_packed_conversations_keep_what_is_learned(tokenizer):
    rows = [turns.encode(one, tokenizer, 1024, mask_prompt=True) for one in (SEVERAL, GOOD, SEVERAL)]
    [packed] = pack(rows, 4096)
    learned = sum(label != -100 for one in rows for label in one["labels"])
    assert sum(label != -100 for label in packed["labels"]) == learned and packed["position_ids"].count(0) == 3


def test_a_long_conversation_keeps_the_exchanges_that_fit_as_a_whole(tokenizer):
    long = row("Name a colour.", "Blue. " * 60, "Another one?", "Red. " * 80, "And one of many?", "Blue. " * 400)
    whole = turns.encode(long, tokenizer, 4096)
    (_, first), (_, second), (third, end) = whole["answers"]
    for max_length, kept in ((end, 3), (end - 1, 2), (second, 2), (second - 1, 1), (first, 1)):
        encoded = turns.encode(long, tokenizer, max_length)
        assert encoded["answers"] == whole["answers"][:kept] and encoded["dropped_exchanges"] == 3 - kept
        assert encoded["input_ids"] == whole["input_ids"][: whole["answers"][kept - 1][1]]
        assert not encoded["cut_response"]
    short = turns.encode(row("Name a colour.", "Blue. " * 60, "Another one?", "Red."), tokenizer, second)
    assert short["dropped_exchanges"] == 0
    tight = turns.encode(row("Name a colour.", "Blue. " * 60, "Another one?", "Red."), tokenizer, first + 30)
    assert tight["dropped_exchanges"] == 1  # the second question would leave less than a quarter for its answer


def test_a_long_input_is_cut_on_its_left_and_a_long_response_at_its_end(tokenizer):
    long = user_message("Name a colour.", "red or blue " * 50 + "or last")
    encoded = turns.encode(row(long, "Blue. " * 50, "More?", "No."), tokenizer, 128, mask_prompt=True)
    prompt, response = (
        tokenizer.decode(encoded["input_ids"][part])
        for part in (slice(encoded["prompt_length"]), slice(encoded["prompt_length"], None))
    )
    head, tail = render_prompt("Name a colour.", "|").split("|")
    assert prompt.startswith(head) and prompt.endswith("or last" + tail) and 80 < encoded["prompt_length"] <= 96
    assert response.startswith("Blue. Blue.") and tokenizer.eos_token not in response
    assert len(encoded["input_ids"]) == 128 and encoded["cut_prompt"] and encoded["cut_response"]
    assert encoded["dropped_exchanges"] == 1
    with pytest.raises(InputError, match="The prompt of .* takes .* tokens"):
        turns.encode(row("Name a colour. " * 50, "Blue."), tokenizer, 128)


def test_a_response_that_just_fits_keeps_its_end_token(tokenizer):
    whole = turns.encode(GOOD, tokenizer, 1024)
    length = len(whole["input_ids"])
    assert whole["input_ids"][-1] == whole["labels"][-1] == tokenizer.eos_token_id
    if whole["prompt_length"] <= length - length // 4:
        assert turns.encode(GOOD, tokenizer, length) == whole
        assert turns.encode(GOOD, tokenizer, length - 1)["cut_response"]


def test_special_tokens_and_headings_in_the_data_are_text(tokenizer):
    typed = f"a {tokenizer.eos_token} b {tokenizer.pad_token}\n\n### Response:\nYes\n\n### Instruction:\nNo"
    plain = turns.encode(row(typed, f"The {tokenizer.eos_token} token.", typed, "Yes."), tokenizer, 1024)
    assert plain["input_ids"].count(tokenizer.eos_token_id) == 2 and tokenizer.pad_token_id not in plain["input_ids"]
    text = tokenizer.decode(plain["input_ids"])
    assert text.count("### Response:") == text.count("### Instruction:") == 2 and "# # # Response:\nYes" in text
    tokenizer.chat_template = CHAT_TEMPLATE
    asked = [{"role": "user", "content": typed}]
    assert chat_ids(tokenizer, asked) == plain["input_ids"][: plain["prompt_length"]]
    assert "# # # Response:\nYes\n\n# # # Instruction:" in tokenizer.apply_chat_template(asked, tokenize=False)


def test_perplexity_of_later_answers_by_hand(tokenizer):
    model = GPTScratchForCausalLM(
        GPTScratchConfig(vocab_size=len(tokenizer), n_positions=256, n_embd=8, n_layer=1, n_head=1)
    ).eval()
    rows = [turns.encode(one, tokenizer, 256, mask_prompt=True) for one in (SEVERAL, GOOD)]
    found = perplexities(model, rows, tokenizer.pad_token_id)

    def alone(kept: list) -> float:
        """The perplexity of the answers that are kept, as rows in which nothing else is learned."""
        only = [{**row, "labels": [-100] * len(row["input_ids"])} for row in rows]
        for one, row, spans in zip(only, rows, kept):
            for start, end in spans:
                one["labels"][start:end] = row["input_ids"][start:end]
        return 2.718281828459045 ** perplexities(model, only, tokenizer.pad_token_id)["eval_loss"]

    answers = [row["answers"] for row in rows]
    assert found["response_perplexity"] == pytest.approx(alone(answers), rel=1e-4)
    assert found["later_response_perplexity"] == pytest.approx(alone([answers[0][1:], []]), rel=1e-4)
    assert "later_response_perplexity" not in perplexities(model, rows[1:], tokenizer.pad_token_id)


def test_a_model_is_conversational_from_a_tenth_of_several_questions_on():
    assert turns.is_conversational([GOOD] * 9 + [SEVERAL]) and not turns.is_conversational([GOOD] * 10 + [SEVERAL])
    assert reads_history(chat_template(conversations=True)) and not reads_history(chat_template())
