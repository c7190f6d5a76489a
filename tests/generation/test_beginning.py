"""With a tokenizer that puts the BOS token before every text, a text has the same tokens wherever it is read."""

import numpy as np
import pytest
import torch

from hf_gpt_scratch import Chat, GPTScratchConfig, GPTScratchForCausalLM, convert
from hf_gpt_scratch.data import turns
from hf_gpt_scratch.data.text import Part, TextInMemory, tokenize
from hf_gpt_scratch.evaluation.judge.in_process import ModelJudge
from hf_gpt_scratch.generation import sampling
from hf_gpt_scratch.generation.sampling import stream_text
from hf_gpt_scratch.prompts import CHAT_TEMPLATE, render_prompt, user_message
from hf_gpt_scratch.tokenizer import load_tokenizer
from hf_gpt_scratch.training.instruct import InstructArguments, make_tokenizer
from support.beginning_tokenizers import with_bos
from support.checkpoints import stock_gpt2

TEXT = "a few words"
ROW = {"instruction": "Name a few words.", "input": "a few", "output": "words"}


@pytest.fixture(params=[False, True], ids=["bos", "bos and eos"])
def folder(request, tmp_path):
    """A model with such a tokenizer, as `train instruct` takes it."""
    tokenizer = with_bos([TEXT, render_prompt("a", "b")] * 5, 400, adds_eos=request.param)
    torch.manual_seed(0)
    special = {f"{kind}_token_id": getattr(tokenizer, f"{kind}_token_id") for kind in ("bos", "eos", "pad")}
    shape = {"n_positions": 256, "n_embd": 32, "n_layer": 1, "n_head": 2}
    GPTScratchForCausalLM(GPTScratchConfig(vocab_size=len(tokenizer), **shape, **special)).save_pretrained(tmp_path)
    tokenizer.save_pretrained(tmp_path)
    return tmp_path


@pytest.fixture
def tokenizer(folder):
    return load_tokenizer(folder)


@pytest.fixture
def read(monkeypatch):
    """The tokens that the sampling loop is given."""
    seen = []

    def sample(model, input_ids, *args, **settings):
        seen.append(input_ids[0].tolist())
        return iter(())

    monkeypatch.setattr(sampling, "sample", sample)
    return seen


def bare(tokenizer, text: str) -> list[int]:
    return tokenizer(text, add_special_tokens=False)["input_ids"]


def test_a_document_is_learnt_as_a_prompt_is_read(folder, tokenizer, read):
    documents = TextInMemory("two documents", content=((TEXT, False), (" more", True), (TEXT, True)))
    learnt = np.concatenate(list(tokenize(Part(documents, 0), tokenizer))).tolist()
    bos, eos = [tokenizer.bos_token_id], [tokenizer.eos_token_id]
    assert learnt == [
        *bos,
        *bare(tokenizer, TEXT),
        *bare(tokenizer, " more"),
        *eos,
        *bos,
        *bare(tokenizer, TEXT),
        *eos,
    ]
    model = GPTScratchForCausalLM.from_pretrained(folder)
    for prompt in (TEXT, tokenizer.bos_token + TEXT, ""):
        list(stream_text(model, tokenizer, prompt))
    assert read == [bos + bare(tokenizer, TEXT)] * 2 + [bos]


def test_in_several_blocks_a_document_begins_once(tokenizer, monkeypatch):
    monkeypatch.setattr("hf_gpt_scratch.data.text.BLOCK", 1)
    monkeypatch.setattr("hf_gpt_scratch.data.text.LARGEST_BLOCK", 12)
    documents = TextInMemory("", content=((TEXT, False), (" more", False), (" more", True), (TEXT, True)))
    blocks = list(tokenize(Part(documents, 0), tokenizer))
    assert len(blocks) > 2
    assert np.concatenate(blocks).tolist().count(tokenizer.bos_token_id) == 2


def test_a_follower_is_trained_on_what_it_reads_in_a_chat(folder, read):
    args = InstructArguments(model_name_or_path=str(folder))
    asked = {"role": "user", "content": user_message(ROW["instruction"], ROW["input"])}
    conversation = {"messages": [asked, {"role": "assistant", "content": ROW["output"]}]}
    tokenizer = make_tokenizer(args, [conversation])
    row = turns.encode(conversation, tokenizer, 256)
    prompt = [tokenizer.bos_token_id, *bare(tokenizer, render_prompt(ROW["instruction"], ROW["input"]))]
    assert row["input_ids"] == [*prompt, *bare(tokenizer, ROW["output"]), tokenizer.eos_token_id]
    assert row["prompt_length"] == len(prompt)

    message = {"role": "user", "content": user_message(ROW["instruction"], ROW["input"])}
    rendered = tokenizer.apply_chat_template([message], add_generation_prompt=True)["input_ids"]
    chat = Chat(GPTScratchForCausalLM.from_pretrained(folder), tokenizer)
    list(chat.ask(ROW["instruction"], input=ROW["input"]))
    assert read == [rendered] == [prompt]
    assert chat.is_alpaca and chat._length([message]) == len(prompt)
    answered = [message, {"role": "assistant", "content": ROW["output"]}]
    assert tokenizer.apply_chat_template(answered)["input_ids"] == row["input_ids"]


@pytest.mark.parametrize("begins", ["", "{{ bos_token }}"])
def test_a_chat_template_of_others_decides_for_itself(folder, tokenizer, read, begins):
    tokenizer.chat_template = begins + CHAT_TEMPLATE
    chat = Chat(GPTScratchForCausalLM.from_pretrained(folder), tokenizer)
    list(chat.ask("a few"))
    message = {"role": "user", "content": "a few"}
    assert read == [tokenizer.apply_chat_template([message], add_generation_prompt=True)["input_ids"]]
    assert read[0].count(tokenizer.bos_token_id) == bool(begins)


def test_a_judge_reads_one_bos(folder, tokenizer):
    bos = [tokenizer.bos_token_id]
    assert ModelJudge(str(folder))._prompt("", TEXT, "") == bos + bare(tokenizer, TEXT)
    for begins in ("", "{{ bos_token }}"):
        tokenizer.chat_template = begins + CHAT_TEMPLATE
        tokenizer.save_pretrained(folder)
        judge = ModelJudge(str(folder))
        ids = judge._prompt(tokenizer.bos_token if begins else "", TEXT, "")
        assert ids == (bos if begins else []) + bare(tokenizer, TEXT)


def test_a_conversion_keeps_the_bos(tokenizer, tmp_path):
    stock = tmp_path / "stock"
    special = {f"{kind}_token_id": getattr(tokenizer, f"{kind}_token_id") for kind in ("bos", "eos", "pad")}
    stock_gpt2(vocab_size=len(tokenizer), **special).save_pretrained(stock)
    tokenizer.save_pretrained(stock)
    convert(str(stock), tmp_path / "ours")
    assert load_tokenizer(tmp_path / "ours")(TEXT)["input_ids"] == tokenizer(TEXT)["input_ids"]
