"""The page in the browser to ask a bot of questions and answers; what it says is `faq.bot.FaqBot`'s."""

import os
from functools import partial

from ..faq.bot import FaqBot, Reply
from ..faq.faq_file import FaqFile
from . import page

TITLE = "Ask a bot"
WHAT = "It answers from {count:,} questions and answers, and says where it does not know."
EXAMPLES, LONGEST = 3, 60  # questions of the FAQ on buttons, of so many characters at most


def load(folder: str | os.PathLike, name: str | None = None, **placement):
    """The page for the bot in `folder`; arguments and errors are those of `chat.load`."""
    return make_page(FaqBot.from_pretrained(folder, **placement), name or page.model_name(folder))


def make_page(bot: FaqBot, name: str = "a bot"):
    """The Gradio page."""
    gr, faq = page.gradio(), bot.faq
    with page.blocks(TITLE) as blocks:
        page.header(TITLE, WHAT.format(count=len(faq.entries)), page.facts(bot.model, name))
        conversation = page.conversation()
        question = gr.Textbox(label="Question", elem_id="question", autofocus=True, lines=1, max_lines=6)
        with gr.Row(elem_id="actions"):
            go = gr.Button("Ask", variant="primary", elem_id="ask", min_width=70, size="md")
            new = gr.Button("New chat", elem_id="new", min_width=70, size="md")
        shown = shown_questions(faq)
        chips = page.example_buttons(shown, "Questions that it knows:")
        with gr.Accordion("Settings", open=False, elem_id="settings"):
            threshold = gr.Slider(
                *(0, 1, faq.threshold),
                label="Threshold of the confidence: other wordings that are not above it are refused",
                info=where_from(faq),
            )
        page.footer()
        does = {"outputs": [conversation, question], **page.ANSWERS, "show_progress_on": conversation}
        act = partial(answer, bot)
        gr.on([go.click, question.submit], act, [question, conversation, threshold], api_name="ask", **does)
        for chip, text in zip(chips, shown):
            chip.click(partial(act, text), [conversation, threshold], api_visibility="private", **does)
        new.click(lambda: ([], ""), None, [conversation, question], queue=False, api_visibility="private")
    return blocks


def shown_questions(faq: FaqFile) -> list[str]:
    """Some short questions of the FAQ, from all over it."""
    short = [entry.question for entry in faq.entries if len(entry.question) <= LONGEST]
    return short[:: max(1, len(short) // EXAMPLES)][:EXAMPLES]


def where_from(faq: FaqFile) -> str:
    """A sentence on the threshold that was fitted, "" where it was not."""
    return f"On the validation set, {faq.threshold:.3f} {faq.promise}." if faq.promise else ""


def answer(bot: FaqBot, text: str, history: list, threshold: float) -> tuple[list, str]:
    """The conversation with a question and the reply to it, and the emptied box of the question."""
    with page.errors_on_page():
        page.require_short(text or "")
        history, _ = page.recent(history)
        reply = bot.answer(text or "", threshold)
        asked = {"role": "user", "content": page.escape(text)}
        return [*history, asked, {"role": "assistant", "content": as_html(reply)}], ""


def as_html(reply: Reply) -> str:
    """What is said, and below it the question of the FAQ that it comes from, with its similarity."""
    return f'{page.escape(reply.text)}<br><span class="of-source">{page.escape(reply.explanation)}</span>'
