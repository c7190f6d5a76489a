"""
Answers to many prompts in batches with a cache (`hf_gpt_scratch.generation.batch`), against one at a time without one.

    python training/benchmarks/generate.py --size 124M --output runs/generate.json

Both generate greedily on the same random weights, in turns, so that both meet the same noise: in each round all
prompts in batches, then one prompt alone, its whole text read again for every new token, as a first script would do
it. Random weights never end an answer, so every one has `--new_tokens` tokens. The tokens of both must be the same.
"""

import argparse
import statistics
import sys
import time
from pathlib import Path

SIZES = {"124M": (768, 12, 12), "30M": (384, 6, 6), "tiny": (64, 2, 2)}  # n_embd, n_layer, n_head


def make_parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--size", choices=SIZES, default="124M")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--prompts", type=int, default=64)
    parser.add_argument("--batch_size", type=int, default=32)
    parser.add_argument("--new_tokens", type=int, default=64)
    parser.add_argument("--seed", type=int, default=123)
    parser.add_argument("--output", default="runs/generate.json")
    return parser


def one_without_cache(model, prompt: list[int], new_tokens: int) -> list[int]:
    """The likeliest next token, again and again, each time from the whole text."""
    import torch

    ids = torch.tensor([prompt], device=model.device)
    with torch.inference_mode():
        for _ in range(new_tokens):
            token = model(ids, use_cache=False, logits_to_keep=1).logits[:, -1].argmax(-1, keepdim=True)
            ids = torch.cat([ids, token], dim=1)
    return ids[0, len(prompt) :].tolist()


def main(argv: list[str] | None = None) -> dict:
    args = make_parser().parse_args(argv)
    import torch

    from hf_gpt_scratch import GPTScratchConfig, GPTScratchForCausalLM
    from hf_gpt_scratch.generation.batch import complete_prompts
    from hf_gpt_scratch.utils.files import write_json
    from hf_gpt_scratch.utils.provenance import command_line, environment

    n_embd, n_layer, n_head = SIZES[args.size]
    torch.manual_seed(args.seed)
    config = GPTScratchConfig(n_embd=n_embd, n_layer=n_layer, n_head=n_head, eos_token_id=None)
    model = GPTScratchForCausalLM(config).eval().to("cuda" if torch.cuda.is_available() else "cpu")
    # Of the lengths of Alpaca prompts: 30 to 80 tokens
    lengths = torch.randint(30, 81, (args.prompts,)).tolist()
    prompts = [torch.randint(config.vocab_size, (length,)).tolist() for length in lengths]

    speeds = {"batched": [], "one by one": []}
    equal = 0
    for number in range(args.rounds + 1):
        start = time.perf_counter()
        batched = complete_prompts(model, prompts, args.new_tokens, args.batch_size)
        middle = time.perf_counter()
        chosen = sorted(range(args.prompts), key=lengths.__getitem__)[args.prompts // 2]  # of median length
        alone = one_without_cache(model, prompts[chosen], args.new_tokens)
        end = time.perf_counter()
        equal += alone == batched[chosen].token_ids
        speeds["batched"].append(args.prompts * args.new_tokens / (middle - start))
        speeds["one by one"].append(args.new_tokens / (end - middle))
        print(f"round {number}: " + ", ".join(f"{name} {values[-1]:.1f} tokens/s" for name, values in speeds.items()))
    if equal != args.rounds + 1:
        sys.exit("error: the two ways generate different tokens; comparing their speed means nothing.")

    ratios = [batched / alone for batched, alone in zip(speeds["batched"][1:], speeds["one by one"][1:])]
    result = {
        "task": f"greedy answers of {args.new_tokens} tokens to {args.prompts} prompts of 30 to 80, GPT-2 {args.size},"
        f" fp32: batches of {args.batch_size} with a cache, against one prompt at a time without",
        "parameters": model.num_parameters(),
        "device": str(model.device),
        "tokens_per_second": {name: statistics.median(values[1:]) for name, values in speeds.items()},
        "speed_ratio": statistics.median(ratios),
        "speed_ratios": ratios,
        "seed": args.seed,
        "command": command_line("training/benchmarks/generate.py", sys.argv[1:] if argv is None else argv),
        **environment(),
    }
    for name, value in result["tokens_per_second"].items():
        print(f"{name:12}{value:10.1f} tokens/s")
    print(f"{'ratio':12}{result['speed_ratio']:10.1f}")
    Path(args.output).parent.mkdir(parents=True, exist_ok=True)
    write_json(args.output, result)
    return result


if __name__ == "__main__":
    from hf_gpt_scratch.utils.errors import run_reporting_errors

    sys.exit(run_reporting_errors(lambda: main() and None))
