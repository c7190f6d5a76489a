"""
The commands of `hf-gpt-scratch`, a module each: its arguments, and a `run` that imports what does the work. The
modules themselves import nothing heavy, so that help and wrong usage are answered at once.
"""

from ..apps import chat as app_chat
from ..apps import classify as app_classify
from ..apps import compare as app_compare
from ..evaluation.judge import scoring as judge
from ..hub import check, push
from . import chat, classify, convert, export, generate
from .train import JOBS

COMMANDS = {
    "train": ("train a model; what follows is the job", JOBS),
    "convert": ("make a model of this package from another GPT-2", convert),
    "export": ("write a model of this package in another format", export),
    "generate": ("let a language model continue a prompt", generate),
    "chat": ("talk with an instruction-tuned model", chat),
    "classify": ("tell spam from ham: each message's label and its probability of being spam", classify),
    "judge": ("let a larger language model score the answers of a model", judge),
    "app": (
        "pages in the browser",
        {
            "chat": ("chat with an instruction follower", app_chat),
            "spam": ("watch a spam filter read, word by word", app_classify),
            "compare": ("vote blindly between two models' answers", app_compare),
        },
    ),
    "check": ("whether a model's folder loads for anyone, anywhere", check),
    "push": ("a model's folder, with its card, to the Hub", push),
}
