"""
Packed rows against batches of padded rows of similar length, the two ways in which `train instruct` can read the
book's conversations, in real tokens per second: padding counts as time, not as work.

    python training/benchmarks/packing.py --data_file instruction-data.json --tokenizer openai-community/gpt2

Both ways train the same GPT-2 on the same conversations (cut to the length of a row), with dropout and fused AdamW,
and learn from about as many tokens a step; one unit of work is one step. Padding in such batches wastes less than 2 %,
so more cannot be won so. Users who switch packing on also have fewer, larger steps than with batches of 8: the longest
rows are measured against these, too. Before anything is timed, the losses and the gradients of the same conversations
are compared, without dropout.
"""

import argparse
import json
import sys
import tempfile
from pathlib import Path

from finetuning import add_data_options, save_documents
from side_by_side import Contender, add_options, apart, measure, parse, ratios_of, row, stock_and_ours, write

TOKENS_PER_STEP = 1024
DTYPES = {"fp32": "float32", "bf16": "bfloat16"}


def make_parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    add_options(parser, __file__, rounds=3)
    add_data_options(parser, "questions and answers: the book's set")
    parser.add_argument("--lengths", type=int, nargs="+", default=[64, 256, 1024], help="tokens of a row at most")
    parser.add_argument("--precisions", nargs="+", choices=DTYPES, default=list(DTYPES))
    return parser


def typical_batches(lengths: list[int], batch_size: int, seed: int, is_padded: bool) -> list[list[int]]:
    """Batches of row numbers by `LengthGroupedSampler`, those first that have as much work and padding as the mean."""
    from hf_gpt_scratch.training.samplers import LengthGroupedSampler

    order = list(LengthGroupedSampler(lengths, batch_size, seed))
    batches = [order[i : i + batch_size] for i in range(0, len(order) - batch_size + 1, batch_size)]
    real = {id(batch): sum(lengths[i] for i in batch) for batch in batches}
    computed = {
        id(batch): max(lengths[i] for i in batch) * batch_size if is_padded else real[id(batch)] for batch in batches
    }
    mean, share = sum(real.values()) / len(batches), sum(real.values()) / sum(computed.values())

    def unlike_the_mean(batch: list[int]) -> float:
        return abs(real[id(batch)] / mean - 1) + abs(real[id(batch)] / computed[id(batch)] - share)

    return sorted(batches, key=unlike_the_mean)


def make_step(
    folder: str,
    documents: str,
    is_packed: bool,
    length: int,
    precision: str,
    seed: int,
    batch_size: int | None = None,
):
    """Training steps on packed or on padded rows; the first also gives what is to be compared."""
    import torch

    from hf_gpt_scratch import GPTScratchForCausalLM
    from hf_gpt_scratch.data.packing import LanguageModelCollator, pack
    from hf_gpt_scratch.training.arguments import ScratchTrainingArguments
    from hf_gpt_scratch.training.causal_attention import use_dropout_attention
    from hf_gpt_scratch.training.document_attention import attend_by_document

    torch.manual_seed(seed)
    rows = [
        {name: ids[:length] for name, ids in document.items()} for document in json.loads(Path(documents).read_text())
    ]
    compared = rows[: max(1, TOKENS_PER_STEP // 2 // length)]
    model = GPTScratchForCausalLM.from_pretrained(folder).train()
    joined = is_packed and attend_by_document(model, ScratchTrainingArguments(folder, use_cpu=True))
    use_dropout_attention(model)  # for padded rows, as the Trainer does
    if is_packed:
        rows, compared = pack(rows, length, seed), pack(compared, length, seed)
    lengths = [len(one["input_ids"]) for one in rows]
    batch_size = batch_size or max(1, round(TOKENS_PER_STEP / (sum(lengths) / len(lengths))))
    batches = typical_batches(lengths, batch_size, seed, not joined)
    collate = LanguageModelCollator(0, join_packed=joined)
    optimizer = torch.optim.AdamW(model.parameters(), lr=5e-5, weight_decay=0.1, fused=True)
    waiting = iter(batches)

    def learn(some: list[dict]) -> float:
        with torch.autocast("cpu", torch.bfloat16, enabled=precision == "bf16"):
            loss = model(**collate(some), use_cache=False).loss
        loss.backward()
        return loss.item()

    def gradients() -> dict:
        dropouts = {module: module.p for module in model.modules() if isinstance(module, torch.nn.Dropout)}
        attn_pdrop, model.config.attn_pdrop = model.config.attn_pdrop, 0.0
        for module in dropouts:
            module.p = 0.0
        loss = learn(compared)
        norms = [parameter.grad.norm().item() for parameter in model.parameters()]
        optimizer.zero_grad()
        for module, p in dropouts.items():
            module.p = p
        model.config.attn_pdrop = attn_pdrop
        return {"loss": loss, "norms": norms}

    computed = sum(max(lengths[i] for i in batch) * batch_size for batch in batches)
    padding = 1 - sum(lengths[i] for batch in batches for i in batch) / computed
    found = [{**gradients(), "padding": padding}]

    def step():
        some = [rows[i] for i in next(waiting)]
        learn(some)
        optimizer.step()
        optimizer.zero_grad()
        return sum(len(one["input_ids"]) for one in some), found.pop() if found else None

    return step


def differ(precision: str):
    """How the losses and gradients of the two ways differ, or `None` where they are equal but for rounding."""
    tolerance = 1e-4 if precision == "fp32" else 0.05

    def compare(outputs: dict) -> str | None:
        padded = outputs["padded"]
        largest = max(padded["norms"])
        for name, found in outputs.items():
            differences = {
                "loss": abs(found["loss"] / padded["loss"] - 1),
                "gradients": max(abs(a - b) for a, b in zip(found["norms"], padded["norms"])) / largest,
            }
            wrong = {key: value for key, value in differences.items() if not value <= tolerance}
            if wrong:
                return f"{name}, {wrong}, at most {tolerance} allowed"
        return None

    return compare


def prepare(args: argparse.Namespace, folder: str, size: str) -> str | None:
    """Saves what the contenders begin with; returns why this CPU is not fast in bf16, or `None` where it is."""
    from hf_gpt_scratch.utils import precision

    vocab_size = save_documents(args, Path(folder, "documents.json"))
    stock_and_ours(folder, size, args.seed, vocab_size=vocab_size)
    return None if str(precision.fast_cpu_dtype()) == "torch.bfloat16" else precision.why_cpu_dtype()


def measure_ways(folder: str, length: int, precision: str, rounds: int, seed: int, with_default: bool) -> dict:
    """Padded and packed rows of a length; `with_default` also padded ones in batches of the default size."""
    settings = {"folder": f"{folder}/ours", "documents": f"{folder}/documents.json", "length": length}
    settings |= {"precision": precision, "seed": seed}
    ways = {"padded": {"is_packed": False}, "packed": {"is_packed": True}}
    if with_default:
        ways["padded, 8 a step"] = {"is_packed": False, "batch_size": 8}
    contenders = [Contender(name, make_step, {**settings, **way}) for name, way in ways.items()]
    first, differences = {}, differ(precision)
    measured = measure(contenders, rounds, "padded", lambda found: first.update(found) or differences(found))
    return {**measured, "padding": first["padded"]["padding"]}


def make_rows(measured: dict | None, question: str, is_longest: bool, reason: str | None) -> list[dict]:
    """The rows of a length, the longest also against batches of the default size."""
    against = "padding, batches of similar length, as many tokens a step"
    default = "padding, batches of similar length, 8 conversations a step"
    if measured is None:
        asked = {against: 1.0} | ({default: 1.1} if is_longest else {})
        return [row(question, one, least, None, note=reason) for one, least in asked.items()]
    packed, eight = (measured["contenders"].get(name) for name in ("packed", "padded, 8 a step"))
    why = f"padding is {100 * measured['padding']:.1f} % of these batches, the most that can be won"
    rows = [row(question, against, 1.0, packed["ratios"], memory_ratio=packed["memory_ratio"], if_missed=why)]
    if is_longest:
        ratios, memory_ratio = ratios_of(measured, "packed", "padded, 8 a step")
        tokens = (sum(one["units"]) / len(one["units"]) for one in (packed, eight))
        note = "{:,.0f} real tokens a step against {:,.0f}".format(*tokens)
        rows.append(row(question, default, 1.1, ratios, memory_ratio=memory_ratio, note=note))
    return rows


def main(argv: list[str] | None = None) -> dict:
    args = parse(make_parser(), argv)
    size, lengths = ("tiny", [64]) if args.quick else (args.size, args.lengths)
    rows, runs = [], {}
    with tempfile.TemporaryDirectory() as folder:
        slow_bf16 = apart(prepare, args, folder, size)
        for precision in ["fp32"] if args.quick else args.precisions:
            reason = slow_bf16 if precision == "bf16" else None
            for length in lengths:
                question, is_longest = f"packed rows of {length:,} tokens, {size}, {precision}", length == max(lengths)
                if not reason:
                    print(question)
                    runs[question] = measure_ways(folder, length, precision, args.rounds, args.seed, is_longest)
                rows += make_rows(runs.get(question), question, is_longest, reason)
    return write(
        {"runs": runs},
        __file__,
        args,
        argv,
        task=f"training steps of about {TOKENS_PER_STEP:,} tokens on the book's conversations, GPT-2 {size}",
        compared="losses and gradients of the same conversations, equal but for rounding",
        rows=rows,
    )


if __name__ == "__main__":
    from hf_gpt_scratch.utils.errors import run_reporting_errors

    sys.exit(run_reporting_errors(lambda: main() and None))
