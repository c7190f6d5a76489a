"""The instruction script from its command line to the files it leaves, on tasks a tiny model learns in seconds."""

import json
import math
import shutil
from pathlib import Path

import pytest
import torch
from peft import AutoPeftModelForCausalLM
from PIL import Image
from safetensors.torch import load_file
from transformers import AutoModelForCausalLM, AutoTokenizer, GPT2Config, GPT2LMHeadModel

from hf_gpt_scratch import GPTScratchForCausalLM, cli
from hf_gpt_scratch.data import turns
from hf_gpt_scratch.data.conversations import load_conversations
from hf_gpt_scratch.data.losses import perplexities
from hf_gpt_scratch.evaluation.instruction import repetition_rate
from hf_gpt_scratch.model_folder.saving import replace_model
from hf_gpt_scratch.pretrained import load_pretrained
from hf_gpt_scratch.prompts import CHAT_TEMPLATE, render_prompt, user_message
from hf_gpt_scratch.tokenizer import load_tokenizer, train_tokenizer
from hf_gpt_scratch.training import configs, instruct
from hf_gpt_scratch.training.arguments import parse_yaml_and_args
from hf_gpt_scratch.utils.errors import InputError, UsageError

TRAINING = Path(__file__).parents[2] / "training"
COLOURS = ("red", "blue", "green", "black", "white", "grey")
THINGS = ("sky", "car", "hat", "pen", "cup", "box", "door", "coat", "bird", "fish")
KEYS = {"eval_loss", "perplexity", "response_perplexity", "stop_rate", "repetition_rate", "tokens_per_second"}
ROWS = [
    {"instruction": f"Say what the {thing} is.", "input": colour, "output": f"It is {colour}."}
    for thing in THINGS
    for colour in COLOURS
] + [{"instruction": f"Name the {thing}.", "input": "", "output": f"A {thing}."} for thing in THINGS]
SETTINGS = {
    "train_tokenizer": 330,
    "n_embd": 64,
    "n_layer": 2,
    "n_head": 2,
    "n_positions": 160,
    "dropout": 0.0,
    "num_train_epochs": 20,
    "per_device_train_batch_size": 8,
    "learning_rate": 3e-3,
    "max_new_tokens": 20,
    "save_strategy": "no",
    "load_best_model_at_end": False,
    "use_cpu": True,
    "disable_tqdm": True,
}
FROM_MODEL = {"train_tokenizer": None, "num_train_epochs": 1}


@pytest.fixture(scope="module")
def data_file(tmp_path_factory) -> Path:
    path = tmp_path_factory.mktemp("data") / "rows.json"
    path.write_text(json.dumps(ROWS))
    return path


@pytest.fixture(scope="module")
def run(data_file):
    """Runs the script into a folder, with `SETTINGS` changed, and returns its metrics."""

    def main(output_dir: Path, **changes) -> dict:
        settings = {"data_file": data_file, **SETTINGS, "output_dir": output_dir, **changes}
        return instruct.main(
            [word for key, value in settings.items() if value is not None for word in (f"--{key}", str(value))]
        )

    return main


@pytest.fixture(scope="module")
def trained(run, tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("trained")
    run(folder)
    return folder


def logits(model) -> torch.Tensor:
    with torch.no_grad():
        return model.eval()(torch.arange(2, 40)[None]).logits


def test_it_learns_and_writes_everything(trained):
    metrics = json.loads((trained / "metrics.json").read_text())
    assert metrics["sizes"] == {"train": 59, "validation": 4, "test": 7} and metrics["leaked_pairs"] == 0
    assert metrics.keys() >= KEYS and metrics["base"].keys() == KEYS == metrics["definitions"].keys()
    assert metrics["response_perplexity"] * 20 < metrics["base"]["response_perplexity"]
    assert metrics["stop_rate"] == 1 and metrics["base"]["stop_rate"] == 0
    assert metrics["method"] == "full tuning" and metrics["trained_parameters"] == metrics["parameters"]
    command = metrics["command"].removeprefix("OMP_NUM_THREADS=1 ")
    assert command.startswith("hf-gpt-scratch train instruct --data_file")
    assert {"seed", "versions", "hardware"} <= metrics.keys() and len(metrics["data"]["sha256"]) == 64
    with Image.open(trained / "plots" / "training.png") as picture:
        assert len(picture.convert("RGB").getcolors(maxcolors=10**6)) > 10
    assert not [path.name for path in trained.iterdir() if "partial" in path.name or path.suffix in (".bin", ".md")]


@pytest.mark.parametrize("lora_r", [None, 4])
def test_the_logged_validation_loss_counts_every_learned_token_alike(run, trained, tmp_path, lora_r):
    start = {**FROM_MODEL, "model_name_or_path": trained, "lora_r": lora_r}
    changes = {"save_strategy": "epoch", "per_device_eval_batch_size": 3, "mask_prompt": True, "answered_rows": 1}
    metrics = run(tmp_path / "out", **start, **changes)
    (path,) = (tmp_path / "out").glob("checkpoint-*/trainer_state.json")
    (logged,) = (entry for entry in json.loads(path.read_text())["log_history"] if "eval_loss" in entry)
    assert logged["eval_loss"] == pytest.approx(metrics["validation"]["eval_loss"], rel=1e-4)
    assert logged["eval_perplexity"] == pytest.approx(math.exp(logged["eval_loss"]))


def test_metrics_are_those_of_the_saved_model(trained, data_file):
    metrics, tokenizer = json.loads((trained / "metrics.json").read_text()), load_tokenizer(trained)
    model = AutoModelForCausalLM.from_pretrained(trained).eval()
    total = count = 0
    for row in turns.split(load_conversations(data_file).rows, 123)["test"]:
        (row,) = turns.questions(row)
        prompt = tokenizer(render_prompt(row["instruction"], row["input"]))["input_ids"]
        response = tokenizer(row["output"] + tokenizer.eos_token)["input_ids"]
        with torch.no_grad():
            scores = model(torch.tensor([prompt + response])).logits[0, len(prompt) - 1 : -1].log_softmax(-1)
        total -= scores[range(len(response)), response].sum().item()
        count += len(response)
    assert metrics["response_perplexity"] == pytest.approx(torch.tensor(total / count).exp().item(), rel=1e-4)


def test_a_chat_by_transformers_alone_gives_the_same_answers(trained):
    model, tokenizer = AutoModelForCausalLM.from_pretrained(trained), AutoTokenizer.from_pretrained(trained)
    assert tokenizer.chat_template == CHAT_TEMPLATE and tokenizer.model_max_length == 160
    # Before 5.18, transformers' Trainer makes a list of it.
    assert model.generation_config.eos_token_id in (tokenizer.eos_token_id, [tokenizer.eos_token_id])
    responses = json.loads((trained / "responses.json").read_text())
    assert len(responses) == 7
    for row in responses:
        assert set(row) == {"instruction", "input", "output", "model_response", "finish_reason"}
        messages = [{"role": "user", "content": user_message(row["instruction"], row["input"])}]
        inputs = tokenizer.apply_chat_template(messages, add_generation_prompt=True, return_tensors="pt")
        ids = model.generate(**inputs)[0, inputs["input_ids"].shape[1] :]
        assert row["finish_reason"] == "stop" and ids[-1] == tokenizer.eos_token_id
        assert tokenizer.decode(ids[:-1]) == row["model_response"]


def test_packed_rows_and_the_response_alone(run, tmp_path):
    metrics = run(tmp_path, packing=True, mask_prompt=True, per_device_train_batch_size=2)
    assert 0 < metrics["packed_rows"] < 59 / 2
    assert metrics["eval_loss"] == pytest.approx(torch.tensor(metrics["response_perplexity"]).log().item())
    assert metrics["response_perplexity"] * 20 < metrics["base"]["response_perplexity"] and metrics["stop_rate"] > 0.5
    assert metrics["perplexity"] > 100  # the prompts were not learned


def test_lora_saves_an_adapter_that_loads_and_merges(run, trained, tmp_path, capsys):
    changes = {**FROM_MODEL, "model_name_or_path": trained, "lora_r": 4, "learning_rate": 1e-2}
    changes |= {"save_strategy": "epoch", "load_best_model_at_end": True}
    base = load_file(trained / "model.safetensors")
    metrics = run(tmp_path / "adapter", **changes)
    names = {path.name for path in (tmp_path / "adapter").iterdir()}
    assert {"adapter_config.json", "adapter_model.safetensors", "chat_template.jinja", "metrics.json"} <= names
    settings = json.loads((tmp_path / "adapter" / "generation_config.json").read_text())
    assert settings["max_new_tokens"] == 20
    assert not names & {"config.json", "model.safetensors", "README.md"}
    adapter = load_file(tmp_path / "adapter" / "adapter_model.safetensors")
    assert metrics["method"] == "LoRA tuning" and "peft" in metrics["versions"]
    assert metrics["trained_parameters"] == sum(value.numel() for value in adapter.values()) < 20_000
    assert metrics["base"]["perplexity"] == json.loads((trained / "metrics.json").read_text())["perplexity"]

    loaded = load_pretrained(GPTScratchForCausalLM, tmp_path / "adapter")
    assert type(loaded) is GPTScratchForCausalLM
    assert not torch.allclose(logits(loaded), logits(GPTScratchForCausalLM.from_pretrained(trained)), atol=1e-3)
    by_peft = AutoPeftModelForCausalLM.from_pretrained(tmp_path / "adapter")
    torch.testing.assert_close(logits(loaded), logits(by_peft), atol=1e-4, rtol=0)

    capsys.readouterr()
    row = json.loads((tmp_path / "adapter" / "responses.json").read_text())[0]
    prompt = render_prompt(row["instruction"], row["input"])
    command = ["generate", str(tmp_path / "adapter"), "--prompt", prompt, "--temperature", "0"]
    assert cli.main([*command, "--max-new-tokens", "20"]) == 0
    assert capsys.readouterr().out == f"{prompt}{row['model_response']}\n"

    merged = run(tmp_path / "merged", merge_adapter=True, activation_checkpointing=True, **changes)
    assert not (tmp_path / "merged" / "adapter_config.json").exists()
    model = AutoModelForCausalLM.from_pretrained(tmp_path / "merged")
    torch.testing.assert_close(logits(model), logits(loaded), atol=1e-5, rtol=0)
    assert model.generation_config.max_new_tokens == 20
    assert {key: merged[key] for key in KEYS - {"tokens_per_second"}} == pytest.approx(
        {key: metrics[key] for key in KEYS - {"tokens_per_second"}}
    )
    after = load_file(trained / "model.safetensors")
    assert all(torch.equal(after[name], base[name]) for name in base)


def test_qlora_trains_on_four_bit_weights(run, trained, tmp_path):
    changes = {**FROM_MODEL, "model_name_or_path": trained, "activation_checkpointing": True}
    metrics = run(tmp_path, qlora=True, learning_rate=1e-3, **changes)
    assert metrics["method"] == "QLoRA tuning" and {"peft", "bitsandbytes"} <= metrics["versions"].keys()
    assert json.loads((tmp_path / "adapter_config.json").read_text())["r"] == 16
    assert metrics["response_perplexity"] < 1.1 * metrics["base"]["response_perplexity"]


def test_a_stock_gpt2_takes_an_adapter_only_to_be_merged(run, tmp_path):
    tokenizer = train_tokenizer([render_prompt("Name the hat.")] * 3, 280)
    config = GPT2Config(
        vocab_size=280, n_positions=160, n_embd=32, n_layer=1, n_head=2, bos_token_id=0, eos_token_id=0
    )
    GPT2LMHeadModel(config).save_pretrained(tmp_path / "stock")
    tokenizer.save_pretrained(tmp_path / "stock")
    changes = {**FROM_MODEL, "model_name_or_path": tmp_path / "stock", "lora_r": 2, "answered_rows": 2}
    with pytest.raises(InputError, match="add --merge_adapter true"):
        run(tmp_path / "out", **changes)
    metrics = run(tmp_path / "out", merge_adapter=True, **changes)
    assert metrics["answered_rows"] == 2
    assert AutoModelForCausalLM.from_pretrained(tmp_path / "out").config.model_type == "gpt_scratch"


def test_an_adapter_needs_a_base_that_stops(run, trained, tmp_path):
    shutil.copytree(trained, tmp_path / "base")
    for name in ("config.json", "generation_config.json"):
        settings = json.loads((tmp_path / "base" / name).read_text())
        (tmp_path / "base" / name).write_text(json.dumps({**settings, "eos_token_id": 5}))
    with pytest.raises(InputError, match="and its tokenizer have different EOS tokens"):
        run(tmp_path / "out", **FROM_MODEL, model_name_or_path=tmp_path / "base", lora_r=2)


def test_a_model_and_an_adapter_take_each_others_place(tmp_path):
    def save_final(*names: str) -> set[str]:
        (tmp_path / "new").mkdir()
        for name in names:
            (tmp_path / "new" / name).touch()
        replace_model(tmp_path / "new", tmp_path / "out")
        return {path.name for path in (tmp_path / "out").iterdir()}

    model, adapter = {"config.json", "model.safetensors"}, {"adapter_config.json", "adapter_model.safetensors"}
    assert save_final(*model) == model
    assert save_final(*adapter) == adapter
    assert save_final(*model) == model


def test_an_adapter_without_its_base_says_so(tmp_path):
    (tmp_path / "adapter_config.json").write_text(json.dumps({"base_model_name_or_path": "./moved"}))
    with pytest.raises(InputError, match="The base model of the adapter .* cannot be loaded: There is no .* ./moved"):
        load_pretrained(GPTScratchForCausalLM, tmp_path)
    (tmp_path / "adapter_config.json").write_text("{}")
    with pytest.raises(InputError, match="does not name the model"):
        load_pretrained(GPTScratchForCausalLM, tmp_path)


def test_perplexity_and_repetition_by_hand(tiny_config):
    torch.manual_seed(0)
    model = GPTScratchForCausalLM(tiny_config)
    rows = [
        {"input_ids": list(range(1, 9)), "labels": [-100] * 5 + [6, 7, 8], "prompt_length": 3},
        {"input_ids": [9, 0, 0], "labels": [-100, 0, 0], "prompt_length": 1},
    ]
    expected = {"eval_loss": [], "perplexity": [], "response_perplexity": []}
    for row in rows:
        ids = torch.tensor(row["input_ids"])
        losses = -model.eval()(ids[None]).logits[0].log_softmax(-1)[range(len(ids) - 1), ids[1:]]
        expected["eval_loss"] += losses[4:] if len(ids) == 8 else losses
        expected["perplexity"] += losses
        expected["response_perplexity"] += losses[row["prompt_length"] - 1 :]
    means = {name: torch.stack(losses).mean() for name, losses in expected.items()}
    result = perplexities(model, rows, pad_token_id=0)
    assert result["eval_loss"] == pytest.approx(means.pop("eval_loss").item(), rel=1e-4)
    for name, mean in means.items():
        assert result[name] == pytest.approx(mean.exp().item(), rel=1e-4)
    assert repetition_rate([[1, 2, 3, 4, 5], [7, 7]]) == 0
    assert repetition_rate([[7] * 8, [1, 2, 3, 4, 5, 6, 7, 8]]) == pytest.approx(0.8 / 2)  # 5 4-grams, 1 of them new


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"data_file": "missing.json"}, "does not exist"),
        ({"train_tokenizer": None}, "Give --model_name_or_path"),
        ({"model_name_or_path": "./nowhere"}, "omit one of them"),
        ({"model_name_or_path": "./nowhere", "train_tokenizer": None}, "nowhere"),
        ({"lora_r": 8}, "An adapter needs a pretrained model"),
        ({"merge_adapter": True}, "--merge_adapter needs --lora_r or --qlora"),
        ({"lora_r": 0}, "lora_r must be at least 1, not 0"),
        ({"repetition_penalty": 0}, "repetition_penalty must be above 0, not 0.0"),
        ({"max_length": 161}, "max_length must be 2 to 160"),
        (
            {"max_length": 20},
            "70 of 70 rows have an instruction that is too long: of 20 tokens, a quarter is kept for the"
            " answer; use --max_length up to 160, or remove these rows",
        ),
        ({"n_positions": 20}, "use a model with a larger n_positions, or remove these rows"),
        ({"answered_rows": 0}, "answered_rows must be at least 1"),
        ({"n_head": 5}, "n_embd (64) must be divisible by n_head (5)"),
        ({"resume_from_checkpoint": "true"}, "no complete checkpoint"),
    ],
)
def test_wrong_settings_end_in_one_sentence_and_write_no_model(run, changes, reason, tmp_path):
    with pytest.raises(InputError) as error:
        run(tmp_path, **changes)
    assert reason in str(error.value) and "\n" not in str(error.value)
    assert not list(tmp_path.iterdir())


def test_an_adapter_of_a_local_folder_is_pushed_by_hand(tmp_path, monkeypatch):
    monkeypatch.setattr(instruct, "require_peft", lambda: None)
    words = ["--model_name_or_path", str(tmp_path), "--lora_r", "2", "--push_to_hub", "true"]
    words += ["--output_dir", str(tmp_path / "out")]
    args, training_args = parse_yaml_and_args(instruct.make_parser(), words, "instruct")
    with pytest.raises(UsageError, match=f"{tmp_path} would not load elsewhere.*`hf-gpt-scratch push --base-model`"):
        instruct.check(args, training_args)
    args.merge_adapter, training_args.hub_strategy = True, "end"
    instruct.check(args, training_args)


def test_the_configs_name_options_that_exist(tmp_path):
    names = configs.names("instruct")
    assert len(names) == 5
    for name in names:
        first = (TRAINING / "configs" / "instruct" / f"{name}.yaml").read_text().splitlines()[0]
        assert first.startswith(f"# hf-gpt-scratch train instruct {name} --output_dir runs/")
        words = [name, "--output_dir", str(tmp_path), "--use_cpu", "true"]
        args, training_args = parse_yaml_and_args(instruct.make_parser(), words, "instruct")
        instruct.check(args, training_args)
        assert training_args.num_train_epochs >= 2 and args.model_name_or_path
