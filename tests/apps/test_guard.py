"""What stands before a page: limits of size, time and rate, the password, errors that tell nothing of the machine."""

import asyncio
import base64
import json
from types import SimpleNamespace

import pytest

from hf_gpt_scratch.apps.guard import API, CLOSING, ELSEWHERE, SENTENCES, Guard, Limits, Rate, network_of
from hf_gpt_scratch.apps.page import is_loopback, public, recent
from hf_gpt_scratch.cli import main

JOIN = f"{API}/queue/join"


async def app(scope, receive, send):
    """Answers with what it read; at some addresses with errors as Gradio has them."""
    body, more = b"", scope["method"] == "POST"
    while more:
        message = await receive()
        body, more = body + message["body"], message.get("more_body")
    if body == b"defect":
        raise RuntimeError("/home/ann/secret hf_abc")
    if body.startswith(b"{"):
        get_fn = pytest.importorskip("gradio.route_utils").get_fn
        get_fn(SimpleNamespace(fns={}), "nothing", SimpleNamespace(session_hash=None, **json.loads(body)))
    status = int(body) if body.isdigit() and len(body) == 3 else 200
    await send({"type": "http.response.start", "status": status, "headers": []})
    await send({"type": "http.response.body", "body": b"/home/ann/a.py " + body[:20]})


def ask(guard, path="/", method="GET", parts=(b"",), client="192.0.2.1", wait=0.0, **headers):
    """The status, headers and text of a reply; `wait` is how many seconds each part of the body takes."""
    guard.around(app)
    waiting, sent = list(parts), []

    async def receive():
        await asyncio.sleep(wait)
        return {"type": "http.request", "body": waiting.pop(0), "more_body": bool(waiting)}

    async def send(message):
        sent.append(message)

    named = [(name.replace("_", "-").encode(), value.encode()) for name, value in headers.items()]
    scope = {"type": "http", "path": path, "method": method, "headers": named, "client": (client, 1), "scheme": "http"}
    asyncio.run(guard(scope, receive, send))
    return sent[0]["status"], dict(sent[0]["headers"]), b"".join(one.get("body", b"") for one in sent[1:]).decode()


def post(guard, *parts, path=JOIN, **options):
    return ask(guard, path, "POST", parts, **options)


def test_what_is_allowed_arrives_whole_and_has_the_headers_of_every_page():
    status, headers, text = post(Guard(), b"one ", b"two")
    assert (status, text) == (200, "/home/ann/a.py one two")
    assert headers[b"x-content-type-options"] == b"nosniff" and b"content-security-policy" in headers
    assert b"content-security-policy" not in ask(Guard(framed=True))[1]


@pytest.mark.parametrize("path", [JOIN, f"{API}/upload"])
@pytest.mark.parametrize("headers", [{}, {"content_length": "31"}])
def test_what_is_too_large_is_refused_whether_it_says_so_or_not(path, headers):
    guard = Guard(Limits(body=30, upload=30))
    status, _, text = post(guard, *[b"x" * 10] * (3 if headers else 4), path=path, **headers)
    assert status == 413 and SENTENCES[413] in text
    assert post(guard, *[b"x" * 10] * 3, path=path)[0] == 200


@pytest.mark.parametrize("path", [JOIN, f"{API}/upload"])
def test_what_comes_too_slowly_is_refused(path):
    guard = Guard(Limits(reading=0.05))
    assert post(guard, b"one", b"two", path=path, wait=0.2)[0] == 408
    assert post(guard, b"one", b"two", path=path)[0] == 200


def test_a_file_may_take_longer_than_each_of_its_parts_but_not_for_ever():
    parts = [b"x"] * 5
    assert post(Guard(Limits(reading=0.1)), *parts, path=f"{API}/upload", wait=0.04)[0] == 200
    assert post(Guard(Limits(reading=0.1, uploading=0.1)), *parts, path=f"{API}/upload", wait=0.04)[0] == 408
    assert post(Guard(Limits(reading=0.1)), *parts, wait=0.04)[0] == 408  # a question is no file


def test_an_address_may_ask_so_often_a_minute_and_others_are_not_concerned():
    now = [0.0]
    guard = Guard(Limits(rate=3), clock=lambda: now[0])
    assert [ask(guard)[0] for _ in range(4)] == [200, 200, 200, 429]
    assert ask(guard, client="192.0.2.2")[0] == 200 and ask(guard, "/assets/a.js")[0] == 200
    now[0] += 20
    assert [ask(guard)[0] for _ in range(2)] == [200, 429]
    now[0] += 10_000  # no more is saved up than a minute's
    assert [ask(guard)[0] for _ in range(4)] == [200, 200, 200, 429]
    assert all(ask(Guard(Limits(rate=0)))[0] == 200 for _ in range(5))


def test_what_is_kept_of_addresses_has_an_end(monkeypatch):
    monkeypatch.setattr("hf_gpt_scratch.apps.guard.MOST_ADDRESSES", 3)
    rate = Rate(1, lambda: 0.0)
    assert all(rate.allows(str(i)) for i in range(5)) and len(rate._left) == 3


def test_a_household_with_many_addresses_is_one():
    one, same, other = ("2001:db8:1:2::1", "2001:db8:1:2:ffff::9", "2001:db8:1:3::1")
    found = [network_of({"client": (host, 1)}) for host in (one, same, other, "192.0.2.1")]
    assert found[0] == found[1] != found[2] and found[3] == "192.0.2.1"


@pytest.mark.parametrize("status", [400, 401, 404, 422, 500, 503])
def test_an_error_is_one_sentence_without_what_the_library_says(status):
    told, _, text = post(Guard(), str(status).encode())
    assert told == (400 if status == 422 else status) and "/home" not in text and SENTENCES[told] in text


def test_a_defect_is_traced_in_the_terminal_alone(capsys):
    status, _, text = post(Guard(), b"defect")
    assert status == 500 and SENTENCES[500] in text and "secret" not in text
    assert "/home/ann/secret" in capsys.readouterr().err
    assert post(Guard(), b"defect")[0] == 500 and not capsys.readouterr().err  # once a minute


@pytest.mark.parametrize("number", [None, 7])
def test_a_function_that_the_page_has_not_is_no_defect(number, capsys):
    status, _, text = post(Guard(), json.dumps({"fn_index": number}).encode())
    assert status == 404 and SENTENCES[404] in text and not capsys.readouterr().err


@pytest.mark.parametrize(
    "path", ["/monitoring", f"{API}/token", f"{API}/proxy=https://a", f"{API}/file=https://a", f"{API}/stream/a", "/x"]
)
def test_addresses_that_the_page_does_not_need_are_closed(path):
    assert ask(Guard(), path)[0] == 404


def test_files_are_served_and_taken_only_where_the_page_has_a_box_for_them():
    for guard, status in ((Guard(), 200), (Guard(takes_files=False), 404)):
        assert (
            ask(guard, f"{API}/file=/tmp/a.csv")[0] == status and post(guard, b"a", path=f"{API}/upload")[0] == status
        )


def test_a_page_that_closes_takes_no_questions_and_still_gives_answers():
    guard = Guard()
    guard.closing = True
    status, _, text = post(guard, b"one")
    assert status == 503 and CLOSING in text
    assert ask(guard, f"{API}/queue/data")[0] == 200


def test_nothing_is_shown_without_the_password():
    guard = Guard(password="correct horse")
    status, headers, text = ask(guard)
    assert status == 401 and 'type="password"' in text and headers[b"content-type"].startswith(b"text/html")
    assert all(ask(guard, path)[0] == 401 for path in ("/config", JOIN, f"{API}/heartbeat/a", "/monitoring"))
    assert post(guard, b"password=wrong", path="/login")[0] == 401
    status, headers, _ = post(guard, b"password=correct+horse", path="/login")
    cookie = headers[b"set-cookie"].decode()
    assert status == 303 and "HttpOnly" in cookie and "correct" not in cookie
    assert ask(guard, cookie=cookie.partition(";")[0])[0] == 200
    for others in ('x={"a":1}', "consent=yes no", "flag", "=", "hf_gpt_scratch=of.another"):  # of other ports, too
        assert ask(guard, cookie=f"{others}; {cookie.partition(';')[0]}")[0] == 200
    until, _, signature = cookie.partition(";")[0].partition("=")[2].partition(".")
    for forged in (f"{int(until) + 1}.{signature}", f"{until}.{'0' * 64}", f"0.{signature}", "", "."):
        assert ask(guard, cookie=f"hf_gpt_scratch={forged}")[0] == 401
    assert ask(Guard(password="correct horse"), cookie=cookie.partition(";")[0])[0] == 401  # of another start


def test_programs_give_the_password_by_basic_authentication():
    guard = Guard(password="correct horse")
    known = {"any:correct horse": 200, "any:wrong": 401, "correct horse": 401}
    for text, status in known.items():
        assert ask(guard, authorization=f"Basic {base64.b64encode(text.encode()).decode()}")[0] == status
    assert ask(guard, authorization="Basic ???")[0] == ask(guard, authorization="Bearer a")[0] == 401


def test_a_program_that_guesses_is_told_to_wait_too():
    guard = Guard(Limits(rate=0), "correct horse", clock=lambda: 0.0)

    def give(password: str):
        return ask(guard, authorization=f"Basic {base64.b64encode(f':{password}'.encode()).decode()}")

    assert [give("wrong")[0] for _ in range(11)] == [401] * 10 + [429]
    status, headers, body = give("correct horse")
    assert status == 429 and headers[b"retry-after"] == b"60" and "Too many wrong passwords" in body
    assert ask(guard)[0] == 401  # who gives none is still shown the form


def test_a_password_is_guessed_ten_times_a_minute_at_most():
    now = [0.0]
    guard = Guard(Limits(rate=0), "correct horse", clock=lambda: now[0])
    said = [post(guard, b"password=wrong", path="/login")[0] for _ in range(12)]
    assert said == [401] * 10 + [429] * 2
    assert post(guard, b"password=correct+horse", path="/login")[0] == 429  # else guessing on would tell
    assert post(guard, b"password=correct+horse", path="/login", client="192.0.2.2")[0] == 303
    now[0] += 60
    assert post(guard, b"password=correct+horse", path="/login")[0] == 303


def test_made_up_addresses_guess_no_more_than_a_hundred_times_a_minute():
    guard = Guard(Limits(rate=0), "correct horse", clock=lambda: 0.0)
    said = [post(guard, b"password=wrong", path="/login", client=f"192.0.2.{i}")[0] for i in range(102)]
    assert said == [401] * 100 + [429] * 2


def test_the_cookie_works_in_a_frame_of_another_site_where_the_page_may_be_in_one():
    for framed, scheme, expected in ((True, "https", "SameSite=None; Partitioned"), (False, "https", "SameSite=Lax")):
        login = Guard(password="correct horse", framed=framed).login
        _, _, headers = login.answer(b"password=correct horse", "192.0.2.1", {"scheme": scheme})
        assert expected in dict(headers)[b"set-cookie"].decode() and b"; Secure" in dict(headers)[b"set-cookie"]


@pytest.mark.parametrize("site", ["cross-site", "same-site"])
def test_another_sites_requests_with_the_cookie_are_refused_and_its_links_are_not(site):
    guard = Guard(password="correct horse", framed=True)
    _, headers, _ = post(guard, b"password=correct+horse", path="/login")
    cookie = headers[b"set-cookie"].decode().partition(";")[0]
    own = {"cookie": cookie, "sec_fetch_site": "same-origin", "sec_fetch_mode": "cors"}
    theirs = own | {"sec_fetch_site": site}
    assert post(guard, b"a", **own)[0] == ask(guard, "/config", **own)[0] == post(guard, b"a", cookie=cookie)[0] == 200
    for status, _, text in (post(guard, b"a", **theirs), ask(guard, "/config", **theirs)):
        assert status == 403 and ELSEWHERE in text and "ann" not in text
    link = theirs | {"sec_fetch_mode": "navigate"}  # or a frame; a form is no link
    assert ask(guard, **link)[0] == 200 and post(guard, b"a", **link)[0] == 403
    password = base64.b64encode(b"any:correct horse").decode()  # which no browser adds of itself
    told = {"authorization": f"Basic {password}", "sec_fetch_site": site}
    assert post(guard, b"a", **told)[0] == 200 and post(Guard(), b"a", sec_fetch_site=site)[0] == 200


def test_an_error_on_the_page_has_no_path_and_no_token():
    assert public("/home/ann/votes.sqlite is damaged.") == "votes.sqlite is damaged."
    assert "hf_" not in public(f"hf_{'a1B2' * 8} is no model.")
    assert public("The text has 10,001 characters.") == "The text has 10,001 characters."


def test_a_long_conversation_loses_its_oldest_questions():
    turns = [{"role": role, "content": "x" * 100} for _ in range(60) for role in ("user", "assistant")]
    assert recent(turns[:10]) == (turns[:10], False)
    kept, is_cut = recent(turns)
    assert len(kept) == 100 and kept[0]["role"] == "user" and is_cut
    kept, is_cut = recent([{**one, "content": "x" * 20_000} for one in turns[:8]])
    assert len(kept) == 4 and kept[0]["role"] == "user" and is_cut


@pytest.mark.parametrize(("host", "is_here"), [("127.0.0.1", True), ("::1", True), ("0.0.0.0", False), ("", False)])
def test_which_addresses_only_this_machine_reaches(host, is_here):
    assert is_loopback(host) == is_here


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["--password", "short"], "must have 8 characters at least"),
        (["--rate", "-1"], "must be a whole number, not -1"),
        (["--password", "long enough", "--export-space", "x"], "--password is for a page that is served"),
        (["--rate", "5", "--export-static", "x"], "--rate is for a page that is served"),
    ],
)
def test_options_that_are_refused_are_told_without_the_password(words, said, capsys):
    try:
        status = main(["app", "classify", "nowhere", *words])
    except SystemExit as end:
        status = end.code
    told = capsys.readouterr().err
    assert status == 2 and said in told and "long enough" not in told
