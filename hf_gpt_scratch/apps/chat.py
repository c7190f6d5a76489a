"""The page in the browser to chat with an instruction follower; what is said is `generation.chat.Chat`."""

import html
import os
from collections.abc import Mapping, Sequence
from functools import partial

from ..faq.bot import FaqBot
from ..faq.faq_file import is_faq_folder, read_faq_file
from ..generation.adapters import AdapterSet
from ..generation.chat import Chat
from ..generation.sampling import sampling_settings
from ..model_folder.contents import ModelFolder
from ..modeling_gpt_scratch import GPTScratchForCausalLM
from ..pretrained import load_with_tokenizer
from ..prompts import PREAMBLE
from . import examples, faq, page, server

TITLE = "Chat with a GPT"  # also of a Space
SINGLE = "This small model was trained to follow single instructions: ask for one thing at a time{choose}."
ASK = "Ask something{choose}."
WARNING = "It knows little, so check what it says."
CHOOSE = ", or choose an example below"
GREEDY = (
    "Greedy decoding always gives the same answer; raise the sampling temperature in the settings for another one."
)
# Between a question and its input in the conversation, in which everything else is escaped.
INPUT_SHOWN = '<br><span class="of-input">Input:</span> '

CSS = """
.gradio-container { max-width: 800px !important; }
#conversation { height: 42vh !important; min-height: 230px; }
#conversation .message { max-width: 70ch; line-height: 1.5; overflow-wrap: anywhere; }
.of-source { color: var(--quiet); font-size: 13px; }
#note:not(:has(.prose:not(:empty))) { display: none !important; }
#actions { flex-wrap: nowrap; }
#actions button { white-space: nowrap; padding-inline: 4px; min-height: 44px; }
"""


def serve(
    folder: str | os.PathLike, host: str, port: int | None, share: bool = False, access: Mapping = {}, **settings
) -> None:
    """
    The page for the language model in `folder`, until Ctrl-C; `settings` are those of `load`, `access` are the
    password and the rate of `page.serve`.
    """
    page.serve(load(folder, **settings), host, port, share, CSS, **access)


def load(folder: str | os.PathLike, name: str | None = None, adapters: Mapping[str, str] | None = None, **placement):
    """
    The page for the language model in `folder`.

    Args:
        folder: a folder or a Hub repository, also of an adapter.
        name: what the page calls the model.
        adapters: LoRA adapters of the model, by name, to choose among on the page.
        placement: as for `load_with_tokenizer`.

    Raises:
        InputError: where there is none, or it cannot chat.
    """
    page.gradio()
    name, folder = name or page.model_name(folder), ModelFolder.resolve(folder)
    if adapters:
        chosen = AdapterSet(folder, adapters, **placement)
        return make_page(chosen.model, chosen.switch(chosen.names[0]), name, adapters=chosen)
    if is_faq_folder(folder):
        return faq.load(folder, name, **placement)
    model, tokenizer = load_with_tokenizer(GPTScratchForCausalLM, folder, **placement)
    return make_page(model.eval(), tokenizer, name, examples.questions(folder), examples.takes_input(folder))


def record_examples(folder: str | os.PathLike, path: str | os.PathLike) -> int:
    """Writes the examples of the page of `folder` to a file; returns how many there are."""
    found = examples.questions(folder)
    examples.write(path, found, ("instruction", "input"))
    return len(found)


def make_page(
    model,
    tokenizer,
    name: str = "a language model",
    shown: Sequence[tuple[str, str]] = (),
    takes_input: bool | None = None,
    adapters: AdapterSet | None = None,
):
    """
    The Gradio page.

    Args:
        shown: examples, each an instruction and its input.
        takes_input: whether there is a box for an input; where it is unknown, there is one for the Alpaca prompt.
        adapters: to choose among, on `model`; another one begins a new conversation.

    Raises:
        InputError: where the tokenizer has no chat template.
    """
    gr = page.gradio()
    chat = Chat(model, tokenizer)  # a model that cannot chat is found before the page is shown
    with page.blocks(TITLE) as blocks:
        ask = (ASK if chat.history else SINGLE).format(choose=CHOOSE if shown else "")
        page.header(TITLE, f"{ask} {WARNING}", page.facts(model, name))
        conversation, note, question, extra = _boxes(chat.is_alpaca if takes_input is None else takes_input)
        go, stop, again, new = _buttons()
        chips = page.example_buttons([_on_button(*one) for one in shown], "Questions that it has answered correctly:")
        settings = _settings(model, chat)
        page.footer()

        wish = gr.State([])  # Gradio's own `cancels` would often end in an error on the page
        outputs = [conversation, question, note, extra, stop, again]
        # Several are answered at once, more slowly, rather than one after the other; the rest see their place.
        answers = {"outputs": outputs, **page.ANSWERS, "show_progress_on": conversation}
        asked = [question, conversation, *settings[:5], wish, extra, *settings[5:]]
        known = [conversation, *settings[:5], wish, *settings[5:]]
        does = [partial(act, model, tokenizer) for act in (answer, answer_again, answer_example)]
        if adapters:
            chosen = gr.Dropdown(adapters.names, value=adapters.names[0], label="Subject", elem_id="adapter")
            # One answer at a time: they share the model, which is one adapter's at a time.
            answers |= {"concurrency_limit": 1}
            asked, known = [[chosen, *values] for values in (asked, known)]
            bots = _bots(adapters)
            does = [partial(_with_adapter, adapters, bots, act) for act in (answer, answer_again, answer_example)]
            chosen.change(begin_anew, wish, outputs, queue=False, api_visibility="private")
        gr.on([go.click, question.submit, extra.submit], does[0], asked, api_name="ask", **answers)
        again.click(does[1], known, api_visibility="private", **answers)
        for chip, one in zip(chips, shown):
            chip.click(partial(does[2], *one), known, api_visibility="private", **answers)
        quick = {"queue": False, "api_visibility": "private"}
        stop.click(lambda wish: wish.append("stop"), wish, **quick)
        new.click(begin_anew, wish, outputs, **quick)
    return blocks


def _bots(adapters: AdapterSet) -> dict[str, FaqBot]:
    """Of the adapters, those that answer from an FAQ, by name."""
    return {
        name: FaqBot(read_faq_file(folder), adapters.model, adapters.switch(name))
        for name, folder in adapters.folders.items()
        if is_faq_folder(folder)
    }


def _with_adapter(adapters: AdapterSet, bots: Mapping[str, FaqBot], act, name: str, *values):
    """What `act` yields of the model with the adapter of that name, or of the bot that it is."""
    with page.errors_on_page(), adapters.use(name) as tokenizer:
        yield from act(bots.get(name, adapters.model), tokenizer, *values)


def _boxes(takes_input: bool) -> tuple:
    """The conversation, a note below it, and the boxes of a question and its input."""
    gr = page.gradio()
    conversation = page.conversation()
    note = gr.HTML(elem_id="note")
    question = gr.Textbox(label="Question", elem_id="question", autofocus=True, lines=1, max_lines=6)
    label = "Input (optional): a text that the question is about"
    extra = gr.Textbox("", label=label, elem_id="input", lines=1, max_lines=6, visible=takes_input)
    return conversation, note, question, extra


def _on_button(instruction: str, input: str) -> str:
    return f"{instruction}\n{input}" if input else instruction


def _buttons() -> list:
    """Ask, Stop (while it writes), Retry (once there is an answer), New chat."""
    gr = page.gradio()
    with gr.Row(elem_id="actions"):
        return [
            gr.Button("Ask", variant="primary", elem_id="ask", min_width=70, size="md"),
            gr.Button("Stop", elem_id="stop", min_width=70, size="md", visible=False),
            gr.Button("Retry", elem_id="again", min_width=70, size="md", visible=False),
            gr.Button("New chat", elem_id="new", min_width=70, size="md"),
        ]


def _settings(model, chat: Chat) -> list:
    """What an answer is asked with; the values shown at first are the generation settings saved with the model."""
    gr, limit = page.gradio(), model.config.n_positions
    saved = sampling_settings(model, {}, max_new_tokens=256, temperature=0.0)
    with gr.Accordion("Settings", open=False, elem_id="settings"):
        temperature = gr.Slider(
            *(0, 2, saved["temperature"]),
            label="Sampling temperature",
            info="0 is greedy: always the most likely token.",
        )
        top_k = gr.Slider(
            *(0, 200, saved.get("top_k", 0)),
            step=1,
            label="Top-k",
            info="Sample from this many of the most likely tokens only; 0 is all.",
        )
        longest = gr.Slider(
            *(1, limit, min(saved["max_new_tokens"], limit)), step=1, label="Maximum new tokens of an answer"
        )
        top_p = gr.Slider(
            *(0.05, 1, saved.get("top_p", 1.0)),
            label="Top-p (nucleus sampling)",
            info="Sample from the most likely tokens that together have this probability; 1 is all.",
        )
        penalty = gr.Slider(
            *(1, 2, saved.get("repetition_penalty", 1.0)),
            label="Repetition penalty",
            info="Above 1, tokens that occurred before become less likely.",
        )
        system = gr.Textbox(
            _preamble(chat.tokenizer), label="System message: what the prompt begins with", max_lines=4
        )
        remember = gr.Checkbox(
            chat.history,
            label="Read earlier questions too",
            info="" if chat.history else "The model was trained on single questions.",
        )
    return [temperature, top_k, longest, system, remember, top_p, penalty]


def begin_anew(wish: list[str]):
    """An empty conversation, question, note and input, also where an answer is under way."""
    wish.append("new")
    return [], "", "", "", *_visible(stop=False, again=False)


def _visible(stop: bool, again: bool) -> tuple:
    gr = page.gradio()
    return gr.Button(visible=stop), gr.Button(visible=again)


def answer(model, tokenizer, text, history, temperature, top_k, max_new_tokens, system, remember, wish, *more):
    """
    What the page does with a question: a generator of the conversation as it grows, the question, a note, the input
    and the buttons Stop and Retry. It ends early once the list `wish` has "stop" or "new" in it, or belongs to a later
    question. `more` are the input, top-p and the repetition penalty.
    """
    skip, (input, top_p, penalty) = page.gradio().skip(), more
    with page.errors_on_page():
        for one in (text, input, system):
            page.require_short(one or "")
        history, is_cut = page.recent(history)
        chat = _chat(model, tokenizer, history, system, remember)
        sampling = {"temperature": temperature, "top_k": int(top_k), "top_p": top_p, "repetition_penalty": penalty}
        pieces = chat.ask(text or "", int(max_new_tokens), input or "", **sampling)
        mine = object()
        wish[:] = [mine]
        note = "The conversation is too long; its oldest part was dropped." if chat.forgotten or is_cut else ""
        shown, said = [*history, _asked(text, input), {"role": "assistant", "content": ""}], ""
        try:
            yield shown, "", note, "", *_visible(stop=True, again=False)
            for piece in pieces:
                said += piece
                shown[-1]["content"] = page.escape(said)  # as a whole: a control sequence may come in pieces
                yield shown, skip, note, skip, skip, skip  # the next question may be under way
                if wish != [mine] or server.closing.is_set():
                    break
        except Exception:
            yield shown, skip, note, skip, *_visible(stop=False, again=True)
            raise
        if mine not in wish:
            return
        if isinstance(chat, FaqBot):
            shown[-1]["content"] = faq.as_html(chat.reply)
        if chat.finish_reason == "length":
            note = f"{note} The answer was cut off at the maximum number of new tokens.".strip()
        elif server.closing.is_set() and chat.finish_reason == "interrupted":
            note = f"{note} The page was closed before the end of the answer.".strip()
        is_new = "new" in wish
        yield [] if is_new else shown, skip, "" if is_new else note, skip, *_visible(stop=False, again=not is_new)


def answer_example(model, tokenizer, text: str, input: str, history, *settings):
    """What `answer` yields for a question and an input that were not typed into the boxes."""
    *first, top_p, penalty = settings
    yield from answer(model, tokenizer, text, history, *first, input, top_p, penalty)


def answer_again(model, tokenizer, history, temperature, *settings):
    """What `answer` yields for the last question of the conversation, in place of the answer that it had."""
    questions = [i for i, one in enumerate(history) if one["role"] == "user"]
    if not questions:
        return
    text, input = _question(history[questions[-1]]["content"])
    history = history[: questions[-1]]
    for shown, question, note, *others in answer_example(
        model, tokenizer, text, input, history, temperature, *settings
    ):
        yield shown, question, f"{note} {GREEDY}".strip() if temperature == 0 and shown else note, *others


def _chat(model, tokenizer, history: list[dict], system: str | None, remember: bool) -> Chat | FaqBot:
    """The conversation of the page; a bot answers each question by itself."""
    if isinstance(model, FaqBot):
        return model
    system = (system or "").strip()
    chat = Chat(model, tokenizer, system if system != _preamble(tokenizer) else None, history=remember)
    chat.messages = [{"role": one["role"], "content": chat.question(*_question(one["content"]))} for one in history]
    return chat


def _asked(text: str, input: str | None) -> dict[str, str]:
    """A question and its input as a message of the page, where both are escaped."""
    shown_input = f"{INPUT_SHOWN}{page.escape(input.strip())}" if (input or "").strip() else ""
    return {"role": "user", "content": page.escape(text) + shown_input}


def _preamble(tokenizer) -> str:
    """The sentence that the prompt begins with in training, where the template has it."""
    return PREAMBLE if PREAMBLE in tokenizer.chat_template else ""


def _question(content) -> tuple[str, str]:
    """
    The text of a message and its input, "" where it has none; Gradio sends it back as a list of parts, and the page
    shows it as HTML, so escaped.
    """
    parts = [content] if isinstance(content, str) else content
    text = "".join(part if isinstance(part, str) else part.get("text", "") for part in parts)
    question, _, input = text.partition(INPUT_SHOWN)
    return html.unescape(question), html.unescape(input)
