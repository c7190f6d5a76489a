"""nanoGPT's character models get a tokenizer of their characters, with nanoGPT's own ids."""

import pickle
from pathlib import Path

import pytest
import torch
from transformers import AutoModelForCausalLM, AutoTokenizer

from hf_gpt_scratch.conversion.convert import convert
from hf_gpt_scratch.utils.errors import InputError
from support.checkpoints import as_nanogpt, stock_gpt2

TEXT = "First Citizen:\nBefore we proceed any further,  hear me speak.\n\nAll:\tSpeak… «écoutez» 🙂 ##Ġ a-b 'll\n"


def prepared(text: str) -> dict:
    """As nanoGPT's data/shakespeare_char/prepare.py makes meta.pkl's content."""
    chars = sorted(set(text))
    stoi = {character: i for i, character in enumerate(chars)}
    return {"vocab_size": len(chars), "itos": dict(enumerate(chars)), "stoi": stoi}


def save(folder: Path, meta, vocab_size: int | None = None, bare: bool = False) -> Path:
    model = stock_gpt2(vocab_size=vocab_size or len(prepared(TEXT)["stoi"]), n_positions=32)
    content = as_nanogpt(model)
    torch.save(content["model"] if bare else content, folder / "ckpt.pt")
    (folder / "meta.pkl").write_bytes(meta if isinstance(meta, bytes) else pickle.dumps(meta))
    return folder / "ckpt.pt"


@pytest.mark.parametrize("bare", [False, True], ids=["ckpt.pt", "bare"])
def test_ids_are_stoi_and_text_comes_back(tmp_path, bare):
    meta = prepared(TEXT)
    file = save(tmp_path, meta, bare=bare)
    done = convert(file, tmp_path / "out", prove=True, **({"n_head": 4} if bare else {}))
    tokenizer = AutoTokenizer.from_pretrained(done.folder)
    assert tokenizer.get_vocab() == meta["stoi"]
    ids = tokenizer(TEXT)["input_ids"]
    assert ids == [meta["stoi"][character] for character in TEXT]
    assert tokenizer.decode(ids) == TEXT
    for character, number in meta["stoi"].items():
        assert tokenizer(character)["input_ids"] == [number] and tokenizer.decode([number]) == character
    assert tokenizer.model_max_length == 32
    model = AutoModelForCausalLM.from_pretrained(done.folder)
    assert model.config.eos_token_id is None
    generated = model.generate(torch.tensor([ids[:4]]), max_new_tokens=5, do_sample=False)
    assert len(tokenizer.decode(generated[0])) == 9


def test_a_character_that_it_does_not_know_gets_no_token(tmp_path):
    done = convert(save(tmp_path, prepared(TEXT)), tmp_path / "out")
    tokenizer = AutoTokenizer.from_pretrained(done.folder)
    assert tokenizer.decode(tokenizer("hZ%ear")["input_ids"]) == "hear"


def test_text_is_generated_by_the_command(tmp_path, capsys):
    from hf_gpt_scratch import cli

    convert(save(tmp_path, prepared(TEXT)), tmp_path / "out")
    arguments = ["generate", str(tmp_path / "out"), "--prompt", "First", "--max-new-tokens", "6"]
    assert cli.main(arguments) == 0
    assert "First" in capsys.readouterr().out


def ids(**changes) -> dict:
    meta = prepared(TEXT)
    return {**meta, "stoi": {**meta["stoi"], **changes}}


UNUSABLE = {
    "no pickle": (b"hello", "was not read"),
    "a call": (b"\x80\x02cos\nmkdir\n\x8c\x03ran\x85R.", "was not read: it calls os.mkdir"),
    "no mapping": ([1, 2], "does not hold the number of each character"),
    "no stoi": ({"itos": {0: "a"}}, "does not hold the number of each character"),
    "words": (ids(word=1), "does not hold the number of each character"),
    "texts for numbers": (ids(a="1"), "does not hold the number of each character"),
    "half a character": (ids(**{"\ud800": 0}), "does not hold the number of each character"),
    "negative": (ids(a=-1), "does not hold the number of each character"),
    "one number twice": (ids(a=0), "two characters the same number"),
    "beyond the vocabulary": (ids(a=500), "characters, but the model"),
    "far fewer": (prepared("ab"), None),
}


@pytest.mark.parametrize("meta, complaint", UNUSABLE.values(), ids=UNUSABLE)
def test_unusable_meta_is_refused(tmp_path, monkeypatch, meta, complaint):
    monkeypatch.chdir(tmp_path)
    file = save(tmp_path, meta, vocab_size=None if complaint else 50257)
    with pytest.raises(InputError, match=complaint or "has 2 characters, but the model 50257 tokens") as refusal:
        convert(file, tmp_path / "out")
    assert "--tokenizer none" in str(refusal.value) and "\n" not in str(refusal.value)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["ckpt.pt", "meta.pkl"]
    convert(file, tmp_path / "out", tokenizer="none")
