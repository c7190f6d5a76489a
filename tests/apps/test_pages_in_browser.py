"""The chat and spam pages in headless Chromium, on a phone's width and a desktop's."""

import csv
import time

import pytest

from hf_gpt_scratch.prompts import PREAMBLE
from support.in_browser import UNTRUSTED, Page, program, started, wait_for

pytestmark = pytest.mark.browser


@pytest.mark.parametrize("app, selector", [("spam", "#judge"), ("chat", "#ask")])
def test_a_page_is_there_soon(browser, models, tmp_path, app, selector):
    begin = time.monotonic()
    with started(program(app, models[app])) as (_, address):
        Page(browser, address, tmp_path).until(selector)
        seconds = time.monotonic() - begin
    print(f"{app}: {seconds:.1f} s from the command to the page")  # shown by -rP
    assert seconds < 30  # 10 on an idle machine


def test_a_message_in_the_browser(browser, spam_page, tmp_path):
    page = Page(browser, spam_page, tmp_path)
    box = page.until("#message textarea")
    box.clear()
    box.send_keys(UNTRUSTED)
    page.until("#judge").click()
    page.until("#words span")
    words = [word.text for word in page.all("#words span")]
    assert "".join(words).replace(" ", "") == UNTRUSTED.replace(" ", "")
    wait_for(lambda: page.all("#curve img, #curve canvas"))
    assert page.is_unharmed()
    page.picture("spam-message")
    move_threshold(page, "1")
    page.until("#verdict", "ham (")
    move_threshold(page, "0")
    page.until("#verdict", "spam (")
    assert len(page.all("#words .spam")) == len(words)


def move_threshold(page, value: str):
    """By the keyboard: to the end or to the beginning."""
    from selenium.webdriver.common.keys import Keys

    page.until("#threshold input[type=range]").send_keys({"0": Keys.HOME, "1": Keys.END}[value])


def test_a_file_in_the_browser(browser, spam_page, tmp_path):
    page = Page(browser, spam_page, tmp_path / "pictures")
    downloads = {"behavior": "allow", "downloadPath": str(tmp_path / "downloads")}
    browser.execute_cdp_cmd("Browser.setDownloadBehavior", downloads)
    (tmp_path / "many.txt").write_text(f"=win a free prize\nsee you at home\n{UNTRUSTED}\n")
    page.until("[role=tab]", "many").click()
    browser.find_element("css selector", "input[type=file]").send_keys(str(tmp_path / "many.txt"))
    page.until("#many", "many")
    time.sleep(1)  # the upload
    page.until("#judge-all").click()
    page.until("#table", "see you at home")
    assert page.is_unharmed()
    page.picture("spam-file")
    move_threshold(page, "1")
    wait_for(lambda: page.text("#table").split().count("ham") == 3)
    move_threshold(page, "0")
    wait_for(lambda: page.text("#table").split().count("spam") == 3)
    page.until("#download").click()
    path = wait_for(lambda: next((tmp_path / "downloads").glob("*.csv"), None))
    with open(path, encoding="utf-8", newline="") as file:
        rows = [row[:2] for row in csv.reader(file)]
    assert rows == [
        ["message", "label"],
        ["'=win a free prize", "spam"],
        ["see you at home", "spam"],
        [UNTRUSTED, "spam"],
    ]


def answering(page) -> bool:
    """Whether the answer grows, or the conversation changes in another way, within a second."""
    before = page.text("#conversation")
    time.sleep(1)
    return page.text("#conversation") != before


def test_a_chat_in_the_browser(browser, slow_chat_page, tmp_path):
    page = Page(browser, slow_chat_page, tmp_path)
    box = page.until("#question textarea")
    box.send_keys("<img src=x onerror='window.hacked = 2'> **bold**")
    page.until("#ask").click()
    page.until("#conversation", "onerror='window.hacked = 2'> **bold**")
    page.until("#conversation", "<script>window.hacked = 3</script> <img src=x onerror='window.hacked = 4'> word")
    box.send_keys("What I ask next")
    page.until("#conversation", "word word word word")
    assert box.get_property("value") == "What I ask next" and page.is_unharmed()
    page.picture("chat-answering")

    for _ in range(3):
        assert answering(page)
        page.until("#stop").click()
        wait_for(lambda: not answering(page), 8)  # by itself it goes on for longer
        stopped = page.text("#conversation")
        assert "word word" in stopped and page.is_unharmed()
        box.clear()
        box.send_keys("And what I ask next")
        page.until("#ask").click()
        wait_for(lambda text=stopped: page.text("#conversation").count("word") > text.count("word"))
    for _ in range(3):
        assert answering(page)
        page.until("#new").click()
        wait_for(lambda: not answering(page), 8)  # by itself it goes on for longer
        assert page.is_unharmed() and "word" not in page.text("#conversation")
        box.send_keys("What I ask then")
        page.until("#ask").click()
        page.until("#conversation", "word word")
    page.until("#new").click()
    page.until("#conversation", "Ask something.")
    page.until("#settings button").click()
    page.until("#settings textarea", PREAMBLE)
    page.picture("chat-settings")


def test_an_answer_that_is_cut_says_so(browser, chat_page, tmp_path):
    page = Page(browser, chat_page, tmp_path)
    page.until("#question textarea").send_keys("see you")
    page.until("#ask").click()
    page.until("#note", "cut at the most tokens")
    page.picture("chat-cut")
