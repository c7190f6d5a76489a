"""The chat and spam pages in headless Chromium, on a phone's width and a desktop's."""

import csv
import json
import os
import shutil
import time

import pytest

from hf_gpt_scratch.prompts import PREAMBLE
from hf_gpt_scratch.utils.terminal import plain
from support.in_browser import DESKTOP, PHONE, UNTRUSTED, Page, program, started, wait_for

pytestmark = pytest.mark.browser


@pytest.mark.parametrize("app, selector", [("spam", "#judge"), ("chat", "#ask")])
def test_a_page_is_there_soon(browser, models, tmp_path, app, selector):
    begin = time.monotonic()
    with started(program(app, models[app])) as (_, address):
        Page(browser, address, tmp_path).until(selector)
        seconds = time.monotonic() - begin
    print(f"{app}: {seconds:.1f} s from the command to the page")  # shown by -rP
    assert seconds < 30 * max(1.0, os.getloadavg()[0] / os.cpu_count())  # 10 on an idle machine


def test_a_message_in_the_browser(browser, spam_page, tmp_path):
    page = Page(browser, spam_page, tmp_path)
    words = judge_untrusted(page)
    assert len(page.all("#curve .point")) == len(words)
    assert page.is_unharmed()
    page.picture("spam-message")
    move_threshold(page, "1")
    page.until("#verdict .answer", "ham")
    page.until("#verdict", "not above the threshold of 100.0%")
    move_threshold(page, "0")
    page.until("#verdict .answer", "spam")
    page.until("#curve .threshold", "threshold 0.0%")
    assert len(page.all("#words .above")) == len(words)


def judge_untrusted(page) -> list[str]:
    """The words that the page shows after it has judged a message of markup."""
    box = page.until("#message textarea")
    box.clear()
    box.send_keys(UNTRUSTED)
    page.until("#judge").click()
    words = wait_for(lambda: written(page) if len(written(page)) == len(UNTRUSTED.split()) else None)
    assert " ".join(words) == UNTRUSTED
    return words


def written(page) -> list[str]:
    """The words on the page, read in one go, as the page replaces them."""
    return page.browser.execute_script("return [...document.querySelectorAll('#words .word')].map(o => o.textContent)")


def test_a_message_of_one_of_three_labels_in_the_browser(browser, topics_page, tmp_path):
    page = Page(browser, topics_page, tmp_path, PHONE)
    judge_untrusted(page)
    page.until("#verdict .labels .name")
    assert [one.text for one in page.all(".key span")] == ["billing", "delivery", "login"]
    tints = "return [...document.querySelectorAll('.curve polygon')].map(o => getComputedStyle(o).fill)"
    assert len(set(browser.execute_script(tints))) == 3
    page.all("#words .word")[1].click()
    page.until("#reading", "After word 2, ")
    assert page.is_unharmed() and not page.wide()
    page.picture("topics-message")


def test_the_page_opens_with_an_example_and_its_examples_are_true(browser, spam_page, models, tmp_path):
    with open(models["spam"] / "predictions.csv", encoding="utf-8", newline="") as file:
        label = {row["text"]: ("ham", "spam")[int(row["label"])] for row in csv.DictReader(file)}
    page = Page(browser, spam_page, tmp_path)
    examples = [page.until("button.example").get_property("textContent").strip()]
    page.until("#words .word")
    examples = [one.get_property("textContent").strip() for one in page.all("button.example")]
    assert 1 <= len(examples) <= 4 and " ".join(written(page)) == examples[0]
    assert page.until("#message textarea").get_property("value") == examples[0]
    for text, button in reversed(list(zip(examples, page.all("button.example")))):
        assert not text.endswith("wrongly labelled")
        button.click()
        wait_for(lambda text=text: " ".join(written(page)) == text)
        assert page.text("#verdict .answer") == label[text]
        assert page.until("#message textarea").get_property("value") == text
    assert page.is_unharmed()


def test_a_word_tells_its_probability_without_a_mouse(browser, spam_page, tmp_path):
    from selenium.webdriver.common.keys import Keys

    page = Page(browser, spam_page, tmp_path)
    page.until("#words .word")
    numbers = "return [...document.querySelectorAll('#words .word')].map(o => getComputedStyle(o, '::after').content)"
    shown = browser.execute_script(numbers)
    assert shown and all(one.strip('"').isdecimal() for one in shown)  # below each word, on a phone too
    browser.execute_cdp_cmd("Emulation.setTouchEmulationEnabled", {"enabled": True})
    words = page.all("#words .word")
    box = browser.execute_script("return arguments[0].getBoundingClientRect().toJSON()", words[2])
    browser.execute_script("arguments[0].scrollIntoView({block: 'center'})", words[2])
    box = browser.execute_script("return arguments[0].getBoundingClientRect().toJSON()", words[2])
    point = [{"x": box["x"] + box["width"] / 2, "y": box["y"] + box["height"] / 2}]
    browser.execute_cdp_cmd("Input.dispatchTouchEvent", {"type": "touchStart", "touchPoints": point})
    browser.execute_cdp_cmd("Input.dispatchTouchEvent", {"type": "touchEnd", "touchPoints": []})
    page.until("#reading", "After word 3, ")
    browser.execute_cdp_cmd("Emulation.setTouchEmulationEnabled", {"enabled": False})
    assert box["height"] >= 44  # WCAG's size for a finger
    words[2].send_keys(Keys.ARROW_RIGHT)
    page.until("#reading", "After word 4, ")
    browser.switch_to.active_element.send_keys(Keys.END)
    page.until("#reading", f"After word {len(words)}, ")
    [point] = page.all(".curve .point.chosen")
    assert point.get_attribute("data-number") == str(len(words))


@pytest.mark.parametrize("count", [5, 14, 60])
def test_words_on_the_axis_do_not_overlap_on_a_phone(browser, spam_page, tmp_path, count):
    page = Page(browser, spam_page, tmp_path, PHONE)
    box = page.until("#message textarea")
    box.clear()
    box.send_keys(" ".join(f"w{i}" for i in range(count)))  # a token or two each
    page.until("#judge").click()
    wait_for(lambda: len(written(page)) == count)
    at = browser.execute_script("return [...document.querySelectorAll('.axis span')].map(o => o.offsetLeft)")
    assert 1 < len(at) <= 14
    # Letters of 12 px that are turned by 55 degrees need 12 / sin 55 = 14.6 px of the axis; offsets are rounded.
    assert min(b - a for a, b in zip(at, at[1:])) >= 14
    assert not page.wide()


def move_threshold(page, value: str):
    """By the keyboard: to the end or to the beginning."""
    from selenium.webdriver.common.keys import Keys

    page.until("#threshold input[type=range]").send_keys({"0": Keys.HOME, "1": Keys.END}[value])


def test_a_file_in_the_browser(browser, spam_page, tmp_path):
    page = Page(browser, spam_page, tmp_path / "pictures")
    downloads = {"behavior": "allow", "downloadPath": str(tmp_path / "downloads")}
    browser.execute_cdp_cmd("Browser.setDownloadBehavior", downloads)
    (tmp_path / "many.txt").write_text(f"=win a free prize\nsee you at home\n{UNTRUSTED}\n")
    page.until("[role=tab]", "File").click()
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
    assert page.until("#stop") and not page.shows("#again")

    for _ in range(3):
        assert answering(page)
        page.until("#stop").click()
        wait_for(lambda: not answering(page), 8)  # by itself it goes on for longer
        assert not page.shows("#stop") and page.shows("#again")
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
    wait_for(lambda: not page.shows("#stop") and not page.shows("#again"))
    page.until("#settings button").click()
    page.until("#settings textarea", PREAMBLE)
    page.picture("chat-settings")


def test_an_answer_that_is_cut_says_so(browser, chat_page, tmp_path):
    page = Page(browser, chat_page, tmp_path)
    page.until("#question textarea").send_keys("see you")
    page.until("#ask").click()
    page.until("#note", "cut off at the maximum number of new tokens")
    page.picture("chat-cut")


def bubbles(page, role: str) -> list[str]:
    """What was said, of the user or the bot."""
    script = "return [...document.querySelectorAll(arguments[0])].map(o => o.innerText.trim())"
    return page.browser.execute_script(script, f"#conversation .message.{role}")


def test_examples_of_a_chat_are_answered_as_recorded(browser, chat_page, models, tmp_path):
    rows = json.loads((models["chat"] / "responses.json").read_text(encoding="utf-8"))
    page = Page(browser, chat_page, tmp_path, DESKTOP)
    page.until("button.example")
    assert len(page.all("button.example")) == 3 and not page.shows("button.example", "Wrong")
    for number, row in enumerate(rows[:3], start=1):
        page.until("button.example", row["instruction"]).click()
        wait_for(lambda number=number: len(bubbles(page, "bot")) == number and page.shows("#again"))
        wait_for(lambda row=row: bubbles(page, "bot")[-1].split() == plain(row["model_response"]).split())
        assert row["instruction"].split() == bubbles(page, "user")[-1].split("Input:")[0].split()
        assert ("Input: at home" in bubbles(page, "user")[-1]) == bool(row["input"])
    assert page.is_unharmed()


def test_retry_replaces_the_last_answer(browser, chat_page, models, tmp_path):
    page = Page(browser, chat_page, tmp_path)
    page.until("#question textarea").send_keys("see <b>you</b>")
    page.until("#input textarea").send_keys("at home")
    page.until("#ask").click()
    page.until("#again")
    wait_for(lambda: not answering(page))
    before = bubbles(page, "user"), bubbles(page, "bot")
    assert before[0] == ["see <b>you</b>\nInput: at home"]
    page.until("#again").click()
    page.until("#note", "Greedy decoding always gives the same answer")
    wait_for(lambda: (bubbles(page, "user"), bubbles(page, "bot")) == before)


def test_the_settings_are_closed_and_begin_with_the_saved_ones(browser, models, tmp_path):
    folder = shutil.copytree(models["chat"], tmp_path / "follower")
    saved = {"do_sample": True, "temperature": 0.7, "top_k": 20, "top_p": 0.9, "max_new_tokens": 24}
    settings = json.loads((folder / "generation_config.json").read_text(encoding="utf-8"))
    saved["repetition_penalty"] = 1.2
    (folder / "generation_config.json").write_text(json.dumps({**settings, **saved}), encoding="utf-8")
    (folder / "responses.json").unlink()
    (folder / "chat_template.jinja").write_text("{% for message in messages %}{{ message['content'] }}{% endfor %}")
    with started(program("chat", folder)) as (_, address):
        page = Page(browser, address, tmp_path)
        page.until("#ask")
        assert not page.shows("#settings input") and not page.shows("#input") and not page.all("button.example")
        page.until("#settings button").click()
        page.until("#settings input[type=number]")
        values = [float(one.get_property("value")) for one in page.all("#settings input[type=number]")]
        assert values == [0.7, 20, 24, 0.9, 1.2]
        [remember] = page.all("#settings input[type=checkbox]")
        assert remember.is_selected()  # another template than that of single instructions
        assert page.text("#header .model").startswith("Model: follower")


def test_an_answer_is_at_most_70_characters_wide(browser, slow_chat_page, tmp_path):
    page = Page(browser, slow_chat_page, tmp_path, DESKTOP)
    page.until("#question textarea").send_keys("hi\n")
    page.until("#conversation", "word " * 20 + "word")
    script = """const o = [...document.querySelectorAll('#conversation .message.bot')].at(-1);
      const ruler = document.createElement('canvas').getContext('2d'), style = getComputedStyle(o);
      ruler.font = `${style.fontSize} ${style.fontFamily}`;
      return o.getBoundingClientRect().width / ruler.measureText('0').width"""
    assert browser.execute_script(script) <= 76  # with its margins
    page.until("#stop").click()
