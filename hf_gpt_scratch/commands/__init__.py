"""
The commands of `hf-gpt-scratch`: each one's name, its help, and its module here, or a table of commands of its own.

A module (or an object in it, after a colon) has `add_arguments(parser)` and `run(args)`, and imports nothing heavy at
its top. It may have `check(args)`, which raises `InputError` for what is wrong and can be seen without torch, and
`IS_LIGHT = True` where `run` needs no model, so that torch and transformers are not imported at all. It is imported
when its command is given, so that no command waits for another's imports.
"""

COMMANDS: dict[str, tuple[str, str | dict]] = {
    "train": (
        "train a model with transformers' Trainer",
        {
            "pretrain": ("a language model on plain text", "commands.train:PRETRAIN"),
            "classify": ("a classifier on labelled texts of your own", "commands.train:CLASSIFY"),
            "spam": ("a spam classifier on the SMS Spam Collection", "commands.train:SPAM"),
            "instruct": ("a language model to follow instructions", "commands.train:INSTRUCT"),
            "prefer": ("a language model to give the answers that people prefer (DPO)", "commands.train:PREFER"),
            "chat": ("a bot that answers from an FAQ, or says that it does not know", "commands.train:CHAT"),
        },
    ),
    "examples": ("small data sets to try the package with, copied into a folder", "commands.examples"),
    "convert": ("make a model of this package from another GPT-2", "commands.convert"),
    "export": ("write a model of this package in another format", "commands.export"),
    "generate": ("let a language model continue a prompt", "commands.generate"),
    "chat": ("talk with an instruction-tuned model", "commands.chat"),
    "classify": ("tell the labels of texts, such as topics or spam, with their probabilities", "commands.classify"),
    "judge": ("let a larger language model score the answers of a model", "commands.judge"),
    "evaluate": ("measure a language model on MMLU or other tasks of lm-evaluation-harness", "commands.evaluate"),
    "calibrate": ("fit a classifier's probabilities and thresholds to its validation set", "commands.calibrate"),
    "benchmark": ("compare classifiers with linear models on the same splits", "commands.benchmark"),
    "report": ("compare runs that were evaluated, in tables and pictures", "commands.report"),
    "app": (
        "pages in the browser",
        {
            "chat": ("chat with an instruction follower", "commands.app_chat"),
            "classify": ("watch a classifier read, word by word", "commands.app_classify"),
            "spam": ("another name of `app classify`", "commands.app_classify"),
            "compare": ("vote blindly between two models' answers", "commands.app_compare"),
        },
    ),
    "check": ("whether a model's folder loads for anyone, anywhere", "commands.check"),
    "push": ("a model's folder, with its card, to the Hub", "commands.push"),
}

# Of each command that has commands of its own: what usage calls them, its description, and its examples.
GROUPS = {
    "train": (
        "JOB",
        "Trains a model with transformers' Trainer. A config and --key value options follow the JOB; `hf-gpt-scratch"
        " train JOB --help` lists them.",
        "Examples:\n  hf-gpt-scratch train classify cpu_small --data_file tickets.csv --output_dir runs/tickets\n"
        "  hf-gpt-scratch train pretrain cpu_small --data_file book.txt --output_dir runs/book",
    ),
    "app": (
        "APP",
        "Shows a page in the browser. Its arguments follow the APP; `hf-gpt-scratch app APP --help` lists them.",
        "Examples, with the models that the demo (training/demo.py) makes:\n"
        "  hf-gpt-scratch app classify runs/demo/spam\n  hf-gpt-scratch app chat runs/demo/follower",
    ),
}
