"""Downloads from a server that breaks: what arrives is the right file, or one sentence and nothing in its place."""

import errno
import hashlib
import itertools
import random
import threading
import time

import huggingface_hub
import pytest

from hf_gpt_scratch.utils import download
from hf_gpt_scratch.utils.download import fetch
from hf_gpt_scratch.utils.errors import InputError
from support.bad_server import bad_server

CONTENT = random.Random(1).randbytes(200_000)
SHA256 = hashlib.sha256(CONTENT).hexdigest()


@pytest.fixture
def server(monkeypatch):
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_OFFLINE", False)
    monkeypatch.setattr(download, "TIMEOUT", (0.3, 0.3, 0.3, 0.3))
    huggingface_hub.close_session()
    with bad_server(CONTENT) as server:
        yield server
    huggingface_hub.close_session()


def names(folder) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


def test_a_file_arrives_once(server, tmp_path):
    for _ in range(2):
        fetch(f"{server.url}/data.bin", tmp_path / "data.bin", SHA256)
        assert (tmp_path / "data.bin").read_bytes() == CONTENT and names(tmp_path) == ["data.bin"]
    assert server.requests == [(None, None)]


def test_a_damaged_one_is_replaced(server, tmp_path):
    (tmp_path / "data.bin").write_bytes(CONTENT[:-1])
    fetch(f"{server.url}/data.bin", tmp_path / "data.bin", SHA256)
    assert (tmp_path / "data.bin").read_bytes() == CONTENT


def test_what_broke_is_continued_by_a_later_call(server, tmp_path):
    server.cuts = [50_000, 0]
    with pytest.raises(InputError, match=r"data.bin could not be downloaded \(.*: the connection broke\): do this\."):
        fetch(f"{server.url}/data.bin", tmp_path / "data.bin", advice="do this")
    assert names(tmp_path) == [".data.bin.partial", ".data.bin.partial.version"]
    fetch(f"{server.url}/data.bin", tmp_path / "data.bin")
    assert (tmp_path / "data.bin").read_bytes() == CONTENT and names(tmp_path) == ["data.bin"]
    assert server.requests[-1] == ("bytes=49999-", server.etag)


def test_nothing_is_appended_where_nothing_would_tell_a_mixture(server, tmp_path):
    """Neither the server's version nor a hash nor a check of the content."""
    server.tells_version, server.cuts = False, [50_000]
    fetch(f"{server.url}/data.bin", tmp_path / "data.bin")
    assert (tmp_path / "data.bin").read_bytes() == CONTENT and server.requests == [(None, None)] * 2


def test_the_rest_of_another_version_is_not_appended(server, tmp_path):
    server.cuts = [50_000, 0]
    with pytest.raises(InputError):
        fetch(f"{server.url}/data.bin", tmp_path / "data.bin")
    server.content = bytes(reversed(CONTENT))
    fetch(f"{server.url}/data.bin", tmp_path / "data.bin")
    assert (tmp_path / "data.bin").read_bytes() == server.content


def test_an_interrupted_new_version_leaves_nothing_of_the_old_one(server, tmp_path, monkeypatch):
    server.cuts = [50_000, 0]
    with pytest.raises(InputError):
        fetch(f"{server.url}/data.bin", tmp_path / "data.bin")
    server.content = bytes(reversed(CONTENT))

    def interrupt(*args):
        raise KeyboardInterrupt

    with monkeypatch.context() as patched, pytest.raises(KeyboardInterrupt):
        patched.setattr("hf_gpt_scratch.utils.download._append", interrupt)
        fetch(f"{server.url}/data.bin", tmp_path / "data.bin")
    fetch(f"{server.url}/data.bin", tmp_path / "data.bin")
    assert (tmp_path / "data.bin").read_bytes() == server.content


@pytest.mark.parametrize(
    ("fault", "said", "is_kept"),
    [
        ("silent", "no answer", False),
        ("half", "the connection broke", True),
        ("stalls", "no answer", True),
        ("trickles", r"\d+ bytes came in 0 s", True),
        ("endless", "it goes on after 300,000 bytes", False),
        ("lies", "its SHA-256 is not", False),
    ],
)
def test_a_bad_server_is_one_sentence(server, tmp_path, monkeypatch, fault, said, is_kept):
    monkeypatch.setattr(download, "WINDOW", 0.2)
    monkeypatch.setattr(download, "LARGEST", 300_000)
    monkeypatch.setattr(download, "ATTEMPTS", 3)
    server.fault = fault
    with pytest.raises(InputError, match=said) as refusal:
        fetch(f"{server.url}/data.bin", tmp_path / "data.bin", SHA256)
    assert server.url in str(refusal.value) and "\n" not in str(refusal.value)
    assert names(tmp_path) == ([".data.bin.partial", ".data.bin.partial.version"] if is_kept else [])
    assert len(server.requests) <= 3


def test_no_more_is_written_than_was_promised(server, tmp_path, monkeypatch):
    """A length beside chunks, which HTTP forbids and httpx reads on."""

    class Answer:
        def iter_raw(self):
            yield from itertools.repeat(b"." * 1000, 300)
            pytest.fail("It was read on.")

    monkeypatch.setattr(download, "LARGEST", 2**40)
    with pytest.raises(download.Damaged, match="it goes on after 2,500 bytes"):
        download._append(Answer(), tmp_path / ".data.bin.partial", 0, 2500)
    assert (tmp_path / ".data.bin.partial").stat().st_size <= 4000


@pytest.mark.parametrize(
    "location",
    ["file:///etc/passwd", "ftp://example.com/x", "http://example.com/x", "https://127.0.0.1/x", "https://localhost/x"]
    + ["https://[::1]/x", "https://10.0.0.1/x", "https://2130706433/x", "https://[x/", "https://127.1/x"]
    + ["https://0177.0.0.1/x", "https://0x7f.0.0.1/x", "https://0x7f000001/x", "https://127.0.0.0x1/x"]
    + ["https://localhost./x", "https://printer.local./x", "https://127.0.0.1./x"],
)
def test_a_redirect_elsewhere_is_refused(server, tmp_path, location):
    server.location = location
    with pytest.raises(InputError, match="it redirects to .*(not followed|cannot be read)"):
        fetch(f"{server.url}/data.bin", tmp_path / "data.bin", SHA256)
    assert len(server.requests) == 1 and not names(tmp_path)


def test_where_a_redirect_may_lead():
    url = "https://example.com/a"
    for target in ("https://example.com/b", "https://cdn.example.org/b", "https://93.184.215.14/b", "https://x.2b/b"):
        assert download.redirected(url, url, target) == target
    for target in ("http://example.com/a", "http://cdn.example.org/b", "https://192.168.1.1/b", "data:text/plain,x"):
        with pytest.raises(download.Broken):
            download.redirected(url, url, target)


def test_redirects_in_a_circle_end(server, tmp_path):
    server.location = "/data.bin"
    with pytest.raises(InputError, match="more than 5 redirects"):
        fetch(f"{server.url}/data.bin", tmp_path / "data.bin", SHA256)
    assert len(server.requests) == 5


def test_two_that_want_the_same_file_share_one_download(server, tmp_path, monkeypatch):
    server.ready.clear()
    threads, errors, said = [], [], []
    monkeypatch.setattr(download.tqdm, "write", lambda line, **_: said.append(line))

    def run():
        try:
            fetch(f"{server.url}/data.bin", tmp_path / "data.bin", SHA256)
        except Exception as error:
            errors.append(error)

    for _ in range(3):
        threads.append(threading.Thread(target=run))
        threads[-1].start()
    end = time.monotonic() + 20
    while len(said) < 2 and time.monotonic() < end:
        time.sleep(0.01)
    server.ready.set()
    for thread in threads:
        thread.join(10)
    assert not errors and len(server.requests) == 1 and names(tmp_path) == ["data.bin"]
    assert said == 2 * [f"Waiting for another command that downloads {tmp_path / 'data.bin'}."]


def test_a_disk_without_room_is_told_before(server, tmp_path, monkeypatch):
    usage = type(download.shutil.disk_usage(tmp_path))(10**9, 10**9, 1000)
    monkeypatch.setattr(download.shutil, "disk_usage", lambda path: usage)
    with pytest.raises(InputError, match=rf"{tmp_path}/data.bin needs 0.2 MB, and 0.0 MB of the disk are free"):
        fetch(f"{server.url}/data.bin", tmp_path / "data.bin", SHA256)
    assert not names(tmp_path)


def test_a_disk_that_fills_up_is_named_and_what_arrived_continued(server, tmp_path, monkeypatch):
    def write(file, data):
        if file.tell() > 100_000:
            raise OSError(errno.ENOSPC, "No space left on device")
        file.write(data)

    with monkeypatch.context() as patch:
        patch.setattr(download, "_write", write)
        with pytest.raises(OSError, match="No space left on device") as refusal:
            fetch(f"{server.url}/data.bin", tmp_path / "data.bin", SHA256)
    assert refusal.value.filename == str(tmp_path / "data.bin")
    fetch(f"{server.url}/data.bin", tmp_path / "data.bin", SHA256)
    assert server.requests[1][0] and (tmp_path / "data.bin").read_bytes() == CONTENT


def test_no_network(tmp_path, monkeypatch):
    with pytest.raises(InputError, match=r"offline mode is enabled.*: give a copy\."):
        fetch("https://example.com/data.bin", tmp_path / "data.bin", advice="give a copy")
    assert not names(tmp_path)
