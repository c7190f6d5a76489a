"""The chat and spam pages: their parts, and over Gradio's own client."""

import csv
import html
import json
import os
import re
import shutil
import signal
import sys
from functools import partial
from pathlib import Path

import pytest

from hf_gpt_scratch import GPTScratchForCausalLM
from hf_gpt_scratch.apps import chat, page
from hf_gpt_scratch.apps import classify as spam
from hf_gpt_scratch.cli import main
from hf_gpt_scratch.pretrained import load_pretrained
from hf_gpt_scratch.prompts import PREAMBLE
from hf_gpt_scratch.tokenizer import load_tokenizer
from hf_gpt_scratch.utils.errors import InputError
from support.in_browser import UNTRUSTED, client, program, started, wait_for


def test_messages_of_a_file(tmp_path):
    lines, table = tmp_path / "a.txt", tmp_path / "a.csv"
    lines.write_text("one\n\ntwo\n")
    table.write_text('id,Text\n1,"one, and\nmore"\n2,two\n')
    assert spam.read_messages(lines) == ["one", "two"]
    assert spam.read_messages(table) == ["one, and\nmore", "two"]
    table.write_text("message\none, two, three\nfour\n")  # nothing is cut at a comma
    assert spam.read_messages(table) == ["one, two, three", "four"]
    table.write_text("id;text\n1;one, two\n" + f"2;{'x' * 131_073}\n")
    assert spam.read_messages(table) == ["one, two", "x" * 131_073]


def test_gradio_reports_nothing():
    pytest.importorskip("gradio")
    assert page.blocks("a page").analytics_enabled is False
    from gradio import analytics

    assert analytics.analytics_enabled() is False


def test_the_page_reads_the_column_that_the_classifier_was_trained_on_and_names_it(tmp_path, models):
    pytest.importorskip("gradio")
    folder = shutil.copytree(models["topics"], tmp_path / "topics")
    trained_on = {"text_column": "Anfrage", "label_column": "Thema"}
    (folder / "metrics.json").write_text(json.dumps({"data": trained_on}))
    table = tmp_path / "a.csv"
    table.write_text("Anfrage,Thema,Ort\nwin a prize,billing,Ulm\n")
    blocks = spam.load(folder)
    shown = [getattr(one, "value", None) for one in blocks.blocks.values()]
    assert any("a column named Anfrage, text or message." in str(one) for one in shown)
    [judge] = [one.fn for one in blocks.fns.values() if one.api_name == "judge_file"]
    assert judge(str(table))[1][0][0] == "win a prize"
    table.write_text("Frage,Thema,Ort\nwin a prize,billing,Ulm\n")
    with pytest.raises(InputError, match="'Frage', 'Ort'; call it Anfrage, text or message.$"):
        spam.read_messages(table, trained_on)


@pytest.mark.parametrize("end", ["\n", "\r\n"])
def test_a_message_is_not_cut_at_other_line_ends(tmp_path, end):
    message = "one \u2028 two \x85 three \f four"
    (tmp_path / "a.txt").write_bytes(f"{message}{end}next{end}".encode())
    (tmp_path / "a.csv").write_bytes(f"text,id{end}{message},1{end}next,2{end}".encode("utf-8-sig"))
    assert spam.read_messages(tmp_path / "a.txt") == [message, "next"]
    assert spam.read_messages(tmp_path / "a.csv") == [message, "next"]


@pytest.mark.parametrize(
    "name, content, message",
    [
        ("a.txt", b"\xff\xfea", "a.txt is not UTF-16"),
        ("a.txt", b"\n\n", "no messages"),
        ("a.csv", b"a,b\n1,2\n", "which column of a.csv holds the texts: 'a', 'b'"),
        ("a.csv", b"id,text\n1,one, two\n2,x\n3,y\n", "a.csv, row 2: it has 3 cells, and the header has 2"),
        (
            "a.csv",
            b'text\n"one\ntwo\nthree\n',
            "a.csv, row 2 .from line 2 on.: its quotation marks do not match .unexpected end",
        ),
        ("a.csv", b'text\n"one\n"two\n', "row 2 .from line 2 on.: its quotation marks do not match"),
        ("a.txt", b"x\n" * 10_001, "10,001 messages; the page classifies at most 10,000"),
        ("a.txt", b"x" * 10_000_001, "more than 10 MB"),
    ],
)
def test_a_file_that_cannot_be_judged(tmp_path, name, content, message):
    (tmp_path / name).write_bytes(content)
    with pytest.raises(InputError, match=message):
        spam.read_messages(tmp_path / name)


@pytest.mark.parametrize("before", ["", " ", "\t", "\r", "\ufeff", "\u200b\u2060", "\x00", "\u3000\u00ad"])
@pytest.mark.parametrize("sign", "=+-@＝＋－＠﹦")
def test_no_cell_is_a_formula(before, sign):
    assert spam.without_formula(f"{before}{sign}1") == f"'{before}{sign}1"
    assert spam.without_formula(f"{before}a{sign}1") == f"{before}a{sign}1"


def test_a_table_has_quotes_around_every_cell_and_no_formula(tmp_path):
    path = spam.write_table([["=1", "@ham", 0.5], ['a;"=2"', "spam", 0.25]], tmp_path / "new")
    assert Path(path).read_text(encoding="utf-8").splitlines() == [
        '"message","label","probability"',
        '"\'=1","\'@ham","0.5"',
        '"a;""=2""","spam","0.25"',
    ]


def test_defects_are_told_on_the_page_and_traced_in_the_terminal(capsys):
    gradio = pytest.importorskip("gradio")
    with pytest.raises(gradio.Error, match="Something went wrong"), page.errors_on_page():
        raise RuntimeError("a secret <path>")
    assert "RuntimeError: a secret <path>" in capsys.readouterr().err
    with pytest.raises(gradio.Error, match="is &lt;wrong&gt;"), page.errors_on_page():
        raise InputError("It is <wrong>.")
    assert capsys.readouterr().err == ""


@pytest.mark.parametrize("port", ["abc", "0", "65536", "-1", "1.5"])
def test_ports_that_are_none(capsys, port):
    with pytest.raises(SystemExit):
        main(["app", "spam", "DIR", f"--port={port}"])
    assert f"must be a whole number from 1 to 65535, not {port}" in capsys.readouterr().err


def test_a_message_over_the_wire(spam_page):
    verdict, words = client(spam_page).predict(UNTRUSTED, 0.25, api_name="/judge")
    assert re.search(r'label-[01]">(ham|spam)</div><div>\d+\.\d% spam, (not )?above the threshold of 25.0%', verdict)
    assert "<script" not in words and words.count('role="button"') == len(UNTRUSTED.split())
    with pytest.raises(Exception, match="A message is empty"):
        client(spam_page).predict(" ", 0.25, api_name="/judge")
    with pytest.raises(Exception, match="10,001 characters; the page reads 10,000"):
        client(spam_page).predict("x" * 10_001, 0.25, api_name="/judge")


def judge_file(address, path, threshold: float = 0.0):
    """The table and the rows of the CSV file that the page makes of a file."""
    from gradio_client import handle_file

    table, saved = client(address).predict(handle_file(path), threshold, api_name="/judge_file")
    with open(saved["value"] if isinstance(saved, dict) else saved, encoding="utf-8", newline="") as file:
        return table, list(csv.reader(file))


def test_a_file_over_the_wire(spam_page, tmp_path):
    (tmp_path / "many.txt").write_text("=win a free prize\nsee you at home\n")
    table, rows = judge_file(spam_page, tmp_path / "many.txt")
    assert rows[0] == ["message", "label", "probability"] and rows[1][:2] == ["'=win a free prize", "spam"]
    assert len(rows) == 3 and "see you at home" in str(table)


def test_a_classifier_of_more_labels_over_the_wire(topics_page, models, tmp_path):
    from gradio_client import handle_file

    from hf_gpt_scratch.classification.classifier import TextClassifier

    classifier = TextClassifier.from_pretrained(models["topics"], device="cpu")
    texts = [UNTRUSTED, "win a free prize now", "see you at home"]
    expected = list(classifier.classify(texts))
    for one in expected:
        verdict, words = client(topics_page).predict(one.text, api_name="/judge")
        assert f">{one.label}</div>" in verdict and "<script" not in words
        assert words.count('role="button"') == len(one.text.split()) and words.count("<polygon") == 3
    with open(tmp_path / "many.txt", "w", encoding="utf-8") as file:
        file.writelines(f"{text}\n" for text in texts)
    _, saved = client(topics_page).predict(handle_file(tmp_path / "many.txt"), api_name="/judge_file")
    with open(saved["value"] if isinstance(saved, dict) else saved, encoding="utf-8", newline="") as file:
        assert [row[1] for row in csv.reader(file)] == ["label", *(one.label for one in expected)]
    with pytest.raises(Exception, match="Choose a file first"):
        client(topics_page).predict(None, api_name="/judge_file")


def test_no_message_stays_on_the_disk(models, tmp_path):
    pytest.importorskip("gradio")
    (tmp_path / "many.txt").write_text("see you at home\n")
    temporary = tmp_path / "temporary"
    temporary.mkdir()

    def held() -> list[str]:
        files = [path for path in temporary.rglob("*") if path.is_file()]
        return [path.name for path in files if b"see you at home" in path.read_bytes()]

    with started(program("spam", models["spam"]), env={**os.environ, "TMPDIR": str(temporary)}) as (process, address):
        assert len(judge_file(address, tmp_path / "many.txt")[1]) == 2
        assert len(held()) == 2  # the upload and the table
        process.send_signal(signal.SIGTERM)
        process.wait(timeout=20)
    assert not held()


def test_old_files_are_deleted_while_the_page_is_shown(models):
    route_utils = pytest.importorskip("gradio.route_utils")
    from hf_gpt_scratch.classification.classifier import TextClassifier

    blocks = spam.make_page(TextClassifier.from_pretrained(models["spam"]))
    assert blocks.delete_cache == page.CACHE_SECONDS
    [save] = [one for one in blocks.blocks.values() if one.elem_id == "download"]
    path = Path(spam.write_table([["one", "ham", 0.5]], save.GRADIO_CACHE))
    assert save.move_resource_to_block_cache(path) == str(path)  # no second copy
    route_utils.delete_files_created_by_app(blocks, age=3600)
    assert path.is_file()
    route_utils.delete_files_created_by_app(blocks, age=0)
    assert not path.exists()


def test_an_answer_over_the_wire_is_that_of_the_terminal(chat_page, models, capsys, monkeypatch):
    asked = client(chat_page).predict("see you", [], 0, 0, 8, "", False, api_name="/ask")
    [question, answer] = asked[0]
    text = answer["content"] if isinstance(answer["content"], str) else answer["content"][0]["text"]
    monkeypatch.setattr(sys, "stdin", open(os.devnull))  # noqa: SIM115
    monkeypatch.setattr("builtins.input", _answers(["see you"]))
    assert main(["chat", str(models["chat"]), "--max-new-tokens", "8"]) == 0
    assert capsys.readouterr().out.strip("\n") == html.unescape(text)
    with pytest.raises(Exception, match="The question is empty"):
        client(chat_page).predict("", [], 0, 0, 8, "", False, api_name="/ask")


def test_an_answer_that_a_later_question_overtook_stays_away(models, monkeypatch):
    model, tokenizer = load_pretrained(GPTScratchForCausalLM, models["chat"]), load_tokenizer(str(models["chat"]))
    monkeypatch.setattr("hf_gpt_scratch.generation.chat.stream_text", lambda *_, **__: iter(["one", " two", " three"]))
    answer, wish = partial(chat.answer, model, tokenizer), []
    settings = (0, 0, 8, "", False, wish, "", 1, 1)
    first = answer("early", [], *settings)
    assert [next(first)[0][-1]["content"] for _ in range(2)][-1] == "one"
    assert chat.begin_anew(wish)[0] == []
    second = answer("late", [], *settings)
    assert next(second)[0][0]["content"] == "late"
    assert list(first) == [] and list(second)[-1][0][-1]["content"] == "one two three"


def test_a_question_with_an_input_is_read_again_as_it_was_asked(models, monkeypatch):
    pytest.importorskip("gradio")
    model, tokenizer = load_pretrained(GPTScratchForCausalLM, models["chat"]), load_tokenizer(str(models["chat"]))
    read, wish = [], []
    monkeypatch.setattr(
        "hf_gpt_scratch.generation.chat.stream_text",
        lambda model, tokenizer, prompt, *_, **__: read.append(prompt) or iter(["one"]),
    )
    for template in (tokenizer.chat_template, "{% for one in messages %}{{ one.content }}|{% endfor %}"):
        tokenizer.chat_template = template
        settings = (0, 0, 8, "", True, wish)
        *_, (history, *_) = chat.answer(model, tokenizer, "Sort <it>", [], *settings, " b & a ", 1, 1)
        list(chat.answer(model, tokenizer, "Go on", history, *settings, "", 1, 1))
        *_, (again, *_) = chat.answer_again(model, tokenizer, history, *settings, 1, 1)
        first, second, third = read[-3:]
        assert second.startswith(first) and third == first and again[0] == history[0]
    assert first == "Sort <it>\n\nb & a|" and "### Input:" in read[0]


def test_only_a_follower_of_single_instructions_is_said_to_be_one(models):
    pytest.importorskip("gradio")
    model, tokenizer = load_pretrained(GPTScratchForCausalLM, models["chat"]), load_tokenizer(str(models["chat"]))
    assert "to follow single instructions: ask for one thing at a time. It knows" in shown_header(model, tokenizer)
    tokenizer.chat_template = "{{ messages }}"
    assert "<p>Ask something. It knows little, so check what it says.</p>" in shown_header(model, tokenizer)


def shown_header(model, tokenizer) -> str:
    [header] = [one for one in chat.make_page(model, tokenizer).blocks.values() if one.elem_id == "header"]
    return header.value


def test_two_ask_at_a_time(slow_chat_page):
    asked = [client(slow_chat_page).submit("hi", [], 0, 0, 8, "", False, api_name="/ask") for _ in range(2)]
    wait_for(lambda: all(len(job.outputs()) > 2 for job in asked))
    assert not any(job.done() for job in asked)
    for job in asked:
        job.cancel()


def test_the_page_offers_the_sentence_of_the_training_which_changes_nothing(chat_page):
    sentences = [one for one in client(chat_page).config["components"] if one["props"].get("value") == PREAMBLE]
    assert len(sentences) == 1
    asked = [
        client(chat_page).predict("see you", [], 0, 0, 8, system, False, api_name="/ask")[0][1]["content"]
        for system in ("", PREAMBLE, "Win a prize.")
    ]
    assert asked[0] == asked[1] != asked[2]


def _answers(lines: list[str]):
    """An `input` that gives these lines and then the end."""
    waiting = list(lines)

    def read(prompt: str = "") -> str:
        if not waiting:
            raise EOFError
        return waiting.pop(0)

    return read


def test_models_of_the_other_kind_are_refused(models, tmp_path, capsys):
    pytest.importorskip("gradio")
    assert main(["app", "spam", str(models["chat"])]) == 1
    assert "a language model, not a classifier" in capsys.readouterr().err
    assert main(["app", "chat", str(models["spam"])]) == 1
    assert capsys.readouterr().err.count("error:") == 1


def test_what_is_neither_a_folder_nor_a_repository_is_refused(capsys):
    assert main(["app", "spam", "nowhere"]) == 1
    assert "error: There is no model folder 'nowhere'" in capsys.readouterr().err


def test_a_page_can_be_shared(monkeypatch, capsys):
    pytest.importorskip("gradio")

    class Blocks:
        """A page whose public address is the one given; no test may ask Gradio's server for one."""

        blocks: dict = {}

        def __init__(self, public):
            self.public = public

        def launch(self, share, **options):
            self.server = self.app = None
            return None, "http://127.0.0.1:7860/", self.public if share else None

    for part in ("limit", "slim", "watch", "run"):
        monkeypatch.setattr(f"hf_gpt_scratch.apps.server.{part}", lambda *_: None)
    for share, public, address, note in [
        (True, "https://one.gradio.live", "https://one.gradio.live", ""),
        (True, None, "http://127.0.0.1:7860/", "gave no public address"),
        (False, "https://one.gradio.live", "http://127.0.0.1:7860/", ""),
    ]:
        page.serve(Blocks(public), "127.0.0.1", None, share)
        printed = capsys.readouterr()
        assert printed.out == f"Open {address} in a browser. Ctrl-C ends.\n" and note in printed.err


def test_a_checkpoint_is_named_after_its_run(tmp_path):
    (tmp_path / "follower" / "checkpoint-20").mkdir(parents=True)
    assert page.model_name(tmp_path / "follower") == "follower"
    assert page.model_name(tmp_path / "follower" / "checkpoint-20") == "follower/checkpoint-20"
    assert page.model_name("you/follower") == "you/follower"


def test_a_message_is_read_once_however_the_threshold_moves(models, monkeypatch, tmp_path):
    classifier, read = spam.TextClassifier.from_pretrained(models["spam"], device="cpu"), []
    forward = classifier.model.forward

    def counted(input_ids, **kwargs):
        read.append(input_ids.numel())
        return forward(input_ids=input_ids, **kwargs)

    monkeypatch.setattr(classifier.model, "forward", counted)
    judge, judge_again, *_ = spam.behaviour(classifier, str(tmp_path))
    above, words = judge("win a free prize now", 0.0)
    below, _ = judge_again("win a free prize now", 1.0)
    assert "label-1" in above and "label-0" in below and "prize" in words
    assert len(read) == 1
    assert judge("see you at home", 0.0)[1] != words and len(read) == 2
    judge("win a free prize now", 0.5)
    assert len(read) == 2
