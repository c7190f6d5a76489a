"""The bot: retrieval, refusal, what the language model adds, and the file that its folder keeps."""

import io
import json
from dataclasses import replace

import numpy as np
import pytest

from hf_gpt_scratch import GPTScratchForCausalLM
from hf_gpt_scratch.cli import main
from hf_gpt_scratch.data.faq import Asked, Entry, Faq
from hf_gpt_scratch.data.losses import perplexities
from hf_gpt_scratch.data.turns import encode
from hf_gpt_scratch.faq import fitting
from hf_gpt_scratch.faq.bot import FaqBot, Read, answer_losses, beginning, conversation
from hf_gpt_scratch.faq.faq_file import FEATURES, WEIGHTS, FaqFile, read_faq_file
from hf_gpt_scratch.faq.fitting import fit, threshold_of, with_all_wordings
from hf_gpt_scratch.faq.retrieval import Retriever
from hf_gpt_scratch.utils.errors import InputError
from support.models import save_model

THINGS = ("luggage", "passport", "refund", "seat", "meal", "lounge", "ticket", "visa", "pet", "delay", "gate", "bike")
ENTRIES = [
    Entry(
        f"Where do I ask about my {thing}?",
        f"At desk {n} for the {thing}.",
        (f"{thing} question", f"my {thing}, who?"),
    )
    for n, thing in enumerate(THINGS, start=1)
]
OFF_TOPIC = [
    f"{verb} {what} slowly" for verb in ("Bake", "Sing", "Paint", "Write") for what in ("bread", "songs", "walls")
]


@pytest.fixture(scope="module")
def bot(tmp_path_factory):
    texts = [text for entry in ENTRIES for text in (*entry.phrasings, entry.answer)]
    folder = save_model(tmp_path_factory.mktemp("bot") / "model", GPTScratchForCausalLM, 1, texts, n_positions=256)
    FaqFile(ENTRIES, 0.5, refusal="Ask a person.").write(folder)
    return FaqBot.from_pretrained(folder, device="cpu")


def test_the_nearest_entry_is_found_by_all_its_words():
    found = Retriever(ENTRIES)
    assert found.similarities(["lost my passport", "desk 9"]).argmax(axis=1).tolist() == [1, 8]
    nearest = found.nearest_questions(["my seat, who?", "desk 9"])  # the answers are no part of it
    assert nearest.shape == (2, 12) and nearest[0].argmax() == 3 and nearest[0, 3] == pytest.approx(1)


@pytest.mark.parametrize(
    ("words", "said"), [((), "At desk 6 for the lounge."), (("--threshold", "1"), "Ask a person.")]
)
def test_the_terminal_can_be_stricter_without_another_training(words, said, bot, monkeypatch, capsys):
    monkeypatch.setattr("sys.stdin", io.StringIO("a question on the lounge\n"))
    assert main(["chat", bot.model.name_or_path, "--device", "cpu", *words]) == 0
    assert capsys.readouterr().out == said + "\n"


def test_a_threshold_is_for_answers_of_the_faq(bot, capsys):
    assert main(["chat", bot.model.name_or_path, "--threshold", "0.5", "--write"]) == 2
    assert "--threshold says when the FAQ answers" in capsys.readouterr().err


def test_it_answers_to_the_letter_or_refuses(bot):
    reply = bot.answer("a question on the lounge")
    assert (reply.text, reply.source) == (ENTRIES[5].answer, ENTRIES[5].question) and not reply.is_refusal
    assert reply.explanation == f"From: {reply.source} (similarity {reply.similarity:.2f})"
    refused = bot.answer("Bake bread slowly")
    assert (refused.text, refused.is_refusal) == ("Ask a person.", True)
    assert refused.explanation.startswith("Nearest question, not near enough: ")
    assert bot.answer("a question on the lounge", threshold=1.0).is_refusal
    assert list(bot.ask("a question on the lounge")) == [reply.text] and bot.reply == reply


@pytest.mark.parametrize("question", ["", " \n", "who\ud800"])
def test_what_is_no_question(bot, question):
    with pytest.raises(InputError, match="question is"):
        bot.answer(question)


def test_answer_losses_are_those_of_the_response(bot):
    answers = [entry.answer for entry in ENTRIES[:3]]
    found = answer_losses(bot.model, bot.tokenizer, "my seat?", answers)
    for loss, text in zip(found, answers):
        row = encode(conversation("my seat?", text), bot.tokenizer, 256, True)
        alone = perplexities(bot.model, [row], bot.tokenizer.pad_token_id)["response_perplexity"]
        assert loss == pytest.approx(np.log(alone) * (len(row["input_ids"]) - row["prompt_length"]), abs=1e-3)


def test_the_opinion_is_of_the_nearest_ones_and_what_is_left_out_has_none(bot):
    read = bot.read(["my pet", "my seat"])
    assert read.opinions.sum(axis=1) == pytest.approx([1, 1]) and ((read.opinions > 0).sum(axis=1) == 10).all()
    own = np.array([8, 3])
    assert read.best.tolist() == own.tolist()
    rest = read.without(own)
    assert (rest.best != own).all() and rest.opinions[[0, 1], own].tolist() == [0, 0]
    assert rest.opinions.sum(axis=1) == pytest.approx([1, 1]) and read.best.tolist() == own.tolist()


def test_features():
    read = Read(np.array([[0.1, 0.5, 0.3]]), np.array([[0.2, 0.7, 0.1]]))
    assert read.features[0] == pytest.approx([0.5, 0.2, 0.7])


def asked(questions, entries, kind="answered") -> Asked:
    found = Asked()
    for question, entry in zip(questions, entries):
        found.add(question, entry, kind)
    return found


def test_the_threshold_keeps_its_promise(bot):
    held_out = [f"{words} the {thing}" for words in ("who knows about", "help with", "tell of") for thing in THINGS]
    validation = asked([*held_out, *OFF_TOPIC], [*[*range(12)] * 3, *[None] * 12])
    validation.kinds[36:] = ["off-topic"] * 12
    fitted = fit(bot, validation, 0.75)
    same = FaqBot(fitted, bot.model, bot.tokenizer)
    assert sum(same.answer(text).is_refusal for text in OFF_TOPIC) >= 9
    assert [same.answer(text).source for text in held_out] == [entry.question for entry in ENTRIES] * 3
    assert sum(not same.answer(text).is_refusal for text in held_out) >= 33
    assert "refuses at least 75% of 12 validation questions" in fitted.promise and "of 36 held-out" in fitted.promise
    assert fitted.weights != WEIGHTS and fit(bot, validation, 0.75, use_model=False).weights["opinion"] == 0


def test_weights_are_never_negative_and_few_rows_do_not_move_them(bot):
    own = np.arange(40) % 12
    misleading = Read(np.full((40, 12), 0.3), np.full((40, 12), 1 / 12))  # right ones are less similar than wrong ones
    misleading.similarities[np.arange(40), own] = 0.35
    wrong = Read(np.eye(12)[own] * 0.9, np.eye(12)[own])
    fitted = fitting._weights(misleading, own, [wrong], use_model=True)
    assert fitted != WEIGHTS and min(fitted[name] for name in FEATURES) == 0
    few = [Read(one.similarities[:29], one.opinions[:29]) for one in (misleading, wrong)]
    assert fitting._weights(few[0], own[:29], few[1:], use_model=True) == WEIGHTS


def test_with_few_questions_to_refuse_others_stand_beside_them_and_it_says_so(bot):
    validation = asked(["who knows about the bike", OFF_TOPIC[0]], [11, None])
    validation.kinds[1] = "off-topic"
    fitted = fit(bot, validation, 0.9)
    assert fitted.weights == WEIGHTS and fitted.threshold >= 0.25
    beside = "1 validation question that the FAQ does not answer and 13 questions whose own entry was left out"
    assert beside in fitted.promise and "the weights are those of the package" in fitted.promise
    whole = with_all_wordings(bot, Faq(ENTRIES, [(OFF_TOPIC[0], "off-topic")], "", ""), validation, 0.9)
    assert whole.unanswered == [OFF_TOPIC[0]] and whole.threshold >= 0.25


@pytest.mark.parametrize("threshold", [0.0, 1.0])
def test_what_the_file_has_is_answered_or_refused_as_it_says(bot, threshold):
    faq = replace(bot.faq, unanswered=("Who owns the gate?",))
    same = FaqBot(faq, bot.model, bot.tokenizer)
    for text in ("gate question", "Gate question?!", "Where do I ask about my GATE"):
        reply = same.answer(text, threshold)
        assert (reply.text, reply.similarity, reply.is_refusal) == (ENTRIES[10].answer, 1.0, False)
    reply = same.answer("who owns the gate", threshold)
    assert reply.is_refusal and reply.explanation == "Listed as a question to refuse: Who owns the gate?"


def test_case_and_punctuation_decide_nothing(bot):
    asked = ["May I bring my bike", "may I bring my bike?", "MAY I BRING: MY BIKE?!"]
    for similarities in (bot.retriever.similarities(asked), bot.retriever.nearest_questions(asked)):
        assert np.ptp(similarities, axis=0).max() == 0 < similarities.max()
    assert len({bot.answer(text).confidence for text in asked}) == 1


def test_a_question_that_is_too_long_for_the_model_is_answered_all_the_same(bot):
    question = "about my lounge, please " * 300
    with pytest.raises(InputError, match="tokens of a row may be prompt"):
        answer_losses(bot.model, bot.tokenizer, question, ["No."])
    assert bot.answer(question).source == ENTRIES[5].question
    assert question.startswith(beginning(question, bot.tokenizer, 256)) and beginning("a", bot.tokenizer, 256) == "a"


def test_without_rephrasings_the_questions_without_their_own_entry_set_the_threshold(bot, monkeypatch):
    assert fit(bot, Asked(), 1.0).threshold == 0.25  # the lowest where so little is known
    monkeypatch.setattr(fitting, "LOWEST", 0.0)
    fitted = fit(bot, Asked(), 1.0)
    assert fitted.weights == WEIGHTS and "12 questions whose own entry was left out" in fitted.promise
    read = bot.read([entry.question for entry in ENTRIES]).without(np.arange(12))
    assert FaqBot(fitted, bot.model, bot.tokenizer).confidences(read).max() == pytest.approx(fitted.threshold)


def test_the_threshold_refuses_no_more_than_it_must():
    assert threshold_of(np.array([0.4, 0.1, 0.3, 0.2]), 0.75) == 0.3
    assert threshold_of(np.array([0.4, 0.1, 0.3, 0.2]), 0.76) == 0.4


def test_the_file_comes_back_as_it_was(tmp_path):
    faq = FaqFile(ENTRIES, 0.25, dict(zip((*FEATURES, "bias"), (1.0, 2.0, 3.0, -4.0))), "No.", "keeps it", ("Who?",))
    faq.write(tmp_path)
    again = read_faq_file(tmp_path)
    entries = [replace(entry, rephrasings=tuple(entry.rephrasings)) for entry in again.entries]
    assert replace(again, entries=entries) == faq


@pytest.mark.parametrize(
    "change",
    [
        {"entries": []},
        {"threshold": "0.5"},
        {"threshold": float("nan")},
        {"weights": {"similarity": 1}},
        {"refusal": ""},
        {"unanswered": [3]},
        {"unanswered": None},
        {"entries": [{"question": "Who?"}]},
        {"entries": None},
        {"else": 1},
        {"version": 2},
    ],
)
def test_a_damaged_file_is_refused(tmp_path, change):
    FaqFile(ENTRIES, 0.25).write(tmp_path)
    path = tmp_path / "faq.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), **change}))
    with pytest.raises(InputError, match=r"faq.json is .*train the bot again"):
        read_faq_file(tmp_path)
