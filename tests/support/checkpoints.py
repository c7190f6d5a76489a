"""Small checkpoints of every format, to convert or to damage. Names are spelt out here, not read from the tables."""

import json
import pickle
import shutil
import tempfile
from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import lru_cache, partial
from pathlib import Path

import pytest
import torch
import transformers
from safetensors.torch import load_file, save_file
from transformers import GPT2Config, PreTrainedModel

from hf_gpt_scratch import GPTScratchConfig, GPTScratchForCausalLM
from hf_gpt_scratch.conversion.convert import convert
from hf_gpt_scratch.conversion.export import export
from hf_gpt_scratch.conversion.gguf import export_gguf
from hf_gpt_scratch.tokenizer import train_tokenizer
from hf_gpt_scratch.utils.errors import InputError
from support import other_files


def random_weights(model: torch.nn.Module, std: float = 0.3) -> torch.nn.Module:
    """Every weight drawn at random, as fresh biases and LayerNorms are all alike and would hide a mistake."""
    generator = torch.Generator().manual_seed(0)
    for parameter in model.parameters():
        parameter.data.normal_(std=std, generator=generator)
    return model.eval()


def stock_gpt2(architecture: str = "GPT2LMHeadModel", **settings) -> PreTrainedModel:
    """A tiny stock GPT-2 with random weights."""
    shape = {"vocab_size": 100, "n_positions": 64, "n_embd": 32, "n_layer": 2, "n_head": 4}
    special = {"bos_token_id": 0, "eos_token_id": 0, "pad_token_id": 1}
    return random_weights(getattr(transformers, architecture)(GPT2Config(**{**shape, **special, **settings})))


def rewrite(folder: Path, change: Callable[[dict], dict]) -> None:
    """Saves what `change` makes of the folder's tensors."""
    save_file(change(load_file(folder / "model.safetensors")), folder / "model.safetensors", {"format": "pt"})


def set_config(folder: Path, **settings) -> None:
    config = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps({**config, **settings}))


def sharded(folder: Path, suffix: str) -> None:
    """Spreads a folder's weights over two shards, as safetensors or as pickled files."""
    tensors = load_file(folder / "model.safetensors")
    (folder / "model.safetensors").unlink()
    stem = "model" if suffix == "safetensors" else "pytorch_model"
    weight_map = {key: f"{stem}-0000{1 + 2 * i // len(tensors)}-of-00002.{suffix}" for i, key in enumerate(tensors)}
    for file in set(weight_map.values()):
        shard = {key: tensors[key] for key in tensors if weight_map[key] == file}
        save_file(shard, folder / file) if suffix == "safetensors" else torch.save(shard, folder / file)
    (folder / f"{stem}.{suffix}.index.json").write_text(json.dumps({"metadata": {}, "weight_map": weight_map}))


def pickled(folder: Path, **options) -> None:
    torch.save(load_file(folder / "model.safetensors"), folder / "pytorch_model.bin", **options)
    (folder / "model.safetensors").unlink()


def as_nanogpt(model: PreTrainedModel) -> dict:
    """A stock GPT-2's weights and sizes as nanoGPT's train.py saves them; the head is the embeddings."""
    weights = {}
    for name, tensor in model.state_dict().items():
        is_conv1d = name.endswith(("c_attn.weight", "c_proj.weight", "c_fc.weight"))
        weights[name] = tensor.t().contiguous() if is_conv1d else tensor
    config = model.config
    sizes = {name: getattr(config, name) for name in ("n_layer", "n_head", "n_embd", "vocab_size")}
    settings = {**sizes, "block_size": config.n_positions, "bias": True, "dropout": 0.1}
    return {"model": weights, "model_args": settings, "iter_num": 5, "config": {"dataset": "shakespeare"}}


def as_llms_from_scratch(model: PreTrainedModel) -> dict[str, torch.Tensor]:
    """A stock GPT-2's weights as the book's `GPTModel` names them."""
    theirs = {name.removeprefix("transformer."): tensor for name, tensor in model.state_dict().items()}
    state = {"tok_emb.weight": theirs["wte.weight"], "pos_emb.weight": theirs["wpe.weight"]}
    for i in range(model.config.n_layer):
        old, new = f"h.{i}", f"trf_blocks.{i}"
        weights, biases = theirs[f"{old}.attn.c_attn.weight"].t().chunk(3), theirs[f"{old}.attn.c_attn.bias"].chunk(3)
        for name, weight, bias in zip(("query", "key", "value"), weights, biases):
            state[f"{new}.att.W_{name}.weight"], state[f"{new}.att.W_{name}.bias"] = weight.contiguous(), bias.clone()
        for to, name in (("att.out_proj", "attn.c_proj"), ("ff.layers.0", "mlp.c_fc"), ("ff.layers.2", "mlp.c_proj")):
            state[f"{new}.{to}.weight"] = theirs[f"{old}.{name}.weight"].t().contiguous()
            state[f"{new}.{to}.bias"] = theirs[f"{old}.{name}.bias"]
        for n in (1, 2):
            state[f"{new}.norm{n}.scale"] = theirs[f"{old}.ln_{n}.weight"]
            state[f"{new}.norm{n}.shift"] = theirs[f"{old}.ln_{n}.bias"]
    state |= {"final_norm.scale": theirs["ln_f.weight"], "final_norm.shift": theirs["ln_f.bias"]}
    return {**state, "out_head.weight": theirs["wte.weight"].clone()}


def as_openai_tf(model: PreTrainedModel) -> dict:
    """A stock GPT-2's weights as OpenAI's variables; the names are those of gpt-2/src/model.py."""
    weights = {name: tensor.numpy() for name, tensor in model.transformer.state_dict().items()}
    variables = {"model/wte": weights["wte.weight"], "model/wpe": weights["wpe.weight"]}
    for i in range(model.config.n_layer):
        for norm in ("ln_1", "ln_2"):
            variables[f"model/h{i}/{norm}/g"] = weights[f"h.{i}.{norm}.weight"]
            variables[f"model/h{i}/{norm}/b"] = weights[f"h.{i}.{norm}.bias"]
        for linear in ("attn/c_attn", "attn/c_proj", "mlp/c_fc", "mlp/c_proj"):
            theirs = f"h.{i}.{linear.replace('/', '.')}"
            variables[f"model/h{i}/{linear}/w"] = weights[f"{theirs}.weight"][None]
            variables[f"model/h{i}/{linear}/b"] = weights[f"{theirs}.bias"]
    variables["model/ln_f/g"], variables["model/ln_f/b"] = weights["ln_f.weight"], weights["ln_f.bias"]
    return variables


def as_faster_book(state: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    """The book's names as its `GPTModelFast` has them: one matrix for query, key and value, torch's LayerNorm."""
    fused = {}
    for name, tensor in state.items():
        if "W_key" in name or "W_value" in name:
            continue
        if "W_query" in name:
            tensor = torch.cat([state[name.replace("query", part)] for part in ("query", "key", "value")])
        new = name.replace("W_query", "qkv").replace("att.out_proj", "att.proj")
        fused[new.replace(".scale", ".weight").replace(".shift", ".bias")] = tensor
    return fused


@dataclass
class GPTConfig:
    """The configuration that build-nanogpt's train_gpt2.py pickles into its checkpoints."""

    block_size: int
    vocab_size: int
    n_layer: int
    n_head: int
    n_embd: int


def as_build_nanogpt(model: PreTrainedModel) -> dict:
    """A stock GPT-2's weights as build-nanogpt's train_gpt2.py saves them."""
    sizes = as_nanogpt(model)["model_args"]
    config = GPTConfig(**{name: sizes[name] for name in GPTConfig.__dataclass_fields__})
    return {"model": as_nanogpt(model)["model"], "config": config, "step": 5, "val_loss": 3.5}


def require_tensorflow():
    return pytest.importorskip("tensorflow", reason="pip install 'hf-gpt-scratch[convert]'")


def save_variables(folder: Path, variables: dict, prefix: str = "model.ckpt") -> None:
    """Writes variables as OpenAI did, by the Saver of TensorFlow 1."""
    tf = require_tensorflow()
    with tf.Graph().as_default(), tf.compat.v1.Session() as session:
        made = [tf.compat.v1.Variable(value, name=name) for name, value in variables.items()]
        session.run(tf.compat.v1.global_variables_initializer())
        tf.compat.v1.train.Saver(made).save(session, str(folder / prefix))


@dataclass(frozen=True)
class Sample:
    """
    A tiny checkpoint.

    Args:
        source: its file or folder.
        files: the names of the files that say what it is.
        way: takes a source and the folder to make.
        matrix: the name of a matrix in it that is not square.
        twice: another name for the same weight, or `None` where each can have but one.
        load, save: read the tensors of its first file by name, and write that file with others.
    """

    source: Path
    files: list[str]
    way: Callable[[str, Path], object]
    matrix: str
    twice: str | None = None
    load: Callable[[Path], dict] | None = None
    save: Callable[[Path, dict], object] | None = None

    def rewrite(self, change: Callable[[dict], object]) -> None:
        """Saves the tensors again, as `change` leaves them; of a folder with shards, those of the first shard."""
        file = self.source if self.source.is_file() else self.source / self.files[0]
        if self.load and self.save:
            content = self.load(file)
            change(content)
            return self.save(file, content)
        if file.suffix == ".safetensors":
            content = load_file(file)
            change(content)
            return save_file(content, file, {"format": "pt"})
        content = torch.load(file, weights_only=False)  # our own, with a configuration
        change(content.get("model", content))
        torch.save(content, file)


TINY = {"vocab_size": 260, "n_positions": 8, "n_embd": 8, "n_layer": 2, "n_head": 2}
plainly = partial(convert, tokenizer="none")
FC = "transformer.h.0.mlp.c_fc.weight"
PROJ = "transformer.h.0.mlp.c_proj.weight"  # which no size is read from


def hf_gpt2(folder: Path, kind: str = "safetensors") -> Sample:
    stock_gpt2(**TINY).save_pretrained(folder)
    files = ["model.safetensors"]
    if kind == "bin":
        pickled(folder)
        files = ["pytorch_model.bin"]
    elif kind.startswith("sharded"):
        sharded(folder, kind.removeprefix("sharded "))
        files = sorted(path.name for path in folder.glob("*model*"))  # the shards, then the index
    content = load_file(folder / files[0]) if "safetensors" in kind else torch.load(folder / files[0])
    key = next(key for key in content if key.endswith(("c_fc.weight", "c_attn.weight")))
    return Sample(folder, [*files, "config.json"], plainly, key, key.removeprefix("transformer."))


def nanogpt(folder: Path) -> Sample:
    torch.save(as_nanogpt(stock_gpt2(**TINY)), folder / "ckpt.pt")
    return Sample(folder / "ckpt.pt", ["ckpt.pt"], plainly, FC, f"_orig_mod.{FC}")


def llms_from_scratch(folder: Path) -> Sample:
    torch.save(as_llms_from_scratch(stock_gpt2(**TINY)), folder / "model.pth")
    name = "trf_blocks.0.ff.layers.2.weight"
    return Sample(folder / "model.pth", ["model.pth"], partial(plainly, n_head=2), name, f"module.{name}")


def build_nanogpt(folder: Path) -> Sample:
    torch.save(as_build_nanogpt(stock_gpt2(**TINY)), folder / "model_00005.pt")
    return Sample(folder / "model_00005.pt", ["model_00005.pt"], plainly, FC, f"_orig_mod.{FC}")


def characters(folder: Path) -> Sample:
    stoi = {chr(32 + i): i for i in range(TINY["vocab_size"])}
    meta = {"vocab_size": len(stoi), "itos": {i: character for character, i in stoi.items()}, "stoi": stoi}
    (folder / "meta.pkl").write_bytes(pickle.dumps(meta))
    return replace(nanogpt(folder), files=["meta.pkl", "ckpt.pt"], way=convert)


def state_dict(folder: Path) -> Sample:
    torch.save(as_nanogpt(stock_gpt2(**TINY))["model"], folder / "model.pt")
    return Sample(folder / "model.pt", ["model.pt"], partial(plainly, n_head=2), PROJ, f"module.{PROJ}")


def faster_book(folder: Path) -> Sample:
    save_file(as_faster_book(as_llms_from_scratch(stock_gpt2(**TINY))), folder / "gpt.safetensors")
    name = "trf_blocks.0.att.qkv.weight"
    return Sample(folder / "gpt.safetensors", ["gpt.safetensors"], partial(plainly, n_head=2), name, f"module.{name}")


def hub_mixin(folder: Path) -> Sample:
    weights = as_nanogpt(stock_gpt2(**TINY))["model"]
    save_file({name: tensor for name, tensor in weights.items() if "wte" not in name}, folder / "model.safetensors")
    (folder / "config.json").write_text(json.dumps({"config": {"n_head": 2, "block_size": 8}}))
    return Sample(folder, ["model.safetensors", "config.json"], plainly, PROJ, f"module.{PROJ}")


def peft_adapter(folder: Path) -> Sample:
    stock_gpt2(**TINY).save_pretrained(folder / "base")
    settings = {"peft_type": "LORA", "task_type": "CAUSAL_LM", "r": 3, "lora_alpha": 6, "fan_in_fan_out": True}
    settings |= {"base_model_name_or_path": str(folder / "base"), "target_modules": ["c_attn"], "bias": "none"}
    (folder / "adapter_config.json").write_text(json.dumps(settings))
    generator = torch.Generator().manual_seed(1)
    name = "base_model.model.transformer.h.{}.attn.c_attn.lora_{}.weight"
    shapes = {"A": (3, 8), "B": (24, 3)}
    weights = {name.format(i, part): torch.randn(shapes[part], generator=generator) for i in (0, 1) for part in "AB"}
    save_file(weights, folder / "adapter_model.safetensors", {"format": "pt"})
    return Sample(folder, ["adapter_model.safetensors", "adapter_config.json"], plainly, name.format(0, "B"))


def openai_tf(folder: Path, prefix: str = "model.ckpt") -> Sample:
    def load(path: Path) -> dict[str, torch.Tensor]:
        reader = require_tensorflow().train.load_checkpoint(str(path.parent / prefix))
        return {name: torch.from_numpy(reader.get_tensor(name)) for name in reader.get_variable_to_shape_map()}

    def save(path: Path, content: dict[str, torch.Tensor]) -> None:
        save_variables(path.parent, {name: tensor.numpy() for name, tensor in content.items()}, prefix)

    save_variables(folder, as_openai_tf(stock_gpt2(**TINY)), prefix)
    names = {"n_vocab": "vocab_size", "n_ctx": "n_positions", "n_embd": "n_embd", "n_head": "n_head"}
    settings = {theirs: TINY[ours] for theirs, ours in {**names, "n_layer": "n_layer"}.items()}
    (folder / "hparams.json").write_text(json.dumps(settings))
    files = [f"{prefix}.index", f"{prefix}.data-00000-of-00001", "hparams.json"]
    return Sample(folder, files, plainly, "model/h0/mlp/c_fc/w", "model.h0/mlp/c_fc/w", load, save)


def gguf(folder: Path) -> Sample:
    model, tokenizer = stock_gpt2(**TINY), train_tokenizer(["a few words"] * 5, TINY["vocab_size"])
    save = partial(other_files.save_gguf, config=model.config, tokenizer=tokenizer)
    save(folder / "model.gguf", other_files.as_gguf(model))
    name = "blk.0.ffn_up.weight"
    return Sample(folder / "model.gguf", ["model.gguf"], convert, name, load=other_files.load_gguf, save=save)


def tf2_gpt2(folder: Path) -> Sample:
    model = stock_gpt2(**TINY)
    model.config.save_pretrained(folder)
    variables = other_files.as_tf2(model)
    other_files.save_h5(folder / "tf_model.h5", variables)
    name = next(name for name in variables if "h_._0/mlp/c_fc/weight" in name)
    twice = name.replace("tfgp_t2lm_head_model", "tfgpt2lm_head_model")
    load, save = other_files.load_h5, other_files.save_h5
    return Sample(folder, ["tf_model.h5", "config.json"], plainly, name, twice, load, save)


def flax_gpt2(folder: Path) -> Sample:
    model = stock_gpt2(**TINY)
    model.config.save_pretrained(folder)
    other_files.save_flax(folder / "flax_model.msgpack", other_files.as_flax(model))
    files, name = ["flax_model.msgpack", "config.json"], "transformer.h.0.mlp.c_fc.kernel"
    return Sample(folder, files, plainly, name, load=other_files.load_flax, save=other_files.save_flax)


def llm_c(folder: Path) -> Sample:
    model = stock_gpt2(**TINY)
    parameters = other_files.as_llm_c(model)

    kinds = {name: (tensor.shape, tensor.dtype) for name, tensor in parameters.items()}

    def save(path: Path, changed: dict[str, torch.Tensor]) -> None:
        if {name: (tensor.shape, tensor.dtype) for name, tensor in changed.items()} != kinds:
            pytest.skip("the file holds neither names nor shapes nor types")
        other_files.save_llm_c(path, changed, model.config)

    def load(path: Path) -> dict[str, torch.Tensor]:
        return {name: tensor.clone() for name, tensor in parameters.items()}

    save(folder / "model.bin", parameters)
    return Sample(folder / "model.bin", ["model.bin"], plainly, "fcw", load=load, save=save)


def native(folder: Path, way: Callable, kind: str = "safetensors") -> Sample:
    if way is export_gguf:
        pytest.importorskip("gguf", reason="pip install -e '.[convert]'")
    tokenizer = train_tokenizer(["a few words"] * 5, TINY["vocab_size"])
    special = {name: getattr(tokenizer, name) for name in ("bos_token_id", "eos_token_id", "pad_token_id")}
    random_weights(GPTScratchForCausalLM(GPTScratchConfig(**TINY, **special))).save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    if kind == "bin":
        pickled(folder)
    weights = "model.safetensors" if kind == "safetensors" else "pytorch_model.bin"
    files = [weights, "config.json", "tokenizer.json", *(["generation_config.json"] if way is export else [])]
    return Sample(folder, files, way, "transformer.h.0.mlp.fc_in.weight")


# Every format and, for those of folders, every way its weights are kept.
SAMPLES: dict[str, Callable[[Path], Sample]] = {
    "hf-gpt2": hf_gpt2,
    "hf-gpt2 sharded": partial(hf_gpt2, kind="sharded safetensors"),
    "hf-gpt2 bin": partial(hf_gpt2, kind="bin"),
    "hf-gpt2 sharded bin": partial(hf_gpt2, kind="sharded bin"),
    "nanogpt": nanogpt,
    "llms-from-scratch": llms_from_scratch,
    "build-nanogpt": build_nanogpt,
    "nanogpt of characters": characters,
    "gpt2-state-dict": state_dict,
    "llms-from-scratch, faster, safetensors": faster_book,
    "hub-mixin": hub_mixin,
    "peft-adapter": peft_adapter,
    "openai-tf": openai_tf,
    "gpt-2-simple": partial(openai_tf, prefix="model-1000"),
    "gguf": gguf,
    "tf2-gpt2": tf2_gpt2,
    "flax-gpt2": flax_gpt2,
    "llm.c": llm_c,
    "ours to hf-gpt2": partial(native, way=export),
    "ours, bin, to hf-gpt2": partial(native, way=export, kind="bin"),
    "ours to gguf": partial(native, way=export_gguf),
}


@lru_cache
def _original(name: str) -> tuple[tempfile.TemporaryDirectory, Sample]:
    home = tempfile.TemporaryDirectory()
    return home, SAMPLES[name](Path(home.name))


def make_sample(name: str, folder: Path) -> Sample:
    """One of `SAMPLES` in a new folder; it is made once and copied."""
    home, sample = _original(name)
    shutil.copytree(home.name, folder)
    return replace(sample, source=folder / sample.source.relative_to(home.name))


def assert_refused(source: Path, complaint: str, way: Callable = convert) -> None:
    """That `way` ends in one sentence, with `complaint` in it, and leaves everything beside `source` as it was."""
    before = {path: path.stat().st_mtime_ns for path in source.parent.rglob("*")}
    with pytest.raises(InputError, match=complaint) as refusal:
        way(str(source), source.parent / "out")
    assert "\n" not in str(refusal.value)
    assert {path: path.stat().st_mtime_ns for path in source.parent.rglob("*")} == before
