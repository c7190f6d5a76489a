"""
The book's models with sliding-window attention (ch04/06_swa) convert to the same window, and nowhere that has none.

The package of the book lacks that chapter's class. Its `GPTModel` with the causal masks cut to the window computes the
same: there as here, `diff >= sliding_window_size` is hidden, and `sliding_window_stride` blocks with it are followed
by one without it.
"""

import json

import pytest
import torch
from transformers import AutoModelForCausalLM, GPT2LMHeadModel

from hf_gpt_scratch import GPTScratchConfig, GPTScratchForCausalLM
from hf_gpt_scratch.conversion.convert import convert
from hf_gpt_scratch.conversion.export import export
from hf_gpt_scratch.conversion.gguf import export_gguf
from hf_gpt_scratch.utils.errors import InputError, UsageError
from support.checkpoints import random_weights
from support.trained_models import narrow

IDS = torch.randint(100, (2, 60), generator=torch.Generator().manual_seed(0))
CONFIG = {"vocab_size": 100, "context_length": 64, "emb_dim": 32, "n_heads": 4, "n_layers": 5, "drop_rate": 0.0}
# The stride, and the blocks that see everything
STRIDES = {-1: (), 0: (0, 1, 2, 3, 4), 1: (1, 3), 2: (2,), 4: (4,), 7: ()}


@pytest.fixture
def book(tmp_path):
    """Saves a model with a window of 6 in all blocks but some, and returns the file and its logits."""
    ch04 = pytest.importorskip("llms_from_scratch.ch04", reason="pip install --no-deps llms-from-scratch")

    def save(without: tuple[int, ...] = (), masks: bool = False):
        model = random_weights(ch04.GPTModel({**CONFIG, "qkv_bias": False}))
        narrow(model, 6, without)
        content = {name: tensor for name, tensor in model.state_dict().items() if masks or "att.mask" not in name}
        torch.save(content, tmp_path / "model.pth")
        with torch.no_grad():
            return tmp_path / "model.pth", model(IDS)

    return save


@torch.no_grad()
@pytest.mark.parametrize("stride, without", STRIDES.items(), ids=map(str, STRIDES))
def test_window_of_the_book(book, tmp_path, stride, without):
    file, expected = book(without)
    options = {"tokenizer": "none", "n_head": 4, "window": 6}
    done = convert(str(file), tmp_path / "out", prove=True, window_stride=stride, **options)
    model = AutoModelForCausalLM.from_pretrained(done.folder).eval()
    torch.testing.assert_close(model(IDS).logits, expected, atol=1e-4, rtol=0)
    assert model.config.layer_types.count("full_attention") == len(without)
    assert done.assumed == {"n_head": 4, "window": 6, "window_stride": stride}
    reference = json.loads((done.folder / "reference_logits.json").read_text())
    assert len(reference["input_ids"][0]) > 6  # the proof goes beyond the window


def test_default_stride_is_the_book_s_own(book, tmp_path):
    file, expected = book(without=(2,))
    done = convert(str(file), tmp_path / "out", tokenizer="none", n_head=4, window=6)
    assert done.guessed == {"window_stride": 2}
    logits = AutoModelForCausalLM.from_pretrained(done.folder).eval()(IDS).logits
    torch.testing.assert_close(logits, expected, atol=1e-4, rtol=0)


def test_without_the_option_it_is_a_guess_that_is_wrong(book, tmp_path):
    file, expected = book()
    done = convert(str(file), tmp_path / "out", tokenizer="none", n_head=4, prove=True)
    assert done.guessed == {"window": 0} and done.max_logit_difference < 1e-4
    logits = AutoModelForCausalLM.from_pretrained(done.folder).eval()(IDS).logits
    assert (logits - expected).abs().max() > 0.1


def test_saved_masks_rule_a_window_out(book, tmp_path):
    file, _ = book(without=range(5), masks=True)
    assert convert(str(file), tmp_path / "out", tokenizer="none", n_head=4).assumed == {"n_head": 4}
    with pytest.raises(UsageError, match="--window does not apply to .*, which holds the masks of attention without"):
        convert(str(file), tmp_path / "other", tokenizer="none", n_head=4, window=6)


def test_wrong_window_fails_the_proof(book, tmp_path, monkeypatch):
    """The arithmetic of the proof does not share the table of blocks that the configuration gets."""
    from hf_gpt_scratch.conversion import llms_from_scratch

    file, _ = book()
    monkeypatch.setattr(llms_from_scratch, "_add_windows", lambda config, window, window_stride: None)
    with pytest.raises(InputError, match="differ from the source's"):
        convert(str(file), tmp_path / "out", tokenizer="none", n_head=4, window=6, prove=True)


@torch.no_grad()
@pytest.mark.parametrize("way, target", [(export, "stock GPT-2"), (export_gguf, "GGUF")])
def test_where_there_is_no_window_it_is_refused(tmp_path, way, target):
    pytest.importorskip("gguf", reason="pip install -e '.[convert]'")
    config = GPTScratchConfig(vocab_size=100, n_positions=64, n_embd=32, n_layer=2, n_head=4, sliding_window=6)
    random_weights(GPTScratchForCausalLM(config)).save_pretrained(tmp_path / "ours")
    with pytest.raises(InputError, match=f"a sliding window of 6 tokens, which {target} does not have"):
        way(str(tmp_path / "ours"), tmp_path / "out")
    assert not (tmp_path / "out").exists()


@torch.no_grad()
@pytest.mark.parametrize(
    "settings", [{"sliding_window": 64}, {"sliding_window": 6, "layer_types": ["full_attention"] * 2}]
)
def test_window_that_hides_nothing_is_no_obstacle(tmp_path, settings):
    config = GPTScratchConfig(vocab_size=100, n_positions=64, n_embd=32, n_layer=2, n_head=4, **settings)
    model = random_weights(GPTScratchForCausalLM(config))
    model.save_pretrained(tmp_path / "ours")
    stock = GPT2LMHeadModel.from_pretrained(export(str(tmp_path / "ours"), tmp_path / "stock")).eval()
    torch.testing.assert_close(stock(IDS).logits, model(IDS).logits, atol=1e-4, rtol=0)
