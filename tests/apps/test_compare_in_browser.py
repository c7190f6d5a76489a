"""The comparison page in headless Chromium."""

import json
import os
import sqlite3
import time

import pytest

from hf_gpt_scratch.evaluation.preference import CHOICES
from support.in_browser import DESKTOP, MARKUP, Page, program, started

pytestmark = pytest.mark.browser


class Rater(Page):
    """What a rater sees and does."""

    def begin(self, name: str, progress: str = "1 of 4"):
        self.until("#name textarea, #name input").send_keys(name + "\n")
        self.until("#progress", progress)

    def press(self, key: str):
        self.browser.find_element("tag name", "body").send_keys(key)

    def shown(self, identity: str) -> str:
        return self.until(f"#{identity} .text").get_property("textContent")


def kept(votes, rater):
    return [vote[1:] for vote in votes.all() if vote[0] == rater]


def test_untrusted_texts_are_shown_as_they_are(browser, server, tmp_path):
    address, votes = server
    page = Rater(browser, address, tmp_path, DESKTOP)
    page.begin("Reader")
    assert page.shown("question") == f"Question 0? {MARKUP}"
    sides = ("a", "b") if votes.a_is_left("reader", 0) else ("b", "a")
    assert [page.shown("answer-1"), page.shown("answer-2")] == [f"{side}: {MARKUP}" for side in sides]
    assert browser.execute_script("return window.hacked") is None
    assert not browser.find_elements("css selector", ".text *")
    page.press("0")
    page.until("#progress", "2 of 4")
    assert page.shown("question") == f"Question 1? {MARKUP}\n\nAn input\nof two lines"
    page.press("0")
    page.until("#progress", "3 of 4")
    assert page.shown("answer-1") == page.shown("answer-2") == "(empty)"


def test_keys_vote_undo_and_resume(browser, server, tmp_path):
    from selenium.webdriver.common.keys import Keys

    address, votes = server
    page = Rater(browser, address, tmp_path, DESKTOP)
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

    page = Rater(browser, address, tmp_path, DESKTOP)
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


def test_a_held_key_or_a_shortcut_of_the_browser_votes_no_further(browser, server, tmp_path):
    address, votes = server
    page = Rater(browser, address, tmp_path, DESKTOP)
    page.begin("Holder")
    for options in ('key: "1", repeat: true', 'key: "1", ctrlKey: true', 'key: "5"'):
        browser.execute_script(
            f"document.body.dispatchEvent(new KeyboardEvent('keydown', {{{options}, bubbles: true}}))"
        )
    time.sleep(0.5)  # for a vote that would be kept
    assert not kept(votes, "holder")
    browser.execute_script(  # at once, before the page can have gone on
        "for (let i = 0; i < 5; i++) document.getElementById('tie').click(); document.getElementById('left').click()"
    )
    page.until("#progress", "2 of 4")
    time.sleep(0.5)
    assert len(kept(votes, "holder")) == 1


def box(browser, selector: str) -> dict:
    return browser.execute_script(
        "return document.querySelector(arguments[0]).getBoundingClientRect().toJSON()", selector
    )


def in_sight(browser, selector: str) -> bool:
    """Whether it is on the screen, and nothing else lies on it."""
    script = """const o = document.querySelector(arguments[0]), b = o.getBoundingClientRect();
      const top = document.elementFromPoint(b.x + b.width / 2, b.y + b.height / 2);
      return b.left >= 0 && b.right <= innerWidth && b.top >= 0 && b.bottom <= innerHeight && o.contains(top)"""
    return browser.execute_script(script, selector)


def test_each_answer_has_its_button_and_both_are_equally_high(browser, server, tmp_path):
    page = Rater(browser, server[0], tmp_path, DESKTOP)
    page.begin("Desk")
    progress = "return [...document.querySelectorAll('progress')].map(o => [o.value, o.max])"
    assert browser.execute_script(progress) == [[0, 4]]
    page.press("0")
    page.until("#progress", "2 of 4")  # two long answers
    assert browser.execute_script(progress) == [[1, 4]]
    for number, choice in ((1, "left"), (2, "right")):
        answer, button = box(browser, f".answer:has(#answer-{number})"), box(browser, f"#{choice}")
        assert answer["left"] <= button["left"] and button["right"] <= answer["right"]
        assert page.text(f"#{choice}") == f"Answer {number} is better"
    left, right = (box(browser, f".answer:has(#answer-{number})") for number in (1, 2))
    assert left["height"] == right["height"] and left["right"] <= right["left"]
    assert all(in_sight(browser, f"#{choice}") for choice in CHOICES)
    browser.execute_script("window.scrollTo(0, document.documentElement.scrollHeight / 2)")
    assert all(in_sight(browser, f"#{choice}") for choice in CHOICES)


def test_on_a_phone_answers_are_stacked_and_buttons_in_sight(browser, server, tmp_path):
    address, votes = server
    page = Rater(browser, address, tmp_path, (390, 900))
    page.begin("Phone")
    page.until("#left").click()
    page.until("#progress", "2 of 4")  # two long answers
    first, second = (page.until(f"#answer-{number}").rect for number in (1, 2))
    assert second["y"] >= first["y"] + first["height"]
    assert browser.execute_script("return document.documentElement.scrollWidth <= window.innerWidth")
    for number, choice in ((1, "left"), (2, "right")):  # an answer's button while that answer is read
        browser.execute_script(f"document.getElementById('answer-{number}').scrollIntoView()")
        assert all(in_sight(browser, f"#{one}") for one in (choice, "tie", "both_bad"))
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


def test_starts_in_time_calls_nobody_and_says_when_a_vote_cannot_be_kept(browser, files, tmp_path):
    pytest.importorskip("gradio")
    output, start = tmp_path / "votes.sqlite", time.monotonic()
    browser.get_log("performance")  # what was before
    with started(program("compare", *files, "--output", output)) as (_, address):
        seconds = time.monotonic() - start
        assert seconds < 10 * max(1.0, os.getloadavg()[0] / os.cpu_count())  # more when others use the machine
        page = Rater(browser, address, tmp_path, DESKTOP)
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
