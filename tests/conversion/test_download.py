"""The download of OpenAI's files, from servers on this machine that break in the ways servers do."""

import base64
import errno
import hashlib
import random
import re
import socket
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import huggingface_hub
import pytest

from hf_gpt_scratch.conversion import download
from hf_gpt_scratch.conversion.choices import OPENAI_SIZES
from hf_gpt_scratch.conversion.openai_tf import FILES
from hf_gpt_scratch.utils.errors import InputError, UsageError

DATA = "model.ckpt.data-00000-of-00001"
CONTENTS = {name: random.Random(name).randbytes(300_000 if name == DATA else 1000) for name in FILES}


class Handler(BaseHTTPRequestHandler):
    def do_GET(self):
        host, name = self.server, self.path.rpartition("/")[2]
        content, start = CONTENTS[name], 0
        host.requests.append((self.path, self.headers.get("Range")))
        if host.status != 200:
            self.send_error(host.status)
            return
        asked = re.fullmatch(r"bytes=(\d+)-", self.headers.get("Range", ""))
        if asked and host.ranges:
            start = int(asked[1])
            if start >= len(content):
                self.send_error(416)
                return
            self.send_response(206)
            self.send_header("Content-Range", f"bytes {start}-{len(content) - 1}/{len(content)}")
        else:
            self.send_response(200)
        if host.sends_length:
            self.send_header("Content-Length", str(len(content) - start))
        for header, value in (host.version | host.headers(name)).items():
            self.send_header(header, value)
        self.end_headers()
        cut = host.cuts.pop(0) if host.cuts and name == DATA else None
        self.wfile.write(host.change(content[start:])[:cut])

    def log_message(self, *args):
        pass


class Host(ThreadingHTTPServer):
    """A server of `CONTENTS`; its attributes say how it breaks."""

    daemon_threads = True
    status, ranges, sends_length, version = 200, True, True, {"ETag": '"1"'}

    def __init__(self):
        super().__init__(("127.0.0.1", 0), Handler)
        self.requests: list[tuple[str, str | None]] = []
        self.cuts: list[int] = []  # after how many bytes of the data file the connection breaks, each time
        self.url = f"http://127.0.0.1:{self.server_address[1]}/models"

    def headers(self, name: str) -> dict[str, str]:
        return {}

    def change(self, content: bytes) -> bytes:
        return content


@pytest.fixture
def hosts(monkeypatch):
    """OpenAI's server and the mirror; what the files are to be hashed to is not known."""
    servers = [Host(), Host()]
    for server in servers:
        threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01}, daemon=True).start()
    monkeypatch.setattr(download, "HOSTS", tuple(server.url for server in servers))
    monkeypatch.setattr(download, "SHA256", {size: {} for size in OPENAI_SIZES})
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_OFFLINE", False)
    huggingface_hub.close_session()  # the next one reads the variable
    yield servers
    huggingface_hub.close_session()
    for server in servers:
        server.shutdown()
        server.server_close()


def is_complete(folder) -> bool:
    return {path.name: path.read_bytes() for path in folder.iterdir()} == CONTENTS


def ranges(host, name=DATA) -> list[str | None]:
    return [asked for path, asked in host.requests if path.endswith(name)]


def test_all_files_arrive_once(hosts, tmp_path):
    folder = tmp_path / "gpt2" / "124M"
    assert download.download_openai("124M", folder) == [folder / name for name in FILES]
    assert is_complete(folder)
    assert hosts[0].requests == [(f"/models/124M/{name}", None) for name in FILES]
    download.download_openai("124M", folder)
    assert len(hosts[0].requests) == 7 and not hosts[1].requests


def leave(folder, part, host=None, version='"1"'):
    """A part of the data file as an earlier call left it: of `version` of a host's file, or of nobody knows what."""
    folder.joinpath(f".{DATA}.partial").write_bytes(part)
    if host:
        folder.joinpath(f".{DATA}.partial.version").write_text(f"{host.url}/124M/{DATA}\n{version}")


@pytest.mark.parametrize("version", [{"ETag": '"1"'}, {"X-Bz-File-Id": "4_z1"}], ids=["ETag", "Backblaze's number"])
def test_broken_connection_is_taken_up_where_it_broke(hosts, tmp_path, version):
    hosts[0].cuts, hosts[0].version = [100_000, 50_000], version
    download.download_openai("355M", tmp_path)
    assert is_complete(tmp_path)
    # Each time the last byte is asked for once more.
    assert ranges(hosts[0]) == [None, "bytes=99999-", "bytes=149998-"] and not hosts[1].requests


@pytest.mark.parametrize("version", [{}, {"ETag": 'W/"1"'}], ids=["none", "weak"])
def test_file_without_a_version_begins_anew(hosts, tmp_path, version):
    hosts[0].cuts, hosts[0].version = [100_000, 200_000], version
    download.download_openai("124M", tmp_path)
    assert is_complete(tmp_path) and ranges(hosts[0]) == [None, None, None] and not hosts[1].requests


@pytest.mark.parametrize("had", [120_000, 300_000], ids=["part", "complete but unchecked"])
def test_part_of_an_earlier_run_is_taken_up(hosts, tmp_path, had):
    leave(tmp_path, CONTENTS[DATA][:had], hosts[0])
    download.download_openai("124M", tmp_path)
    assert is_complete(tmp_path) and ranges(hosts[0]) == [f"bytes={had - 1}-"]


def test_part_of_another_version_is_dropped(hosts, tmp_path):
    leave(tmp_path, b"x" * 1000, hosts[0], version='"0"')
    download.download_openai("124M", tmp_path)
    assert is_complete(tmp_path) and ranges(hosts[0]) == ["bytes=999-", None]


@pytest.mark.parametrize("asked", [True, False], ids=["known version", "unknown version"])
def test_server_without_ranges_sends_it_all_again(hosts, tmp_path, asked):
    hosts[0].ranges = False
    leave(tmp_path, b"x" * 400_000, hosts[0] if asked else None)
    download.download_openai("124M", tmp_path)
    assert is_complete(tmp_path) and ranges(hosts[0]) == ["bytes=399999-" if asked else None]


@pytest.mark.parametrize("part", [b"x" * 400_000, b"x" * 1000], ids=["too long", "of another file"])
def test_wrong_part_is_dropped(hosts, tmp_path, part):
    hosts[0].headers = lambda name: {
        "x-ms-blob-content-md5": base64.b64encode(hashlib.md5(CONTENTS[name]).digest()).decode()
    }
    leave(tmp_path, part, hosts[0])
    download.download_openai("124M", tmp_path)
    assert is_complete(tmp_path) and ranges(hosts[0]) == [f"bytes={len(part) - 1}-", None]


CHECKS = {
    "Content-MD5": lambda content: base64.b64encode(hashlib.md5(content).digest()).decode(),
    "x-ms-blob-content-md5": lambda content: base64.b64encode(hashlib.md5(content).digest()).decode(),
    "X-Bz-Content-Sha1": lambda content: hashlib.sha1(content).hexdigest(),
}


@pytest.mark.parametrize("header", CHECKS)
def test_servers_checksum_is_held_to(hosts, tmp_path, header):
    for host in hosts:
        host.headers = lambda name: {header: CHECKS[header](CONTENTS[name])}
    download.download_openai("124M", tmp_path / "good")
    assert is_complete(tmp_path / "good")
    for host in hosts:
        host.change = lambda content: b"!" + content[1:]
    with pytest.raises(
        InputError, match="hparams.json could not be downloaded .*its (MD5|SHA-1) is not .* server says"
    ):
        download.download_openai("124M", tmp_path / "bad")
    assert not (tmp_path / "bad").exists()


def test_known_sha256_is_held_to(hosts, tmp_path, monkeypatch):
    known = {name: hashlib.sha256(content).hexdigest() for name, content in CONTENTS.items()}
    monkeypatch.setitem(download.SHA256, "774M", known)
    hosts[0].change = lambda content: b"!" + content[1:]
    download.download_openai("774M", tmp_path)
    assert is_complete(tmp_path) and len(hosts[1].requests) == 7  # the mirror's files are the right ones
    (tmp_path / DATA).write_bytes(b"mine")
    with pytest.raises(InputError, match=f"{DATA} is not OpenAI's file of GPT-2 774M .* delete it"):
        download.download_openai("774M", tmp_path)
    assert (tmp_path / DATA).read_bytes() == b"mine"


def length_unknown(host):
    host.sends_length = False


def web_page(host):
    host.headers = lambda name: {"Content-Type": "text/html; charset=utf-8"}


@pytest.mark.parametrize(
    "breaks, complaint",
    [(length_unknown, "does not tell its length"), (web_page, "the answer is a web page")],
)
def test_what_is_no_file_leaves_nothing(hosts, tmp_path, breaks, complaint):
    for host in hosts:
        breaks(host)
    with pytest.raises(InputError, match=complaint):
        download.download_openai("124M", tmp_path)
    assert not list(tmp_path.iterdir())


def test_mirror_stands_in_for_a_server_that_refuses(hosts, tmp_path):
    hosts[0].status = 404
    download.download_openai("124M", tmp_path)
    assert is_complete(tmp_path) and len(hosts[1].requests) == 7


@pytest.mark.parametrize("is_known", [True, False], ids=["known SHA-256", "unknown SHA-256"])
def test_mirror_goes_on_where_the_first_host_died(hosts, tmp_path, monkeypatch, is_known):
    if is_known:  # else it could be another file's rest
        monkeypatch.setitem(download.SHA256["124M"], DATA, hashlib.sha256(CONTENTS[DATA]).hexdigest())
    hosts[0].cuts = [100_000, 0]
    download.download_openai("124M", tmp_path)
    assert is_complete(tmp_path) and ranges(hosts[1]) == ["bytes=99999-" if is_known else None]


def test_no_host_is_one_sentence(hosts, tmp_path, monkeypatch):
    with socket.socket() as unused:
        unused.bind(("127.0.0.1", 0))  # bound, but nobody listens
        nobody = f"http://127.0.0.1:{unused.getsockname()[1]}/models"
        monkeypatch.setattr(download, "HOSTS", (nobody, hosts[1].url))
        hosts[1].status = 503
        with pytest.raises(InputError) as refusal:
            download.download_openai("124M", tmp_path)
    assert str(refusal.value) == (
        f"hparams.json could not be downloaded ({nobody}/124M/hparams.json: no connection;"
        f" {hosts[1].url}/124M/hparams.json: HTTP status 503)"
        ": check the network and try again."
    )
    assert not list(tmp_path.iterdir())


def test_what_arrived_is_kept_for_the_next_call(hosts, tmp_path, monkeypatch):
    monkeypatch.setitem(download.SHA256["124M"], DATA, hashlib.sha256(CONTENTS[DATA]).hexdigest())
    for host in hosts:
        host.cuts = [100_000, 0, 0, 0]
    with pytest.raises(InputError, match="the connection broke"):
        download.download_openai("124M", tmp_path)
    assert not (tmp_path / DATA).exists()
    partial = (tmp_path / f".{DATA}.partial").read_bytes()
    assert partial == CONTENTS[DATA][: 100_000 + 100_000 - 1]
    for host in hosts:
        host.cuts = []
    download.download_openai("124M", tmp_path)
    assert is_complete(tmp_path) and ranges(hosts[0])[-1] == "bytes=199998-"


def test_wrong_use(hosts, tmp_path):
    with pytest.raises(UsageError, match="no GPT-2 of size 117M; OpenAI published 124M, 355M, 774M, 1558M"):
        download.download_openai("117M", tmp_path)
    (tmp_path / "file").touch()
    with pytest.raises(InputError, match="is a file; expected a folder"):
        download.download_openai("124M", tmp_path / "file")


def test_known_checksums_are_of_these_files():
    assert download.SHA256.keys() == set(OPENAI_SIZES)
    assert download.SHA256["124M"].keys() == set(FILES)
    settings = '{\n  "n_vocab": 50257,\n  "n_ctx": 1024,\n  "n_embd": 768,\n  "n_head": 12,\n  "n_layer": 12\n}\n'
    assert hashlib.sha256(settings.encode()).hexdigest() == download.SHA256["124M"]["hparams.json"]
    from tiktoken_ext import openai_public

    source = Path(openai_public.__file__).read_text(encoding="utf-8")
    for size in OPENAI_SIZES:
        assert download.SHA256[size]["vocab.bpe"] in source and download.SHA256[size]["encoder.json"] in source


def test_offline_mode_keeps_off_the_network(hosts, tmp_path, monkeypatch):
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_OFFLINE", True)
    with pytest.raises(InputError, match="offline mode is enabled.* unset the `HF_HUB_OFFLINE`"):
        download.download_openai("124M", tmp_path / "gpt2")
    assert not hosts[0].requests and not (tmp_path / "gpt2").exists()


def test_full_disk_is_not_taken_for_a_broken_connection(hosts, tmp_path, monkeypatch):
    def append(answer, partial, start, length):
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr("hf_gpt_scratch.utils.download._append", append)
    with pytest.raises(OSError, match="No space left"):
        download.download_openai("124M", tmp_path)
    assert len(hosts[0].requests) == 1 and not hosts[1].requests
