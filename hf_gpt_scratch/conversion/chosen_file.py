"""Of a folder or a repository that holds several models side by side, the one to convert."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from ..model_folder.contents import ADAPTER_CONFIG, resolve_source
from ..model_folder.onnx_files import require_no_onnx
from ..model_folder.weight_files import (
    ENDINGS,
    INDEX,
    USUAL,
    WHOLE,
    named_weights,
    only_weights,
    require_weights,
    shards_of,
    weights_in,
)
from ..utils.errors import InputError, UsageError
from ..utils.files import link_file, read_json_object, scratch_folder
from . import file_kinds


@contextmanager
def chosen(src: str, file: str | None = None) -> Iterator[Path]:
    """
    Yields the file or folder to open: of `src`, a local path or a Hub repository, the weights named `file`, or the
    only ones there; `src` as it is where its files tell which are read. Weights with a config.json beside them that
    says what they are, are yielded as a temporary folder, in which they have the usual name.

    Raises:
        InputError: when there is no such file; or several, and none is named; or `src` is of a kind that is not
            converted.
        UsageError: for a `file` in what is a file itself.
    """
    source = resolve_source(src, file=file)
    require_no_onnx(source)
    if source.is_file():
        if file:
            raise UsageError(f"--file names a file in a folder or a repository, and {src} is a file: omit it.")
        yield source
        return
    names = weights_in(source)
    if file is None and not _tells_weights(source):
        if all("/" in name for name in names):
            file_kinds.refuse(source, has_weights=bool(names))
        file = only_weights(names, src)
    if file is None:
        yield source
        return
    require_weights(file, names, src)
    path = source / file
    if path.name not in USUAL:
        file_kinds.refuse(path)
    if path.name.endswith(INDEX) and not path.with_name("config.json").is_file():
        raise InputError(f"{path} lists the parts of a model, but there is no config.json beside it: add the model's.")
    if not _is_of_folder(path):
        yield path
        return
    with scratch_folder() as scratch:
        _link(path, scratch)
        try:
            yield scratch
        except InputError as error:  # which names the temporary folder
            raise type(error)(str(error).replace(str(scratch), str(path))) from None


def _tells_weights(folder: Path) -> bool:
    """Whether the files at the top of a folder tell which weights are read: those of the format that they have."""
    is_told = any((folder / name).is_file() for name in ("hparams.json", ADAPTER_CONFIG))
    has_usual = (folder / "config.json").is_file() and any((folder / name).is_file() for name in USUAL)
    return is_told or has_usual or named_weights(folder) is not None


def _is_of_folder(path: Path) -> bool:
    """
    Whether a file of weights is one of a model folder: of transformers; or, under a usual name, of a folder whose
    config.json holds the arguments of a constructor (see `hub_mixin`).
    """
    config = path.with_name("config.json")
    if not config.is_file() or not path.name.removesuffix(INDEX).endswith(tuple(WHOLE)):
        return False
    return path.name in USUAL or isinstance(read_json_object(config).get("model_type"), str)


def _link(path: Path, folder: Path) -> None:
    """Fills `folder` with links to the weights, under their usual name, and to all beside them that are no weights."""
    for beside in path.parent.iterdir():
        if beside.is_file() and not beside.name.endswith((*ENDINGS, INDEX)):
            link_file(beside, folder / beside.name)
    is_index = path.name.endswith(INDEX)
    usual = WHOLE[Path(path.name.removesuffix(INDEX)).suffix]
    link_file(path, folder / (usual + INDEX * is_index))
    for shard in shards_of(path) if is_index else ():
        if path.with_name(shard).is_file():  # the reader names those that are not there
            link_file(path.with_name(shard), folder / shard)
