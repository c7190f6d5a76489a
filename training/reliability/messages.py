"""The readers of what people type: messages, standard input, words of a command, what a browser sends to a page."""

import io
import json
import sys
import traceback
from collections.abc import Iterator
from contextlib import contextmanager, redirect_stderr, redirect_stdout
from functools import cache
from pathlib import Path

from model_readers import _made
from reader_subjects import TURNS, Reader, _make_votes


@cache
def _classifier(kind: str = "classifier"):
    from hf_gpt_scratch import TextClassifier

    return TextClassifier.from_pretrained(_made(kind))


@cache
def _writer():
    from hf_gpt_scratch import load

    return load(_made("writer"))


@cache
def _bot():
    from hf_gpt_scratch import load
    from hf_gpt_scratch.faq.bot import FaqBot
    from hf_gpt_scratch.faq.faq_file import read_faq_file

    return FaqBot(read_faq_file(_made("bot")), *load(_made("bot")))


def _text(path: Path) -> str:
    """The file as a shell gives a word, or a browser's JSON a text: with half characters."""
    content = path.read_bytes()
    try:
        return content.decode("utf-8", "surrogatepass")
    except UnicodeDecodeError:
        return content.decode("utf-8", "surrogateescape")


def _classify(folder: Path) -> None:
    """All at once, with words, and as it is typed."""
    text, classifier = _text(folder / "message.txt"), _classifier()
    session = classifier.session()
    session.read(text)
    session.add(text)
    list(classifier.classify([text, "see you"], words=True))


def _continue(folder: Path) -> None:
    from hf_gpt_scratch.generation.sampling import stream_text

    "".join(stream_text(*_writer(), _text(folder / "message.txt"), max_new_tokens=2))


def _chat(folder: Path) -> None:
    from hf_gpt_scratch.generation.chat import Chat

    text = _text(folder / "message.txt")
    "".join(Chat(*_writer()).ask(text, max_new_tokens=2, input=text[:50]))
    "".join(Chat(*_writer(), system=text).ask("Who?", max_new_tokens=2))


def _ask_bot(folder: Path) -> None:
    _bot().answer(_text(folder / "message.txt"))


@contextmanager
def _typed(content: bytes) -> Iterator[None]:
    """Standard input holds that, and what is printed goes nowhere."""
    before, sys.stdin = sys.stdin, io.TextIOWrapper(io.BytesIO(content), encoding="utf-8")
    try:
        out, err = (io.TextIOWrapper(io.BytesIO(), encoding="utf-8", errors="backslashreplace") for _ in range(2))
        with redirect_stdout(out), redirect_stderr(err):
            yield
    finally:
        sys.stdin = before


def _pipe(folder: Path) -> None:
    """Standard input of `classify`, and of `chat`."""
    from hf_gpt_scratch.commands.chat import converse
    from hf_gpt_scratch.commands.classify import _arriving
    from hf_gpt_scratch.generation.chat import Chat

    content = (folder / "message.txt").read_bytes()
    with _typed(content):
        for lines in _arriving(False):
            for text in filter(str.strip, lines):
                list(_classifier().classify([text]))
    with _typed(content):
        try:
            converse(Chat(*_writer()), None, max_new_tokens=2)
        except SystemExit as ended:  # after a sentence on each question that could not be asked
            if ended.code != 1:
                raise


def _command(folder: Path) -> None:
    """Words of `classify`, the folder as the first. The status and the sentence are the command's own."""
    from hf_gpt_scratch.cli import main

    try:
        values = json.loads((folder / "words.json").read_bytes())
    except (ValueError, RecursionError):
        return  # no words at all
    words = [str(one) for one in (values if isinstance(values, list) else [values])]
    with _typed(b""):
        main(["classify", str(_made("classifier")), *words])


@contextmanager
def _page() -> Iterator[None]:
    """A page says of a defect that there is one; here it is raised. What it tells of wrong input is its answer."""
    import gradio

    def told_of_a_defect() -> None:
        raise sys.exc_info()[1]

    before, traceback.print_exc = traceback.print_exc, told_of_a_defect
    try:
        yield
    except gradio.Error:
        pass
    finally:
        traceback.print_exc = before


def _call(path: Path, function) -> None:
    """The values of a file, as a browser sends them, to the function of a page."""
    try:
        values = json.loads(path.read_bytes())
    except (ValueError, RecursionError):
        return  # Gradio's own server reads the JSON
    with _page():
        answer = function(*(values if isinstance(values, list) else [values]))
        if hasattr(answer, "__next__"):
            list(answer)


def _as_boxes(kinds: str, function):
    """Values as Gradio's components hand them on: of a text box a text or `None`, of a slider a number."""

    def call(*values):
        values = (*values, *[None] * len(kinds))[: len(kinds)]
        made = [None if value is None else str(value) if kind == "t" else value for kind, value in zip(kinds, values)]
        if any(
            kind == "n" and not (type(value) in (int, float) and abs(value) <= 1000)
            for kind, value in zip(kinds, made)
        ):
            return None  # a slider refuses these
        return function(*made)

    return call


def _judge(folder: Path) -> None:
    from hf_gpt_scratch.apps import classify

    judge, again, _, _ = classify.behaviour(_classifier(), str(folder))
    _call(folder / "sent.json", _as_boxes("tn", judge))
    _call(folder / "sent.json", _as_boxes("tn", again))
    _call(folder / "sent.json", _as_boxes("t", classify.behaviour_of_labels(_classifier("classifier of topics"))[0]))


def _judge_file(folder: Path) -> None:
    from hf_gpt_scratch.apps import classify

    judge_file = classify.behaviour(_classifier(), str(folder / "out"))[2]
    with _page():
        judge_file(str(folder / "messages.csv"), 0.5)


def _page_of_chat(folder: Path) -> None:
    from hf_gpt_scratch.apps import chat

    def ask(text, temperature, top_k, system, remember, input, top_p, penalty):
        settings = (TURNS, min(temperature, 2), top_k, 2, system, remember, [], input, top_p, penalty)
        return chat.answer(*_writer(), text, *settings)

    _call(folder / "sent.json", _as_boxes("tnntbtnn", ask))


def _page_of_votes(folder: Path) -> None:
    from hf_gpt_scratch.apps.compare import Voting
    from hf_gpt_scratch.evaluation import preference

    files = folder / "a.json", folder / "b.json"
    pairs = preference.load_pairs(*files)
    voting = Voting(pairs, preference.Votes(folder / "votes.sqlite", *files))
    from hf_gpt_scratch.apps import page

    @page.errors_on_page()
    def act(name, ticket, choice):
        voting.begin(name)
        voting.vote(ticket, choice)
        voting.undo(ticket)

    _call(folder / "sent.json", _as_boxes("ttt", act))


def _page_of_bot(folder: Path) -> None:
    from hf_gpt_scratch.apps import faq

    _call(folder / "sent.json", _as_boxes("tn", lambda text, threshold: faq.answer(_bot(), text, [], threshold)))


def _sent(*values):
    return lambda folder: (folder / "sent.json").write_text(json.dumps(values))


def _vote(folder: Path) -> None:
    _make_votes(folder)
    _sent("ann", json.dumps({"rater": "ann", "item": 3}), "left")(folder)


def _message(folder: Path) -> None:
    (folder / "message.txt").write_text("win a free prize now\nsee you at home שלום 😀\n")


def _words(folder: Path) -> None:
    words = ["win a prize", "--json", "--stream", "--batch-size", "2", "--device", "cpu"]
    (folder / "words.json").write_text(json.dumps(words))


def _table(folder: Path) -> None:
    (folder / "messages.csv").write_text("text,id\nwin a prize,1\nsee you,2\n=1+1,3\n")


READERS: dict[str, Reader] = {
    "message, classifier": Reader("message.txt", _message, _classify),
    "message, writer": Reader("message.txt", _message, _continue),
    "message, chat": Reader("message.txt", _message, _chat),
    "message, bot": Reader("message.txt", _message, _ask_bot),
    "standard input": Reader("message.txt", _message, _pipe),
    "words of a command": Reader("words.json", _words, _command, "json"),
    "page, classifier": Reader("sent.json", _sent("win a prize", 0.5), _judge, "json"),
    "page, file": Reader("messages.csv", _table, _judge_file, "csv"),
    "page, chat": Reader("sent.json", _sent("Who?", 0, 1, "", True, "", 1.0, 1.0), _page_of_chat, "json"),
    "page, votes": Reader("sent.json", _vote, _page_of_votes, "json"),
    "page, bot": Reader("sent.json", _sent("How do I pay?", 0.5), _page_of_bot, "json"),
}
