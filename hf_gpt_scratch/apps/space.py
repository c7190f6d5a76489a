"""A page as a folder that runs by itself, on a machine or as a Space of the Hub."""

import os
import shutil
from importlib.metadata import requires, version
from pathlib import Path

from ..errors import InputError
from ..hub.check import uploadable
from ..saving import atomic_folder

APP = """\"\"\"{title}. `pip install -r requirements.txt`, then `python app.py`.\"\"\"

from hf_gpt_scratch.apps.{app} import serve

serve("model", "0.0.0.0", 7860)
"""
README = """---
title: {title}
sdk: gradio
sdk_version: {gradio}
app_file: app.py
license: mit
---

{title}: a page for the model in `model/`, made by hf-gpt-scratch.
"""
TITLES = {"spam": "Spam, word by word", "chat": "Chat with a GPT"}


def export_space(folder: str | os.PathLike, out: str | os.PathLike, app: str) -> None:
    """
    Writes app.py, requirements.txt, README.md, the model's files and this package's own into `out`.

    Raises:
        InputError: when `folder` holds no model, or `out` is there already.
    """
    from . import page

    page.gradio()
    folder = Path(folder)
    if not (folder / "config.json").is_file():
        raise InputError(f"{folder} is no folder of a model: it has no config.json (merge an adapter first).")
    needed = [line for line in requires("hf-gpt-scratch") or () if "extra ==" not in line]
    with atomic_folder(out) as partial:
        (partial / "app.py").write_text(APP.format(title=TITLES[app], app=app))
        (partial / "README.md").write_text(README.format(title=TITLES[app], gradio=version("gradio")))
        (partial / "requirements.txt").write_text("\n".join([*needed, f"gradio=={version('gradio')}"]) + "\n")
        ignored = shutil.ignore_patterns("__pycache__", "*.pyc")
        shutil.copytree(Path(__file__).parents[1], partial / "hf_gpt_scratch", ignore=ignored)
        for path in uploadable(folder):
            target = partial / "model" / path.relative_to(folder)
            target.parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(path, target)
    print(f"{out} holds the page; `python app.py` in it starts it, and `hf upload --repo-type space` publishes it.")
