"""LoRA adapters of one base: each answers as if merged alone, the base is in memory once, others are refused."""

import io
import shutil
from pathlib import Path

import pytest
import torch
from peft import get_peft_model

from hf_gpt_scratch import GPTScratchForCausalLM
from hf_gpt_scratch.adapters import lora_settings
from hf_gpt_scratch.apps import chat as chat_page
from hf_gpt_scratch.generation.adapters import AdapterSet
from hf_gpt_scratch.generation.chat import Chat
from hf_gpt_scratch.pretrained import load_pretrained, record_reference_logits
from hf_gpt_scratch.prompts import CHAT_TEMPLATE
from hf_gpt_scratch.utils.errors import InputError, UsageError
from support.commands import run_command
from support.models import save_model

QUESTION = "Where is the boat?"


def save_adapter(base: Path, folder: Path, seed: int) -> Path:
    """An adapter of random weights, with the base's tokenizer and the record of its answers, as a job leaves it."""
    model = load_pretrained(GPTScratchForCausalLM, base)
    torch.manual_seed(seed)
    model = get_peft_model(model, lora_settings(rank=4, alpha=64, dropout=0.1))
    for name, parameter in model.named_parameters():
        if "lora_B" in name:
            torch.nn.init.normal_(parameter, std=0.2)
    model.save_pretrained(folder)
    for name in ("tokenizer.json", "tokenizer_config.json", "chat_template.jinja"):
        shutil.copy(base / name, folder)
    record_reference_logits(folder)
    return folder


@pytest.fixture(scope="module")
def home(tmp_path_factory) -> Path:
    home = tmp_path_factory.mktemp("adapters")
    for name, seed in (("base", 0), ("other", 5)):
        save_model(home / name, seed=seed, chat=CHAT_TEMPLATE, n_positions=256)
    save_adapter(home / "base", home / "airline", seed=1)
    save_adapter(home / "base", home / "studies", seed=2)
    save_adapter(home / "other", home / "foreign", seed=3)
    return home


def answer(model, tokenizer) -> str:
    return "".join(Chat(model, tokenizer).ask(QUESTION, max_new_tokens=12))


@pytest.fixture(scope="module")
def alone(home) -> dict[str, str]:
    """The answer of each adapter merged alone into the base, and that of the base."""
    found = {}
    for name in ("airline", "studies", "base"):
        chat = Chat.from_pretrained(home / name, device="cpu")
        found[name] = answer(chat.model, chat.tokenizer)
    return found


def test_each_adapter_answers_as_if_merged_alone_however_often_they_are_switched(home, alone):
    assert len(set(alone.values())) == 3
    both = AdapterSet(home / "base", {"a.b": home / "airline", "studies": home / "studies"}, device="cpu")
    assert both.active == "a.b"
    for name, merged in [("studies", "studies"), ("a.b", "airline"), ("a.b", "airline"), ("studies", "studies")]:
        assert answer(both.model, both.switch(name)) == alone[merged]


def test_the_base_is_in_memory_once(home):
    both = AdapterSet(home / "base", {name: home / name for name in ("airline", "studies")}, device="cpu")
    base = load_pretrained(GPTScratchForCausalLM, home / "base")
    added = {name: value.numel() for name, value in both.model.named_parameters() if "lora_" in name}
    assert sum(p.numel() for p in both.model.parameters()) - sum(added.values()) == base.num_parameters()
    assert not both.model.training and len(added) == 2 * 2 * 6


def test_the_base_is_quantized_and_the_adapters_are_not(home):
    found = AdapterSet(home / "base", {"airline": home / "airline"}, device="cpu", dtype="int8")
    layers = {name for name, module in found.model.named_modules() if type(module) is torch.nn.Linear}
    assert layers and all("lora_" in name for name in layers)
    exact = Chat.from_pretrained(home / "airline", device="cpu").model
    ids = torch.arange(3, 20)[None]
    with torch.no_grad():
        expected, logits = exact(ids).logits, found.model(ids).logits
    assert 0 < (logits - expected).norm() < 0.05 * expected.norm()


def test_adapters_of_another_base_are_refused_by_name(home, tmp_path):
    with pytest.raises(InputError, match=r"The adapter foreign \(.*\) was trained on .*other, and .*base is another"):
        AdapterSet(home / "base", {"airline": home / "airline", "foreign": home / "foreign"})
    unrecorded = shutil.copytree(home / "foreign", tmp_path / "unrecorded")
    (unrecorded / "reference_logits.json").unlink()
    with pytest.raises(InputError, match="The adapter foreign .* was trained on .*other"):
        AdapterSet(home / "base", {"foreign": unrecorded})
    save_model(tmp_path / "wide", chat=CHAT_TEMPLATE, n_positions=256, n_embd=64)
    with pytest.raises(InputError, match="The adapter airline .* does not fit .*wide"):
        AdapterSet(tmp_path / "wide", {"airline": home / "airline"})
    with pytest.raises(InputError, match="is a whole model, not a LoRA adapter"):
        AdapterSet(home / "base", {"other": home / "other"})
    with pytest.raises(InputError, match="is an adapter itself; give the base model"):
        AdapterSet(home / "airline", {"studies": home / "studies"})


def test_a_base_that_was_moved_is_known_by_its_answers(home, alone, tmp_path):
    moved = shutil.copytree(home / "base", tmp_path / "moved")
    chosen = AdapterSet(moved, {"airline": home / "airline"}, device="cpu")
    assert answer(chosen.model, chosen.switch("airline")) == alone["airline"]


def test_a_chat_switches_and_keeps_a_conversation_with_each(home, alone, monkeypatch, capsys):
    lines = ["/adapter", QUESTION, "/adapter studies", QUESTION, "/adapter nosuch", "/adapter airline", QUESTION]
    monkeypatch.setattr("sys.stdin", io.StringIO("\n".join(lines)))
    adapters = [f"--adapter={name}={home / name}" for name in ("airline", "studies")]
    run_command("chat", home / "base", *adapters, "--max-new-tokens", 12, "--device", "cpu", "--no-history")
    said, errors = capsys.readouterr()
    assert said == f"* airline\n  studies\n{alone['airline']}\n{alone['studies']}\n{alone['airline']}\n"
    told = [line for line in errors.splitlines() if not line.startswith(("Using", "note:"))]
    assert told == [
        "A new conversation, with studies.",
        "error: There is no adapter 'nosuch'; there are airline, studies.",
        "The earlier conversation, with airline.",
    ]


def test_the_options_are_checked_before_anything_is_loaded(home):
    for words, message in (
        (["--adapter", "=x"], "--adapter takes NAME=FOLDER"),
        (["--adapter", "a=you/x", "--adapter", "a=you/y"], "There are two adapters a"),
    ):
        for command in (["chat"], ["app", "chat"]):
            with pytest.raises(UsageError, match=message):
                run_command(*command, home / "base", *words)
    with pytest.raises(InputError, match="nope"):
        run_command("chat", home / "base", "--adapter", f"a={home / 'nope'}")
    with pytest.raises(UsageError, match="--adapter is for a page that is served"):
        run_command("app", "chat", home / "base", "--adapter", f"a={home / 'airline'}", "--export-space", "out")


def test_the_page_has_a_choice_of_adapters_that_answers_with_each(home, alone):
    pytest.importorskip("gradio", reason="pip install -e '.[apps]'")
    names = ("airline", "studies")
    blocks = chat_page.load(home / "base", adapters={name: home / name for name in names}, device="cpu")
    [dropdown] = [block for block in blocks.blocks.values() if getattr(block, "elem_id", None) == "adapter"]
    assert [value for _, value in dropdown.choices] == list(names) and dropdown.value == "airline"
    [ask] = [function for function in blocks.fns.values() if function.api_name == "ask"]
    assert ask.inputs[0] is dropdown and ask.concurrency_limit == 1
    for name in ("studies", "airline"):
        question, conversation, *settings = [one.value for one in ask.inputs[1:]]
        settings[2] = 12  # new tokens
        *_, (shown, *_) = ask.fn(name, QUESTION, [], *settings)
        assert shown[-1]["content"] == chat_page.page.escape(alone[name])
