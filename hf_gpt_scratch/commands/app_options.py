"""What the commands of the pages share: their arguments, and serving a page or writing it as a Space."""

import argparse
import shlex

from ..utils.constants import SHORTEST_PASSWORD
from ..utils.errors import UsageError
from ..utils.files import require_new
from ..utils.requirements import GRADIO, TO_ONNX, require_package
from ..utils.terminal import quieten_transformers
from .arguments import add_device_options, add_trust, placement, require_model

STATIC_DTYPES = ("int8", "fp32")


def add_model_arguments(parser: argparse.ArgumentParser, help: str) -> None:
    """Those of a page for one model; `help` says what `DIR` is."""
    parser.add_argument("dir", metavar="DIR", help=help)
    parser.add_argument(
        "--export-space",
        metavar="OUT",
        help="write the page as a folder that runs by itself, also as a Hugging Face Space",
    )
    parser.add_argument(
        "--export-static",
        metavar="OUT",
        help="write the page as a folder of static files: the model runs in the browser's tab, in int8 or with --dtype"
        " fp32, and what is typed there stays there",
    )
    add_trust(parser, "with --export-space: ")
    add_device_options(parser)
    add_address_arguments(parser)


def add_address_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--host", default="127.0.0.1", help="the address to listen on (default: 127.0.0.1)")
    parser.add_argument("--port", type=_port, help="the port to listen on (default: the first free one from 7860)")
    parser.add_argument(
        "--share",
        action="store_true",
        help="also give the page a public address, through Gradio's server, for a week at most; needed in Colab",
    )

    parser.add_argument(
        "--password",
        type=_password,
        help="ask everyone for this password; other users of this machine see it among the processes, but not where it"
        " is in HF_GPT_SCRATCH_PASSWORD of the environment",
    )
    parser.add_argument(
        "--rate",
        type=_rate,
        metavar="N",
        help="requests a minute that one address may send (default: 1000; 0 for no limit)",
    )


def access(args: argparse.Namespace) -> dict:
    """The password and the rate that were given, for `page.serve`."""
    return {name: value for name in ("password", "rate") if (value := getattr(args, name)) is not None}


def refuse_access(args: argparse.Namespace, where: str) -> None:
    """Raises `UsageError` where they are given to what is not served."""
    if given := access(args):
        raise UsageError(f"--{next(iter(given))} is for a page that is served; omit it with {where}.")


def _password(text: str) -> str:
    if len(text) < SHORTEST_PASSWORD:
        raise argparse.ArgumentTypeError(f"must have {SHORTEST_PASSWORD} characters at least")
    return text


def _rate(text: str) -> int:
    if not (text.isascii() and text.isdecimal() and len(text) < 10):
        raise argparse.ArgumentTypeError(f"must be a whole number, not {text}")
    return int(text)


def _port(text: str) -> int:
    if not (text.isdecimal() and 1 <= int(text) <= 65535):
        raise argparse.ArgumentTypeError(f"must be a whole number from 1 to 65535, not {text}")
    return int(text)


def check_model_arguments(args: argparse.Namespace) -> None:
    """Raises `InputError` for what can be seen before torch is imported."""
    if args.trust_remote_code and not args.export_space:
        raise UsageError(
            "--trust-remote-code is for --export-space; a page that is served runs no code from the model's folder."
        )
    if args.export_static:
        check_static(args)
        return
    if args.share and args.export_space:
        raise UsageError("--share is for a page that is served; omit it with --export-space.")
    if args.export_space:
        refuse_access(args, "--export-space")
    require_model(args.dir)
    if args.export_space:
        require_new(args.export_space)
    else:
        require_package(*GRADIO)


def check_static(args: argparse.Namespace) -> None:
    """Raises `InputError` for what can be seen of a static page before torch is imported."""
    if args.export_space:
        raise UsageError("--export-static and --export-space are two kinds of page; give one of them.")
    if args.share or args.device != "auto":
        option = "--share" if args.share else "--device"
        raise UsageError(f"{option} is for a page that is served; omit it with --export-static.")
    refuse_access(args, "--export-static")
    if args.dtype not in ("auto", *STATIC_DTYPES):
        raise UsageError(f"A static page runs in int8 or fp32, not in {args.dtype}; choose one of them.")
    require_model(args.dir)
    require_new(args.export_static)
    for package in TO_ONNX:
        require_package(*package)
    from ..apps import npm

    npm.require_packages(npm.ONNXRUNTIME, npm.TOKENIZERS)


def export_static_page(args: argparse.Namespace, make, is_classifier: bool) -> None:
    """Writes the static page of a classifier or a language model; `make` is that of `export_static`."""
    from ..apps.static_page import export_static, require_kind

    out = args.export_static
    quieten_transformers()
    require_kind(args.dir, is_classifier)
    size = export_static(args.dir, out, make, "int8" if args.dtype == "auto" else args.dtype)
    print(
        f"{out} holds the page, {size / 1e6:.1f} MB. Open {out}/index.html in a browser, or serve it:\n\n"
        f"    python -m http.server --directory {shlex.quote(out)}\n\n"
        "Its examples are messages or questions that the model was tested on; look at them before you publish the"
        f" page:\n\n    hf-gpt-scratch push {shlex.quote(out)} you/your-page --space"
    )


def serve_or_export(args: argparse.Namespace, page, **settings) -> None:
    """Serves the page of a model, a module of `apps`, with the page's own settings, or writes it as a Space."""
    quieten_transformers()
    if not args.export_space:
        page.serve(args.dir, args.host, args.port, args.share, access(args), **placement(args), **settings)
        return
    from ..apps.space import export_space

    out = args.export_space
    examples = export_space(args.dir, out, page, args.trust_remote_code, report=print)
    if examples:
        print(
            f"note: {out}/model/examples.json holds {examples} examples; if the training data is private, look at them"
            " before you publish the page."
        )
    print(
        f"{out} holds the page. To publish it:\n\n"
        f"    hf upload you/your-space {shlex.quote(out)} --repo-type space\n\n"
        f"To start it here:\n\n    cd {shlex.quote(out)}\n    pip install -r requirements.txt\n    python app.py"
    )
