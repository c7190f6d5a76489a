"""
Answers to the instruction test set: `generation.batch` against transformers' padded `generate` and `generate_batch`.

    python training/benchmarks/answers.py --data_file instruction-data.json --tokenizer openai-community/gpt2

The same random weights answer greedily, so many prompts at a time. They never end an answer by themselves, so each
ends after as many tokens as the set's own answer has: the same for all contenders. Padded `generate` reads the prompts
in the file's order, as a script would; `generate_batch` is transformers' continuous batching, with room in its cache
for that many prompts. The tokens must be equal. A first script, one prompt at a time without a cache, answers two
prompts of median length.
"""

import argparse
import sys
import tempfile
from functools import partial
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent))
from side_by_side import SHAPES, Contender, add_options, apart, measure, parse, ratios_of, row, stock_and_ours, write  # noqa: E402

DEMO = Path(__file__).parents[1] / "demo_data" / "instructions.json"


def make_parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    add_options(parser, __file__, rounds=3)
    parser.add_argument("--data_file", help="the book's instruction set; downloaded by default")
    parser.add_argument("--tokenizer", default="openai-community/gpt2")
    parser.add_argument("--shape", choices=SHAPES, default="124M")
    parser.add_argument("--batch_size", type=int, default=32)
    parser.add_argument("--prompts", type=int, help="only so many of the test rows")
    return parser


def read_prompts(args: argparse.Namespace) -> list[tuple[list[int], int]]:
    """The prompts' tokens and the number of their answers' tokens, EOS token included."""
    from hf_gpt_scratch.data.alpaca import SHA256, URL
    from hf_gpt_scratch.data.download import download
    from hf_gpt_scratch.prompts import render_prompt
    from hf_gpt_scratch.tokenizer import load_tokenizer, train_tokenizer
    from hf_gpt_scratch.utils.files import read_json

    rows = read_json(DEMO if args.quick else args.data_file or download(URL, SHA256))
    if args.quick:
        rows, tokenizer = rows[:12], train_tokenizer([one["output"] for one in rows[:12]], 300)
    else:  # the book's split, in the file's order: 85 % to train, 10 % to test, 5 % to validate
        tokenizer, train, test = load_tokenizer(args.tokenizer), int(len(rows) * 0.85), int(len(rows) * 0.1)
        rows = rows[train : train + test][: args.prompts]
    prompts = [tokenizer(render_prompt(one["instruction"], one["input"]))["input_ids"] for one in rows]
    return [(ids, len(tokenizer(one["output"])["input_ids"]) + 1) for ids, one in zip(prompts, rows)]


def make_ours(folder: str, prompts: list, batch_size: int):
    from hf_gpt_scratch import GPTScratchForCausalLM
    from hf_gpt_scratch.generation.batch import complete_prompts

    model = GPTScratchForCausalLM.from_pretrained(f"{folder}/ours").eval()
    ids, lengths = zip(*prompts)

    def answer():
        answers = [one.token_ids for one in complete_prompts(model, ids, lengths, batch_size)]
        return sum(map(len, answers)), answers

    return answer


def make_padded(folder: str, prompts: list, batch_size: int):
    import torch
    from transformers import GPT2LMHeadModel

    model = GPT2LMHeadModel.from_pretrained(f"{folder}/stock").eval()

    def answer_batch(batch: list) -> list[list[int]]:
        longest = max(len(ids) for ids, _ in batch)
        input_ids = torch.tensor([[0] * (longest - len(ids)) + ids for ids, _ in batch])
        mask = torch.tensor([[0] * (longest - len(ids)) + [1] * len(ids) for ids, _ in batch])
        lengths = torch.tensor([length for _, length in batch])
        written = model.generate(
            input_ids,
            attention_mask=mask,
            max_new_tokens=max(lengths).item(),
            stopping_criteria=[lambda so_far, scores, **kwargs: so_far.shape[1] - longest >= lengths],
            do_sample=False,
            pad_token_id=0,
        )
        return [ids[longest : longest + length].tolist() for ids, length in zip(written, lengths)]

    def answer():
        batches = (prompts[start : start + batch_size] for start in range(0, len(prompts), batch_size))
        answers = [ids for batch in batches for ids in answer_batch(batch)]
        return sum(map(len, answers)), answers

    return answer


def make_continuous(folder: str, prompts: list, batch_size: int):
    from transformers import ContinuousBatchingConfig, GPT2LMHeadModel

    model = GPT2LMHeadModel.from_pretrained(f"{folder}/stock").eval()
    model.generation_config.do_sample = False
    page = 64
    pages = max(-(-(len(ids) + length) // page) for ids, length in prompts)

    def answer():
        config = ContinuousBatchingConfig(
            page_size=page,
            num_blocks=batch_size * pages,
            max_requests_per_batch=batch_size,
            max_batch_tokens=batch_size * max(len(ids) for ids, _ in prompts),
        )
        done = {}
        with model.continuous_batching_context_manager(continuous_batching_config=config) as manager:
            names = [manager.add_request(ids, max_new_tokens=length) for ids, length in prompts]
            while len(done) < len(prompts):
                result = manager.get_result(timeout=60)
                if result is None:
                    raise RuntimeError("generate_batch returned nothing for a minute.")
                if result.is_finished():
                    done[result.request_id] = list(result.generated_tokens)
        answers = [done[name] for name in names]
        return sum(map(len, answers)), answers

    return answer


def make_naive(folder: str, prompts: list, batch_size: int):
    """Two prompts of median length, one after the other, each read again as a whole for every new token."""
    import torch

    from hf_gpt_scratch import GPTScratchForCausalLM

    model = GPTScratchForCausalLM.from_pretrained(f"{folder}/ours").eval()
    chosen = sorted(prompts, key=lambda prompt: len(prompt[0]))[len(prompts) // 2 :][:2]

    @torch.inference_mode()
    def answer():
        for prompt, length in chosen:
            ids = torch.tensor([prompt])
            for _ in range(length):
                token = model(ids, use_cache=False, logits_to_keep=1).logits[:, -1].argmax(-1, keepdim=True)
                ids = torch.cat([ids, token], dim=1)
        return sum(length for _, length in chosen)

    return answer


MAKERS = {
    "padded generate": make_padded,
    "generate_batch": make_continuous,
    "ours": make_ours,
    "one by one, no cache": make_naive,
}


def differences(outputs: dict) -> str | None:
    """How many answers differ from ours."""
    for name in ("padded generate", "generate_batch"):
        if count := sum(theirs != ours for theirs, ours in zip(outputs[name], outputs["ours"], strict=True)):
            return f"{count} of {len(outputs['ours'])} answers of {name} are not ours"
    return None


def main(argv: list[str] | None = None) -> dict:
    args = parse(make_parser(), argv)
    shape, size = ("tiny", 4) if args.quick else (args.shape, args.batch_size)
    prompts = read_prompts(args)
    with tempfile.TemporaryDirectory() as folder:
        apart(partial(stock_and_ours, eos_token_id=None, bos_token_id=None), folder, shape, args.seed)
        common = {"folder": folder, "prompts": prompts, "batch_size": size}
        contenders = [Contender(name, make, common) for name, make in MAKERS.items()]
        measured = measure(contenders, args.rounds, compare=differences)
    found = measured["contenders"]
    better = max(("padded generate", "generate_batch"), key=lambda name: found[name]["per_second"])
    ratios = {name: ratios_of(measured, "ours", name)[0] for name in (better, "one by one, no cache")}
    question = f"answers to {len(prompts)} prompts, {shape}, fp32, {size} at a time"
    rows = [
        row(question, f"transformers' {better}, the better of two", 1.2, ratios[better]),
        row(question, "one prompt at a time without a cache", None, ratios["one by one, no cache"]),
    ]
    return write(
        measured,
        __file__,
        args,
        argv,
        task=f"greedy answers to {len(prompts)} prompts, GPT-2 {shape}, fp32, {size} at a time",
        compared="the tokens of all answers are equal",
        rows=rows,
    )


if __name__ == "__main__":
    from hf_gpt_scratch.utils.errors import run_reporting_errors

    sys.exit(run_reporting_errors(lambda: main() and None))
