"""Files damaged in any way end in one sentence, with nothing written, or in the model that they still describe."""

import tempfile
from pathlib import Path

import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from transformers import AutoModelForCausalLM

from hf_gpt_scratch import GPTScratchForCausalLM
from hf_gpt_scratch.conversion import independent_forward
from hf_gpt_scratch.conversion.formats import open_source
from hf_gpt_scratch.model_folder.loading import load_model
from hf_gpt_scratch.utils.errors import InputError
from support.checkpoints import SAMPLES, Sample, make_sample

IDS = torch.tensor([[1, 5, 7, 2], [0, 3, 3, 6]])


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


def expected_logits(name: str, sample: Sample) -> torch.Tensor:
    """What the damaged source itself says: by its format's own arithmetic, or for a folder of ours by our model."""
    if name.startswith("ours"):
        return load_model(GPTScratchForCausalLM, sample.source).eval()(IDS, use_cache=False).logits
    options = getattr(sample.way, "keywords", {})
    opened = open_source(sample.source, **({"n_head": 2} if "n_head" in options else {}))
    config = opened.config
    sizes = config.n_layer, config.n_head, config.layer_norm_epsilon
    return independent_forward.logits(opened.tensors, opened.arithmetic, *sizes, IDS % config.vocab_size)


def found_logits(name: str, out: Path) -> torch.Tensor:
    """What the folder that was made says."""
    file = {"gguf_file": "model.gguf", "n_positions": 8} if name.endswith("to gguf") else {}
    model = AutoModelForCausalLM.from_pretrained(out, dtype=torch.float32, **file).eval()
    return model(IDS % model.config.vocab_size, use_cache=False).logits


@torch.no_grad()
def check(name: str, mutation, which: float) -> None:
    with tempfile.TemporaryDirectory() as scratch:
        sample = make_sample(name, Path(scratch) / "in")
        file = Path(scratch) / "in" / sample.files[int(which * len(sample.files))]
        file.write_bytes(mutate(file.read_bytes(), mutation))
        out = Path(scratch) / "out"
        try:
            sample.way(str(sample.source), out)
        except InputError as refusal:
            assert "\n" not in str(refusal)
            assert [path.name for path in Path(scratch).iterdir()] == ["in"]
            return
        torch.testing.assert_close(
            found_logits(name, out), expected_logits(name, sample), atol=1e-4, rtol=1e-3, equal_nan=True
        )


def few_or_many(examples: int):
    return settings(max_examples=examples, deadline=None, derandomize=True, suppress_health_check=list(HealthCheck))


WHICH = st.floats(0, 1, exclude_max=True)


@pytest.mark.parametrize("name", SAMPLES)
@few_or_many(20)
@given(mutations(), WHICH)
def test_damaged_file_is_refused_or_what_it_says(name, mutation, which):
    check(name, mutation, which)


@pytest.mark.slow
@pytest.mark.parametrize("name", SAMPLES)
@few_or_many(500)
@given(mutations(), WHICH)
def test_500_damaged_files_are_refused_or_what_they_say(name, mutation, which):
    check(name, mutation, which)
