"""A judge behind an OpenAI-compatible endpoint: its requests, what may go wrong with them, and when to give up."""

import os
import queue
import re
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from urllib.parse import urlsplit, urlunsplit

from huggingface_hub import InferenceClient
from huggingface_hub.errors import HfHubHTTPError, HTTPError, InferenceTimeoutError
from huggingface_hub.utils import get_session

from ..errors import InputError, UsageError
from .judge_prompts import Task

TEMPERATURE = 0.0
BACK_OFF = 0.5  # seconds before the first retry, doubled before each further one
LONGEST_WAIT = 60.0  # seconds, where the server says how long
PATIENCE = 5  # failures in a row that end a run; before anything was answered, one does
PASSING = {408, 409, 425, 429, 500, 502, 503, 504, 529}  # statuses that may be gone in a moment
HOPELESS = {401, 403, 404, 405}  # the same for every question
UNFIT = {400, 413, 422}  # perhaps this question alone, being too long
REFUSES_SCHEMA = {400, 415, 422, 501}
HUGGING_FACE = re.compile(r"(.*\.)?(huggingface\.co|hf\.co|hf\.space|huggingface\.cloud)")


@dataclass(frozen=True)
class Answer:
    """What the judge said, its value (`None` where it cannot be told), and what else is known of it."""

    text: str
    value: float | None
    details: dict = field(default_factory=dict)


class Failure(Exception):
    """
    There is no answer, and the message says why.

    Attributes:
        retry: whether asking again may help.
        fatal: whether every other question will fare the same.
        status: of HTTP, where there is one.
        wait: the seconds that the server asks to wait.
    """

    def __init__(
        self,
        message: str,
        retry: bool = False,
        fatal: bool = False,
        status: int | None = None,
        wait: float | None = None,
    ):
        super().__init__(message)
        self.retry, self.fatal, self.status, self.wait = retry, fatal, status, wait


class _Client(InferenceClient):
    def _inner_post(self, request_parameters, **options):
        # InferenceClient writes a schema for any URL in the way of older text-generation-inference servers, which
        # Ollama, vLLM and llama.cpp take for JSON of any shape; this is OpenAI's way, which they all know.
        form = request_parameters.json.get("response_format")
        if form and "value" in form:
            schema = {"name": "judgement", "schema": form["value"], "strict": True}
            request_parameters.json["response_format"] = {"type": "json_schema", "json_schema": schema}
        return super()._inner_post(request_parameters, **options)


class EndpointJudge:
    """
    A model behind `base_url`, asked through `huggingface_hub.InferenceClient` at temperature 0 and with a fixed seed.

    The key is the environment's OPENAI_API_KEY, or for Hugging Face's own hosts HF_TOKEN; a token that the user logged
    in to the Hub with goes nowhere else.

    Args:
        base_url: of the API, such as `http://localhost:11434/v1`; may hold credentials.
        timeout: seconds of silence to wait for an answer.
        retries: how often a request that failed in passing is sent again, after 0.5, 1, 2... seconds; one that was not
            answered in time is sent again once.
        workers: requests at a time.

    Raises:
        UsageError: when `base_url` is no address.
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
        self.key = os.environ.get("HF_TOKEN" if self._is_hugging_face() else "OPENAI_API_KEY") or None
        # Without a key the client would send the user's own for the Hub, and a header of None is not sent.
        keyless = None if self.key else {"authorization": None}
        self._client = _Client(base_url=base_url, api_key=self.key or "none", headers=keyless, timeout=timeout)

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
        return {**self.identity, "takes_schema": self.takes_schema}

    def form(self, task: Task) -> str:
        return task.mode.as_json

    def answers(self, tasks: Mapping[str, Task], is_known_to_work: bool) -> Iterator[tuple[str, Answer | Failure]]:
        """
        Yields the answer to each task, or why there is none, as they come, by the tasks' keys.

        Args:
            is_known_to_work: whether this judge has answered before; if not, the first failure ends the run.

        Raises:
            InputError: when the endpoint does not answer, or no longer.
        """
        in_a_row, self.works = 0, is_known_to_work
        keys = list(tasks)
        with _hub_offline_or_not():
            # The first alone: it shows whether the endpoint works and whether it keeps to a schema.
            for batch in (keys[:1], keys[1:]):
                for key, outcome in _in_parallel(lambda key: self._answer(tasks[key]), batch, self.workers):
                    if isinstance(outcome, Failure):
                        in_a_row += 1
                        patience = PATIENCE if self.works or outcome.status in UNFIT else 1
                        if outcome.fatal or in_a_row >= patience:
                            raise InputError(f"The judge at {self.base_url} {outcome}.")
                    else:
                        in_a_row, self.works = 0, True
                    yield key, outcome

    def _answer(self, task: Task) -> Answer | Failure:
        attempt = 0
        while True:
            try:
                text = self._ask(task)
                return Answer(text, task.mode.parse(text))
            except Failure as failure:
                if attempt >= self._retries_after(failure):
                    return failure
                time.sleep(max(BACK_OFF * 2**attempt, min(failure.wait or 0, LONGEST_WAIT)))
                attempt += 1

    def _retries_after(self, failure: Failure) -> int:
        if not failure.retry:
            return 0
        if isinstance(failure.__cause__, InferenceTimeoutError):
            return min(self.retries, 1)
        if failure.fatal and not self.works:  # the server was never there
            return min(self.retries, 2)
        return self.retries

    def _ask(self, task: Task) -> str:
        """One answer; a server that refuses the schema is asked without, from then on."""
        if self.takes_schema is False:
            return self._request(task, structured=False)
        try:
            text = self._request(task, structured=True)
        except Failure as failure:
            if self.takes_schema or failure.status not in REFUSES_SCHEMA:
                raise
            text = self._request(task, structured=False)
            self.takes_schema = False
            return text
        self.takes_schema = True
        return text

    def _request(self, task: Task, structured: bool) -> str:
        json_schema = {"name": "judgement", "schema": dict(task.mode.schema)}
        try:
            output = self._client.chat_completion(
                [{"role": "user", "content": task.message(self.form(task))}],
                model=self.name,
                temperature=TEMPERATURE,
                seed=self.seed,
                max_tokens=self.max_tokens,
                response_format={"type": "json_schema", "json_schema": json_schema} if structured else None,
            )
        except HfHubHTTPError as error:
            raise self._refusal(error.response, error.server_message or "") from error
        except InferenceTimeoutError as error:
            remedy = "raise --timeout or lower --workers"
            raise Failure(f"did not answer within {self.timeout:g} seconds; {remedy}", retry=True) from error
        except HTTPError as error:  # httpx's: no connection, or one that broke
            is_down = type(error).__name__ in ("ConnectError", "UnsupportedProtocol", "ProxyError")
            reason = " ".join(str(error).split()) or type(error).__name__
            if is_down:
                reason = f"cannot be reached ({reason}); start it, or check --base-url"
            else:
                reason = f"broke off the connection ({reason})"
            raise Failure(self._without_secrets(reason), retry=True, fatal=is_down) from error
        except (ValueError, TypeError, AttributeError) as error:  # a body that is not JSON, or no object
            if isinstance(error.__context__, HTTPError):  # huggingface_hub's own slip while it reads a refusal
                raise self._refusal(error.__context__.response, "") from error
            raise _not_openai("answered something that is no JSON object") from error
        try:
            content = output.choices[0].message.content
        except (AttributeError, IndexError, KeyError, TypeError) as error:
            raise _not_openai("answered JSON without choices[0].message.content") from error
        return content if isinstance(content, str) else ""

    def _refusal(self, response, said: str) -> Failure:
        status = response.status_code
        if found := re.search(r"""['"]message['"]:\s*(['"])(.*?)\1\s*[,}]""", said):  # OpenAI's form of an error
            said = found.group(2)
        said = self._without_secrets(" ".join(said.split())[:300].rstrip("."))
        remedy = {
            401: "; put its key into the environment as OPENAI_API_KEY (for Hugging Face's hosts, HF_TOKEN)",
            403: "; check the key in the environment",
            404: "; check --model and --base-url, which usually ends in /v1",
        }.get(status, "")
        wait = response.headers.get("retry-after", "")
        return Failure(
            f"answered with the HTTP status {status}{f' ({said})' if said else ''}{remedy}",
            retry=status in PASSING,
            fatal=status in HOPELESS,
            status=status,
            wait=float(wait) if re.fullmatch(r"[0-9]{1,6}(\.[0-9]+)?", wait) else None,
        )

    def _without_secrets(self, text: str) -> str:
        return text.replace(self.key, "***") if self.key else text


def _not_openai(what: str) -> Failure:
    return Failure(f"{what}, so it is no OpenAI-compatible API; check --base-url, which usually ends in /v1")


def public_url(base_url: str) -> str:
    """
    The address without a user's name, a password, a query or a fragment, any of which may be secret.

    Raises:
        UsageError: when it is no http address.
    """
    try:
        parts = urlsplit(base_url)
        host, _ = parts.hostname, parts.port
    except ValueError:
        host = None
    if not host or parts.scheme not in ("http", "https") or re.search(r"\s", base_url):
        raise UsageError("--base-url must be an address like http://localhost:11434/v1.")
    return urlunsplit((parts.scheme, parts.netloc.rpartition("@")[2], parts.path.rstrip("/"), "", ""))


@contextmanager
def _hub_offline_or_not() -> Iterator[None]:
    """In the Hub's offline mode huggingface_hub refuses every request; the endpoint is not the Hub, so it is asked."""
    session = get_session()
    hooks, session.event_hooks = session.event_hooks, {}
    try:
        yield
    finally:
        session.event_hooks = hooks


def _in_parallel(function: Callable[[str], object], keys: list[str], workers: int) -> Iterator[tuple[str, object]]:
    """
    Yields each key and what `function` returns for it, as they come; a new one begins when one was taken, so that none
    does after the last. The threads are daemons: those of a ThreadPoolExecutor would keep the process alive after
    Ctrl-C until the last request is answered or timed out.
    """
    waiting, done = queue.SimpleQueue(), queue.SimpleQueue()

    def work() -> None:
        while (key := waiting.get()) is not None:
            try:
                done.put((key, function(key)))
            except BaseException as error:  # raised below, where the run can see it
                done.put((key, error))

    workers = min(workers, len(keys))
    for key in keys[:workers]:
        waiting.put(key)
    for _ in range(workers):
        threading.Thread(target=work, daemon=True).start()
    try:
        for number in range(len(keys)):
            key, outcome = _get(done)
            if isinstance(outcome, BaseException) and not isinstance(outcome, Failure):
                raise outcome
            yield key, outcome
            if number + workers < len(keys):
                waiting.put(keys[number + workers])
    finally:
        for _ in range(workers):
            waiting.put(None)


def _get(done: queue.SimpleQueue) -> tuple[str, object]:
    while True:
        try:
            return done.get(timeout=1)  # a wait without an end would not notice Ctrl-C on Windows
        except queue.Empty:
            continue
