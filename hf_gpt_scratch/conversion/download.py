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
"""

import base64
import hashlib
import os
import re
from pathlib import Path

import requests
from tqdm import tqdm

from ..utils.errors import InputError, UsageError
from ..utils.provenance import sha256
from .openai_tf import FILES

SIZES = ("124M", "355M", "774M", "1558M")
HOSTS = (
    "https://openaipublic.blob.core.windows.net/gpt-2/models",
    "https://f001.backblazeb2.com/file/LLMs-from-scratch/gpt2",
)
SHA256_OF_ALL = {
    "encoder.json": "196139668be63f3b5d6574427317ae82f612a97c5d1cdaf36ed2256dbf636783",
    "vocab.bpe": "1ce1664773c50f3e0cc8842619a93edc4624525b728b188a9e0be33b7726adc5",
}
SHA256 = dict.fromkeys(SIZES, SHA256_OF_ALL) | {
    "124M": {
        **SHA256_OF_ALL,
        "checkpoint": "dd1b025d2e155283f5e300ce95bf6d5b6bc0f7fe010db73daa6975eb896ab9cb",
        "hparams.json": "d9d56e4121c427164e0c55c6f03c08e1daf9002b9b672825112d19097b680318",
        "model.ckpt.index": "71916f763f9746f9b2a06b12d91996cf1084ae008d0424543d39391c5f2dc687",
        "model.ckpt.meta": "4668c448fa11531fd6700460487f73e82d3272960cea942252f8744bf225c77b",
        "model.ckpt.data-00000-of-00001": "2060c885360cc0cf41d7a6dbc4d24b5127aae20260c8b5ae521b5a6578407118",
    },
}
ATTEMPTS = 20  # for one file at one host; a connection that breaks is taken up where it broke
CHUNK = 1 << 16  # bytes, of which a broken connection loses those that had begun to arrive
CONNECT, READ = 10, 60  # seconds without an answer


class Damaged(Exception):
    """What arrived is not the file; the message says why."""


def download_openai(size: str, folder: str | os.PathLike) -> list[Path]:
    """
    Downloads the files of GPT-2 `size` into `folder` and returns their paths. Those that are there already are kept.

    Each file has a temporary name, `.NAME.partial`, until it is complete and checked. What a broken connection or an
    interruption left under it is taken up again, also by a later call.

    Raises:
        UsageError: when `size` is none of `SIZES`.
        InputError: when a file can be had from neither host, or one that is there already is not OpenAI's.
    """
    if size not in SIZES:
        raise UsageError(f"There is no GPT-2 of size {size}; OpenAI published {', '.join(SIZES)}.")
    folder = Path(folder)
    is_new = not folder.exists()
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except (FileExistsError, NotADirectoryError):
        raise InputError(f"{folder} is a file; expected a folder to download into.") from None
    try:
        with requests.Session() as session:
            session.headers["Accept-Encoding"] = "identity"  # the lengths are those of the files themselves
            for name in FILES:
                expected, path = SHA256[size].get(name), folder / name
                if not path.exists():
                    _fetch(session, f"{size}/{name}", path, expected)
                elif expected and sha256(path) != expected:
                    raise InputError(
                        f"{path} is not the file of GPT-2 {size} (its SHA-256 is another); delete it first."
                    )
    finally:
        if is_new and not any(folder.iterdir()):
            folder.rmdir()
    return [folder / name for name in FILES]


def _fetch(session: requests.Session, remote: str, path: Path, expected: str | None) -> None:
    """Downloads one file from the first host that gives it."""
    partial = path.with_name(f".{path.name}.partial")
    reasons = []
    for host in HOSTS:
        for _ in range(ATTEMPTS):
            had = _size(partial)
            try:
                _continue(session, f"{host}/{remote}", partial, expected)
                partial.replace(path)
                return
            except Damaged as error:
                partial.unlink(missing_ok=True)
                reason, again = str(error), had > 0  # then the part that was there may have been the culprit
            except requests.RequestException as error:
                reason, again = _reason(error), _size(partial) > had
            if not again:
                break
        reasons.append(f"{host}: {reason}")
    raise InputError(f"{path.name} could not be downloaded ({'; '.join(reasons)}).")


def _continue(session: requests.Session, url: str, partial: Path, expected: str | None) -> None:
    """
    Downloads `url` into `partial`, of which the beginning may be there, and checks it.

    Raises:
        requests.RequestException: when the connection or the server fails; what has arrived is kept.
        Damaged: when `partial` is not the file; it is worth nothing.
    """
    start = max(0, _size(partial) - 1)  # its last byte once more: a server refuses to send the end of a complete file
    headers = {"Range": f"bytes={start}-"} if start else {}
    with session.get(url, headers=headers, stream=True, timeout=(CONNECT, READ)) as answer:
        if answer.status_code == requests.codes.requested_range_not_satisfiable:
            raise Damaged("more was there than the whole file")
        answer.raise_for_status()
        if answer.headers.get("Content-Type", "").startswith("text/html"):
            raise Damaged("the answer is a web page")
        if answer.status_code == requests.codes.partial_content:
            part = re.fullmatch(r"bytes (\d+)-\d+/(\d+)", answer.headers.get("Content-Range", ""))
            if part is None or int(part[1]) != start:
                raise Damaged("another part was sent than asked for")
            length = int(part[2])
        else:
            promised = answer.headers.get("Content-Length", "")
            start, length = 0, int(promised) if promised.isdecimal() else -1
        with (
            open(partial, "r+b" if start else "wb") as file,
            tqdm(
                total=length if length >= 0 else None,
                initial=start,
                desc=url.rpartition("/")[2],
                unit="B",
                unit_scale=True,
                disable=None,  # where nobody watches
            ) as progress,
        ):
            file.seek(start)
            for chunk in answer.iter_content(CHUNK):
                file.write(chunk)
                progress.update(len(chunk))
            file.truncate()
    _check(partial, length, answer.headers, expected)


def _check(path: Path, length: int, headers, expected: str | None) -> None:
    """Raises `Damaged` unless the file has the length and every checksum that are known of it."""
    if length < 0 and expected is None:
        raise Damaged("the server does not tell its length")
    if length >= 0 and _size(path) != length:
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


def _reason(error: requests.RequestException) -> str:
    """Why a request failed, in a few words."""
    if error.response is not None:
        return f"HTTP status {error.response.status_code}"
    return {
        requests.exceptions.ConnectTimeout: "no answer",
        requests.exceptions.ReadTimeout: "no answer",
        requests.exceptions.ChunkedEncodingError: "the connection broke",
        requests.exceptions.ConnectionError: "no connection",
    }.get(type(error), type(error).__name__)
