"""
Kinds of files: those that hold a model but are not converted, each told by name, with what makes of it a file that is.

Which torch files are refused, by the names of their tensors, is another table, beside the formats that read them.
"""

import json
import zipfile
from collections.abc import Iterator
from dataclasses import dataclass
from fnmatch import fnmatch
from pathlib import Path

from ..model_folder.weight_files import ORDER
from ..utils.errors import InputError

# Files that make a folder one that is read, whatever else is in it
READ = (*ORDER, "hparams.json", "adapter_config.json")
READ_WITH_CONFIG = ("tf_model.h5", "flax_model.msgpack")
MAYBE_WEIGHTS = ("config.json", "*.safetensors", "*.bin", "*.pt", "*.pth", "*.ckpt*")
LONGEST_HEADER = 10**8  # of safetensors, by its own rule


@dataclass(frozen=True)
class Kind:
    """
    A row of the table.

    Args:
        what: what it is, in words.
        advice: what to do with it.
        names: patterns of the names of its files, or of the files and folders in its folder.
        begins: what a file may be told by: the place of some bytes in it, and the bytes.
        member: a pattern of the name of a file inside it, where it is a zip archive.
    """

    what: str
    advice: str
    names: tuple[str, ...] = ()
    begins: tuple[tuple[int, bytes], ...] = ()
    member: str | None = None


ORIGINAL = "convert the model that it was made from"
KINDS = (
    Kind(
        "a pointer of Git LFS in the place of a file",
        "run `git lfs pull` in its folder",
        begins=((0, b"version https://git-lfs"),),
    ),
    Kind(
        "weights of a Keras model",
        "make a model folder of it with KerasHub's export_to_transformers, and convert that",
        ("*.weights.h5", "*.keras"),
        member="*.weights.h5",
    ),
    Kind(
        "one part of several weights of TensorFlow or Flax",
        "load the folder with transformers 4, and save it whole as model.safetensors",
        ("tf_model.h5.index.json", "flax_model.msgpack.index.json", "tf_model-*-of-*.h5", "flax_model-*-of-*.msgpack"),
    ),
    Kind(
        "weights whose sizes are in the config.json beside them",
        "give the folder that holds both",
        ("tf_model.h5", "flax_model.msgpack"),
    ),
    Kind("an ONNX graph", ORIGINAL, ("*.onnx", "*.onnx_data")),
    Kind("an MLX model", f"{ORIGINAL}, which its README names", ("*.npz",), member="*.npy"),
    Kind("a Core ML model", ORIGINAL, ("*.mlpackage", "*.mlmodel", "*.mlmodelc")),
    Kind("a TensorFlow Lite model", ORIGINAL, ("*.tflite",), ((4, b"TFL3"),)),
    Kind("an OpenVINO model", ORIGINAL, ("openvino_model*",)),
    Kind(
        "a SavedModel of TensorFlow",
        "load it in TensorFlow and save the checkpoint or the weights that it was made from",
        ("saved_model.pb", "*.pb"),
    ),
    Kind(
        "a TorchScript program",
        "if you trust it, save its weights with torch.save(torch.jit.load(FILE).state_dict(), 'model.pth') and"
        " convert those",
        ("*.torchscript", "*.ptl"),
        member="*/constants.pkl",
    ),
    Kind("weights of rust-bert", ORIGINAL, ("*.ot",)),
    Kind(
        "a sharded checkpoint of DeepSpeed",
        "run `python zero_to_fp32.py . OUT` in its folder, and convert what it writes",
        ("zero_to_fp32.py", "global_step*", "*mp_rank_*_model_states.pt", "*zero_pp_rank_*"),
    ),
    Kind(
        "a checkpoint of Megatron-LM",
        "make a model folder of it with convert_megatron_gpt2_checkpoint.py of transformers 4, and convert that",
        ("latest_checkpointed_iteration.txt", "model_optim_rng.pt", "mp_rank_[0-9]*"),
    ),
    Kind(
        "a sharded checkpoint of torch.distributed (FSDP)",
        "join it with `python -m torch.distributed.checkpoint.format_utils dcp_to_torch DIR model.pth`, and convert"
        " that",
        ("*.distcp", "pytorch_model_fsdp_*"),
    ),
    Kind(
        "a checkpoint of Orbax (JAX)",
        "restore it with orbax.checkpoint, and save a model folder of transformers",
        ("_CHECKPOINT_METADATA", "_METADATA", "manifest.ocdbt", "ocdbt.process_*"),
    ),
    Kind(
        "a GGML file from before GGUF",
        ORIGINAL,
        ("ggml-model*.bin",),
        tuple((0, magic) for magic in (b"lmgg", b"fmgg", b"tjgg", b"algg")),
    ),
    Kind(
        "an archive",
        "unpack it, and convert what is in it",
        ("*.tar", "*.tar.*", "*.tgz", "*.7z"),
        ((0, b"\x1f\x8b"), (257, b"ustar"), (0, b"7z\xbc\xaf\x27\x1c")),
    ),
    Kind(
        "an HDF5 file of no model folder",
        "give the folder that holds it as tf_model.h5, with config.json",
        ("*.h5", "*.hdf5"),
        ((0, b"\x89HDF\r\n\x1a\n"),),
    ),
)
TOKENIZER = Kind(
    "a tokenizer without a model",
    "give the folder or file that holds the weights",
    ("tokenizer.json", "vocab.json", "merges.txt", "vocab.bpe", "encoder.json", "vocab.txt", "*.model"),
)
MLX = next(kind for kind in KINDS if kind.what == "an MLX model")


def refuse(path: Path, has_weights: bool = False) -> None:
    """
    Raises `InputError` for a file or folder of one of `KINDS`, saying what it is and what to do.

    Args:
        has_weights: whether there are weights in the folder's folders, so that it is no tokenizer alone.
    """
    if path.is_dir():
        for file in _read_files(path):
            _refuse_content(file)
        if not any(_read_files(path)):
            _refuse_names(path, [entry.name for entry in sorted(path.iterdir())], has_weights)
    elif path.is_file():
        _refuse_content(path)
        _refuse_names(path.parent, [path.name])


def is_model_folder_with(folder: Path, weights: str) -> bool:
    """Whether it is a model folder of transformers that has these weights, and none that torch reads."""
    torch_weights = any((folder / name).is_file() for name in ORDER)
    return (folder / "config.json").is_file() and (folder / weights).is_file() and not torch_weights


def _read_files(folder: Path) -> Iterator[Path]:
    """The files for which the folder is read, and not refused."""
    more = READ_WITH_CONFIG if (folder / "config.json").is_file() else ()
    return (folder / name for name in (*READ, *more) if (folder / name).is_file())


def _refuse_names(folder: Path, names: list[str], has_weights: bool = False) -> None:
    has_more = has_weights or any(fnmatch(name, pattern) for name in names for pattern in MAYBE_WEIGHTS)
    kinds = KINDS if has_more else (*KINDS, TOKENIZER)
    for kind in kinds:
        for name in names:
            if any(fnmatch(name, pattern) for pattern in kind.names):
                raise _refusal(folder / name, kind)


def _refuse_content(file: Path) -> None:
    with open(file, "rb") as opened:
        beginning = opened.read(512)
    for kind in KINDS:
        if any(beginning.startswith(telling, start) for start, telling in kind.begins):
            if kind.what.startswith("an HDF5") and file.name in READ_WITH_CONFIG:
                continue
            raise _refusal(file, kind)
    members = _members(file) if beginning.startswith(b"PK") else []
    for kind in KINDS:
        if kind.member and any(fnmatch(name, kind.member) for name in members):
            raise _refusal(file, kind)
    if file.suffix == ".safetensors" and _metadata(file).get("format") == "mlx":
        raise _refusal(file, MLX)


def _members(file: Path) -> list[str]:
    try:
        with zipfile.ZipFile(file) as archive:
            return archive.namelist()
    except Exception:  # a damaged archive, which its reader tells better
        return []


def _metadata(file: Path) -> dict:
    """The metadata in the header of a safetensors file; nothing of a damaged one, which its reader tells better."""
    with open(file, "rb") as opened:
        length = int.from_bytes(opened.read(8), "little")
        header = opened.read(length) if length < min(LONGEST_HEADER, file.stat().st_size) else b""
    try:
        return dict(json.loads(header)["__metadata__"])
    except (ValueError, LookupError, TypeError, RecursionError):
        return {}


def _refusal(file: Path, kind: Kind) -> InputError:
    return InputError(f"{file} is {kind.what}, which cannot be converted: {kind.advice}.")
