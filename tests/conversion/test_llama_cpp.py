"""
llama.cpp itself, on a file written by `export_gguf`, cuts text and writes on as the model it was written from.

    pip install xllamacpp
    pytest -m llamacpp

Its quantiser, `llama-quantize`, comes with llama.cpp itself.
"""

import json
import shutil
from pathlib import Path
from urllib.request import Request, urlopen

import pytest
import torch

from hf_gpt_scratch import GPTScratchConfig, GPTScratchForCausalLM
from hf_gpt_scratch.conversion.gguf import PROBE, export_gguf
from hf_gpt_scratch.generation.sampling import sample
from hf_gpt_scratch.tokenizer import gpt2_tokenizer, train_tokenizer

pytestmark = pytest.mark.llamacpp

STORY = Path(__file__).parents[2] / "training" / "demo_data" / "story.txt"
NEW_TOKENS = 40
SHAPES = {
    "plain": {"n_embd": 64, "n_layer": 2, "n_head": 4},
    "no qkv bias, one head": {"n_embd": 32, "n_layer": 3, "n_head": 1, "qkv_bias": False},
    "untied, narrow feed-forward": {
        "n_embd": 48,
        "n_layer": 1,
        "n_head": 3,
        "tie_word_embeddings": False,
        "n_inner": 40,
    },
    "a vocabulary rounded up": {"n_embd": 64, "n_layer": 2, "n_head": 2, "vocab_size": 640},
}


@pytest.fixture(scope="module")
def story() -> str:
    return STORY.read_text(encoding="utf-8")


def train(model: GPTScratchForCausalLM, ids: list[int]) -> None:
    """Some steps on the story, as a model that knows nothing repeats one token for ever."""
    optimizer = torch.optim.AdamW(model.parameters(), lr=5e-3)
    rows = torch.tensor(ids[: len(ids) // 32 * 32]).view(-1, 32)
    for step in range(200):
        batch = rows[torch.arange(step * 8, step * 8 + 8) % len(rows)]
        with torch.enable_grad():
            model(batch, labels=batch).loss.backward()
        optimizer.step()
        optimizer.zero_grad()


@pytest.fixture
def export(story, tmp_path):
    """Saves a model and its tokenizer, and starts llama.cpp's server on what they were exported to."""
    xllamacpp = pytest.importorskip("xllamacpp", reason="llama.cpp is not here: pip install xllamacpp")

    def export(tokenizer, vocab_size=None, **shape):
        special = {name: getattr(tokenizer, name) for name in ("bos_token_id", "eos_token_id", "pad_token_id")}
        config = GPTScratchConfig(vocab_size=vocab_size or len(tokenizer), n_positions=96, **shape, **special)
        torch.manual_seed(0)
        model = GPTScratchForCausalLM(config)
        train(model.train(), tokenizer(story, verbose=False)["input_ids"])
        model.eval().save_pretrained(tmp_path / "model")
        tokenizer.save_pretrained(tmp_path / "model")
        params = xllamacpp.CommonParams()
        params.model.path = str(export_gguf(str(tmp_path / "model"), tmp_path / "out", "f32").path)
        params.n_ctx, params.n_parallel, params.cpuparams.n_threads, params.warmup = 96, 1, 1, False
        params.cache_type_k = params.cache_type_v = xllamacpp.ggml_type.GGML_TYPE_F32
        server = xllamacpp.Server(params)

        def ask(what: str, **request) -> dict:
            content, kind = json.dumps(request).encode(), {"Content-Type": "application/json"}
            with urlopen(Request(f"{server.listening_address}/{what}", content, kind), timeout=60) as answer:
                return json.load(answer)

        return model, ask, server

    return export


@torch.no_grad()
@pytest.mark.parametrize("shape", SHAPES.values(), ids=SHAPES)
def test_llama_cpp_writes_the_same_tokens(export, story, shape):
    tokenizer = train_tokenizer([story], 600)
    model, ask, _server = export(tokenizer, **shape)
    written = set()
    for prompt in ("The", story[:60], '1908: "It\'s"', "\n\n"):
        ids = tokenizer(prompt)["input_ids"]
        ours = list(sample(model, torch.tensor([ids]), NEW_TOKENS, temperature=0))
        written.update(ours)
        generated = model.generate(torch.tensor([ids]), max_new_tokens=NEW_TOKENS, do_sample=False)[0, len(ids) :]
        assert [token for token in generated.tolist() if token != tokenizer.eos_token_id] == ours
        greedy = {"temperature": 0, "repeat_penalty": 1, "cache_prompt": False, "return_tokens": True}
        theirs = ask("completion", prompt=ids, n_predict=NEW_TOKENS, **greedy)["tokens"]
        assert [token for token in theirs if token != tokenizer.eos_token_id] == ours
    assert len(written) > 5  # else any model would do


@pytest.mark.parametrize("which", ["trained", "gpt2"])
def test_llama_cpp_cuts_text_into_the_same_tokens(export, story, shared_data, which):
    if which == "trained":
        tokenizer = train_tokenizer([story], 600)
    else:
        files = shared_data / "gpt2_tokenizer"
        tokenizer = gpt2_tokenizer(files / "vocab.json", files / "merges.txt")
    _, ask, _server = export(tokenizer, n_embd=32, n_layer=1, n_head=2)
    lines = (shared_data / "sms_spam" / "SMSSpamCollection").read_text(encoding="utf-8").splitlines()[:500]
    for text in [PROBE, story[:3000], *lines]:
        ids = tokenizer(text, verbose=False)["input_ids"]
        assert ask("tokenize", content=text, add_special=False, parse_special=True)["tokens"] == ids, text


@pytest.mark.skipif(shutil.which("llama-quantize") is None, reason="llama-quantize is not on PATH: install llama.cpp")
@pytest.mark.parametrize("dtype, file_type", [("q4_k_m", 15), ("q5_k_m", 17), ("q6_k", 18)])
def test_llama_cpp_quantizes(story, tmp_path, dtype, file_type):
    gguf = pytest.importorskip("gguf", reason="pip install -e '.[convert]'")
    tokenizer = train_tokenizer([story], 600)
    special = {name: getattr(tokenizer, name) for name in ("bos_token_id", "eos_token_id", "pad_token_id")}
    shape = {"vocab_size": len(tokenizer), "n_positions": 96, "n_embd": 256, "n_layer": 1, "n_head": 4}
    torch.manual_seed(0)
    model = GPTScratchForCausalLM(GPTScratchConfig(**shape, **special)).train()
    train(model, tokenizer(story, verbose=False)["input_ids"])
    model.save_pretrained(tmp_path / "model")
    tokenizer.save_pretrained(tmp_path / "model")
    done = export_gguf(str(tmp_path / "model"), tmp_path / "out", dtype, STORY)
    assert done.perplexity_after == pytest.approx(done.perplexity_before, rel=0.1)
    reader = gguf.GGUFReader(done.path)
    assert reader.fields["general.file_type"].contents() == file_type
    kinds = {tensor.name: tensor.tensor_type.name for tensor in reader.tensors}
    assert kinds["blk.0.ffn_up.weight"] == {"q4_k_m": "Q4_K", "q5_k_m": "Q5_K", "q6_k": "Q6_K"}[dtype]
    assert done.path.stat().st_size < 2**20  # of 3.9 MB in f32
