"""A judge behind an OpenAI-compatible endpoint: its requests, what may go wrong with them, and when to give up."""

import json
import os
import queue
import re
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import partial
from urllib.parse import quote, urlsplit, urlunsplit

from huggingface_hub import InferenceClient
from huggingface_hub.errors import HfHubHTTPError, HTTPError
from huggingface_hub.utils import get_session

from ...utils.errors import InputError, UsageError
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
HUGGING_FACE = re.compile(r"(.*\.)?(huggingface\.co|hf\.co|hf\.space|huggingface\.cloud)")


@dataclass(frozen=True)
class Answer:
    """What the judge said, its value (`None` where it cannot be told), and what else is known of it."""

    text: str
    value: float | None
    details: dict = field(default_factory=dict)


def whole_characters(text: str) -> str:
    """`text` with a replacement character for each half of one (`"\\ud83d"` in JSON), which no file could hold."""
    return text.encode("utf-16", "surrogatepass").decode("utf-16", "replace")


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
        timeout: seconds to wait for an answer, of which 10, or half of them, are for reaching the server.
        retries: how often a request that failed in passing is sent again, after 0.5, 1, 2... seconds; one that was not
            answered in time is sent again once.
        workers: requests at a time.

    Raises:
        UsageError: when `base_url` is no address, or the key cannot be one.
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
        self.key = _key("HF_TOKEN" if self._is_hugging_face() else "OPENAI_API_KEY")
        # Without a key the client would send the user's own for the Hub, and a header of None is not sent.
        keyless = None if self.key else {"authorization": None}
        # httpx's times for connecting, reading, writing, and a free connection
        times = (min(CONNECTING, timeout / 2), timeout, timeout, timeout)
        self._client = _Client(base_url=base_url, api_key=self.key or "none", headers=keyless, timeout=times)

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
                        # A refused question says nothing of the others, once there was an answer.
                        in_a_row += not (self.works and outcome.status in UNFIT)
                        patience = PATIENCE if self.works or outcome.status in UNFIT else 1
                        if outcome.fatal or in_a_row >= patience:
                            raise InputError(f"The judge at {self.base_url} {outcome}.")
                    else:
                        in_a_row, self.works = 0, True
                    yield key, outcome

    def _answer(self, task: Task) -> Answer | Failure:
        """The answer after the retries. What a server refuses for good is asked once more without the schema."""
        attempt, structured = 0, self.takes_schema is not False
        while True:
            try:
                text, details = self._request(task, structured)
            except Failure as failure:
                if attempt < self._retries_after(failure):
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
            return Answer(text, task.mode.parse(text), details)

    def _retries_after(self, failure: Failure) -> int:
        if not failure.retry:
            return 0
        if isinstance(failure.__cause__, TimeoutError):
            return min(self.retries, 1)
        if failure.fatal and not self.works:  # the server was never there
            return min(self.retries, 2)
        return self.retries

    def _request(self, task: Task, structured: bool) -> tuple[str, dict]:
        """What the model says to one request, and details of it."""
        json_schema = {"name": "judgement", "schema": dict(task.mode.schema)}
        request = partial(
            self._client.chat_completion,
            [{"role": "user", "content": task.message(self.form(task))}],
            model=self.name,
            temperature=TEMPERATURE,
            seed=self.seed,
            max_tokens=self.max_tokens,
            response_format={"type": "json_schema", "json_schema": json_schema} if structured else None,
        )
        try:
            output = _within(self.timeout, request)
        except HfHubHTTPError as error:
            raise self._refusal(error.response, error.server_message or "") from error
        except TimeoutError as error:  # ours, or huggingface_hub's, which has httpx's as its cause
            if type(error.__cause__).__name__ == "ConnectTimeout":
                raise self._is_down("it does not answer") from error
            remedy = "raise --timeout or lower --workers"
            raise Failure(f"did not answer within {self.timeout:g} seconds; {remedy}", retry=True) from error
        except HTTPError as error:  # httpx's: no connection, or one that broke
            reason = str(error) or type(error).__name__
            if type(error).__name__ in ("ConnectError", "UnsupportedProtocol", "ProxyError"):
                raise self._is_down(reason) from error
            raise Failure(f"broke off the connection ({self._for_people(reason)})", retry=True) from error
        except (ValueError, TypeError, AttributeError, RecursionError) as error:  # not JSON, or no object
            if isinstance(error.__context__, HTTPError):  # huggingface_hub's own slip while it reads a refusal
                raise self._refusal(error.__context__.response, "") from error
            raise _not_openai("answered something that is no JSON object") from error
        try:
            choice = output.choices[0]
            text = _text(choice.message.content)
        except (AttributeError, IndexError, KeyError, TypeError) as error:
            if isinstance(output, Mapping) and output.get("error"):  # some refuse with the status of a success
                said = output["error"].get("message") if isinstance(output["error"], Mapping) else output["error"]
                raise Failure(f"refused ({self._for_people(str(said))}); check --model") from error
            raise _not_openai("answered JSON without choices[0].message.content") from error
        reason = getattr(choice, "finish_reason", None)
        return text, {"finish_reason": whole_characters(reason)} if isinstance(reason, str) else {}

    def _is_down(self, reason: str) -> Failure:
        reason = f"cannot be reached ({self._for_people(reason)}); start it, or check --base-url"
        return Failure(reason, retry=True, fatal=True)

    def _refusal(self, response, said: str) -> Failure:
        status = response.status_code
        if found := re.search(r"""['"]message['"]:\s*(['"])(.*?)\1\s*[,}]""", said):  # OpenAI's form of an error
            said = found.group(2)
        said = self._for_people(said)
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

    def _for_people(self, text: str) -> str:
        """The beginning of what the server or the network said, on one line and without the key in any spelling."""
        if self.key:
            for secret in (self.key, repr(self.key)[1:-1], json.dumps(self.key)[1:-1], quote(self.key, "")):
                text = text.replace(secret, "***")
        return " ".join(whole_characters(text).split())[:300].rstrip(".")


def _key(name: str) -> str | None:
    """The key in an environment variable; raises `UsageError`, which does not tell it, where it cannot be one."""
    key = os.environ.get(name, "").strip()
    if not re.fullmatch("[!-~]*", key):
        raise UsageError(
            f"The key in the environment's {name} holds a space, a line end or a character that is not ASCII, as no"
            " key does; set it anew."
        )
    return key or None


def _text(content) -> str:
    """What stands in a message: a text, or the texts of its parts; nothing where a model thought to the end."""
    if isinstance(content, list):
        texts = [part.get("text") for part in content if isinstance(part, Mapping)]
        content = "".join(text for text in texts if isinstance(text, str))
    if content is None:
        return ""
    return whole_characters(content if isinstance(content, str) else json.dumps(content, ensure_ascii=False))


def _has_keys_of(text: str, schema: Mapping) -> bool:
    try:
        return json.loads(text).keys() == schema["properties"].keys()
    except (ValueError, AttributeError, RecursionError):
        return False


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
        (host or "").encode("idna")  # what sockets do with it
        get_session().build_request("POST", base_url)
    except Exception:  # httpx has one of its own for what it cannot read
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


def _within(seconds: float, function: Callable[[], object]):
    """
    What `function` returns or raises, or `TimeoutError`. httpx's own times start anew with every byte that comes, and
    do not count the search for the host's address. What is given up ends by those, in its thread.
    """
    done = queue.SimpleQueue()

    def work() -> None:
        try:
            done.put((function(), None))
        except BaseException as error:  # raised below
            done.put((None, error))

    threading.Thread(target=work, daemon=True).start()
    try:
        value, error = done.get(timeout=seconds)
    except queue.Empty:
        raise TimeoutError from None
    if error is not None:
        raise error
    return value


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
