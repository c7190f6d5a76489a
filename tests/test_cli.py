import io
import json
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file
from transformers import AutoModelForSequenceClassification, GPT2Config, GPT2LMHeadModel, PreTrainedModel

from hf_gpt_scratch import GPTScratchForCausalLM, GPTScratchForSequenceClassification
from hf_gpt_scratch.cli import main
from hf_gpt_scratch.tokenizer import train_tokenizer

LABELS = {"id2label": {0: "ham", 1: "spam"}, "label2id": {"ham": 0, "spam": 1}}
MESSAGES = ["Win a prize now! ☃", "see you at home", "ok 😀"]


def save(model_class: type[PreTrainedModel], config, folder: Path) -> Path:
    """A model with a tokenizer and random weights, wide enough apart that its probabilities are too."""
    tokenizer = train_tokenizer(["win a prize", "see you at home"] * 5, 270, model_max_length=64)
    config.vocab_size, config.initializer_range = len(tokenizer), 0.5
    config.pad_token_id = tokenizer.pad_token_id
    torch.manual_seed(0)
    model_class(config).save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return folder


@pytest.fixture
def classifier(tiny_config, tmp_path) -> Path:
    for name, value in LABELS.items():
        setattr(tiny_config, name, value)
    return save(GPTScratchForSequenceClassification, tiny_config, tmp_path / "classifier")


@pytest.fixture
def language_model(tiny_config, tmp_path) -> Path:
    return save(GPTScratchForCausalLM, tiny_config, tmp_path / "lm")


@pytest.fixture
def run(capsys):
    """Runs the command; returns its exit status, what it printed and what it said on stderr."""

    def run(*args: object) -> tuple[int, str, str]:
        capsys.readouterr()  # what the fixtures printed
        try:
            status = main([str(arg) for arg in args])
        except SystemExit as exit_:
            status = exit_.code
        return status, *capsys.readouterr()

    return run


@pytest.fixture
def fails(run):
    """Runs a command that must fail with status 1 and one sentence, which it returns."""

    def fails(*args: object) -> str:
        status, printed, said = run(*args)
        assert (status, printed) == (1, "")
        assert said.startswith("error: ")
        assert said.count("\n") == 1
        return said

    return fails


def predict(classifier: Path, text: str) -> float:
    """The probability of spam, the long way."""
    from transformers import AutoTokenizer

    ids = AutoTokenizer.from_pretrained(classifier)(text)["input_ids"][:64]
    with torch.no_grad():
        logits = AutoModelForSequenceClassification.from_pretrained(classifier)(torch.tensor([ids])).logits
    return logits.softmax(-1)[0, 1].item()


@pytest.mark.parametrize("args", [[], ["classify"], ["convert", "src"], ["nonsense"], ["export", "a", "b"]])
def test_bad_usage_ends_with_status_2(run, args):
    status, printed, said = run(*args)
    assert (status, printed) == (2, "")
    assert said.startswith("usage: ")


def test_help_ends_with_status_0(run):
    status, printed, _ = run("--help")
    assert status == 0
    assert all(command in printed for command in ("convert", "export", "classify"))


def test_convert_and_export_make_their_folders(run, tiny_config, tmp_path):
    stock = GPT2LMHeadModel(GPT2Config(vocab_size=100, n_positions=64, n_embd=32, n_layer=2, n_head=4))
    stock.save_pretrained(tmp_path / "stock")
    status, printed, said = run("convert", tmp_path / "stock", tmp_path / "ours")
    assert (status, said) == (0, "")
    assert str(tmp_path / "ours") in printed
    status, printed, said = run("export", tmp_path / "ours", tmp_path / "back", "--to", "hf-gpt2")
    assert (status, said) == (0, "")
    assert str(tmp_path / "back") in printed
    back = GPT2LMHeadModel.from_pretrained(tmp_path / "back")
    assert torch.equal(back.transformer.wte.weight, stock.transformer.wte.weight)


def input_by_arguments(messages, tmp_path, monkeypatch) -> list[object]:
    return messages


def input_by_file(messages, tmp_path, monkeypatch) -> list[object]:
    # With the byte-order mark and the line ends of Windows
    (tmp_path / "messages.txt").write_bytes(b"\xef\xbb\xbf" + "\r\n".join(messages).encode())
    return ["--file", tmp_path / "messages.txt"]


def input_by_stdin(messages, tmp_path, monkeypatch) -> list[object]:
    monkeypatch.setattr(sys, "stdin", io.StringIO("".join(f"{message}\n" for message in messages)))
    return []


@pytest.mark.parametrize("give", [input_by_arguments, input_by_file, input_by_stdin])
@pytest.mark.parametrize("batch_size", [1, 2, 32])
def test_classify_prints_label_and_probability_of_each_message(
    run, classifier, tmp_path, monkeypatch, give, batch_size
):
    options = give(MESSAGES, tmp_path, monkeypatch)
    status, printed, said = run("classify", classifier, *options, "--batch-size", batch_size)
    assert (status, said) == (0, "")
    expected = [(message, predict(classifier, message)) for message in MESSAGES]
    assert len({probability > 0.5 for _, probability in expected}) == 2  # both labels occur
    assert printed.splitlines() == [f"{'spam' if p > 0.5 else 'ham'}\t{p:.4f}\t{text}" for text, p in expected]


def test_classify_prints_json_lines(run, classifier):
    status, printed, _ = run("classify", classifier, *MESSAGES, "--json")
    assert status == 0
    records = [json.loads(line) for line in printed.splitlines()]
    assert [record["text"] for record in records] == MESSAGES
    for record in records:
        probability = predict(classifier, record["text"])
        assert record["probability"] == pytest.approx(probability, abs=1e-5)
        assert record["label"] == ("spam" if probability > 0.5 else "ham")
        assert record["truncated"] is False
        assert set(record) == {"text", "label", "probability", "truncated"}


def test_classify_streams_a_line_for_each_word(run, classifier):
    status, printed, _ = run("classify", classifier, MESSAGES[0], "--stream")
    *words, verdict = printed.splitlines()
    assert status == 0
    assert [line.split()[-1] for line in words] == MESSAGES[0].split()
    assert words[-1].split()[0] == f"{float(verdict.split(chr(9))[1]):.1%}"


@pytest.mark.parametrize("message", [*MESSAGES, "  see   you\tat home ", "z q " * 50], ids=repr)
def test_probability_after_a_word_is_that_of_the_message_up_to_there(run, classifier, message):
    status, printed, _ = run("classify", classifier, message, "--stream", "--json")
    record = json.loads(printed)
    assert status == 0
    for i, word in enumerate(record["words"][:4], start=1):
        before = message[: message.index(word["word"]) + len(word["word"])].strip()
        if i > 1 and word["word"] in [earlier["word"] for earlier in record["words"][: i - 1]]:
            continue
        assert word["probability"] == pytest.approx(predict(classifier, before), abs=1e-5)
    assert record["words"][-1]["probability"] == pytest.approx(record["probability"], abs=1e-5)
    if not record["truncated"]:
        assert [word["word"] for word in record["words"]] == message.split()


def test_message_longer_than_the_model_reads_is_noted(run, classifier):
    status, printed, said = run("classify", classifier, "see you", "z " * 80, "--json")
    assert status == 0
    assert [json.loads(line)["truncated"] for line in printed.splitlines()] == [False, True]
    assert said.splitlines() == ["note: message 2 is longer than 64 tokens; only those were read."]
    assert json.loads(printed.splitlines()[1])["probability"] == pytest.approx(
        predict(classifier, ("z " * 80).strip()), abs=1e-5
    )
