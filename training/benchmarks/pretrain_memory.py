"""
Pretraining on a text larger than memory, beside pretraining on a small one: memory, tokens/s, time to the first step.

    python training/benchmarks/pretrain_memory.py

Makes a text of 10 MB and one of 1 GB from random words, and trains a tiny GPT on each, in processes of their own,
some steps of the one and of the other in turns. A text larger than memory must cost no more than a small one. The
validation and the saving at the end are not timed, but their memory counts.
"""

import argparse
import random
import sys
import tempfile
import threading
import time
from pathlib import Path

from side_by_side import Contender, add_options, measure, parse, row, write

SHAPE = {"train_tokenizer": 2000, "n_embd": 64, "n_layer": 2, "n_head": 2, "n_positions": 128}
ASKED = {"speed": 0.97, "megabytes": 50}


def make_parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--steps", type=int, default=50, help="optimiser steps a round")
    parser.add_argument("--streaming", choices=["auto", "yes"], default="auto", help="auto holds the small in memory")
    parser.add_argument("--folder", default=tempfile.gettempdir(), help="where to put the texts")
    add_options(parser, __file__, rounds=15)
    return parser


def make_text(path: Path, megabytes: int) -> None:
    """A text of random words, some frequent and some rare, in lines; after 10 MB it repeats."""
    draw = random.Random(0)
    words = ["".join(draw.choices("etaoinshrdlu", k=draw.randint(2, 9))) for _ in range(30_000)]
    weights = [1 / rank for rank in range(1, len(words) + 1)]  # Zipf's law
    size = min(megabytes, 10) * 1_000_000
    drawn = draw.choices(words, weights, k=size // 5)
    block = "".join(f"{' '.join(drawn[i : i + 12])}.\n" for i in range(0, len(drawn), 12))[:size]
    with open(path, "w", encoding="ascii") as file:
        for _ in range(max(1, megabytes // 10)):
            file.write(block)


class Training:
    """
    A pretraining job that runs `steps` optimiser steps when it is called and waits in between.

    Called, it returns the tokens of these steps and, as what is to be told, the seconds from its start to its first
    step. `finish` lets it come to its end.
    """

    def __init__(self, argv: list[str], steps: int):
        from hf_gpt_scratch.training import pretrain
        from hf_gpt_scratch.training.trainer import ScratchTrainer

        self.steps, self.tokens, self.seconds = steps, 0, None
        self.may_step, self.stepped = threading.Semaphore(0), threading.Semaphore(0)
        start, step = time.perf_counter(), ScratchTrainer.training_step

        def when_allowed(trainer, model, inputs, *args):
            self.seconds = self.seconds or time.perf_counter() - start
            self.may_step.acquire()
            self.tokens += inputs["input_ids"].numel()
            loss = step(trainer, model, inputs, *args)
            self.stepped.release()
            return loss

        ScratchTrainer.training_step = when_allowed
        self.thread = threading.Thread(target=pretrain.main, args=(argv,), daemon=True)
        self.thread.start()

    def __call__(self) -> tuple[int, float]:
        before = self.tokens
        self.may_step.release(self.steps)
        for _ in range(self.steps):
            while not self.stepped.acquire(timeout=1):
                if not self.thread.is_alive():
                    raise RuntimeError("the training ended before its steps were done")
        return self.tokens - before, self.seconds

    def finish(self) -> None:
        self.thread.join()


def main(argv: list[str] | None = None) -> dict:
    args = parse(make_parser(), argv)
    megabytes = {"small": 1, "large": 2} if args.quick else {"small": 10, "large": 1000}
    steps = 3 if args.quick else args.steps
    first_step = {}
    with tempfile.TemporaryDirectory(dir=args.folder) as scratch:
        contenders = []
        for name, size in megabytes.items():
            make_text(Path(scratch) / f"{name}.txt", size)
            options = {
                **(SHAPE | {"train_tokenizer": 300} if args.quick else SHAPE),
                "use_cpu": "true",
                "max_steps": steps * (args.rounds + 1),
                "streaming": args.streaming,
                "save_strategy": "no",
                "eval_steps": steps * (args.rounds + 1),  # at the end: one in between would run in the other's turn
                "sample_every": 0,
                "validation_share": 0.02,
                "seed": args.seed,
                "data_file": Path(scratch) / f"{name}.txt",
                "output_dir": Path(scratch) / name,
            }
            words = [str(word) for option, value in options.items() for word in (f"--{option}", value)]
            contenders.append(Contender(name, Training, {"argv": words, "steps": steps}))
        measured = measure(contenders, args.rounds, compare=lambda outputs: first_step.update(outputs))
    extra = 1000 * (measured["contenders"]["large"]["peak_gb"] - measured["contenders"]["small"]["peak_gb"])
    question = row(
        f"pretraining on {megabytes['large']:,} MB of text, tokens/s",
        f"{megabytes['small']} MB",
        ASKED["speed"],
        measured["contenders"]["large"]["ratios"],
        memory_asked=ASKED["megabytes"],
        memory_ratio=extra,
        memory_unit="MB",
        note=f"the memory is what it takes more; the first step begins after {first_step['large']:.0f} s",
    )
    return write(
        {**measured, "megabytes": megabytes, "seconds_to_first_step": first_step, "extra_mb_of_the_large": extra},
        __file__,
        args,
        argv,
        task=f"{steps} steps of pretraining a tiny GPT on {' and on '.join(f'{mb} MB' for mb in megabytes.values())}",
        compared="nothing: the texts differ",
        rows=[question],
    )


if __name__ == "__main__":
    from hf_gpt_scratch.utils.errors import run_reporting_errors

    sys.exit(run_reporting_errors(lambda: main() and None))
