import io
import json
import os
import pty
import re
import subprocess
import sys
from importlib.metadata import version
from pathlib import Path

import pytest
import torch
from peft import LoraConfig, get_peft_model
from safetensors.torch import load_file, save_file
from transformers import (
    AutoModelForSequenceClassification,
    AutoTokenizer,
    GenerationConfig,
    GPT2Config,
    GPT2LMHeadModel,
)

from hf_gpt_scratch import GPTScratchForCausalLM, GPTScratchForSequenceClassification
from hf_gpt_scratch.cli import main
from hf_gpt_scratch.tokenizer import train_tokenizer

SCRIPT = Path(sys.executable).with_name("hf-gpt-scratch")
USING = "Using cpu, float32.\n"  # on stderr, once a model is loaded
MESSAGES = ["Win a prize now! ☃", "see you at home", "ok 😀"]


@pytest.fixture
def models(tiny_config, tmp_path, monkeypatch) -> None:
    """In the current folder, the models `classifier`, `lm` and `stock`, and some files that are none."""
    monkeypatch.chdir(tmp_path)
    tokenizer = train_tokenizer(["win a prize", "see you at home"] * 5, 270, model_max_length=64)
    # Weights wide enough that the probabilities lie wide apart
    tiny_config.vocab_size, tiny_config.pad_token_id, tiny_config.initializer_range = len(tokenizer), 1, 0.5
    tiny_config.id2label, tiny_config.label2id = {0: "ham", 1: "spam"}, {"ham": 0, "spam": 1}
    torch.manual_seed(0)
    for name, model_class in (("classifier", GPTScratchForSequenceClassification), ("lm", GPTScratchForCausalLM)):
        model_class(tiny_config).save_pretrained(name)
        tokenizer.save_pretrained(name)
    GPT2LMHeadModel(GPT2Config(vocab_size=100, n_positions=64, n_embd=32, n_layer=2, n_head=4)).save_pretrained(
        "stock"
    )
    Path("empty folder").mkdir()
    Path("messages.txt").write_text("hello\n")
    Path("latin1.txt").write_bytes(b"hello\ncaf\xe9\n")


@pytest.fixture
def run(models, capsys):
    """Runs a command in the folder of the models; returns its exit status, what it printed and what it complained."""

    def run(*args: str) -> tuple[int, str, str]:
        capsys.readouterr()  # what making the models printed
        try:
            status = main(list(args))
        except SystemExit as bad_usage:
            status = bad_usage.code
        return status, *capsys.readouterr()

    return run


def predict(text: str) -> float:
    """The probability of spam, the long way."""
    ids = AutoTokenizer.from_pretrained("classifier")(text)["input_ids"][:64]
    with torch.no_grad():
        logits = AutoModelForSequenceClassification.from_pretrained("classifier")(torch.tensor([ids])).logits
    return logits.softmax(-1)[0, 1].item()


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
    assert (status, said) == (0, "")
    assert printed.startswith("Converted stock (stock transformers GPT-2) into ours.\nIts logits differ by at most ")
    assert json.loads(Path("ours/conversion.json").read_text())["max_logit_difference"] < 1e-5
    assert run("export", "ours", "back", "--to", "hf-gpt2") == (0, "Exported ours as hf-gpt2 into back.\n", "")
    there, back = (load_file(f"{folder}/model.safetensors") for folder in ("stock", "back"))
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


@pytest.mark.parametrize("where", ["arguments", "file", "stdin"])
@pytest.mark.parametrize("batch_size", ["2", "32"])
def test_classify_prints_label_and_probability_of_each_message(run, monkeypatch, where, batch_size):
    # The file has the byte-order mark and the line ends of Windows.
    Path("messages.txt").write_bytes(b"\xef\xbb\xbf" + "\r\n".join(MESSAGES).encode())
    monkeypatch.setattr(sys, "stdin", io.StringIO("\n".join(MESSAGES)))
    options = {"arguments": MESSAGES, "file": ["--file", "messages.txt"], "stdin": []}[where]
    status, printed, _ = run("classify", "classifier", *options, "--batch-size", batch_size)
    assert status == 0
    expected = [(message, predict(message)) for message in MESSAGES]
    assert len({probability > 0.5 for _, probability in expected}) == 2  # both labels occur
    assert printed.splitlines() == [f"{'spam' if p > 0.5 else 'ham'}\t{p:.4f}\t{text}" for text, p in expected]


def test_classify_complains_of_nothing_when_all_is_well(run):
    assert run("classify", "classifier", *MESSAGES)[2] == USING


def test_classify_prints_json_lines(run):
    status, printed, _ = run("classify", "classifier", *MESSAGES, "--json")
    assert status == 0
    for message, line in zip(MESSAGES, printed.splitlines(), strict=True):
        record, probability = json.loads(line), predict(message)
        assert record.pop("probability") == pytest.approx(probability, abs=1e-5)
        label = "spam" if probability > 0.5 else "ham"
        assert record == {"text": message, "label": label, "threshold": 0.5, "truncated": False}


def test_stream_prints_a_line_for_each_word(run):
    status, printed, _ = run("classify", "classifier", MESSAGES[0], "--stream")
    *words, verdict = printed.splitlines()
    assert status == 0
    assert [line.split()[-1] for line in words] == MESSAGES[0].split()
    assert words[-1].split()[0] == f"{predict(MESSAGES[0]):.1%}"
    assert verdict.endswith(MESSAGES[0])


@pytest.mark.parametrize(
    "message", [*MESSAGES, "  see   you\tat home ", "z q " * 50], ids=lambda text: repr(text[:20])
)
def test_probability_after_a_word_is_that_of_the_message_up_to_there(run, message):
    status, printed, _ = run("classify", "classifier", message, "--stream", "--json")
    assert status == 0
    record = json.loads(printed)
    words = list(re.finditer(r"\S+", message))[: len(record["words"])]
    assert [word["word"] for word in record["words"]] == [word.group() for word in words]
    expected = [predict(message[: word.end()].strip()) for word in words]
    assert [word["probability"] for word in record["words"]] == pytest.approx(expected, abs=1e-5)
    assert record["words"][-1]["probability"] == pytest.approx(record["probability"], abs=1e-5)
    assert record["truncated"] or len(words) == len(message.split())


def test_message_longer_than_the_model_reads_is_noted(run):
    status, printed, said = run("classify", "classifier", "see you", "z " * 80, "--json")
    assert status == 0
    assert said.splitlines()[-1] == "note: message 2 is longer than 64 tokens; only those were read."
    short, long = map(json.loads, printed.splitlines())
    assert (short["truncated"], long["truncated"]) == (False, True)
    assert long["probability"] == pytest.approx(predict(("z " * 80).strip()), abs=1e-5)


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
    "file is not UTF-8": (["classify", "classifier", "--file", "latin1.txt"], None, "latin1.txt is not UTF-8"),
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


def test_a_fault_in_a_file_is_told_before_any_result(run):
    Path("none.txt").touch()
    for file, complaint in {"latin1.txt": "latin1.txt is not UTF-8", "none.txt": "none.txt is empty"}.items():
        status, printed, said = run("classify", "classifier", "--file", file)
        assert (status, printed) == (1, "") and complaint in said


@pytest.mark.parametrize("batch_size", ["1", "32"])
@pytest.mark.parametrize("where", ["file", "stdin"])
def test_an_empty_line_keeps_its_place(run, monkeypatch, where, batch_size):
    lines = ["", *MESSAGES[:2], " \t", "", MESSAGES[2], ""]
    Path("gaps.txt").write_text("\n".join([*lines, ""]))
    options = [*(["--file", "gaps.txt"] if where == "file" else []), "--batch-size", batch_size]
    monkeypatch.setattr(sys, "stdin", io.StringIO("\n".join([*lines, ""])))
    status, printed, said = run("classify", "classifier", *options)
    texts = [line.split("\t", 2)[2] for line in printed.splitlines()]
    assert (status, texts) == (0, ["", *MESSAGES[:2], "", "", MESSAGES[2], ""])
    assert [line for line in printed.splitlines() if line.startswith("-")] == ["-\t-\t"] * 4
    assert said == USING + "note: 4 empty lines were not classified.\n"
    monkeypatch.setattr(sys, "stdin", io.StringIO("\nhello\n"))
    empty, full = map(json.loads, run("classify", "classifier", "--json", "--stream")[1].splitlines())
    assert empty == {**full, "text": "", "label": None, "probability": None, "words": []}


def test_a_message_without_quotes_is_one(run):
    status, printed, said = run("classify", "classifier", "win", "a", "prize")
    assert (status, printed) == (0, run("classify", "classifier", "win a prize")[1])
    assert said.splitlines()[1].startswith("note: read as one message: 'win a prize'.")
    assert len(run("classify", "classifier", "win a prize", "hello")[1].splitlines()) == 2


def test_a_label_that_the_calibrated_threshold_decides_is_explained(run):
    probabilities = {text: predict(text) for text in MESSAGES}
    spam = [text for text, probability in probabilities.items() if probability > 0.5]
    threshold = max(probabilities.values()) + 0.001
    config = json.loads(Path("classifier/config.json").read_text())
    Path("classifier/config.json").write_text(json.dumps(config | {"calibration": {"threshold": threshold}}))
    status, printed, said = run("classify", "classifier", *MESSAGES)
    assert status == 0 and {line.split("\t")[0] for line in printed.splitlines()} == {"ham"}
    assert said.splitlines()[1:] == [
        f"note: ham: {probabilities[text]:.4g} is below the threshold {threshold:.4g} of the calibration."
        for text in spam
    ]
    Path("messages.txt").write_text("\n".join([spam[0]] * 3))
    said = run("classify", "classifier", "--file", "messages.txt")[2]
    assert said.splitlines()[1:] == [
        f"note: 3 messages have probabilities between 0.5 and the threshold {threshold:.4g} of the calibration."
    ]


def test_version_is_the_installed_one(capsys):
    with pytest.raises(SystemExit):
        main(["--version"])
    assert capsys.readouterr().out == f"hf-gpt-scratch {version('hf_gpt_scratch')}\n"


@pytest.mark.parametrize("order", [["classifier", "--json", "hello"], ["--json", "classifier", "hello"]])
def test_options_may_stand_anywhere(run, order):
    status, printed, _ = run("classify", *order)
    assert (status, json.loads(printed)["text"]) == (0, "hello")


def test_messages_twice_over_are_bad_usage(run):
    status, printed, said = run("classify", "classifier", "hello", "--file", "messages.txt")
    assert (status, printed) == (2, "")
    assert "not both" in said


def test_the_package_runs_as_a_module():
    done = subprocess.run([sys.executable, "-m", "hf_gpt_scratch", "--version"], capture_output=True, text=True)
    assert done.stdout == f"hf-gpt-scratch {version('hf_gpt_scratch')}\n"
    code = "import atexit, sys; atexit.register(lambda: print('torch' in sys.modules)); import runpy; "
    code += "sys.orig_argv = ['python', '-m', 'hf_gpt_scratch', '--help']; sys.argv = ['-m', '--help']; "
    code += "import hf_gpt_scratch; runpy.run_module('hf_gpt_scratch', run_name='__main__')"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert done.stdout.startswith("usage: ") and done.stdout.endswith("\nFalse\n"), done.stderr


def installed_command(*args: str, stdin: str = "") -> subprocess.CompletedProcess:
    return subprocess.run([SCRIPT, *args], input=stdin, capture_output=True, text=True)


def test_a_message_typed_in_is_answered_at_once(models):
    keyboard, terminal = pty.openpty()
    command = [SCRIPT, "classify", "classifier"]
    with subprocess.Popen(
        command, stdin=terminal, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    ) as process:
        for text in ("hello", "win a prize"):
            os.write(keyboard, f"{text}\n".encode())
            assert process.stdout.readline().endswith(f"\t{text}\n")
        os.write(keyboard, b"\x04")  # Ctrl-D
        assert process.stderr.read() == USING + "Type a message a line; Ctrl-D ends.\n"
    assert process.returncode == 0


def test_installed_command_classifies_its_input(models):
    done = installed_command("classify", "classifier", "--json", stdin="\n".join(MESSAGES))
    assert done.returncode == 0
    assert [json.loads(line)["text"] for line in done.stdout.splitlines()] == MESSAGES


def test_installed_command_fails_with_one_sentence(models):
    done = installed_command("classify", "empty folder", "hello")
    assert (done.returncode, done.stdout) == (1, "")
    assert done.stderr == "error: empty folder is not a model folder: it has no config.json.\n"
