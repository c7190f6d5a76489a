"""
Files from the web, checked, and continued where they broke. Every download of this package that is not a repository of
the Hub or a package of npm is made here.

While it arrives, a file has a temporary name, `.NAME.partial`; beside it, `.NAME.partial.version` says which version
of which address it is a part of, so that a server is asked for the rest of that version alone. Two commands that want
the same file share one download: the second waits for a lock, and finds the file there.

The HTTP client is huggingface_hub's, which keeps off the network where HF_HUB_OFFLINE is set. The libraries' own
downloads lose what a file of gigabytes needs: huggingface_hub's `http_get` drops up to 10 MB at each break, so that it
never ends on a connection that breaks more often, and tells no checksums; datasets' `DownloadManager` begins anew.
"""

import base64
import hashlib
import ipaddress
import re
import shutil
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path
from urllib.parse import urljoin, urlsplit

from huggingface_hub import get_session
from huggingface_hub.errors import OfflineModeIsEnabled
from tqdm import tqdm

from .errors import InputError, one_line
from .files import claim, replace_file, write_whole
from .provenance import sha256

ATTEMPTS = 20  # for one file at one host; a connection that breaks is continued where it broke
TIMEOUT = (10, 60, 60, 60)  # seconds to connect, read, write and wait for a free connection
WINDOW, FEWEST = 60.0, 10_000  # a connection that brings fewer bytes in so many seconds counts as broken
REDIRECTS = 5
LARGEST = 2**30  # bytes of a file whose server does not tell its length
WAIT = 3600.0  # seconds for another command that downloads the same file
BROKEN = {"ConnectError": "no connection", "ConnectTimeout": "no answer", "ReadTimeout": "no answer"}


class Damaged(Exception):
    """What arrived is not the file that was asked for; the message says why."""


class Broken(Exception):
    """The connection or the server failed; what arrived before is good. The message says how."""


def fetch(
    urls: str | Sequence[str],
    path: Path,
    expected: str | None = None,
    check: Callable[[Path], None] | None = None,
    advice: str = "check the network and try again",
) -> None:
    """
    Downloads a file to `path`, from the first of the addresses that gives it, unless it is there and right already.

    What a broken connection, a full disk or an interruption left is continued, also by a later call.

    Args:
        expected: the file's SHA-256; without it, the length and the checksum that the server tells are compared.
        check: raises `InputError` where a file that has arrived is not the right one; it looks at all of its bytes.
        advice: what to do where it cannot be downloaded.

    Raises:
        InputError: when no address gives the right file, or the disk has no room for it.
    """
    if _is_right(path, expected, check):
        return
    with _alone(path):
        if _is_right(path, expected, check):  # another command has just downloaded it
            return
        reasons = []
        for url in [urls] if isinstance(urls, str) else urls:
            try:
                reason = _fetch_from(url, path, expected, check)
            except OfflineModeIsEnabled as error:
                reasons = [one_line(error)]
                break
            if reason is None:
                return
            reasons.append(f"{url}: {reason}")
    raise InputError(f"{path.name} could not be downloaded ({'; '.join(reasons)}): {advice}.")


@contextmanager
def _alone(path: Path) -> Iterator[None]:
    """Waits until no other command downloads the file."""
    with ExitStack() as stack:
        try:
            stack.enter_context(claim(path))
        except InputError:
            tqdm.write(f"Waiting for another command that downloads {path}.", file=sys.stderr)
            stack.enter_context(claim(path, WAIT))
        yield


def _is_right(path: Path, expected: str | None, check: Callable[[Path], None] | None) -> bool:
    """Whether the file is there, and is the one that is expected."""
    if not path.is_file() or (expected and sha256(path) != expected):
        return False
    try:
        if check:
            check(path)
    except InputError:
        return False
    return True


def _fetch_from(url: str, path: Path, expected: str | None, check: Callable[[Path], None] | None) -> str | None:
    """Downloads the file from one address; returns why it could not, or `None`."""
    partial = path.with_name(f".{path.name}.partial")
    for _ in range(ATTEMPTS):
        had = _size(partial)
        try:
            _continue(url, partial, expected, check)
            _version_file(partial).unlink(missing_ok=True)
            replace_file(partial, path)
            return None
        except Damaged as error:
            partial.unlink(missing_ok=True)
            _version_file(partial).unlink(missing_ok=True)
            reason, again = str(error), had > 0  # then the part that was there may have been the culprit
        except Broken as error:
            reason, again = str(error), _size(partial) > had
        except OfflineModeIsEnabled:
            raise
        except OSError as error:  # of our own disk
            raise OSError(error.errno, error.strerror, str(path)) from None
        if not again:
            break
    return reason


def _continue(url: str, partial: Path, expected: str | None, check: Callable[[Path], None] | None) -> None:
    """
    Downloads `url` into `partial`, of which the beginning may be there, and checks it.

    Raises:
        Broken: when the connection or the server fails; what has arrived is kept.
        Damaged: when `partial` is not the file; it is worth nothing.
    """
    version = _kept_version(partial, url)
    is_known = version or expected or check  # else two versions, or two hosts' files, could be mixed unseen
    # Its last byte once more: a server refuses to send the end of a complete file
    start = max(0, _size(partial) - 1) if is_known else 0
    headers = {"Accept-Encoding": "identity"}  # the lengths are those of the files themselves
    if start:
        headers["Range"] = f"bytes={start}-"
        if version and version.startswith('"'):
            headers["If-Range"] = version  # another version is sent whole
    try:
        with _opened(url, headers) as answer:
            start, length = _promised_part(answer, start)
            if start and version and _version(answer.headers) != version:
                raise Damaged("the server has another version by now")
            _require_room(partial, start, length)
            if not start:  # else a part of the version before would be taken for one of this
                partial.unlink(missing_ok=True)
            _keep_version(partial, url, _version(answer.headers))
            _append(answer, partial, start, length)
    except (Damaged, Broken, InputError, OfflineModeIsEnabled):
        raise
    except Exception as error:  # the client's, whose package huggingface_hub has renamed before
        if isinstance(error, OSError) and not isinstance(error, ConnectionError | TimeoutError):
            raise  # of our own disk
        raise Broken(BROKEN.get(type(error).__name__, "the connection broke")) from None
    _compare(partial, length, answer.headers, expected, is_checked=check is not None)
    try:
        if check:
            check(partial)
    except InputError as error:
        raise Damaged(one_line(error)) from None


@contextmanager
def _opened(url: str, headers: dict[str, str]):
    """The answer to a request, after as many redirects as may be followed."""
    target = url
    for _ in range(REDIRECTS):
        with get_session().stream("GET", target, headers=headers, timeout=TIMEOUT, follow_redirects=False) as answer:
            if answer.status_code not in (301, 302, 303, 307, 308) or "Location" not in answer.headers:
                yield answer
                return
            target = redirected(url, target, answer.headers["Location"])
    raise Broken(f"more than {REDIRECTS} redirects")


def redirected(url: str, here: str, location: str) -> str:
    """
    Where a `Location` found `here` leads. A download of `url` may be sent to its own server, or by https to another
    that is not on this machine or its network.
    """
    try:
        target = urljoin(here, location)
        before, after = urlsplit(url), urlsplit(target)
        is_same = (before.scheme, before.netloc) == (after.scheme, after.netloc)
        is_followed = is_same or (after.scheme == "https" and not _is_private(after.hostname or ""))
    except ValueError:
        raise Broken("it redirects to an address that cannot be read") from None
    if not is_followed:
        raise Broken(f"it redirects to {after.scheme}://{after.netloc}, which is not followed")
    return target


def _is_private(host: str) -> bool:
    """Whether a host's name or number is of this machine or of a network that is not public."""
    host = host.rstrip(".")
    if host in ("", "localhost") or host.endswith((".localhost", ".local", ".internal")):
        return True
    try:
        return not ipaddress.ip_address(host).is_global
    except ValueError:  # a name, or an address as the system's resolver takes it, too: 127.1, 0x7f.1, 017700000001
        return re.fullmatch(r"\d+|0x[\da-f]*", host.rpartition(".")[2]) is not None


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


def _require_room(partial: Path, start: int, length: int | None) -> None:
    """Raises `InputError` where the rest of the file has no room on the disk."""
    free, wanted = shutil.disk_usage(partial.parent).free, (length or 0) - start
    if wanted > free + _size(partial) - start:
        name = partial.name.removeprefix(".").removesuffix(".partial")
        raise InputError(
            f"{partial.with_name(name)} needs {wanted / 1e6:,.1f} MB, and {free / 1e6:,.1f} MB of the disk are free:"
            " free some, and try again."
        )


def _append(answer, partial: Path, start: int, length: int | None) -> None:
    """Writes what arrives into `partial`, from `start` on, each piece at once, so that a break loses nothing."""
    name = partial.name.removeprefix(".").removesuffix(".partial")
    since, arrived = time.monotonic(), 0
    with (
        open(partial, "r+b" if start else "wb", buffering=0) as file,
        tqdm(total=length, initial=start, desc=name, unit="B", unit_scale=True, disable=None) as progress,
    ):
        file.seek(start)
        for piece in answer.iter_raw():
            _write(file, piece)
            progress.update(len(piece))
            arrived += len(piece)
            if file.tell() > (most := LARGEST if length is None else length):
                raise Damaged(f"it goes on after {most:,} bytes")
            if (now := time.monotonic()) - since > WINDOW:
                if arrived < FEWEST:
                    raise Broken(f"{arrived} bytes came in {WINDOW:.0f} s")
                since, arrived = now, 0
        file.truncate()


def _write(file, data: bytes) -> None:
    """Writes all of it: a disk that fills up takes a part first."""
    while data:
        data = data[file.write(data) :]


def _compare(path: Path, length: int | None, headers, expected: str | None, is_checked: bool) -> None:
    """Raises `Damaged` unless the file has the length and every checksum that are known of it."""
    if length is None and expected is None and not is_checked:
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


def _version_file(partial: Path) -> Path:
    return partial.with_name(f"{partial.name}.version")


def _version(headers) -> str:
    """
    What tells this version of a file from every other: the ETag, with its quotes, or Backblaze's number of the file. A
    weak ETag (`W/"..."`) does not tell versions apart to the byte.
    """
    for version in (headers.get("ETag", ""), headers.get("X-Bz-File-Id", "")):
        if re.fullmatch(r'"[\x21\x23-\x7e]+"|\w+', version, re.ASCII):
            return version
    return ""


def _kept_version(partial: Path, url: str) -> str:
    """The version that the part is of, where it came from this address."""
    try:
        source, _, version = _version_file(partial).read_text(encoding="utf-8").partition("\n")
    except (OSError, UnicodeDecodeError):
        return ""
    return _version({"ETag": version}) if source == url else ""


def _keep_version(partial: Path, url: str, version: str) -> None:
    if version:
        write_whole(_version_file(partial), f"{url}\n{version}")
    else:
        _version_file(partial).unlink(missing_ok=True)


def _size(path: Path) -> int:
    return path.stat().st_size if path.exists() else 0
