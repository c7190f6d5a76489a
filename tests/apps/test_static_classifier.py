"""The scripts of a classifier's static page, run by Node: what they compute is what Python computes."""

import json
import os
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch

from hf_gpt_scratch.apps import npm
from hf_gpt_scratch.pipeline_gpt_scratch import Calibration, pooled, windows, words_read
from hf_gpt_scratch.tokenizer import gpt2_tokenizer, train_tokenizer
from support.scripts_in_node import in_node
from support.static_pages import ODD, require_packages

pytestmark = pytest.mark.node
EARLY = {"early": {"0.99": {"threshold": 0.7}, "0.9": {"threshold": 0.1}}}
CONFIGS = [
    ({}, 2),
    ({"temperature": 1.7, "shift": -0.4, "threshold": 0.3, **EARLY}, 2),
    ({"temperature": 0.6, "shift": [0.1, -0.2, 0.3], "threshold": [0.2, 0.5, 0.4], **EARLY}, 3),
    ({"outside_threshold": 0.45, "outside_label": "other", **EARLY}, 4),
    ({"threshold": [0.3, 0.6, 0.5], "problem_type": "multi_label_classification", **EARLY}, 3),
    ({"threshold": 0.4, "outside_threshold": 0.6, "problem_type": "multi_label_classification"}, 3),
]


@pytest.mark.parametrize(("settings", "labels"), CONFIGS)
def test_verdicts_are_those_of_python(settings, labels):
    settings = dict(settings)
    config = {"problem_type": settings.pop("problem_type", None), "calibration": settings}
    calibration, names = Calibration.of(SimpleNamespace(**config)), [f"label {number}" for number in range(labels)]
    logits = torch.randn(200, labels, generator=torch.Generator().manual_seed(0)) * 2
    found = in_node(
        ("classifier.js",),
        """const calibration = new Calibration(data.config);
        const after = data.logits.map((one) => calibration.probabilities(one));
        return { after, verdicts: after.map((one) => calibration.verdict(one, data.names)),
          confidence: after.map((one) => calibration.confidence(one)), decidedAt: calibration.decidedAt(after) };""",
        {"config": config, "logits": logits.tolist(), "names": names},
    )
    expected = calibration.probabilities(logits)
    assert torch.allclose(torch.tensor(found["after"]), expected, atol=1e-6)
    said = calibration.verdicts(expected, names)
    found_labels = [(one["label"], tuple(one["labels"])) for one in found["verdicts"]]
    assert found_labels == [(one.label, one.labels) for one in said]
    assert torch.allclose(torch.tensor(found["confidence"]), calibration.confidence(expected), atol=1e-6)
    decided = calibration.decided_at(expected, 0.99) if "early" in settings else None
    assert found["decidedAt"] == decided


@pytest.mark.parametrize("long_texts", ["first", "last", "windows"])
def test_windows_and_their_mean_are_those_of_python(long_texts):
    config = SimpleNamespace(n_positions=8, long_texts=long_texts)
    lengths = [1, 7, 8, 9, 16, 21]
    parts = [torch.randn(size, 3, generator=torch.Generator().manual_seed(size)) for size in (8, 8, 5)]
    found = in_node(
        ("classifier.js",),
        "return [data.lengths.map((length) => windows(length, data.config)), pooled(data.parts)];",
        {"lengths": lengths, "config": vars(config), "parts": [one.tolist() for one in parts]},
    )
    assert found[0] == [[[one.start, one.stop] for one in windows(length, config)] for length in lengths]
    assert torch.allclose(torch.tensor(found[1]), pooled(parts), atol=1e-6)


def tokenizer_of(kind: str):
    """One of GPT-2's kind, of the demo's, or GPT-2's own where $GPT2_TOKENIZER names the folder of its two files."""
    if kind == "gpt2":
        if "GPT2_TOKENIZER" not in os.environ:
            pytest.skip("needs a folder with GPT-2's vocab.json and merges.txt in $GPT2_TOKENIZER")
        return gpt2_tokenizer(*(Path(os.environ["GPT2_TOKENIZER"], name) for name in ("vocab.json", "merges.txt")))
    texts = [*ODD, "see you at home 12345", "win a free prize now!"] * 3
    return train_tokenizer(texts, 400, individual_digits=kind == "digits", lowercase=kind == "lower case")


@pytest.mark.parametrize("kind", ["plain", "lower case", "digits", "gpt2"])
def test_tokens_and_words_are_those_of_python(kind, tmp_path):
    require_packages(npm.TOKENIZERS)
    tokenizer = tokenizer_of(kind)
    library = tmp_path / "tokenizers.mjs"
    library.write_bytes(npm.files_of(npm.TOKENIZERS)["tokenizers.mjs"])
    texts = [text.strip() for text in (*ODD, " ".join(ODD), "a", "é" * 5000, "word " * 300)]
    limits = {"n_positions": 40, "long_texts": "first"}
    found = in_node(
        ("model.js", "classifier.js"),
        """const library = await importFile(data.tokenizers), tokenizer = makeTokenizer(library, data.tokenizer, {});
        return data.texts.map((text) => [tokenizer.encode(text), wordPlaces(tokenizer, text, data.limits)]);""",
        {
            "tokenizers": str(library),
            "tokenizer": json.loads(tokenizer.backend_tokenizer.to_str()),
            "texts": texts,
            "limits": limits,
        },
    )
    options = {"split_special_tokens": True, "return_offsets_mapping": True}
    for text, (ids, places) in zip(texts, found):
        expected = tokenizer(text, **options)
        assert ids == expected["input_ids"], text
        words = words_read(text, [end for _, end in expected["offset_mapping"]], SimpleNamespace(**limits))
        assert [(one["word"], one["place"]) for one in places] == words, text
