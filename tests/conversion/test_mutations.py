"""Files damaged in any way end in one sentence, with nothing written, or in the model that they still describe."""

import tempfile
from pathlib import Path

import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from transformers import AutoModelForCausalLM, GPT2Config, GPT2LMHeadModel

from hf_gpt_scratch.conversion import convert, reference
from hf_gpt_scratch.conversion.formats import open_source
from hf_gpt_scratch.errors import InputError

IDS = torch.tensor([[1, 5, 7, 2], [0, 3, 3, 6]])


def stock() -> GPT2LMHeadModel:
    torch.manual_seed(0)
    return GPT2LMHeadModel(GPT2Config(vocab_size=12, n_positions=8, n_embd=8, n_layer=2, n_head=2)).eval()


def hf_gpt2(suffix: str, folder: Path) -> tuple[Path, list[str], dict]:
    model = stock()
    model.save_pretrained(folder)
    if suffix == "bin":
        (folder / "model.safetensors").unlink()
        torch.save(model.state_dict(), folder / "pytorch_model.bin")
        return folder, ["pytorch_model.bin", "config.json"], {}
    if suffix == "sharded":
        (folder / "model.safetensors").unlink()
        model.save_pretrained(folder, max_shard_size="2KB")
        (folder / "model.safetensors").unlink(missing_ok=True)
        shard = sorted(folder.glob("model-*.safetensors"))[0].name
        return folder, ["model.safetensors.index.json", shard], {}
    return folder, ["model.safetensors", "config.json"], {}


def nanogpt(_, folder: Path) -> tuple[Path, list[str], dict]:
    weights = {
        name: tensor.t().contiguous() if name.endswith(("attn.weight", "proj.weight", "fc.weight")) else tensor
        for name, tensor in stock().state_dict().items()
    }
    sizes = {"n_layer": 2, "n_head": 2, "n_embd": 8, "block_size": 8, "vocab_size": 12, "bias": True}
    torch.save({"model": weights, "model_args": sizes}, folder / "ckpt.pt")
    return folder / "ckpt.pt", ["ckpt.pt"], {}


def llms_from_scratch(_, folder: Path) -> tuple[Path, list[str], dict]:
    ours = {}
    for rule_name, tensor in stock().state_dict().items():
        ours[rule_name.removeprefix("transformer.")] = tensor
    state = {"tok_emb.weight": ours["wte.weight"], "pos_emb.weight": ours["wpe.weight"]}
    for i in range(2):
        block, theirs = f"h.{i}", f"trf_blocks.{i}"
        qkv = ours[f"{block}.attn.c_attn.weight"].t().chunk(3)
        for name, weight, bias in zip(("query", "key", "value"), qkv, ours[f"{block}.attn.c_attn.bias"].chunk(3)):
            state[f"{theirs}.att.W_{name}.weight"], state[f"{theirs}.att.W_{name}.bias"] = weight.clone(), bias.clone()
        for to, name in (("att.out_proj", "attn.c_proj"), ("ff.layers.0", "mlp.c_fc"), ("ff.layers.2", "mlp.c_proj")):
            state[f"{theirs}.{to}.weight"] = ours[f"{block}.{name}.weight"].t().contiguous()
            state[f"{theirs}.{to}.bias"] = ours[f"{block}.{name}.bias"]
        for n in (1, 2):
            state[f"{theirs}.norm{n}.scale"] = ours[f"{block}.ln_{n}.weight"]
            state[f"{theirs}.norm{n}.shift"] = ours[f"{block}.ln_{n}.bias"]
    state |= {"final_norm.scale": ours["ln_f.weight"], "final_norm.shift": ours["ln_f.bias"]}
    state["out_head.weight"] = ours["wte.weight"].clone()
    torch.save(state, folder / "model.pth")
    return folder / "model.pth", ["model.pth"], {"n_head": 2}


FORMATS = {
    "hf-gpt2": (hf_gpt2, "safetensors"),
    "hf-gpt2 sharded": (hf_gpt2, "sharded"),
    "hf-gpt2 bin": (hf_gpt2, "bin"),
    "nanogpt": (nanogpt, ""),
    "llms-from-scratch": (llms_from_scratch, ""),
}


@st.composite
def mutations(draw):
    """A change of some bytes of a file: replaced, removed, repeated, or all that follows cut off."""
    kind = draw(st.sampled_from(["replace", "remove", "repeat", "cut", "digit", "swap"]))
    # Most of a file is weights, whose bytes mean little; its ends tell what it is.
    where = draw(st.one_of(st.floats(0, 1), st.floats(0, 0.05), st.floats(0.9, 1)))
    return kind, where, draw(st.binary(min_size=1, max_size=12)), draw(st.integers(1, 64))


def mutate(content: bytes, mutation) -> bytes:
    kind, where, new, length = mutation
    at = int(where * (len(content) - 1))
    if kind == "replace":
        return content[:at] + new + content[at + len(new) :]
    if kind == "remove":
        return content[:at] + content[at + length :]
    if kind == "repeat":
        return content[: at + length] + content[at:]
    if kind == "cut":
        return content[:at]
    if kind == "swap":
        return content[at : at + length] + content[:at] + content[at + length :]
    digits = [i for i, byte in enumerate(content) if 48 <= byte <= 57]  # those of a shape or a size
    at = digits[int(where * (len(digits) - 1))]
    return content[:at] + (b"9" * (length % 12) + new[:1]) + content[at + 1 :]


def check(format: str, mutation, which: float) -> None:
    make, suffix = FORMATS[format]
    with tempfile.TemporaryDirectory() as scratch:
        (Path(scratch) / "in").mkdir()
        source, names, options = make(suffix, Path(scratch) / "in")
        file = Path(scratch) / "in" / names[int(which * len(names))]
        file.write_bytes(mutate(file.read_bytes(), mutation))
        out = Path(scratch) / "out"
        try:
            convert(str(source), out, tokenizer="none", **options)
        except InputError as refusal:
            assert "\n" not in str(refusal)
            assert [path.name for path in Path(scratch).iterdir()] == ["in"]
            return
        opened = open_source(source, **options)
        config = opened.config
        ids = IDS % config.vocab_size
        expected = reference.logits(
            opened.tensors, opened.arithmetic, config.n_layer, config.n_head, config.layer_norm_epsilon, ids
        )
        found = AutoModelForCausalLM.from_pretrained(out, dtype=torch.float32).eval()(ids).logits
        torch.testing.assert_close(found, expected, atol=1e-4, rtol=1e-3, equal_nan=True)


def few_or_many(examples: int):
    return settings(max_examples=examples, deadline=None, derandomize=True, suppress_health_check=list(HealthCheck))


WHICH = st.floats(0, 1, exclude_max=True)


@pytest.mark.parametrize("format", FORMATS)
@few_or_many(20)
@given(mutations(), WHICH)
def test_damaged_file_is_refused_or_what_it_says(format, mutation, which):
    check(format, mutation, which)


@pytest.mark.slow
@pytest.mark.parametrize("format", FORMATS)
@few_or_many(500)
@given(mutations(), WHICH)
def test_500_damaged_files_are_refused_or_what_they_say(format, mutation, which):
    check(format, mutation, which)
