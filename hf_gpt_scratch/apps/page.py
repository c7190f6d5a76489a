"""What the pages share: Gradio, imported late; the address; header and footer; errors as sentences; untrusted text."""

import atexit
import html
import os
import shutil
import signal
import socket
import sys
import tempfile
import traceback
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from functools import cache
from pathlib import Path

from ..utils.constants import REPOSITORY
from ..utils.errors import InputError
from ..utils.requirements import GRADIO, require_package
from . import style

NOT_SHARED = (
    "note: Gradio's server gave no public address (is it reachable from here?); the page is shown locally only."
)
MOST_CHARACTERS = 10_000  # of one text; reading megabytes would keep everyone else waiting
CACHE_SECONDS = (600, 3600)  # how often Gradio looks for files of users to delete, and from which age on


@cache
def gradio():
    """The package; raises `InputError` where it is not installed, or too old."""
    require_package(*GRADIO)
    os.environ["GRADIO_ANALYTICS_ENABLED"] = "False"  # nothing is sent anywhere
    # What users upload goes when the program ends; Gradio itself leaves it where a browser is still connected.
    os.environ["GRADIO_TEMP_DIR"] = tempfile.mkdtemp(prefix="gradio-")
    atexit.register(shutil.rmtree, os.environ["GRADIO_TEMP_DIR"], ignore_errors=True)
    import gradio

    return gradio


def free_port(host: str, port: int | None) -> int:
    """The port to listen on, tried first because Gradio's own errors are not sentences."""
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


def header(title: str, sentence: str, facts: str = "") -> None:
    """The top of a page: its title, which model it shows and where that runs, and what to do."""
    facts = f'<p class="model">{facts}</p>' if facts else ""
    gradio().HTML(f"<h1>{escape(title)}</h1>{facts}<p>{escape(sentence)}</p>", elem_id="header", padding=False)


def footer() -> None:
    """The bottom of a page: which package made it."""
    link = f'<a href="{REPOSITORY}" target="_blank" rel="noopener">hf-gpt-scratch</a>'
    gradio().HTML(f"Made with {link}", elem_id="footer", padding=False)


def facts(model, name: str) -> str:
    """HTML that names a model, says how large it is, and on which device and in which precision it runs."""
    from ..pretrained import precision_name  # which imports torch

    device = model.device.type
    place = {"cpu": "CPU", "mps": "MPS (Apple GPU)"}.get(device)
    if device == "cuda":
        import torch

        place = f"{model.device} ({torch.cuda.get_device_name(model.device)})"
    size = f"{model.num_parameters():,} parameters"
    return f"Model: <b>{escape(name)}</b> · {size} · running on {escape(place or device)}, {precision_name(model)}"


def model_name(source: str | os.PathLike) -> str:
    """What a page calls a model: its folder's name, for a checkpoint the run's before it, or its Hub repository."""
    if not Path(source).is_dir():
        return str(source)
    path = Path(source).absolute()
    return "/".join(path.parts[-2:]) if path.name.startswith("checkpoint-") else path.name


def conversation():
    """The questions and answers of a page that one asks on."""
    return gradio().Chatbot(
        elem_id="conversation",
        render_markdown=False,
        label="Conversation",
        placeholder="Ask something.",
        buttons=["copy"],  # without Gradio's own, which sends conversations to the Hub
    )


def example_buttons(texts: Sequence[str], label: str) -> list:
    """A button for each text, below a line that says what they are; nothing where there is no text."""
    if not texts:
        return []
    gr = gradio()
    with gr.Column(elem_classes="examples-of", min_width=0):
        gr.HTML(f'<div class="quiet">{escape(label)}</div>', padding=False)
        with gr.Row(elem_classes="examples"):
            return [gr.Button(text, elem_classes="example", size="sm", min_width=0) for text in texts]


def serve(
    page, host: str, port: int | None, share: bool = False, css: str = "", head: str = "", note: str = ""
) -> None:
    """
    Serves a page until Ctrl-C or SIGTERM; prints its address when it is ready.

    Args:
        share: make a public address too, by Gradio's server, as Colab needs.
        note: a sentence behind the address.
    """
    gr = gradio()
    signal.signal(signal.SIGTERM, signal.default_int_handler)  # ends as by Ctrl-C, cleaning up
    _, url, public = page.launch(
        server_name=host,
        server_port=free_port(host, port),
        share=share,
        ssr_mode=False,
        quiet=True,
        run_history=False,
        footer_links=[],
        prevent_thread_lock=True,
        theme=style.theme(gr),
        css=style.CSS + css,
        head=head,
    )
    print(f"Open {public or url} in a browser. {note}Ctrl-C ends.", flush=True)
    if share and not public:
        print(NOT_SHARED, file=sys.stderr)
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
