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
from ..utils.errors import InputError
from ..utils.files import atomic_folder

APP = """\"\"\"{title}. `pip install -r requirements.txt`, then `python app.py`.\"\"\"

import sys

from hf_gpt_scratch.apps.{app} import serve
from hf_gpt_scratch.utils.errors import run_reporting_errors

sys.exit(run_reporting_errors(lambda: serve("model", "0.0.0.0", 7860)))
"""
README = """---
title: {title}
sdk: gradio
sdk_version: {gradio}
python_version: "{python}"
app_file: app.py
---

{title}: a page for the model in `model/`, made by hf-gpt-scratch. On a machine of your own:

```bash
pip install -r requirements.txt
python app.py
```
"""


def export_space(
    folder: str | os.PathLike,
    out: str | os.PathLike,
    page: ModuleType,
    trust_remote_code: bool = False,
    report: Callable[[str], object] = lambda text: None,
) -> None:
    """
    Writes app.py, requirements.txt, README.md, the model's files and this package's own into `out`.

    Args:
        page: the module of the page, whose `load` makes it of `folder`, and whose `serve` app.py calls.
        trust_remote_code: run the folder's code even where it is not this package's own.
        report: is called with the table of the checks.

    Raises:
        InputError: when `folder` holds no model, one that the page cannot show or that is not fit to share, after the
            checks' table was reported, or when `out` is there already.
    """
    folder = Path(folder)
    if not (folder / "config.json").is_file():
        raise InputError(f"{folder} is no folder of a model: it has no config.json (merge an adapter first).")
    needed = [line for line in requires("hf-gpt-scratch") or () if "extra ==" not in line]
    python = f"{sys.version_info.major}.{sys.version_info.minor}"  # a Space's own default is too old for us
    facts = {"title": page.TITLE, "gradio": version("gradio"), "python": python}
    with atomic_folder(out) as partial:
        findings = check(folder, trust_remote_code)
        report(table(findings))
        require(findings, folder)
        page.load(folder)
        (partial / "app.py").write_text(APP.format(title=page.TITLE, app=page.__name__.rpartition(".")[2]))
        (partial / "README.md").write_text(README.format(**facts))
        (partial / "requirements.txt").write_text("\n".join([*needed, f"gradio=={version('gradio')}"]) + "\n")
        ignored = shutil.ignore_patterns("__pycache__", "*.pyc")
        shutil.copytree(Path(__file__).parents[1], partial / "hf_gpt_scratch", ignore=ignored)
        for path in uploadable(folder):
            target = partial / "model" / path.relative_to(folder)
            target.parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(path, target)
