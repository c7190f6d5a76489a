"""
A model's folder loaded in a clean process: this package cannot be imported there, the working directory is empty, and
the environment holds no token. Nothing but this package's own code runs in it, unless the user trusts the folder's.
"""

import json
import os
import re
import shutil
import site
import subprocess
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import torch
from safetensors.torch import load_file

from ..utils.errors import InputError, raise_failed
from ..utils.files import link_file, scratch_folder, write_json
from .code import custom_generate_files, package_code, require_own_code
from .contents import ADAPTED, ADAPTER_CONFIG, AUTO_CLASSES, CODE_FILES, ModelFolder

MAIN = Path(__file__).with_name("clean_process_main.py")
# What may load a folder there; others, such as AutoProcessor, would look for code elsewhere in it.
LOADERS = {"AutoConfig", "AutoTokenizer", *AUTO_CLASSES.values(), *(auto_class for _, auto_class in ADAPTED.values())}
# What a process needs to find its interpreter, libraries and threads; all else, such as tokens, stays here.
KEPT = re.compile(
    r"PATH|LANG|LC_\w+|TMPDIR|TEMP|TMP|SYSTEMROOT|WINDIR|COMSPEC|VIRTUAL_ENV|(PYTHON|LD_|DYLD_|OMP_|GOMP_|KMP_|MKL_"
    r"|OPENBLAS_|CUDA_|TORCH)\w*",
    re.IGNORECASE,
)


def run_jobs(
    folder: Path, jobs: Sequence[dict], trust_remote_code: bool = False, base: Path | None = None
) -> tuple[list[dict], dict[str, torch.Tensor]]:
    """
    Loads `folder` by the Auto class of each job; what a job and its result are says `clean_process_main.py`.

    Args:
        trust_remote_code: run the folder's code even where it is not this package's own.
        base: the folder of the model that the adapter in `folder` is for; it is always loaded by this package's own
            code.

    Returns:
        The jobs' results, and the tensors that they answered: `answer.N` is the first output of job N's model,
        `(B, T, C)` of a language model or token classifier, `(B, C)` of a sequence classifier.

    Raises:
        InputError: when the folder's code may not run, or the process itself fails.
    """
    if unknown := {job["auto_class"] for job in jobs} - LOADERS:
        loaders = ", ".join(sorted(LOADERS))
        raise InputError(f"{folder} would be loaded by {', '.join(sorted(unknown))}; expected one of {loaders}.")
    with scratch_folder() as scratch, _staged(folder, trust_remote_code, base) as staged:
        exchange = Path(scratch, "exchange.safetensors")
        empty = Path(scratch, "empty")  # the working directory, where nothing can be imported by mistake
        empty.mkdir()
        request = {
            "jobs": [{"folder": str(staged), **job} for job in jobs],
            "exchange": str(exchange),
            "scratch": str(scratch),
        }
        run = subprocess.run(
            [sys.executable, "-P", str(MAIN)],
            input=json.dumps(request),
            capture_output=True,
            text=True,
            env=_environment(str(scratch)),
            cwd=empty,
        )
        if run.returncode != 0:
            sentence = f"The process that was to load {folder} failed ({{}})."
            raise_failed(sentence, run.returncode, run.stderr, scratch)
        results = json.loads(run.stdout.strip().splitlines()[-1])
        # Errors of the libraries name the copy, which is gone by the time they are read.
        for result in results:
            if "error" in result:
                result["error"] = result["error"].replace(str(staged), str(folder))
        return results, load_file(exchange)


def _environment(scratch: str) -> dict[str, str]:
    kept = {name: value for name, value in os.environ.items() if KEPT.fullmatch(name)}
    return {
        **kept,
        "HOME": scratch,
        "USERPROFILE": scratch,
        "PYTHONUSERBASE": site.getuserbase(),  # which Python looks for in HOME
        "HF_HOME": f"{scratch}/huggingface",
        "HF_HUB_OFFLINE": "1",
        "HF_HUB_DISABLE_TELEMETRY": "1",
    }


@contextmanager
def _staged(folder: Path, trust_remote_code: bool, base: Path | None) -> Iterator[Path]:
    """A folder of copies of the code, which is looked at after the copying, and of links to everything else."""
    with scratch_folder() as scratch:
        staged = Path(scratch, "model")
        _copy(folder, staged)
        model = ModelFolder.read(staged)
        _keep_code(staged, require_own_code(model, trust_remote_code, shown=folder))
        if base is not None:
            staged_base = Path(scratch, "base")
            _copy(base, staged_base)
            for name in CODE_FILES:
                shutil.copyfile(package_code(name), staged_base / name)
            require_own_code(ModelFolder.read(staged_base), shown=base)
            _keep_code(staged_base)
            (staged / ADAPTER_CONFIG).unlink()
            write_json(staged / ADAPTER_CONFIG, model.adapter | {"base_model_name_or_path": str(staged_base)})
        yield staged


def _keep_code(staged: Path, trusted: Sequence[str] = ()) -> None:
    """Takes away all code but this package's, unless some is trusted: what is not there cannot be run."""
    for path in staged.rglob("*.py"):
        if not trusted and path.name not in CODE_FILES:
            path.unlink()


def _copy(folder: Path, target: Path) -> None:
    target.mkdir()
    for name in custom_generate_files(folder):
        (target / name).parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(folder / name, target / name)
    for path in folder.iterdir():
        if not path.is_file():
            continue
        if path.suffix in (".py", ".json"):
            shutil.copyfile(path, target / path.name)
            continue
        link_file(path, target / path.name)
