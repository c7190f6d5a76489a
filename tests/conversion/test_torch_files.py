"""nanoGPT's and LLMs-from-scratch's checkpoints become models with the same logits."""

import json
from pathlib import Path

import pytest
import torch
from transformers import AutoModelForCausalLM, AutoModelForSequenceClassification, GPT2LMHeadModel

from hf_gpt_scratch.conversion.convert import convert
from hf_gpt_scratch.tokenizer import train_tokenizer
from hf_gpt_scratch.utils.errors import InputError, UsageError
from hf_gpt_scratch.utils.provenance import sha256
from support.checkpoints import as_nanogpt, random_weights, stock_gpt2

IDS = torch.randint(100, (2, 16), generator=torch.Generator().manual_seed(0))
CONFIG = {
    **{"vocab_size": 100, "context_length": 32, "emb_dim": 32, "n_heads": 4, "n_layers": 2},
    **{"drop_rate": 0.0, "qkv_bias": False},
}


@pytest.fixture
def book(tmp_path):
    """Makes the book's own model, changes it, saves what of it is asked, and returns the file and its logits."""
    ch04 = pytest.importorskip("llms_from_scratch.ch04", reason="pip install --no-deps llms-from-scratch")

    def save(
        change=lambda model: None, content=lambda model: model.state_dict(), **settings
    ) -> tuple[Path, torch.Tensor]:
        model = ch04.GPTModel({**CONFIG, **settings})
        change(model)
        random_weights(model)
        torch.save(content(model), tmp_path / "model.pth")
        with torch.no_grad():
            return tmp_path / "model.pth", model(IDS)

    return save


def spam_head(model):
    model.out_head = torch.nn.Linear(32, 2)


def lora(model):
    from llms_from_scratch.appendix_e import replace_linear_with_lora

    replace_linear_with_lora(model, rank=4, alpha=8)


def lora_on_spam_head(model):
    spam_head(model)
    lora(model)


def as_checkpoint(model):
    optimizer = torch.optim.AdamW(model.parameters())
    return {"model_state_dict": model.state_dict(), "optimizer_state_dict": optimizer.state_dict()}


def compiled(model):
    return {f"_orig_mod.{name}": tensor for name, tensor in model.state_dict().items()}


@pytest.mark.parametrize(
    "changes, options",
    [
        ({}, {}),
        ({"qkv_bias": True}, {}),
        ({"content": as_checkpoint}, {}),
        ({"content": compiled}, {}),
        ({"change": lora}, {"lora_scale": 8}),
    ],
    ids=["plain", "qkv bias", "checkpoint", "compiled", "lora"],
)
def test_language_model_of_the_book(book, tmp_path, changes, options):
    file, expected = book(**changes)
    done = convert(str(file), tmp_path / "out", tokenizer="none", n_head=4, prove=True, **options)
    assert done.format == "LLMs-from-scratch state dict"
    model = AutoModelForCausalLM.from_pretrained(done.folder).eval()
    torch.testing.assert_close(model(IDS).logits, expected, atol=5e-5, rtol=0)
    assert model.config.qkv_bias == changes.get("qkv_bias", False)
    record = json.loads((done.folder / "conversion.json").read_text())
    assert record["sha256"] == {"model.pth": sha256(file)}
    assert record["max_logit_difference"] == done.max_logit_difference < 5e-5


def test_tied_head_of_the_book(book, tmp_path):
    def tie(model):
        model.out_head.weight = model.tok_emb.weight

    file, expected = book(change=tie)
    folder = convert(str(file), tmp_path / "out", tokenizer="none", n_head=4).folder
    model = AutoModelForCausalLM.from_pretrained(folder).eval()
    assert model.config.tie_word_embeddings
    torch.testing.assert_close(model(IDS).logits, expected, atol=5e-5, rtol=0)


@pytest.mark.parametrize(
    "change, options",
    [(spam_head, {"labels": "ham,spam"}), (lora_on_spam_head, {"lora_scale": 8, "labels": "ham,spam"})],
)
def test_spam_classifier_of_the_book(book, tmp_path, change, options):
    file, expected = book(change=change)
    options |= {"labels": "ham,spam", "tokenizer": "none"}
    done = convert(str(file), tmp_path / "out", n_head=4, prove=True, **options)
    model = AutoModelForSequenceClassification.from_pretrained(done.folder).eval()
    assert model.config.id2label == {0: "ham", 1: "spam"}
    outputs = model(IDS, output_token_logits=True)
    torch.testing.assert_close(outputs.token_logits, expected, atol=5e-5, rtol=0)
    torch.testing.assert_close(outputs.logits, expected[:, -1], atol=1e-5, rtol=0)


@pytest.mark.parametrize("qkv_bias", [False, True])
def test_language_model_of_the_book_becomes_stock_gpt2(book, tmp_path, qkv_bias):
    from hf_gpt_scratch.conversion.export import export

    file, expected = book(qkv_bias=qkv_bias)
    ours = convert(str(file), tmp_path / "ours", tokenizer="none", n_head=4).folder
    stock, report = GPT2LMHeadModel.from_pretrained(export(str(ours), tmp_path / "stock"), output_loading_info=True)
    assert not any(report[keys] for keys in ("missing_keys", "unexpected_keys", "mismatched_keys"))
    torch.testing.assert_close(stock.eval()(IDS).logits, expected, atol=1e-5, rtol=0)


def test_classifier_bias_survives_the_export_to_stock_gpt2(book, tmp_path):
    from transformers import GPT2ForSequenceClassification

    from hf_gpt_scratch.conversion.export import export

    file, expected = book(change=spam_head)
    ours = convert(str(file), tmp_path / "ours", tokenizer="none", n_head=4).folder
    stock = GPT2ForSequenceClassification.from_pretrained(export(str(ours), tmp_path / "stock")).eval()
    stock.config.pad_token_id = 99 if 99 not in IDS else 98
    torch.testing.assert_close(stock(IDS).logits, expected[:, -1], atol=1e-5, rtol=0)


def test_what_the_file_cannot_tell_is_asked_for(book, tmp_path):
    file, _ = book(change=lora)
    with pytest.raises(UsageError, match="--lora-scale"):
        convert(str(file), tmp_path / "out", n_head=4)
    with pytest.raises(UsageError, match="its width of 32 is not a multiple of 64: pass --n-head"):
        convert(str(file), tmp_path / "out", lora_scale=8)
    with pytest.raises(UsageError, match="--vocab-size does not apply"):
        convert(str(file), tmp_path / "out", vocab_size=3)
    file, _ = book()
    for option, complaint in (({"lora_scale": 8}, "no LoRA layers"), ({"labels": "a,b"}, "is a language model")):
        with pytest.raises(UsageError, match=complaint):
            convert(str(file), tmp_path / "out", n_head=4, **option)


def test_heads_of_the_book_are_64_wide_by_default(book, tmp_path):
    file, expected = book(emb_dim=192, n_heads=3)
    done = convert(str(file), tmp_path / "out", tokenizer="none", prove=True)
    assert done.assumed == {"n_head": 3}
    model = AutoModelForCausalLM.from_pretrained(done.folder).eval()
    torch.testing.assert_close(model(IDS).logits, expected, atol=5e-5, rtol=0)


def test_the_proof_says_what_it_assumed(book, tmp_path, monkeypatch, capsys):
    """A wrong number of heads passes, since nothing in the file contradicts it; nothing says that it is right."""
    from hf_gpt_scratch import cli

    monkeypatch.chdir(tmp_path)
    file, expected = book(emb_dim=192, n_heads=6)
    assert cli.main(["convert", str(file), "out", "--tokenizer", "none"]) == 0
    with torch.no_grad():
        wrong = AutoModelForCausalLM.from_pretrained("out").eval()(IDS).logits
    assert (wrong - expected).abs().max() > 1e-3
    sentence = capsys.readouterr().out.splitlines()[-1]
    assert "assuming 3 attention heads, which the file does not hold (to change it: --n-head)" in sentence
    record = json.loads(Path("out/conversion.json").read_text())
    assert record["assumed"] == {"n_head": 3} and record["max_logit_difference"] < 5e-5


def test_each_format_says_what_it_assumed(book, nano, tmp_path):
    file, _ = book(change=lora)
    done = convert(str(file), tmp_path / "lora", tokenizer="none", n_head=4, lora_scale=8)
    assert done.assumed == {"n_head": 4, "lora_scale": 8}
    file, _ = nano()
    assert convert(str(file), tmp_path / "nano", tokenizer="none").assumed == {"activation": "gelu"}
    stock_gpt2(vocab_size=100, n_positions=32).save_pretrained(tmp_path / "stock")
    assert convert(str(tmp_path / "stock"), tmp_path / "ours", tokenizer="none").assumed == {}


def test_a_folder_of_this_package_needs_no_conversion(nano, tmp_path):
    file, _ = nano()
    ours = convert(str(file), tmp_path / "ours", tokenizer="none").folder
    with pytest.raises(InputError, match="already a model of this package"):
        convert(ours, tmp_path / "again")


@pytest.fixture
def nano(tmp_path):
    """Saves a checkpoint as nanoGPT does and returns the file and the logits of stock GPT-2 with the same weights."""

    def save(bias=True, prefix="", vocab_size=100, activation="gelu") -> tuple[Path, torch.Tensor]:
        stock = stock_gpt2(vocab_size=vocab_size, n_positions=32, activation_function=activation)
        if not bias:
            for name, parameter in stock.named_parameters():
                parameter.data.mul_(not name.endswith(".bias"))
        content = as_nanogpt(stock)
        weights = {prefix + name: tensor for name, tensor in content["model"].items() if bias or "bias" not in name}
        weights[f"{prefix}transformer.h.0.attn.bias"] = torch.ones(1, 1, 32, 32).tril()
        settings = {**content["model_args"], "bias": bias}
        torch.save({**content, "model": weights, "model_args": settings}, tmp_path / "ckpt.pt")
        with torch.no_grad():
            return tmp_path / "ckpt.pt", stock(IDS).logits

    return save


@pytest.mark.parametrize(
    "settings", [{}, {"bias": False}, {"prefix": "_orig_mod."}], ids=["plain", "no bias", "compiled"]
)
def test_nanogpt_checkpoint(nano, tmp_path, settings):
    file, expected = nano(**settings)
    done = convert(str(file), tmp_path / "out", tokenizer="none", prove=True)
    assert done.format == "nanoGPT checkpoint"
    model = AutoModelForCausalLM.from_pretrained(done.folder).eval()
    torch.testing.assert_close(model(IDS).logits, expected, atol=5e-5, rtol=0)
    assert (model.config.qkv_bias, model.config.resid_pdrop) == (settings.get("bias", True), 0.1)
    assert done.max_logit_difference < 1e-5


def test_older_nanogpt_checkpoint(nano, tmp_path):
    file, expected = nano(activation="gelu_new")
    done = convert(str(file), tmp_path / "out", tokenizer="none", prove=True, activation="gelu_new")
    model = AutoModelForCausalLM.from_pretrained(done.folder).eval()
    torch.testing.assert_close(model(IDS).logits, expected, atol=5e-5, rtol=0)


def test_padded_vocabulary_is_kept_or_cut(nano, tmp_path):
    file, expected = nano(vocab_size=128)
    for size, options in ((128, {}), (100, {"vocab_size": 100})):
        done = convert(str(file), tmp_path / str(size), tokenizer="none", prove=True, **options)
        logits = AutoModelForCausalLM.from_pretrained(done.folder).eval()(IDS).logits
        torch.testing.assert_close(logits, expected[..., :size], atol=1e-5, rtol=0)
    with pytest.raises(InputError, match="cannot be cut to 129"):
        convert(str(file), tmp_path / "out", tokenizer="none", vocab_size=129)


def test_tokenizer_has_to_fit(nano, tmp_path):
    file, _ = nano(vocab_size=300)
    train_tokenizer(["a few words"], 260).save_pretrained(tmp_path / "fits")
    convert(str(file), tmp_path / "out", tokenizer=str(tmp_path / "fits"))
    assert (tmp_path / "out" / "tokenizer.json").is_file()
    assert json.loads((tmp_path / "out" / "config.json").read_text())["eos_token_id"] == 0  # the tokenizer's
    file, _ = nano(vocab_size=200)
    with pytest.raises(InputError, match="has 258 tokens, but the model 200"):
        convert(str(file), tmp_path / "other", tokenizer=str(tmp_path / "fits"))
    with pytest.raises(InputError, match="pass a folder that holds one as --tokenizer"):  # no network in tests
        convert(str(file), tmp_path / "other")
    assert not (tmp_path / "other").exists()


def test_wrong_proof_leaves_nothing(nano, tmp_path, monkeypatch):
    from hf_gpt_scratch.conversion import nanogpt

    file, _ = nano()
    swapped = [mapping for mapping in nanogpt.TABLE if "ln_1" not in mapping.theirs and "ln_2" not in mapping.theirs]
    for mapping in nanogpt.TABLE:
        if mapping not in swapped:
            swap = {"ln_1": "ln_2", "ln_2": "ln_1"}
            name = mapping.ours[0]
            part = "ln_1" if "ln_1" in name else "ln_2"
            swapped.append(type(mapping)(mapping.theirs, (name.replace(part, swap[part]),)))
    monkeypatch.setattr(nanogpt, "TABLE", tuple(swapped))
    with pytest.raises(InputError, match="differ from the source's"):
        convert(str(file), tmp_path / "out", tokenizer="none", prove=True)
    assert not (tmp_path / "out").exists()


def test_asked_format_has_to_be_the_found_one(nano, tmp_path):
    file, _ = nano()
    with pytest.raises(InputError, match="is not a llms-from-scratch checkpoint; it looks like nanogpt"):
        convert(str(file), tmp_path / "out", "llms-from-scratch", tokenizer="none")


def rewrite(change):
    def damage(file: Path) -> None:
        content = torch.load(file, weights_only=True)
        change(content)
        torch.save(content, file)

    return damage


DAMAGES = {
    "no torch file": (lambda file: file.write_text("hello"), "is not a PyTorch checkpoint"),
    "no settings": (rewrite(lambda c: c.update(model_args={})), "must hold whole numbers"),
    "heads that do not divide": (rewrite(lambda c: c["model_args"].update(n_head=5)), "divisible by n_head"),
    "a billion blocks": (rewrite(lambda c: c["model_args"].update(n_layer=10**9)), "claims to have 1000000000 blocks"),
    "a width beyond all memory": (rewrite(lambda c: c["model_args"].update(n_embd=4 * 10**18)), "n_embd is 4"),
    "a vocabulary beyond all memory": (rewrite(lambda c: c["model_args"].update(vocab_size=10**30)), "vocab_size is"),
    "a quantized tensor": (
        rewrite(lambda c: c["model"].update(x=torch.quantize_per_tensor(torch.ones(2), 0.1, 0, torch.qint8))),
        "not a dense tensor",
    ),
    "a tensor without memory": (rewrite(lambda c: c["model"].update(x=torch.ones(2, device="meta"))), "not a dense"),
    "of no format": (rewrite(lambda c: c.pop("model")), "not a checkpoint in one of the formats"),
}


@pytest.mark.parametrize("damage, complaint", DAMAGES.values(), ids=DAMAGES)
def test_damaged_file_is_refused(nano, tmp_path, damage, complaint):
    file, _ = nano()
    damage(file)
    with pytest.raises(InputError, match=complaint) as refusal:
        convert(str(file), tmp_path / "out", tokenizer="none")
    assert "\n" not in str(refusal.value)
    assert [path.name for path in tmp_path.iterdir()] == ["ckpt.pt"]


LORA_DAMAGES = {
    "unknown matrix": (
        lambda c: c.update({"trf_blocks.0.att.W_query.lora.C": torch.ones(2, 2)}),
        "unknown trf_blocks",
    ),
    "twice": (lambda c: c.update({"trf_blocks.0.att.W_query.weight": torch.ones(32, 32)}), "are the same weight"),
    "no matrix": (lambda c: c.update({"trf_blocks.0.att.W_query.linear.weight": torch.ones(32)}), "do not fit"),
    "far block": (lambda c: c.update({"trf_blocks.999999.x": torch.ones(1)}), "claims to have 1000000 blocks"),
}


@pytest.mark.parametrize("damage, complaint", LORA_DAMAGES.values(), ids=LORA_DAMAGES)
def test_damaged_file_of_the_book_is_refused(book, tmp_path, damage, complaint):
    file, _ = book(change=lora)
    rewrite(damage)(file)
    with pytest.raises(InputError, match=complaint):
        convert(str(file), tmp_path / "out", tokenizer="none", n_head=4, lora_scale=8)
    assert not (tmp_path / "out").exists()


def test_classifier_bias_that_stock_gpt2_cannot_express_is_refused(tiny_config, tmp_path):
    from hf_gpt_scratch import GPTScratchForSequenceClassification
    from hf_gpt_scratch.conversion.export import export

    tiny_config.classifier_bias = True
    model = GPTScratchForSequenceClassification(tiny_config)
    torch.nn.init.ones_(model.score.weight)
    model.score.bias.data = torch.tensor([1.0, -1.0])
    model.save_pretrained(tmp_path / "ours")
    with pytest.raises(InputError, match="cannot be expressed in stock GPT-2"):
        export(str(tmp_path / "ours"), tmp_path / "out")
    assert not (tmp_path / "out").exists()
