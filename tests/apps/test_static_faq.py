"""A bot of an FAQ in a browser tab says what the bot in Python says, to the letter."""

from dataclasses import asdict
from importlib import resources

import numpy as np
import pytest

from hf_gpt_scratch.data.faq import UNANSWERED, load_faq, split
from hf_gpt_scratch.faq.bot import FaqBot
from hf_gpt_scratch.faq.faq_file import FaqFile
from support.scripts_in_node import in_node

pytestmark = pytest.mark.node
SCRIPTS = ["worker.js", "prompts.js", "sampling.js", "generate.js", "tfidf.js", "faq_bot.js"]
ODD = [
    *("ΠΟΎ ΕΊΝΑΙ Ο ΣΊΣΥΦΟΣ?", "İstanbul'a uçuş var mı?", "Straße, naïve café ½ ² №5", "飛行機の荷物は?", "🙂🧳", "?!"),
    *("__ _a_", "a b c", "I", "\u200bbag\u200b", "\ufb01ve bags", "e\u0301tage", "\u0663 bags", "x" * 3000),
    *(" \x1cbag\x1f ", "\ufeffbag"),
]


class WithoutModel(FaqBot):
    """The bot, whose language model's opinion counts nothing."""

    def _opinion(self, question, similarities):
        return np.zeros_like(similarities)


@pytest.mark.parametrize("name", ["airline", "academic"])
def test_similarities_and_replies_are_those_of_python(name):
    faq = load_faq(resources.files("hf_gpt_scratch.example_data") / f"{name}.jsonl")
    parts = split(faq, 0)
    unanswered = [question for question, _ in faq.unanswered]
    kept = FaqFile(parts.entries, 0.5, unanswered=parts.test.of(*UNANSWERED).questions)
    bot = WithoutModel(kept, None, None)
    questions = [*parts.test.questions, *parts.validation.questions, *unanswered, *ODD]
    questions += [entry.question.upper() for entry in faq.entries]
    code = """const bot = new FaqBot(data.faq, null, {});
    const replies = [];
    for (const one of data.questions) replies.push(await bot.answer(one));
    return [data.questions.map((one) => [...bot.retriever.similarities(one)]), replies]"""
    similarities, replies = in_node(SCRIPTS, code, {"faq": asdict(kept), "questions": questions})
    assert np.abs(np.array(similarities) - bot.retriever.similarities(questions)).max() < 1e-9
    for question, found in zip(questions, replies):
        expected = bot.answer(question)
        said = [found[name] for name in ("text", "isRefusal", "source", "explanation")]
        assert said == [expected.text, expected.is_refusal, expected.source, expected.explanation], question
        assert abs(found["confidence"] - expected.confidence) < 1e-9
    assert 10 < sum(found["isRefusal"] for found in replies) < len(replies) - 10


def test_what_is_no_question_is_refused_in_a_sentence():
    code = """const bot = new FaqBot(data, null, {});
    const errors = [];
    for (const one of ["", " \\x1c ", "a\\ud800"]) await bot.answer(one).catch((error) => errors.push(error.message));
    return errors"""
    faq = FaqFile([{"question": text, "answer": text, "rephrasings": []} for text in ("one bag", "two seats")], 0.5)
    empty, spaces, half = in_node(SCRIPTS, code, asdict(faq))
    assert empty == spaces == "The question is empty." and half == "The question is not UTF-8 text."
