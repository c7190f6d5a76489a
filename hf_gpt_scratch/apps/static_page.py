"""
A page as a folder of static files: the model runs in the browser's tab, in WebAssembly, and no request leaves the
folder. It works from any server of files, and by a double click on index.html. There Chromium lets a page read no
files but scripts, so everything else (the model, the tokenizer, the libraries) is compressed and comes in scripts that
hold it as base64, in both ways alike. In the order of reading, of `static/`:

    index.html    the frame: what a page shows before its scripts run, and its Content-Security-Policy
    load.js       the page's side: loads the files, starts the worker, and asks it
    worker.js     the worker's side: answers
    model.js      in the worker: the tokenizer and the model
    classifier.js, classify.html, draw.js, classify.js   a classifier, in the worker and in the page
    sw.js         keeps the folder for when there is no network
"""

import base64
import gzip
import hashlib
import html
import json
import os
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from ..adapters import merged_folder
from ..conversion.onnx import export_onnx
from ..model_folder.contents import ModelFolder
from ..model_folder.onnx_files import FILES, is_onnx_folder
from ..pretrained import held_class
from ..utils.constants import REPOSITORY
from ..utils.errors import InputError
from ..utils.files import atomic_folder, scratch_folder
from . import npm, style
from .page import model_name

HERE = Path(__file__).parent / "static"
PART_BYTES = 3 * 2**20  # of a script; 4 MB of base64
README = """---
title: {quoted}
sdk: static
app_file: index.html
---

{title}: a page for the model {name}, which runs in the browser's tab. Nothing that is typed leaves it.

Open `index.html` by a double click, or put this folder on any server of static files. `python -m http.server` is one.

Made by hf-gpt-scratch. `LICENSES.txt` names the libraries in it.
"""


@dataclass(frozen=True)
class StaticPage:
    """
    What one kind of page is made of.

    Attributes:
        title, sentence, facts: the head of the page; `facts` is HTML.
        name: of the model.
        body: a file of `static/`, the HTML below the head.
        scripts: files of `static/` that the page runs, after load.js, in their order.
        worker: files of `static/` that the worker runs, after worker.js and model.js, in their order.
        packages: of npm, whose files the worker has.
        files: of the ONNX folder, that the worker has where they are there.
        css: added to that of all pages.
        settings: what the page's scripts read from `settings`.
    """

    title: str
    sentence: str
    facts: str
    name: str
    body: str
    scripts: Sequence[str]
    worker: Sequence[str]
    packages: Sequence[npm.Package] = (npm.ONNXRUNTIME, npm.TOKENIZERS)
    files: Sequence[str] = ("config.json", "tokenizer.json", "tokenizer_config.json")
    css: str = ""
    settings: Mapping = field(default_factory=dict)


def require_kind(source: str | os.PathLike, is_classifier: bool) -> None:
    """Raises `InputError` for a model of the other kind, before it is exported."""
    held = held_class(ModelFolder.resolve(source))
    if held and ("Classification" in held) != is_classifier:
        kinds, app = ("language model", "classifier"), "chat" if is_classifier else "classify"
        raise InputError(
            f"{source} holds a {kinds[not is_classifier]}, not a {kinds[is_classifier]}: use `hf-gpt-scratch app {app}"
            f" {source} --export-static OUT`."
        )


def export_static(
    source: str | os.PathLike,
    out: str | os.PathLike,
    make: Callable[[Path, Path, str], StaticPage],
    dtype: str = "int8",
) -> int:
    """
    Writes the page of a model into a new folder `out`, whole or not at all; returns its size in bytes.

    Args:
        source: a folder or a Hub repository of the model, of a LoRA adapter, or of an ONNX model, which is then taken
            as it is.
        make: the page, from the ONNX folder, the folder of `source`, and the name of the model.
        dtype: of the weights in the files, "int8" or "fp32"; what is computed is fp32.

    Raises:
        InputError: when `source` holds no such model, what the export needs is missing, or as `write_static`.
    """
    name, folder = model_name(source), ModelFolder.resolve(source).path
    if is_onnx_folder(folder):
        return write_static(folder, out, make(folder, folder, name))
    with merged_folder(source) as whole, scratch_folder() as place:
        exported = export_onnx(whole, Path(place, "onnx"), dtype, weights_only=True).path
        return write_static(exported, out, make(exported, folder, name))


def write_static(folder: str | os.PathLike, out: str | os.PathLike, page: StaticPage) -> int:
    """
    Writes the page of the ONNX folder into a new folder `out`, whole or not at all; returns its size in bytes.

    Raises:
        InputError: when `folder` holds no ONNX model or no tokenizer.json, `out` is there already, or a package of npm
            cannot be had.
    """
    model = model_file(folder)
    held = {"model.onnx": model.read_bytes()}
    held |= {name: Path(folder, name).read_bytes() for name in page.files if Path(folder, name).is_file()}
    if "tokenizer.json" not in held:
        raise InputError(f"{folder} has no tokenizer.json, which the page reads its text with.")
    for package in page.packages:
        held |= npm.files_of(package)
    with atomic_folder(out) as partial:
        assets, parts = _assets(page, held)
        version = hashlib.sha256(b"".join(name.encode() + content for name, content in assets.items())).hexdigest()[
            :16
        ]
        place = f"assets-{version}"
        (partial / place).mkdir()
        for name, content in assets.items():
            (partial / place / name).write_bytes(content)
        (partial / "index.html").write_text(_index(page, place, parts), encoding="utf-8")
        kept = ["./", "index.html", *(f"{place}/{name}" for name in assets)]
        worker = _read("sw.js").replace("{{version}}", version).replace("{{files}}", json.dumps(kept))
        (partial / "sw.js").write_text(worker, encoding="utf-8")
        quoted = json.dumps(page.title, ensure_ascii=False)  # as a label may hold a colon
        readme = README.format(quoted=quoted, title=page.title, name=page.name)
        (partial / "README.md").write_text(readme, encoding="utf-8")
        licenses = "\n\n".join(npm.license_of(package) for package in page.packages)
        (partial / "LICENSES.txt").write_text(licenses, encoding="utf-8")
        return sum(path.stat().st_size for path in partial.rglob("*") if path.is_file())


def model_file(folder: str | os.PathLike) -> Path:
    """The graph of an ONNX folder, the one that `load_onnx` takes; raises `InputError` where there is none."""
    found = [Path(folder, name) for name in FILES.values() if Path(folder, name).is_file()]
    if not found:
        raise InputError(f"{folder} holds no ONNX model: none of {', '.join(FILES.values())} is there.")
    return found[0]


def _assets(page: StaticPage, held: Mapping[str, bytes]) -> tuple[dict[str, bytes], list[dict]]:
    """The files of the page's folder by name, and which scripts hold which of the worker's files."""
    assets = {name: _read(name).encode() for name in ("load.js", *page.scripts)}
    assets["style.css"] = (_for_scheme(style.CSS + page.css) + _read("style.css")).encode()
    parts = []
    for name, content in held.items():
        packed = gzip.compress(content, 6, mtime=0)
        cut = [packed[start : start + PART_BYTES] for start in range(0, len(packed), PART_BYTES)]
        for number, piece in enumerate(cut):
            script = f"{name}.{number}.js"
            assets[script] = f'part({json.dumps(name)}, "{base64.b64encode(piece).decode()}");\n'.encode()
            parts.append({"name": name, "script": script, "bytes": len(piece)})
    return assets, parts


def _index(page: StaticPage, place: str, parts: Sequence[Mapping]) -> str:
    """index.html, with what the worker runs in it as text: from a file, a worker may load no script."""
    source = "\n".join(_read(name) for name in ("worker.js", "model.js", *page.worker))
    settings = {**page.settings, "place": place, "parts": parts}
    filled = {
        "title": html.escape(page.title),
        "sentence": html.escape(page.sentence),
        "facts": page.facts,
        "body": _read(page.body),
        "place": place,
        "repository": REPOSITORY,
        "settings": json.dumps(settings).replace("<", "\\u003c"),
        "worker": source.replace("</script", "<\\/script"),
        "scripts": "\n".join(f'<script src="{place}/{name}"></script>' for name in ("load.js", *page.scripts)),
    }
    return re.sub(r"\{\{(\w+)\}\}", lambda found: filled[found[1]], _read("index.html"))


def _for_scheme(css: str) -> str:
    """CSS whose colours for the dark follow the system's choice, where Gradio's follow a class."""
    return re.sub(r"(?m)^\.dark \{(.*)\}$", r"@media (prefers-color-scheme: dark) { :root {\1} }", css)


def _read(name: str) -> str:
    return (HERE / name).read_text(encoding="utf-8")
