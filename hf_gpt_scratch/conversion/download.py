"""
OpenAI's GPT-2 from where it was published, or from the mirror of "Build a Large Language Model (From Scratch)".

What a file is checked by. OpenAI published no list of checksums. Those below are, for the tokenizer's two files, in
OpenAI's own tiktoken (`tiktoken_ext/openai_public.py`); for the other five of 124M, in AGI-Alpha-Agent-v0 of
github.com/MontrealAI (`scripts/download_openai_gpt2.py`), which checks its downloads by them. Three of the five are
confirmed: `hparams.json` and `checkpoint` are short enough to be written down and hashed, and that of the data, of
497,759,232 bytes, stands in another project too. The index and the graph (`.meta`) have that one witness.

For the larger models only the server can be asked: the length it promises, and the MD5 or SHA-1 in its headers, where
it sends one. That finds damage on the way, not a file that was exchanged. Beyond it, TensorFlow compares each variable
with a checksum in the index when it is read, and `conversion.json` keeps the SHA-256 of every file.

The HTTP client is huggingface_hub's, which keeps off the network where HF_HUB_OFFLINE is set. The libraries' own
downloads lose what a file of gigabytes needs: huggingface_hub's `http_get` drops up to 10 MB at each break, so that it
never ends on a connection that breaks more often, and tells no checksums; datasets' `DownloadManager` begins anew.
"""

import base64
import hashlib
import os
import re
from pathlib import Path

from huggingface_hub import get_session
from huggingface_hub.errors import OfflineModeIsEnabled
from tqdm import tqdm

from ..utils.errors import InputError, UsageError, one_line
from ..utils.provenance import sha256
from .choices import OPENAI_SIZES
from .openai_tf import FILES

HOSTS = (
    "https://openaipublic.blob.core.windows.net/gpt-2/models",
    "https://f001.backblazeb2.com/file/LLMs-from-scratch/gpt2",
)
SHA256_OF_ALL = {
    "encoder.json": "196139668be63f3b5d6574427317ae82f612a97c5d1cdaf36ed2256dbf636783",
    "vocab.bpe": "1ce1664773c50f3e0cc8842619a93edc4624525b728b188a9e0be33b7726adc5",
}
SHA256 = dict.fromkeys(OPENAI_SIZES, SHA256_OF_ALL) | {
    "124M": {
        **SHA256_OF_ALL,
        "checkpoint": "dd1b025d2e155283f5e300ce95bf6d5b6bc0f7fe010db73daa6975eb896ab9cb",
        "hparams.json": "d9d56e4121c427164e0c55c6f03c08e1daf9002b9b672825112d19097b680318",
        "model.ckpt.index": "71916f763f9746f9b2a06b12d91996cf1084ae008d0424543d39391c5f2dc687",
        "model.ckpt.meta": "4668c448fa11531fd6700460487f73e82d3272960cea942252f8744bf225c77b",
        "model.ckpt.data-00000-of-00001": "2060c885360cc0cf41d7a6dbc4d24b5127aae20260c8b5ae521b5a6578407118",
    },
}
ATTEMPTS = 20  # for one file at one host; a connection that breaks is continued where it broke
TIMEOUT = (10, 60, 60, 60)  # seconds to connect, read, write and wait for a free connection
BROKEN = {"ConnectError": "no connection", "ConnectTimeout": "no answer", "ReadTimeout": "no answer"}


class Damaged(Exception):
    """What arrived is not the file that was asked for; the message says why."""


class Broken(Exception):
    """The connection or the server failed; what arrived before is good. The message says how."""


def download_openai(size: str, folder: str | os.PathLike) -> list[Path]:
    """
    Downloads the files of GPT-2 `size` into `folder` and returns their paths. Those that are there already are kept.

    Each file has a temporary name, `.NAME.partial`, until it is complete and checked. What a broken connection or an
    interruption left under it is continued, also by a later call.

    Raises:
        UsageError: when `size` is not one of `OPENAI_SIZES`.
        InputError: when a file cannot be downloaded from either host, or one that is there already is not OpenAI's.
    """
    if size not in OPENAI_SIZES:
        raise UsageError(f"There is no GPT-2 of size {size}; OpenAI published {', '.join(OPENAI_SIZES)}.")
    folder = Path(folder)
    is_new = not folder.exists()
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except (FileExistsError, NotADirectoryError):
        raise InputError(f"{folder} is a file; expected a folder to download into.") from None
    try:
        for name in FILES:
            expected, path = SHA256[size].get(name), folder / name
            if not path.exists():
                _download(f"{size}/{name}", path, expected)
            elif expected and sha256(path) != expected:
                raise InputError(
                    f"{path} is not OpenAI's file of GPT-2 {size} (its SHA-256 differs): delete it and try again."
                )
    finally:
        if is_new and not any(folder.iterdir()):
            folder.rmdir()
    return [folder / name for name in FILES]


def _download(remote: str, path: Path, expected: str | None) -> None:
    """Downloads one file from the first host that gives it."""
    partial = path.with_name(f".{path.name}.partial")
    reasons = []
    for host in HOSTS:
        for _ in range(ATTEMPTS):
            had = _size(partial)
            try:
                _continue(f"{host}/{remote}", partial, expected)
                partial.replace(path)
                return
            except Damaged as error:
                partial.unlink(missing_ok=True)
                reason, again = str(error), had > 0  # then the part that was there may have been the culprit
            except Broken as error:
                reason, again = str(error), _size(partial) > had
            if not again:
                break
        reasons.append(f"{host}: {reason}")
    raise InputError(f"{path.name} could not be downloaded ({'; '.join(reasons)}): check the network and try again.")


def _continue(url: str, partial: Path, expected: str | None) -> None:
    """
    Downloads `url` into `partial`, of which the beginning may be there, and checks it.

    Raises:
        Broken: when the connection or the server fails; what has arrived is kept.
        Damaged: when `partial` is not the file; it is worth nothing.
    """
    start = max(0, _size(partial) - 1)  # its last byte once more: a server refuses to send the end of a complete file
    headers = {"Accept-Encoding": "identity"}  # the lengths are those of the files themselves
    if start:
        headers["Range"] = f"bytes={start}-"
    try:
        with get_session().stream("GET", url, headers=headers, timeout=TIMEOUT) as answer:
            start, length = _promised_part(answer, start)
            _append(answer, partial, start, length)
    except OfflineModeIsEnabled as error:
        raise InputError(f"{one_line(error)}.") from None
    except (Damaged, Broken, OSError):  # the last are of our own disk
        raise
    except Exception as error:  # the client's, whose package huggingface_hub has renamed before
        raise Broken(BROKEN.get(type(error).__name__, "the connection broke")) from None
    _check(partial, length, answer.headers, expected)


def _promised_part(answer, start: int) -> tuple[int, int | None]:
    """Where the part that the server sends begins, and the length of the whole file, where it tells."""
    if answer.status_code == 416:  # Range Not Satisfiable
        raise Damaged("more had arrived than the whole file")
    if not answer.is_success:
        raise Broken(f"HTTP status {answer.status_code}")
    if answer.headers.get("Content-Type", "").startswith("text/html"):
        raise Damaged("the answer is a web page")
    if answer.status_code == 206:  # Partial Content
        part = re.fullmatch(r"bytes (\d+)-\d+/(\d+)", answer.headers.get("Content-Range", ""))
        if part is None or int(part[1]) != start:
            raise Damaged("the server sent another part than asked for")
        return start, int(part[2])
    promised = answer.headers.get("Content-Length", "")
    return 0, int(promised) if promised.isdecimal() else None


def _append(answer, partial: Path, start: int, length: int | None) -> None:
    """Writes what arrives into `partial`, from `start` on, each piece at once, so that a break loses nothing."""
    name = partial.name.removeprefix(".").removesuffix(".partial")
    with (
        open(partial, "r+b" if start else "wb") as file,
        tqdm(total=length, initial=start, desc=name, unit="B", unit_scale=True, disable=None) as progress,
    ):
        file.seek(start)
        for piece in answer.iter_raw():
            file.write(piece)
            progress.update(len(piece))
        file.truncate()


def _check(path: Path, length: int | None, headers, expected: str | None) -> None:
    """Raises `Damaged` unless the file has the length and every checksum that are known of it."""
    if length is None and expected is None:
        raise Damaged("the server does not tell its length")
    if length is not None and _size(path) != length:
        raise Damaged(f"{_size(path)} bytes arrived of {length}")
    if expected is not None:
        if sha256(path) != expected:
            raise Damaged(f"its SHA-256 is not {expected}")
        return
    # Azure's Content-MD5 is of the part that was sent, when it was one; of the whole file it has another name then.
    md5 = headers.get("x-ms-blob-content-md5") or ("Content-Range" not in headers and headers.get("Content-MD5"))
    if md5 and md5 != base64.b64encode(_digest(path, "md5")).decode():
        raise Damaged(f"its MD5 is not {md5}, as the server says")
    sha1 = headers.get("X-Bz-Content-Sha1", "").removeprefix("unverified:")  # Backblaze's; "none" for large files
    if re.fullmatch("[0-9a-f]{40}", sha1) and sha1 != _digest(path, "sha1").hex():
        raise Damaged(f"its SHA-1 is not {sha1}, as the server says")


def _digest(path: Path, algorithm: str) -> bytes:
    with open(path, "rb") as file:
        return hashlib.file_digest(file, algorithm).digest()


def _size(path: Path) -> int:
    return path.stat().st_size if path.exists() else 0
