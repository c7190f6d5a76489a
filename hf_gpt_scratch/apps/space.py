"""A page as a folder that runs by itself, on a machine or as a Space of the Hub."""

import os
import shutil
import sys
from collections.abc import Callable
from importlib.metadata import requires, version
from pathlib import Path
from types import ModuleType

from ..hub.check import check
from ..hub.files import uploadable
from ..hub.findings import require, table
from ..model_folder.contents import ModelFolder, is_hub_id
from ..utils.errors import InputError
from ..utils.files import atomic_folder
from .examples import FILE
from .page import model_name

APP = """\"\"\"{title}. `pip install -r requirements.txt`, then `python app.py`.\"\"\"

import sys

from hf_gpt_scratch.apps.{app} import serve
from hf_gpt_scratch.utils.errors import run_reporting_errors

sys.exit(run_reporting_errors(lambda: serve({source!r}, "0.0.0.0", 7860, name={name!r})))
"""
README = """---
title: {title}
sdk: gradio
sdk_version: {gradio}
python_version: "{python}"
app_file: app.py
---

{title}: a page for the model in {held}, made by hf-gpt-scratch. On a machine of your own:

```bash
pip install -r requirements.txt
python app.py
```
"""


def export_space(
    source: str | os.PathLike,
    out: str | os.PathLike,
    page: ModuleType,
    trust_remote_code: bool = False,
    report: Callable[[str], object] = lambda text: None,
) -> int:
    """
    Writes app.py, requirements.txt, README.md, the model's files and this package's own into `out`; returns how many
    examples from what the training recorded are among them, in model/examples.json.

    Args:
        source: a model's folder; or its Hub repository, which the Space then loads, so that no model is copied.
        page: the module of the page, whose `load` makes it of `source`, and whose `serve` app.py calls.
        trust_remote_code: run the folder's code even where it is not this package's own.
        report: is called with the table of the checks.

    Raises:
        InputError: when `source` holds no model, one that the page cannot show or that is not fit to share, after the
            checks' table was reported, or an adapter that is not on the Hub with its base; or when `out` is there
            already.
    """
    is_local, folder = Path(source).is_dir(), ModelFolder.resolve(source)
    if folder.is_adapter:
        _require_on_hub(folder, source, is_local)
    with atomic_folder(out) as partial:
        if is_local:
            findings = check(source, trust_remote_code)
            report(table(findings))
            require(findings, source)
        page.load(folder, model_name(source))
        _write_files(partial, page, "model" if is_local else str(source), model_name(source), folder.is_adapter)
        return _copy_model(Path(source), partial / "model", page) if is_local else 0


def _require_on_hub(adapter: ModelFolder, source: str | os.PathLike, is_local: bool) -> None:
    """Raises `InputError` unless a Space can load the adapter and its base model from the Hub."""
    if is_local:
        raise InputError(
            f"{source} holds an adapter, and a Space loads an adapter from the Hub: push it with `hf-gpt-scratch push`"
            " and give its repository."
        )
    if not is_hub_id(adapter.base):
        raise InputError(
            f"The base model of the adapter {source}, {adapter.base}, is not a Hub repository, so a Space cannot load"
            " it: push the base model first, then the adapter again with --base-model."
        )


def _write_files(partial: Path, page: ModuleType, source: str, name: str, is_adapter: bool) -> None:
    """app.py, README.md, requirements.txt and this package."""
    listed = requires("hf-gpt-scratch") or ()
    needed = [line for line in listed if "extra ==" not in line]
    if is_adapter:
        needed += sorted({line.partition(";")[0].strip() for line in listed if line.startswith("peft")})
    python = f"{sys.version_info.major}.{sys.version_info.minor}"  # a Space's own default is too old for us
    app = {"title": page.TITLE, "app": page.__name__.rpartition(".")[2], "source": source, "name": name}
    held = "`model/`" if source == "model" else f"`{source}`"
    readme = {"title": page.TITLE, "gradio": version("gradio"), "python": python, "held": held}
    (partial / "app.py").write_text(APP.format(**app), encoding="utf-8")
    (partial / "README.md").write_text(README.format(**readme), encoding="utf-8")
    (partial / "requirements.txt").write_text("\n".join([*needed, f"gradio=={version('gradio')}"]) + "\n")
    ignored = shutil.ignore_patterns("__pycache__", "*.pyc")
    shutil.copytree(Path(__file__).parents[1], partial / "hf_gpt_scratch", ignore=ignored)


def _copy_model(folder: Path, target: Path, page: ModuleType) -> int:
    """The model's files and the page's examples, of which it returns the number."""
    for path in uploadable(folder):
        copy = target / path.relative_to(folder)
        copy.parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(path, copy)
    return page.record_examples(folder, target / FILE)
