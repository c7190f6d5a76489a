"""The static page of a classifier in headless Chromium, from a server of files and by a double click."""

import shutil
from pathlib import Path

import pytest
import torch

from hf_gpt_scratch.apps import npm
from hf_gpt_scratch.apps.static_classify import static_page
from hf_gpt_scratch.apps.static_page import export_static
from hf_gpt_scratch.classification.classifier import TextClassifier
from hf_gpt_scratch.conversion.onnx import export_onnx
from support.in_browser import PHONE, UNTRUSTED, Page, wait_for
from support.static_pages import ODD, address_of, asked, ready, requests_of, require_packages, served

pytestmark = pytest.mark.browser
SMS = Path(__file__).parents[1] / "support" / "messages.tsv"


@pytest.fixture(scope="module")
def pages(models, tmp_path_factory) -> dict[str, Path]:
    for package in ("onnx", "onnxscript", "onnxruntime"):
        pytest.importorskip(package)
    require_packages(npm.ONNXRUNTIME, npm.TOKENIZERS)
    folder = tmp_path_factory.mktemp("pages")
    for name in ("spam", "topics"):
        export_static(models[name], folder / name, static_page, "fp32")
    export_static(models["spam"], folder / "spam in int8", static_page)
    return {path.name: path for path in folder.iterdir()}


@pytest.fixture(scope="module", params=["server", "file"])
def spam_page(request, browser, pages):
    """The page of two labels, in both ways."""
    if request.param == "file":
        yield address_of(pages["spam"])
    else:
        with served(pages["spam"]) as address:
            yield address


def texts() -> list[str]:
    lines = SMS.read_text(encoding="utf-8").splitlines()
    return [line.partition("\t")[2] for line in lines][:40]


def test_probabilities_and_tokens_are_those_of_torch(browser, spam_page, models, tmp_path):
    Page(browser, spam_page, tmp_path)
    ready(browser)
    classifier = TextClassifier.from_pretrained(models["spam"], device="cpu")
    messages = [*texts(), *ODD, "long " * 400]
    for text, found in zip(messages, asked(browser, "judge", messages)):
        [expected] = classifier.classify([text], words=True)
        assert [one["word"] for one in found["words"]] == [one.word for one in expected.words], text
        after = torch.tensor([one["probabilities"] for one in found["words"]])
        assert torch.allclose(after, torch.tensor([one.probabilities for one in expected.words]), atol=1e-4), text
        assert found["verdict"]["label"] == expected.label and found["isCut"] == expected.truncated
    assert asked(browser, "tokens", messages) == classifier.encode(messages)


def test_probabilities_in_int8_are_those_of_its_graph(browser, pages, models, tmp_path):
    Page(browser, address_of(pages["spam in int8"]), tmp_path)
    ready(browser)
    found = torch.tensor([one["words"][-1]["probabilities"] for one in asked(browser, "judge", texts())])
    graph = export_onnx(models["spam"], tmp_path / "onnx", "int8", weights_only=True).path
    ran, exact = (
        torch.tensor(
            [one.probabilities for one in TextClassifier.from_pretrained(path, device="cpu").classify(texts())]
        )
        for path in (graph, models["spam"])
    )
    assert torch.allclose(found, ran, atol=1e-4)
    assert 0 < (found - exact).abs().max() < 0.1  # of random weights, whose logits are large


def test_a_message_is_judged_word_by_word_as_it_is_typed(browser, spam_page, models, tmp_path):
    page = Page(browser, spam_page, tmp_path)
    ready(browser)
    classifier, message = TextClassifier.from_pretrained(models["spam"], device="cpu"), page.until("#message")
    retype(message, "")
    for typed in ("win a free prize", " now at home"):
        message.send_keys(typed)
        text = message.get_property("value")
        wait_for(lambda text=text: written(page) == text.split())
        [expected] = classifier.classify([text], words=True)
        page.until("#verdict .answer", expected.label)
        side = "above" if expected.label == "spam" else "not above"
        shown = f"{expected.probability:.1%} spam, {side} the threshold"
        page.until("#verdict", shown)
        percents = [one.get_attribute("data-percent") for one in page.all("#words .word")]
        assert percents == [str(round(100 * one.probabilities[1])) for one in expected.words]
    page.until("#said", shown)  # after a pause
    retype(message, "")
    wait_for(lambda: not written(page))


def retype(message, text: str) -> None:
    from selenium.webdriver.common.keys import Keys

    message.send_keys(Keys.CONTROL, "a", Keys.NULL, Keys.BACKSPACE, text)


def written(page) -> list[str]:
    return page.browser.execute_script("return [...document.querySelectorAll('#words .word')].map(o => o.textContent)")


def test_only_tokens_that_changed_are_run(browser, spam_page, tmp_path):
    Page(browser, spam_page, tmp_path)
    ready(browser)
    begin, more = "see you at home now, win a free prize", "see you at home now, win a free prize now"
    _, first, same, longer, other = asked(browser, "judge", ["prize", begin, begin, more, "win"])
    assert first["read"] == first["tokens"] and same["read"] == 0 and other["read"] == other["tokens"]
    assert longer["read"] == longer["tokens"] - first["tokens"] > 0


def test_untrusted_text_is_text(browser, spam_page, tmp_path):
    page = Page(browser, spam_page, tmp_path)
    ready(browser)
    message = page.until("#message")
    retype(message, UNTRUSTED)
    wait_for(lambda: " ".join(written(page)) == UNTRUSTED)
    assert page.is_unharmed() and not [one for one in browser.get_log("browser") if one["level"] == "SEVERE"]
    lone = "arguments[0].value = 'a \\ud800 b'; arguments[0].dispatchEvent(new Event('input', {bubbles: true}))"
    browser.execute_script(lone, message)
    page.until("#problem", "A message is not UTF-8 text.")
    browser.execute_script(
        "arguments[0].value = 'a '.repeat(6000); arguments[0].dispatchEvent(new Event('input'))", message
    )
    page.until("#problem", "The text has 12,000 characters; the page reads 10,000.")


def test_keyboard_and_screen_reader(browser, spam_page, tmp_path):
    from selenium.webdriver.common.keys import Keys

    page = Page(browser, spam_page, tmp_path, PHONE)
    ready(browser)
    page.until("#words .word")
    assert browser.execute_script("return document.documentElement.lang") == "en" and browser.title
    assert not page.nameless() and not page.wide() and not page.low_contrast()
    reached = []
    browser.execute_script("document.activeElement.blur()")
    for _ in range(12):
        browser.switch_to.active_element.send_keys(Keys.TAB)
        one = browser.switch_to.active_element
        reached.append(one.get_attribute("id") or one.get_attribute("class").partition(" ")[0] or one.tag_name)
    assert {"message", "example", "threshold", "word"} <= set(reached)
    word = page.all("#words .word")[0]
    word.send_keys(Keys.END)
    page.until("#reading", f"After word {len(page.all('#words .word'))}, ")
    page.until("#threshold").send_keys(Keys.HOME)
    page.until("#verdict", "above the threshold of 0.0%")
    # The verdict is told once the typing rests, not at each key
    assert [one.get_attribute("id") for one in page.all("main [role=status], main [role=alert]")] == [
        "problem",
        "said",
    ]
    browser.execute_cdp_cmd(
        "Emulation.setEmulatedMedia", {"features": [{"name": "prefers-color-scheme", "value": "dark"}]}
    )
    assert not page.low_contrast()
    browser.execute_cdp_cmd("Emulation.setEmulatedMedia", {"features": []})


def test_three_labels_and_one_outside(browser, pages, models, tmp_path):
    page = Page(browser, address_of(pages["topics"]), tmp_path, PHONE)
    ready(browser)
    assert not page.until("main").find_element("css selector", "#threshold-of").is_displayed()
    classifier = TextClassifier.from_pretrained(models["topics"], device="cpu")
    for text, found in zip(texts(), asked(browser, "judge", texts())):
        [expected] = classifier.classify([text])
        assert found["verdict"]["label"] == expected.label
        assert found["verdict"]["probability"] == pytest.approx(expected.probability, abs=1e-4)
        assert found["probabilities"] == pytest.approx(expected.probabilities, abs=1e-4)
    message = page.until("#message")
    retype(message, "see you at home")
    wait_for(lambda: written(page) == ["see", "you", "at", "home"])
    assert [one.text for one in page.all(".key span")] == ["billing", "delivery", "login"]
    assert len(page.all(".curve polygon")) == 3 and not page.wide() and not page.low_contrast()


def test_no_request_leaves_the_folder_and_it_works_without_a_network(browser, pages, tmp_path):
    folder = Path(shutil.copytree(pages["spam"], tmp_path / "page"))
    with served(folder) as address:
        requests_of(browser)
        page = Page(browser, address, tmp_path)
        ready(browser)
        asked(browser, "judge", ["win a free prize"])
        wait_for(lambda: browser.execute_script("return navigator.serviceWorker.controller !== null"))
        sent = requests_of(browser)
        assert sent and all(url.startswith(address) for url in sent), sent
    browser.refresh()  # the server is gone
    ready(browser)
    assert page.until("#verdict .answer")  # of the example; a question of ours would take its place
    [found] = asked(browser, "judge", ["win a free prize"])
    assert found["words"]
    assert browser.execute_script("return document.cookie + localStorage.length + sessionStorage.length") == "00"


def test_the_browser_refuses_what_the_page_does_not_allow(browser, spam_page, tmp_path):
    Page(browser, spam_page, tmp_path)
    ready(browser)
    script = "const done = arguments[0]; fetch('http://127.0.0.1:9/').then(() => done('sent'), (e) => done('refused'))"
    assert browser.execute_async_script(script) == "refused"
    assert any("Content Security Policy" in one["message"] for one in browser.get_log("browser"))


def test_a_browser_without_webassembly_says_so(browser, pages, tmp_path):
    script = {"source": "delete window.WebAssembly"}
    added = browser.execute_cdp_cmd("Page.addScriptToEvaluateOnNewDocument", script)
    page = Page(browser, address_of(pages["spam"]), tmp_path)
    page.until("#problem", "This browser has no WebAssembly")
    browser.execute_cdp_cmd("Page.removeScriptToEvaluateOnNewDocument", added)


def test_a_missing_file_is_told(browser, pages, tmp_path):
    folder = Path(shutil.copytree(pages["spam"], tmp_path / "page"))
    [script] = folder.glob("assets-*/tokenizer.json.0.js")
    script.unlink()
    page = Page(browser, address_of(folder), tmp_path)
    page.until("#problem", "tokenizer.json.0.js cannot be loaded")
