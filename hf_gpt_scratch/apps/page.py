"""What the pages share: Gradio, imported late; the address; errors as sentences; text that is not trusted."""

import atexit
import html
import os
import shutil
import signal
import socket
import tempfile
import traceback
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache

from ..utils.errors import InputError
from ..utils.requirements import require_package

MOST_CHARACTERS = 10_000  # of one text; reading megabytes would keep everyone else waiting
CACHE_SECONDS = (600, 3600)  # how often Gradio looks for files of users to delete, and from which age on


@cache
def gradio():
    """The package; raises `InputError` where it is not installed, or too old."""
    require_package("gradio", "apps", "The page")
    os.environ["GRADIO_ANALYTICS_ENABLED"] = "False"  # nothing is sent anywhere
    # What users upload goes when the program ends; Gradio itself leaves it where a browser is still connected.
    os.environ["GRADIO_TEMP_DIR"] = tempfile.mkdtemp(prefix="gradio-")
    atexit.register(shutil.rmtree, os.environ["GRADIO_TEMP_DIR"], ignore_errors=True)
    import gradio

    return gradio


def free_port(host: str, port: int | None) -> int:
    """The port to listen on, tried first because gradio's own errors are no sentences."""
    for candidate in [port] if port else range(7860, 7960):
        try:
            with socket.create_server((host, candidate)):
                return candidate
        except OSError as error:
            reason = str(error.strerror).partition(" (")[0]  # without Python's addition
    place = f"{host}:{port}" if port else host
    raise InputError(f"The page cannot listen on {place} ({reason}); choose another host or port.")


def blocks(title: str):
    """An empty page that deletes after a while what users upload and make."""
    return gradio().Blocks(title=title, analytics_enabled=False, delete_cache=CACHE_SECONDS)


def serve(page, host: str, port: int | None, css: str = "", head: str = "", note: str = "") -> None:
    """Serves a page until Ctrl-C or SIGTERM; prints its address when it is ready."""
    gr = gradio()
    signal.signal(signal.SIGTERM, signal.default_int_handler)  # ends as by Ctrl-C, cleaning up
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


@contextmanager
def errors_on_page() -> Iterator[None]:
    """Where an InputError is raised, its sentence appears on the page; of a defect only that there is one."""
    try:
        yield
    except InputError as error:
        raise _error(str(error)) from None
    except Exception:
        traceback.print_exc()
        raise _error("Something went wrong. The terminal where the page was started shows what.") from None


def _error(message: str):
    return gradio().Error(html.escape(message), duration=None, title="Not done", print_exception=False)


def require_short(text: str) -> None:
    """Raises `InputError` for a text of more than `MOST_CHARACTERS`."""
    if len(text) > MOST_CHARACTERS:
        raise InputError(f"The text has {len(text):,} characters; the page reads {MOST_CHARACTERS:,}.")


def escape(text: str) -> str:
    """HTML of a text as it is; half characters become question marks."""
    return html.escape(text.encode("utf-8", "replace").decode())
