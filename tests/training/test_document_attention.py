"""Attention by document is the masked attention of packed rows, wherever it is used, and leaves all else to it."""

import random
from copy import deepcopy
from types import SimpleNamespace

import pytest
import torch
from datasets import Dataset

from hf_gpt_scratch import GPTScratchConfig, GPTScratchForCausalLM
from hf_gpt_scratch.adapters import add_lora
from hf_gpt_scratch.data.packing import LanguageModelCollator, pack
from hf_gpt_scratch.training import document_attention
from hf_gpt_scratch.training.arguments import ScratchTrainingArguments
from hf_gpt_scratch.training.document_attention import NAME, attend_by_document
from hf_gpt_scratch.training.samplers import LengthGroupedTrainer

CPU = SimpleNamespace(device=torch.device("cpu"), torch_compile=False)


def documents(count: int, longest: int, seed: int = 0) -> list[dict]:
    draw = random.Random(seed)
    return [{"input_ids": [draw.randrange(1, 100) for _ in range(draw.randint(1, longest))]} for _ in range(count)]


def make_model(config: GPTScratchConfig, by_document: bool) -> GPTScratchForCausalLM:
    torch.manual_seed(0)
    model = GPTScratchForCausalLM(deepcopy(config)).train()
    assert not by_document or attend_by_document(model, CPU)
    return model


@pytest.fixture
def calls(monkeypatch) -> list[int]:
    """The length of each document that is attended by itself."""
    lengths, attention = [], document_attention._causal_attention

    def recorded(query, key, value, count, *args):
        lengths.extend([len(query) // count] * count)
        return attention(query, key, value, count, *args)

    monkeypatch.setattr(document_attention, "_causal_attention", recorded)
    return lengths


def results(model, **inputs) -> list[torch.Tensor]:
    """The last hidden states and the loss of a batch, and the gradients of all parameters."""
    model.zero_grad()
    outputs = model(**inputs, output_hidden_states=True, use_cache=False)
    outputs.loss.backward()
    return [
        outputs.hidden_states[-1].detach(),
        outputs.loss.detach(),
        *(one.grad.clone() for one in model.parameters()),
    ]


def assert_equal(found: list[torch.Tensor], expected: list[torch.Tensor], atol: float = 1e-5) -> None:
    assert len(found) == len(expected)
    for value, wanted in zip(found, expected):
        torch.testing.assert_close(value, wanted, atol=atol, rtol=0)


@pytest.mark.parametrize("count, longest, seed", [(1, 64, 0), (40, 5, 1), (12, 40, 2), (6, 64, 3), (50, 2, 4)])
def test_outputs_and_gradients_are_those_of_the_mask(tiny_config, calls, count, longest, seed):
    rows = pack(documents(count, longest, seed), 64, seed)
    batch = LanguageModelCollator(pad_token_id=0)(rows)
    expected = results(make_model(tiny_config, False), **batch)
    assert_equal(results(make_model(tiny_config, True), **batch), expected)
    assert sum(calls) == (2 * batch["input_ids"].numel() if count > 1 else 0)  # in both blocks; alone it needs no mask


def test_rows_joined_in_one_are_the_same_documents(tiny_config, calls):
    rows = pack(documents(20, 40), 64)
    padded, joined = (LanguageModelCollator(0, join_packed=joined)(rows) for joined in (False, True))
    assert joined["input_ids"].shape == (1, sum(len(row["input_ids"]) for row in rows))
    assert_equal(
        results(make_model(tiny_config, True), **joined)[1:], results(make_model(tiny_config, False), **padded)[1:]
    )
    starts = (joined["position_ids"] == 0).sum()
    assert len(calls) == 2 * starts and max(calls) <= 40


@pytest.mark.parametrize("setting", ["checkpointing", "bf16"])
def test_ways_to_train(tiny_config, calls, setting):
    is_bf16 = setting == "bf16"
    tiny_config.attn_pdrop = 0.0 if is_bf16 else 0.1  # with checkpoints the same is dropped the second time
    model, other = make_model(tiny_config, True), make_model(tiny_config, not is_bf16)
    if not is_bf16:
        model.gradient_checkpointing_enable()
    batch, found = LanguageModelCollator(0)(pack(documents(20, 40), 64)), []
    with torch.autocast("cpu", torch.bfloat16, enabled=is_bf16):
        for one in (model, other):
            torch.manual_seed(1)
            found.append(results(one, **batch))
    assert calls
    assert_equal(*found, atol=0.02 if is_bf16 else 1e-6)


def test_dropout_is_the_trainings_alone(tiny_config):
    batch = LanguageModelCollator(0)(pack(documents(20, 40), 64))
    plain = results(make_model(tiny_config, True), **batch)
    tiny_config.attn_pdrop = 0.5
    model = make_model(tiny_config, True)
    assert (results(model, **batch)[0] - plain[0]).abs().max() > 1e-3
    assert_equal(results(model.eval(), **batch), plain)


def test_padding_caches_and_generation_keep_their_masks(tiny_config, calls):
    models = [make_model(tiny_config, by_document).eval() for by_document in (True, False)]
    ids = torch.randint(1, 100, (2, 12), generator=torch.Generator().manual_seed(0))
    padding = torch.ones_like(ids)
    padding[0, :5] = 0
    packed = torch.cat([torch.arange(5), torch.arange(7)]).expand(2, -1)
    inputs = [
        {"attention_mask": padding},
        {"attention_mask": torch.ones_like(ids), "position_ids": packed},
        {"position_ids": packed, "use_cache": True},
        {},
    ]
    with torch.no_grad():
        for one in inputs:
            torch.testing.assert_close(*(model(ids, **one).logits for model in models), atol=1e-5, rtol=0)
    made = [model.generate(ids, attention_mask=padding, do_sample=False, max_new_tokens=8) for model in models]
    assert torch.equal(*made) and not calls


def test_where_the_mask_stays(tiny_config):
    def implementation(config=tiny_config, attention="sdpa", device="cpu", torch_compile=False):
        model = GPTScratchForCausalLM(config)
        model.set_attn_implementation(attention)
        settings = SimpleNamespace(device=torch.device(device), torch_compile=torch_compile)
        assert attend_by_document(model, settings) == (model.config._attn_implementation == NAME)
        return model.config._attn_implementation

    assert implementation() == NAME
    assert implementation(device="cuda") == implementation(torch_compile=True) == "sdpa"
    assert implementation(attention="eager") == "eager"
    window = {"sliding_window": 4, "layer_types": ["full_attention", "sliding_attention"]}
    assert implementation(GPTScratchConfig(n_embd=32, n_layer=2, n_head=4, vocab_size=100, **window)) == "sdpa"


def test_blocks_with_a_window_keep_their_mask(calls):
    window = {"sliding_window": 4, "layer_types": ["full_attention", "sliding_attention"]}
    config = GPTScratchConfig(n_embd=32, n_layer=2, n_head=4, vocab_size=100, attn_pdrop=0, resid_pdrop=0, **window)
    model = make_model(config, False).eval()
    batch = LanguageModelCollator(0)(pack(documents(20, 40), 64))
    expected = results(model, **batch)
    model.set_attn_implementation(NAME)
    assert_equal(results(model, **batch), expected)
    assert sum(calls) == batch["input_ids"].numel()  # in the first block


def train(config, folder, by_document: bool, lora: bool = False) -> list[torch.Tensor]:
    """The weights after a few real steps, and the folder of the model."""
    model = make_model(config, False)
    if lora:
        model = add_lora(model, rank=2, alpha=4, dropout=0.0, activation_checkpointing=False)
    settings = {"per_device_train_batch_size": 2, "learning_rate": 1e-2, "max_steps": 3, "save_strategy": "no"}
    args = ScratchTrainingArguments(str(folder), **settings, eval_strategy="no", use_cpu=True, disable_tqdm=True)
    joined = by_document and attend_by_document(model, args)
    assert joined == by_document
    rows = Dataset.from_list(pack(documents(30, 20), 64))
    trainer = LengthGroupedTrainer(
        model=model, args=args, train_dataset=rows, data_collator=LanguageModelCollator(0, join_packed=joined)
    )
    trainer.train()
    trainer.save_model(folder / "model")
    return list(model.parameters())


@pytest.mark.parametrize("lora", [False, True])
def test_a_training_ends_with_the_same_weights_and_saves_the_same_configuration(tiny_config, calls, tmp_path, lora):
    expected = train(tiny_config, tmp_path / "masked", False, lora)
    assert not calls
    assert_equal(train(tiny_config, tmp_path / "by_document", True, lora), expected, atol=1e-4)
    assert calls
    name = "adapter_config.json" if lora else "config.json"
    saved = [(tmp_path / folder / "model" / name).read_text() for folder in ("masked", "by_document")]
    assert saved[0] == saved[1] and NAME not in saved[1]
