"""Downloads from servers, on this machine, that are not there, stall, trickle, send half, lie or send us elsewhere."""

import io
import shutil
import socket
import zipfile
from collections.abc import Iterator

from faults import Row, Settings
from forks import Fork
from kill_training import real
from starve_faults import complaint

from support.bad_server import BadServer, bad_server

FAULTS = ("no network", "silent", "half", "stalls", "trickles", "endless", "lies", "status 503", "elsewhere", "two")
ELSEWHERE = "http://example.com/messages.zip"
LONGEST = 60  # seconds


def rows(settings: Settings) -> Iterator[Row]:
    """A row of the download of a data set."""
    if not settings.of("download"):
        return
    bad = []
    for fault in FAULTS:
        if wrong := attempt(fault, settings):
            bad.append(f"{fault}: {wrong}")
            print(f"  download: {bad[-1]}", flush=True)
    tried = len(FAULTS)
    note = f"{', '.join(FAULTS[:-1])}; two processes at once{'; ' if bad else ''}{'; '.join(bad[:1])}"
    yield Row("bad server", "download of a data set", tried, tried - len(bad), len(bad), note=note)


def content() -> bytes:
    """UCI's zip, as far as it matters."""
    packed = io.BytesIO()
    with zipfile.ZipFile(packed, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.write(real("sms_spam/SMSSpamCollection", "messages.tsv"), "SMSSpamCollection")
    return packed.getvalue()


def attempt(fault: str, settings: Settings) -> str | None:
    """What is wrong after a download from such a server, and one from a good server after it."""
    home, log = settings.folder / f"server-{fault.replace(' ', '-')}", settings.folder / "server.log"
    home.mkdir()
    with bad_server(content(), fault) as server:
        url = f"{server.url}/messages.zip"
        if fault == "status 503":
            server.status = 503
        elif fault == "elsewhere":
            server.location = ELSEWHERE
        elif fault == "two":
            return both(server, url, settings)
        if fault == "no network":
            with socket.socket() as unused:
                unused.bind(("127.0.0.1", 0))  # where nobody listens
                nobody = f"http://127.0.0.1:{unused.getsockname()[1]}/messages.zip"
                ended = Fork(lambda: download(nobody, home), home, log).end(LONGEST)
                said = complaint(ended.status, ended.said, [nobody])
        else:
            ended = Fork(lambda: download(url, home), home, log).end(LONGEST)
            said = complaint(ended.status, ended.said, [url])
        if said:
            return said
        if whole := [path for path in home.rglob("*") if path.is_file() and ".partial" not in path.name]:
            return f"left {whole[0].name}"
        server.fault, server.status, server.location = "", 200, ""
        ended = Fork(lambda: download(url, home), home, log).end(LONGEST)
    shutil.rmtree(home)
    return f"does not go on: {ended.last_line[:300]}" if ended.status else None


def both(server: BadServer, url: str, settings: Settings) -> str | None:
    """What is wrong after two processes that want the same file at once."""
    home, server.fault = settings.folder / "server-two", ""
    server.ready.clear()
    runs = [Fork(lambda: download(url, home), home, settings.folder / f"server-{n}.log") for n in range(2)]
    runs[0].wait(1)
    server.ready.set()
    statuses, asked = [run.end(LONGEST).status for run in runs], len(server.requests)
    shutil.rmtree(home)
    return None if statuses == [0, 0] and asked == 1 else f"statuses {statuses}, {asked} downloads"


def download(url: str, home) -> int:
    """In a process of its own: the messages, with short times."""
    from huggingface_hub import constants

    from hf_gpt_scratch.data import sms_spam
    from hf_gpt_scratch.utils import download
    from hf_gpt_scratch.utils.errors import run_reporting_errors

    constants.HF_HOME, sms_spam.URL = str(home), url
    download.TIMEOUT, download.WINDOW, download.LARGEST, download.ATTEMPTS = (1, 1, 1, 1), 1.0, 2**20, 3
    return run_reporting_errors(lambda: sms_spam.load_messages() and None)
