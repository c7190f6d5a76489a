"""Files of other kinds than torch's, each written by its own tool or as its source says. Names are spelt out here."""

import json
import struct
from pathlib import Path

import pytest
import torch
from transformers import PreTrainedModel, PreTrainedTokenizerBase

NORMS, LINEARS = ("ln_1", "ln_2"), ("attn.c_attn", "attn.c_proj", "mlp.c_fc", "mlp.c_proj")
GGUF_NAMES = {
    "wte": "token_embd",
    "wpe": "position_embd",
    "ln_f": "output_norm",
    "ln_1": "attn_norm",
    "attn.c_attn": "attn_qkv",
    "attn.c_proj": "attn_output",
    "ln_2": "ffn_norm",
    "mlp.c_fc": "ffn_up",
    "mlp.c_proj": "ffn_down",
}


def out_in(model: PreTrainedModel) -> dict[str, torch.Tensor]:
    """A stock GPT-2's weights without `transformer.`, its matrices `(out, in)`, and no output head."""
    weights = {name.removeprefix("transformer."): tensor for name, tensor in model.state_dict().items()}
    weights.pop("lm_head.weight", None)
    is_conv1d = tuple(f"{linear}.weight" for linear in LINEARS)
    return {name: w.t().contiguous() if name.endswith(is_conv1d) else w for name, w in weights.items()}


def as_gguf(model: PreTrainedModel) -> dict[str, torch.Tensor]:
    """A stock GPT-2's weights as llama.cpp names them (`MODEL_ARCH.GPT2` in the gguf package's constants.py)."""
    tensors = {}
    for name, tensor in out_in(model).items():
        part = name.rpartition(".")[2]
        block, bare = name.split(".", 2)[1:] if name.startswith("h.") else (None, name)
        theirs = GGUF_NAMES[bare.removesuffix(f".{part}")]
        tensors[f"{'' if block is None else f'blk.{block}.'}{theirs}.{part}"] = tensor
    return tensors


def save_gguf(
    path: Path,
    tensors: dict[str, torch.Tensor],
    config,
    tokenizer: PreTrainedTokenizerBase | None,
    dtype: str = "F32",
    **settings,
) -> None:
    """
    Writes a GGUF by the gguf package's writer: matrices in `dtype`, all else F32, as llama.cpp's converter does.

    Args:
        settings: other or additional ones, with `__` for a dot; `None` leaves one out.
    """
    gguf = pytest.importorskip("gguf", reason="pip install -e '.[convert]'")
    values = {
        "gpt2.context_length": config.n_positions,
        "gpt2.embedding_length": config.n_embd,
        "gpt2.feed_forward_length": config.n_inner or 4 * config.n_embd,
        "gpt2.block_count": config.n_layer,
        "gpt2.attention.head_count": config.n_head,
        "gpt2.attention.layer_norm_epsilon": config.layer_norm_epsilon,
        **({} if tokenizer is None else _tokenizer_settings(tokenizer)),
        **{name.replace("__", "."): value for name, value in settings.items()},
    }
    writer = gguf.GGUFWriter(path, values.pop("general.architecture", "gpt2"))
    for name, value in values.items():
        add = {bool: writer.add_bool, int: writer.add_uint32, float: writer.add_float32, str: writer.add_string}
        if value is not None:
            add.get(type(value), writer.add_array)(name, value)
    for name, tensor in tensors.items():
        array = tensor.float().numpy() if tensor.is_floating_point() else tensor.numpy()
        if tensor.dim() == 2 and name != "position_embd.weight" and dtype != "F32" and tensor.is_floating_point():
            kind = gguf.GGMLQuantizationType[dtype]
            writer.add_tensor(name, gguf.quantize(array, kind), raw_dtype=kind)
        else:
            writer.add_tensor(name, array)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()


def load_gguf(path: Path) -> dict[str, torch.Tensor]:
    """The tensors of a file that is all F32."""
    import gguf

    return {one.name: torch.from_numpy(one.data.copy()) for one in gguf.GGUFReader(path).tensors}


def _tokenizer_settings(tokenizer: PreTrainedTokenizerBase) -> dict:
    parts = json.loads(tokenizer.backend_tokenizer.to_str())
    token_of = {number: token for token, number in tokenizer.get_vocab().items()}
    special = {token["id"] for token in parts["added_tokens"]}
    return {
        "tokenizer.ggml.model": "gpt2",
        "tokenizer.ggml.pre": "gpt-2",
        "tokenizer.ggml.tokens": [token_of[number] for number in sorted(token_of)],
        "tokenizer.ggml.token_type": [3 if number in special else 1 for number in sorted(token_of)],
        "tokenizer.ggml.merges": [" ".join(merge) for merge in parts["model"]["merges"]],
        "tokenizer.ggml.eos_token_id": tokenizer.eos_token_id,
        "tokenizer.ggml.padding_token_id": tokenizer.pad_token_id,
    }


def as_tf2(
    model: PreTrainedModel, prefix: str = "transformer/tfgp_t2lm_head_model", embeddings: str = "weight"
) -> dict:
    """
    A stock GPT-2's weights as TFGPT2's variables, under the paths that transformers 4 gives them in `tf_model.h5`.

    Args:
        prefix: what is before the last `transformer`, which depends on the version and the class.
        embeddings: what the token embeddings' variable is called; "embeddings" in the last versions.
    """
    variables = {}
    for name, tensor in model.state_dict().items():
        *names, part = name.removeprefix("transformer.").split(".")
        if names == ["lm_head"]:
            continue
        path = "/".join(names).replace("h/", "h_._", 1) if names[0] == "h" else names[0]
        if names[-1].startswith("ln_"):
            part = {"weight": "gamma", "bias": "beta"}[part]
        elif names[-1] in ("wte", "wpe"):
            part = embeddings if names[-1] == "wte" else "embeddings"
        elif part == "bias":
            tensor = tensor[None]
        if names == ["score"]:
            variables["score/score/kernel:0"] = tensor.t().contiguous()
        else:
            variables[f"{prefix}/transformer/{path}/{part}:0"] = tensor
    return variables


def save_h5(path: Path, variables: dict[str, torch.Tensor]) -> None:
    """Writes variables as Keras' `save_weights` does, by h5py: a dataset each, and lists of names as attributes."""
    h5py = pytest.importorskip("h5py", reason="pip install -e '.[convert]'")
    with h5py.File(path, "w") as file:
        layers = sorted({name.split("/")[0] for name in variables if "/" in name})
        for name in variables.keys() - {name for name in variables if "/" in name}:
            file.create_dataset(name, data=variables[name].numpy())
        file.attrs["layer_names"], file.attrs["backend"] = layers, "tensorflow"
        for layer in layers:
            names = [name for name in variables if name.startswith(f"{layer}/")]
            group = file.create_group(layer)
            group.attrs["weight_names"] = [name.removeprefix(f"{layer}/") for name in names]
            for name in names:
                group.create_dataset(name.removeprefix(f"{layer}/"), data=variables[name].numpy())


def load_h5(path: Path) -> dict[str, torch.Tensor]:
    import h5py

    variables = {}
    with h5py.File(path) as file:
        file.visititems(
            lambda name, entry: (
                variables.update({name: torch.from_numpy(entry[()])}) if isinstance(entry, h5py.Dataset) else None
            )
        )
    return variables


def as_flax(model: PreTrainedModel) -> dict[str, torch.Tensor]:
    """A stock GPT-2's weights as FlaxGPT2 names them, its linear layers' matrices `(out, in)`."""
    arrays = {}
    for name, tensor in model.state_dict().items():
        *names, part = name.split(".")
        kind = names[-1][:3]
        if part == "weight":
            part = "embedding" if kind in ("wte", "wpe") else "scale" if kind == "ln_" else "kernel"
        if name == "lm_head.weight" and model.config.tie_word_embeddings:
            continue
        arrays[".".join([*names, part])] = tensor.t().contiguous() if part == "kernel" else tensor
    return arrays


def nested(arrays: dict[str, torch.Tensor]) -> dict:
    """Names with dots as maps in maps."""
    top: dict = {}
    for name, array in arrays.items():
        *names, last = name.split(".")
        place = top
        for one in names:
            place = place.setdefault(one, {})
        place[last] = array
    return top


def save_flax(path: Path, arrays: dict[str, torch.Tensor], largest: int = 2**30) -> None:
    """
    Writes arrays as flax's serialization.py does: extension type 1, in pieces where they have more bytes than
    `largest`; test_flax_gpt2.py compares the bytes with flax's own.
    """
    msgpack = pytest.importorskip("msgpack", reason="pip install -e '.[convert]'")

    def entry(tensor: torch.Tensor):
        kind = str(tensor.dtype).removeprefix("torch.")
        values = tensor.contiguous().view(-1).view(torch.uint8).numpy().tobytes()
        content = msgpack.packb((tuple(tensor.shape), kind, values), use_bin_type=True)
        return msgpack.ExtType(1, content)

    def packed(value):
        if isinstance(value, dict):
            return {name: packed(one) for name, one in value.items()}
        if value.nbytes <= largest:
            return entry(value)
        pieces = value.reshape(-1).split(max(1, largest // value.itemsize))
        sizes = {str(i): size for i, size in enumerate(value.shape)}
        chunks = {str(i): entry(piece) for i, piece in enumerate(pieces)}
        return {"__msgpack_chunked_array__": True, "shape": sizes, "chunks": chunks}

    path.write_bytes(msgpack.packb(packed(nested(arrays)), strict_types=True))


def load_flax(path: Path) -> dict[str, torch.Tensor]:
    """The arrays of a file without pieces."""
    import msgpack

    def array(code: int, content: bytes) -> torch.Tensor:
        shape, kind, values = msgpack.unpackb(content)
        return torch.frombuffer(bytearray(values), dtype=getattr(torch, kind)).reshape(shape)

    def flat(content, prefix=""):
        for name, value in content.items():
            yield from flat(value, f"{prefix}{name}.") if isinstance(value, dict) else [(prefix + name, value)]

    return dict(flat(msgpack.unpackb(path.read_bytes(), ext_hook=array)))


# llm.c's parameters after the embeddings, in the file's order, each of all blocks
LLM_C = {
    "ln1": "ln_1",
    "qkv": "attn.c_attn",
    "attproj": "attn.c_proj",
    "ln2": "ln_2",
    "fc": "mlp.c_fc",
    "fcproj": "mlp.c_proj",
}


def as_llm_c(model: PreTrainedModel) -> dict[str, torch.Tensor]:
    """A stock GPT-2's weights as llm.c's parameters, in the order of its `write_tensors`; those of blocks joined."""
    weights = out_in(model)
    parameters = {"wte": weights["wte.weight"], "wpe": weights["wpe.weight"]}
    for theirs, name in LLM_C.items():
        for letter, part in (("w", "weight"), ("b", "bias")):
            blocks = [weights[f"h.{i}.{name}.{part}"] for i in range(model.config.n_layer)]
            parameters[theirs + letter] = torch.stack(blocks)
    return {**parameters, "lnfw": weights["ln_f.weight"], "lnfb": weights["ln_f.bias"]}


def save_llm_c(path: Path, parameters: dict[str, torch.Tensor], config, bfloat16: bool = False, **header) -> None:
    """
    Writes what llm.c's `write_model` does: 256 whole numbers and the parameters, the vocabulary rounded up to 128.

    Args:
        header: other numbers for the header's places, such as `n7=50304`.
    """
    sizes = [config.n_positions, config.vocab_size, config.n_layer, config.n_head, config.n_embd]
    rows = -config.vocab_size % 128
    numbers = [20240326, 5 if bfloat16 else 3, *sizes, config.vocab_size + rows]
    numbers += [0] * (256 - len(numbers))
    for place, number in header.items():
        numbers[int(place[1:])] = number
    filled = {**parameters, "wte": torch.nn.functional.pad(parameters["wte"], (0, 0, 0, rows), value=7.0)}
    dtype = torch.bfloat16 if bfloat16 else torch.float32
    values = [tensor.to(dtype).reshape(-1).view(torch.uint8).numpy().tobytes() for tensor in filled.values()]
    path.write_bytes(struct.pack("<256i", *numbers) + b"".join(values))
