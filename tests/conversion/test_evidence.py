"""What a file does not hold is told by a text that the model predicts, or asked for; without a text it is a guess."""

import copy
import json
import re
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch
from transformers import AutoModelForCausalLM, GPT2Config, GPT2LMHeadModel

from hf_gpt_scratch import cli
from hf_gpt_scratch.conversion import evidence
from hf_gpt_scratch.conversion.convert import convert
from hf_gpt_scratch.utils.errors import InputError, UsageError
from hf_gpt_scratch.utils.provenance import sha256
from support.checkpoints import as_nanogpt, random_weights, stock_gpt2
from support.trained_models import character_tokenizer, narrow, repeating_text, train

TEXT, FAR = repeating_text(60_000, longest=4), repeating_text(60_000, longest=8)  # easy; of use for a whole window
SHAPE = {"vocab_size": 258, "context_length": 32, "emb_dim": 32, "n_heads": 4, "n_layers": 2, "drop_rate": 0.0}


@pytest.fixture(scope="module")
def tokenizer():
    return character_tokenizer()


@pytest.fixture
def place(tmp_path, tokenizer, monkeypatch):
    """A folder with the tokenizer and the end of each text, which no model was trained on."""
    monkeypatch.chdir(tmp_path)
    tokenizer.save_pretrained("tokenizer")
    Path("text.txt").write_text(TEXT[-3000:])
    Path("far.txt").write_text(FAR[-3000:])
    return tmp_path


def trained(tokenizer, window: int | None = None, steps: int = 400):
    ch04 = pytest.importorskip("llms_from_scratch.ch04", reason="pip install --no-deps llms-from-scratch")
    torch.manual_seed(0)
    model = ch04.GPTModel({**SHAPE, "qkv_bias": False})
    if window is not None:
        narrow(model, window)
    return train(model, tokenizer((FAR if window else TEXT)[:-3000], verbose=False)["input_ids"], steps=steps)


@pytest.fixture(scope="module")
def plain(tokenizer):
    """The book's model with 4 heads of 8 dimensions, which are not the 64 of every GPT-2."""
    return trained(tokenizer)


@pytest.fixture(scope="module")
def windowed(tokenizer):
    """The same, trained to look at 8 tokens only."""
    return trained(tokenizer, window=8)


def without_masks(model) -> dict[str, torch.Tensor]:
    """What of the book's variants for a KV cache and for a sliding window is saved: all but the masks."""
    return {name: tensor for name, tensor in model.state_dict().items() if not name.endswith("att.mask")}


def run(*options: str) -> int:
    return cli.main(["convert", "model.pth", "out", "--tokenizer", "tokenizer", *options])


@torch.no_grad()
def test_the_number_of_heads_is_told(place, plain, capsys):
    torch.save(plain.state_dict(), "model.pth")
    assert run("--calibration-text", "text.txt") == 0
    out, err = capsys.readouterr()
    assert "assuming 4 attention heads" in out and "warning" not in err
    ids = torch.arange(97, 97 + 20)[None]
    torch.testing.assert_close(AutoModelForCausalLM.from_pretrained("out")(ids).logits, plain(ids), atol=1e-4, rtol=0)
    record = json.loads(Path("out/conversion.json").read_text())
    assert record["assumed"] == {"n_head": 4} and record["calibration"]["text_sha256"] == sha256("text.txt")
    rows = record["calibration"]["candidates"]["n_head"]
    assert rows[0]["value"] == 4 and {row["value"] for row in rows} == {1, 2, 4, 8} and rows[0]["nats_behind"] == 0
    assert rows[1]["nats_behind"] > 0.1 and rows[1]["nats_behind"] > 4 * rows[1]["standard_error"]
    assert record["calibration"]["perplexity_of_frequencies"] > 1.1 * rows[0]["perplexity"]
    for row in rows:  # the table on the screen
        assert re.search(rf"^--n-head +{row['value']} +{row['perplexity']:.4f}", err, re.M)


@torch.no_grad()
def test_the_window_is_told(place, windowed):
    torch.save(without_masks(windowed), "model.pth")
    done = convert("model.pth", "out", tokenizer="tokenizer", prove=True, calibration_text="far.txt")
    assert done.assumed == {"n_head": 4, "window": 8, "window_stride": -1} and done.guessed == {}
    ids = torch.arange(97, 97 + 30)[None]
    torch.testing.assert_close(
        AutoModelForCausalLM.from_pretrained("out")(ids).logits, windowed(ids), atol=1e-4, rtol=0
    )
    rows = json.loads(Path("out/conversion.json").read_text())["calibration"]["candidates"]["window"]
    values = [row["value"] for row in rows]
    assert values[0] == 8 and set(values) == {0, 1, 2, 3, 4, 6, 8, 12, 16, 24} | {7, 9, 10}
    far = [row for row in rows if row["value"] not in (7, 8, 9)]
    assert all(row["nats_behind"] > max(0.01, 4 * row["standard_error"]) for row in far)


def test_a_window_between_the_usual_ones_is_told(place, tokenizer):
    """Of the usual ones 12 is the best; its neighbour by one token may be as good, which is told."""
    torch.save(without_masks(trained(tokenizer, window=10, steps=800)), "model.pth")
    told, options = [], {"tokenizer": "tokenizer", "prove": True, "n_head": 4, "window_stride": -1}
    done = convert("model.pth", "out", calibration_text="far.txt", report=told.append, **options)
    taken = done.assumed["window"]
    assert taken in (9, 10) and done.guessed == {}  # which of the two depends on the last digits of a CPU's training
    rows = json.loads(Path("out/conversion.json").read_text())["calibration"]["candidates"]["window"]
    behind = {row["value"]: row["nats_behind"] for row in rows}
    assert min(behind[8], behind[12]) > 0.05 and behind[19 - taken] < 0.03
    note = f"note: far.txt tells --window roughly: {taken} is taken, and {19 - taken} would do about as well."
    assert note in told


def test_what_the_user_gives_is_not_scored(place, windowed, capsys):
    torch.save(without_masks(windowed), "model.pth")
    assert run("--calibration-text", "text.txt", "--n-head", "4", "--window", "16", "--window-stride", "0") == 0
    out, err = capsys.readouterr()
    assert "note: model.pth leaves no setting open" in err and "perplexity" not in err
    assert json.loads(Path("out/conversion.json").read_text())["assumed"]["window"] == 16


@pytest.mark.parametrize("alpha", [8, 10])
def test_the_scale_of_lora_is_told(place, plain, alpha):
    """Its layers hold the trained weights less what LoRA adds, so that only the right scale gives them back."""
    appendix_e = pytest.importorskip("llms_from_scratch.appendix_e")
    model = copy.deepcopy(plain)
    torch.manual_seed(0)
    appendix_e.replace_linear_with_lora(model, rank=4, alpha=alpha)
    for layer in model.modules():
        if isinstance(layer, appendix_e.LinearWithLoRA):
            torch.nn.init.normal_(layer.lora.B, std=0.05)
            layer.linear.weight.data -= alpha * (layer.lora.A @ layer.lora.B).detach().t()
    torch.save(model.state_dict(), "model.pth")
    with pytest.raises(UsageError, match="pass --lora-scale"):
        convert("model.pth", "out", tokenizer="tokenizer")
    done = convert("model.pth", "out", tokenizer="tokenizer", prove=True, calibration_text="text.txt")
    assert done.assumed["n_head"] == 4 and done.assumed["lora_scale"] == pytest.approx(alpha, rel=0.06)
    assert alpha != 8 or done.assumed["lora_scale"] == 8


@pytest.mark.parametrize("kind", ["fresh", "large"])
def test_random_weights_tell_nothing(place, plain, kind, capsys):
    torch.manual_seed(0)
    model = type(plain)({**SHAPE, "qkv_bias": False})
    torch.save((random_weights(model) if kind == "large" else model).state_dict(), "model.pth")
    assert run("--calibration-text", "text.txt") == 2
    error = capsys.readouterr().err.splitlines()[-1]
    assert "predicts text.txt no better than the frequencies of its tokens do" in error
    assert "pass --n-head, or a text like those that the model was trained on" in error
    assert not Path("out").exists()


def trained_stock(tokenizer, std: float = 0.1, **settings) -> GPT2LMHeadModel:
    torch.manual_seed(0)
    settings = {"n_positions": 32, "n_embd": 32, "n_layer": 2, "n_head": 4, **settings}
    stock = GPT2LMHeadModel(GPT2Config(vocab_size=258, bos_token_id=0, eos_token_id=0, **settings)).eval()
    stock = random_weights(stock, std=std)
    return train(stock, tokenizer(TEXT[:-3000], verbose=False)["input_ids"])


SCALES = {
    "root": {},
    "root-and-layer": {"scale_attn_by_inverse_layer_idx": True},
    "none": {"scale_attn_weights": False},
}


@torch.no_grad()
@pytest.mark.parametrize("scale", SCALES)
def test_the_scale_of_attention_is_told(place, tokenizer, scale):
    """Beside it one of the two GELUs, which cannot be told, does not discard what is clear."""
    stock = trained_stock(tokenizer, std=0.02, n_layer=4, **SCALES[scale])
    torch.save(stock.state_dict(), "model.pt")
    done = convert("model.pt", "out", tokenizer="tokenizer", prove=True, calibration_text="text.txt")
    assert done.assumed == {"n_head": 4, "attention_scale": scale, "activation": "gelu_new"}
    assert done.guessed == {"activation": "gelu_new"}
    ids = torch.arange(97, 97 + 20)[None]
    ours = AutoModelForCausalLM.from_pretrained("out")
    torch.testing.assert_close(ours(ids).logits, stock(ids).logits, atol=1e-4, rtol=0)


def test_a_lead_that_may_be_chance_is_not_taken(place, tokenizer, monkeypatch, capsys):
    """The two GELUs differ by 0.0005 at most, so that the default stands; a ReLU does not pass for either."""
    torch.save(as_nanogpt(trained_stock(tokenizer, activation_function="gelu")), "ckpt.pt")
    options = ["--tokenizer", "tokenizer", "--calibration-text", "text.txt"]
    assert cli.main(["convert", "ckpt.pt", "out", *options]) == 0
    told = capsys.readouterr().err
    assert sorted(re.findall(r"^--activation +(\w+) +\d", told, re.M)) == ["gelu", "gelu_new"]
    assert re.search(
        r"note: text.txt does not clearly tell --activation \(gelu\w* leads gelu\w* by .* are needed\): gelu, the"
        r" default, is kept\.",
        told,
    )
    assert "warning: the activation gelu is a guess" in told and told.endswith("; give --activation.\n")
    monkeypatch.setitem(evidence.CANDIDATES, "activation", lambda source: ["relu", "gelu_new"])
    done = convert("ckpt.pt", "relu", tokenizer="tokenizer", calibration_text="text.txt")
    assert done.assumed == {"activation": "gelu_new"} and done.guessed == {}


COMPLAINTS = {
    "too short": ("text.txt", "abc;abc\n" * 5, "is too short to tell anything: it has 40 tokens"),
    "not a text": ("text.txt", b"\xff\xfe\xfd", "is not UTF-8 text"),
}


@pytest.mark.parametrize("name, content, complaint", COMPLAINTS.values(), ids=COMPLAINTS)
def test_text_that_tells_nothing_is_refused_in_a_sentence(place, plain, name, content, complaint):
    torch.save(plain.state_dict(), "model.pth")
    Path(name).write_bytes(content if isinstance(content, bytes) else content.encode())
    with pytest.raises(InputError, match=complaint) as refusal:
        convert("model.pth", "out", tokenizer="tokenizer", calibration_text=name)
    assert "\n" not in str(refusal.value) and not Path("out").exists()


def test_a_text_needs_a_tokenizer_and_a_language_model(place, plain, capsys):
    torch.save(plain.state_dict(), "model.pth")
    command = ["convert", "model.pth", "out", "--calibration-text", "text.txt"]
    assert cli.main([*command, "--tokenizer", "none"]) == 2
    assert "--calibration-text needs a tokenizer" in capsys.readouterr().err
    with pytest.raises(UsageError, match="--calibration-text needs the model's tokenizer"):
        convert("model.pth", "out", tokenizer="none", calibration_text="text.txt")
    head = {"out_head.weight": torch.ones(2, 32), "out_head.bias": torch.ones(2)}
    torch.save({**plain.state_dict(), **head}, "model.pth")
    with pytest.raises(UsageError, match="is a classifier: pass --n-head"):
        convert("model.pth", "out", tokenizer="tokenizer", calibration_text="text.txt")


def test_without_a_text_a_guess_is_told_once(place, plain, windowed, capsys):
    wide = {**SHAPE, "emb_dim": 128, "n_heads": 2, "qkv_bias": False}
    model = type(plain)(wide)
    torch.save(model.state_dict(), "model.pth")
    assert run() == 0
    [warning] = re.findall("warning: .*", capsys.readouterr().err)
    assert warning == (
        "warning: 2 attention heads is a guess: the file does not hold it, and a wrong one goes unnoticed, as both"
        " sides of the comparison use it; give --n-head, or --calibration-text FILE, a text that the model should"
        " predict well."
    )
    torch.save(without_masks(model), "model.pth")
    for options, guesses in (
        ([], "2 attention heads and attention without a window are guesses"),
        (["--n-head", "2"], "attention without a window is a guess"),
        (["--n-head", "2", "--window", "8"], "a window stride of 2 is a guess"),
        (["--n-head", "2", "--window", "0"], None),
        (["--n-head", "2", "--window", "8", "--window-stride", "-1"], None),
    ):
        out = f"out{len(options)}{bool(guesses)}"
        assert cli.main(["convert", "model.pth", out, "--tokenizer", "tokenizer", *options]) == 0
        found = re.findall("warning: (.*?):", capsys.readouterr().err)
        assert found == ([guesses] if guesses else [])


def test_a_warning_names_no_text_where_none_can_tell(place, capsys):
    """The two GELUs are too much alike."""
    torch.save(as_nanogpt(stock_gpt2(vocab_size=258)), "ckpt.pt")
    assert cli.main(["convert", "ckpt.pt", "out", "--tokenizer", "tokenizer"]) == 0
    [warning] = re.findall("warning: .*", capsys.readouterr().err)
    assert warning.startswith("warning: the activation gelu is a guess") and warning.endswith("; give --activation.")


def test_a_stride_goes_with_a_text_that_may_tell_the_window(place, windowed, capsys):
    torch.save(without_masks(windowed), "model.pth")
    for options in ([], ["--calibration-text", "far.txt", "--window", "0"]):
        assert run("--window-stride", "-1", *options) == 2
        assert "only goes with --window, or with a --calibration-text" in capsys.readouterr().err
    assert run("--window-stride", "-1", "--calibration-text", "far.txt", "--n-head", "4") == 0
    assert "a sliding window of 8 tokens and a window stride of -1" in capsys.readouterr().out


@pytest.mark.parametrize("width", [32, 48, 768, 5040, 2**20, 1])
def test_heads_of_four_dimensions_or_more_are_candidates(width):
    source = SimpleNamespace(config=SimpleNamespace(n_embd=width))
    found = evidence.CANDIDATES["n_head"](source)
    wanted = [n for n in range(1, width + 1) if width % n == 0 and width / n >= 4] or [1]
    assert found == (wanted if len(wanted) <= 24 else sorted(set(found) & set(wanted))) and len(found) <= 24
    assert width % 64 or width // 64 in found
