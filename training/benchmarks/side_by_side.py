"""
What the benchmarks share: contenders that do the same work in turns, and the rows of the table of docs/results.md.

Each contender lives in a process of its own, so that its peak memory (the most the process ever held) is its own, and
does one unit of work when told; no two work at the same time. The first round warms up and is not counted, but its
outputs are compared. Then the rounds alternate, so that all meet the same noise; a ratio is that of one round, and the
median of the rounds' ratios is what is reported.

    def make(folder):                     # in the contender's process: imports, loads
        model = load(folder)
        return lambda: (answer(model), ...)  # one unit of work: how many tokens, messages, ...; or (that, the output)

    measured = measure([Contender("stock", make_stock, {"folder": folder}), Contender("ours", make, ...)], args.rounds)
    rows = [row("answers, 124M, fp32", "transformers' generate", 1.2, measured["contenders"]["ours"]["ratios"])]
    write(measured, __file__, args, argv, task="...", compared="equal tokens", rows=rows)

A benchmark is `python training/benchmarks/NAME.py [--quick]` and has `main(argv=None) -> dict`. Its `make` functions
stand at the top level of the module. `OMP_NUM_THREADS` sets the threads; without it all cores work.
"""

import argparse
import multiprocessing
import os
import re
import statistics
import sys
import time
import traceback
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass, field
from datetime import date
from importlib import metadata, util
from pathlib import Path

SHAPES = {  # n_embd, n_layer, n_head
    "124M": (768, 12, 12),
    "355M": (1024, 24, 16),
    "774M": (1280, 36, 20),
    "1558M": (1600, 48, 25),
    "30M": (384, 6, 6),
    "tiny": (64, 2, 2),
}
PEERS = ("trl", "peft", "llms-from-scratch", "onnxruntime", "xllamacpp", "torchao", "bitsandbytes")
FEATURES = ("avx2", "avx512f", "avx512_vnni", "avx512_bf16", "amx_int8", "amx_bf16")  # as /proc/cpuinfo calls them

IMPORTED_ONCE = [  # by all processes together, with --quick
    *("transformers.trainer", "transformers.models.gpt2.modeling_gpt2"),
    *(f"hf_gpt_scratch.{name}" for name in ("conversion.convert", "modeling_gpt_scratch", "tokenizer")),
]
_processes = multiprocessing.get_context("spawn")


@dataclass
class Contender:
    """
    Who does the work: `make(**arguments)` runs in the contender's process and returns a function that does one unit of
    work and returns how many tokens, messages or the like that was, or `(how many, output)`: what is to be compared.
    Where that function has an attribute `finish`, it is called when all rounds are done, before the peak is taken.
    """

    name: str
    make: Callable[..., Callable[[], object]]
    arguments: dict = field(default_factory=dict)


def add_options(parser: argparse.ArgumentParser, script: str, rounds: int = 5) -> None:
    """The options that every benchmark has; `script` is its `__file__`."""
    parser.add_argument("--rounds", type=int, default=rounds, help="timed rounds, after one to warm up")
    parser.add_argument("--quick", action="store_true", help="tiny shapes and at most 2 rounds: to see that it runs")
    parser.add_argument("--seed", type=int, default=123)
    parser.add_argument("--output", default=f"runs/benchmarks/{Path(script).stem}.json", help="the JSON to write")


def parse(parser: argparse.ArgumentParser, argv: list[str] | None) -> argparse.Namespace:
    """The options; `--quick` has at most 2 rounds, and processes that share their imports, which take most of it."""
    global _processes
    args = parser.parse_args(argv)
    if args.quick:
        args.rounds = min(args.rounds, 2)
        if "forkserver" in multiprocessing.get_all_start_methods():
            _processes = multiprocessing.get_context("forkserver")
            _processes.set_forkserver_preload(IMPORTED_ONCE)
    return args


def measure(
    contenders: list[Contender],
    rounds: int,
    baseline: str | None = None,
    compare: Callable[[dict], str | None] | None = None,
    before: Callable[[], object] = lambda: None,
) -> dict:
    """
    The contenders' speed and memory, in alternating rounds.

    Args:
        baseline: whose speed and memory are 1; by default those of the first.
        compare: gets the outputs of the warm-up by the contenders' names, before anything is timed, and returns how
            they differ, or `None` where they are equal enough.
        before: is called before each unit of work, in this process and not timed.

    Returns:
        `{"rounds", "baseline", "contenders": {name: {"units", "seconds", "per_second", "peak_gb", "ratios", "ratio",
        "lowest", "highest", "memory_ratio"}}}`: `units` and `seconds` of each round, `per_second` their median,
        `ratios` how many times as fast as the baseline in each round, `ratio` their median.

    Raises:
        InputError: when the outputs differ, or a contender raised one.
        RuntimeError: when a contender failed.
    """
    from hf_gpt_scratch.utils.errors import InputError

    workers = {}
    try:
        for contender in contenders:
            workers[contender.name] = _Worker(contender)
        for worker in workers.values():  # they load at the same time
            worker.wait()
        done = {}
        for name, worker in workers.items():
            before()
            done[name] = worker.work()
        if compare and (difference := compare({name: output for name, (_, _, output) in done.items()})):
            raise InputError(f"The outputs differ, so that comparing the speed means nothing: {difference}.")
        units, seconds = {name: [] for name in workers}, {name: [] for name in workers}
        for number in range(1, rounds + 1):
            for name in list(workers)[:: 1 if number % 2 else -1]:
                before()
                count, took, _ = workers[name].work()
                units[name].append(count)
                seconds[name].append(took)
            print(f"round {number}: " + ", ".join(f"{name} {seconds[name][-1]:.2f} s" for name in workers), flush=True)
        peaks = {name: worker.stop() for name, worker in workers.items()}
    finally:
        for worker in workers.values():
            worker.process.terminate()
    return _result(units, seconds, peaks, baseline or contenders[0].name)


def _result(units: dict, seconds: dict, peaks: dict, baseline: str) -> dict:
    speeds = {name: [count / took for count, took in zip(units[name], seconds[name])] for name in units}
    result = {}
    for name, own in speeds.items():
        ratios = [speed / other for speed, other in zip(own, speeds[baseline])]
        result[name] = {
            "units": units[name],
            "seconds": seconds[name],
            "per_second": statistics.median(own),
            "peak_gb": peaks[name] / 1e9,
            "ratios": ratios,
            "ratio": statistics.median(ratios),
            "lowest": min(ratios),
            "highest": max(ratios),
            "memory_ratio": peaks[name] / peaks[baseline],
        }
    return {"rounds": len(seconds[baseline]), "baseline": baseline, "contenders": result}


def ratios_of(measured: dict, name: str, other: str) -> tuple[list[float], float]:
    """How many times as fast as another contender one is in each round, and how much of its memory it takes."""
    own, theirs = (measured["contenders"][one] for one in (name, other))
    return [mine / his for mine, his in zip(own["ratios"], theirs["ratios"])], own["peak_gb"] / theirs["peak_gb"]


class _Worker:
    """The process of a contender, seen from the benchmark."""

    def __init__(self, contender: Contender):
        self.name = contender.name
        self.pipe, theirs = _processes.Pipe()
        self.process = _processes.Process(target=_serve, args=(contender, theirs), daemon=True)
        self.process.start()
        theirs.close()  # so that reading from a process that was killed ends

    def wait(self) -> None:
        """Until it is ready to work."""
        self._answer()

    def work(self) -> tuple[float, float, object]:
        """Does one unit: how much that was, the seconds, the output."""
        self.pipe.send(True)
        return self._answer()

    def stop(self) -> int:
        """Ends the process; returns its peak memory in bytes."""
        self.pipe.send(False)
        peak = self._answer()
        self.process.join()
        return peak

    def _answer(self):
        try:
            answer = self.pipe.recv()
        except EOFError:
            self.process.join()
            raise RuntimeError(f"{self.name} was ended by the system (status {self.process.exitcode}).") from None
        if isinstance(answer, Exception):
            raise answer
        return answer


def _serve(contender: Contender, pipe) -> None:
    """The process of a contender: loads, then works for each `True`, and sends the peak memory for `False`."""
    try:
        unit = contender.make(**contender.arguments)
        pipe.send(None)
        while pipe.recv():
            start = time.perf_counter()
            done = unit()
            took = time.perf_counter() - start
            count, output = done if isinstance(done, tuple) else (done, None)
            pipe.send((count, took, output))
        getattr(unit, "finish", lambda: None)()
        pipe.send(peak_bytes())
    except Exception as error:
        errors = sys.modules.get("hf_gpt_scratch.utils.errors")  # where it was not imported, it was not raised
        if errors and isinstance(error, errors.InputError):
            pipe.send(errors.InputError(f"{contender.name}: {error}"))
        else:
            pipe.send(RuntimeError(f"{contender.name} failed:\n{traceback.format_exc()}"))


def peak_bytes() -> int:
    """The most memory this process ever held, in bytes; what getrusage tells begins with the parent's on Linux."""
    if sys.platform == "linux":
        return int(re.search(r"VmHWM:\s+(\d+)", Path("/proc/self/status").read_text())[1]) * 1024
    if sys.platform == "win32":
        import psutil

        return psutil.Process().memory_info().peak_wset
    import resource

    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * (1 if sys.platform == "darwin" else 1024)


def apart(function: Callable, *arguments):
    """What a function of the top level returns, called in a process of its own, whose memory is given back."""
    with ProcessPoolExecutor(1, mp_context=_processes) as pool:
        return pool.submit(function, *arguments).result()


def stock_and_ours(folder: str | Path, shape: str, seed: int = 123, **config) -> None:
    """
    Saves the same random weights as stock GPT-2 in `folder`/stock and as ours in `folder`/ours; call it by `apart`.
    `config` goes to stock GPT-2's configuration.
    """
    import torch
    from transformers import GPT2Config, GPT2LMHeadModel

    from hf_gpt_scratch.conversion.convert import convert

    n_embd, n_layer, n_head = SHAPES[shape]
    torch.manual_seed(seed)
    model = GPT2LMHeadModel(GPT2Config(n_embd=n_embd, n_layer=n_layer, n_head=n_head, **config))
    model.save_pretrained(Path(folder) / "stock")
    convert(str(Path(folder) / "stock"), Path(folder) / "ours")


def state_gb(shape: str) -> float:
    """The weights of a GPT-2, their gradients and AdamW's moments, in fp32: what every training holds."""
    n_embd, n_layer, _ = SHAPES[shape]
    return 4 * 4 * (12 * n_layer * n_embd**2 + (50257 + 1024) * n_embd) / 1e9


def missing(package: str) -> str | None:
    """Why a row is not measured where a peer's package is missing, or `None` where it can be imported."""
    return None if util.find_spec(package) else f"{package} is not installed here"


def row(
    question: str,
    against: str,
    asked: float | None,
    ratios: list[float] | None,
    *,
    memory_asked: float | None = None,
    memory_ratio: float | None = None,
    unit: str = "x",
    memory_unit: str = "x",
    at_most: bool = False,
    note: str = "",
    if_missed: str = "",
) -> dict:
    """
    A row of the table.

    Args:
        asked: what has to be reached, `None` where it is only told; memory is always asked to be at most
            `memory_asked`.
        ratios: those of the rounds; `None` where the row is not measured here, and `note` says why.
        unit: of `asked` and `ratios`: "x" (times), "%", "s", "MB", "GB"; `memory_unit` the same of the memory.
        at_most: whether less is better, as of seconds.
        note: what else there is to say; `if_missed` is added where the row does not reach what was asked.

    Raises:
        ValueError: when a row that was not measured does not say why.
    """
    if not ratios and not note:
        raise ValueError(f"{question!r} has no ratios and no note that says why.")
    ratio = statistics.median(ratios) if ratios else None
    made = {
        "question": question,
        "against": against,
        "asked": asked,
        "ratio": ratio,
        "lowest": min(ratios) if ratios else None,
        "highest": max(ratios) if ratios else None,
        "unit": unit,
        "at_most": at_most,
        "memory_asked": memory_asked,
        "memory_ratio": memory_ratio,
        "memory_unit": memory_unit,
    }
    notes = [note, if_missed if missed(made) else ""]
    return {**made, "note": "; ".join(text for text in notes if text)}


def missed(row: dict) -> bool:
    """Whether a row that was measured does not reach what was asked, of speed or of memory."""
    slow = None not in (row["ratio"], row["asked"]) and (
        row["ratio"] > row["asked"] if row["at_most"] else row["ratio"] < row["asked"]
    )
    return slow or None not in (row["memory_asked"], row["memory_ratio"]) and row["memory_ratio"] > row["memory_asked"]


def write(
    measured: dict,
    script: str,
    args: argparse.Namespace,
    argv: list[str] | None,
    *,
    task: str,
    compared: str,
    rows: list,
) -> dict:
    """
    Prints what was measured and writes it to `args.output` with the machine, the versions and the command; returns it.

    Args:
        measured: what `measure` returned, and more of the benchmark's own; without "contenders" only the rows are
            printed.
        script: the benchmark's `__file__`.
        task: in one line what one unit of work is.
        compared: in one line how the outputs were found equal.
        rows: the rows of the table, by `row`.
    """
    from hf_gpt_scratch.utils.files import write_json
    from hf_gpt_scratch.utils.provenance import command_line

    print(f"\n{task}\ncompared: {compared}")
    for name, one in measured.get("contenders", {}).items():
        memory = f"{one['peak_gb']:8.2f} GB {one['memory_ratio']:6.2f}x"
        spread = f"{one['ratio']:6.2f}x ({one['lowest']:.2f} to {one['highest']:.2f})"
        print(f"{name:28} {one['per_second']:12.2f} /s {spread} {memory}")
    for one in rows:
        value = "not measured" if one["ratio"] is None else f"{one['ratio']:.2f} {one['unit']}"
        asked = "" if one["asked"] is None else f" (asked: {one['asked']} {one['unit']})"
        print(f"{one['question']}: {value}{asked} {one['note']}".rstrip())
    result = {
        "task": task,
        "compared": compared,
        "date": date.today().isoformat(),
        "quick": args.quick,
        "seed": args.seed,
        "rows": rows,
        **measured,
        "command": command_line(f"training/benchmarks/{Path(script).name}", sys.argv[1:] if argv is None else argv),
        **machine(),
    }
    Path(args.output).parent.mkdir(parents=True, exist_ok=True)
    write_json(args.output, result)
    return result


def machine() -> dict:
    """The versions, also of the peers, and the hardware with its memory and what the CPU has for products."""
    from hf_gpt_scratch.utils.provenance import environment

    found = environment()
    installed = {name: metadata.version(name) for name in PEERS if _is_installed(name)}
    memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 1e9
    hardware = {**found["hardware"], "memory_gb": round(memory, 1), "features": cpu_features()}
    return {**found, "versions": {**found["versions"], **installed}, "hardware": hardware}


def cpu_features() -> list[str]:
    """Which of `FEATURES` the CPU has; none where the system does not tell."""
    path = Path("/proc/cpuinfo")
    flags = re.search(r"^flags\s*:(.*)$", path.read_text(), re.M) if path.exists() else None
    return [name for name in FEATURES if flags and name in flags[1].split()]


def _is_installed(package: str) -> bool:
    try:
        metadata.version(package)
    except metadata.PackageNotFoundError:
        return False
    return True
