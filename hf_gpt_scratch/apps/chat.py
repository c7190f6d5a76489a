"""A page to chat with an instruction follower, in the words it was trained on."""

import argparse
import html
import os

from ..chat import Chat
from ..errors import InputError
from . import page

CSS = """
#conversation { height: 55vh !important; min-height: 260px; }
footer { display: none !important; }
"""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    page.add_model_arguments(parser, "an instruction follower, such as finetune_instruct.py leaves it")


def run(args: argparse.Namespace) -> None:
    """The command."""
    page.run(args, "chat", serve)


def serve(folder: str | os.PathLike, host: str, port: int | None) -> None:
    """The page for the language model in `folder`, until Ctrl-C."""
    from ..modeling_gpt_scratch import GPTScratchForCausalLM
    from ..pretrained import load_pretrained
    from ..tokenizer import load_tokenizer

    page.gradio()
    model, tokenizer = load_pretrained(GPTScratchForCausalLM, folder), load_tokenizer(str(folder))
    page.serve(make_page(model.eval(), tokenizer), host, port, CSS)


def make_page(model, tokenizer):
    """The Gradio page; raises `InputError` where the tokenizer has no chat template."""
    gr = page.gradio()
    Chat(model, tokenizer)  # a model that cannot chat is found before the page is shown
    penalty = model.generation_config.repetition_penalty or 1.0
    limit = model.config.n_positions

    def answer(text, history, temperature, top_k, max_new_tokens, system, remember):
        """Yields the conversation as it grows, the emptied question and a note."""
        try:
            chat = Chat(model, tokenizer, (system or "").strip() or None, history=remember)
            chat.messages = [{"role": one["role"], "content": _text(one["content"])} for one in history]
            sampling = {"temperature": temperature, "top_k": int(top_k), "repetition_penalty": penalty}
            pieces = chat.ask(text or "", int(max_new_tokens), **sampling)
            note = "The oldest part of the conversation found no room, and is forgotten." if chat.forgotten else ""
            shown = [*history, {"role": "user", "content": page.escape(text)}, {"role": "assistant", "content": ""}]
            yield shown, "", note
            for piece in pieces:
                shown[-1]["content"] += page.escape(piece)
                yield shown, "", note
            if chat.finish_reason == "length":
                note = f"{note} The answer was cut at the most tokens it may have.".strip()
            yield shown, "", note
        except InputError as error:
            raise page.error_on_page(error) from None

    with gr.Blocks(title="Chat", analytics_enabled=False) as blocks:
        conversation = gr.Chatbot(
            elem_id="conversation", render_markdown=False, label="Conversation", placeholder="Ask something."
        )
        note = gr.HTML(elem_id="note")
        question = gr.Textbox(label="Question", elem_id="question", autofocus=True, lines=1, max_lines=6)
        with gr.Row():
            go = gr.Button("Ask", variant="primary", elem_id="ask", min_width=80)
            stop = gr.Button("Stop", variant="stop", elem_id="stop", min_width=80)
            new = gr.Button("New chat", elem_id="new", min_width=80)
        with gr.Accordion("Settings", open=False):
            temperature = gr.Slider(0, 2, 0, label="Temperature: 0 takes the likeliest token")
            top_k = gr.Slider(0, 200, 0, step=1, label="Choose among so many tokens (0: all)")
            most = gr.Slider(1, limit, min(256, limit), step=1, label="Most tokens of an answer")
            system = gr.Textbox(label="In place of the sentence that the prompt begins with", max_lines=4)
            remember = gr.Checkbox(False, label="Read the questions before it too (trained on single ones)")
        settings = [question, conversation, temperature, top_k, most, system, remember]
        asked = gr.on(
            [go.click, question.submit],
            answer,
            settings,
            [conversation, question, note],
            api_name="ask",
            show_progress="hidden",
        )
        stop.click(None, cancels=[asked])
        new.click(lambda: ([], "", ""), None, [conversation, question, note], cancels=[asked], api_name="new")
    return blocks


def _text(content) -> str:
    """The text of a message, which Gradio sends back as a list of parts; the page shows it as HTML, so escaped."""
    parts = [content] if isinstance(content, str) else content
    return html.unescape("".join(part if isinstance(part, str) else part.get("text", "") for part in parts))
