"""The command line: usage, conversion, export, generation, and failures that end in one sentence."""

import io
import json
import re
import subprocess
import sys
from importlib.metadata import version
from pathlib import Path

import pytest
import torch
from peft import LoraConfig, get_peft_model
from safetensors.torch import load_file, save_file
from transformers import AutoTokenizer, GenerationConfig, GPT2LMHeadModel

from hf_gpt_scratch import GPTScratchForCausalLM
from hf_gpt_scratch.cli import main
from support.commands import USING


@pytest.mark.parametrize(
    "args",
    [
        [],
        ["classify"],
        ["convert", "stock"],
        ["nonsense"],
        ["export", "lm", "out"],
        ["generate", "lm", "--top-p", "2"],
    ],
)
def test_bad_usage_ends_with_status_2(run, args):
    status, printed, said = run(*args)
    assert (status, printed) == (2, "")
    assert said.startswith("usage: ")


def test_help_names_the_commands(run):
    status, printed, _ = run("--help")
    assert status == 0
    assert all(command in printed for command in ("convert", "export", "generate", "classify"))


def test_convert_and_export_make_their_folders(run):
    status, printed, said = run("convert", "stock", "ours")
    notes = ("eos_token_id was 50256", "bos_token_id was 50256", "there is no tokenizer")  # beyond its 100 tokens
    assert status == 0 and all(f"note: {note}" in line for note, line in zip(notes, said.splitlines(), strict=True))
    assert printed.startswith("Converted stock (stock transformers GPT-2) into ours.\nIts logits differ by at most ")
    assert json.loads(Path("ours/conversion.json").read_text())["max_logit_difference"] < 1e-5
    assert run("export", "ours", "back", "--to", "hf-gpt2") == (0, "Exported ours as hf-gpt2 into back.\n", "")
    there, back = (load_file(f"{folder}/model.safetensors") for folder in ("stock", "back"))
    there = {key.removeprefix("transformer."): tensor for key, tensor in there.items()}  # as GPT-2's own file has
    assert set(there) == set(back)
    assert all(torch.equal(there[key], back[key]) for key in there)


def test_export_to_gguf_tells_what_it_costs(run):
    Path("text.txt").write_text("see you at home, win a prize. " * 30)
    options = ["--to", "gguf", "--dtype", "q8_0", "--perplexity-text", "text.txt"]
    status, printed, _ = run("export", "lm", "out", *options)
    assert status == 0
    assert {"model.gguf", "Modelfile", "conversion.json"} == {path.name for path in Path("out").iterdir()}
    assert re.search(
        r"differ by at most \S+ from .*\nPerplexity on text.txt: [\d.]+ before, [\d.]+ after\.\n", printed
    )


def test_export_of_a_merged_adapter(run):
    torch.manual_seed(0)
    model = get_peft_model(GPTScratchForCausalLM.from_pretrained("lm"), LoraConfig(target_modules=["q_proj"]))
    torch.nn.init.normal_(model.base_model.model.transformer.h[0].attn.q_proj.lora_B["default"].weight)
    model.save_pretrained("adapter")
    AutoTokenizer.from_pretrained("lm").save_pretrained("adapter")
    GenerationConfig(max_new_tokens=7).save_pretrained("adapter")
    ids = torch.tensor([[5, 6, 7]])
    for out, words in {"merged": ["lm", "--adapter", "adapter"], "from-adapter": ["adapter"]}.items():
        assert run("export", words[0], out, "--to", "hf-gpt2", *words[1:])[0] == 0
        merged = GPT2LMHeadModel.from_pretrained(out).eval()
        torch.testing.assert_close(merged(ids).logits, model.eval()(ids).logits, atol=1e-5, rtol=1e-4)
        assert merged.generation_config.max_new_tokens == 7 and Path(out, "tokenizer.json").is_file()


@pytest.mark.parametrize("folder", ["lm", "stock-with-tokenizer"])
def test_generate_goes_on_from_the_prompt(run, folder):
    run("export", "lm", "stock-with-tokenizer", "--to", "hf-gpt2")
    options = ["--prompt", "see you", "--max-new-tokens", "8", "--temperature", "0"]
    status, printed, said = run("generate", folder, *options)
    tokenizer, model = AutoTokenizer.from_pretrained("lm"), GPTScratchForCausalLM.from_pretrained("lm")
    ids = model.generate(**tokenizer("see you", return_tensors="pt"), max_new_tokens=8, do_sample=False)
    assert (status, printed, said) == (0, tokenizer.decode(ids[0], skip_special_tokens=True) + "\n", USING)


def test_generate_keeps_to_the_repetition_penalty_that_the_model_was_saved_with(run):
    command = ["generate", "lm", "--prompt", "see you", "--temperature", "0"]
    plain, asked = run(*command)[1], run(*command, "--repetition-penalty", "3")[1]
    GenerationConfig(repetition_penalty=3.0).save_pretrained("lm")
    assert run(*command)[1] == asked != plain == run(*command, "--repetition-penalty", "1")[1]


def test_generate_uses_the_saved_settings_unless_an_option_overrides_them(run):
    command = ["generate", "lm", "--prompt", "see you", "--seed", "1"]
    greedy = run(*command, "--temperature", "0")[1]
    sampled = {seed: run(*command, "--seed", seed, "--temperature", "2", "--top-k", "5")[1] for seed in "12"}
    assert sampled["1"] != sampled["2"]
    GenerationConfig(do_sample=True, temperature=2.0, top_k=5, max_new_tokens=4).save_pretrained("lm")
    assert all(text.startswith(run(*command, "--seed", seed)[1].rstrip("\n")) for seed, text in sampled.items())
    assert run(*command, "--temperature", "0", "--max-new-tokens", "100")[1] == greedy
    GenerationConfig(do_sample=False).save_pretrained("lm")
    assert run(*command)[1] == greedy
    prompt = AutoTokenizer.from_pretrained("lm")("see you", return_tensors="pt")
    ids = GPTScratchForCausalLM.from_pretrained("lm").generate(**prompt, do_sample=False, max_new_tokens=8)[0]
    GenerationConfig(do_sample=False, eos_token_id=[0, int(ids[-1])]).save_pretrained("lm")
    assert len(run(*command)[1]) < len(greedy)


def test_generate_samples_the_same_from_the_same_seed(run):
    first, again, other = (run("generate", "lm", "--top-k", "0", "--seed", seed)[1] for seed in "112")
    assert first == again != other


def test_generate_stops_where_the_model_is_full(run):
    status, printed, _ = run("generate", "lm", "--max-new-tokens", "1000", "--seed", "1")
    assert status == 0
    assert len(AutoTokenizer.from_pretrained("lm")(printed)["input_ids"]) <= 66  # 64, and the end of the line


def remove(name: str):
    return lambda: Path(name).unlink()


def cut_weights_short() -> None:
    for weights in Path().glob("*/model.safetensors"):
        weights.write_bytes(weights.read_bytes()[:-1000])


def lose_the_head() -> None:
    tensors = load_file("classifier/model.safetensors")
    del tensors["score.weight"]
    save_file(tensors, "classifier/model.safetensors", {"format": "pt"})


FAILURES = {
    "empty message": (["classify", "classifier", ""], None, "message is empty"),
    "blank message": (["classify", "classifier", "hello", " \t"], None, "message is empty"),
    "file is cut": (["classify", "classifier", "--file", "cut.txt"], None, "cut.txt is not UTF-16 text"),
    "no such file": (["classify", "classifier", "--file", "nowhere.txt"], None, "nowhere.txt"),
    "classify: no such folder": (["classify", "nowhere", "hello"], None, "There is no model folder 'nowhere'"),
    "classify: no model": (["classify", "empty folder", "hello"], None, "empty folder is not a model folder"),
    "classify: a file": (["classify", "messages.txt", "hello"], None, "messages.txt"),
    "classify: a language model": (["classify", "lm", "hello"], None, "`hf-gpt-scratch generate lm`"),
    "classify: a stock GPT-2": (["classify", "stock", "hello"], None, "stock holds a language model"),
    "classify: truncated": (["classify", "classifier", "hello"], cut_weights_short, "weights in classifier"),
    "classify: no weights": (
        ["classify", "classifier", "hello"],
        remove("classifier/model.safetensors"),
        "weights in",
    ),
    "classify: a weight missing": (["classify", "classifier", "hello"], lose_the_head, "score.weight"),
    "classify: no tokenizer": (
        ["classify", "classifier", "hello"],
        remove("classifier/tokenizer.json"),
        "no tokenizer",
    ),
    "convert: no such folder": (["convert", "nowhere", "out"], None, "nowhere is neither"),
    "generate: no language model": (
        ["generate", "classifier"],
        None,
        "classifier holds a classifier, not a language model: use `hf-gpt-scratch classify classifier`",
    ),
    "generate: prompt too long": (["generate", "lm", "--prompt", "x " * 40], None, "the model reads at most 64"),
    "convert: no model": (["convert", "empty folder", "out"], None, "empty folder is not a model folder"),
    "convert: not a GPT-2": (["convert", "lm", "out"], None, "already a model of this package"),
    "convert: truncated": (["convert", "stock", "out"], cut_weights_short, "cut short"),
    "convert: folder is there": (["convert", "stock", "lm"], None, "lm already exists"),
    "export: no such folder": (["export", "nowhere", "out", "--to", "hf-gpt2"], None, "nowhere is neither"),
    "export: no model": (
        ["export", "empty folder", "out", "--to", "hf-gpt2"],
        None,
        "empty folder is not a model folder",
    ),
    "export: truncated": (["export", "lm", "out", "--to", "hf-gpt2"], cut_weights_short, "cut short"),
}


@pytest.mark.parametrize("args, damage, complaint", FAILURES.values(), ids=FAILURES)
def test_failure_ends_with_status_1_and_one_sentence(run, monkeypatch, args, damage, complaint):
    monkeypatch.setattr(sys, "stdin", io.StringIO("\n"))
    if damage:
        damage()
    status, printed, said = run(*args)
    said = said.removeprefix(USING)
    assert (status, printed) == (1, "")
    assert said.startswith("error: ")
    assert said.count("\n") == 1
    assert complaint in said
    assert not Path("out").exists()


def test_version_is_the_installed_one(capsys):
    with pytest.raises(SystemExit):
        main(["--version"])
    assert capsys.readouterr().out == f"hf-gpt-scratch {version('hf_gpt_scratch')}\n"


def test_the_package_runs_as_a_module():
    done = subprocess.run([sys.executable, "-m", "hf_gpt_scratch", "--version"], capture_output=True, text=True)
    assert done.stdout == f"hf-gpt-scratch {version('hf_gpt_scratch')}\n"
    code = "import atexit, sys; atexit.register(lambda: print('torch' in sys.modules)); import runpy; "
    code += "sys.orig_argv = ['python', '-m', 'hf_gpt_scratch', '--help']; sys.argv = ['-m', '--help']; "
    code += "import hf_gpt_scratch; runpy.run_module('hf_gpt_scratch', run_name='__main__')"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert done.stdout.startswith("usage: ") and done.stdout.endswith("\nFalse\n"), done.stderr
