"""
The TensorFlow checkpoint of GPT-2 as OpenAI published it: a folder of seven files, `FILES`.

Source: OpenAI's `gpt-2/src/model.py`. The variables are `model/wte`, `model/h0/attn/c_attn/w` and so on; here a dot
stands for every slash. Matrices are convolutions of width one, `(1, in, out)`; query, key and value are one matrix;
the output head is the token embeddings. The sizes are in `hparams.json`.
"""

import os
from pathlib import Path

import torch

from ..utils.errors import InputError
from ..utils.files import read_json
from ..utils.requirements import require_package
from .independent_forward import Arithmetic
from .key_map import QKV, KeyMapping, expand
from .source import Renamed, Source, Tensors, check_depth, key_of_names, make_config

NAME = "GPT-2 of OpenAI in TensorFlow"

FILES = (
    *("hparams.json", "encoder.json", "vocab.bpe"),
    *("checkpoint", "model.ckpt.index", "model.ckpt.meta", "model.ckpt.data-00000-of-00001"),
)
DTYPES = {"float16": torch.float16, "float32": torch.float32, "float64": torch.float64}
TOKENIZER_FILES = ("encoder.json", "vocab.bpe")

LINEARS = {
    "attn.c_attn": tuple(f"attn.{name}" for name in QKV),
    "attn.c_proj": ("attn.o_proj",),
    "mlp.c_fc": ("mlp.fc_in",),
    "mlp.c_proj": ("mlp.fc_out",),
}
TABLE = (
    KeyMapping("model.wte", ("transformer.wte.weight",)),
    KeyMapping("model.wpe", ("transformer.wpe.weight",)),
    *(
        KeyMapping(f"model.{norm}.{theirs}", (f"transformer.{ours}.{part}",))
        for norm, ours in (("h{i}.ln_1", "h.{i}.ln_1"), ("h{i}.ln_2", "h.{i}.ln_2"), ("ln_f", "ln_f"))
        for theirs, part in (("g", "weight"), ("b", "bias"))
    ),
    *(
        KeyMapping(
            f"model.h{{i}}.{theirs}.w", tuple(f"transformer.h.{{i}}.{name}.weight" for name in ours), transpose=True
        )
        for theirs, ours in LINEARS.items()
    ),
    *(
        KeyMapping(f"model.h{{i}}.{theirs}.b", tuple(f"transformer.h.{{i}}.{name}.bias" for name in ours))
        for theirs, ours in LINEARS.items()
    ),
)
ARITHMETIC = Arithmetic(
    token_embedding="model.wte",
    position_embedding="model.wpe",
    attention_norm="model.h{i}.ln_1",
    query_key_value=("model.h{i}.attn.c_attn",),
    attention_output="model.h{i}.attn.c_proj",
    mlp_norm="model.h{i}.ln_2",
    mlp_in="model.h{i}.mlp.c_fc",
    mlp_out="model.h{i}.mlp.c_proj",
    final_norm="model.ln_f",
    head="model.wte",
    in_out=True,
    norm=("g", "b"),
    linear=("w", "b"),
)


def accepts(path: Path, content: object) -> bool:
    """Whether it is a folder with `hparams.json`."""
    return (path / "hparams.json").is_file()


def open_source(folder: Path, content: None = None) -> Source:
    """
    Opens a folder of OpenAI's files. Those that hold neither sizes nor weights may be missing.

    Raises:
        InputError: when TensorFlow is not installed, a file is missing or damaged, the settings are not whole numbers,
            or a matrix is not `(1, in, out)`.
    """
    for name in ("hparams.json", "model.ckpt.index", "model.ckpt.data-00000-of-00001"):
        if not (folder / name).is_file():
            raise InputError(f"{folder} lacks {name}, one of the files that OpenAI published with each GPT-2.")
    config = make_config(folder / "hparams.json", **_read_settings(folder / "hparams.json"))
    variables = Variables(folder / "model.ckpt")
    check_depth(folder, config.n_layer, variables)
    # The arithmetic of the proof joins names by dots.
    named = Renamed(variables, key_of_names(variables.shapes, lambda key: key.replace("/", ".")))
    has_tokenizer = all((folder / name).is_file() for name in TOKENIZER_FILES)
    return Source(
        format=NAME,
        config=config,
        architecture="GPTScratchForCausalLM",
        key_map=expand(TABLE, config.n_layer),
        tensors=Matrices(folder, named),
        arithmetic=ARITHMETIC,
        files=[folder / name for name in FILES if (folder / name).is_file()],
        folder=folder if has_tokenizer else None,
    )


def _read_settings(path: Path) -> dict[str, int]:
    """The sizes in `hparams.json`, under our names for them."""
    names = {"n_vocab": "vocab_size", "n_ctx": "n_positions"}
    names |= {name: name for name in ("n_embd", "n_head", "n_layer")}
    settings = read_json(path)
    if not isinstance(settings, dict) or any(
        type(settings.get(name)) is not int or settings[name] < 1 for name in names
    ):
        raise InputError(f"{path} must hold whole numbers above 0 for {', '.join(names)}.")
    return {ours: settings[theirs] for theirs, ours in names.items()}


class Variables:
    """
    The variables of a TensorFlow checkpoint, such as `FOLDER/model.ckpt`, each read when it is asked for.

    Raises:
        InputError: when TensorFlow is not installed, or the files are damaged; each variable has a checksum in them.
    """

    def __init__(self, prefix: Path):
        # It reports on the processor otherwise, and on arithmetic that nobody does with it here.
        os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")
        os.environ.setdefault("TF_ENABLE_ONEDNN_OPTS", "0")
        require_package("tensorflow", "convert", f"Reading {prefix}")
        import tensorflow

        self._prefix = prefix
        try:
            self._reader = tensorflow.train.load_checkpoint(str(prefix))
            shapes = self._reader.get_variable_to_shape_map()
            types = self._reader.get_variable_to_dtype_map()
        except Exception as error:  # of TensorFlow, of the code below it
            raise self._damaged(error) from None
        self.shapes = {name: tuple(shape) for name, shape in sorted(shapes.items())}
        self.dtypes = {name: DTYPES.get(types[name].name) for name in self.shapes}

    def __getitem__(self, name: str) -> torch.Tensor:
        try:
            return torch.from_numpy(self._reader.get_tensor(name))
        except Exception as error:
            raise self._damaged(error) from None

    def _damaged(self, error: Exception) -> InputError:
        reason = str(error).strip().partition("\n")[0] or type(error).__name__
        return InputError(f"{self._prefix} is damaged or cut short ({reason}).")


class Matrices:
    """
    Tensors whose matrices have lost their leading 1: `(1, in, out)` became `(in, out)`.

    Raises:
        InputError: naming every matrix of another shape.
    """

    def __init__(self, folder: Path, tensors: Tensors):
        matrices = {name: shape for name, shape in tensors.shapes.items() if name.endswith(".w")}
        others = [f"{name} {list(shape)}" for name, shape in matrices.items() if len(shape) != 3 or shape[0] != 1]
        if others:
            raise InputError(
                f"Matrices in {folder} must have the shape [1, in, out], but these do not: {', '.join(others)}."
            )
        self.shapes = {**tensors.shapes, **{name: shape[1:] for name, shape in matrices.items()}}
        self.dtypes, self._tensors = tensors.dtypes, tensors

    def __getitem__(self, name: str) -> torch.Tensor:
        return self._tensors[name].reshape(self.shapes[name])
