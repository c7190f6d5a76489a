import pytest
import torch
from transformers import HfArgumentParser, TrainingArguments

from hf_gpt_scratch.training.arguments import ScratchTrainingArguments, parse_yaml_and_args
from hf_gpt_scratch.training.resuming import resume_checkpoint
from hf_gpt_scratch.utils.errors import InputError, UsageError


@pytest.fixture
def parse(tmp_path):
    """Parses a YAML text, or none, and options after it, into ScratchTrainingArguments."""

    def parse(yaml: str | bytes | None, *options: str) -> ScratchTrainingArguments:
        argv = list(options)
        if yaml is not None:
            path = tmp_path / "config.yaml"
            path.write_bytes(yaml if isinstance(yaml, bytes) else yaml.encode())
            argv = [str(path), *argv]
        return parse_yaml_and_args(HfArgumentParser(ScratchTrainingArguments), argv)[0]

    return parse


def test_options_override_the_yaml_which_overrides_the_defaults(parse):
    args = parse("output_dir: from_yaml\nlearning_rate: 5e-4\nseed: 7\nmax_grad_norm:\n", "--seed", "8")
    assert (args.output_dir, args.learning_rate, args.seed) == ("from_yaml", 5e-4, 8)
    assert args.max_grad_norm == 1.0  # a key without a value leaves the default
    assert args.weight_decay == 0.1


def test_without_evaluation_no_checkpoint_is_the_best(parse):
    assert parse(None, "--output_dir", "out").load_best_model_at_end
    assert not parse("output_dir: out\neval_strategy: 'no'\n").load_best_model_at_end


def test_options_need_no_yaml(parse):
    args = parse(None, "--output_dir", "out", "--learning_rate", "0.01")
    assert (args.output_dir, args.learning_rate, args.seed) == ("out", 0.01, 123)


@pytest.mark.parametrize(
    "line, name, value",
    [
        ("load_best_model_at_end: false", "load_best_model_at_end", False),
        ("max_steps: -1", "max_steps", -1),
        ("label_names: [labels, weights]", "label_names", ["labels", "weights"]),
        ("lr_scheduler_kwargs: {num_cycles: 2}", "lr_scheduler_kwargs", {"num_cycles": 2}),
    ],
)
def test_yaml_values_keep_their_meaning(parse, line, name, value):
    assert getattr(parse(f"output_dir: out\n{line}\n"), name) == value


@pytest.mark.parametrize(
    "line, name, value",
    [
        ("eval_strategy: no", "eval_strategy", "no"),
        ("eval_strategy: No", "eval_strategy", "no"),
        ("save_strategy: off", "save_strategy", "no"),
        ("logging_strategy: no", "logging_strategy", "no"),
        ("eval_strategy: false", "eval_strategy", "no"),
        ("load_best_model_at_end: off", "load_best_model_at_end", False),
        ("overwrite_output_dir: on", "overwrite_output_dir", True),
        ("verbose: Yes", "verbose", True),
        ("label_names: [yes, No, on]", "label_names", ["yes", "No", "on"]),
        ("lr_scheduler_kwargs: {nested: no}", "lr_scheduler_kwargs", {"nested": False}),
    ],
)
def test_yaml_words_are_words_where_the_option_takes_words(parse, line, name, value):
    found = getattr(parse(f"output_dir: out\nload_best_model_at_end: false\n{line}\n"), name)
    assert getattr(found, "value", found) == value


@pytest.mark.parametrize("word", ["no", "yes", "on", "off", "true", "null"])
def test_words_of_the_jobs_own_options(word, tmp_path):
    from hf_gpt_scratch.training import classify, pretrain

    path, words = tmp_path / "config.yaml", ["--output_dir", "out", "--use_cpu", "true"]
    path.write_text(f"streaming: {word}\n")
    expected = {"on": "yes", "true": "yes", "off": "no", "null": "auto"}.get(word, word)
    assert parse_yaml_and_args(pretrain.make_parser(), [str(path), *words])[0].streaming == expected
    path.write_text(f"outside_labels: [{word}]\nclass_weights: {'none' if word == 'no' else 'null'}\n")
    args = parse_yaml_and_args(classify.make_parser(), [str(path), *words])[0]
    assert args.class_weights == "none"
    if word != "null":
        assert args.outside_labels == [word]


@pytest.mark.parametrize("word", ["true", "yes"])
def test_yaml_words_that_are_no_choice_are_refused(parse, word, capsys):
    with pytest.raises((UsageError, SystemExit)) as refusal:
        parse(f"output_dir: out\neval_strategy: {word}\n")
    said = capsys.readouterr().err if refusal.type is SystemExit else str(refusal.value)
    assert "eval_strategy" in said and "steps" in said and "epoch" in said


@pytest.mark.parametrize("word", ["no", "off", "false"])
def test_resuming_is_turned_off_in_a_yaml(parse, word):
    assert resume_checkpoint(parse(f"output_dir: out\nresume_from_checkpoint: {word}\n")) is None


@pytest.mark.parametrize(
    "yaml, complaint",
    [
        ("output_dir: out\nlerning_rate: 1\nsed: 2\n", "lerning_rate, sed"),
        ("output_dir: [out\n", "not valid YAML"),
        ("- output_dir\n", "key: value"),
        (b"output_dir: caf\xe9\n", "config.yaml"),
        ("seed: 1\n", "--output_dir"),
        ("output_dir: out\neval_strategy: steps\n", "load_best_model_at_end"),
    ],
    ids=["unknown keys", "invalid", "a list", "not UTF-8", "no output_dir", "contradiction"],
)
def test_wrong_yaml_is_refused(parse, yaml, complaint):
    with pytest.raises(InputError, match=complaint) as refusal:
        parse(yaml)
    assert "\n" not in str(refusal.value)


def test_missing_yaml_is_named():
    with pytest.raises(InputError, match="nowhere.yaml cannot be read"):
        parse_yaml_and_args(HfArgumentParser(ScratchTrainingArguments), ["nowhere.yaml"])


def test_unknown_option_is_named(parse):
    with pytest.raises(UsageError, match="--lerning_rate"):
        parse(None, "--output_dir", "out", "--lerning_rate", "1")


@pytest.mark.parametrize("option, value", [("--seed", "many"), ("--precision", "fp8")])
def test_wrong_value_ends_with_status_2(parse, capsys, option, value):
    with pytest.raises(SystemExit, match="2"):
        parse(None, "--output_dir", "out", option, value)
    assert option in capsys.readouterr().err


def precision_on(monkeypatch, capability: tuple[int, int] | None, **settings) -> tuple[bool, bool]:
    """fp16 and bf16 as set before TrainingArguments' own work, which would look for the GPU that is not there."""
    monkeypatch.setattr(torch.cuda, "is_available", lambda: capability is not None)
    monkeypatch.setattr(torch.cuda, "get_device_capability", lambda: capability)
    monkeypatch.setattr(TrainingArguments, "__post_init__", lambda self: None)
    args = ScratchTrainingArguments(output_dir="out", **settings)
    return args.fp16, args.bf16


FP32, FP16, BF16 = (False, False), (True, False), (False, True)


@pytest.mark.parametrize(
    "capability, expected", [(None, FP32), ((7, 5), FP16), ((8, 0), BF16), ((9, 0), BF16)], ids=str
)
def test_automatic_precision_suits_the_device(monkeypatch, capability, expected):
    assert precision_on(monkeypatch, capability) == expected


@pytest.mark.parametrize(
    "settings, expected",
    [
        ({"precision": "fp32"}, FP32),
        ({"precision": "fp16"}, FP16),
        ({"precision": "bf16"}, BF16),
        ({"fp16": True}, FP16),
    ],
)
def test_precision_asked_for_is_used(monkeypatch, settings, expected):
    assert precision_on(monkeypatch, (8, 0), **settings) == expected
