"""What ends a text is the same in all files of a converted model, and for all that writes text."""

import json
import re
from types import SimpleNamespace

import pytest
from transformers import AutoTokenizer, GenerationConfig

from hf_gpt_scratch import load
from hf_gpt_scratch.cli import main
from hf_gpt_scratch.conversion.convert import convert
from hf_gpt_scratch.conversion.export import export
from hf_gpt_scratch.conversion.generation_settings import generation_config
from hf_gpt_scratch.generation.batch import complete_prompts
from hf_gpt_scratch.generation.sampling import sample, stream_text
from hf_gpt_scratch.hub.check import look_at_files
from hf_gpt_scratch.model_folder.contents import ModelFolder
from hf_gpt_scratch.tokenizer import train_tokenizer
from hf_gpt_scratch.training.instruct import InstructArguments, check_base, make_model, make_tokenizer
from hf_gpt_scratch.utils.errors import InputError, UsageError
from support.checkpoints import set_config, stock_gpt2

FILE = "generation_config.json"
DEFAULT = 50256  # of a configuration that nobody filled in
EXTRA = 7  # an ordinary token of the tokenizer


@pytest.fixture
def source(tmp_path):
    """Makes a stock GPT-2 with a tokenizer (EOS token 0, padding 1), `<|end|>` among its special tokens."""

    def make(config: dict, generation: dict | None):
        tokenizer = train_tokenizer(["a few words"] * 5, 300)
        tokenizer.add_special_tokens({"additional_special_tokens": ["<|end|>"]})
        folder = tmp_path / "source"
        stock_gpt2(vocab_size=len(tokenizer)).save_pretrained(folder)
        tokenizer.save_pretrained(folder)
        set_config(folder, **config)
        (folder / FILE).unlink()
        if generation is not None:
            (folder / FILE).write_text(json.dumps(generation))
        return folder

    return make


# What config.json and generation_config.json say; the EOS tokens then, and a word of the note, if there is one.
CASES = {
    "as it should be": ({}, {"bos_token_id": 0, "eos_token_id": 0, "pad_token_id": 1}, 0, None),
    "a list there alone": ({}, {"eos_token_id": [0, EXTRA]}, [0, EXTRA], "config.json"),
    "a number there alone": ({"eos_token_id": None}, {"eos_token_id": EXTRA}, [EXTRA, 0], "generation_config.json"),
    "another one there": ({}, {"eos_token_id": EXTRA}, [EXTRA, 0], "0 in config.json"),
    "nowhere": (dict.fromkeys(("bos_token_id", "eos_token_id", "pad_token_id")), {}, 0, "the tokenizer's"),
    "only in config.json": ({}, None, 0, None),
    "no padding there": ({}, {"eos_token_id": 0, "bos_token_id": 0}, 0, None),
    "a special token in config.json": ({"eos_token_id": [0, 1]}, None, [0, 1], None),
    "GPT-2's default": ({"bos_token_id": DEFAULT, "eos_token_id": DEFAULT}, None, 0, f"{DEFAULT} in config.json;"),
    "an ordinary token in config.json": ({"eos_token_id": EXTRA}, None, 0, f"{EXTRA} in config.json;"),
    "config.json alone is wrong": ({"eos_token_id": EXTRA}, {"eos_token_id": 0}, 0, f"{EXTRA} in config.json;"),
    "beyond the vocabulary": ({}, {"eos_token_id": [0, 5000]}, 0, "5000"),
    "settings without effect": ({}, {"temperature": 0.7, "length_penalty": 2.0}, 0, "temperature 0.7: no effect"),
    "older settings": ({"do_sample": True, "top_k": 40}, None, 0, None),
}


@pytest.mark.parametrize("config, generation, ends, note", CASES.values(), ids=CASES)
def test_what_was_converted_passes_our_own_check(source, tmp_path, config, generation, ends, note):
    done = convert(str(source(config, generation)), tmp_path / "ours")
    findings = {one.name: one for one in look_at_files(ModelFolder.read(tmp_path / "ours"))}
    assert [findings[name].status for name in ("generation config", "tokenizer")] == ["ok", "ok"], findings
    assert findings["generation config"].detail == f"stops at token {ends}"
    saved = json.loads((tmp_path / "ours" / "config.json").read_text())
    assert (saved["eos_token_id"], saved["bos_token_id"], saved["pad_token_id"]) == (ends, 0, 1)
    assert bool(done.notes) == bool(note) and all(one.endswith(".") for one in done.notes)
    assert note is None or any(note in one for one in done.notes), done.notes


def test_the_command_says_what_it_resolved(source, tmp_path, capsys):
    folder = source({}, {"eos_token_id": [0, EXTRA]})
    assert main(["convert", str(folder), str(tmp_path / "ours")]) == 0
    line = f"note: eos_token_id was 0 in config.json; it is [0, {EXTRA}] now, in all files."
    assert line in capsys.readouterr().err.splitlines()


def test_settings_of_older_folders_are_carried_over(source, tmp_path):
    convert(str(source({"do_sample": True, "top_k": 40}, None)), tmp_path / "ours")
    carried = GenerationConfig.from_pretrained(tmp_path / "ours")
    assert (carried.do_sample, carried.top_k) == (True, 40)


def test_older_settings_that_fail_are_one_sentence(source, tmp_path):
    with pytest.raises(InputError, match="config.json has settings of generation that fail"):
        convert(str(source({"max_new_tokens": -1}, None)), tmp_path / "ours")


def test_special_tokens_that_fail_without_a_folder_are_one_sentence():
    config = SimpleNamespace(bos_token_id=0, eos_token_id=0, pad_token_id="one")
    with pytest.raises(InputError, match="The configuration has settings of generation that fail"):
        generation_config(None, config)


def test_padding_that_the_tokenizer_lacks_stays(source, tmp_path):
    folder = source({"pad_token_id": 1}, None)
    settings = json.loads((folder / "tokenizer_config.json").read_text())
    (folder / "tokenizer_config.json").write_text(json.dumps({**settings, "pad_token": None}))
    done = convert(str(folder), tmp_path / "ours")
    assert done.notes == () and AutoTokenizer.from_pretrained(tmp_path / "ours").pad_token == "<|pad|>"
    assert json.loads((tmp_path / "ours" / "config.json").read_text())["pad_token_id"] == 1


@pytest.mark.parametrize("generation", [{"eos_token_id": [0, EXTRA]}, {"eos_token_id": EXTRA}, None])
def test_everything_ends_where_generate_ends(source, tmp_path, generation):
    """With a model that writes one and the same token after anything."""
    folder = source({"eos_token_id": 0 if generation else DEFAULT}, generation)
    model, tokenizer = load(folder)
    expected = {0, *([EXTRA] if generation else [])}

    def always(token):
        """The model's answer to anything, by the bias of a head that sees nothing else."""
        model.transformer.ln_f.weight.data.zero_()
        model.transformer.ln_f.bias.data.copy_(model.lm_head.weight[token] * 100)

    prompt = tokenizer("few words", return_tensors="pt")["input_ids"]
    for token in (0, EXTRA, EXTRA + 1):
        always(token)
        is_end = token in expected
        plain = model.generate(prompt, max_new_tokens=3, do_sample=False)[0, prompt.shape[1] :].tolist()
        assert plain == ([token] if is_end else [token] * 3)
        assert list(sample(model, prompt, 3, temperature=0)) == ([] if is_end else [token] * 3)
        [row] = complete_prompts(model, prompt.tolist(), 3)
        assert row.finish_reason == ("stop" if is_end else "length")
        assert bool("".join(stream_text(model, tokenizer, "few words", 3, temperature=0))) == (not is_end)


def test_the_tokenizers_end_counts_without_load(source, tmp_path):
    """A model whose settings name another end, given together with its tokenizer."""
    model, tokenizer = load(source({}, {"eos_token_id": EXTRA}))
    model.generation_config.eos_token_id = EXTRA
    model.transformer.ln_f.weight.data.zero_()
    model.transformer.ln_f.bias.data.copy_(model.lm_head.weight[0] * 100)
    prompt = tokenizer("few words", return_tensors="pt")["input_ids"]
    assert list(sample(model, prompt, 3, temperature=0)) == [0, 0, 0]
    assert list(sample(model, prompt, 3, temperature=0, tokenizer=tokenizer)) == []
    [row] = complete_prompts(model, prompt.tolist(), 3, tokenizer=tokenizer)
    assert row.finish_reason == "stop"


def test_training_keeps_the_ends_of_its_base_and_the_tokenizers(source, tmp_path):
    folder, out = source({}, {"eos_token_id": EXTRA}), tmp_path / "ours"
    convert(str(folder), out)
    for options, ends in (({}, [EXTRA, 0]), ({"tokenizer_name": str(folder)}, 0)):
        args = InstructArguments(model_name_or_path=str(out), **options)
        tokenizer = make_tokenizer(args, [])
        model = make_model(args, tokenizer)
        assert model.config.eos_token_id == model.generation_config.eos_token_id == ends
        assert model.generation_config.bos_token_id == 0
    check_base(str(out), tokenizer)  # an adapter alone stops, too
    for name in ("config.json", FILE):
        settings = json.loads((out / name).read_text())
        (out / name).write_text(json.dumps({**settings, "eos_token_id": EXTRA}))
    with pytest.raises(UsageError, match="different EOS tokens"):
        check_base(str(out), tokenizer)


def test_the_modelfile_stops_at_every_end(source, tmp_path):
    gguf = pytest.importorskip("gguf", reason="pip install -e '.[convert]'")
    from hf_gpt_scratch.conversion.gguf import export_gguf

    folder = source({}, {})
    end = AutoTokenizer.from_pretrained(folder).convert_tokens_to_ids("<|end|>")
    (folder / FILE).write_text(json.dumps({"eos_token_id": [0, end, EXTRA]}))
    convert(str(folder), tmp_path / "ours")
    done = export_gguf(str(tmp_path / "ours"), tmp_path / "out")
    stops = re.findall(r"PARAMETER stop (.*)", (tmp_path / "out" / "Modelfile").read_text())
    ordinary = AutoTokenizer.from_pretrained(folder).decode([EXTRA])
    assert [json.loads(stop) for stop in stops] == ["<|endoftext|>", "<|end|>", ordinary]
    fields = gguf.GGUFReader(done.path).fields
    assert fields["tokenizer.ggml.eos_token_id"].contents() == 0
    assert fields["tokenizer.ggml.eot_token_id"].contents() == end
    convert(str(done.path), tmp_path / "back")
    assert json.loads((tmp_path / "back" / "config.json").read_text())["eos_token_id"] == [0, end]


def test_an_export_keeps_the_ends(source, tmp_path):
    convert(str(source({}, {"eos_token_id": [0, EXTRA]})), tmp_path / "ours")
    export(str(tmp_path / "ours"), tmp_path / "back")
    for name in ("config.json", FILE):
        assert json.loads((tmp_path / "back" / name).read_text())["eos_token_id"] == [0, EXTRA]
