"""The page in the browser to chat with an instruction follower; what is said is `generation.chat.Chat`."""

import html
import os

from ..generation.chat import Chat
from ..modeling_gpt_scratch import GPTScratchForCausalLM
from ..pretrained import load_with_tokenizer
from ..prompts import PREAMBLE
from . import page

TITLE = "Chat with a GPT"  # of a Space

CSS = """
#conversation { height: 55vh !important; min-height: 260px; }
#note:not(:has(.prose:not(:empty))) { display: none !important; }
#new { white-space: nowrap; padding-inline: 0; }
footer { display: none !important; }
"""


def serve(folder: str | os.PathLike, host: str, port: int | None, **placement) -> None:
    """The page for the language model in `folder`, until Ctrl-C."""
    page.serve(load(folder, **placement), host, port, CSS)


def load(folder: str | os.PathLike, **placement):
    """The page for the language model in `folder`; raises `InputError` where there is none, or it cannot chat."""
    page.gradio()
    model, tokenizer = load_with_tokenizer(GPTScratchForCausalLM, folder, **placement)
    return make_page(model.eval(), tokenizer)


def make_page(model, tokenizer):
    """The Gradio page; raises `InputError` where the tokenizer has no chat template."""
    gr = page.gradio()
    Chat(model, tokenizer)  # a model that cannot chat is found before the page is shown
    with page.blocks("Chat") as blocks:
        conversation = gr.Chatbot(
            elem_id="conversation",
            render_markdown=False,
            label="Conversation",
            placeholder="Ask something.",
            buttons=["copy"],  # without Gradio's own, which sends conversations to the Hub
        )
        note = gr.HTML(elem_id="note")
        question = gr.Textbox(label="Question", elem_id="question", autofocus=True, lines=1, max_lines=6)
        with gr.Row():
            go = gr.Button("Ask", variant="primary", elem_id="ask", min_width=80, size="md")
            stop = gr.Button("Stop", variant="stop", elem_id="stop", min_width=80, size="md")
            new = gr.Button("New chat", elem_id="new", min_width=80, size="md")
        settings = _settings(model.config.n_positions, _preamble(tokenizer))

        # Gradio's own `cancels` would often end in an error on the page, so an answer looks for what was wished.
        wish = gr.State([])
        shown = [conversation, question, note]
        gr.on(
            [go.click, question.submit],
            answering(model, tokenizer),
            [question, conversation, *settings, wish],
            shown,
            api_name="ask",
            show_progress="hidden",
            concurrency_limit=None,  # all are answered at once, more slowly, rather than one after the other
        )
        stop.click(lambda wish: wish.append("stop"), wish, queue=False, api_visibility="private")
        new.click(begin_anew, wish, shown, queue=False, api_visibility="private")
    return blocks


def _settings(limit: int, trained: str) -> list:
    """What an answer is asked with: temperature, top-k, maximum tokens, system message, history."""
    gr = page.gradio()
    with gr.Accordion("Settings", open=False, elem_id="settings"):
        return [
            gr.Slider(0, 2, 0, label="Sampling temperature (0: greedy, always the likeliest token)"),
            gr.Slider(0, 200, 0, step=1, label="Top-k: sample among so many of the likeliest tokens (0: all)"),
            gr.Slider(1, limit, min(256, limit), step=1, label="Maximum new tokens of an answer"),
            gr.Textbox(trained, label="The prompt begins with (empty: as in training)", max_lines=4),
            gr.Checkbox(False, label="Read the questions before it too (trained on single ones)"),
        ]


def begin_anew(wish: list[str]):
    """An empty conversation, question and note, also where an answer is under way."""
    wish.append("new")
    return [], "", ""


def answering(model, tokenizer):
    """
    What the page does with a question: a generator of the conversation as it grows, the question and a note, which
    ends early once the list `wish` has "stop" or "new" in it, or belongs to a later question.
    """
    gr = page.gradio()
    penalty = model.generation_config.repetition_penalty or 1.0
    trained = _preamble(tokenizer)

    def answer(text, history, temperature, top_k, max_new_tokens, system, remember, wish):
        with page.errors_on_page():
            page.require_short(text or "")
            system = (system or "").strip()
            chat = Chat(model, tokenizer, system if system != trained else None, history=remember)
            chat.messages = [{"role": one["role"], "content": _text(one["content"])} for one in history]
            sampling = {"temperature": temperature, "top_k": int(top_k), "repetition_penalty": penalty}
            pieces = chat.ask(text or "", int(max_new_tokens), **sampling)
            mine = object()
            wish[:] = [mine]
            note = "The oldest part of the conversation found no room, and is forgotten." if chat.forgotten else ""
            shown = [*history, {"role": "user", "content": page.escape(text)}, {"role": "assistant", "content": ""}]
            yield shown, "", note
            for piece in pieces:
                shown[-1]["content"] += page.escape(piece)
                yield shown, gr.skip(), note  # the next question may be under way
                if wish != [mine]:
                    break
            if mine not in wish:
                return
            if chat.finish_reason == "length":
                note = f"{note} The answer was cut at the most tokens it may have.".strip()
            yield ([], gr.skip(), "") if "new" in wish else (shown, gr.skip(), note)

    return answer


def _preamble(tokenizer) -> str:
    """The sentence that the prompt begins with in training, where the template has it."""
    return PREAMBLE if PREAMBLE in tokenizer.chat_template else ""


def _text(content) -> str:
    """The text of a message, which Gradio sends back as a list of parts; the page shows it as HTML, so escaped."""
    parts = [content] if isinstance(content, str) else content
    return html.unescape("".join(part if isinstance(part, str) else part.get("text", "") for part in parts))
