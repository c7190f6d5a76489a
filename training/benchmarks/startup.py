"""
How long each command takes to its end where there is next to nothing to do, beside the imports that it cannot avoid.

    python training/benchmarks/startup.py

Help, the version and wrong usage should take 0.3 s. The other commands work on a model of two small layers; what they
take over the imports is their own. There are two such imports: `import torch, transformers`, which loads little of
transformers, and that of `PreTrainedModel` and generation, without which there is no model. A round runs every command
once, so that all meet the same noise; the minimum is the one to compare.
"""

import argparse
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from side_by_side import add_options, parse, row, write

IMPORTS = "import torch, transformers"
MODEL_IMPORTS = "import torch; from transformers import GenerationMixin, PreTrainedModel, PreTrainedTokenizerFast"
IMPORTED = {IMPORTS: IMPORTS, "its models": MODEL_IMPORTS}
HELP_SECONDS = 1.0  # asked of --help
COMMAND = [sys.executable, "-m", "hf_gpt_scratch_cli"]
AT_ONCE = {
    "--help": ["--help"],
    "--version": ["--version"],
    "classify --help": ["classify", "--help"],
    "wrong usage": ["classify", "--nonsense"],
}
WORKING = {
    "classify": ["classify", "classifier", "hello"],
    "generate": ["generate", "lm", "--prompt", "hello", "--max-new-tokens", "1"],
    "chat": ["chat", "lm"],
    "export": ["export", "lm", "OUT", "--to", "hf-gpt2"],
    "check": ["check", "lm"],
}


def make_parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument(
        "--commands", nargs="*", choices=WORKING, default=list(WORKING), help="those that load a model"
    )
    add_options(parser, __file__, rounds=7)
    return parser


def make_models(folder: Path) -> None:
    """A language model with a chat template, and a classifier."""
    from transformers.utils import logging

    from hf_gpt_scratch import GPTScratchConfig, GPTScratchForCausalLM, GPTScratchForSequenceClassification
    from hf_gpt_scratch.prompts import CHAT_TEMPLATE
    from hf_gpt_scratch.tokenizer import train_tokenizer

    logging.disable_progress_bar()
    tokenizer = train_tokenizer(["hello, see you at home"] * 5, 270, model_max_length=64)
    tokenizer.chat_template = CHAT_TEMPLATE
    end = tokenizer.eos_token_id
    config = GPTScratchConfig(
        vocab_size=len(tokenizer), n_positions=64, n_embd=32, n_layer=2, n_head=4, bos_token_id=end, eos_token_id=end
    )
    config.pad_token_id = tokenizer.pad_token_id
    for name, model_class in {"lm": GPTScratchForCausalLM, "classifier": GPTScratchForSequenceClassification}.items():
        model_class(config).save_pretrained(folder / name)
        tokenizer.save_pretrained(folder / name)


def seconds(command: list[str], folder: Path, status: int = 0) -> float:
    """How long the command took; raises `RuntimeError` when it did not end as it should."""
    began = time.perf_counter()
    done = subprocess.run(command, cwd=folder, stdin=subprocess.DEVNULL, capture_output=True, text=True)
    took = time.perf_counter() - began
    if done.returncode != status:
        raise RuntimeError(f"{' '.join(command)} ended with {done.returncode}: {done.stderr[-1000:]}")
    return took


def start_of(name: str, times: dict[str, list[float]]) -> dict:
    """A row of the table; what loads a model beside the imports that it cannot avoid."""
    asked, note = HELP_SECONDS, ""
    if name in WORKING:
        asked, imports = None, statistics.median(times["its models"])
        note = f"{imports:.1f} s of it are the imports of torch and of transformers' models"
    return row(f"start of a command: {name}", "", asked, times[name], unit="s", at_most=True, note=note)


def main(argv: list[str] | None = None) -> dict:
    args = parse(make_parser(), argv)
    chosen = [] if args.quick else args.commands
    commands = {name: [sys.executable, "-c", code] for name, code in ({} if args.quick else IMPORTED).items()}
    commands |= {name: [*COMMAND, *words] for name, words in AT_ONCE.items()}
    commands |= {name: [*COMMAND, *WORKING[name]] for name in chosen}
    times: dict[str, list[float]] = {name: [] for name in commands}
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary)
        if chosen:
            make_models(folder)
        for round in range(args.rounds):
            for name, command in commands.items():
                command = [word.replace("OUT", f"out_{round}") for word in command]
                times[name].append(seconds(command, folder, status=2 if name == "wrong usage" else 0))
    told = {
        name: {"min": min(values), "median": statistics.median(values), "runs": values}
        | ({f"over {other}": min(values) - min(times[other]) for other in IMPORTED} if name in WORKING else {})
        for name, values in times.items()
    }
    print(f"{'seconds':28} {'min':>7} {'median':>7} {'over imports':>13} {'over models':>12}")
    for name, one in told.items():
        over = [one[f"over {other}"] for other in IMPORTED] if name in WORKING else []
        print(f"{name:28} {one['min']:7.2f} {one['median']:7.2f}" + "".join(f"{value:13.2f}" for value in over))
    return write(
        {"seconds": told},
        __file__,
        args,
        argv,
        task="commands with next to nothing to do, from their start to their end",
        compared="the exit statuses, with those that there should be",
        rows=[start_of(name, times) for name in ("--help", "classify", "generate") if name in times],
    )


if __name__ == "__main__":
    from hf_gpt_scratch.utils.errors import run_reporting_errors

    sys.exit(run_reporting_errors(lambda: main() and None))
