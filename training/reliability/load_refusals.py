"""Requests that no page should serve: too large, too many, too slow, malformed, without the password."""

import base64
import socket
from collections.abc import Iterator

import httpx
from faults import Row, Settings
from load_client import API, Page
from load_subjects import ClassifierPage

PASSWORD, TOKEN = "correct horse battery", "hf_" + "Ab1" * 12
RATE = 300
JOIN, UPLOAD = f"{API}/queue/join", f"{API}/upload"
FILE = '--x\r\nContent-Disposition: form-data; name="files"; filename="a.txt"\r\n\r\n'
FORM = {"Content-Type": "multipart/form-data; boundary=x"}
JSON = {"Content-Type": "application/json"}
CLOSED = (
    f"{API}/file=/etc/passwd", f"{API}/file=../../etc/passwd", f"{API}/file=https://example.com/a", "/monitoring",
    "/monitoring/summary", f"{API}/proxy=https://example.com", f"{API}/token", f"{API}/user", f"{API}/deep_link",
    f"{API}/dev/reload", f"{API}/stream/a", f"{API}/openapi.json", f"{API}/component_server", f"{API}/mcp/sse",
    f"{API}/run-history/buckets", "/static/../../../routes.py", "/assets/%2e%2e/%2e%2e/routes.py", "/docs",
)  # fmt: skip


def refusals(settings: Settings) -> Iterator[Row]:
    """A row for each kind of request; none is served, and no reply tells a path, a token or a line of code."""
    subject, folder = ClassifierPage("page", "judge"), settings.folder / "refusals"
    command = [*subject.make(folder), "--device", "cpu"]
    secret = {"HF_TOKEN": TOKEN, "HF_GPT_SCRATCH_PASSWORD": PASSWORD}
    tells = (str(settings.folder), "Traceback", 'File "', "site-packages", TOKEN, PASSWORD, "/etc/", "root:")
    with Page([*command, "--rate", "0"], folder / "log", **secret) as page:
        basic = {"Authorization": "Basic " + base64.b64encode(f"any:{PASSWORD}".encode()).decode()}
        with httpx.Client(base_url=page.address, timeout=30) as anyone:
            paths = ("/", "/config", f"{API}/info", f"{API}/queue/status", f"{API}/heartbeat/a", *CLOSED)
            yield _row("no password", [(anyone.get(path), {401}) for path in paths], tells)
        with httpx.Client(base_url=page.address, timeout=30, headers=basic) as known:
            yield _row("Gradio's own addresses", [(known.get(path), {403, 404}) for path in CLOSED], tells)
            yield _row("too large", list(_large(known)), tells)
            yield _row("malformed", list(_malformed(known)), tells)
        yield _too_slow(page.port, tells)
        with httpx.Client(base_url=page.address, timeout=30) as anyone:  # last: the address must then wait
            tries = [anyone.post("/login", data={"password": str(i)}) for i in range(30)]
            yield _row("wrong passwords", [(one, {401} if i < 10 else {429}) for i, one in enumerate(tries)], tells)
    with Page([*command, "--rate", RATE], folder / "log") as page, httpx.Client(base_url=page.address) as eager:
        said = [eager.get(f"{API}/queue/status") for _ in range(2 * RATE)]
        served = sum(one.status_code == 200 for one in said)
        kept = RATE - 1 <= served <= RATE * 1.3  # what a minute allows, and what comes back while they are sent
        row = _row("more requests than a minute allows", [(one, {200, 429}) for one in said], tells)
        yield Row(row.fault, row.subject, row.tries, row.survived, row.lost + (not kept), note=f"{served} served")


def _row(fault: str, said: list[tuple[httpx.Response, set[int]]], tells: tuple[str, ...]) -> Row:
    """How many replies have their status and tell nothing."""
    bad = [one for one, statuses in said if one.status_code not in statuses or any(word in one.text for word in tells)]
    note = f"{bad[0].status_code} for {bad[0].request.url.path}: {bad[0].text[:80]}" if bad else ""
    return Row(f"refused: {fault}", "classifier page", len(said), len(said) - len(bad), len(bad), note=note)


def _large(client: httpx.Client) -> Iterator[tuple[httpx.Response, set[int]]]:
    yield client.post(JOIN, content=b"x" * 3_000_000, headers=JSON), {413}
    yield client.post(JOIN, content=iter([b"x" * 1_000_000] * 3), headers=JSON), {413}  # without a length
    whole = FILE.encode() + b"x" * 12_000_000 + b"\r\n--x--\r\n"
    yield client.post(UPLOAD, content=whole, headers=FORM), {413}
    yield (
        client.post(UPLOAD, content=iter([whole[i : i + 10**6] for i in range(0, len(whole), 10**6)]), headers=FORM),
        {413},
    )
    try:
        yield client.get("/", headers={"X-Long": "x" * 200_000}), {400, 431}
    except httpx.ReadError:  # cut before all of it was sent
        yield httpx.Response(431, request=httpx.Request("GET", "/")), {431}


def _malformed(client: httpx.Client) -> Iterator[tuple[httpx.Response, set[int]]]:
    nested = b"[" * 500_000
    for body in (b"", b"{", b"null", b"[]", b"\xff\xfe", nested, b'{"data": 1}', b'{"data": [], "fn_index": 99999}'):
        yield client.post(JOIN, content=body, headers=JSON), {400, 404}
    for given in ({"data": ["a"], "fn_index": 10**30, "session_hash": "a"}, {"data": [], "fn_index": "/etc/passwd"}):
        yield client.post(JOIN, json=given), {400, 404}
    file = {"path": "/etc/passwd", "meta": {"_type": "gradio.FileData"}}
    yield client.post(f"{API}/call/nothing", json={"data": [file]}), {404}
    yield client.post(UPLOAD, content=b"no form", headers=FORM), {400}
    yield client.get(f"{API}/queue/data"), {400}
    event = client.post(f"{API}/call/judge_file", json={"data": [file, 0.5]}).json().get("event_id")
    yield client.get(f"{API}/call/judge_file/{event}"), {200}  # an error as an event


def _too_slow(port: int, tells: tuple[str, ...]) -> Row:
    """A question whose second half never comes."""
    with socket.create_connection(("127.0.0.1", port), timeout=40) as one:
        basic = base64.b64encode(f"any:{PASSWORD}".encode()).decode()
        head = f"POST {JOIN} HTTP/1.1\r\nHost: a\r\nAuthorization: Basic {basic}\r\nContent-Length: 100\r\n\r\n{{"
        one.sendall(head.encode())
        came = one.recv(10_000).decode()
    good = came.startswith("HTTP/1.1 408") and not any(word in came for word in tells)
    return Row(
        "refused: half a request", "classifier page", 1, int(good), int(not good), note="" if good else came[:80]
    )
