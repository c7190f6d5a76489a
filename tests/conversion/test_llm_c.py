"""llm.c's checkpoints become models with stock GPT-2's logits, without the tokens that round the vocabulary up."""

import pytest
import torch
from safetensors.torch import load_file
from transformers import AutoModelForCausalLM

from hf_gpt_scratch import GPTScratchConfig
from hf_gpt_scratch.conversion.convert import convert
from support.checkpoints import assert_refused, stock_gpt2
from support.other_files import as_llm_c, save_llm_c

IDS = torch.randint(100, (2, 16), generator=torch.Generator().manual_seed(0))


@pytest.fixture
def save(tmp_path):
    def save(name: str = "gpt2_124M.bin", bfloat16: bool = False, **header):
        model = stock_gpt2()
        save_llm_c(tmp_path / name, as_llm_c(model), model.config, bfloat16, **header)
        return tmp_path / name, model

    return save


@pytest.mark.parametrize("bfloat16", [False, True], ids=["fp32", "bf16"])
def test_logits_are_those_of_stock_gpt2(save, tmp_path, bfloat16):
    path, model = save(bfloat16=bfloat16)
    done = convert(str(path), tmp_path / "out", tokenizer="none", prove=True)
    assert done.format == "llm.c checkpoint" and done.max_logit_difference < 1e-5
    if bfloat16:
        model = model.to(torch.bfloat16)  # as llm.c rounds the weights when it writes
    with torch.no_grad():
        ours = AutoModelForCausalLM.from_pretrained(done.folder, dtype=torch.float32).eval()(IDS).logits
        torch.testing.assert_close(ours, model.float()(IDS).logits, atol=1e-5, rtol=0)
    weights = load_file(done.folder / "model.safetensors")
    assert weights["transformer.wte.weight"].shape == (100, 32)
    assert {tensor.dtype for tensor in weights.values()} == {torch.bfloat16 if bfloat16 else torch.float32}
    config = GPTScratchConfig.from_pretrained(done.folder)
    assert (config.vocab_size, config.n_positions, config.n_head) == (100, 64, 4)


def test_a_vocabulary_that_is_not_rounded_up(tmp_path):
    model = stock_gpt2(vocab_size=128)
    save_llm_c(tmp_path / "model.bin", as_llm_c(model), model.config)
    out = convert(str(tmp_path / "model.bin"), tmp_path / "out", tokenizer="none", prove=True).folder
    assert GPTScratchConfig.from_pretrained(out).vocab_size == 128


HEADERS = {
    "an older version": ({"n1": 1}, "llm.c's version 1, but only 3"),
    "bfloat16 of an older version": ({"n1": 5}, "by its header it has .* bytes of torch.bfloat16"),
    "state": ({"n0": 20240327}, "is the state that llm.c's tests compare with"),
    "tokenizer": ({"n0": 20240328}, "is a tokenizer of llm.c"),
    "tokens": ({"n0": 20240520}, "is training tokens of llm.c"),
    "optimizer": ({"n0": 20240527}, "optimizer's state of llm.c; the weights are in the model_"),
    "Llama 3": ({"n0": 20240803}, "a Llama 3 of llm.c"),
    "no blocks": ({"n4": 0}, "a size in its header is below 1"),
    "a negative width": ({"n6": -32}, "a size in its header is below 1"),
    "two billion blocks": ({"n4": 2**31 - 1}, "damaged or cut short: by its header it has"),
    "a huge width": ({"n6": 2**31 - 1}, "damaged or cut short: by its header it has"),
    "vocabulary beyond the rounded one": ({"n3": 200}, "its vocabulary is cut"),
    "heads that do not divide": ({"n5": 5}, "does not describe a GPT"),
}


@pytest.mark.parametrize("header, complaint", HEADERS.values(), ids=HEADERS)
def test_what_is_no_model_is_refused(save, header, complaint):
    path, _ = save(**header)
    assert_refused(path, complaint)


def test_file_of_another_length_is_refused(save):
    path, _ = save()
    content = path.read_bytes()
    for changed in (content[:-1], content + b"\0", content[:900]):
        path.write_bytes(changed)
        assert_refused(path, "damaged or cut short")
