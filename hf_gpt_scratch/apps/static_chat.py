"""
The static pages of a language model (see `static_page`): a conversation with an instruction follower, questions to a
bot of an FAQ, or, where a model was not trained to answer, texts that it continues. Their files of `static/`:

    sampling.js, generate.js       in the worker: text from the model, as generation/sampling.py writes it
    prompts.js, conversation.js    a conversation as the model reads it, as generation/chat.py does
    tfidf.js, faq_bot.js           the bot, as faq/bot.py answers
    writer.js                      what the page may ask of the worker
    chat.html, options.js, chat.js the page
"""

import html
import os
from dataclasses import asdict

from ..faq.faq_file import is_faq_folder, read_faq_file
from ..generation.chat import Chat
from ..generation.sampling import sampling_settings
from ..modeling_gpt_scratch import GPTScratchForCausalLM
from ..pretrained import load_with_tokenizer, precision_name
from ..prompts import PREAMBLE
from ..utils.special_tokens import beginning, end_token_ids, special_texts
from . import chat, examples, faq, npm
from .static_page import StaticPage

WRITE_TITLE = "Write with a GPT"
WRITE = "Begin a text, and the model continues it. It knows little, so check what it says."
WORKER = (
    "sampling.js",
    "generate.js",
    "prompts.js",
    "conversation.js",
    "tfidf.js",
    "faq_bot.js",
    "writer.js",
)
SCRIPTS = ("options.js", "chat.js")
CSS = """
body { max-width: 800px; }
#conversation { height: 42vh; min-height: 230px; overflow-y: auto; padding: 8px; border-radius: 8px;
    border: 1px solid var(--border-color-primary); display: flex; flex-direction: column; gap: 8px; }
.message { max-width: min(70ch, 92%); padding: 8px 12px; border-radius: 12px; white-space: pre-wrap;
    overflow-wrap: anywhere; border: 1px solid var(--border-color-primary); }
.message.user { align-self: flex-end; background: var(--label-0); }
.message.bot { align-self: flex-start; }
.message.bot .begun { color: var(--quiet); }
.message.bot[aria-busy] .said::after { content: "▍"; }
.of-source { color: var(--quiet); font-size: 13px; }
.of-input { font-weight: 600; }
button.copy { display: block; min-height: 32px; margin-top: 6px; padding: 2px 10px; font-size: 13px; }
#actions { display: flex; gap: 8px; }
#actions button { flex: 1 1 70px; white-space: nowrap; padding-inline: 4px; }
#conversation + #note { min-height: 1.5em; margin: 4px 0; }
#question, #input { min-height: 44px; }
#options summary { font-weight: 600; padding: 10px 0; cursor: pointer; }
#of-options label { display: block; margin-top: 12px; font-weight: 400; }
#of-options p { margin: 0; }
#of-options input[type=number] { font: inherit; color: inherit; background: var(--background-fill-primary);
    padding: 8px; border: 1px solid var(--quiet); border-radius: 8px; width: 100%; }
#of-options input[type=checkbox] { width: 24px; height: 24px; }
"""


def static_page(folder: str | os.PathLike, source: str | os.PathLike, name: str) -> StaticPage:
    """
    The page of a language model.

    Args:
        folder: with the ONNX model.
        source: the folder that it was exported from, or itself, with what was recorded beside the model.
        name: what the page calls the model.

    Raises:
        InputError: where there is no language model.
    """
    model, tokenizer = load_with_tokenizer(GPTScratchForCausalLM, folder, device="cpu")
    if is_faq_folder(source):
        title, sentence, settings = _faq(source)
    elif tokenizer.chat_template:
        title, sentence, settings = _chat(model, tokenizer, source)
    else:
        title, sentence, settings = WRITE_TITLE, WRITE, {"mode": "write", **_sampling(model, 100, 1.0)}
    size = f"{model.num_parameters():,} parameters"
    return StaticPage(
        title,
        sentence,
        f"Model: <b>{html.escape(name)}</b> · {size} · running in this tab, {precision_name(model)}",
        name,
        "chat.html",
        SCRIPTS,
        WORKER,
        (npm.ONNXRUNTIME, npm.TOKENIZERS, npm.JINJA),
        css=CSS,
        settings={"examples": [], "preamble": "", **_reading(model, tokenizer), **settings},
    )


def _reading(model, tokenizer) -> dict:
    """What the page must know to read a text as the tokenizer does, and to see where one ends."""
    return {
        "positions": model.config.n_positions,
        "ends": end_token_ids(model.config, model.generation_config, tokenizer),
        "specialTokens": {text: tokenizer.convert_tokens_to_ids(text) for text in special_texts(tokenizer)},
        "beginning": beginning(tokenizer),
        "beginOfText": tokenizer.bos_token_id,
        "endOfText": tokenizer.eos_token_id,
        "chatTemplate": tokenizer.chat_template,
        "templateTokens": {kind: str(token) for kind, token in tokenizer.special_tokens_map.items()},
    }


def _sampling(model, max_new_tokens: int, temperature: float) -> dict:
    """The settings that the page begins with: those saved with the model, or else those of the command."""
    saved = sampling_settings(model, {}, max_new_tokens=max_new_tokens, temperature=temperature)
    return {
        "saved": {
            "temperature": saved["temperature"],
            "topK": saved.get("top_k", 0),
            "maxNewTokens": min(saved["max_new_tokens"], model.config.n_positions),
            "topP": saved.get("top_p", 1.0),
            "repetitionPenalty": saved.get("repetition_penalty", 1.0),
        }
    }


def _chat(model, tokenizer, source: str | os.PathLike) -> tuple[str, str, dict]:
    """The title of the page of a follower, its sentence, and its settings."""
    conversation, shown = Chat(model, tokenizer), examples.questions(source)
    takes_input = examples.takes_input(source)
    ask = (chat.ASK if conversation.history else chat.SINGLE).format(choose=chat.CHOOSE if shown else "")
    settings = {
        "mode": "chat",
        "isAlpaca": conversation.is_alpaca,
        "history": conversation.history,
        "takesInput": conversation.is_alpaca if takes_input is None else takes_input,
        "preamble": PREAMBLE if conversation.is_alpaca else "",
        "examples": shown,
        **_sampling(model, 256, 0.0),
    }
    return chat.TITLE, f"{ask} {chat.WARNING}", settings


def _faq(source: str | os.PathLike) -> tuple[str, str, dict]:
    """The title of the page of a bot, its sentence, and its settings."""
    held = read_faq_file(source)
    settings = {
        "mode": "faq",
        "faq": asdict(held),
        "preamble": PREAMBLE,
        "examples": [(text, "") for text in faq.shown_questions(held)],
        "thresholdInfo": faq.where_from(held),
    }
    return faq.TITLE, faq.WHAT.format(count=len(held.entries)), settings
