"""`hf-gpt-scratch convert`: a model of this package from another GPT-2."""

import argparse

from ..conversion.choices import ACTIVATIONS, FORMATS, OPENAI_SIZES
from ..utils.errors import UsageError
from ..utils.files import require_new, require_present
from ..utils.terminal import quieten_transformers
from .arguments import positive


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.description = (
        "Makes a model of this package from a GPT-2 in another format, and compares the logits of the two. It fails on"
        " any tensor that it does not understand. The weights of a file from anyone are read without running its code."
    )
    parser.epilog = "Example: hf-gpt-scratch convert openai-community/gpt2 runs/gpt2"
    parser.add_argument(
        "src", metavar="SRC", help="a checkpoint: a file, a folder, or a Hub repository like openai-community/gpt2"
    )
    parser.add_argument("out", metavar="OUT", help="the model folder to make")
    formats = ["auto", *FORMATS]
    parser.add_argument("--from", dest="format", choices=formats, default="auto", help="SRC's format (default: auto)")
    parser.add_argument(
        "--tokenizer",
        metavar="DIR",
        help="the tokenizer to save with it: a folder, a Hub repository, or none (default: SRC's own, or GPT-2's)",
    )
    parser.add_argument(
        "--n-head", type=positive, help="attention heads, for llms-from-scratch, whose file omits them"
    )
    parser.add_argument(
        "--lora-scale", type=float, help="for llms-from-scratch with LoRA: alpha, as in the book, or alpha / rank"
    )
    parser.add_argument("--labels", help="for a classifier of llms-from-scratch: its labels in order, as ham,spam")
    parser.add_argument(
        "--activation", choices=ACTIVATIONS, help="for nanogpt: gelu_new if saved before July 2023 (default: gelu)"
    )
    parser.add_argument(
        "--vocab-size", type=positive, help="for nanogpt: cut a padded vocabulary to this many tokens, such as 50257"
    )
    parser.add_argument("--size", choices=OPENAI_SIZES, help="first download OpenAI's GPT-2 of this size into SRC")


def check(args: argparse.Namespace) -> None:
    """What can be seen before torch is imported."""
    if args.size and args.format not in ("auto", "openai-tf"):
        raise UsageError(f"--size does not apply to {args.format}; OpenAI published it as openai-tf.")
    if not args.size:
        require_present(args.src)
    if args.tokenizer:
        require_present(args.tokenizer)
    require_new(args.out)


def run(args: argparse.Namespace) -> None:
    """The command."""
    from ..conversion.convert import convert

    if args.size:
        from ..conversion.download import download_openai
        from ..utils.requirements import require_package

        require_package("tensorflow", "convert", "Reading OpenAI's files")
        download_openai(args.size, args.src)  # while progress bars are still shown
    quieten_transformers()
    names = ("n_head", "lora_scale", "labels", "vocab_size", "activation")
    options = {name: getattr(args, name) for name in names}
    done = convert(args.src, args.out, args.format, args.tokenizer, prove=True, **options)
    print(f"Converted {args.src} ({done.format}) into {done.folder}.")
    print(f"Its logits differ by at most {done.max_logit_difference:.1e} from the original's.")
