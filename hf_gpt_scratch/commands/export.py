"""`hf-gpt-scratch export`: a model of this package in another format."""

import argparse

from ..conversion.choices import GGUF_DTYPES, LLAMA_CPP_DTYPES, ONNX_DTYPES, TARGETS
from ..utils.errors import UsageError
from ..utils.files import require_file, require_new, require_present
from ..utils.requirements import GGUF, TO_ONNX, require_package
from ..utils.terminal import quieten_transformers
from .arguments import require_model


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.description = (
        "Exports a model of this package: as hf-gpt2, the stock GPT-2 of transformers, as gguf, for llama.cpp and"
        " Ollama, or as onnx, for onnxruntime and transformers.js. What was written is read back and compared with"
        " the model."
    )
    parser.epilog = "Example: hf-gpt-scratch export runs/demo/writer runs/stock-gpt2 --to hf-gpt2"
    parser.add_argument("dir", metavar="DIR", help="a folder or Hub repository of a model or a LoRA adapter")
    parser.add_argument("out", metavar="OUT", help="the folder to write")
    parser.add_argument("--to", required=True, choices=TARGETS, help="the format")
    parser.add_argument(
        "--dtype",
        choices=(*GGUF_DTYPES, *LLAMA_CPP_DTYPES, *ONNX_DTYPES),
        help="the type of the matrices: for onnx fp32; for gguf the others (default: f32), of which those with a k"
        " need llama.cpp's llama-quantize",
    )
    parser.add_argument(
        "--perplexity-text", metavar="FILE", help="for gguf: measure the perplexity on this text, before and after"
    )
    parser.add_argument(
        "--adapter", metavar="DIR", help="merge the LoRA adapter of this folder or Hub repository into the model first"
    )


def check(args: argparse.Namespace) -> None:
    """Checks what needs no torch."""
    dtypes = {"gguf": (*GGUF_DTYPES, *LLAMA_CPP_DTYPES), "onnx": ONNX_DTYPES}.get(args.to, ())
    if args.dtype and args.dtype not in dtypes:
        known = f"; it has {', '.join(dtypes)}" if dtypes else ""
        raise UsageError(f"--dtype {args.dtype} does not go with --to {args.to}{known}.")
    if args.to != "gguf" and args.perplexity_text:
        raise UsageError("--perplexity-text only goes with --to gguf.")
    require_present(args.dir)
    if args.adapter:
        require_model(args.adapter)
    if args.perplexity_text:
        require_file(args.perplexity_text)
    require_new(args.out)
    for package in {"gguf": (GGUF,), "onnx": TO_ONNX}.get(args.to, ()):
        require_package(*package)


def run(args: argparse.Namespace) -> None:
    """The command."""
    from ..adapters import merged_folder
    from ..conversion.export import export
    from ..conversion.gguf import export_gguf
    from ..conversion.onnx import export_onnx

    quieten_transformers()
    with merged_folder(args.dir, args.adapter) as src:
        if args.to == "hf-gpt2":
            done = None
            export(str(src), args.out)
        elif args.to == "onnx":
            done = export_onnx(src, args.out, args.dtype or "fp32")
        else:
            done = export_gguf(str(src), args.out, args.dtype or "f32", text=args.perplexity_text)
    print(f"Exported {args.dir} as {args.to} into {args.out}.")
    if done is not None:
        print(f"Its logits differ by at most {done.max_logit_difference:.1e} from the original's.")
        if args.perplexity_text:
            before, after = done.perplexity_before, done.perplexity_after
            print(f"Perplexity on {args.perplexity_text}: {before:.4f} before, {after:.4f} after.")
