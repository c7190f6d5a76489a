"""`hf-gpt-scratch generate`: a language model continues a prompt."""

import argparse
import sys
from itertools import chain

from ..utils.files import require_present
from .arguments import require_usable
from .generation_options import add_sampling, language_model


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.epilog = (
        "Examples:\n  hf-gpt-scratch generate runs/demo/writer --prompt 'Tilly looked at'\n"
        "  hf-gpt-scratch generate openai-community/gpt2 --prompt 'Every effort moves you' --top-k 20"
    )
    parser.add_argument(
        "dir",
        metavar="DIR",
        help="a folder or Hub repository (owner/name) of a model, a stock GPT-2 or a LoRA adapter",
    )
    parser.add_argument("--prompt", default="", help="the text to continue (default: start a new document)")
    add_sampling(parser, max_new_tokens=100, temperature=1.0)


def check(args: argparse.Namespace) -> None:
    """What can be checked before torch is imported."""
    require_present(args.dir)
    require_usable(args.dir)


def run(args: argparse.Namespace) -> None:
    """The command."""
    from ..generation.sampling import stream_text

    model, tokenizer, sampling = language_model(args)
    pieces = stream_text(model, tokenizer, args.prompt, **sampling)
    first = next(pieces, "")  # raises for a prompt that does not fit
    written = 0
    for piece in chain([args.prompt, first], pieces):
        print(piece, end="", flush=True)
        written += len(piece)
    print()
    if written == len(args.prompt):
        advice = f"; it was trained to answer: `hf-gpt-scratch chat {args.dir}`" if tokenizer.chat_template else ""
        print(f"note: the model added nothing to the text{advice}.", file=sys.stderr)
