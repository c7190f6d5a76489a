"""A classifier in an ONNX folder says what the one with torch's weights says, of whole texts and word by word."""

import shutil

import pytest
import torch

from hf_gpt_scratch import TextClassifier, load
from hf_gpt_scratch.apps import page
from support.classifiers import TEXTS
from support.commands import run_command
from support.onnx_folders import exported
from support.pages import ROOT, blocks, read

CLOSE = 1e-6
# Of very different lengths, so that batches are padded, and one of several windows of 32 tokens
ALL = [*TEXTS, "free", "see the parcel at home now " * 9, "prize " * 12, "win", *(f"{text} {text}" for text in TEXTS)]


@pytest.fixture(scope="module")
def both() -> list[TextClassifier]:
    return [TextClassifier.from_pretrained(folder, device="cpu") for folder in exported("classifier")]


def test_labels_and_probabilities_after_every_word(both):
    torch_says, onnx_says = (list(one.classify(ALL, batch_size=1, decide_at=0.9, words=True)) for one in both)
    assert len({one.label for one in torch_says}) == 2
    for expected, found in zip(torch_says, onnx_says, strict=True):
        assert (found.label, found.decided_at, found.truncated) == (
            expected.label,
            expected.decided_at,
            expected.truncated,
        )
        assert found.probabilities == pytest.approx(expected.probabilities, abs=CLOSE)
        for ours, theirs in zip(found.words, expected.words, strict=True):
            assert (ours.word, ours.label) == (theirs.word, theirs.label)
            assert ours.probabilities == pytest.approx(theirs.probabilities, abs=CLOSE)


def test_a_text_in_a_batch_is_the_text_alone(both):
    together, alone = both[1].classify(ALL), [next(both[1].classify([text])) for text in ALL]
    for one, other in zip(together, alone, strict=True):
        assert one.probabilities == pytest.approx(other.probabilities, abs=CLOSE)


def test_a_session_types_edits_and_takes_back(both):
    sessions = [one.session(decide_at=0.9) for one in both]
    text = "win a free prize now, see you at home"
    typed = [text[:end] for end in range(0, len(text), 3)] + ["win a free", "win the free parcel", "", *ALL[:7]]
    for so_far in typed:
        expected, found = (session.read(so_far) for session in sessions)
        if expected is None:
            assert found is None
            continue
        assert (found.label, found.decided_at) == (expected.label, expected.decided_at)
        assert found.probabilities == pytest.approx(expected.probabilities, abs=CLOSE)


def test_a_word_of_a_session_is_one_step(both, monkeypatch):
    session, read = both[1].session(), []
    run = both[1].model.graph.run
    monkeypatch.setattr(both[1].model.graph, "run", lambda given, *more: read.append(given) or run(given, *more))
    session.add("win a free prize")
    session.add(" now")
    first, second = (given["input_ids"].shape[1] for given in read)
    assert first > second and read[1]["past_key_values.0.key"].shape[2] >= first - 1


def test_the_pooled_scores_are_those_of_the_model_itself(both):
    ids = torch.tensor([[5, 6, 7, 8], [9, 3, 1, 1]])
    masks = [None, torch.tensor([[1, 1, 1, 1], [1, 1, 0, 0]]), torch.tensor([[1, 1, 1, 1], [0, 0, 1, 1]])]
    for mask in masks:  # without one, tokens that are the padding token do not count
        ids[1, 2:] = both[0].model.config.pad_token_id if mask is None else 1
        expected, found = (one.model(ids, attention_mask=mask, output_token_logits=True) for one in both)
        assert torch.allclose(found.logits, expected.logits, atol=1e-5)
        real = torch.ones_like(ids) if mask is None else mask
        assert torch.allclose(found.token_logits[real.bool()], expected.token_logits[real.bool()], atol=1e-5)
        assert both[1].model(ids, attention_mask=mask).token_logits is None


def test_load_and_what_a_page_says_of_it(both):
    model, tokenizer = load(exported("classifier")[1], dtype="float32")
    assert tokenizer(TEXTS[0])["input_ids"] == both[0].tokenizer(TEXTS[0])["input_ids"]
    assert list(model.parameters()) == [] and model.num_parameters() == both[0].model.num_parameters()
    assert page.facts(model, "it").endswith(f"{both[0].model.num_parameters():,} parameters · running on CPU, float32")


def test_the_command_prints_the_same(capsys, monkeypatch):
    printed = []
    for folder in exported("classifier"):
        run_command("classify", folder, *TEXTS, "--stream", "--device", "cpu")
        printed.append(capsys.readouterr())
    assert printed[0].out == printed[1].out and "spam" in printed[1].out
    assert printed[1].err == printed[0].err.replace("float32.", "float32, by onnxruntime.")


def test_settings_of_the_folder_count(tmp_path):
    shutil.copytree(exported("classifier")[1], tmp_path / "changed")
    path = tmp_path / "changed" / "config.json"
    path.write_text(path.read_text().replace('"windows"', '"first"'))
    classifier = TextClassifier.from_pretrained(tmp_path / "changed")
    is_long = [len(ids) > 32 for ids in classifier.encode(ALL)]
    assert [one.truncated for one in classifier.classify(ALL)] == is_long and any(is_long)


def test_the_lines_of_the_docs_give_the_scores(both):
    own, folder = exported("classifier")
    [code] = [one.code for one in blocks(read(ROOT / "docs" / "serving.md"), "python") if "onnxruntime" in one.code]
    names: dict = {}
    exec(code.replace("runs/spam-onnx", str(folder)), names)
    ids = torch.tensor(both[0].encode(["You have won a free prize"]))
    expected = both[0].model(ids, output_token_logits=True)
    assert torch.allclose(torch.from_numpy(names["logits"]), expected.logits, atol=1e-5)
    assert torch.allclose(torch.from_numpy(names["token_logits"]), expected.token_logits, atol=1e-5)
