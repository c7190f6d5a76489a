"""A GGUF file computes and cuts text like the model it was written from, and says so itself."""

import json
import sys

import pytest
import torch
import transformers
from packaging.version import Version
from transformers import AutoModelForCausalLM, AutoTokenizer

from hf_gpt_scratch import GPTScratchConfig, GPTScratchForCausalLM, GPTScratchForSequenceClassification
from hf_gpt_scratch.adapters import merged_folder
from hf_gpt_scratch.conversion import gguf as gguf_format
from hf_gpt_scratch.conversion.gguf import PROBE, export_gguf
from hf_gpt_scratch.prompts import CHAT_TEMPLATE, OLLAMA_TEMPLATE, render_prompt
from hf_gpt_scratch.tokenizer import gpt2_tokenizer, train_tokenizer
from hf_gpt_scratch.utils.errors import InputError
from hf_gpt_scratch.utils.provenance import sha256

gguf = pytest.importorskip("gguf", reason="pip install -e '.[convert]'")
TEXT = "It's a story of 1908: they'd written 12 letters, and \"nobody\" answered.\n\n  Not one of them did!\n"


@pytest.fixture
def tokenizer():
    return train_tokenizer([TEXT] * 5, 300)


@pytest.fixture
def folder(tokenizer, tmp_path):
    """Saves a model with the settings asked and weights that are all different, and returns its folder."""

    def save(model_class=GPTScratchForCausalLM, tokenizer=tokenizer, spare=0, dtype=None, **settings):
        shape = {"n_positions": 48, "n_embd": 32, "n_layer": 2, "n_head": 4}
        special = {name: getattr(tokenizer, name) for name in ("bos_token_id", "eos_token_id", "pad_token_id")}
        config = GPTScratchConfig(vocab_size=len(tokenizer) + spare, **{**shape, **special, **settings})
        model = model_class(config)
        generator = torch.Generator().manual_seed(0)
        with torch.no_grad():
            for parameter in model.parameters():
                parameter.copy_(torch.randn(parameter.shape, generator=generator) * 0.2)
        model.to(dtype or torch.float32).save_pretrained(tmp_path / "model")
        tokenizer.save_pretrained(tmp_path / "model")
        return tmp_path / "model"

    return save


def read(file):
    """The file's settings and tensors, by the gguf package's reader."""
    reader = gguf.GGUFReader(file)
    return {name: field.contents() for name, field in reader.fields.items()}, {t.name: t for t in reader.tensors}


VARIANTS = {
    "plain": {},
    "no qkv bias": {"qkv_bias": False},
    "untied, narrow feed-forward": {"tie_word_embeddings": False, "n_inner": 64},
    "a vocabulary rounded up": {"spare": 7},
    "bfloat16": {"dtype": torch.bfloat16},
}


@pytest.mark.parametrize("settings", VARIANTS.values(), ids=VARIANTS)
def test_f32_computes_the_same(folder, tmp_path, settings):
    source = folder(**settings)
    done = export_gguf(str(source), tmp_path / "out")
    assert done.max_logit_difference < 1e-4 and done.perplexity_before is None
    assert (done.path.name, done.path.parent) == ("model.gguf", tmp_path / "out")
    ours = AutoModelForCausalLM.from_pretrained(source, dtype=torch.float32).eval()
    theirs = AutoModelForCausalLM.from_pretrained(
        done.path.parent, gguf_file="model.gguf", n_positions=48, n_inner=settings.get("n_inner")
    ).eval()
    ids = torch.arange(48)[None] * 5
    torch.testing.assert_close(theirs(ids).logits, ours(ids).logits, atol=1e-4, rtol=0)
    _, tensors = read(done.path)
    assert ("output.weight" in tensors) == ("tie_word_embeddings" in settings)
    assert tensors["blk.1.attn_qkv.weight"].data.shape == (96, 32)  # (out, in), not stock GPT-2's (in, out)
    if "qkv_bias" in settings:
        assert not tensors["blk.0.attn_qkv.bias"].data.any()


def test_file_says_what_llama_cpp_asks(folder, tokenizer, tmp_path):
    settings, tensors = read(export_gguf(str(folder(spare=2)), tmp_path / "out").path)
    expected = {"context_length": 48, "embedding_length": 32, "feed_forward_length": 128, "block_count": 2}
    assert {name: settings[f"gpt2.{name}"] for name in expected} == expected
    assert settings["gpt2.attention.head_count"] == 4
    assert settings["gpt2.attention.layer_norm_epsilon"] == pytest.approx(1e-5)
    assert (settings["general.architecture"], settings["general.name"]) == ("gpt2", "model")
    assert (settings["tokenizer.ggml.model"], settings["tokenizer.ggml.pre"]) == ("gpt2", "gpt-2")
    assert [settings[f"tokenizer.ggml.{name}_token_id"] for name in ("bos", "eos", "padding")] == [0, 0, 1]
    assert settings["tokenizer.ggml.add_bos_token"] is False
    kinds, tokens = settings["tokenizer.ggml.token_type"], settings["tokenizer.ggml.tokens"]
    assert tokens[:2] == ["<|endoftext|>", "<|pad|>"] and len(tokens) == len(tokenizer) + 2
    assert kinds == [3, 3] + [1] * (len(tokenizer) - 2) + [5, 5]  # control, normal, unused
    assert len(tensors) == 2 + 2 * 12 + 2
    modelfile = (tmp_path / "out" / "Modelfile").read_text()
    assert modelfile == (
        'FROM ./model.gguf\nTEMPLATE """{{ .Prompt }}"""\nPARAMETER stop "<|endoftext|>"\nPARAMETER num_ctx 48\n'
    )


@pytest.mark.parametrize("dtype, kind, file_type", [("f16", "F16", 1), ("q8_0", "Q8_0", 7)])
def test_smaller_dtypes_report_what_they_cost(folder, tmp_path, dtype, kind, file_type):
    book = tmp_path / "book.txt"
    book.write_text(TEXT * 4)
    source = folder()
    done = export_gguf(str(source), tmp_path / "out", dtype, book)
    assert 1e-5 < done.max_logit_difference < 1
    assert done.perplexity_after == pytest.approx(done.perplexity_before, rel=0.05)
    assert done.perplexity_after != done.perplexity_before
    settings, tensors = read(done.path)
    assert settings["general.file_type"] == file_type
    small = {name for name, tensor in tensors.items() if tensor.tensor_type.name == kind}
    parts = ("attn_qkv", "attn_output", "ffn_up", "ffn_down")
    assert small == {"token_embd.weight"} | {f"blk.{i}.{part}.weight" for i in (0, 1) for part in parts}
    assert all(tensor.tensor_type.name == "F32" for name, tensor in tensors.items() if name not in small)
    record = json.loads((tmp_path / "out" / "conversion.json").read_text())
    assert record["max_logit_difference"] == done.max_logit_difference
    assert record["sha256"] == {"model.safetensors": sha256(source / "model.safetensors")}
    assert record["perplexity"]["before"] == done.perplexity_before and record["format"] == f"gguf {dtype}"


def test_instruction_tuned_model_takes_its_prompt_along(folder, tokenizer, tmp_path):
    tokenizer.chat_template = CHAT_TEMPLATE
    done = export_gguf(str(folder(tokenizer=tokenizer)), tmp_path / "out")
    assert f'TEMPLATE """{OLLAMA_TEMPLATE}"""' in (tmp_path / "out" / "Modelfile").read_text()
    settings, _ = read(done.path)
    tokenizer.chat_template = settings["tokenizer.chat_template"]
    chat = [{"role": "user", "content": "Do it."}]
    assert tokenizer.apply_chat_template(chat, tokenize=False, add_generation_prompt=True) == render_prompt("Do it.")
    assert "generation %}" not in tokenizer.chat_template


def test_perplexity_is_that_of_windows(folder, tokenizer, tmp_path):
    book = tmp_path / "book.txt"
    book.write_text(TEXT * 4)
    source = folder()
    done = export_gguf(str(source), tmp_path / "out", text=book)
    model = GPTScratchForCausalLM.from_pretrained(source).eval()
    losses = []
    for window in torch.tensor(tokenizer(TEXT * 4)["input_ids"]).split(48):
        scores = model(window[None]).logits[0].log_softmax(-1)
        losses += [-scores[i, window[i + 1]].item() for i in range(len(window) - 1)]
    expected = torch.tensor(losses).mean().exp().item()
    assert (done.perplexity_before, done.perplexity_after) == pytest.approx((expected, expected), rel=1e-4)


@pytest.mark.parametrize("which", ["trained", pytest.param("gpt2", marks=pytest.mark.e2e)])
def test_tokenizer_comes_back(folder, tokenizer, tmp_path, which, shared_data):
    if which == "gpt2":
        files = shared_data / "gpt2_tokenizer"
        tokenizer = gpt2_tokenizer(files / "vocab.json", files / "merges.txt")
    done = export_gguf(str(folder(tokenizer=tokenizer, n_layer=1)), tmp_path / "out")
    written = AutoTokenizer.from_pretrained(done.path.parent, gguf_file="model.gguf")
    lines = (shared_data / "sms_spam" / "SMSSpamCollection").read_text(encoding="utf-8").splitlines()[:200]
    for text in [TEXT, PROBE, *lines]:
        assert written(text)["input_ids"] == tokenizer(text)["input_ids"], text
    assert written.eos_token == tokenizer.eos_token
    # transformers reads the id of GGUF's padding token from 5.18 on.
    old = Version(transformers.__version__) < Version("5.18")
    assert written.pad_token == (None if old else tokenizer.pad_token)


REFUSALS = {
    "classifier": (
        {"model_class": GPTScratchForSequenceClassification},
        "f32",
        "GGUF takes only GPTScratchForCausalLM",
    ),
    "activation": ({"activation_function": "relu"}, "f32", "uses the activation relu"),
    "exact gelu": ({"activation_function": "gelu"}, "f32", "only has the tanh GELU"),
    "rows of 48": ({"n_embd": 48}, "q8_0", "multiple of 32 weights, but n_embd is 48 and n_inner 192"),
    "rows of 32": ({}, "q4_k_m", "q4_k_m needs rows of a multiple of 256 weights, but n_embd is 32 and n_inner 128"),
    "inner rows of 40": ({"n_inner": 40}, "q8_0", "n_inner 40: choose --dtype f16"),
    "too large for f16": ({"layer_norm_epsilon": 1e-5}, "f16", "differ from the source's by nan"),
}


@pytest.mark.parametrize("settings, dtype, complaint", REFUSALS.values(), ids=REFUSALS)
def test_what_gguf_cannot_express_is_refused(folder, tmp_path, settings, dtype, complaint):
    source = folder(**settings)
    if "nan" in complaint:
        model = GPTScratchForCausalLM.from_pretrained(source)
        model.transformer.h[0].mlp.fc_in.weight.data[0] = 1e6
        model.save_pretrained(source)
    with pytest.raises(InputError, match=complaint) as refusal:
        export_gguf(str(source), tmp_path / "out", dtype)
    assert "\n" not in str(refusal.value)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["model"]


@pytest.mark.parametrize("name", ["gelu_pytorch_tanh", "gelu_fast", "gelu_accurate", "gelu_python_tanh"])
def test_every_name_of_the_tanh_gelu_is_taken(folder, tmp_path, name):
    assert export_gguf(str(folder(activation_function=name)), tmp_path / "out").max_logit_difference < 1e-4


@pytest.fixture
def quantizer(tmp_path, monkeypatch):
    """Makes a program of the quantiser's name, with this Python code, the only one on PATH."""

    def make(code: str) -> None:
        program = tmp_path / "bin" / "llama-quantize"
        program.parent.mkdir(exist_ok=True)
        program.write_text(f"#!{sys.executable}\nimport shutil, sys\n{code}\n")
        program.chmod(0o755)
        monkeypatch.setenv("PATH", str(program.parent))

    return make


def test_llama_cpp_quantizes_what_has_its_block_size(folder, tmp_path, quantizer, monkeypatch):
    """`pytest -m llamacpp` has the real program; this one copies the file, and says in it what it was asked for."""
    source = folder(n_embd=256)
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(
        InputError, match="q4_k_m is written by llama.cpp's llama-quantize, which is not on PATH: install"
    ):
        export_gguf(str(source), tmp_path / "out", "q4_k_m")
    quantizer("print('llama: cannot open the file.', file=sys.stderr); sys.exit(3)")
    with pytest.raises(
        InputError, match=r"llama-quantize failed \(llama: cannot open the file\); nothing was written"
    ):
        export_gguf(str(source), tmp_path / "out", "q4_k_m")
    assert not (tmp_path / "out").exists()
    quantizer("shutil.copy(sys.argv[1], sys.argv[2]); assert sys.argv[3:] == ['Q4_K_M']")
    done = export_gguf(str(source), tmp_path / "out", "q4_k_m")
    assert sorted(file.name for file in done.path.parent.iterdir()) == ["Modelfile", "conversion.json", "model.gguf"]
    assert json.loads((tmp_path / "out" / "conversion.json").read_text())["format"] == "gguf q4_k_m"


def test_other_tokenizers_are_refused(folder, tokenizer, tmp_path):
    source = folder(spare=100)
    train_tokenizer([TEXT] * 5, 300, individual_digits=True).save_pretrained(source)
    with pytest.raises(InputError, match="cannot split numbers into digits"):
        export_gguf(str(source), tmp_path / "out")
    content = json.loads(tokenizer.backend_tokenizer.to_str())
    for change in ({"normalizer": {"type": "Lowercase"}}, {"pre_tokenizer": {"type": "Whitespace"}}):
        (source / "tokenizer.json").write_text(json.dumps({**content, **change}))
        with pytest.raises(InputError, match="splits text differently"):
            export_gguf(str(source), tmp_path / "out")
    for name in ("tokenizer.json", "tokenizer_config.json"):
        (source / name).unlink()
    with pytest.raises(InputError, match="holds no tokenizer"):
        export_gguf(str(source), tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_wrong_file_is_not_left(folder, tmp_path, monkeypatch):
    swap = {"blk.{i}.attn_norm": "blk.{i}.ffn_norm", "blk.{i}.ffn_norm": "blk.{i}.attn_norm"}

    def swapped(mapping):
        name, _, part = mapping.theirs.rpartition(".")
        return type(mapping)(f"{swap.get(name, name)}.{part}", mapping.ours)

    monkeypatch.setattr(gguf_format, "TABLE", tuple(map(swapped, gguf_format.TABLE)))
    with pytest.raises(InputError, match="differ from the source's"):
        export_gguf(str(folder()), tmp_path / "out")
    assert [path.name for path in tmp_path.iterdir()] == ["model"]


def test_missing_package_is_named(folder, tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "gguf", None)
    with pytest.raises(InputError, match=r"pip install -c constraints.txt -e '\.\[convert\]'"):
        export_gguf(str(folder()), tmp_path / "out")


def test_adapter_is_merged_first(folder, tokenizer, tmp_path):
    peft = pytest.importorskip("peft")
    source = folder()
    base = GPTScratchForCausalLM.from_pretrained(source)
    config = peft.LoraConfig(task_type="CAUSAL_LM", target_modules=["q_proj", "fc_in"], init_lora_weights=False)
    adapted = peft.get_peft_model(base, config).eval()
    adapted.save_pretrained(tmp_path / "adapter")
    ids = torch.arange(20)[None]
    expected = adapted(ids).logits
    with merged_folder(str(source), tmp_path / "adapter") as merged:
        done = export_gguf(str(merged), tmp_path / "out")
        assert AutoTokenizer.from_pretrained(merged)(TEXT)["input_ids"] == tokenizer(TEXT)["input_ids"]
    assert not merged.exists() and done.max_logit_difference < 1e-4
    model = AutoModelForCausalLM.from_pretrained(done.path.parent, gguf_file="model.gguf", n_positions=48).eval()
    torch.testing.assert_close(model(ids).logits, expected, atol=1e-4, rtol=0)
    assert not torch.allclose(GPTScratchForCausalLM.from_pretrained(source).eval()(ids).logits, expected, atol=1e-2)

    from safetensors.torch import load_file, save_file

    weights = load_file(tmp_path / "adapter" / "adapter_model.safetensors")
    lost = next(iter(weights))
    del weights[lost]
    save_file(weights, tmp_path / "adapter" / "adapter_model.safetensors")
    with (
        pytest.raises(InputError, match=f"missing or unknown: {lost}"),
        merged_folder(str(source), tmp_path / "adapter"),
    ):
        pass
