"""
Greedy decoding of one prompt: ours in fp32, bf16 and int8, and llama.cpp in q8_0, against stock `generate` in fp32.

    python training/benchmarks/decode.py --tokenizer openai-community/gpt2

All have the same random weights; the fp32 tokens must be equal. What each precision costs is measured on a small model
that is first trained on training/demo_data/story.txt: its perplexity on that text, divided by the one in fp32.
"""

import argparse
import json
import sys
import tempfile
from pathlib import Path
from urllib.request import Request, urlopen

sys.path.insert(0, str(Path(__file__).parent))
from side_by_side import (  # noqa: E402
    SHAPES,
    Contender,
    add_options,
    apart,
    measure,
    missing,
    parse,
    row,
    stock_and_ours,
    write,
)

STORY = Path(__file__).parents[1] / "demo_data" / "story.txt"
STOCK, FP32, BF16, INT8, Q8_0 = "stock generate", "ours fp32", "ours bf16", "ours int8", "llama.cpp q8_0"
ASKED = {FP32: 1.05, BF16: None, INT8: 2.4, Q8_0: 3.0}
DTYPES = {FP32: "fp32", BF16: "bf16", INT8: "int8"}


def make_parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    add_options(parser, __file__)
    parser.add_argument("--shape", choices=SHAPES, default="124M")
    parser.add_argument("--tokenizer", default="openai-community/gpt2", help="for the GGUF file, which holds one")
    parser.add_argument("--prompt_tokens", type=int, default=32)
    parser.add_argument("--new_tokens", type=int, default=64)
    return parser


def prepare(folder: str, args: argparse.Namespace) -> None:
    """Saves the weights as stock GPT-2's, as ours and, where it can be read, as GGUF."""
    from hf_gpt_scratch.conversion.gguf import export_gguf
    from hf_gpt_scratch.tokenizer import load_tokenizer, train_tokenizer

    tokenizer = train_tokenizer([STORY.read_text()], 300) if args.quick else load_tokenizer(args.tokenizer)
    ends = {name: getattr(tokenizer, name) for name in ("bos_token_id", "eos_token_id")}
    stock_and_ours(folder, "tiny" if args.quick else args.shape, args.seed, vocab_size=len(tokenizer), **ends)
    tokenizer.save_pretrained(f"{folder}/ours")
    if not missing("xllamacpp"):
        export_gguf(f"{folder}/ours", Path(folder, "gguf"), "q8_0")


def prompt_of(config, args: argparse.Namespace):
    """The same prompt for all, `(1, T)`."""
    import torch

    torch.manual_seed(args.seed)
    return torch.randint(config.vocab_size - 1, (1, args.prompt_tokens))


def make_stock(folder: str, args: argparse.Namespace):
    import torch
    from transformers import GPT2LMHeadModel

    model = GPT2LMHeadModel.from_pretrained(f"{folder}/stock").eval()
    ids = prompt_of(model.config, args)
    settings = {"max_new_tokens": args.new_tokens, "do_sample": False, "pad_token_id": 0, "eos_token_id": None}

    def decode():
        written = model.generate(ids, attention_mask=torch.ones_like(ids), **settings)
        return args.new_tokens, written[0, ids.shape[1] :].tolist()

    return decode


def make_ours(folder: str, args: argparse.Namespace, dtype: str):
    from hf_gpt_scratch import GPTScratchForCausalLM
    from hf_gpt_scratch.generation.sampling import sample
    from hf_gpt_scratch.pretrained import load_with_tokenizer

    model, _ = load_with_tokenizer(GPTScratchForCausalLM, f"{folder}/ours", device="cpu", dtype=dtype)
    ids = prompt_of(model.config, args)
    model.config.eos_token_id = model.generation_config.eos_token_id = None  # random weights end by chance

    def decode():
        written = list(sample(model, ids, args.new_tokens, temperature=0))
        return len(written), written

    return decode


def make_llama(folder: str, args: argparse.Namespace):
    import torch
    import xllamacpp
    from transformers import AutoConfig

    import hf_gpt_scratch  # noqa: F401 (registers the configuration)

    params = xllamacpp.CommonParams()
    params.model.path = str(next(Path(folder, "gguf").glob("*.gguf")))
    params.n_ctx, params.n_parallel, params.cpuparams.n_threads = 256, 1, torch.get_num_threads()
    server = xllamacpp.Server(params)
    ids = prompt_of(AutoConfig.from_pretrained(f"{folder}/ours"), args)[0].tolist()
    greedy = {"temperature": 0, "repeat_penalty": 1, "ignore_eos": True, "return_tokens": True, "cache_prompt": False}

    def decode():
        content = json.dumps({"prompt": ids, "n_predict": args.new_tokens, **greedy}).encode()
        request = Request(f"{server.listening_address}/completion", content, {"Content-Type": "application/json"})
        with urlopen(request, timeout=300) as answer:
            written = json.load(answer)["tokens"]
        return len(written), written

    return decode


def perplexities(folder: str, steps: int, seed: int, without: dict) -> dict[str, float]:
    """Of a small model on the story that it was trained on, in each precision but those `without`."""
    import torch

    from hf_gpt_scratch import GPTScratchConfig, GPTScratchForCausalLM
    from hf_gpt_scratch.conversion.convert import convert
    from hf_gpt_scratch.conversion.gguf import export_gguf
    from hf_gpt_scratch.evaluation.precision_cost import in_precision, perplexity_cost
    from hf_gpt_scratch.pretrained import load
    from hf_gpt_scratch.tokenizer import train_tokenizer

    tokenizer = train_tokenizer([STORY.read_text()], 1000)
    ends = {name: getattr(tokenizer, name) for name in ("bos_token_id", "eos_token_id", "pad_token_id")}
    torch.manual_seed(seed)
    config = GPTScratchConfig(vocab_size=len(tokenizer), n_positions=64, n_embd=256, n_layer=4, n_head=4, **ends)
    model = GPTScratchForCausalLM(config).train()
    ids = tokenizer(STORY.read_text(), verbose=False, return_tensors="pt")["input_ids"][0]
    rows = ids[: len(ids) // 64 * 64].view(-1, 64)
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-3, fused=True)
    for _ in range(steps):
        batch = rows[torch.randint(len(rows), (8,))]
        model(batch, labels=batch, use_cache=False).loss.backward()
        optimizer.step()
        optimizer.zero_grad()
    model.eval().save_pretrained(f"{folder}/small")
    tokenizer.save_pretrained(f"{folder}/small")
    export_gguf(f"{folder}/small", Path(folder, "small_gguf"), "q8_0")
    convert(str(next(Path(folder, "small_gguf").glob("*.gguf"))), Path(folder, "small_q8_0"))

    changed = {name: in_precision(model, DTYPES[name]) for name in (BF16, INT8) if name not in without}
    changed[Q8_0], _ = load(f"{folder}/small_q8_0", device="cpu", dtype="fp32")
    costs = {name: perplexity_cost(model, one, rows.split(16)) for name, one in changed.items()}
    return {FP32: costs[Q8_0]["perplexity"], **{name: cost["changed"] for name, cost in costs.items()}}


def unmeasured() -> dict[str, str]:
    """Why a contender cannot be measured on this machine, by its name."""
    import torch

    from hf_gpt_scratch.utils.int8 import is_exact
    from hf_gpt_scratch.utils.precision import fast_cpu_dtype, why_cpu_dtype

    reasons = {
        BF16: None if fast_cpu_dtype() == torch.bfloat16 else why_cpu_dtype(),
        INT8: None if is_exact() else "this CPU's int8 products are inexact",
        Q8_0: missing("xllamacpp"),
    }
    return {name: reason for name, reason in reasons.items() if reason}


def main(argv: list[str] | None = None) -> dict:
    args = parse(make_parser(), argv)
    if args.quick:
        args.prompt_tokens = args.new_tokens = 8
    reasons = apart(unmeasured)
    with tempfile.TemporaryDirectory() as folder:
        apart(prepare, folder, args)
        costs = apart(perplexities, folder, 3 if args.quick else 300, args.seed, reasons)
        common = {"folder": folder, "args": args}
        contenders = [Contender(STOCK, make_stock, common)]
        contenders += [Contender(name, make_ours, {**common, "dtype": DTYPES[name]}) for name in DTYPES]
        contenders += [Contender(Q8_0, make_llama, common)]
        measured = measure(
            [one for one in contenders if one.name not in reasons],
            args.rounds,
            compare=lambda outputs: None if outputs[FP32] == outputs[STOCK] else "the fp32 tokens are not the same",
        )
    shape = "tiny" if args.quick else args.shape
    rows = []
    for name, asked in ASKED.items():
        ratios = None if name in reasons else measured["contenders"][name]["ratios"]
        question = f"greedy decoding of {args.prompt_tokens} + {args.new_tokens} tokens, {shape}, {name}"
        rows.append(row(question, "transformers' generate, fp32", asked, ratios, note=reasons.get(name, "")))
    for name in (INT8, Q8_0):
        times = [100 * costs[name] / costs[FP32]] if name in costs else None
        note = f"{costs[FP32]:.3f} becomes {costs[name]:.3f}" if times else reasons[name]
        rows.append(row(f"perplexity of a small model, {name}", "fp32", 101, times, unit="%", at_most=True, note=note))
    return write(
        {**measured, "perplexities": costs},
        __file__,
        args,
        argv,
        task=f"{args.new_tokens} greedy tokens after a prompt of {args.prompt_tokens}, GPT-2 {shape}, one at a time",
        compared="the fp32 tokens are equal",
        rows=rows,
    )


if __name__ == "__main__":
    from hf_gpt_scratch.utils.errors import run_reporting_errors

    sys.exit(run_reporting_errors(lambda: main() and None))
