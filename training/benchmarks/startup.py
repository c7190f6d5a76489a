"""
How long each command takes to its end where there is next to nothing to do, beside the imports that it cannot avoid.

    python training/benchmarks/startup.py --rounds 7 --output runs/startup.json

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

IMPORTS = "import torch, transformers"
MODEL_IMPORTS = "import torch; from transformers import GenerationMixin, PreTrainedModel, PreTrainedTokenizerFast"
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
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument(
        "--commands", nargs="*", choices=WORKING, default=list(WORKING), help="those that load a model"
    )
    parser.add_argument("--output", default="runs/startup.json")
    return parser


def make_models(folder: Path) -> None:
    """A language model with a chat template, and a classifier."""
    from hf_gpt_scratch import GPTScratchConfig, GPTScratchForCausalLM, GPTScratchForSequenceClassification
    from hf_gpt_scratch.prompts import CHAT_TEMPLATE
    from hf_gpt_scratch.tokenizer import train_tokenizer

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


def main(argv: list[str] | None = None) -> None:
    args = make_parser().parse_args(argv)
    from transformers.utils import logging

    from hf_gpt_scratch.utils.files import write_json
    from hf_gpt_scratch.utils.provenance import environment

    logging.disable_progress_bar()
    commands = {IMPORTS: [sys.executable, "-c", IMPORTS], "its models": [sys.executable, "-c", MODEL_IMPORTS]}
    commands |= {name: [*COMMAND, *words] for name, words in AT_ONCE.items()}
    commands |= {name: [*COMMAND, *WORKING[name]] for name in args.commands}
    times: dict[str, list[float]] = {name: [] for name in commands}
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary)
        make_models(folder)
        for round in range(args.rounds):
            for name, command in commands.items():
                command = [word.replace("OUT", f"out_{round}") for word in command]
                times[name].append(seconds(command, folder, status=2 if name == "wrong usage" else 0))
    least = {name: min(values) for name, values in times.items()}
    rows = {
        name: {"min": least[name], "median": statistics.median(values), "runs": values}
        | ({f"over {other}": least[name] - least[other] for other in list(times)[:2]} if name in WORKING else {})
        for name, values in times.items()
    }
    print(f"{'seconds':28} {'min':>7} {'median':>7} {'over imports':>13} {'over models':>12}")
    for name, row in rows.items():
        over = [row[f"over {other}"] for other in list(times)[:2]] if name in WORKING else []
        print(f"{name:28} {row['min']:7.2f} {row['median']:7.2f}" + "".join(f"{value:13.2f}" for value in over))
    Path(args.output).parent.mkdir(parents=True, exist_ok=True)
    write_json(Path(args.output), {"rounds": args.rounds, "seconds": rows, **environment()})


if __name__ == "__main__":
    main()
