"""What the pages share: Gradio, imported late; the address; errors as sentences; text that is not trusted."""

import argparse
import html
import os
import socket
from collections.abc import Callable

from ..errors import InputError


def gradio():
    """The package; raises `InputError` where it is not installed."""
    os.environ["GRADIO_ANALYTICS_ENABLED"] = "False"  # nothing is sent anywhere
    try:
        import gradio
    except ImportError:
        raise InputError("The page needs the package gradio: pip install 'hf-gpt-scratch[apps]'.") from None
    return gradio


def add_model_arguments(parser: argparse.ArgumentParser, help: str) -> None:
    """Those of a page for one model, whose `DIR` is what `help` says."""
    parser.add_argument("dir", metavar="DIR", help=help)
    parser.add_argument("--export-space", metavar="OUT", help="write a folder that runs by itself, as a Space too")
    add_address_arguments(parser)


def run(args: argparse.Namespace, app: str, serve: Callable) -> None:
    """Serves the page `app` for a model, or writes it as a Space."""
    if args.export_space:
        from .space import export_space

        export_space(args.dir, args.export_space, app)
    else:
        serve(args.dir, args.host, args.port)


def add_address_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--host", default="127.0.0.1", help="the address to listen on (default: 127.0.0.1)")
    parser.add_argument("--port", type=_port, help="default: the first free one from 7860")


def _port(text: str) -> int:
    value = int(text)
    if not 1 <= value <= 65535:
        raise argparse.ArgumentTypeError(f"must be 1 to 65535, not {value}")
    return value


def free_port(host: str, port: int | None) -> int:
    """The port to listen on, tried first because gradio's own errors are no sentences."""
    for candidate in [port] if port else range(7860, 7960):
        try:
            with socket.create_server((host, candidate)):
                return candidate
        except OSError as error:
            reason = str(error.strerror).partition(" (")[0]  # without Python's addition
    place = f"{host}:{port}" if port else host
    raise InputError(f"The page cannot listen on {place} ({reason}); choose another --host or --port.")


def serve(page, host: str, port: int | None, css: str = "", head: str = "", note: str = "") -> None:
    """Serves a page until Ctrl-C; prints its address when it is ready."""
    gr = gradio()
    _, url, _ = page.launch(
        server_name=host,
        server_port=free_port(host, port),
        share=False,
        ssr_mode=False,
        quiet=True,
        run_history=False,
        footer_links=[],
        prevent_thread_lock=True,
        theme=gr.themes.Default(font="system-ui", font_mono="monospace"),
        css=css,
        head=head,
    )
    print(f"Open {url} in a browser. {note}Ctrl-C ends.", flush=True)
    page.block_thread()


def reporting_errors(act: Callable):
    """What `act` returns; its InputErrors appear on the page as sentences."""
    try:
        return act()
    except InputError as error:
        raise error_on_page(error) from None


def error_on_page(error: InputError):
    message = html.escape(str(error))
    return gradio().Error(message, duration=None, title="Not done", print_exception=False)


def escape(text: str) -> str:
    """HTML of a text as it is; half characters become question marks."""
    return html.escape(text.encode("utf-8", "replace").decode())
