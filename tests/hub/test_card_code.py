"""The code and the commands that a model card shows run as they stand, for every kind of model and for adapters."""

import io
import re
import shlex
import subprocess
import sys
from pathlib import Path

import pytest

from hf_gpt_scratch import (
    GPTScratchForCausalLM,
    GPTScratchForSequenceClassification,
    GPTScratchForTokenClassification,
    GPTScratchModel,
)
from hf_gpt_scratch.cli import main
from hf_gpt_scratch.hub.model_card import make_card
from hf_gpt_scratch.prompts import CHAT_TEMPLATE
from hf_gpt_scratch.tokenizer import load_tokenizer
from support.models import save_model

SPAM_LABELS = {"id2label": {0: "ham", 1: "spam"}, "label2id": {"ham": 0, "spam": 1}}
OTHER_LABELS = {"id2label": {0: "good", 1: "bad"}, "label2id": {"good": 0, "bad": 1}}
MODELS = {
    "spam": (GPTScratchForSequenceClassification, SPAM_LABELS, r"(?s)^\[{'label': '(ham|spam)'.*(ham|spam)$"),
    "classes": (GPTScratchForSequenceClassification, OTHER_LABELS, r"^\[{'label': '(good|bad)'"),
    "tokens": (GPTScratchForTokenClassification, OTHER_LABELS, r"\['(good|bad)', .*\]$"),
    "text": (GPTScratchForCausalLM, {}, r"^Every effort moves you"),
    "chat": (GPTScratchForCausalLM, {"chat": CHAT_TEMPLATE, "n_positions": 256}, r""),
    "states": (GPTScratchModel, {}, r"torch.Size\(\[1, \d+, 32\]\)$"),
}
ADAPTERS = {
    "chat": (GPTScratchForCausalLM, "CAUSAL_LM", {"chat": CHAT_TEMPLATE, "n_positions": 256}, r""),
    "text": (GPTScratchForCausalLM, "CAUSAL_LM", {}, r"^Every effort moves you"),
    "classes": (GPTScratchForSequenceClassification, "SEQ_CLS", OTHER_LABELS, r"\['(good|bad)'\]$"),
}


@pytest.fixture(scope="module")
def saved_models(tmp_path_factory) -> dict[str, Path]:
    folder = tmp_path_factory.mktemp("models")
    return {name: save_model(folder / name, kind, **settings) for name, (kind, settings, _) in MODELS.items()}


@pytest.fixture(scope="module")
def printed_by_models(saved_models) -> dict[str, str]:
    return dict(zip(MODELS, run_codes(list(saved_models.values()))))


@pytest.mark.parametrize("name", MODELS)
def test_its_lines_of_code_run_where_the_package_is_not_installed(printed_by_models, name):
    assert re.search(MODELS[name][-1], printed_by_models[name])


@pytest.fixture(scope="module")
def printed_by_adapters(tmp_path_factory) -> dict[str, str]:
    peft = pytest.importorskip("peft")
    folder, saved = tmp_path_factory.mktemp("adapters"), []
    for name, (model_class, task, settings, _) in ADAPTERS.items():
        base = save_model(folder / f"{name}-base", model_class, **settings)
        lora = peft.LoraConfig(task_type=task, target_modules="all-linear")
        saved.append(folder / f"{name}-adapter")
        peft.get_peft_model(model_class.from_pretrained(base), lora).save_pretrained(saved[-1])
        load_tokenizer(str(base)).save_pretrained(saved[-1])
    return dict(zip(ADAPTERS, run_codes(saved)))


@pytest.mark.parametrize("name", ADAPTERS)
def test_the_lines_of_an_adapters_card_run(printed_by_adapters, name):
    assert re.search(ADAPTERS[name][-1], printed_by_adapters[name])


def run_codes(folders: list[Path]) -> list[str]:
    """What the lines of each folder's card print, one after the other in a process without this package."""
    script, mark = ["import sys", "sys.modules['hf_gpt_scratch'] = None"], "-- the next card --"
    for folder in folders:
        for code in re.findall(r"```python\n(.*?)```", str(make_card(folder, "user/repo")), re.DOTALL):
            code = code.replace('"user/repo"', repr(str(folder)))
            script.append(f"exec({code!r}, {{}})")
        script.append(f"print({mark!r})")
    run = subprocess.run([sys.executable, "-W", "ignore", "-c", "\n".join(script)], capture_output=True, text=True)
    assert run.returncode == 0, run.stderr[-2000:]
    return [printed.strip() for printed in run.stdout.split(mark)[: len(folders)]]


COMMANDS = {"text": ["generate"], "chat": ["chat"], "spam": ["classify"]}


@pytest.mark.parametrize("name", COMMANDS)
def test_its_command_lines_run(saved_models, monkeypatch, capsys, name):
    folder = saved_models[name]
    lines = re.findall(r"```bash\n(.*?)```", str(make_card(folder, "user/repo")), re.DOTALL)
    words = [shlex.split(line) for block in lines for line in block.splitlines()]
    assert [[program, command] for program, command, *_ in words] == [["hf-gpt-scratch", *COMMANDS[name]]]
    monkeypatch.setattr("sys.stdin", io.StringIO("Name three colours.\n"))
    assert main([str(folder) if word == "user/repo" else word for word in words[0][1:]]) == 0
    assert capsys.readouterr().out.strip()
