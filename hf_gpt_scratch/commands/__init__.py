"""
The commands of `hf-gpt-scratch`, a module each: its arguments, and a `run` that imports what does the work. The
modules themselves import nothing heavy, so that help and wrong usage are answered at once.
"""

from . import (
    app_chat,
    app_classify,
    app_compare,
    benchmark,
    calibrate,
    chat,
    check,
    classify,
    convert,
    evaluate,
    export,
    generate,
    judge,
    push,
    report,
)
from .train import JOBS

COMMANDS = {
    "train": ("train a model; what follows is the job", JOBS),
    "convert": ("make a model of this package from another GPT-2", convert),
    "export": ("write a model of this package in another format", export),
    "generate": ("let a language model continue a prompt", generate),
    "chat": ("talk with an instruction-tuned model", chat),
    "classify": ("tell spam from ham: each message's label and its probability of being spam", classify),
    "judge": ("let a larger language model score the answers of a model", judge),
    "evaluate": ("measure a language model by MMLU or other tasks of lm-evaluation-harness", evaluate),
    "calibrate": ("fit a spam classifier's probabilities and threshold to its validation set", calibrate),
    "benchmark": ("hold spam classifiers against linear models on the same splits", benchmark),
    "report": ("compare runs that were evaluated, in tables and pictures", report),
    "app": (
        "pages in the browser",
        {
            "chat": ("chat with an instruction follower", app_chat),
            "classify": ("watch a spam classifier read, word by word", app_classify),
            "spam": ("another name of `app classify`", app_classify),
            "compare": ("vote blindly between two models' answers", app_compare),
        },
    ),
    "check": ("whether a model's folder loads for anyone, anywhere", check),
    "push": ("a model's folder, with its card, to the Hub", push),
}
