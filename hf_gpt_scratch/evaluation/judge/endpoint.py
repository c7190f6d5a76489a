"""A judge behind an OpenAI-compatible endpoint: its requests, their failures, and when to give up."""

import json
import os
import re
import sys
import time
from collections.abc import Iterator, Mapping
from threading import Lock
from urllib.parse import quote, urlsplit, urlunsplit

import httpx2

from ...utils.errors import InputError, UsageError, one_line
from .answers import Answer, NoAnswer, whole_characters
from .parallel import in_parallel, within
from .prompts import Task

TEMPERATURE = 0.0
BACK_OFF = 0.5  # seconds before the first retry, doubled before each further one
LONGEST_WAIT = 60.0  # seconds before a retry, whatever the server says
CONNECTING = 10.0  # seconds to reach the server, and no more than half of the time for an answer
PATIENCE = 5  # failures in a row that end a run; before anything was answered, one does
PASSING = {408, 409, 425, 429, 500, 502, 503, 504, 529}  # statuses that may be gone in a moment
HOPELESS = {401, 403, 404, 405}  # the same for every question
UNFIT = {400, 413, 422}  # perhaps this question alone, being too long
NOT_FOR_THE_SCHEMA = {401, 403, 429}  # statuses with another reason than the schema, to be sure
TOO_LONG = re.compile(r"too (large|long|many)|context|exceed|at most|less than", re.IGNORECASE)  # not of a parameter
HUGGING_FACE = re.compile(r"(.*\.)?(huggingface\.co|hf\.co|hf\.space|huggingface\.cloud)")


class EndpointJudge:
    """
    A model behind `base_url`, asked for chat completions at temperature 0 and with a fixed seed. Where the server
    refuses one of these, or `max_tokens`, by its name, it is asked without it from then on; answers' details say so.

    The key is the environment's OPENAI_API_KEY, or for Hugging Face's own hosts HF_TOKEN; a token that the user logged
    in to the Hub with goes nowhere else. The requests are plain HTTP: huggingface_hub's InferenceClient sends a schema
    in the form of one server only, and none of them in the Hub's offline mode.

    Args:
        base_url: of the API, such as `http://localhost:11434/v1`; may hold credentials.
        timeout: seconds to wait for an answer, of which 10, or half of them, are for reaching the server.
        retries: how often a request that failed in passing is sent again, after 0.5, 1, 2... seconds; one that was not
            answered in time is sent again once.
        workers: requests at a time.

    Raises:
        UsageError: when `base_url` is not an address, or the key cannot be valid.
    """

    def __init__(
        self,
        base_url: str,
        model: str,
        seed: int = 0,
        max_tokens: int = 512,
        timeout: float = 300.0,
        retries: int = 4,
        workers: int = 4,
    ):
        self.base_url = public_url(base_url)
        self.name, self.seed, self.max_tokens = model, seed, max_tokens
        self.timeout, self.retries, self.workers = timeout, retries, workers
        self.takes_schema: bool | None = None  # not known before the first answer
        self.works = False
        self._parameters = {"temperature": TEMPERATURE, "seed": seed, "max_tokens": max_tokens}
        self._changed: tuple[str, ...] = ()  # what was refused of them, and what is sent instead
        self.key = _key("HF_TOKEN" if self._is_hugging_face() else "OPENAI_API_KEY")
        self._lock = Lock()
        self._url = _completions_url(base_url)
        headers = {"Authorization": f"Bearer {self.key}"} if self.key else {}
        times = httpx2.Timeout(timeout, connect=min(CONNECTING, timeout / 2))
        self._client = httpx2.Client(headers=headers, timeout=times, follow_redirects=True)

    def _is_hugging_face(self) -> bool:
        return HUGGING_FACE.fullmatch(urlsplit(self.base_url).hostname or "") is not None

    @property
    def identity(self) -> dict:
        """What an answer depends on besides the question."""
        return {
            "kind": "endpoint",
            "model": self.name,
            "base_url": self.base_url,
            "temperature": TEMPERATURE,
            "seed": self.seed,
            "max_tokens": self.max_tokens,
        }

    def describe(self) -> dict:
        return {**self.identity, **self.known}

    @property
    def known(self) -> dict:
        """What is found out while it answers."""
        return {"takes_schema": self.takes_schema}

    def resume(self, known: Mapping) -> None:
        """Takes over what a stopped run had found out: its `known`."""
        takes_schema = known.get("takes_schema")
        self.takes_schema = takes_schema if isinstance(takes_schema, bool) else None

    def form(self, task: Task) -> str:
        return task.mode.as_json

    def answers(self, tasks: Mapping[str, Task], is_known_to_work: bool) -> Iterator[tuple[str, Answer | NoAnswer]]:
        """
        Yields the answer to each task, or why it has none, as they come, by the tasks' keys.

        Args:
            is_known_to_work: whether this judge has answered before; if not, the first failure ends the run.

        Raises:
            InputError: when the endpoint does not answer, or no longer.
        """
        in_a_row, self.works = 0, is_known_to_work
        keys = list(tasks)
        # The first alone: it shows whether the endpoint works and whether it keeps to a schema.
        for batch in (keys[:1], keys[1:]):
            for key, outcome in in_parallel(lambda key: self._answer(tasks[key]), batch, self.workers):
                if isinstance(outcome, NoAnswer):
                    # A refused question says nothing of the others, once there was an answer.
                    in_a_row += not (self.works and outcome.status in UNFIT)
                    patience = PATIENCE if self.works or outcome.status in UNFIT else 1
                    if outcome.fatal or in_a_row >= patience:
                        raise InputError(f"The judge at {self.base_url} {outcome}.")
                else:
                    in_a_row, self.works = 0, True
                yield key, outcome

    def _answer(self, task: Task) -> Answer | NoAnswer:
        """The answer after the retries. What a server refuses for good is asked once more without the schema."""
        attempt, structured = 0, self.takes_schema is not False
        while True:
            parameters, changed = self._parameters, self._changed
            try:
                text, details = self._request(task, structured, parameters)
            except NoAnswer as failure:
                if name := _refused(parameters, failure):
                    self._leave_out(name, failure)
                elif attempt < self._retries_after(failure):
                    wait = max(BACK_OFF * 2 ** min(attempt, 10), failure.wait or 0)
                    time.sleep(min(wait, LONGEST_WAIT))
                    attempt += 1
                elif structured and not self.takes_schema and failure.status not in (None, *NOT_FOR_THE_SCHEMA):
                    structured = False
                else:
                    return failure
                continue
            if not structured:
                self.takes_schema = False
            elif _has_keys_of(text, task.mode.schema):  # a server may ignore the schema without a word
                self.takes_schema = True
            details = {**details, "changed": list(changed)} if changed else details
            return Answer(text, task.mode.parse(text), details)

    def _leave_out(self, name: str, failure: NoAnswer) -> None:
        """Sends no parameter of that name any more; of `max_tokens`, under its newer name where that is wanted."""
        with self._lock:
            if name not in self._parameters:  # another request was refused for the same
                return
            rest = {key: value for key, value in self._parameters.items() if key != name}
            change = f"no {name}"
            if name == "max_tokens" and "max_completion_tokens" in failure.said:
                rest["max_completion_tokens"] = self.max_tokens
                change = "max_completion_tokens for max_tokens"
            self._changed, self._parameters = (*self._changed, change), rest
        print(f"note: the judge's server refuses {name}; asked again with {change}.", file=sys.stderr)

    def _retries_after(self, failure: NoAnswer) -> int:
        if not failure.retry:
            return 0
        if failure.late:
            return min(self.retries, 1)
        if (failure.fatal or failure.status == 200) and not self.works:  # it was never there, or never this API
            return min(self.retries, 2)
        return self.retries

    def _request(self, task: Task, structured: bool, parameters: Mapping) -> tuple[str, dict]:
        """What the model says to one request, and details of it."""
        body = {
            "model": self.name,
            "messages": [{"role": "user", "content": task.message(self.form(task))}],
            **parameters,
        }
        if structured:
            schema = {"name": "judgement", "schema": dict(task.mode.schema), "strict": True}
            body["response_format"] = {"type": "json_schema", "json_schema": schema}
        response = self._post(body)
        if not response.is_success:
            raise self._refusal(response)
        return self._read(response)

    def _post(self, body: dict) -> httpx2.Response:
        try:
            return within(self.timeout, lambda: self._client.post(self._url, json=body))
        except (httpx2.ConnectError, httpx2.ConnectTimeout, httpx2.UnsupportedProtocol, httpx2.ProxyError) as error:
            is_late = isinstance(error, httpx2.ConnectTimeout)
            reason = "it does not answer" if is_late else self._for_people(one_line(error))
            message = f"cannot be reached ({reason}); start it, or check --base-url"
            raise NoAnswer(message, retry=True, fatal=True) from error
        except (TimeoutError, httpx2.TimeoutException) as error:
            remedy = "raise --timeout or lower --workers"
            message = f"did not answer within {self.timeout:g} seconds; {remedy}"
            raise NoAnswer(message, retry=True, late=True) from error
        except httpx2.HTTPError as error:
            reason = self._for_people(one_line(error))
            raise NoAnswer(f"closed the connection ({reason})", retry=True) from error

    def _read(self, response: httpx2.Response) -> tuple[str, dict]:
        """The text of a chat completion, and its details."""
        output = _json(response)
        if not isinstance(output, Mapping):
            raise _not_openai("did not answer with a JSON object")
        try:
            choice = output["choices"][0]
            text = _text(choice["message"]["content"])
        except (IndexError, KeyError, TypeError) as error:
            if output.get("error"):  # some refuse with the status of a success
                said = self._for_people(_error_message(output))
                raise NoAnswer(f"refused ({said}); check --model", retry=True, status=200) from error
            raise _not_openai("answered JSON without choices[0].message.content") from error
        reason = choice.get("finish_reason")
        return text, {"finish_reason": whole_characters(reason)} if isinstance(reason, str) else {}

    def _refusal(self, response: httpx2.Response) -> NoAnswer:
        status, said = response.status_code, self._for_people(_error_message(_json(response)))
        remedy = {
            401: "; set the environment variable OPENAI_API_KEY (for Hugging Face's hosts HF_TOKEN)",
            403: "; check the key in OPENAI_API_KEY or HF_TOKEN",
            404: "; check --model and --base-url, which usually ends in /v1",
        }.get(status, "")
        wait = response.headers.get("retry-after", "")
        return NoAnswer(
            f"answered with the HTTP status {status}{f' ({said})' if said else ''}{remedy}",
            retry=status in PASSING,
            fatal=status in HOPELESS,
            status=status,
            wait=float(wait) if re.fullmatch(r"[0-9]{1,6}(\.[0-9]+)?", wait) else None,
            said=response.text,
        )

    def _for_people(self, text: str) -> str:
        """The beginning of what the server or the network said, on one line and without the key in any spelling."""
        if self.key:
            for secret in (self.key, repr(self.key)[1:-1], json.dumps(self.key)[1:-1], quote(self.key, "")):
                text = text.replace(secret, "***")
        return " ".join(whole_characters(text).split())[:300].rstrip(".")


def _refused(parameters: Mapping, failure: NoAnswer) -> str | None:
    """The parameter that a server refuses, and not the question, being too long for its value."""
    if failure.status not in UNFIT or TOO_LONG.search(failure.said):
        return None
    return next((name for name in parameters if re.search(rf"\b{name}\b", failure.said)), None)


def _key(name: str) -> str | None:
    """The key in an environment variable; raises `UsageError`, which does not tell it, where it cannot be one."""
    key = os.environ.get(name, "").strip()
    if not re.fullmatch("[!-~]*", key):
        raise UsageError(
            f"The key in the environment variable {name} contains a space, a line end or a non-ASCII character; set it"
            " again."
        )
    return key or None


def _text(content) -> str:
    """The content of a message: a text, or the texts of its parts; empty where a model only reasoned."""
    if isinstance(content, list):
        texts = [part.get("text") for part in content if isinstance(part, Mapping)]
        content = "".join(text for text in texts if isinstance(text, str))
    if content is None:
        return ""
    return whole_characters(content if isinstance(content, str) else json.dumps(content, ensure_ascii=False))


def _json(response: httpx2.Response):
    """What a response holds as JSON; `None` where it is not JSON."""
    try:
        return response.json()
    except (ValueError, RecursionError):
        return None


def _error_message(output) -> str:
    """What a server says of an error: `{"error": {"message": ...}}`, as OpenAI's, or less of that."""
    said = output
    for name in ("error", "message"):
        said = said.get(name, said) if isinstance(said, Mapping) else said
    return said if isinstance(said, str) else ""


def _has_keys_of(text: str, schema: Mapping) -> bool:
    try:
        return json.loads(text).keys() == schema["properties"].keys()
    except (ValueError, AttributeError, RecursionError):
        return False


def _not_openai(what: str) -> NoAnswer:
    """A page of a proxy whose server is busy is one too, so it is worth another try."""
    sentence = f"{what}, so it is not an OpenAI-compatible API; check --base-url, which usually ends in /v1"
    return NoAnswer(sentence, retry=True, status=200)


def public_url(base_url: str) -> str:
    """
    The address without a user's name, a password, a query or a fragment, any of which may be secret.

    Raises:
        UsageError: when it is not an http address.
    """
    try:
        parts = urlsplit(base_url)
        host, _ = parts.hostname, parts.port
        (host or "").encode("idna")  # what sockets do with it
        httpx2.URL(base_url)
    except (ValueError, httpx2.InvalidURL):
        host = None
    if not host or parts.scheme not in ("http", "https") or re.search(r"\s", base_url):
        raise UsageError("--base-url must be an address like http://localhost:11434/v1.")
    return urlunsplit((parts.scheme, parts.netloc.rpartition("@")[2], parts.path.rstrip("/"), "", ""))


def _completions_url(base_url: str) -> str:
    """The address to ask, of an API's that may lack its /v1 or have a query."""
    parts = urlsplit(base_url)
    path = parts.path.rstrip("/").removesuffix("/chat/completions")
    path = path if path.endswith("/v1") else f"{path}/v1"
    return urlunsplit(parts._replace(path=f"{path}/chat/completions", fragment=""))
