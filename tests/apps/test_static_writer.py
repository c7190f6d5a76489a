"""A language model in a browser tab reads and writes the tokens that it reads and writes in Python, here in Node."""

from dataclasses import asdict

import pytest
import torch
from tokenizers.decoders import DecodeStream

from hf_gpt_scratch import GPTScratchForCausalLM
from hf_gpt_scratch.conversion.onnx import export_onnx
from hf_gpt_scratch.data.faq import Entry
from hf_gpt_scratch.faq.bot import FaqBot
from hf_gpt_scratch.faq.faq_file import FaqFile
from hf_gpt_scratch.generation.chat import Chat
from hf_gpt_scratch.generation.sampling import stream_text
from hf_gpt_scratch.pretrained import load_with_tokenizer
from hf_gpt_scratch.prompts import CHAT_TEMPLATE, CHAT_TEMPLATE_WITH_BOS, chat_template
from hf_gpt_scratch.utils.special_tokens import chat_ids
from support.models import save_model
from support.scripts_in_node import WORKER, in_node, worker_files

pytestmark = pytest.mark.node
OLDER = CHAT_TEMPLATE.replace(".replace('### Instruction:', '# # # Instruction:')", "")
OTHER = (
    "{% for message in messages %}<|im_start|>{{ message['role'] }}\n{{ message['content'] | trim }}<|endoftext|>\n"
    "{% endfor %}{% if add_generation_prompt %}{{ 'assistant\n' }}{% endif %}"
)
TEMPLATES = [CHAT_TEMPLATE, CHAT_TEMPLATE_WITH_BOS, chat_template(conversations=True), OLDER, OTHER]
TYPED = "a <|endoftext|> b<|pad|>### Instruction:\n### Response:\nc\ue000 \U0001f642 {{ x }} caf\u00e9"
CONVERSATIONS = [
    [{"role": "user", "content": "constructor"}],
    [{"role": "user", "content": "Name a colour.\n\n### Input:\nred, blue"}],
    [{"role": "system", "content": f"Be kind. {TYPED}"}, {"role": "user", "content": TYPED}],
    [
        {"role": "user", "content": " Name\n"},
        {"role": "assistant", "content": f"Red.{TYPED}"},
        {"role": "user", "content": "More <|endoftext|>"},
    ],
]
GREEDY = {"temperature": 0, "topK": 0, "topP": 1, "repetitionPenalty": 1, "seed": None}
ASKED = [
    {"text": "see you", "input": "", "system": "", "history": False, "maxNewTokens": 20, **GREEDY},
    {"text": TYPED, "input": " at home ", "system": "", "history": True, "maxNewTokens": 9, **GREEDY},
    {"text": "win", "input": "", "system": f"Say {TYPED}", "history": True, "maxNewTokens": 200, **GREEDY},
    {"text": "a prize", "input": "", "system": "", "history": True, "maxNewTokens": 70, **GREEDY},
    {**{"text": "free", "input": "", "system": "", "history": True, "maxNewTokens": 30}, **GREEDY}
    | {"repetitionPenalty": 1.4},
]
CODE = (
    WORKER
    + """
await loadWorker(data.files);
const found = { prompts: [], replies: [], continued: [] };
for (const template of data.templates) {
  answers.open({ ...data.settings, chatTemplate: template });
  found.prompts.push(data.conversations.map((one) => answers.prompt(one)));
}
answers.open(data.settings);
const exchanges = [];
for (const one of data.asked) {
  const pieces = [];
  const context = { piece: (text) => pieces.push(text), isNewest: () => true };
  const said = await answers.reply({ ...one, exchanges }, context);
  exchanges.push({ text: one.text, input: one.input.trim(), answer: pieces.join("") });
  found.replies.push([pieces, said]);
}
for (const text of data.begun) {
  const pieces = [];
  const options = { ...data.asked[0], text, maxNewTokens: 12 };
  await answers.continue(options, { piece: (one) => pieces.push(one), isNewest: () => true });
  found.continued.push(pieces);
}
const stopped = [];
found.stopped = [await answers.reply({ ...data.asked[0], exchanges: [] },
  { piece: (text) => stopped.push(text), isNewest: () => stopped.length < 3 }), stopped];
found.errors = [];
for (const text of ["", "a\\ud800", "long ".repeat(500)]) {
  const reply = answers.reply({ ...data.asked[0], text, exchanges: [] }, {});
  await reply.catch((error) => found.errors.push(error.message));
}
const stream = new TextStream((ids) => self.model.tokenizer.decode(ids, { skip_special_tokens: true }));
found.streamed = data.tokens.map((token) => stream.push(token));
answers.open({ ...data.settings, faq: data.faq });
found.lookedUp = [];
for (const text of data.questions) found.lookedUp.push(await answers.lookUp({ text, threshold: 0.5 }));
return found;"""
)
QUESTIONS = ["a free prize", "who wins?", "\U0001f642 at home <|endoftext|>", "when do you see me " * 60]
FAQ = FaqFile(
    [
        Entry(f"Do I {verb} {what}?", f"You {verb} {what}.\n### Response:")
        for verb in ("win", "see")
        for what in "abcdefg"
    ],
    0.5,
    {"similarity": 3.0, "margin": 2.0, "opinion": 6.0, "bias": -2.0},
)
BEGUN = ["win a", "", "see <|endoftext|> you \U0001f642"]


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    folder, texts = tmp_path_factory.mktemp("static"), ["win a free prize now", "see you at home"] * 5
    shape = {"n_positions": 512, "initializer_range": 0.3, "chat": chat_template(conversations=True)}
    model = save_model(folder / "model", GPTScratchForCausalLM, 1, texts, **shape)
    export_onnx(model, folder / "onnx")
    return folder


@pytest.fixture(scope="module")
def python(folder):
    return load_with_tokenizer(GPTScratchForCausalLM, folder / "onnx", device="cpu")


@pytest.fixture(scope="module")
def tokens(python):
    """Tokens of which many hold a part of a character, special ones among them."""
    model, tokenizer = python
    spelled = tokenizer("\u00e9\U0001f642 caf\u00e9 \u98db\u884c\u6a5f<|endoftext|>\U0001f642\ufffd a", verbose=False)
    torch.manual_seed(0)
    return spelled["input_ids"] + torch.randint(model.config.vocab_size, (200,)).tolist()


@pytest.fixture(scope="module")
def found(folder, tokens):
    from hf_gpt_scratch.apps.static_chat import WORKER as SCRIPTS
    from hf_gpt_scratch.apps.static_chat import static_page

    page = static_page(folder / "onnx", folder / "model", "follower")
    data = {
        "files": worker_files(page, folder / "onnx", folder),
        "settings": page.settings,
        "templates": TEMPLATES,
        "conversations": CONVERSATIONS,
        "asked": ASKED,
        "begun": BEGUN,
        "tokens": tokens,
        "faq": asdict(FAQ),
        "questions": QUESTIONS,
    }
    return in_node(["worker.js", "model.js", *SCRIPTS], CODE, data)


def test_the_tokens_of_a_conversation(found, python):
    _, tokenizer = python
    for template, prompts in zip(TEMPLATES, found["prompts"]):
        tokenizer.chat_template = template
        assert prompts == [chat_ids(tokenizer, messages) for messages in CONVERSATIONS], template
    tokenizer.chat_template = chat_template(conversations=True)


def test_greedy_answers_of_a_conversation_piece_by_piece(found, python):
    chat, forgotten = Chat(*python, history=True), []
    for asked, (pieces, said) in zip(ASKED, found["replies"]):
        history, chat.forgotten = chat.messages, 0
        chat.system = [{"role": "system", "content": asked["system"]}] if asked["system"] else []
        chat.history = asked["history"]
        settings = {"temperature": 0.0, "repetition_penalty": asked["repetitionPenalty"], "input": asked["input"]}
        expected = list(chat.ask(asked["text"], asked["maxNewTokens"], **settings))
        assert pieces == expected and len(expected) > 2
        assert said == {"finishReason": chat.finish_reason, "forgotten": chat.forgotten}
        forgotten.append(chat.forgotten)
        chat.messages = [*history, *chat.messages[-2:]]  # the page keeps what the model no longer reads
    assert any(forgotten)


def test_texts_are_continued(found, python):
    assert found["continued"] == [list(stream_text(*python, text, 12, temperature=0.0)) for text in BEGUN]


def test_a_newer_question_stops_an_answer(found):
    said, pieces = found["stopped"]
    assert said["finishReason"] == "interrupted" and pieces == found["replies"][0][0][:3]


def test_what_cannot_be_asked(found, python):
    chat = Chat(*python)
    with pytest.raises(Exception, match="The question has") as too_long:
        chat.ask("long " * 500)
    assert found["errors"] == ["The question is empty.", "The question is not UTF-8 text.", str(too_long.value)]


def test_text_comes_as_soon_as_its_characters_are_complete(found, tokens, python):
    decoder = DecodeStream(skip_special_tokens=True)
    expected = [decoder.step(python[1].backend_tokenizer, token) or "" for token in tokens]
    assert found["streamed"] == expected and "" in expected


def test_a_bot_asks_the_model_about_its_candidates(found, python):
    bot = FaqBot(FAQ, *python)
    for question, reply in zip(QUESTIONS, found["lookedUp"]):
        expected = bot.answer(question, 0.5)
        assert [reply["text"], reply["explanation"]] == [expected.text, expected.explanation]
        assert abs(reply["confidence"] - expected.confidence) < 1e-4
    opinions = bot.read(QUESTIONS).opinions
    assert len(set(opinions.max(axis=1).round(3))) > 1
