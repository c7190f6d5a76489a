"""The chat and spam pages: their parts, over Gradio's own client, in a real browser, and as a Space."""

import csv
import html
import os
import re
import shutil
import signal
import subprocess
import sys
import time
from contextlib import contextmanager
from pathlib import Path

import pytest
from models import save_model

from hf_gpt_scratch import GPTScratchForCausalLM, GPTScratchForSequenceClassification
from hf_gpt_scratch.apps import spam
from hf_gpt_scratch.cli import main
from hf_gpt_scratch.errors import InputError
from hf_gpt_scratch.prompts import CHAT_TEMPLATE

UNTRUSTED = "<script>window.hacked = 1</script> <img src=x onerror='window.hacked = 2'> **bold** &lt;b&gt;"


def save(folder: Path, model_class, **settings) -> Path:
    texts = ["win a free prize now", "see you at home", UNTRUSTED] * 5
    return save_model(folder, model_class, 1, texts, n_positions=256, initializer_range=0.3, **settings)


@pytest.fixture(scope="module")
def models(tmp_path_factory) -> dict[str, Path]:
    folder = tmp_path_factory.mktemp("models")
    names = {"id2label": {0: "ham", 1: "spam"}, "label2id": {"ham": 0, "spam": 1}}
    calibration = {"calibration": {"temperature": 1.0, "shift": 0.0, "threshold": 0.25}}
    return {
        "spam": save(folder / "spam", GPTScratchForSequenceClassification, **names, **calibration),
        "chat": save(folder / "chat", GPTScratchForCausalLM, chat=CHAT_TEMPLATE),
    }


@contextmanager
def started(command, **options):
    """The address that a process prints; it is killed in the end."""
    process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True, **options)
    try:
        line = process.stdout.readline()
        address = re.match(r"Open (http://[\d.]+:\d+/) in a browser", line)
        assert address, line
        yield address[1]
    finally:
        process.send_signal(signal.SIGKILL)
        process.wait(timeout=10)
        process.stdout.close()


def program(*words) -> list[str]:
    return [sys.executable, "-W", "ignore", "-c", "from hf_gpt_scratch.cli import run; run()", "app", *map(str, words)]


@pytest.fixture(scope="module")
def spam_page(models):
    pytest.importorskip("gradio")
    with started(program("spam", models["spam"])) as address:
        yield address


@pytest.fixture(scope="module")
def chat_page(models):
    pytest.importorskip("gradio")
    with started(program("chat", models["chat"])) as address:
        yield address


def client(address):
    return pytest.importorskip("gradio_client").Client(address, verbose=False)


def test_words_are_escaped_and_marked_above_the_threshold():
    shown = spam.words_html([(UNTRUSTED, 0.2), (" prize", 0.7)], threshold=0.5)
    assert "<script" not in shown and "<img" not in shown and "&lt;script&gt;" in shown
    assert shown.count('class="spam"') == 1 and 'title="70.0%"' in shown
    assert spam.words_html([(" prize", 0.7)], threshold=0.8).count('class="spam"') == 0


def test_the_curve_has_a_point_for_each_word():
    [axis] = spam.curve([("a", 0.1), (" $5", 0.9)], 0.25).axes
    assert [list(line.get_ydata()) for line in axis.lines] == [[0.1, 0.9], [0.25, 0.25]]


def test_messages_of_a_file(tmp_path):
    lines, table = tmp_path / "a.txt", tmp_path / "a.csv"
    lines.write_text("one\n\ntwo\n")
    table.write_text('id,Text\n1,"one, and\nmore"\n2,two\n')
    assert spam.read_messages(lines) == ["one", "two"]
    assert spam.read_messages(table) == ["one, and\nmore", "two"]


@pytest.mark.parametrize(
    "name, content, message",
    [
        ("a.txt", b"\xff\xfe", "not UTF-8"),
        ("a.txt", b"\n\n", "no messages"),
        ("a.csv", b"a,b\n1,2\n", "no column named text or message"),
        ("a.txt", b"x\n" * 10_001, "10,001 messages"),
        ("a.txt", b"x" * 10_000_001, "more than 10 MB"),
    ],
)
def test_a_file_that_cannot_be_judged(tmp_path, name, content, message):
    (tmp_path / name).write_bytes(content)
    with pytest.raises(InputError, match=message):
        spam.read_messages(tmp_path / name)


def test_no_cell_is_a_formula():
    cells = ["=1+1", "+4", "-4", "@a", " =1", "a=b"]
    assert [spam.without_formula(cell) for cell in cells] == ["'=1+1", "'+4", "'-4", "'@a", "' =1", "a=b"]


def test_a_message_over_the_wire(spam_page):
    verdict, words, _ = client(spam_page).predict(UNTRUSTED, 0.25, api_name="/judge")
    assert re.search(r"(ham|spam) \(\d+\.\d% spam\)", verdict)
    assert "<script" not in words and words.count("<span") == len(UNTRUSTED.split())
    with pytest.raises(Exception, match="A message is empty"):
        client(spam_page).predict(" ", 0.25, api_name="/judge")


def test_a_file_over_the_wire(spam_page, tmp_path):
    from gradio_client import handle_file

    (tmp_path / "many.txt").write_text("=win a free prize\nsee you at home\n")
    table, saved = client(spam_page).predict(handle_file(tmp_path / "many.txt"), 0.0, api_name="/judge_file")
    path = saved["value"] if isinstance(saved, dict) else saved
    rows = list(csv.reader(Path(path).read_text(encoding="utf-8").splitlines()))
    assert rows[0] == ["message", "label", "probability"] and rows[1][:2] == ["'=win a free prize", "spam"]
    assert len(rows) == 3 and "see you at home" in str(table)


def test_an_answer_over_the_wire_is_that_of_the_terminal(chat_page, models, capsys, monkeypatch):
    asked = client(chat_page).predict("see you", [], 0, 0, 8, "", False, api_name="/ask")
    [question, answer] = asked[0]
    text = answer["content"] if isinstance(answer["content"], str) else answer["content"][0]["text"]
    monkeypatch.setattr(sys, "stdin", open(os.devnull))  # noqa: SIM115
    monkeypatch.setattr("builtins.input", _answers(["see you"]))
    assert main(["chat", str(models["chat"]), "--no-history", "--max-new-tokens", "8"]) == 0
    assert capsys.readouterr().out.strip("\n") == html.unescape(text)
    with pytest.raises(Exception, match="The question is empty"):
        client(chat_page).predict("", [], 0, 0, 8, "", False, api_name="/ask")


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
    assert "not a sequence classifier" in capsys.readouterr().err
    assert main(["app", "chat", str(models["spam"])]) == 1
    assert capsys.readouterr().err.count("error:") == 1


@pytest.mark.browser  # minutes on a busy machine
@pytest.mark.parametrize("app", ["spam", "chat"])
def test_a_space_runs_by_itself(models, tmp_path, app):
    pytest.importorskip("gradio")
    out = tmp_path / "space"
    assert main(["app", app, str(models[app]), "--export-space", str(out)]) == 0
    requirements = (out / "requirements.txt").read_text()
    assert (
        re.search(r"^gradio==", requirements, re.MULTILINE) and "torch" in requirements and "extra" not in requirements
    )
    assert "sdk: gradio" in (out / "README.md").read_text() and (out / "model" / "model.safetensors").is_file()
    assert not list(out.rglob("__pycache__"))
    code = (out / "app.py").read_text().replace('"0.0.0.0", 7860', '"127.0.0.1", None')
    code += "\n"
    check = (
        "import hf_gpt_scratch, pathlib; assert pathlib.Path.cwd() in pathlib.Path(hf_gpt_scratch.__file__).parents\n"
    )
    environment = {key: value for key, value in os.environ.items() if key != "PYTHONPATH"}
    with started([sys.executable, "-W", "ignore", "-c", check + code], cwd=out, env=environment) as address:
        assert client(address).view_api(return_format="dict")["named_endpoints"]
    assert main(["app", app, str(models[app]), "--export-space", str(out)]) == 1  # it is there already


@pytest.fixture
def browser():
    if not (shutil.which("chromium") and shutil.which("chromedriver")):
        pytest.skip("needs Debian's chromium and chromium-driver")
    webdriver = pytest.importorskip("selenium.webdriver")
    options = webdriver.ChromeOptions()
    for argument in ("--headless=new", "--no-sandbox", "--disable-dev-shm-usage"):
        options.add_argument(argument)
    options.add_experimental_option("mobileEmulation", {"deviceMetrics": {"width": 360, "height": 760}})
    browser = webdriver.Chrome(options=options, service=webdriver.ChromeService(shutil.which("chromedriver")))
    yield browser
    browser.quit()


def wait_for(condition, seconds: float = 30):
    deadline = time.monotonic() + seconds
    while not (found := condition()):
        assert time.monotonic() < deadline, "waited in vain"
        time.sleep(0.1)
    return found


@pytest.mark.browser
def test_the_spam_page_on_a_phone(browser, spam_page, tmp_path):
    from selenium.webdriver.common.by import By

    browser.get(spam_page)
    box = wait_for(lambda: browser.find_elements(By.CSS_SELECTOR, "#message textarea"))[0]
    box.clear()
    box.send_keys(UNTRUSTED)
    browser.find_element(By.ID, "judge").click()
    words = wait_for(lambda: browser.find_elements(By.CSS_SELECTOR, "#words span"))
    assert "".join(word.text for word in words).replace(" ", "") == UNTRUSTED.replace(" ", "")
    assert browser.execute_script("return window.hacked") is None
    wait_for(lambda: browser.find_elements(By.CSS_SELECTOR, "#curve img, #curve canvas"))
    assert browser.execute_script("return document.documentElement.scrollWidth <= window.innerWidth")

    (tmp_path / "many.txt").write_text("win a free prize\nsee you at home\n")
    next(tab for tab in browser.find_elements(By.CSS_SELECTOR, "[role=tab]") if "many" in tab.text).click()
    browser.find_element(By.CSS_SELECTOR, "input[type=file]").send_keys(str(tmp_path / "many.txt"))
    wait_for(lambda: "many.txt" in browser.page_source or "many" in browser.page_source)
    time.sleep(1)  # the upload
    browser.find_element(By.ID, "judge-all").click()
    wait_for(lambda: "see you at home" in browser.find_element(By.TAG_NAME, "body").text)
    wait_for(lambda: browser.find_element(By.ID, "download").is_displayed())
    assert browser.execute_script("return document.documentElement.scrollWidth <= window.innerWidth")


@pytest.mark.browser
def test_the_chat_page_on_a_phone(browser, chat_page):
    from selenium.webdriver.common.by import By

    browser.get(chat_page)
    box = wait_for(lambda: browser.find_elements(By.CSS_SELECTOR, "#question textarea"))[0]
    box.send_keys("<img src=x onerror='window.hacked = 2'>")
    browser.find_element(By.ID, "ask").click()
    wait_for(lambda: len(browser.find_elements(By.CSS_SELECTOR, "#conversation [data-testid=bot]")) == 1)
    browser.find_element(By.ID, "stop").click()
    assert browser.execute_script("return window.hacked") is None
    assert "onerror" in browser.find_element(By.ID, "conversation").text
    assert browser.execute_script("return document.documentElement.scrollWidth <= window.innerWidth")
    browser.find_element(By.ID, "new").click()
    wait_for(lambda: not browser.find_elements(By.CSS_SELECTOR, "#conversation [data-testid=bot]"))
