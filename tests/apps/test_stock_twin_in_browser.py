"""transformers.js in a browser tab gives an ONNX folder the probabilities and texts of the model."""

import functools
import http.server
import json
import shutil
import threading

import pytest
import torch

from hf_gpt_scratch import GPTScratchForCausalLM, GPTScratchForSequenceClassification
from hf_gpt_scratch.conversion.onnx import export_onnx
from hf_gpt_scratch.tokenizer import load_tokenizer
from support.checkpoints import random_weights
from support.models import save_model
from support.transformers_js import SCRIPT, npm_packages

pytest.importorskip("onnx", reason="pip install -e '.[onnx]'")
pytest.importorskip("onnxruntime", reason="pip install -e '.[onnx]'")
pytest.importorskip("onnxscript", reason="pip install -e '.[onnx]'")
pytestmark = [pytest.mark.browser, pytest.mark.node]
PAGE = """<!doctype html><meta charset="utf-8">
<script type="module">
  import * as transformers from "./transformers.min.js";
  Object.assign(transformers.env, { allowLocalModels: true, localModelPath: "/", allowRemoteModels: false });
  Object.assign(transformers.env.backends.onnx.wasm, { wasmPaths: "/wasm/", numThreads: 1 });
  window.transformers = transformers;
</script>"""
TEXTS = ["a boat on the sea", "the lamp", "the hill on the sea"]


class Files(http.server.SimpleHTTPRequestHandler):
    def log_message(self, *args):
        pass


@pytest.fixture(scope="module")
def site(tmp_path_factory):
    """The address of a folder with two models and the packages' own files, served as `python -m http.server` does."""
    packages, folder = npm_packages(), tmp_path_factory.mktemp("site")
    labels = {"id2label": {0: "ham", 1: "spam"}, "label2id": {"ham": 0, "spam": 1}}
    for name, model_class, dtype, settings in (
        ("writer", GPTScratchForCausalLM, "fp32", {}),
        ("spam", GPTScratchForSequenceClassification, "int8", labels),
    ):
        source = save_model(folder / "models" / name, model_class, **settings)
        random_weights(model_class.from_pretrained(source)).save_pretrained(source)
        export_onnx(source, folder / name, dtype)
    shutil.copy(packages / "@huggingface" / "transformers" / "dist" / "transformers.min.js", folder)
    (folder / "wasm").mkdir()
    for path in (packages / "onnxruntime-web" / "dist").glob("ort-wasm-simd-threaded*"):
        (folder / "wasm" / path.name).symlink_to(path)
    (folder / "index.html").write_text(PAGE)
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), functools.partial(Files, directory=folder)) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield folder, f"http://127.0.0.1:{server.server_port}/"
        server.shutdown()


@pytest.fixture(scope="module")
def answers(browser, site):
    wishes = [
        {"what": "classified", "model": "spam", "texts": TEXTS},
        {
            "what": "written",
            "model": "writer",
            "prompts": TEXTS,
            "settings": {"max_new_tokens": 8, "do_sample": False},
        },
    ]
    script = (
        SCRIPT.read_text(encoding="utf-8")
        + """
      const [wishes, done] = arguments;
      const ready = () => window.transformers ? answer(window.transformers, wishes) : new Promise(
        (resolve) => setTimeout(resolve, 50)).then(ready);
      ready().then((found) => done({ found }), (error) => done({ error: `${error.stack}` }));
    """
    )
    browser.get(site[1])
    browser.set_script_timeout(120)
    answer = browser.execute_async_script(script, wishes)
    assert "error" not in answer, answer["error"]
    return answer["found"]


def test_probabilities_in_a_tab_are_those_of_torch(site, answers):
    folder = site[0] / "models" / "spam"
    model, tokenizer = GPTScratchForSequenceClassification.from_pretrained(folder).eval(), load_tokenizer(folder)
    for text, alone, batch in zip(TEXTS, answers[0]["oneByOne"], answers[0]["batch"]):
        with torch.no_grad():
            expected = model(**tokenizer(text, return_tensors="pt")).logits.softmax(-1)[0].tolist()
        assert {one["label"]: one["score"] for one in batch} == pytest.approx(
            dict(zip(("ham", "spam"), expected)), abs=0.01
        )
        assert alone["score"] == pytest.approx(max(expected), abs=0.01)


def test_greedy_texts_in_a_tab_are_those_of_torch(site, answers):
    folder = site[0] / "models" / "writer"
    model, tokenizer = GPTScratchForCausalLM.from_pretrained(folder), load_tokenizer(folder)
    for text, found in zip(TEXTS, answers[1]):
        ids = model.generate(**tokenizer(text, return_tensors="pt"), do_sample=False, max_new_tokens=8)[0]
        assert found["text"] == tokenizer.decode(ids, skip_special_tokens=True)


def test_nothing_is_asked_of_any_other_address(browser, site, answers):
    messages = [json.loads(entry["message"])["message"] for entry in browser.get_log("performance")]
    asked = {one["params"]["request"]["url"] for one in messages if one["method"] == "Network.requestWillBeSent"}
    assert any("model_quantized.onnx" in url for url in asked)
    assert [url for url in asked if not url.startswith((site[1], "blob:", "data:", "chrome:"))] == []
