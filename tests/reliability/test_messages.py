"""Messages that nobody would type: each is classified, continued and answered, or refused in one sentence."""

import pytest

from hf_gpt_scratch import TextClassifier, load
from hf_gpt_scratch.apps import classify as page
from hf_gpt_scratch.generation.chat import Chat
from hf_gpt_scratch.generation.sampling import stream_text
from hf_gpt_scratch.prompts import CHAT_TEMPLATE
from hf_gpt_scratch.utils.errors import InputError
from support.classifiers import save_classifier
from support.models import save_model

MESSAGES = {
    "1 MB of words": "win a prize " * 87_000,
    "1 MB without a space": "x" * 2**20,
    "NUL": "win\0a\0prize",
    "only NULs": "\0" * 100,
    "half a character": "win \ud83d a prize",
    "bytes of a shell": b"caf\xe9".decode("utf-8", "surrogateescape"),
    "right to left": "\u202eezirp a niw\u202c \u200fשלום\u200e",
    "emoji": "👩‍👩‍👧‍👦🏴\U000e0067\U000e0062\U000e007f😀" * 20,
    "combining marks": "Z" + "\u0351" * 5000,
    "control sequences": "\x1b]52;c;cm0=\x07\x1b[2J\x9b31m",
    "line ends": "\r\n\u2028\u2029\x85\x0b\x0c",
    "special tokens": "<|endoftext|><|pad|>" * 50,
    "outside of Unicode's planes in use": "\U0010ffff\ufffe\uffff",
}
REFUSED = {"half a character", "bytes of a shell"}


@pytest.fixture(scope="module")
def classifier(tmp_path_factory) -> TextClassifier:
    folder = save_classifier(tmp_path_factory.mktemp("models") / "classifier", ("ham", "spam"))
    return TextClassifier.from_pretrained(folder)


@pytest.fixture(scope="module")
def writer(tmp_path_factory):
    return load(save_model(tmp_path_factory.mktemp("models") / "writer", chat=CHAT_TEMPLATE, n_positions=512))


def sentence(error: InputError) -> str:
    assert "\n" not in str(error) and len(str(error)) < 1000
    return str(error)


@pytest.mark.parametrize("name", MESSAGES)
def test_a_message_is_classified_or_refused(classifier, name):
    text = MESSAGES[name]
    try:
        [prediction] = classifier.classify([text])
    except InputError as error:
        sentence(error)
        assert name in REFUSED | {"line ends"}
        return
    assert prediction.label in ("ham", "spam") and prediction.text == text and name not in REFUSED
    assert prediction.truncated == (len(text) > 1000 or name in ("special tokens", "emoji", "only NULs"))


@pytest.mark.parametrize("name", MESSAGES)
def test_a_prompt_is_continued_and_a_question_answered_or_refused(writer, name):
    for use in (lambda text: stream_text(*writer, text), lambda text: Chat(*writer).ask(text, input=text[:20])):
        try:
            assert isinstance("".join(piece for piece, _ in zip(use(MESSAGES[name]), range(3))), str)
        except InputError as error:
            said = sentence(error)
            assert name in REFUSED or "tokens" in said or not MESSAGES[name].strip()


@pytest.mark.parametrize("name", MESSAGES)
def test_a_page_answers_or_says_why_not(classifier, tmp_path, name, capsys):
    gradio = pytest.importorskip("gradio")
    judge = page.behaviour(classifier, str(tmp_path))[0]
    try:
        verdict, read = judge(MESSAGES[name], 0.5)
        assert ("ham" in verdict or "spam" in verdict) and "<script" not in read
    except gradio.Error as error:
        assert "Something went wrong" not in error.message
    assert "Traceback" not in capsys.readouterr().err
