"""
A GPT written from scratch that is a real Hugging Face model.

Importing the package registers its Auto classes. Besides the five classes of the model it has `convert` and `export`
(checkpoints of the GPT-2 family), `load` (any of them), `TextClassifier`, `Chat`, `FaqBot`, `check` and `push` (for
the Hub), each imported when it is first used.

    >>> from hf_gpt_scratch import load
    >>> model, tokenizer = load("openai-community/gpt2")  # doctest: +SKIP
"""

import sys
from importlib import import_module

TYPE_CHECKING = False  # as type checkers know it: `typing`, unlike the three above, Python has not imported yet

if TYPE_CHECKING:
    from .classification.classifier import TextClassifier
    from .configuration_gpt_scratch import GPTScratchConfig
    from .conversion.convert import convert
    from .conversion.export import export
    from .faq.bot import FaqBot
    from .generation.chat import Chat
    from .hub.check import check
    from .hub.push import push
    from .modeling_gpt_scratch import (
        GPTScratchForCausalLM,
        GPTScratchForSequenceClassification,
        GPTScratchForTokenClassification,
        GPTScratchModel,
    )
    from .pretrained import load

__version__ = "0.2.0"

# Where each public name is; what is not imported yet costs no time.
_HOME = {
    "GPTScratchConfig": "configuration_gpt_scratch",
    "GPTScratchForCausalLM": "modeling_gpt_scratch",
    "GPTScratchForSequenceClassification": "modeling_gpt_scratch",
    "GPTScratchForTokenClassification": "modeling_gpt_scratch",
    "GPTScratchModel": "modeling_gpt_scratch",
    "Chat": "generation.chat",
    "FaqBot": "faq.bot",
    "TextClassifier": "classification.classifier",
    "check": "hub.check",
    "convert": "conversion.convert",
    "export": "conversion.export",
    "load": "pretrained",
    "push": "hub.push",
}

__all__ = [
    "Chat",
    "FaqBot",
    "GPTScratchConfig",
    "GPTScratchForCausalLM",
    "GPTScratchForSequenceClassification",
    "GPTScratchForTokenClassification",
    "GPTScratchModel",
    "TextClassifier",
    "check",
    "convert",
    "export",
    "load",
    "push",
]


if not TYPE_CHECKING:  # a type checker would take any name for one of ours

    def __getattr__(name: str):
        if name not in _HOME:
            raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
        value = getattr(import_module(f".{_HOME[name]}", __name__), name)
        globals()[name] = value
        return value


def __dir__() -> list[str]:
    return sorted({*__all__, *(name for name in globals() if name.startswith("__"))})


def register() -> None:
    """Registers the Auto classes: `AutoModelForCausalLM.from_pretrained` then needs no `trust_remote_code`."""
    import transformers

    from . import modeling_gpt_scratch as model
    from .configuration_gpt_scratch import GPTScratchConfig

    transformers.AutoConfig.register(GPTScratchConfig.model_type, GPTScratchConfig, exist_ok=True)
    for auto_class, model_class in {
        transformers.AutoModel: model.GPTScratchModel,
        transformers.AutoModelForCausalLM: model.GPTScratchForCausalLM,
        transformers.AutoModelForSequenceClassification: model.GPTScratchForSequenceClassification,
        transformers.AutoModelForTokenClassification: model.GPTScratchForTokenClassification,
    }.items():
        auto_class.register(GPTScratchConfig, model_class, exist_ok=True)


def _is_command() -> bool:
    """Whether this is the command line, which answers --help and wrong usage without torch, and registers later."""
    # While `python -m` imports a module's package, the first of the words is "-m".
    is_run = sys.argv[:1] == ["-m"] and f" -m {__name__} " in f"{' '.join(sys.orig_argv)} "
    return is_run or getattr(sys.modules.get("hf_gpt_scratch_cli"), "registers_later", False)


if sys.argv[:1] == ["-m"]:  # only while `python -m` imports this package: it puts that folder first
    from .utils.start import forget_working_directory

    forget_working_directory()
if not _is_command():
    register()
