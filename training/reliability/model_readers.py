"""The readers of what a model's folder holds, as in `reader_subjects.py`; and of checkpoints of every format."""

import io
import json
import random
import shutil
import tempfile
from contextlib import redirect_stderr, redirect_stdout
from functools import cache, partial
from pathlib import Path

from reader_subjects import RESPONSES, TEXTS, Reader

TEMPLATE = "{% for m in messages %}{{ m['role'] }}: {{ m['content'] }}\n{% endfor %}assistant:"


@cache
def _made(kind: str) -> Path:
    """A folder that is made once in this process: of a classifier, a writer, an adapter, a bot or an ONNX model."""
    from support import classifiers, models

    folder = Path(tempfile.mkdtemp(prefix="readers.")) / kind
    if kind == "classifier":
        early = {"0.9": {"threshold": 0.6, "agreement": 0.9}}
        calibration = {"temperature": 1.5, "threshold": 0.4, "early": early}
        shape = {"long_texts": "windows", "n_positions": 128}  # a text of 120,000 characters is many windows anyway
        classifiers.save_classifier(folder, ("ham", "spam"), calibration=calibration, **shape)
    elif kind == "classifier of topics":
        calibration = {"temperature": 1.5, "threshold": [0.2, 0.3, 0.2, 0.2], "outside_label": "other"}
        classifiers.save_classifier(folder, ("a", "b", "c", "d"), calibration=calibration)
    elif kind == "writer":
        models.save_model(folder, chat=TEMPLATE, n_positions=256)
        (folder / "responses.json").write_text(json.dumps(RESPONSES))
    elif kind == "adapters":
        from support.adapters import save_adapters

        save_adapters(folder)
        settings = json.loads((folder / "CAUSAL_LM/adapter_config.json").read_text())
        settings["base_model_name_or_path"] = str(folder / "base")
        (folder / "CAUSAL_LM/adapter_config.json").write_text(json.dumps(settings))
    elif kind == "onnx":
        from support.onnx_folders import exported

        return exported("classifier")[1]
    elif kind == "bot":
        models.save_model(folder, chat=TEMPLATE, n_positions=256)
        from hf_gpt_scratch.data.faq import Entry
        from hf_gpt_scratch.faq.faq_file import FaqFile

        entries = [Entry(f"How do I {word}?", f"You {word}.", (f"Ways to {word}?",)) for word in ("pay", "fly", "eat")]
        FaqFile(entries, 0.5, unanswered=("Who won?",)).write(folder)
    return folder


def _copy(kind: str, folder: Path) -> None:
    shutil.copytree(_made(kind), folder, dirs_exist_ok=True)


def _classify(folder: Path) -> None:
    """As `classify`, its page, `check` and the card do."""
    from hf_gpt_scratch import TextClassifier
    from hf_gpt_scratch.apps.classify import heading, make_page  # noqa: F401 (imports Gradio once)
    from hf_gpt_scratch.commands.classify_output import Output
    from hf_gpt_scratch.data.columns import columns_trained_on

    columns_trained_on(folder)
    classifier = TextClassifier.from_pretrained(folder)
    with redirect_stdout(io.StringIO()), redirect_stderr(io.StringIO()):
        output = Output(classifier, with_words=True, explains_each=True)
        for number, prediction in enumerate(classifier.classify(TEXTS, words=True)):
            output.show(number, prediction)
    heading(classifier)
    if not (folder / "onnx").exists() and not random.Random(_size(folder)).randrange(
        4
    ):  # it costs as much as the rest
        _describe(folder)


def _size(folder: Path) -> int:
    return sum(path.stat().st_size for path in folder.iterdir())


def _describe(folder: Path) -> None:
    """What `check` finds in the files, and what the card says of them."""
    from hf_gpt_scratch.hub.check import look_at_files
    from hf_gpt_scratch.hub.model_card import make_card
    from hf_gpt_scratch.model_folder.contents import ModelFolder

    model = ModelFolder.read(folder)
    look_at_files(model)
    make_card(model, "you/model")


def _write(folder: Path) -> None:
    """As `generate` and `chat` do."""
    from hf_gpt_scratch import load
    from hf_gpt_scratch.generation.chat import Chat
    from hf_gpt_scratch.generation.sampling import stream_text

    model, tokenizer = load(folder)
    "".join(stream_text(model, tokenizer, "the lamp", max_new_tokens=2))
    "".join(Chat(model, tokenizer).ask("Who?", max_new_tokens=2))
    if not random.Random(_size(folder)).randrange(4):
        _describe(folder)


def _answer(folder: Path) -> None:
    from hf_gpt_scratch import load
    from hf_gpt_scratch.faq.bot import FaqBot
    from hf_gpt_scratch.faq.faq_file import read_faq_file

    bot = FaqBot(read_faq_file(folder), *load(folder))
    bot.answer("How do I pay?")


def _load_adapter(folder: Path) -> None:
    from hf_gpt_scratch import load
    from hf_gpt_scratch.model_folder.contents import ModelFolder

    ModelFolder.read(folder).weight_files  # noqa: B018 (it is computed)
    model, tokenizer = load(folder)


def _shard(folder: Path) -> None:
    from support.checkpoints import sharded

    _copy("writer", folder)
    sharded(folder, "safetensors")


METRICS = {
    **{"task": "SMS spam classification", "seed": 1, "settings": {"learning_rate": 0.001}, "train_seconds": 1.0},
    **{"data": {"source": "x.tsv", "sha256": "0" * 64}, "command": "hf-gpt-scratch train spam", "python": "3.11"},
    **{"base_model": None, "split": {"protocol": "grouped"}, "versions": {"torch": "2"}, "hardware": {"cpu": "x"}},
    **{"labels": ["ham", "spam"], "epochs": 2, "steps": 4, "tokens_seen": 1000, "method": "all", "parameters": 1000},
}


def _with_metrics(folder: Path) -> None:
    _copy("classifier", folder)
    (folder / "metrics.json").write_text(json.dumps(METRICS))


def _convert(name: str, folder: Path) -> None:
    _sample(name, folder).way(str(_sample(name, folder).source), folder / "out")


@cache
def _original(name: str):
    from support.checkpoints import make_sample

    return make_sample(name, Path(tempfile.mkdtemp(prefix="readers.")) / "in")


def _sample(name: str, folder: Path):
    from dataclasses import replace

    original = _original(name)
    home = _home(original)
    return replace(original, source=folder / original.source.relative_to(home))


def _home(sample) -> Path:
    return next(path for path in (sample.source, *sample.source.parents) if path.name == "in")


def _make_sample(name: str, folder: Path) -> None:
    shutil.copytree(_home(_original(name)), folder, dirs_exist_ok=True)


def _card_of_repository(folder: Path) -> None:
    """A README.md on the Hub, which a push looks at before it replaces it."""
    from hf_gpt_scratch.hub import repository

    files = {"README.md": b"x"}
    real = repository.remote_file
    repository.remote_file = lambda *_: folder / "README.md"
    try:
        repository.keep_card(files, "you/x", ["README.md"], None, lambda license: b"y", None, lambda sentence: None)
    finally:
        repository.remote_file = real


README = (
    "---\nlicense: mit\ntags:\n- a\n---\n<!-- Written by hf-gpt-scratch from the files beside it. Without this line it"
    " is never overwritten. -->\nText.\n"
)


def _read_examples(folder: Path) -> None:
    from hf_gpt_scratch.apps import examples

    examples.questions(folder)
    examples.takes_input(folder)


def _of_model(kind: str, file: str, read, form: str = "json") -> Reader:
    return Reader(file, partial(_copy, kind), read, form)


def _of_format(name: str, file: str, form: str = "bytes") -> Reader:
    return Reader(file, partial(_make_sample, name), partial(_convert, name), form, "out")


READERS: dict[str, Reader] = {
    "config.json, classifier": _of_model("classifier", "config.json", _classify),
    "config.json, topics": _of_model("classifier of topics", "config.json", _classify),
    "config.json, writer": _of_model("writer", "config.json", _write),
    "generation_config.json": _of_model("writer", "generation_config.json", _write),
    "tokenizer_config.json": _of_model("writer", "tokenizer_config.json", _write),
    "tokenizer.json": _of_model("writer", "tokenizer.json", _write),
    "chat_template.jinja": _of_model("writer", "chat_template.jinja", _write, "text"),
    "model.safetensors": _of_model("writer", "model.safetensors", _write, "bytes"),
    "index of shards": Reader("model.safetensors.index.json", _shard, _write, "json"),
    "reference_logits.json": _of_model("writer", "reference_logits.json", _describe),
    "faq.json": _of_model("bot", "faq.json", _answer),
    "adapter_config.json": _of_model(
        "adapters", "CAUSAL_LM/adapter_config.json", lambda f: _load_adapter(f / "CAUSAL_LM")
    ),
    "adapter_model.safetensors": _of_model(
        "adapters", "CAUSAL_LM/adapter_model.safetensors", lambda f: _load_adapter(f / "CAUSAL_LM"), "bytes"
    ),
    "metrics.json": Reader("metrics.json", _with_metrics, _describe, "json"),
    "responses of a page": _of_model("writer", "responses.json", _read_examples),
    "card on the Hub": Reader(
        "README.md", lambda folder: (folder / "README.md").write_text(README), _card_of_repository, "yaml"
    ),
    "ONNX graph": _of_model("onnx", "onnx/model.onnx", _classify, "bytes"),
    "ONNX config.json": _of_model("onnx", "config.json", _classify),
    "convert, safetensors": _of_format("hf-gpt2", "model.safetensors"),
    "convert, config.json": _of_format("hf-gpt2", "config.json", "json"),
    "convert, index": _of_format("hf-gpt2 sharded", "model.safetensors.index.json", "json"),
    "convert, torch zip": _of_format("nanogpt", "ckpt.pt"),
    "convert, book's .pth": _of_format("llms-from-scratch", "model.pth"),
    "convert, meta.pkl": _of_format("nanogpt of characters", "meta.pkl"),
    "convert, GGUF": _of_format("gguf", "model.gguf"),
    "convert, h5": _of_format("tf2-gpt2", "tf_model.h5"),
    "convert, msgpack": _of_format("flax-gpt2", "flax_model.msgpack"),
    "convert, llm.c": _of_format("llm.c", "model.bin"),
    "convert, TF index": _of_format("openai-tf", "model.ckpt.index"),
    "convert, hparams.json": _of_format("openai-tf", "hparams.json", "json"),
    "convert, hub mixin": _of_format("hub-mixin", "config.json", "json"),
    "convert, adapter_config.json": _of_format("peft-adapter", "adapter_config.json", "json"),
}
