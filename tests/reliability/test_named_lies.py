"""Files that once ended in a traceback, or worse: each is read, or refused in one sentence."""

import json
import shutil
from pathlib import Path

import pytest
from safetensors.torch import load_file, save_file
from transformers.integrations.deepspeed import unset_hf_deepspeed_config

from hf_gpt_scratch import TextClassifier, load
from hf_gpt_scratch.data import sms_spam
from hf_gpt_scratch.evaluation.preference import Votes
from hf_gpt_scratch.evaluation.report import read_groups, report_text
from hf_gpt_scratch.hub.check import look_at_files
from hf_gpt_scratch.hub.model_card import make_card
from hf_gpt_scratch.model_folder.contents import ModelFolder
from hf_gpt_scratch.training import configs
from hf_gpt_scratch.training.arguments import parse_yaml_and_args
from hf_gpt_scratch.training.classify import make_parser
from hf_gpt_scratch.utils.errors import InputError
from hf_gpt_scratch.utils.files import write_json
from support.classifiers import save_classifier
from support.models import save_model


def refused(what, *args) -> str:
    """The sentence by which it is refused."""
    with pytest.raises(InputError) as refusal:
        what(*args)
    assert "\n" not in str(refusal.value)
    return str(refusal.value)


@pytest.fixture(scope="module")
def classifier(tmp_path_factory):
    return save_classifier(tmp_path_factory.mktemp("models") / "classifier", ("ham", "spam"))


@pytest.fixture(scope="module")
def writer(tmp_path_factory):
    return save_model(tmp_path_factory.mktemp("models") / "writer")


@pytest.fixture
def changed(tmp_path):
    """Makes a copy of a model's folder with other settings in a file."""

    def change(folder: Path, name: str = "config.json", **settings) -> Path:
        copied = shutil.copytree(folder, tmp_path / "changed")
        held = json.loads((folder / name).read_text())
        (copied / name).write_text(json.dumps(held | settings))
        return copied

    return change


def test_messages_with_tabs_are_read_and_split(tmp_path):
    path = tmp_path / "messages.tsv"
    path.write_text(
        "".join(f"{label}\tword{n}\tand {n * 7919} more\n" for n in range(20) for label in ("ham", "spam"))
    )
    messages = sms_spam.load_messages(path)
    assert messages.texts[0] == "word0\tand 0 more"
    assert sum(map(len, sms_spam.split(messages, "grouped", 1).values())) == 40
    assert "use --protocol grouped" in refused(sms_spam.split, messages, "book", 1)


CONFIGS = {
    "deep": "a: " + "[" * 5000,
    "deep mappings": "a: " + "{a: " * 5000,
    "infinite number of epochs": "num_train_epochs: .inf",
    "infinite whole number": "eval_steps: .inf\neval_strategy: steps",
    "no number": "learning_rate: .nan",
    "deepspeed: 0": "deepspeed: 0",
    "number of 5,000 digits": "seed: " + "9" * 5000,
    "impossible date": "run_name: 2024-13-45",
    "alias of itself": "data_file: &a [*a]",
    "billion laughs": "".join(f"a{n}: &a{n} [{', '.join([f'*a{n - 1}'] * 9) if n else 'x'}]\n" for n in range(12)),
    "list as a key": "{[a]: b}: c",
    "mapping as a key": "? {a: b}\n: c",
    "no whole number": "seed: !!int abc",
    "set": "data_file: !!set {a}",
    "code": "data_file: !!python/object/apply:os.system ['true']",
    "NUL": 'data_file: "\\0"',
    "half a character": 'data_file: "\\ud800"',
    "value tag": "=: 1",
}


@pytest.mark.parametrize("text", CONFIGS.values(), ids=CONFIGS)
def test_config_of_a_job(tmp_path, text):
    path = tmp_path / "mine.yaml"
    path.write_text(f"{text}\n")
    words = ["--config", str(path), "--output_dir", str(tmp_path / "out"), "--data_file", str(path)]

    for read in (
        lambda: parse_yaml_and_args(make_parser(), words, "classify"),
        lambda: configs.check_words(words, "classify"),
    ):
        try:
            refused(read)
        except SystemExit as ended:  # argparse's, after its sentence
            assert ended.code == 2
    unset_hf_deepspeed_config()


@pytest.mark.parametrize("option", ["data_file", "model_name_or_path"])
def test_a_name_that_is_too_long(tmp_path, option):
    words = ["--output_dir", str(tmp_path / "out"), f"--{option}", str(tmp_path / ("x" * 5000))]
    (tmp_path / "a.csv").write_text("text,label\nx,y\n")
    words += [] if option == "data_file" else ["--data_file", str(tmp_path / "a.csv")]
    assert "xxx" in refused(configs.check_words, words, "classify")


SIZES = {name: {name: 10**12} for name in ("n_layer", "n_embd", "n_positions", "vocab_size", "n_inner", "n_head")}


@pytest.mark.parametrize("sizes", SIZES.values(), ids=SIZES)
def test_huge_sizes_are_refused_before_memory_is_taken(classifier, changed, sizes):
    folder = changed(classifier, **sizes)
    refused(TextClassifier.from_pretrained, folder)
    try:
        findings = look_at_files(ModelFolder.read(folder))
    except InputError:
        return
    assert any(finding.status == "failed" for finding in findings)


QUANTIZED = (
    {"quant_method": "gptq", "bits": 4},
    {"quant_method": "bitsandbytes", "load_in_4bit": True},
    {},
    [],
    7,
    "x",
)


@pytest.mark.parametrize("quantization", QUANTIZED, ids=str)
def test_quantization_config(classifier, changed, quantization):
    folder = changed(classifier, quantization_config=quantization)
    refused(TextClassifier.from_pretrained, folder)


CALIBRATIONS = (
    *(3, "x", [1, 2], True, {"temperature": "hot"}, {"temperature": 0}, {"temperature": [1]}, {"shift": "x"}),
    *(
        {"threshold": {}},
        {"threshold": [0.1]},
        {"threshold": "x"},
        {"early": 3},
        {"early": {"0.9": 3}},
        {"early": {"x": {}}},
    ),
    *(
        {"outside_label": 3, "outside_threshold": "x"},
        {"outside_label": ["a"]},
        {"threshold": float("nan")},
        {"threshold": 10**400},
        {"unknown": 1},
    ),
)


@pytest.mark.parametrize("calibration", CALIBRATIONS, ids=str)
def test_calibration_of_another_type(classifier, changed, calibration):
    folder = changed(classifier, calibration=calibration)
    refused(lambda: list(TextClassifier.from_pretrained(folder).classify(["win a prize"], decide_at=0.9, words=True)))


@pytest.mark.parametrize("length", [{}, [], "x", None, -1, 10**400, float("nan")], ids=lambda value: str(value)[:9])
def test_model_max_length(writer, changed, length):
    folder = changed(writer, "tokenizer_config.json", model_max_length=length)
    try:
        load(folder)
    except InputError as refusal:
        assert "\n" not in str(refusal)


@pytest.mark.parametrize("value", [{}, [{}], "x", True, [[1]]], ids=str)
def test_a_special_token_that_is_none(writer, changed, value):
    folder = changed(writer, eos_token_id=value)
    try:
        findings = look_at_files(ModelFolder.read(folder))
    except InputError as refusal:
        assert "\n" not in str(refusal)
        return
    assert any("special token" in finding.detail for finding in findings if finding.status == "failed")


def test_a_tokenizer_that_panics(writer, changed):
    folder = changed(writer)
    tokenizer = json.loads((folder / "tokenizer.json").read_text())
    tokenizer["normalizer"] = {"type": "Precompiled", "precompiled_charsmap": "AAAA"}
    (folder / "tokenizer.json").write_text(json.dumps(tokenizer))
    assert "tokenizer" in refused(load, folder)


@pytest.mark.parametrize("name", ["../x.safetensors", "/tmp/x.safetensors", "..", "a\\b", "", "a\0b", "x" * 5000])
def test_an_index_that_points_outside(writer, changed, tmp_path, name):
    folder = changed(writer)
    (folder / "model.safetensors").rename(tmp_path / "x.safetensors")
    weights = ("transformer.wte.weight", "transformer.ln_f.weight")
    write_json(folder / "model.safetensors.index.json", {"weight_map": dict.fromkeys(weights, name)})
    refused(load, folder)
    refused(lambda: ModelFolder.read(folder).weight_files)


def test_weights_that_are_no_numbers(classifier, changed):
    folder = changed(classifier)
    weights = load_file(folder / "model.safetensors")
    save_file({name: tensor * float("nan") for name, tensor in weights.items()}, folder / "model.safetensors")
    for words in (False, True):
        found = TextClassifier.from_pretrained(folder).classify(["win a prize"], words=words)
        assert "its weights are damaged" in refused(list, found)


def test_a_record_with_a_number_that_no_float_can_be(classifier, changed):
    folder = changed(classifier)
    write_json(folder / "metrics.json", {"train_seconds": 10**400})
    assert "A record in" in refused(make_card, folder, "you/x")


@pytest.mark.parametrize("name", ["layer_norm_epsilon", "initializer_range"])
@pytest.mark.parametrize("value", [10**400, float("inf"), float("nan"), -1, "x"], ids=lambda value: str(value)[:9])
def test_an_epsilon_that_is_none(classifier, changed, name, value):
    assert name in refused(TextClassifier.from_pretrained, changed(classifier, **{name: value}))


@pytest.mark.parametrize("base", ["x" * 5000, "a/" + "x" * 300, "a\0b"])
def test_an_adapter_over_a_base_that_can_be_none(tmp_path, base):
    write_json(tmp_path / "adapter_config.json", {"base_model_name_or_path": base, "peft_type": "LORA"})
    refused(lambda: ModelFolder.read(tmp_path).base_folder)


def test_a_result_card_with_half_a_character(tmp_path, classifier, changed):
    folder = changed(classifier)
    card = {
        **{
            "version": 1,
            "task": "SMS \ud83d",
            "protocol": "x \ud83d",
            "command": "x",
            "seeds": [1],
            "environment": {},
        },
        **{"data": [{"source": "a\ud83d", "sha256": "0" * 64}], "baselines": {}, "predictions": None},
        "metrics": {"f1\ud83d": {"value": 0.5, "interval": None, "higher_is_better": True}},
    }
    (folder / "results").mkdir()
    (folder / "results/spam.json").write_text(json.dumps(card))
    for use in (
        lambda: report_text(read_groups([folder]), [""]).encode(),
        lambda: str(make_card(folder, "you/x")).encode(),
    ):
        refused(use)


@pytest.mark.parametrize(
    "change", ["UPDATE votes SET winner = 'C'", "UPDATE votes SET item = 'x'", "DROP TABLE votes"]
)
def test_votes(tmp_path, change):
    import sqlite3

    for name in ("a", "b"):
        write_json(tmp_path / f"{name}.json", [{"instruction": "x", "input": "", "model_response": name}])
    votes = Votes.open_or_create(tmp_path / "votes.sqlite", tmp_path / "a.json", tmp_path / "b.json", 1)
    votes.vote("ann", 0, "left")
    with sqlite3.connect(tmp_path / "votes.sqlite") as connection:
        connection.execute("PRAGMA ignore_check_constraints = 1")
        connection.execute(change)
    refused(votes.all)
