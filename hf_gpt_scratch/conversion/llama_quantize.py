"""llama.cpp's own quantiser, the program `llama-quantize`, for the types of blocks of 256 weights."""

import subprocess
from pathlib import Path

from ..utils.errors import InputError, raise_failed
from ..utils.files import replace_file
from ..utils.requirements import program

PROGRAM = "llama-quantize"


def require_quantizer(dtype: str) -> None:
    """Raises `InputError`, saying what to install, unless the program is there."""
    if program(PROGRAM) is None:
        raise InputError(
            f"{dtype} is written by llama.cpp's {PROGRAM}, which is not on PATH: install llama.cpp"
            " (https://github.com/ggml-org/llama.cpp), or choose --dtype q8_0."
        )


def quantize(path: Path, dtype: str) -> None:
    """
    Replaces a GGUF file of f32 by one of `dtype`, such as "q4_k_m".

    Raises:
        InputError: when the program is not there, or fails, with its last line.
    """
    require_quantizer(dtype)
    made = path.with_suffix(f".{dtype}")
    done = subprocess.run(
        [program(PROGRAM), path, made, dtype.upper()], capture_output=True, text=True, errors="replace"
    )
    if done.returncode or not made.is_file():
        sentence = f"llama.cpp's {PROGRAM} failed ({{}}); nothing was written."
        raise_failed(sentence, done.returncode, done.stderr + done.stdout, made)
    replace_file(made, path)
