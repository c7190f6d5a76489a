"""What every page has: a title, whose model it is and where it runs, contrast, names for screen readers, no width."""

import re

import pytest

from support.in_browser import DESKTOP, PHONE, Page

pytestmark = pytest.mark.browser


@pytest.fixture(params=["classify", "chat", "compare"])
def address(request):
    """Each page's name and its address."""
    fixture = {"classify": "spam_page", "chat": "chat_page", "compare": "server"}[request.param]
    served = request.getfixturevalue(fixture)
    return request.param, served[0] if request.param == "compare" else served


def use(page: Page, name: str) -> None:
    """Uses the page until it shows what it is for."""
    if name == "compare":
        page.until("#name textarea, #name input").send_keys("Looker\n")
        page.until("#answer-1 .text")
    else:
        page.until("button.example").click()
        page.until("#again" if name == "chat" else "#words .word")


@pytest.mark.parametrize("theme", ["light", "dark"])
@pytest.mark.parametrize("size", [DESKTOP, PHONE])
def test_every_text_can_be_read_and_every_control_has_a_name(browser, address, tmp_path, theme, size):
    name, url = address
    page = Page(browser, f"{url}?__theme={theme}", tmp_path, size)
    page.until("#header h1")
    for moment in ("before", "after"):
        assert not page.low_contrast() and not page.nameless() and not page.wide(), moment
        if moment == "before":
            use(page, name)


def test_a_page_says_what_it_is_and_where_it_comes_from(browser, address, models, tmp_path):
    name, url = address
    page = Page(browser, url, tmp_path)
    assert len(page.until("#header h1").text) > 10 and len(page.all("h1")) == 1
    assert len(page.all("#header p")[-1].text.split()) > 10  # a sentence on what to do
    link = page.until("#footer a")
    assert link.get_attribute("href").startswith("https://github.com/") and link.text == "hf-gpt-scratch"
    if name == "compare":  # which is blind
        assert "a.json" not in page.text("body") and "b.json" not in page.text("body")
    else:
        model = {"classify": "spam", "chat": "chat"}[name]
        facts = page.text("#header .model")
        assert re.fullmatch(rf"Model: {model} · [\d,]+ parameters · running on CPU, float32", facts)
        assert page.browser.execute_script("return document.documentElement.lang") == "en"


def test_there_is_one_primary_button(browser, address, tmp_path):
    name, url = address
    page = Page(browser, url, tmp_path)
    page.until("#header h1")
    assert len([one for one in page.all("button.primary") if one.is_displayed()]) == 1


def test_a_button_with_the_focus_shows_it(browser, address, tmp_path):
    from selenium.webdriver.common.keys import Keys

    name, url = address
    page = Page(browser, url, tmp_path)
    page.until("#header h1")
    browser.find_element("css selector", "textarea, input").send_keys(Keys.TAB)
    outline = browser.execute_script("return getComputedStyle(document.activeElement).outlineWidth")
    assert outline == "3px"
