"""
The pieces of `gpu.py`: each is a function of the settings that returns rows of the table, by `side_by_side.row`.

Models have random weights in the true shapes; the data is the demo's. Nothing is downloaded.
"""

import contextlib
import importlib
import json
import random
import statistics
import subprocess
import sys
import time
from argparse import Namespace
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from importlib import util
from pathlib import Path

from side_by_side import SHAPES, row, stock_and_ours

ROOT = Path(__file__).parents[2]
DEMO = ROOT / "training" / "demo_data"
T4_GB = 15  # what PyTorch can use of a T4's memory
LONGEST = 900  # characters of the longest messages of the SMS Spam Collection


@dataclass(frozen=True)
class Sizes:
    """How much is measured, by `--quick` or not."""

    small: str
    medium: str
    large: str
    rows: int
    length: int
    steps: int
    texts: int
    new_tokens: int

    @classmethod
    def of(cls, settings: Namespace) -> "Sizes":
        if settings.quick:
            return cls("tiny", "tiny", "tiny", rows=2, length=32, steps=2, texts=6, new_tokens=4)
        return cls("124M", "355M", "1558M", rows=8, length=512, steps=10, texts=1000, new_tokens=128)


def half(device: str):
    """The half precision of `--precision auto` there; on a CPU bf16."""
    import torch

    is_old = device == "cuda" and torch.cuda.get_device_capability() < (8, 0)
    return torch.float16 if is_old else torch.bfloat16


def seconds(work: Callable[[], object], device: str, rounds: int) -> list[float]:
    """Of each round, after two that warm up; the GPU has finished when a round ends."""
    import torch

    wait = torch.cuda.synchronize if device == "cuda" else lambda: None
    found = []
    for _ in range(rounds + 2):
        start = time.perf_counter()
        work()
        wait()
        found.append(time.perf_counter() - start)
    return found[2:]


@contextlib.contextmanager
def peak_memory(device: str):
    """Yields a dictionary that has `allocated` and `reserved` in GB at the end, on a GPU."""
    import torch

    found: dict[str, float] = {}
    if device == "cuda":
        torch.cuda.empty_cache()
        torch.cuda.reset_peak_memory_stats()
    yield found
    if device == "cuda":
        found["allocated"] = torch.cuda.max_memory_allocated() / 1e9
        found["reserved"] = torch.cuda.max_memory_reserved() / 1e9


def models(folder: Path, shape: str, seed: int) -> Path:
    """The folder with the same weights as stock GPT-2 (`stock`) and as ours (`ours`), each with a tokenizer."""
    from hf_gpt_scratch.tokenizer import train_tokenizer

    made = folder / f"models_{shape}"
    if not (made / "done").is_file():
        stock_and_ours(made, shape, seed)
        texts = [path.read_text(encoding="utf-8") for path in (*DEMO.glob("*.t*"), *DEMO.glob("*.json"))]
        tokenizer = train_tokenizer(texts, 5000)
        for name in ("stock", "ours"):
            tokenizer.save_pretrained(made / name)
        (made / "done").touch()
    return made


def ratios(theirs: list[float], ours: list[float]) -> list[float]:
    """How many times as fast we are, a round."""
    return [one / other for one, other in zip(theirs, ours)]


def as_rate(count: float, found: list[float], unit: str) -> str:
    return f"{count / statistics.median(found):,.0f} {unit}/s"


def training_steps(settings: Namespace, precision: str, attention: str = "sdpa", compiled: bool = False) -> list[dict]:
    """Steps of both models, one after the other: fp32, bf16 autocast, or fp16 with a GradScaler as on a T4."""
    import torch
    from transformers import AutoModelForCausalLM

    import hf_gpt_scratch  # noqa: F401 (registers the model)

    sizes, device = Sizes.of(settings), settings.device
    how = f"{precision}, {attention}{', compiled' if compiled else ''}"
    folder, dtype = models(settings.folder, sizes.small, settings.seed), {"bf16": "bfloat16", "fp16": "float16"}
    question = f"training step, {sizes.small}, {sizes.rows} x {sizes.length}, {how}"
    if attention == "flash_attention_2" and not util.find_spec("flash_attn"):
        return [row(question, "stock GPT-2", 1.3, None, note="flash_attn is not installed here")]
    times, memory = {}, {}
    for name in ("stock", "ours"):
        model = AutoModelForCausalLM.from_pretrained(folder / name, attn_implementation=attention).to(device).train()
        run = torch.compile(model) if compiled else model
        optimizer = torch.optim.AdamW(model.parameters(), lr=5e-5, fused=True)
        scaler = torch.amp.GradScaler(device, enabled=precision == "fp16")
        ids = torch.randint(model.config.vocab_size, (sizes.rows, sizes.length), device=device)
        half_of = {"dtype": getattr(torch, dtype[precision])} if precision in dtype else {"enabled": False}

        def step(run=run, optimizer=optimizer, scaler=scaler, ids=ids, half_of=half_of):
            with torch.autocast(device, **half_of):
                loss = run(ids, labels=ids, use_cache=False).loss
            scaler.scale(loss).backward()
            scaler.step(optimizer)
            scaler.update()
            optimizer.zero_grad()

        with peak_memory(device) as memory[name]:
            times[name] = seconds(step, device, sizes.steps)
        del model, run, optimizer, ids, step
    tokens = sizes.rows * sizes.length
    used = {name: one.get("allocated") for name, one in memory.items()}
    return [
        row(
            question,
            "stock GPT-2",
            1.4 if precision == "fp32" else 1.3,
            ratios(times["stock"], times["ours"]),
            memory_asked=0.7,
            memory_ratio=used["ours"] / used["stock"] if used["stock"] else None,
            note=f"ours {as_rate(tokens, times['ours'], 'tokens')}, stock {as_rate(tokens, times['stock'], 'tokens')}",
        )
    ]


def packing(settings: Namespace) -> list[dict]:
    """Real tokens a second of packed rows against padded batches of similar length, of instructions' lengths."""
    import torch

    from hf_gpt_scratch import GPTScratchForCausalLM
    from hf_gpt_scratch.data.packing import LanguageModelCollator, pack

    sizes, device, draw = Sizes.of(settings), settings.device, random.Random(settings.seed)
    folder = models(settings.folder, sizes.small, settings.seed)
    model = GPTScratchForCausalLM.from_pretrained(folder / "ours").to(device).train()
    optimizer, collate = torch.optim.AdamW(model.parameters(), lr=5e-5, fused=True), LanguageModelCollator(0)
    lengths = [min(sizes.length, int(draw.lognormvariate(4.2, 0.5))) for _ in range(sizes.rows * sizes.steps)]
    ids = [draw.choices(range(1000), k=length) for length in lengths]
    documents = [{"input_ids": one, "labels": one} for one in ids]
    packed, ordered = pack(documents, sizes.length), sorted(documents, key=lambda one: len(one["input_ids"]))
    few = max(1, sizes.rows // 2)
    batches = {
        "padding": [collate(ordered[i : i + sizes.rows]) for i in range(0, len(ordered), sizes.rows)],
        "packing": [collate(packed[i : i + few]) for i in range(0, len(packed), few)],
    }

    def epoch(rows: list[dict]) -> None:
        for batch in rows:
            with torch.autocast(device, dtype=torch.bfloat16):
                loss = model(**{key: value.to(device) for key, value in batch.items()}, use_cache=False).loss
            loss.backward()
            optimizer.step()
            optimizer.zero_grad()

    times = {name: seconds(lambda name=name: epoch(batches[name]), device, 3) for name in batches}
    note = ", ".join(f"{name} {as_rate(sum(lengths), found, 'real tokens')}" for name, found in times.items())
    found = ratios(times["padding"], times["packing"])
    return [row(f"packing against padding, {sizes.small}, bf16", "padding, grouped by length", 1.1, found, note=note)]


def decoding(settings: Namespace) -> list[dict]:
    """Greedy decoding of one prompt, and answers to many prompts, each against stock GPT-2's `generate`."""
    import torch
    from transformers import AutoModelForCausalLM

    import hf_gpt_scratch  # noqa: F401 (registers the model)
    from hf_gpt_scratch.generation.batch import complete_prompts

    sizes, device = Sizes.of(settings), settings.device
    folder, dtype = models(settings.folder, sizes.small, settings.seed), half(device)
    stock, ours = (
        AutoModelForCausalLM.from_pretrained(folder / name, dtype=dtype).to(device).eval()
        for name in ("stock", "ours")
    )
    for model in (stock, ours):
        model.config.eos_token_id = model.generation_config.eos_token_id = None  # every answer has its full length
    new, draw = sizes.new_tokens, random.Random(settings.seed)
    prompts = [draw.choices(range(1000), k=draw.randint(30, 80)) for _ in range(max(4, sizes.texts // 16))]
    one = torch.tensor([prompts[0]], device=device)
    longest = max(map(len, prompts))
    padded = torch.tensor([[0] * (longest - len(prompt)) + prompt for prompt in prompts], device=device)
    mask = torch.tensor([[0] * (longest - len(p)) + [1] * len(p) for p in prompts], device=device)
    options = {"max_new_tokens": new, "do_sample": False, "pad_token_id": 0}

    def single(model):
        return seconds(lambda: model.generate(one, attention_mask=torch.ones_like(one), **options), device, 3)

    alone = {name: single(model) for name, model in (("stock", stock), ("ours", ours))}
    batched = {
        "stock": seconds(lambda: stock.generate(padded, attention_mask=mask, **options), device, 3),
        "ours": seconds(lambda: complete_prompts(ours, prompts, new, len(prompts)), device, 3),
    }
    name = str(dtype).removeprefix("torch.")
    return [
        row(
            f"{title}, {sizes.small}, {name}",
            "stock generate",
            asked,
            ratios(times["stock"], times["ours"]),
            note=", ".join(f"{side} {as_rate(count * new, found, 'tokens')}" for side, found in times.items()),
        )
        for title, asked, times, count in (
            ("greedy decoding of one prompt", 1.05, alone, 1),
            (f"answers to {len(prompts)} prompts", 1.2, batched, len(prompts)),
        )
    ]


def classification(settings: Namespace) -> list[dict]:
    """Messages a second of `TextClassifier` against transformers' pipeline on the same weights in stock GPT-2."""
    import torch
    from transformers import GPT2Config, GPT2ForSequenceClassification, pipeline

    from hf_gpt_scratch import TextClassifier
    from hf_gpt_scratch.conversion.convert import convert
    from hf_gpt_scratch.tokenizer import load_tokenizer

    sizes, device = Sizes.of(settings), settings.device
    folder = settings.folder / "classifier"
    tokenizer = load_tokenizer(models(settings.folder, sizes.small, settings.seed) / "ours")
    n_embd, n_layer, n_head = SHAPES[sizes.small]
    torch.manual_seed(settings.seed)
    config = GPT2Config(n_embd=n_embd, n_layer=n_layer, n_head=n_head, pad_token_id=tokenizer.pad_token_id)
    GPT2ForSequenceClassification(config).save_pretrained(folder / "stock")
    tokenizer.save_pretrained(folder / "stock")
    convert(str(folder / "stock"), folder / "ours")
    texts = [text for _, text in messages()][: sizes.texts]
    dtype = half(device)
    stock = pipeline("text-classification", model=str(folder / "stock"), device=device, dtype=dtype, batch_size=8)
    ours = TextClassifier.from_pretrained(folder / "ours", device=device, dtype=dtype)
    same = [found["label"] for found in stock(texts)] == [found.label for found in ours.classify(texts)]
    times = {
        "stock": seconds(lambda: stock(texts), device, 3),
        "ours": seconds(lambda: list(ours.classify(texts)), device, 3),
    }
    note = ", ".join(f"{side} {as_rate(len(texts), found, 'messages')}" for side, found in times.items())
    note += "" if same else "; some labels differ, as random weights leave them near each other in half precision"
    name = str(dtype).removeprefix("torch.")
    question = f"classification of {len(texts)} messages, {sizes.small}, {name}"
    return [row(question, "transformers' pipeline, batch 8", 1.7, ratios(times["stock"], times["ours"]), note=note)]


def messages() -> list[tuple[str, str]]:
    """The demo's messages, and every 20th as long as the longest of the SMS Spam Collection."""
    lines = (DEMO / "messages.tsv").read_text(encoding="utf-8").splitlines()
    pairs = [tuple(line.split("\t", 1)) for line in lines if "\t" in line]
    joined = " ".join(text for _, text in pairs)
    starts = range(0, len(joined) - LONGEST, max(1, len(joined) * 20 // len(pairs)))
    return pairs + [(pairs[i % len(pairs)][0], joined[start : start + LONGEST]) for i, start in enumerate(starts)]


def finetune(settings: Namespace, job: str, config: str, shape: str, **options) -> list[dict]:
    """Some steps of a job with a config that comes with the package, and the most GPU memory that it took."""
    sizes, folder = Sizes.of(settings), settings.folder
    shape = getattr(sizes, shape)
    path, steps = folder / f"data_{job}", 8 if settings.device == "cuda" else 2
    if job in ("spam", "classify"):
        path = path.with_suffix(".tsv")
        pairs = messages()[:200] if settings.quick else messages()
        path.write_text("label\ttext\n" * (job == "classify") + "".join(f"{a}\t{b}\n" for a, b in pairs))
    elif job == "instruct":
        rows = json.loads((DEMO / "instructions.json").read_text(encoding="utf-8"))
        path = path.with_suffix(".json")
        path.write_text(json.dumps(rows[:60] if settings.quick else rows))
    words = {"output_dir": folder / f"run_{job}_{config}", "overwrite_output_dir": True, "max_steps": steps}
    when = "steps" if job in ("spam", "classify") else "no"  # those two keep the best evaluation
    words |= {"eval_strategy": when, "save_strategy": when, "eval_steps": steps, "save_steps": steps, **options}
    if job == "pretrain":  # random weights, in its own shape
        story = (DEMO / "story.txt").read_text(encoding="utf-8")
        path.mkdir(exist_ok=True)
        (path / "train.jsonl").write_text("\n".join(json.dumps({"text": one}) for one in story.split("\n\n") * 40))
        words["tokenizer_name"] = models(folder, sizes.small, settings.seed) / "ours"
    else:
        words["model_name_or_path"] = models(folder, shape, settings.seed) / "ours"
    words["dataset_name" if job == "pretrain" else "data_file"] = path
    if settings.quick:
        words |= {"per_device_train_batch_size": 2, "dataloader_num_workers": 0, "gradient_accumulation_steps": 1}
        words |= dict(zip(("n_embd", "n_layer", "n_head"), SHAPES["tiny"])) if job == "pretrain" else {}
    if settings.device == "cpu":
        words["use_cpu"] = True
    argv = [word for key, value in words.items() for word in (f"--{key}", str(value))]
    with peak_memory(settings.device) as memory:
        metrics = importlib.import_module(f"hf_gpt_scratch.training.{job}").main([config, *argv])
    note = f"{steps} steps and the test in {metrics['train_seconds']:.0f} s, {metrics['settings']['precision']}"
    question = f"train {job} {config}, {shape}: peak memory"
    if not memory:
        note = "it ran, on a CPU"
    else:
        note += f", {memory['allocated']:.2f} GB of it allocated"
    found = [memory["reserved"]] if memory else None
    return [row(question, "a T4's memory", T4_GB, found, unit="GB", at_most=True, note=note)]


def ddp(settings: Namespace) -> list[dict]:
    """The pretraining job under torchrun, one process."""
    folder, port = settings.folder, "--nproc_per_node=1"
    words = ["--data_file", DEMO / "story.txt", "--output_dir", folder / "run_ddp", "--overwrite_output_dir", "true"]
    words += ["--train_tokenizer", 400, "--max_steps", 4, "--n_embd", 64, "--n_layer", 1, "--n_head", 2]
    words += ["--n_positions", 64, "--eval_strategy", "no", "--save_strategy", "no", "--validation_share", 0.1]
    if settings.device == "cpu":
        words += ["--use_cpu", "true"]
    command = [sys.executable, "-m", "torch.distributed.run", "--standalone", port, ROOT / "training" / "pretrain.py"]
    check([*command, *words])
    return [row("DDP on one device by torchrun", "", None, None, note="it ran to its end")]


def tests(settings: Namespace, words: Sequence[str]) -> list[dict]:
    """The tests of these marks on this machine."""
    command = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", *words]
    summary = check(command).strip().splitlines()[-1]
    return [row(f"pytest {' '.join(words)}", "", None, None, note=summary)]


def check(command: list) -> str:
    """The output of a command; raises `RuntimeError` with its last lines where it fails."""
    done = subprocess.run([str(word) for word in command], capture_output=True, text=True, cwd=ROOT)
    if done.returncode:
        last = " | ".join((done.stdout + done.stderr).strip().splitlines()[-3:])
        raise RuntimeError(f"it ended with status {done.returncode}: {last}")
    return done.stdout
