"""Files to judge, and servers of OpenAI's chat completions: one that behaves as told, one that runs a model."""

import json
import re
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import torch


def rows(responses: list[str]) -> list[dict]:
    return [
        {
            "instruction": f"Name the number {i}.",
            "input": "" if i % 2 else f"in words {i}",
            "output": f"reference {i}",
            "model_response": response,
            "finish_reason": "stop",
        }
        for i, response in enumerate(responses)
    ]


def write(path: Path, content) -> Path:
    path.write_text(json.dumps(content, ensure_ascii=False), encoding="utf-8")
    return path


def result_of(path: Path) -> dict:
    return json.loads(path.with_name("judge.json").read_text(encoding="utf-8"))


Behaviour = Callable[[dict], "Reply"]


@dataclass
class Reply:
    """What a server sends back, with a pause before each byte; a status of 0 breaks off the connection."""

    body: bytes
    status: int = 200
    content_type: str = "application/json"
    headers: dict[str, str] = field(default_factory=dict)
    pause: float = 0


def chat(text, finish_reason: str = "stop") -> Reply:
    choice = {"index": 0, "finish_reason": finish_reason, "message": {"role": "assistant", "content": text}}
    return Reply(json.dumps({"id": "1", "object": "chat.completion", "choices": [choice]}).encode())


def error(status: int, message: str, **headers: str) -> Reply:
    body = json.dumps({"error": {"message": message, "type": "server_error"}}).encode()
    return Reply(body, status, headers=headers)


def question(body: dict) -> str:
    return body["messages"][0]["content"]


def responses_in(body: dict) -> list[str]:
    """The responses to judge in a request."""
    return re.findall(r"\[Answer ?[AB]?\]\n(.*?)\n\[End of answer", question(body), re.DOTALL)


def number_in_response(body: dict) -> Reply:
    """A judge that gives a response of `worth 37` the score 37."""
    return chat(json.dumps({"score": int(responses_in(body)[0].split()[-1])}))


class JudgeServer:
    """
    A server that replies by `behave`, which may be changed at any time.

    Attributes:
        requests: the bodies it was sent, and `headers`, theirs.
        most_at_once: the most requests it held at a time.
    """

    def __init__(self, behave: Behaviour):
        self.behave = behave
        self.requests: list[dict] = []
        self.headers: list[dict[str, str]] = []
        self.paths: list[str] = []
        self.most_at_once = self._at_once = 0
        self._lock = threading.Lock()
        judge = self

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
                reply = judge._reply(body, dict(self.headers), self.path)
                if reply.status == 0:
                    self.connection.close()
                    return
                try:
                    self.send_response(reply.status)
                    self.send_header("Content-Type", reply.content_type)
                    self.send_header("Content-Length", str(len(reply.body)))
                    for name, value in reply.headers.items():
                        self.send_header(name.replace("_", "-"), value)
                    self.end_headers()
                    for byte in reply.body if reply.pause else ():
                        time.sleep(reply.pause)
                        self.wfile.write(bytes([byte]))
                    self.wfile.write(b"" if reply.pause else reply.body)
                except OSError:  # the client has gone
                    pass

            def log_message(self, *args) -> None:
                pass

        self.http = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.http.daemon_threads = True
        self.url = f"http://127.0.0.1:{self.http.server_port}/v1"

    def _reply(self, body: dict, headers: dict, path: str) -> Reply:
        with self._lock:
            self.requests.append(body)
            self.headers.append({name.lower(): value for name, value in headers.items()})
            self.paths.append(path)
            self._at_once += 1
            self.most_at_once = max(self.most_at_once, self._at_once)
        try:
            return self.behave(body)
        finally:
            with self._lock:
                self._at_once -= 1


@contextmanager
def judge_server(behave: Behaviour) -> Iterator[JudgeServer]:
    server = JudgeServer(behave)
    thread = threading.Thread(target=server.http.serve_forever, kwargs={"poll_interval": 0.01}, daemon=True)
    thread.start()
    try:
        yield server
    finally:
        server.http.shutdown()
        server.http.server_close()


def slowly(behave: Behaviour, seconds: float) -> Behaviour:
    def wait_first(body: dict) -> Reply:
        time.sleep(seconds)
        return behave(body)

    return wait_first


class ModelBehaviour:
    """
    A model's own answers: under a schema of a number the JSON that it finds likeliest, token by token read anew for
    each; else what it writes by itself, always taking the likeliest token.
    """

    def __init__(self, model, tokenizer):
        self.model, self.tokenizer, self.lock = model.eval(), tokenizer, threading.Lock()

    def __call__(self, body: dict) -> Reply:
        prompt = self.tokenizer.apply_chat_template(body["messages"], tokenize=False, add_generation_prompt=True)
        with self.lock, torch.inference_mode():
            if body.get("response_format", {}).get("type") == "json_schema":
                return chat(max(self.allowed(body), key=lambda text: self.log_likelihood(prompt, text)))
            ids = self.tokenizer(prompt, return_tensors="pt")["input_ids"]
            written = self.model.generate(ids, max_new_tokens=min(body["max_tokens"], 8), do_sample=False)
            return chat(self.tokenizer.decode(written[0, ids.shape[1] :], skip_special_tokens=True))

    def allowed(self, body: dict) -> list[str]:
        score = body["response_format"]["json_schema"]["schema"]["properties"]["score"]
        return [json.dumps({"score": number}) for number in range(score["minimum"], score["maximum"] + 1, 10)]

    def log_likelihood(self, prompt: str, text: str) -> float:
        start, ids = self.tokenizer(prompt)["input_ids"], self.tokenizer(prompt + text)["input_ids"]
        logits = self.model(torch.tensor([ids])).logits[0].log_softmax(-1)
        return sum(logits[i - 1, ids[i]].item() for i in range(len(start), len(ids)))


SCORES = [80, 10, 100, 0, 55, 73]
HTML = Reply(b"<!DOCTYPE html><html><body>Welcome!</body></html>", content_type="text/html")


def endpoint(server, *options) -> tuple:
    return ("--base-url", server.url, "--model", "llama3", *options)


def left_over(path: Path) -> list[str]:
    """The files beside the responses that are neither the result nor its picture."""
    return sorted(
        p.name for p in path.parent.iterdir() if p.name not in ("judge.json", "judge.png", "results", path.name)
    )


def one_sentence(stderr: str) -> str:
    lines = [line for line in stderr.splitlines() if line.startswith("error:")]
    assert len(lines) == 1 and "Traceback" not in stderr
    assert lines[0].endswith(".")
    return lines[0]


def longer(body) -> Reply:
    """A judge that likes the longer response better and knows ties."""
    a, b = map(len, responses_in(body))
    return chat(json.dumps({"winner": "tie" if a == b else "A" if a > b else "B"}))
