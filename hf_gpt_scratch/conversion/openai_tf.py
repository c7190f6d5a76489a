"""
The TensorFlow checkpoint of GPT-2 as OpenAI published it: a folder of seven files, `FILES`; or as gpt-2-simple and
other trainers in TensorFlow 1 save it: `model-1000.index` and so on, of which the file `checkpoint` names the newest.

Source: OpenAI's `gpt-2/src/model.py`. The variables are `model/wte`, `model/h0/attn/c_attn/w` and so on; here a dot
stands for every slash. Matrices are convolutions of width one, `(1, in, out)`; query, key and value are one matrix;
the output head is the token embeddings. The sizes are in `hparams.json`.
"""

import os
import re
from collections.abc import Container
from pathlib import Path

import torch

from ..utils.errors import InputError
from ..utils.files import read_json
from ..utils.requirements import require_package
from .independent_forward import Arithmetic
from .key_map import QKV, KeyMapping, expand
from .source import Renamed, Source, Tensors, check_depth, key_of_names, make_config

NAME = "GPT-2 of OpenAI in TensorFlow"

PREFIX = "model.ckpt"
FILES = (
    *("hparams.json", "encoder.json", "vocab.bpe"),
    *("checkpoint", f"{PREFIX}.index", f"{PREFIX}.meta", f"{PREFIX}.data-00000-of-00001"),
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


# What optimizers of TensorFlow 1 keep for each variable, and for all
SLOT = re.compile(r"(.+)/(Adam|Adam_1|Momentum|RMSProp|RMSProp_1)")
OF_TRAINING = ("beta1_power", "beta2_power", "global_step")


def accepts(path: Path, content: object) -> bool:
    """Whether it is a folder with `hparams.json`, or one of the `.index` files in such a folder."""
    folder = path.parent if path.suffix == ".index" and path.is_file() else path
    return (folder / "hparams.json").is_file()


def open_source(path: Path, content: None = None) -> Source:
    """
    Opens a folder of OpenAI's files, or of gpt-2-simple's, or the `.index` file of one of several checkpoints in it.
    Files that hold neither sizes nor weights may be missing.

    Raises:
        InputError: when TensorFlow is not installed, a file is missing or damaged, the settings are not whole numbers,
            a matrix is not `(1, in, out)`, or nothing says which of several checkpoints is the newest.
    """
    folder, prefix, notes = (path.parent, path.stem, []) if path.is_file() else (path, *_newest(path))
    for name in ("hparams.json", f"{prefix}.index", f"{prefix}.data-00000-of-00001"):
        if not (folder / name).is_file():
            raise InputError(f"{folder} lacks {name}, one of the files that OpenAI published with each GPT-2.")
    config = make_config(folder / "hparams.json", **_read_settings(folder / "hparams.json"))
    variables = Variables(folder / prefix)
    check_depth(folder, config.n_layer, variables)
    # The arithmetic of the proof joins names by dots.
    weights = [name for name in variables.shapes if not _is_of_training(name, variables.shapes)]
    if left_out := len(variables.shapes) - len(weights):
        notes.append(f"{left_out} variables of the optimizer in {folder / prefix} are left out.")
    key_of = key_of_names(weights, lambda key: key.replace("/", "."))
    has_tokenizer = all((folder / name).is_file() for name in TOKENIZER_FILES)
    files = [name.replace(PREFIX, prefix) for name in FILES]
    return Source(
        format=NAME if prefix == PREFIX else f"{NAME}, {prefix}",
        config=config,
        architecture="GPTScratchForCausalLM",
        key_map=expand(TABLE, config.n_layer),
        tensors=Matrices(folder, Renamed(variables, key_of)),
        arithmetic=ARITHMETIC,
        files=[folder / name for name in files if (folder / name).is_file()],
        folder=folder if has_tokenizer else None,
        notes=tuple(notes),
    )


def _newest(folder: Path) -> tuple[str, list[str]]:
    """
    What the names of the newest checkpoint's files begin with, by the file `checkpoint`, and what to note.

    Raises:
        InputError: when there are several and that file names none of them.
    """
    found = sorted(path.stem for path in folder.glob("*.index"))
    named = _named_in(folder / "checkpoint")
    if named in found:
        others = ", ".join(name for name in found if name != named)
        note = f"{named} is the newest of the checkpoints in {folder} by its file `checkpoint`; not taken: {others}."
        return named, [note] if others else []
    if len(found) > 1:
        raise InputError(
            f"{folder} holds the checkpoints {', '.join(found)}, and no file `checkpoint` that says which is the"
            f" newest: give the path of one, such as {folder / found[-1]}.index."
        )
    if found and named:
        return found[0], [f"{folder / 'checkpoint'} names {named}, which is not there; {found[0]} was taken."]
    return (*found, named or PREFIX)[0], []


def _named_in(path: Path) -> str | None:
    """The checkpoint named in a file `checkpoint`, a line such as `model_checkpoint_path: "model-1000"`."""
    text = path.read_text(encoding="utf-8", errors="replace") if path.is_file() else ""
    line = re.search(r'^model_checkpoint_path: "(?:.*[/\\])?([^/\\"]+)"', text, re.MULTILINE)
    return line and line[1]


def _is_of_training(name: str, names: Container[str]) -> bool:
    slot = SLOT.fullmatch(name)
    return name in OF_TRAINING or (slot is not None and slot[1] in names)


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
