"""The models that canaries are planted in, what a place is, and the canaries: code that leaves a file when it runs."""

import json
import shutil
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

TRACE = "it-ran"  # the file that a canary leaves, in the folder where the command is started
ADAPTER, RESPONSES = "adapter", "responses.json"
TEXT = "a lamp on a hill and a boat on the sea\n"


Words = Sequence[str] | Callable[[], int]


@dataclass(frozen=True)
class Place:
    """
    A place for a canary.

    Attributes:
        plant: puts it into a folder with the models of `make_kit`.
        commands: their words, or functions that return a status; the canary must run in none.
        trusting: those in which it must run.
        naive: what a program does that takes no care, or several that each meet another canary of the place; the
            canary must run in it, or it is none.
        prepare: called in the process of a command, before it.
        is_real: whether the command is started by Python in the folder, and is no fork.
    """

    name: str
    plant: Callable[[Path], None]
    commands: Sequence[Words]
    trusting: Sequence[Words] = ()
    naive: Callable[[], object] | Sequence[Callable[[], object]] = ()
    prepare: Callable[[], None] = lambda: None
    is_real: bool = False

    @property
    def careless(self) -> list[Callable[[], object]]:
        """The programs that take no care."""
        return [self.naive] if callable(self.naive) else list(self.naive)


def make_kit(kit: Path) -> None:
    """Small models of every kind, without any canary."""
    import torch
    from peft import LoraConfig, get_peft_model
    from transformers import GPT2Config, GPT2LMHeadModel, LlamaConfig, LlamaForCausalLM

    from hf_gpt_scratch import GPTScratchForCausalLM, GPTScratchForSequenceClassification
    from hf_gpt_scratch.prompts import CHAT_TEMPLATE
    from support.models import save_model, save_tokenizer

    save_model(kit / "model", chat=CHAT_TEMPLATE, n_positions=256)
    labels = {"id2label": {0: "ham", 1: "spam"}, "label2id": {"ham": 0, "spam": 1}}
    save_model(kit / "classifier", GPTScratchForSequenceClassification, **labels)
    shutil.copytree(kit / "model", kit / "base")
    lora = LoraConfig(task_type="CAUSAL_LM", target_modules="all-linear", r=2, init_lora_weights=False)
    get_peft_model(GPTScratchForCausalLM.from_pretrained(kit / "base"), lora).save_pretrained(kit / ADAPTER)
    edit(kit / ADAPTER / "adapter_config.json", base_model_name_or_path="base")
    for name in ("tokenizer.json", "tokenizer_config.json", "chat_template.jinja"):
        shutil.copy(kit / "base" / name, kit / ADAPTER)
    torch.manual_seed(0)
    sizes = {"n_positions": 64, "n_embd": 16, "n_layer": 1, "n_head": 2}
    GPT2LMHeadModel(GPT2Config(vocab_size=300, **sizes)).save_pretrained(kit / "stock")
    fitting = save_tokenizer(kit / "judge", [TEXT] * 5, 300, chat="{{ messages[0]['content'] }}")
    shape = {"hidden_size": 16, "intermediate_size": 16, "num_hidden_layers": 1, "num_attention_heads": 2}
    LlamaForCausalLM(LlamaConfig(**shape, max_position_embeddings=2048, **fitting)).save_pretrained(kit / "judge")
    row = {"instruction": "Name a sea.", "input": "", "output": "a sea", "model_response": "the sea"}
    (kit / RESPONSES).write_text(json.dumps([row]))
    (kit / "text.txt").write_text(TEXT * 60)
    rows = [{"instruction": f"Name {number} seas.", "output": f"sea {number}"} for number in range(40)]
    (kit / "rows.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))


def code(folder: Path) -> str:
    """A line of Python, wherever it runs."""
    return f"open({str(folder / TRACE)!r}, 'w').close()\n"


class Payload:
    """Runs the code when it is unpickled."""

    def __init__(self, code: str):
        self.code = code

    def __reduce__(self):
        return exec, (self.code,)


def edit(path: Path, **changes) -> None:
    held = json.loads(path.read_text()) if path.exists() else {}
    path.write_text(json.dumps(held | changes))


def append(path: Path, text: str) -> None:
    with open(path, "a") as file:
        file.write(text)


def torch_file(path: Path, folder: Path, tensors: dict | None = None) -> None:
    import torch

    path.parent.mkdir(parents=True, exist_ok=True)
    torch.save({**(tensors or {}), "payload": Payload(code(folder))}, path)
