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
the table of docs/serving.md is written from it; `--quick` keeps nothing. Another engine is one more class in
engine_classes.py.
"""

import argparse
import json
import re
import statistics
import sys
import tempfile
import time
from contextlib import ExitStack
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent))
from engine_classes import AT_ONCE, ENGINES, TORCH, Engine, Work  # noqa: E402
from side_by_side import SHAPES, add_options, machine  # noqa: E402

ROOT = Path(__file__).parents[2]
STORY = ROOT / "training" / "demo_data" / "story.txt"
KEPT = ROOT / "training" / "results" / "engines.json"
PAGE = ROOT / "docs" / "serving.md"
TABLE = re.compile(r"(<!-- engines -->\n).*?(<!-- end of engines -->)", re.S)
HEADER = ("engine", "version", "command", "held equal", "one request", "8 at once", "ready after")


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
    """Saves the model, which never writes its EOS token, and returns the work."""
    import torch
    from transformers import set_seed

    from hf_gpt_scratch import GPTScratchConfig, GPTScratchForCausalLM
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
            for engine in engines:
                engine.prepare(work)
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
