"""
Which of a folder's files hold its weights. Where there are several sets of them, such as a whole file beside the
shards of an earlier save, the order is that of transformers (`_get_resolved_checkpoint_files` in `modeling_utils.py`).
"""

import re
from collections.abc import Collection, Iterable
from pathlib import Path

from ..utils.errors import InputError
from ..utils.files import read_json, read_json_object

INDEX = ".index.json"
ORDER = tuple(f"{stem}{end}" for stem in ("model.safetensors", "pytorch_model.bin") for end in ("", INDEX))
# In transformers' folders, the name of the whole file by its ending
WHOLE = {
    ".safetensors": "model.safetensors",
    ".bin": "pytorch_model.bin",
    ".h5": "tf_model.h5",
    ".msgpack": "flax_model.msgpack",
}
USUAL = (*ORDER, *WHOLE.values())
ENDINGS = (*WHOLE, ".pt", ".pth", ".ckpt", ".gguf")
SHARD = re.compile(r".*-\d+-of-\d+\.\w+")
LONGEST_NAME = 255  # characters; more than file systems have
NOT_WEIGHTS = re.compile(r"(training_args|optimizer|scheduler|scaler|rng_state|adapter_model).*|.*tokenizer.*")


def first_weights(names: Collection[str], named: object = None, order: Iterable[str] = ORDER) -> str | None:
    """
    Of the names of a folder's files, the whole file or the index that transformers reads; `None` without any.

    Args:
        named: the `transformers_weights` of config.json, which comes before all others.
    """
    if named is not None:
        return named if isinstance(named, str) and named in names else None
    return next((name for name in order if name in names), None)


def named_weights(folder: Path) -> object:
    """The `transformers_weights` of a folder's config.json, by which a model may name its file."""
    path = folder / "config.json"
    settings = read_json(path) if path.is_file() else None
    return settings.get("transformers_weights") if isinstance(settings, dict) else None


def is_plain_name(name: str) -> bool:
    """Whether it is that of a file in the same folder, on any system."""
    return name not in ("", ".", "..") and len(name) <= LONGEST_NAME and not re.search(r"[/\\\0]", name)


def shards_of(index: Path, object_pairs_hook=None) -> list[str]:
    """
    The names of the files that an index lists, which lie beside it; the hook is that of `json.loads`.

    Raises:
        InputError: when it is not an index, or names a file elsewhere, or a link to one.
    """
    weight_map = read_json_object(index, object_pairs_hook=object_pairs_hook).get("weight_map")
    if not isinstance(weight_map, dict) or not all(isinstance(file, str) for file in weight_map.values()):
        raise InputError(f"{index} is not an index of shards: its weight_map must hold file names.")
    files = sorted(set(weight_map.values()))
    if outside := [file for file in files if not is_plain_name(file)]:
        raise InputError(f"{index} points outside its folder, to {outside[0]}.")
    if links := [file for file in files if leads_out(index, file)]:
        raise InputError(
            f"{index.with_name(links[0])} is a link that leads out of its folder: put a copy in its place."
        )
    return files


def leads_out(index: Path, name: str) -> bool:
    """
    Whether a file that `index` names beside itself is a link to another folder. In the Hub's cache both are links to
    one folder, `blobs`; so are they where a whole folder is linked.
    """
    path = index.with_name(name)
    real, homes = path.resolve(), {index.resolve().parent, index.parent.resolve()}
    return path.is_symlink() and not any(real.is_relative_to(home) for home in homes)


def unread_weights(folder: Path, read: Collection[str]) -> list[str]:
    """The names of the weights in a folder that are not among those `read`."""
    names = {path.name for path in folder.iterdir() if path.is_file()}
    weights = re.compile(r"(pytorch_)?model\b.*\.(safetensors|bin)")
    return sorted(name for name in names - set(read) if weights.fullmatch(_bare(name)))


def _bare(name: str) -> str:
    return name.removesuffix(INDEX)


def weights_among(names: Iterable[str]) -> list[str]:
    """
    Of the names of files, those that may hold a whole model each, wherever they lie: a model in shards counts as its
    index. What training leaves, such as an optimizer's state, and adapters are not among them.
    """
    ends = (*ENDINGS, *(f"{end}{INDEX}" for end in WHOLE))
    whole = (name for name in names if name.endswith(ends) and not SHARD.fullmatch(name))
    return sorted(name for name in whole if not NOT_WEIGHTS.fullmatch(Path(name).name))


def weights_in(folder: Path) -> list[str]:
    """What `weights_among` finds in a folder and, one level below, in its folders."""
    paths = (path for pattern in ("*", "*/*") for path in folder.glob(pattern) if path.is_file())
    return weights_among(path.relative_to(folder).as_posix() for path in paths)


def require_weights(name: str, names: Collection[str], source: str) -> None:
    """Raises `InputError` unless `name` is among the `names` of the weights in `source`."""
    if name not in names:
        raise InputError(f"{source} holds no weights named {name}; it has: {', '.join(names) or 'none'}.")


def only_weights(names: list[str], source: str) -> str | None:
    """The only one of the names of weights in `source`, `None` without any; raises `InputError` for several."""
    if len(names) > 1:
        raise InputError(
            f"{source} holds several files of weights, and nothing says which is the model: {', '.join(names)}. Say"
            f" which to convert: `hf-gpt-scratch convert {source} OUT --file NAME`."
        )
    return names[0] if names else None
