"""The pages as their tests need them: served, and a browser to open them in."""

import csv
import json
import shutil
from pathlib import Path

import pytest

from hf_gpt_scratch import GPTScratchForCausalLM, GPTScratchForSequenceClassification
from hf_gpt_scratch.classification.classifier import TextClassifier
from hf_gpt_scratch.evaluation.preference import Votes
from hf_gpt_scratch.generation.chat import Chat
from hf_gpt_scratch.prompts import CHAT_TEMPLATE
from support.in_browser import ANSWERS, MARKUP, UNTRUSTED, program, started
from support.models import save_model


def save(folder: Path, model_class, **settings) -> Path:
    texts = ["win a free prize now", "see you at home", UNTRUSTED] * 5
    return save_model(folder, model_class, 1, texts, n_positions=256, initializer_range=0.3, **settings)


@pytest.fixture(scope="session")
def models(tmp_path_factory) -> dict[str, Path]:
    folder = tmp_path_factory.mktemp("models")
    names = {"id2label": {0: "ham", 1: "spam"}, "label2id": {"ham": 0, "spam": 1}}
    calibration = {"calibration": {"temperature": 1.0, "shift": 0.0, "threshold": 0.25}}
    spam = save(folder / "spam", GPTScratchForSequenceClassification, **names, **calibration)
    topics = dict(enumerate(("billing", "delivery", "login")))
    topics = {"id2label": topics, "label2id": {name: number for number, name in topics.items()}}
    outside = {"calibration": {"outside_threshold": 0.4}}
    topics = save(folder / "topics", GPTScratchForSequenceClassification, **topics, **outside)
    chat = save(folder / "chat", GPTScratchForCausalLM, chat=CHAT_TEMPLATE)
    record_predictions(spam)
    record_responses(chat)
    return {"spam": spam, "topics": topics, "chat": chat}


def record_predictions(folder: Path) -> None:
    """Messages of a test set, one half with the label that the model gives and the other with the wrong one."""
    texts = [UNTRUSTED, "win a free prize now at home", "see you at home and now", "a free prize at home, see you"]
    classify = TextClassifier.from_pretrained(folder, device="cpu").classify
    right = [[one.text, int(one.label == "spam")] for one in classify(texts)]
    wrong = [[one.text, int(one.label == "ham")] for one in classify(f"{text}, wrongly labelled" for text in texts)]
    with open(folder / "predictions.csv", "w", encoding="utf-8", newline="") as file:
        csv.writer(file).writerows([["text", "label"], *right, *wrong])


def record_responses(folder: Path) -> None:
    """Answers to a test set: of three questions the model's own, of one another one."""
    chat = Chat.from_pretrained(folder, device="cpu")
    rows = []
    for instruction, input in [("see you", ""), ("win a prize", "at home"), (f"free {UNTRUSTED}", ""), ("Wrong", "")]:
        answer = "".join(chat.ask(instruction, input=input))
        row = {"instruction": instruction, "input": input, "output": answer, "model_response": answer}
        rows.append(row if instruction != "Wrong" else {**row, "output": f"not {answer}"})
    (folder / "responses.json").write_text(json.dumps(rows), encoding="utf-8")


@pytest.fixture(scope="module")
def topics_page(models):
    pytest.importorskip("gradio")
    with started(program("classify", models["topics"])) as (_, address):
        yield address


@pytest.fixture(scope="module")
def spam_page(models):
    pytest.importorskip("gradio")
    with started(program("classify", models["spam"])) as (_, address):
        yield address


@pytest.fixture(scope="module")
def chat_page(models):
    pytest.importorskip("gradio")
    with started(program("chat", models["chat"])) as (_, address):
        yield address


# A model that writes HTML, then more and more, half a minute long.
SLOW = """
import time
import hf_gpt_scratch.generation.chat as chat

def stream_text(*args, **sampling):
    for piece in ("<script>window.hacked = 3</script> <img src=x on", "error='window.hacked = 4'>", *[" word"] * 150):
        yield piece
        time.sleep(0.2)

chat.stream_text = stream_text
"""


@pytest.fixture(scope="module")
def slow_chat_page(models):
    pytest.importorskip("gradio")
    with started(program("chat", models["chat"], before=SLOW)) as (_, address):
        yield address


@pytest.fixture(scope="module")
def browser():
    if not (shutil.which("chromium") and shutil.which("chromedriver")):
        pytest.skip("needs Debian's chromium and chromium-driver")
    webdriver = pytest.importorskip("selenium.webdriver")
    options = webdriver.ChromeOptions()
    for argument in ("--headless=new", "--no-sandbox", "--disable-dev-shm-usage"):
        options.add_argument(argument)
    options.set_capability("goog:loggingPrefs", {"performance": "ALL"})  # which addresses a page asks
    browser = webdriver.Chrome(options=options, service=webdriver.ChromeService(shutil.which("chromedriver")))
    yield browser
    browser.quit()


@pytest.fixture(scope="session")
def files(tmp_path_factory):
    folder = tmp_path_factory.mktemp("responses")
    paths = folder / "a.json", folder / "b.json"
    for path in paths:
        rows = [
            {
                "instruction": f"Question {number}? {MARKUP}",
                "input": "An input\nof two lines" if number % 2 else "",
                "model_response": f"{path.stem}: {text}" if text else "",
            }
            for number, text in enumerate(ANSWERS)
        ]
        path.write_text(json.dumps(rows))
    return [str(path) for path in paths]


@pytest.fixture(scope="module")
def server(files, tmp_path_factory):
    pytest.importorskip("gradio")
    output = tmp_path_factory.mktemp("votes") / "votes.sqlite"
    with started(program("compare", *files, "--output", output)) as (_, address):
        yield address, Votes(output, *files)
