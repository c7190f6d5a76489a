"""The static pages of language models in headless Chromium, from a server of files and by a double click."""

import json
import shutil

import pytest

from hf_gpt_scratch import FaqBot
from hf_gpt_scratch.apps import npm
from hf_gpt_scratch.apps.static_chat import static_page
from hf_gpt_scratch.apps.static_page import export_static
from hf_gpt_scratch.data.faq import Entry
from hf_gpt_scratch.faq.faq_file import FaqFile
from hf_gpt_scratch.generation.chat import Chat
from hf_gpt_scratch.generation.sampling import stream_text
from hf_gpt_scratch.modeling_gpt_scratch import GPTScratchForCausalLM
from hf_gpt_scratch.pretrained import load_with_tokenizer
from hf_gpt_scratch.utils.errors import InputError
from support.commands import run_command
from support.in_browser import DESKTOP, PHONE, UNTRUSTED, Page, wait_for
from support.static_pages import address_of, requests_of, require_packages, served

pytestmark = pytest.mark.browser
SAID = "return [...document.querySelectorAll('#conversation .bot:not([aria-busy]) .said')].map(o => o.textContent)"
FAQ = FaqFile(
    [Entry("When are you open?", "From <b>9</b> to 17."), Entry("Do you deliver?", "Yes, for 5 euros.")], 0.4
)


@pytest.fixture(scope="module")
def pages(models, tmp_path_factory):
    for package in ("onnx", "onnxscript", "onnxruntime"):
        pytest.importorskip(package)
    require_packages(npm.ONNXRUNTIME, npm.TOKENIZERS, npm.JINJA)
    folder = tmp_path_factory.mktemp("pages")
    for name in ("write", "faq"):
        shutil.copytree(models["chat"], folder / f"{name}-model")
    (folder / "write-model" / "chat_template.jinja").unlink()
    FAQ.write(folder / "faq-model")
    sources = {"chat": models["chat"]} | {name: folder / f"{name}-model" for name in ("write", "faq")}
    for name, source in sources.items():
        export_static(source, folder / name, static_page, "fp32")
    return {name: folder / name for name in sources}


@pytest.fixture(scope="module", params=["server", "file"])
def chat_page(request, pages):
    """The page of a follower, in both ways."""
    if request.param == "file":
        yield address_of(pages["chat"])
    else:
        with served(pages["chat"]) as address:
            yield address


def opened(browser, address, folder, size=PHONE) -> Page:
    page = Page(browser, address, folder, size)
    page.until("#question")
    return page


def said(page, count: int) -> list[str]:
    """The answers, once there are so many whole ones."""
    return wait_for(lambda: found if len(found := page.browser.execute_script(SAID)) == count else None)


def choose(page, name: str, value) -> None:
    """Sets a setting as someone who moves its slider."""
    script = """const box = document.getElementById(`option-${arguments[0]}`);
      if (box.type === "checkbox") box.checked = arguments[1]; else box.value = arguments[1];
      box.dispatchEvent(new Event("input"));"""
    page.browser.execute_script(script, name, value)


def test_a_conversation_is_that_of_python(browser, chat_page, models, tmp_path):
    page = opened(browser, chat_page, tmp_path)
    requested = requests_of(browser)
    choose(page, "history", True)
    choose(page, "maxNewTokens", 20)
    chat = Chat(*load_with_tokenizer(GPTScratchForCausalLM, models["chat"], device="cpu"), history=True)
    expected = []
    for question in ("see you", UNTRUSTED[:60], "win"):
        expected.append("".join(chat.ask(question, 20)))
        page.until("#question").send_keys(question + "\n")
        assert said(page, len(expected)) == expected
    assert any(expected) and page.is_unharmed()
    users = [one.get_property("innerText") for one in page.all("#conversation .user")]
    assert users[1].endswith(UNTRUSTED[:60])
    folder = chat_page.rpartition("/")[0]
    requested += requests_of(browser)
    assert len(requested) > 5 and all(one.startswith(folder + "/") for one in requested)
    page.until("#new").click()
    assert not browser.execute_script(SAID) and not page.all("#conversation *")


def test_an_answer_is_stopped_and_asked_again(browser, pages, models, tmp_path):
    model, tokenizer = load_with_tokenizer(GPTScratchForCausalLM, models["chat"], device="cpu")
    limit = model.config.n_positions
    answers = {text: "".join(Chat(model, tokenizer).ask(text, limit)) for text in ("see you", "win", "free", "home")}
    question, whole = max(answers.items(), key=lambda one: len(one[1]))
    page = opened(browser, address_of(pages["chat"]), tmp_path)
    choose(page, "maxNewTokens", limit)
    stop = """const [text, done] = arguments, box = document.getElementById("question");
      const press = (key) => box.dispatchEvent(new KeyboardEvent("keydown", { key, bubbles: true }));
      (async () => {
        box.value = text;
        press("Enter");
        for (let i = 0; i < 20; i++) await null; // the question is asked, and nothing was answered yet
        press("Escape");
      })().then(done);"""
    browser.execute_async_script(stop, question)
    [stopped] = said(page, 1)
    assert whole.startswith(stopped) and len(stopped) < len(whole) / 2
    page.until("#again").click()
    wait_for(lambda: browser.execute_script(SAID) == [whole])
    page.until("#note", "Greedy decoding always gives the same answer")
    assert not page.all("#stop:not([hidden])")


def test_by_keyboard_on_a_phone_and_for_a_screen_reader(browser, pages, models, tmp_path):
    from selenium.webdriver.common.keys import Keys

    page = opened(browser, address_of(pages["chat"]), tmp_path)
    log = page.all("#conversation")[0]
    assert (log.get_attribute("role"), log.get_attribute("aria-live")) == ("log", "polite")
    question = browser.switch_to.active_element
    assert question.get_attribute("id") == "question"
    question.send_keys("see", Keys.SHIFT + Keys.ENTER, Keys.SHIFT, "you")
    assert question.get_property("value") == "see\nyou"
    question.send_keys("\n")
    said(page, 1)
    page.until("#options summary").click()
    assert not page.nameless() and not page.low_contrast() and not page.wide()
    page.picture("static-chat")
    small = "return [...document.querySelectorAll('button:not(.copy), summary')].filter(o => o.checkVisibility()"
    assert not browser.execute_script(small + " && o.getBoundingClientRect().height < 44).map(o => o.outerHTML)")
    page.until("#question").send_keys(" \n")
    page.until("#problem", "The question is empty.")


def test_examples_are_answered_as_they_were(browser, pages, models, tmp_path):
    rows = json.loads((models["chat"] / "responses.json").read_text(encoding="utf-8"))
    page = opened(browser, address_of(pages["chat"]), tmp_path, DESKTOP)
    buttons = page.all("#examples button")
    assert len(buttons) == 3
    for number, (button, row) in enumerate(zip(buttons, rows), start=1):
        button.click()
        assert said(page, number)[-1] == row["model_response"]
    assert page.is_unharmed()


def test_a_writer_continues_a_text(browser, pages, models, tmp_path):
    model, tokenizer = load_with_tokenizer(GPTScratchForCausalLM, models["chat"], device="cpu")
    page = opened(browser, address_of(pages["write"]), tmp_path)
    assert page.text("#ask") == "Continue"
    choose(page, "temperature", 0)
    choose(page, "maxNewTokens", 12)
    page.until("#question").send_keys("see you\n")
    assert said(page, 1) == ["".join(stream_text(model, tokenizer, "see you", 12, temperature=0.0))]
    for name, value in (("temperature", 1.5), ("seed", 7)):
        choose(page, name, value)
    for _ in range(2):
        page.until("#question").send_keys("win\n")
    first, second = said(page, 3)[1:]
    assert first == second


def test_a_bot_answers_from_its_faq(browser, pages, tmp_path):
    bot = FaqBot.from_pretrained(pages["faq"].parent / "faq-model", device="cpu")
    page = opened(browser, address_of(pages["faq"]), tmp_path)
    for number, question in enumerate(("when are you OPEN", "opening hours?", "Is the sea blue?"), start=1):
        reply = bot.answer(question)
        page.until("#question").send_keys(question + "\n")
        assert said(page, number)[-1] == reply.text
        assert page.text(f"#conversation .bot[data-number='{number - 1}'] .of-source") == reply.explanation
    assert page.is_unharmed() and not page.wide() and not page.nameless()


@pytest.mark.parametrize(
    "app, model, sentence",
    [
        ("chat", "spam", "holds a classifier, not a language model: use `hf-gpt-scratch app classify"),
        ("classify", "chat", "holds a language model, not a classifier: use `hf-gpt-scratch app chat"),
    ],
)
def test_a_model_of_the_other_kind_is_refused(models, tmp_path, app, model, sentence):
    with pytest.raises(InputError, match=f"^{models[model]} {sentence}"):
        run_command("app", app, models[model], "--export-static", tmp_path / "page")
    assert not (tmp_path / "page").exists()
