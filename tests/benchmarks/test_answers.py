"""The benchmark of many prompts: all contenders write the same tokens, and it tells where one does not."""

import argparse
import sys
from pathlib import Path

import pytest
import transformers
from packaging.version import Version

sys.path.insert(0, str(Path(__file__).parents[2] / "training" / "benchmarks"))
import answers  # noqa: E402


@pytest.mark.skipif(
    Version(transformers.__version__) < Version("5.18"), reason="its `generate_batch` has no page_size"
)
def test_all_write_the_same_answers_of_the_given_lengths(tmp_path):
    prompts = answers.read_prompts(argparse.Namespace(quick=True))[:7]
    answers.stock_and_ours(tmp_path, "tiny", seed=0, eos_token_id=None, bos_token_id=None, initializer_range=0.3)
    names = ("padded generate", "generate_batch", "ours")
    counts, written = zip(*(answers.MAKERS[name](str(tmp_path), prompts, 3)() for name in names))
    lengths = [length for _, length in prompts]
    assert set(counts) == {sum(lengths)} and [len(one) for one in written[0]] == lengths
    assert len({token for one in written[0] for token in one}) > len(prompts)
    outputs = dict(zip(names, written))
    assert answers.differences(outputs) is None
    outputs["generate_batch"] = [[*one[:-1], 0] for one in outputs["generate_batch"][:2]] + outputs["ours"][2:]
    assert answers.differences(outputs) == "2 of 7 answers of generate_batch are not ours"
    one_by_one = answers.make_naive(str(tmp_path), prompts, 3)()
    assert one_by_one == sum(length for _, length in sorted(prompts, key=lambda prompt: len(prompt[0]))[3:5])
