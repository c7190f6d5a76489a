"""
transformers.js gives an ONNX folder the tokens, texts and probabilities of the model, in Node.

    pytest -m node

npm fetches transformers.js into `.cache/` first, which takes half a minute once.
"""

import json

import pytest
import torch

from hf_gpt_scratch import GPTScratchForCausalLM, GPTScratchForSequenceClassification
from hf_gpt_scratch.conversion.onnx import export_onnx
from hf_gpt_scratch.onnx_models.model import load_onnx
from hf_gpt_scratch.prompts import CHAT_TEMPLATE
from hf_gpt_scratch.tokenizer import load_tokenizer
from support.checkpoints import random_weights
from support.models import save_model
from support.transformers_js import ask

pytest.importorskip("onnx", reason="pip install -e '.[onnx]'")
pytest.importorskip("onnxruntime", reason="pip install -e '.[onnx]'")
pytest.importorskip("onnxscript", reason="pip install -e '.[onnx]'")
pytestmark = pytest.mark.node

ODD = [
    *("naïve café, cafe\u0301", "日本語 の テキスト", "مرحبا بالعالم", "ไทย", "👩\u200d👩\u200d👧🏳️\u200d🌈"),
    *("it's we'LL 'S I'd", "İstanbul ſ K ß", "  two  spaces ", "\ttab\r\nline\n\n", "\u00a0no-break\u2003em"),
    *("a\u200bb\u200dc", "x² ½ Ⅷ ١٢٣ 123456", "\x00\x1f\x7f", "\x85 \ufeff", "ﬁ ﷺ 𝒳𝓎 𐍈", "\ue000\U0010ffff"),
    *("!?…—–‹›„“", "", " ", "\u2028\u2029", "<|endoftext|>", "a" * 300),
]
ROWS = ["win a free prize now", "see you at home", "a lamp on the hill by the sea", "prize", "see free home " * 200]
PROMPTS = ["the lamp", "a boat on", "on the hill a boat", "sea"]
LABELS = {"id2label": {0: "ham", 1: "spam"}, "label2id": {"ham": 0, "spam": 1}}
NEW_TOKENS = 16


@torch.no_grad()
def scores(model, folder) -> torch.Tensor:
    """Of the rows, one at a time, `(rows, labels)`."""
    tokenizer = load_tokenizer(folder)
    return torch.cat([model(**tokenizer(text, return_tensors="pt", truncation=True)).logits for text in ROWS])


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """A writer that chats and a classifier, and each as ONNX folders."""
    folder, texts = tmp_path_factory.mktemp("models"), [*ROWS, *PROMPTS, *ODD] * 3
    for name, model_class, settings in (
        ("writer", GPTScratchForCausalLM, {"chat": CHAT_TEMPLATE}),
        ("spam", GPTScratchForSequenceClassification, {"classifier_bias": True, **LABELS}),
    ):
        save_model(folder / name, model_class, 0, texts, 400, n_positions=256, n_layer=2, **settings)
        model = random_weights(model_class.from_pretrained(folder / name))
        if name == "spam":  # with both labels among the rows
            model.score.bias.data -= scores(model, folder / name).mean(0)
        model.save_pretrained(folder / name)
        for dtype in ("fp32", "int8"):
            export_onnx(folder / name, folder / f"{name}-{dtype}", dtype)
    return folder


@pytest.fixture(scope="module")
def answers(folder):
    """Of one process, since a start takes seconds."""
    greedy = {"max_new_tokens": NEW_TOKENS, "do_sample": False}
    chats = [[{"role": "user", "content": prompt}] for prompt in PROMPTS]
    wishes = {
        "tokens": {"what": "tokens", "model": "writer-fp32", "texts": ODD},
        "text": {"what": "written", "model": "writer-fp32", "prompts": PROMPTS, "settings": greedy},
        "chat": {"what": "written", "model": "writer-fp32", "prompts": chats, "settings": greedy},
        "fp32": {"what": "classified", "model": "spam-fp32", "texts": ROWS},
        "int8": {"what": "classified", "model": "spam-int8", "texts": ROWS},
    }
    return dict(zip(wishes, ask(folder, *wishes.values())))


def continuation(model, tokenizer, **inputs) -> str:
    ids = model.generate(**inputs, do_sample=False, max_new_tokens=NEW_TOKENS)[0, inputs["input_ids"].shape[1] :]
    return tokenizer.decode(ids, skip_special_tokens=True)


def test_tokens_are_those_of_python(folder, answers):
    tokenizer = load_tokenizer(folder / "writer")
    for text, found in zip(ODD, answers["tokens"]):
        assert found["ids"] == tokenizer(text)["input_ids"], text
        assert found["text"] == tokenizer.decode(found["ids"]), text


def test_greedy_texts_are_those_of_torch_and_are_streamed(folder, answers):
    model, tokenizer = GPTScratchForCausalLM.from_pretrained(folder / "writer"), load_tokenizer(folder / "writer")
    expected = [continuation(model, tokenizer, **tokenizer(prompt, return_tensors="pt")) for prompt in PROMPTS]
    assert len(set(expected)) == len(PROMPTS), "they must differ to show anything"
    for prompt, text, found in zip(PROMPTS, expected, answers["text"]):
        assert found["text"] == prompt + text
        assert found["streamed"] == text and 1 < found["steps"] <= NEW_TOKENS


def test_a_chat_has_the_prompt_of_the_template(folder, answers):
    model, tokenizer = GPTScratchForCausalLM.from_pretrained(folder / "writer"), load_tokenizer(folder / "writer")
    for prompt, found in zip(PROMPTS, answers["chat"]):
        chat = [{"role": "user", "content": prompt}]
        inputs = tokenizer.apply_chat_template(chat, add_generation_prompt=True, return_tensors="pt", return_dict=True)
        assert found["text"] == continuation(model, tokenizer, **inputs)


@pytest.mark.parametrize("dtype, tolerance", [("fp32", 1e-4), ("int8", 0.01)])
def test_labels_and_scores_are_those_of_python(folder, answers, dtype, tolerance):
    """In fp32 of torch; in int8 of the same graph, as random weights lose more by rounding than trained ones."""
    model = GPTScratchForSequenceClassification.from_pretrained(folder / "spam").eval()
    model = load_onnx(folder / "spam-int8") if dtype == "int8" else model
    expected = [dict(zip(("ham", "spam"), row)) for row in scores(model, folder / "spam").softmax(-1).tolist()]
    assert {max(one, key=one.get) for one in expected} == {"ham", "spam"}, "they must differ to show anything"
    for row, alone, batch in zip(expected, answers[dtype]["oneByOne"], answers[dtype]["batch"]):
        assert alone["label"] == max(row, key=row.get)
        assert alone["score"] == pytest.approx(max(row.values()), abs=tolerance)
        assert {one["label"]: one["score"] for one in batch} == pytest.approx(row, abs=tolerance)


def test_the_folder_says_which_graph_it_has(folder):
    """So that no `dtype` is asked of the user: by itself, Node takes fp32 and a browser int8."""
    for dtype, name in {"fp32": "fp32", "int8": "q8"}.items():
        config = json.loads((folder / f"spam-{dtype}" / "config.json").read_text())
        assert config["transformers.js_config"] == {"dtype": name}
