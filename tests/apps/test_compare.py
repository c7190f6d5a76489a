"""
The comparison page: over Gradio's own client, in a real browser, and its results.

    pytest -m browser tests/apps

needs the packages gradio and selenium, and Debian's chromium and chromium-driver.
"""

import argparse
import inspect
import json
import os
import re
import shutil
import signal
import sqlite3
import subprocess
import sys
import time
from contextlib import contextmanager

import pytest

from hf_gpt_scratch.apps import compare, page
from hf_gpt_scratch.apps.votes import CHOICES, Votes
from hf_gpt_scratch.errors import InputError, UsageError
from hf_gpt_scratch.evaluation.card import read_card

UNTRUSTED = (
    "<script>window.hacked = 1</script><img src=x onerror='window.hacked = 2'> **bold** # head\n"
    "  $x^2$ ${window.hacked = 3} {{value}} {{#each value}}z{{/each}} @children [x](javascript:alert(1)) &lt;b&gt;"
)
ANSWERS = [UNTRUSTED, "long " * 2000, "", "x" * 1000]
PROGRAM = """
import argparse
from hf_gpt_scratch.apps import compare
parser = argparse.ArgumentParser()
compare.add_arguments(parser)
compare.run(parser.parse_args())
"""


@pytest.fixture(scope="module")
def files(tmp_path_factory):
    folder = tmp_path_factory.mktemp("responses")
    paths = folder / "a.json", folder / "b.json"
    for path in paths:
        rows = [
            {
                "instruction": f"Question {number}? {UNTRUSTED}",
                "input": "An input\nof two lines" if number % 2 else "",
                "model_response": f"{path.stem}: {text}" if text else "",
            }
            for number, text in enumerate(ANSWERS)
        ]
        path.write_text(json.dumps(rows))
    return [str(path) for path in paths]


@contextmanager
def serving(files, output, *options):
    """The page's address, served by a process of its own; killed in the end."""
    start = time.monotonic()
    process = subprocess.Popen(
        [sys.executable, "-c", PROGRAM, *files, "--output", output, *options], stdout=subprocess.PIPE, text=True
    )
    try:
        line = process.stdout.readline()
        address = re.match(r"Open (http://127\.0\.0\.1:\d+/) in a browser", line)
        assert address, line
        yield address[1], time.monotonic() - start
    finally:
        process.send_signal(signal.SIGKILL)
        process.wait(timeout=10)
        process.stdout.close()


@pytest.fixture(scope="module")
def server(files, tmp_path_factory):
    pytest.importorskip("gradio")
    output = tmp_path_factory.mktemp("votes") / "votes.sqlite"
    with serving(files, output) as (address, _):
        yield address, Votes(output, *files)


@pytest.fixture
def client(server):
    client = pytest.importorskip("gradio_client").Client(server[0], verbose=False)
    yield client
    client.close()


def ticket(rater, item):
    return json.dumps({"rater": rater, "item": item})


def shown(update) -> str:
    """The text of all that an answer of the server puts on the page."""
    return json.dumps(update)


def test_a_vote_over_the_wire_is_kept_and_the_next_pair_comes(client, server):
    votes = server[1]
    assert "1 of 4" in shown(client.predict("Wire", api_name="/begin"))
    assert "2 of 4" in shown(client.predict(ticket("wire", 0), "left", api_name="/vote"))
    assert "2 of 4" in shown(client.predict(ticket("wire", 0), "right", api_name="/vote"))  # a second click
    kept = [vote for vote in votes.all() if vote[0] == "wire"]
    left = "A" if votes.a_is_left("wire", 0) else "B"
    assert kept == [("wire", 0, left, left)]
    assert "1 of 4" in shown(client.predict(ticket("wire", 1), api_name="/undo"))
    assert not [vote for vote in votes.all() if vote[0] == "wire"]


@pytest.mark.parametrize(
    "endpoint, values, message",
    [
        ("/begin", [" "], "Type your name first"),
        ("/vote", ["", "left"], "Type your name first"),
        ("/vote", ["[1]", "left"], "Type your name first"),
        ("/vote", [ticket("wire", "one"), "left"], "Type your name first"),
        ("/vote", [ticket("wire", 0), "up"], "A vote is one of left, right, tie, both_bad"),
    ],
)
def test_requests_that_no_page_sends_are_refused_in_a_sentence(client, server, endpoint, values, message):
    before = server[1].all()
    with pytest.raises(Exception, match=message):
        client.predict(*values, api_name=endpoint)
    assert server[1].all() == before


def test_nothing_that_the_page_gets_tells_which_model_is_where(client, server, files):
    """The answers themselves name their model in this test, the rest of what is sent must not."""
    sent = shown(client.predict("Blind", api_name="/begin")) + json.dumps(client.config)
    for secret in (*files, "a.json", "b.json", "a_is_left", '"A"', '"B"'):
        assert secret not in sent


@pytest.fixture(scope="module")
def browser():
    webdriver = pytest.importorskip("selenium.webdriver")
    chromium, driver = (shutil.which(name) for name in ("chromium", "chromedriver"))
    if not (chromium and driver):
        pytest.skip("Debian's packages chromium and chromium-driver are not installed")
    options = webdriver.ChromeOptions()
    options.binary_location = chromium
    for argument in ("--headless", "--no-sandbox", "--disable-dev-shm-usage"):
        options.add_argument(argument)
    options.set_capability("goog:loggingPrefs", {"performance": "ALL"})
    browser = webdriver.Chrome(options=options, service=webdriver.ChromeService(driver))
    yield browser
    browser.quit()


class Page:
    """What a rater sees and does."""

    def __init__(self, browser, address: str, width: int = 1200):
        self.browser = browser
        browser.set_window_size(width, 900)
        browser.get(address)

    def until(self, selector: str, has: str = ""):
        """The element, once it is visible and has the text."""
        from selenium.common.exceptions import StaleElementReferenceException
        from selenium.webdriver.support.ui import WebDriverWait

        def find(browser):
            found = browser.find_elements("css selector", selector)
            return next((element for element in found if element.is_displayed() and has in element.text), None)

        wait = WebDriverWait(self.browser, 15, 0.05, [StaleElementReferenceException])
        return wait.until(find, f"no {selector} with {has!r}")

    def begin(self, name: str, progress: str = "1 of 4"):
        self.until("#name textarea, #name input").send_keys(name + "\n")
        self.until("#progress", progress)

    def press(self, key: str):
        self.browser.find_element("tag name", "body").send_keys(key)

    def text(self, identity: str) -> str:
        return self.until(f"#{identity} .text").get_property("textContent")


def kept(votes, rater):
    return [vote[1:] for vote in votes.all() if vote[0] == rater]


@pytest.mark.browser
def test_untrusted_texts_are_shown_as_they_are(browser, server):
    address, votes = server
    page = Page(browser, address)
    page.begin("Reader")
    assert page.text("question") == f"Question 0? {UNTRUSTED}"
    sides = ("a", "b") if votes.a_is_left("reader", 0) else ("b", "a")
    assert [page.text("answer-1"), page.text("answer-2")] == [f"{side}: {UNTRUSTED}" for side in sides]
    assert browser.execute_script("return window.hacked") is None
    assert not browser.find_elements("css selector", ".text *")
    page.press("0")
    page.until("#progress", "2 of 4")
    assert page.text("question") == f"Question 1? {UNTRUSTED}\n\nAn input\nof two lines"
    page.press("0")
    page.until("#progress", "3 of 4")
    assert page.text("answer-1") == page.text("answer-2") == "(empty)"


@pytest.mark.browser
def test_keys_vote_undo_and_resume(browser, server):
    from selenium.webdriver.common.keys import Keys

    address, votes = server
    page = Page(browser, address)
    page.begin("Keys 1029u")  # keys typed into the name are no votes
    assert not kept(votes, "keys 1029u")
    page.press("1")
    page.until("#progress", "2 of 4")
    page.press(Keys.ARROW_RIGHT)
    page.until("#progress", "3 of 4")
    page.press("9")
    page.until("#progress", "4 of 4")
    page.press("u")
    page.until("#progress", "3 of 4")

    page = Page(browser, address)
    page.begin("keys 1029U", "3 of 4")
    page.press("0")
    page.until("#progress", "4 of 4")
    page.press("2")
    page.until("#progress", "All 4 of 4 are done")
    lefts = ["A" if votes.a_is_left("keys 1029u", item) else "B" for item in range(4)]
    rights = ["B" if left == "A" else "A" for left in lefts]
    winners = [lefts[0], rights[1], "tie", rights[3]]
    assert kept(votes, "keys 1029u") == list(zip(range(4), winners, lefts))
    page.press("1")  # nothing is left to vote on
    page.until("#undo").click()
    page.until("#answer-1")
    assert len(kept(votes, "keys 1029u")) == 3


@pytest.mark.browser
def test_a_held_key_or_a_shortcut_of_the_browser_votes_no_further(browser, server):
    address, votes = server
    page = Page(browser, address)
    page.begin("Holder")
    for options in ('key: "1", repeat: true', 'key: "1", ctrlKey: true', 'key: "5"'):
        browser.execute_script(
            f"document.body.dispatchEvent(new KeyboardEvent('keydown', {{{options}, bubbles: true}}))"
        )
    time.sleep(0.5)  # for a vote that would be kept
    assert not kept(votes, "holder")
    browser.execute_script("for (let i = 0; i < 5; i++) document.getElementById('tie').click()")
    browser.execute_script("document.getElementById('left').click()")
    page.until("#progress", "2 of 4")
    time.sleep(0.5)
    assert len(kept(votes, "holder")) == 1


@pytest.mark.browser
def test_on_a_phone_answers_are_stacked_and_buttons_in_sight(browser, server):
    address, votes = server
    page = Page(browser, address, width=390)
    page.begin("Phone")
    page.until("#left").click()
    page.until("#progress", "2 of 4")  # two long answers
    first, second = (page.until(f"#answer-{number}").rect for number in (1, 2))
    assert second["y"] >= first["y"] + first["height"]
    assert browser.execute_script("return document.documentElement.scrollWidth <= window.innerWidth")
    for choice in CHOICES:
        box = browser.execute_script(
            "return document.getElementById(arguments[0]).getBoundingClientRect().toJSON()", choice
        )
        assert 0 <= box["left"] < box["right"] <= 390
        assert 0 <= box["top"] < box["bottom"] <= browser.execute_script("return window.innerHeight")
    browser.execute_script("window.scrollTo(0, 2000)")
    page.until("#both_bad").click()
    page.until("#progress", "3 of 4")
    page.until("#question .text")
    assert [winner for _, winner, _ in kept(votes, "phone")][1] == "both_bad"
    deadline = time.monotonic() + 5
    while browser.execute_script("return window.scrollY") and time.monotonic() < deadline:
        time.sleep(0.05)
    assert browser.execute_script("return window.scrollY") == 0
    page.press("2")
    page.until("#progress", "4 of 4")
    assert browser.execute_script("return document.documentElement.scrollWidth <= window.innerWidth")  # a long word


@pytest.mark.browser
def test_starts_in_time_calls_nobody_and_says_when_a_vote_cannot_be_kept(browser, files, tmp_path):
    pytest.importorskip("gradio")
    output = tmp_path / "votes.sqlite"
    browser.get_log("performance")  # what was before
    with serving(files, output) as (address, seconds):
        assert seconds < 10 * max(1.0, os.getloadavg()[0] / os.cpu_count())  # more when others use the machine
        page = Page(browser, address)
        page.begin("Anna")
        page.press("0")
        page.until("#progress", "2 of 4")
        output.rename(tmp_path / "away.sqlite")
        page.press("0")
        page.until("[data-testid='toast-body']", "cannot be read or written as a file of votes")
        page.until("#progress", "2 of 4")
        (tmp_path / "away.sqlite").rename(output)
        page.press("0")
        page.until("#progress", "3 of 4")
    events = [json.loads(entry["message"])["message"] for entry in browser.get_log("performance")]
    requested = [e["params"]["request"]["url"] for e in events if e["method"] == "Network.requestWillBeSent"]
    assert [url for url in requested if url.startswith(address)]
    assert not [url for url in requested if not url.startswith((address, "data:", "blob:"))]
    with sqlite3.connect(output) as connection:  # the server was killed
        assert connection.execute("SELECT count(*) FROM votes").fetchall() == [(2,)]
    connection.close()


def run(*argv):
    parser = argparse.ArgumentParser()
    compare.add_arguments(parser)
    compare.run(parser.parse_args([str(arg) for arg in argv]))


def test_results_are_printed_and_written_with_their_provenance(files, tmp_path, capsys):
    output = tmp_path / "votes.sqlite"
    votes = Votes.open_or_create(output, *files, items=4, seed=7)
    for item in range(4):
        votes.vote("anna", item, "left")
        votes.vote("ben", item, "tie")
    question = {"instruction": f"Question 0? {UNTRUSTED}", "input": ""}
    answers = {f"model_response_{side}": f"{side}: {UNTRUSTED}" for side in "ab"}
    (tmp_path / "judge.json").write_text(json.dumps({"items": [{**question, **answers, "winner": "tie"}]}))
    run(*files, "--output", output, "--results", "--judge", tmp_path / "judge.json")
    written = json.loads((tmp_path / "votes.json").read_text())
    wins = sum(votes.a_is_left("anna", item) for item in range(4))
    assert (written["wins_A"], written["wins_B"], written["ties"]) == (wins, 4 - wins, 4)
    assert written["win_rate"] == (wins + 2) / 8 != 0.5
    card = read_card(tmp_path / "results" / "votes.json")
    assert card.metrics["win_rate"].value == written["win_rate"]
    assert card.metrics["win_rate"].interval == written["win_rate_interval"]
    assert [data["source"] for data in card.data] == files and card.predictions == "votes.json"
    assert card.seeds == [7] and "8 votes of 2 raters on 4 of 4 questions" in card.protocol
    assert written["judge_agreement"] == 0.5
    assert written["seed"] == 7
    assert set(written["files"]) == {"A", "B", "judge"}
    assert {"versions", "hardware", "definitions"} <= set(written)
    assert written["command"].startswith("hf-gpt-scratch app compare ")
    printed = capsys.readouterr().out
    assert f"win rate of A       {written['win_rate']:.3f}" in printed
    assert "8 on 4 of 4 questions" in printed
    assert str(tmp_path / "votes.json") in printed


def test_results_without_votes_are_refused_and_nothing_is_written(files, tmp_path):
    output = tmp_path / "votes.sqlite"
    with pytest.raises(InputError, match="There is no file of votes"):
        run(*files, "--output", output, "--results")
    assert not list(tmp_path.iterdir())
    Votes.open_or_create(output, *files, items=4)
    with pytest.raises(InputError, match="no votes yet"):
        run(*files, "--output", output, "--results")
    assert [path.name for path in tmp_path.iterdir()] == ["votes.sqlite"]


def test_results_replace_their_own_and_no_other_file(files, tmp_path):
    a, b = (shutil.copy(file, tmp_path) for file in files)
    card = tmp_path / "results" / "spam.json"
    card.parent.mkdir()
    card.write_text('{"task": "SMS spam classification"}')
    judge = tmp_path / "judge.json"
    judge.write_text('{"task": "comparison", "items": []}')
    texts = {path: path.read_bytes() for path in tmp_path.rglob("*.json")}
    for name, kept in {"a": a, "judge": judge, "spam": card}.items():
        output = tmp_path / f"{name}.sqlite"
        Votes.open_or_create(output, a, b, items=4).vote("anna", 0, "left")
        for more in (["--results", "--judge", judge], []):
            with pytest.raises(InputError, match=f"The results would replace {kept}, which holds something else"):
                run(a, b, "--output", output, *more)
    assert {path: path.read_bytes() for path in tmp_path.rglob("*.json")} == texts

    output = tmp_path / "votes.sqlite"
    votes = Votes.open_or_create(output, a, b, items=4)
    for item in range(2):
        votes.vote("anna", item, "tie")
        run(a, b, "--output", output, "--results")
        assert json.loads((tmp_path / "votes.json").read_text())["ties"] == item + 1
    with pytest.raises(InputError, match="holds votes about other files than .*b.json and .*a.json, in this order"):
        run(b, a, "--output", output, "--results")


def test_declaring_the_arguments_does_not_import_what_needs_scipy():
    code = (
        "import argparse, sys; from hf_gpt_scratch.apps import compare;"
        " compare.add_arguments(argparse.ArgumentParser());"
        " print({'hf_gpt_scratch.apps.votes', 'hf_gpt_scratch.evaluation.intervals'} & {*sys.modules})"
    )
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True).stdout == "set()\n"


def test_options_that_contradict_each_other_are_refused(files, tmp_path):
    with pytest.raises(UsageError, match="cannot end in .json"):
        run(*files, "--output", tmp_path / "votes.json")
    with pytest.raises(UsageError, match="--judge is for --results"):
        run(*files, "--output", tmp_path / "votes.sqlite", "--judge", "judge.json")
    with pytest.raises(SystemExit):
        run(*files, "--port", "0")
    assert not list(tmp_path.iterdir())


def test_other_questions_leave_the_votes_as_they_are(files, tmp_path):
    output = tmp_path / "votes.sqlite"
    Votes.open_or_create(output, *files, items=4).vote("anna", 0, "tie")
    before = output.read_bytes()
    other = tmp_path / "other.json"
    other.write_text(json.dumps([{"instruction": "Why?", "input": "", "model_response": "So."}]))
    with pytest.raises(InputError, match="compare them on the same ones|answer different questions"):
        run(files[0], other, "--output", output)
    assert output.read_bytes() == before


def test_an_address_that_cannot_be_listened_on_is_one_sentence(files, tmp_path):
    pytest.importorskip("gradio")
    with pytest.raises(InputError, match=r"cannot listen on 192\.0\.2\.1 \(.*\); choose another host or port"):
        run(*files, "--output", tmp_path / "votes.sqlite", "--host", "192.0.2.1")  # reserved for documentation


def test_the_page_asks_for_the_extra(files, tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "gradio", None)
    monkeypatch.setattr(page, "gradio", inspect.unwrap(page.gradio))  # which remembers the package
    with pytest.raises(InputError, match=r"pip install 'hf-gpt-scratch\[apps\]'"):
        run(*files, "--output", tmp_path / "votes.sqlite")
