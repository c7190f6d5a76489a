"""Of a folder or a repository that holds several models side by side, the one to convert."""

import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from ..model_folder.contents import resolve_source
from ..model_folder.weight_files import (
    ENDINGS,
    INDEX,
    WHOLE,
    named_weights,
    only_weights,
    require_weights,
    shards_of,
    weights_in,
)
from ..utils.errors import InputError, UsageError
from ..utils.files import link_file, read_json_object


@contextmanager
def chosen(src: str, file: str | None = None) -> Iterator[Path]:
    """
    Yields the file or folder to open: of `src`, a local path or a Hub repository, the weights named `file`, or the
    only ones there; where they have their usual name, `src` as it is. A model folder of transformers whose weights
    have another name is yielded as a temporary one, in which they have the usual name.

    Raises:
        InputError: when there is no such file; or several, and none is named.
        UsageError: for a `file` in what is a file itself.
    """
    source = resolve_source(src, file=file)
    if source.is_file():
        if file:
            raise UsageError(f"--file names a file in a folder or a repository, and {src} is a file: omit it.")
        yield source
        return
    names = weights_in(source)
    if file is None and not (source / "hparams.json").is_file() and named_weights(source) is None:
        file = only_weights(names, src)
    if file is None:
        yield source
        return
    require_weights(file, names, src)
    path = source / file
    if not _is_of_transformers(path):
        yield path
        return
    with tempfile.TemporaryDirectory() as scratch:
        _link(path, Path(scratch))
        try:
            yield Path(scratch)
        except InputError as error:  # which names the temporary folder
            raise type(error)(str(error).replace(scratch, str(path))) from None


def _is_of_transformers(path: Path) -> bool:
    """Whether a file of weights lies in a model folder of transformers."""
    config = path.with_name("config.json")
    ends = path.name.removesuffix(INDEX).endswith(tuple(WHOLE))
    return ends and config.is_file() and isinstance(read_json_object(config).get("model_type"), str)


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
