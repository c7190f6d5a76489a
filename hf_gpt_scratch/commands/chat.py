"""`hf-gpt-scratch chat`: a conversation with an instruction-tuned model, in the terminal."""

import argparse

from .sampling import add_sampling, language_model


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.description = (
        "Reads questions, one a line, and prints the answers; the line /new begins a new conversation. On a terminal,"
        " Ctrl-C stops an answer and Ctrl-D ends. Of a conversation too long for the model, the oldest part is"
        " forgotten."
    )
    parser.add_argument("dir", metavar="DIR", help="a model folder, an adapter's, or a Hub repository")
    parser.add_argument(
        "--system", help="what the prompt begins with, instead of the sentence the model was trained on"
    )
    parser.add_argument(
        "--no-history", action="store_true", help="read each question alone, as the instructions in training were"
    )
    add_sampling(parser, max_new_tokens=256, temperature=0.0)


def run(args: argparse.Namespace) -> None:
    """The command."""
    from ..chat import Chat, converse

    model, tokenizer, sampling = language_model(args)
    converse(Chat(model, tokenizer, args.system, history=not args.no_history), **sampling)
