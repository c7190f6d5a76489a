"""FAQ files: what is read of them, what is refused by row and column, and what the split holds out."""

import json
from importlib import resources

import pytest

from hf_gpt_scratch.data.faq import ANSWERED, Entry, Faq, load_faq, split
from hf_gpt_scratch.utils.errors import InputError
from hf_gpt_scratch.utils.text import plain_words

ROWS = [{"question": f"What is number {n}?", "answer": f"It is {n}."} for n in range(5)]


def write(tmp_path, rows, name="faq.jsonl"):
    path = tmp_path / name
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return path


def test_a_spreadsheet_and_json_lines_say_the_same(tmp_path):
    rows = [*ROWS[:4], {**ROWS[4], "rephrasings": ["Number 4?", "And 4?"]}]
    lines = [f"{row['question']};{row['answer']};{'|'.join(row.get('rephrasings', []))};" for row in rows]
    (tmp_path / "faq.csv").write_text(
        "Question;Answer;Rephrasings;Kind\n" + "\n".join([*lines, "Who are you?;;;off-topic"])
    )
    of_lines = load_faq(write(tmp_path, [*rows, {"question": "Who are you?", "kind": "off-topic"}]))
    of_csv = load_faq(tmp_path / "faq.csv")
    assert of_csv.entries == of_lines.entries and of_csv.unanswered == of_lines.unanswered == [
        ("Who are you?", "off-topic")
    ]
    assert of_lines.entries[4] == Entry("What is number 4?", "It is 4.", ["Number 4?", "And 4?"])


@pytest.mark.parametrize(
    ("row", "words"),
    [
        ({"question": " ", "answer": "A."}, "line 6: the column question is empty"),
        ({"question": "Who?", "answer": ""}, "line 6: the column answer is empty"),
        ({"question": "Who?"}, "line 6: the column answer is empty"),
        ({"question": "WHAT is number 3", "answer": "Three."}, "line 6: the question 'WHAT is number 3' has another"),
        ({"question": "Who?", "answer": "I.", "rephrasings": ["What is number 2?"]}, "has another answer in line 3"),
        ({"question": "What is number 2?", "kind": "near-miss"}, "answered in one row and not in another (line 3)"),
        ({"question": "Who?", "answer": "I.", "kind": "off-topic"}, "line 6: a question of the kind off-topic has no"),
        ({"question": "Who?", "kind": "nonsense"}, "line 6: the column kind is 'nonsense'"),
        ({"question": ["Who?"], "answer": "I."}, "line 6: the column question must be text, not a list"),
        ({"question": "Who?", "answer": "I.", "rephrasings": {"a": 1}}, "the column rephrasings must be a list"),
        ({"question": "Who\ud800?", "answer": "I."}, "the column question holds half a character"),
    ],
)
def test_a_bad_row_is_named_with_its_column(tmp_path, row, words):
    with pytest.raises(InputError) as error:
        load_faq(write(tmp_path, [*ROWS, row]))
    assert words in str(error.value) and "faq.jsonl" in str(error.value) and "\n" not in str(error.value)


def test_bad_rows_are_counted_and_cells_too_many_are_told(tmp_path):
    good = "".join(f"{row['question']},{row['answer']},,\n" for row in ROWS)
    path = tmp_path / "faq.csv"
    path.write_text(f"question,answer,rephrasings,kind\n{good}Who?,I, and you,,x\nHow?,,,\nWhy?,,,\n")
    with pytest.raises(
        InputError, match=r"faq.csv, row 7: it has 5 cells, and the .* marks. 2 other rows are bad too"
    ):
        load_faq(path)
    path.write_text(f"question,answer,rephrasings,kind\n{good}Who?,I, and, you\nHow?,,,\n")
    with pytest.raises(
        InputError, match=r"column kind is 'you'.*another column, put text .*marks. Another row is bad"
    ):
        load_faq(path)


def test_a_copy_with_the_same_answer_adds_its_wordings(tmp_path):
    copy = {**ROWS[2], "question": "what is number 2", "rephrasings": ["2?", "Number 2?"]}
    odd = {"question": "Who?", "kind": "near-miss"}
    faq = load_faq(write(tmp_path, [*ROWS, ROWS[2], copy, odd, odd]))
    assert faq.entries == [Entry(**row, rephrasings=["2?", "Number 2?"] if row is ROWS[2] else []) for row in ROWS]
    assert faq.unanswered == [("Who?", "near-miss")]


def test_rephrasings_of_what_is_refused_are_not_used_and_said(tmp_path):
    odd = {"question": "Who?", "kind": "near-miss"}
    faq = load_faq(write(tmp_path, [*ROWS, odd, {**odd, "rephrasings": ["And who?", "Who are you?"]}]))
    assert faq.unanswered == [("Who?", "near-miss")]
    assert faq.notes[-1] == "2 rephrasings of questions to be refused are not used; give each a row of its own."


def test_missing_columns_and_too_few_answers(tmp_path):
    with pytest.raises(InputError, match="no column question and no column answer .its columns are q, a."):
        load_faq(write(tmp_path, [{"q": "Who?", "a": "I."}]))
    with pytest.raises(InputError, match="has 4 answered questions; a bot needs at least 5"):
        load_faq(write(tmp_path, ROWS[:4]))


def test_what_is_held_out_is_not_learned():
    few = [Entry(f"q{n}", f"a{n}", [f"r{n}a", f"r{n}b"][: n % 3]) for n in range(30)]
    many = [Entry(f"Q{n}", f"A{n}", [f"R{n}{letter}" for letter in "abcd"]) for n in range(10)]
    faq = Faq(few + many, [(f"near {n}", "near-miss") for n in range(7)] + [("off", "off-topic")], "", "")
    parts = split(faq, 1)
    assert parts == split(faq, 1) != split(faq, 2)
    learned = {text for entry in parts.entries for text in entry.phrasings}
    for held_out in (parts.validation, parts.test):
        answered = held_out.of(ANSWERED)
        assert not learned & set(answered.questions)
        for text, number in zip(answered.questions, answered.entries):
            assert text in faq.entries[number].rephrasings
        assert sum(number >= 30 for number in answered.entries) == 10  # of those with four, one each
        assert 5 <= sum(number < 30 for number in answered.entries) <= 8  # of twenty with fewer, a third
    assert not set(parts.validation.questions) & set(parts.test.questions)
    assert [parts.validation.kinds.count(kind) for kind in ("near-miss", "off-topic")] == [4, 1]
    texts = [text for one in (parts.validation, parts.test) for text in one.questions]
    assert len(learned) + len(texts) == sum(len(entry.phrasings) for entry in faq.entries) + 8


@pytest.mark.parametrize("name", ["airline", "academic"])
def test_the_sets_that_come_with_the_package(name):
    faq = load_faq(resources.files("hf_gpt_scratch.example_data") / f"{name}.jsonl")
    assert len(faq.entries) == 200 == len({entry.answer for entry in faq.entries})
    assert {len(entry.rephrasings) for entry in faq.entries} == {5}
    kinds = [kind for _, kind in faq.unanswered]
    assert kinds.count("near-miss") == kinds.count("off-topic") == 30
    texts = [plain_words(text) for entry in faq.entries for text in entry.phrasings]
    texts += [plain_words(text) for text, _ in faq.unanswered]
    assert len(texts) == len(set(texts))


def test_columns_of_other_names_are_chosen(tmp_path):
    path = tmp_path / "faq.csv"
    path.write_text(
        "Q,question,A\n" + "".join(f"{row['question']},{n},{row['answer']}\n" for n, row in enumerate(ROWS))
    )
    found = load_faq(path, question_column="Q", answer_column="A")
    assert [(one.question, one.answer) for one in found.entries] == [(row["question"], row["answer"]) for row in ROWS]
    with pytest.raises(InputError, match="no column 'B'; its columns are Q, question, A: choose with --answer_column"):
        load_faq(path, question_column="Q", answer_column="B")
