"""
OpenAI's GPT-2 from where it was published, or from the mirror of "Build a Large Language Model (From Scratch)".

What a file is checked by. OpenAI published no list of checksums. Those below are, for the tokenizer's two files, in
OpenAI's own tiktoken (`tiktoken_ext/openai_public.py`); for the other five of 124M, in AGI-Alpha-Agent-v0 of
github.com/MontrealAI (`scripts/download_openai_gpt2.py`), which checks its downloads by them. Three of the five are
confirmed: `hparams.json` and `checkpoint` are short enough to be written down and hashed, and that of the data, of
497,759,232 bytes, stands in another project too. The index and the graph (`.meta`) have that one witness.

For the larger models only the server can be asked: the length it promises, and the MD5 or SHA-1 in its headers, where
it sends one. That finds damage on the way, not a file that was exchanged. Beyond it, TensorFlow compares each variable
with a checksum in the index when it is read, and `conversion.json` keeps the SHA-256 of every file.
"""

import os
from pathlib import Path

from ..utils.download import fetch
from ..utils.errors import InputError, UsageError
from ..utils.provenance import sha256
from .choices import OPENAI_SIZES
from .openai_tf import FILES

HOSTS = (
    "https://openaipublic.blob.core.windows.net/gpt-2/models",
    "https://f001.backblazeb2.com/file/LLMs-from-scratch/gpt2",
)
SHA256_OF_ALL = {
    "encoder.json": "196139668be63f3b5d6574427317ae82f612a97c5d1cdaf36ed2256dbf636783",
    "vocab.bpe": "1ce1664773c50f3e0cc8842619a93edc4624525b728b188a9e0be33b7726adc5",
}
SHA256 = dict.fromkeys(OPENAI_SIZES, SHA256_OF_ALL) | {
    "124M": {
        **SHA256_OF_ALL,
        "checkpoint": "dd1b025d2e155283f5e300ce95bf6d5b6bc0f7fe010db73daa6975eb896ab9cb",
        "hparams.json": "d9d56e4121c427164e0c55c6f03c08e1daf9002b9b672825112d19097b680318",
        "model.ckpt.index": "71916f763f9746f9b2a06b12d91996cf1084ae008d0424543d39391c5f2dc687",
        "model.ckpt.meta": "4668c448fa11531fd6700460487f73e82d3272960cea942252f8744bf225c77b",
        "model.ckpt.data-00000-of-00001": "2060c885360cc0cf41d7a6dbc4d24b5127aae20260c8b5ae521b5a6578407118",
    },
}


def download_openai(size: str, folder: str | os.PathLike) -> list[Path]:
    """
    Downloads the files of GPT-2 `size` into `folder` and returns their paths. Those that are there already are kept.

    What a broken connection or an interruption left is continued, also by a later call (`utils.download`).

    Raises:
        UsageError: when `size` is not one of `OPENAI_SIZES`.
        InputError: when a file cannot be downloaded from either host, or one that is there already is not OpenAI's.
    """
    if size not in OPENAI_SIZES:
        raise UsageError(f"There is no GPT-2 of size {size}; OpenAI published {', '.join(OPENAI_SIZES)}.")
    folder = Path(folder)
    is_new = not folder.exists()
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except (FileExistsError, NotADirectoryError):
        raise InputError(f"{folder} is a file; expected a folder to download into.") from None
    try:
        for name in FILES:
            expected, path = SHA256[size].get(name), folder / name
            if not path.exists():
                fetch([f"{host}/{size}/{name}" for host in HOSTS], path, expected)
            elif expected and sha256(path) != expected:
                raise InputError(
                    f"{path} is not OpenAI's file of GPT-2 {size} (its SHA-256 differs): delete it and try again."
                )
    finally:
        if is_new and not any(folder.iterdir()):
            folder.rmdir()
    return [folder / name for name in FILES]
