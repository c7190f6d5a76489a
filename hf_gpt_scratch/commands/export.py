"""`hf-gpt-scratch export`: a model of this package in another format."""

import argparse
import os

from ..conversion.choices import GGUF_DTYPES, LLAMA_CPP_DTYPES, ONNX_DTYPES, TARGETS
from ..utils.errors import UsageError
from ..utils.files import require_file, require_new, require_present
from ..utils.requirements import GGUF, TO_ONNX, require_package
from ..utils.terminal import quieten_transformers
from .arguments import require_model

DIFFERENCE = "Its logits differ by at most {:.1e} from the original's."


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.description = (
        "Exports a model of this package: as hf-gpt2, the stock GPT-2 of transformers, as gguf, for llama.cpp and"
        " Ollama, or as onnx, for onnxruntime and transformers.js. What was written is read back and compared with"
        " the model."
    )
    parser.epilog = (
        "Examples:\n  hf-gpt-scratch export runs/demo/writer runs/stock-gpt2 --to hf-gpt2\n"
        "  hf-gpt-scratch export runs/demo/spam runs/spam-onnx --to onnx --dtype int8 --data_file messages.csv"
    )
    parser.add_argument("dir", metavar="DIR", help="a folder or Hub repository of a model or a LoRA adapter")
    parser.add_argument("out", metavar="OUT", help="the folder to write")
    parser.add_argument("--to", required=True, choices=TARGETS, help="the format")
    parser.add_argument(
        "--dtype",
        choices=(*GGUF_DTYPES, *LLAMA_CPP_DTYPES, *ONNX_DTYPES),
        help="for gguf: the type of the matrices (default: f32), of which those with a k need llama.cpp's"
        " llama-quantize; for onnx: fp32 (default) or int8",
    )
    parser.add_argument(
        "--perplexity-text",
        metavar="FILE",
        help="for gguf and onnx: measure the perplexity of a language model on this text, before and after",
    )
    parser.add_argument(
        "--data_file",
        metavar="TABLE",
        help="for onnx: measure the accuracy and F1 of a sequence classifier on this table of texts and labels, before"
        " and after",
    )
    parser.add_argument("--text_column", metavar="NAME", help="the column of --data_file with the texts")
    parser.add_argument("--label_column", metavar="NAME", help="the column of --data_file with the labels")
    parser.add_argument(
        "--adapter", metavar="DIR", help="merge the LoRA adapter of this folder or Hub repository into the model first"
    )


def check(args: argparse.Namespace) -> None:
    """Checks what needs no torch."""
    dtypes = {"gguf": (*GGUF_DTYPES, *LLAMA_CPP_DTYPES), "onnx": ONNX_DTYPES}.get(args.to, ())
    if args.dtype and args.dtype not in dtypes:
        known = f"; it has {', '.join(dtypes)}" if dtypes else ""
        raise UsageError(f"--dtype {args.dtype} does not go with --to {args.to}{known}.")
    if args.to == "hf-gpt2" and args.perplexity_text:
        raise UsageError("--perplexity-text only goes with --to gguf and --to onnx.")
    if args.to != "onnx" and args.data_file:
        raise UsageError("--data_file only goes with --to onnx.")
    if (args.text_column or args.label_column) and not args.data_file:
        raise UsageError("--text_column and --label_column are for the columns of a --data_file.")
    require_present(args.dir)
    if args.adapter:
        require_model(args.adapter)
    for file in filter(None, (args.perplexity_text, args.data_file)):
        require_file(file)
    require_new(args.out)
    for package in {"gguf": (GGUF,), "onnx": TO_ONNX}.get(args.to, ()):
        require_package(*package)


def run(args: argparse.Namespace) -> None:
    """The command."""
    from ..adapters import merged_folder
    from ..conversion.export import export
    from ..conversion.gguf import export_gguf

    quieten_transformers()
    with merged_folder(args.dir, args.adapter) as src:
        if args.to == "onnx":
            _to_onnx(args, src)
            return
        if args.to == "hf-gpt2":
            done = None
            export(str(src), args.out)
        else:
            done = export_gguf(str(src), args.out, args.dtype or "f32", text=args.perplexity_text)
    print(f"Exported {args.dir} as {args.to} into {args.out}.")
    if done is not None:
        print(DIFFERENCE.format(done.max_logit_difference))
        if args.perplexity_text:
            before, after = done.perplexity_before, done.perplexity_after
            print(f"Perplexity on {args.perplexity_text}: {before:.4f} before, {after:.4f} after.")


def _to_onnx(args: argparse.Namespace, src: str | os.PathLike) -> None:
    """Exports a whole model, and measures what that costs on the texts that were given, which are read first."""
    from ..conversion.onnx import export_onnx
    from ..evaluation.export_cost import labels_cost, read_labelled, read_text, require_kind, text_cost

    require_kind(src, args.perplexity_text, args.data_file)
    text = read_text(args.perplexity_text) if args.perplexity_text else None
    data = read_labelled(src, args.data_file, args.text_column, args.label_column) if args.data_file else None
    for note in data.notes if data is not None else ():
        print(f"note: {note}")
    done = export_onnx(src, args.out, args.dtype or "fp32")
    size = done.graph.stat().st_size / 1e6
    print(f"Exported {args.dir} as {args.to} ({done.dtype}, {size:.1f} MB) into {args.out}.")
    print(DIFFERENCE.format(done.max_logit_difference))
    if text is not None:
        cost = text_cost(src, args.out, text)
        print(f"Perplexity on {args.perplexity_text}: {cost['perplexity']:.4f} before, {cost['changed']:.4f} after.")
    if data is not None:
        cost = labels_cost(src, args.out, data)
        print(
            f"On {args.data_file} ({cost['texts']} texts): accuracy {cost['accuracy_before']:.4f} before,"
            f" {cost['accuracy_after']:.4f} after; F1 {cost['f1_before']:.4f} before, {cost['f1_after']:.4f} after;"
            f" {cost['labels_changed']} labels changed; largest difference of a probability {cost['largest']:.1e}."
        )
