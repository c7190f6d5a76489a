"""
The commands of `hf-gpt-scratch`: each one's name, its help, and its module here, or a table of commands of its own.

A module has `add_arguments(parser)` and `run(args)`, and imports nothing heavy at its top. It is imported when its
command is given, so that no command waits for another's imports.
"""

COMMANDS: dict[str, tuple[str, str | dict]] = {
    "convert": ("make a model of this package from another GPT-2", "commands.convert"),
    "export": ("write a model of this package in another format", "commands.export"),
    "generate": ("let a language model continue a prompt", "commands.generate"),
    "chat": ("talk with an instruction-tuned model", "commands.chat"),
    "classify": ("tell spam from ham: each message's label and its probability of being spam", "commands.classify"),
    "judge": ("let a larger language model score the answers of a model", "evaluation.judge.scoring"),
    "app": (
        "pages in the browser",
        {
            "chat": ("chat with an instruction follower", "apps.chat"),
            "spam": ("watch a spam filter read, word by word", "apps.classify"),
            "compare": ("vote blindly between two models' answers", "apps.compare"),
        },
    ),
    "check": ("whether a model's folder loads for anyone, anywhere", "hub.check"),
    "push": ("a model's folder, with its card, to the Hub", "hub.push"),
}
