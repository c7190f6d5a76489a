"""What the pages share: Gradio, imported late; the address; header and footer; errors as sentences; untrusted text."""

import atexit
import html
import os
import re
import socket
import sys
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from functools import cache
from pathlib import Path

from ..hub.secrets import SECRETS, public_text
from ..utils.constants import REPOSITORY, SHORTEST_PASSWORD
from ..utils.errors import InputError
from ..utils.files import scratch_folder
from ..utils.requirements import GRADIO, require_package
from ..utils.terminal import plain
from . import server, style
from .guard import Guard, Limits, trace

NOT_SHARED = (
    "note: Gradio's server gave no public address (is it reachable from here?); the page is shown locally only."
)
NO_PASSWORD = (
    "note: Whoever reaches this address can use the page; --password, or HF_GPT_SCRATCH_PASSWORD in the environment,"
    " asks for one."
)
PASSWORD = "HF_GPT_SCRATCH_PASSWORD"  # the variable of the environment
SECRET = re.compile("|".join(f"(?:{pattern})" for pattern in SECRETS.values()))
# Of events that ask a model: how many are answered at a time, and where those who wait see their place in the queue.
ANSWERS = {"show_progress": "minimal", "concurrency_limit": server.RUNNING, "concurrency_id": "answers"}
MOST_EXCHANGES, LONGEST_CONVERSATION = 50, 100_000  # questions with their answers, and characters, that a page keeps
MOST_CHARACTERS = 10_000  # of one text; reading megabytes would keep everyone else waiting
CACHE_SECONDS = (600, 3600)  # how often Gradio looks for files of users to delete, and from which age on
UPLOADS = ExitStack()  # the folder of what users upload; a killed process leaves it to the next one


@cache
def gradio():
    """The package; raises `InputError` where it is not installed, or too old."""
    require_package(*GRADIO)
    os.environ["GRADIO_ANALYTICS_ENABLED"] = "False"  # nothing is sent anywhere
    # Gradio keeps a record of each of the last 10,000 answers, and makes a table of all of them after each.
    os.environ |= {"GRADIO_ANALYTICS_MAX_EVENTS": "100", "GRADIO_ANALYTICS_CACHE_FREQUENCY": str(10**12)}
    # What users upload goes when the program ends; Gradio itself leaves it where a browser is still connected.
    os.environ["GRADIO_TEMP_DIR"] = str(UPLOADS.enter_context(scratch_folder()))
    atexit.register(clean)
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
    page,
    host: str,
    port: int | None,
    share: bool = False,
    css: str = "",
    head: str = "",
    note: str = "",
    password: str | None = None,
    rate: int = Limits.rate,
) -> None:
    """
    Serves a page until Ctrl-C or SIGTERM; prints its address when it is ready.

    Args:
        share: make a public address too, by Gradio's server, as Colab needs.
        note: a sentence behind the address.
        password: asked for before anything is shown; by default `PASSWORD` of the environment.
        rate: how many requests a minute one address may send; 0 for no limit.

    Raises:
        KeyboardInterrupt: in the end, once what was begun is finished; after SIGTERM `Terminated`.
    """
    from starlette.middleware import Middleware  # which comes with Gradio

    gr, is_space = gradio(), bool(os.environ.get("SPACE_ID"))
    password = password or os.environ.get(PASSWORD)
    if password and len(password) < SHORTEST_PASSWORD:
        raise InputError(f"The password in {PASSWORD} must have {SHORTEST_PASSWORD} characters at least.")
    if is_space:  # where every visitor comes through one proxy, which says who it is
        os.environ.setdefault("FORWARDED_ALLOW_IPS", "*")
    takes_files = any(isinstance(one, gr.File) for one in page.blocks.values())
    guard = Guard(Limits(rate=rate), password, takes_files, framed=share or is_space)
    server.bound_memory()
    server.limit(page)
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
        app_kwargs={"middleware": [Middleware(guard.around)]},
        max_threads=server.THREADS,
        max_file_size=Limits.upload,
        state_session_capacity=server.SESSIONS,
    )
    server.slim(page.app)
    server.watch(page.server)
    print(f"Open {public or url} in a browser. {note}Ctrl-C ends.", flush=True)
    if share and not public:
        print(NOT_SHARED, file=sys.stderr)
    if not password and not is_space and (public or not is_loopback(host)):
        print(NO_PASSWORD, file=sys.stderr)
    server.run(page, guard, clean)


def is_loopback(host: str) -> bool:
    """Whether only this machine reaches a server that listens on `host`."""
    return host == "localhost" or host.startswith("127.") or host in ("::1", "[::1]")


def clean() -> None:
    """Removes what users have uploaded."""
    UPLOADS.close()


@contextmanager
def errors_on_page() -> Iterator[None]:
    """Where an InputError is raised, its sentence appears on the page; of a defect only that there is one."""
    try:
        yield
    except InputError as error:
        raise _error(public(str(error))) from None
    except Exception as error:
        trace(error)
        raise _error("Something went wrong. The terminal where the page was started shows what.") from None


def public(sentence: str) -> str:
    """A sentence without the paths of this machine, and without what looks like a token."""
    return SECRET.sub("...", public_text(sentence))


def _error(message: str):
    return gradio().Error(escape(message), duration=None, title="Not done", print_exception=False)


def require_short(text: str) -> None:
    """Raises `InputError` for a text of more than `MOST_CHARACTERS`."""
    if len(text) > MOST_CHARACTERS:
        raise InputError(f"The text has {len(text):,} characters; the page reads {MOST_CHARACTERS:,}.")


def recent(history: list[dict]) -> tuple[list[dict], bool]:
    """The end of a conversation, without what is too much of it, from a question on; and whether some is cut."""
    kept, characters = len(history), 0
    for i in range(len(history) - 1, -1, -1):
        characters += len(str(history[i]["content"]))
        if characters > LONGEST_CONVERSATION or len(history) - i > 2 * MOST_EXCHANGES:
            break
        if history[i]["role"] == "user":
            kept = i
    return history[kept:], kept > 0


def escape(text: str) -> str:
    """HTML of a text; half characters become question marks, and control characters and bidi overrides nothing."""
    return html.escape(plain(text.encode("utf-8", "replace").decode()))
