"""`hf-gpt-scratch convert`: a model of this package from another GPT-2."""

import argparse
import sys
from pathlib import Path

from ..conversion.choices import ACTIVATIONS, AS, ATTENTION_SCALES, FORMATS, OPENAI_SIZES, assuming, guess_warning
from ..utils.errors import UsageError
from ..utils.files import require_file, require_new, require_present
from ..utils.requirements import TENSORFLOW, require_package
from ..utils.terminal import quieten_transformers
from .arguments import count, positive

OF_SUFFIX = {".gguf": "gguf", ".h5": "h5py", ".msgpack": "msgpack"}  # the packages that read these files


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.description = (
        "Converts a GPT-2 checkpoint of another format into a model folder of this package and compares the logits of"
        " the two. A tensor that is not understood is an error. Pickled files are read without running their code."
    )
    parser.epilog = "Example: hf-gpt-scratch convert openai-community/gpt2 runs/gpt2"
    parser.add_argument(
        "src", metavar="SRC", help="a checkpoint: a file, a folder, or a Hub repository like openai-community/gpt2"
    )
    parser.add_argument("out", metavar="OUT", help="the model folder to write")
    formats = ["auto", *FORMATS]
    parser.add_argument("--from", dest="format", choices=formats, default="auto", help="SRC's format (default: auto)")
    parser.add_argument(
        "--file", metavar="NAME", help="of a folder or repository with several models: the file of weights to convert"
    )
    parser.add_argument(
        "--as", dest="as_", choices=AS, help="for hf-gpt2: the model to take it for, whatever its config.json says"
    )
    parser.add_argument(
        "--tokenizer",
        metavar="DIR",
        help="the tokenizer to save with it: a folder, a Hub repository, or none (default: SRC's own, or GPT-2's)",
    )
    parser.add_argument(
        "--n-head",
        type=positive,
        help="for llms-from-scratch, gpt2-state-dict and hub-mixin: the number of attention heads, which their weights"
        " do not tell (default: one for every 64 dimensions)",
    )
    parser.add_argument(
        "--lora-scale",
        type=float,
        help="for llms-from-scratch and hub-mixin, with LoRA layers: alpha in the book, alpha / rank elsewhere",
    )
    parser.add_argument(
        "--labels", help="for a classifier of llms-from-scratch or hub-mixin: its labels in order, such as ham,spam"
    )
    parser.add_argument(
        "--activation",
        choices=ACTIVATIONS,
        help="for nanogpt, gpt2-state-dict and hub-mixin: the GELU that the model was trained with, gelu_new for a"
        " nanoGPT of before July 2023 (default: gelu for nanoGPT, gelu_new for the others)",
    )
    parser.add_argument(
        "--attention-scale",
        choices=ATTENTION_SCALES,
        help="for gpt2-state-dict and hub-mixin, with stock GPT-2's weights: what attention scores are divided by: the"
        " root of a head's width, that and the number of the layer, or nothing (default: root)",
    )
    parser.add_argument(
        "--vocab-size",
        type=positive,
        help="for nanogpt, gpt2-state-dict and hub-mixin: cut a padded vocabulary to this many tokens, such as 50257",
    )
    parser.add_argument(
        "--window",
        type=count,
        metavar="N",
        help="for llms-from-scratch and hub-mixin, with sliding-window attention: how many tokens a token looks at,"
        " itself included (default: 0, all of them)",
    )
    parser.add_argument(
        "--window-stride",
        type=int,
        metavar="K",
        help="with --window, or a window that --calibration-text tells: so many blocks with it are followed by one"
        " without it, -1 for all with it, as in the book (default: 2)",
    )
    parser.add_argument(
        "--calibration-text",
        metavar="FILE",
        help="a text that the model should predict well: of the options above that SRC does not tell and you do not"
        " give, take the values of the best perplexity on it, if they are clearly better",
    )
    parser.add_argument("--size", choices=OPENAI_SIZES, help="first download OpenAI's GPT-2 of this size into SRC")


def check(args: argparse.Namespace) -> None:
    """Checks what needs no torch."""
    if args.size and args.format not in ("auto", "openai-tf"):
        raise UsageError(
            f"--size downloads a checkpoint in the format openai-tf; it does not go with --from {args.format}."
        )
    may_have_window = args.window or (args.window is None and args.calibration_text)
    if args.window_stride is not None and not may_have_window:
        raise UsageError("--window-stride only goes with --window, or with a --calibration-text that may tell one.")
    if args.calibration_text:
        require_file(args.calibration_text)
        if args.tokenizer == "none":
            raise UsageError("--calibration-text needs a tokenizer to read the text with; it does not go with none.")
    if not args.size:
        require_present(args.src)
    if args.tokenizer:
        require_present(args.tokenizer)
    require_new(args.out)
    if args.size:
        require_package(*TENSORFLOW)
    if Path(args.src).is_file() and (package := OF_SUFFIX.get(Path(args.src).suffix.lower())):
        require_package(package, "convert", f"Reading {args.src}")


def run(args: argparse.Namespace) -> None:
    """The command."""
    from ..conversion.convert import convert

    if args.size:
        from ..conversion.download import download_openai

        download_openai(args.size, args.src)  # while progress bars are still shown
    quieten_transformers()
    names = {name for options in FORMATS.values() for name in options}
    options = {name: getattr(args, name) for name in sorted(names)}
    options |= {"calibration_text": args.calibration_text, "report": lambda line: print(line, file=sys.stderr)}
    done = convert(args.src, args.out, args.format, args.tokenizer, prove=True, file=args.file, **options)
    print(f"Converted {args.src} ({done.format}) into {done.folder}.")
    end = assuming(done.assumed, with_options=True)
    print(f"Its logits differ by at most {done.max_logit_difference:.1e} from the original's{end}.")
    for note in done.notes:
        print(f"note: {note}", file=sys.stderr)
    if done.guessed:
        print(f"warning: {guess_warning(done.guessed)}", file=sys.stderr)
