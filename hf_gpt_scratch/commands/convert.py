"""`hf-gpt-scratch convert`: a model of this package from another GPT-2."""

import argparse

from ..utils.terminal import quieten_transformers
from .arguments import positive


def add_arguments(parser: argparse.ArgumentParser) -> None:
    from ..conversion.download import SIZES
    from ..conversion.formats import FORMATS

    parser.add_argument("src", metavar="SRC", help="a file, a folder, or a Hub repository like openai-community/gpt2")
    parser.add_argument("out", metavar="OUT", help="the folder to make")
    formats = ["auto", *FORMATS]
    parser.add_argument("--from", dest="format", choices=formats, default="auto", help="SRC's format (default: auto)")
    parser.add_argument(
        "--tokenizer", metavar="PATH", help="the tokenizer to put beside it: a folder, repository or none"
    )
    parser.add_argument("--n-head", type=positive, help="attention heads, where the file cannot tell")
    parser.add_argument("--lora-scale", type=float, help="what LoRA's A @ B is multiplied by, in the book alpha")
    parser.add_argument("--labels", help="the classes of a classifier of the book, such as ham,spam")
    parser.add_argument("--activation", choices=["gelu", "gelu_new"], help="nanoGPT's, before July 2023 gelu_new")
    parser.add_argument("--size", choices=SIZES, help="first download OpenAI's GPT-2 of this size into SRC")
    parser.add_argument("--vocab-size", type=positive, help="cut a vocabulary that was rounded up to this")


def run(args: argparse.Namespace) -> None:
    """The command."""
    from ..conversion.convert import convert

    quieten_transformers()
    if args.size:
        from ..conversion.download import download_openai
        from ..utils.errors import UsageError

        if args.format not in ("auto", "openai-tf"):
            raise UsageError(f"--size does not apply to {args.format}; OpenAI published it as openai-tf.")
        download_openai(args.size, args.src)
    names = ("n_head", "lora_scale", "labels", "vocab_size", "activation")
    options = {name: getattr(args, name) for name in names}
    done = convert(args.src, args.out, args.format, args.tokenizer, prove=True, **options)
    print(f"Converted {args.src} ({done.format}) into {done.folder}.")
    print(f"Its logits differ by at most {done.max_logit_difference:.1e} from the original's.")
