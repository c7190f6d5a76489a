"""Whatever AutoTokenizer loads beside a source goes with the model, with the same ids, and is cut at its length."""

import json
import shutil
from pathlib import Path

import pytest
from tokenizers.pre_tokenizers import ByteLevel
from transformers import AutoTokenizer

from hf_gpt_scratch.conversion.convert import convert
from hf_gpt_scratch.conversion.export import export
from hf_gpt_scratch.conversion.tokenizers import WITHOUT_TOKENIZER
from hf_gpt_scratch.hub.check import check_tokenizer
from hf_gpt_scratch.model_folder.clean_process import run_jobs
from hf_gpt_scratch.model_folder.contents import MODEL_FILES, ModelFolder
from hf_gpt_scratch.tokenizer import load_tokenizer, train_tokenizer
from hf_gpt_scratch.utils.errors import InputError
from support.checkpoints import stock_gpt2

TEXTS = ["low new lower", "<x> lower low", "low " * 100]
BERT = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", "low", "new", "##er"]


def bert(folder: Path) -> None:
    (folder / "vocab.txt").write_text("\n".join(BERT))
    (folder / "tokenizer_config.json").write_text('{"tokenizer_class": "BertTokenizer"}')


def two_files(folder: Path) -> None:
    letters = [*sorted(ByteLevel.alphabet()), "lo", "low", "er", "<|endoftext|>"]
    (folder / "vocab.json").write_text(json.dumps({text: number for number, text in enumerate(letters)}))
    (folder / "merges.txt").write_text("#version: 0.2\nl o\nlo w\ne r\n")


def with_added_tokens(folder: Path) -> None:
    two_files(folder)
    (folder / "added_tokens.json").write_text('{"<x>": 260, "</s>": 261}')
    special = {"eos_token": "</s>", "bos_token": "</s>", "additional_special_tokens": ["<x>"]}
    (folder / "special_tokens_map.json").write_text(json.dumps(special))


def sentencepiece(folder: Path, name: str, kind: str, tokenizer_class: str) -> None:
    trainer = pytest.importorskip("sentencepiece", reason="pip install sentencepiece protobuf").SentencePieceTrainer
    pytest.importorskip("google.protobuf", reason="pip install sentencepiece protobuf")
    (folder / "texts").write_text("low new lower\nslow lower newest low\n" * 20)
    sizes = {"vocab_size": 25, "hard_vocab_limit": False, "minloglevel": 2}
    trainer.train(input=str(folder / "texts"), model_prefix=str(folder / "made"), model_type=kind, **sizes)
    (folder / "made.model").rename(folder / name)
    (folder / "tokenizer_config.json").write_text(json.dumps({"tokenizer_class": tokenizer_class}))


KINDS = {
    "BERT": bert,
    "vocab.json with added tokens": with_added_tokens,
    "T5": lambda folder: sentencepiece(folder, "spiece.model", "unigram", "T5Tokenizer"),
    "Llama": lambda folder: sentencepiece(folder, "tokenizer.model", "bpe", "LlamaTokenizer"),
    "XLM": lambda folder: sentencepiece(folder, "sentencepiece.bpe.model", "unigram", "XLMRobertaTokenizer"),
}


@pytest.fixture
def source(tmp_path) -> Path:
    stock_gpt2(vocab_size=300).save_pretrained(tmp_path / "in")
    return tmp_path / "in"


@pytest.mark.parametrize("kind", KINDS)
def test_what_autotokenizer_loads_is_carried_both_ways(source, tmp_path, kind):
    KINDS[kind](source)
    theirs = AutoTokenizer.from_pretrained(source)
    done = convert(source, tmp_path / "out")
    assert WITHOUT_TOKENIZER not in done.notes
    export(tmp_path / "out", tmp_path / "back")
    for folder in (tmp_path / "out", tmp_path / "back"):
        ours = AutoTokenizer.from_pretrained(folder)
        assert ours(TEXTS, verbose=False)["input_ids"] == theirs(TEXTS, verbose=False)["input_ids"]
        assert ours.special_tokens_map == {"pad_token": theirs.eos_token, **theirs.special_tokens_map}
        assert len(ours(TEXTS[-1], truncation=True)["input_ids"]) == ours.model_max_length == 64
    [elsewhere], _ = run_jobs(tmp_path / "out", [{"auto_class": "AutoTokenizer", "texts": TEXTS[:2]}])
    assert elsewhere["ids"] == theirs(TEXTS[:2])["input_ids"]
    assert "tokens; " in check_tokenizer(tmp_path / "out", None)
    # As it is, it is pushed and pulled whole
    shutil.copytree(source, tmp_path / "pushed", ignore=lambda folder, names: {*names} - {*MODEL_FILES})
    assert AutoTokenizer.from_pretrained(tmp_path / "pushed")(TEXTS[0])["input_ids"] == theirs(TEXTS[0])["input_ids"]
    held = {path.name for path in ModelFolder.read(source).files()}
    assert {path.name for path in source.iterdir()} - held <= {"texts", "made.vocab"}


@pytest.mark.parametrize("kind", ["BERT", "vocab.json with added tokens"])
def test_a_tokenizers_folder_without_a_model_is_read_whole(source, tmp_path, kind):
    (tmp_path / "tokenizer").mkdir()
    for folder in (source, tmp_path / "tokenizer"):
        KINDS[kind](folder)
    theirs, ours = AutoTokenizer.from_pretrained(source), load_tokenizer(tmp_path / "tokenizer")
    assert ours(TEXTS, verbose=False)["input_ids"] == theirs(TEXTS, verbose=False)["input_ids"]
    assert ours.eos_token == theirs.eos_token


def test_a_vocabulary_of_no_class_is_told(source, tmp_path):
    bert(source)
    (source / "tokenizer_config.json").unlink()
    with pytest.raises(InputError, match="name their class as tokenizer_class"):
        convert(source, tmp_path / "out")


def test_a_model_without_a_tokenizer_is_told(source, tmp_path):
    assert "the model has none" in "".join(convert(source, tmp_path / "out").notes)
    assert not convert(source, tmp_path / "silent", tokenizer="none").notes


@pytest.mark.parametrize("own, wanted", [(1024, 64), (32, 32)])
def test_texts_are_cut_at_what_the_model_reads(source, tmp_path, own, wanted):
    train_tokenizer(["a few words"], 260, model_max_length=own).save_pretrained(tmp_path / "tokenizer")
    convert(source, tmp_path / "out", tokenizer=str(tmp_path / "tokenizer"))
    assert load_tokenizer(tmp_path / "out").model_max_length == wanted
