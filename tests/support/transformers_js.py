"""transformers.js from npm, run by Node: what it makes of a model's folder."""

import json
import shutil
import subprocess
from pathlib import Path

import pytest

VERSION = "4.3.1"
FOLDER = Path(__file__).parents[2] / ".cache" / f"transformers.js-{VERSION}"
SCRIPT = Path(__file__).with_name("transformers_js.js")
PROGRAM = """
import { readFileSync } from "fs";
import * as transformers from "@huggingface/transformers";

const { script, settings, wishes } = JSON.parse(readFileSync(0, "utf8"));
Object.assign(transformers.env, settings);
const answer = new Function(`${readFileSync(script, "utf8")}; return answer;`)();
process.stdout.write(JSON.stringify(await answer(transformers, wishes)));
"""


def npm_packages() -> Path:
    """The folder `node_modules` with transformers.js, fetched by npm (470 MB, half a minute) where missing."""
    if missing := [program for program in ("node", "npm") if not shutil.which(program)]:
        pytest.skip(f"needs {' and '.join(missing)}: install Debian's nodejs and npm")
    if not (FOLDER / "complete").is_file():
        FOLDER.mkdir(parents=True, exist_ok=True)
        # Without the packages' own scripts: onnxruntime's fetches libraries of CUDA.
        options = ("--ignore-scripts", "--no-audit", "--no-fund", f"--prefix={FOLDER}")
        command = ["npm", "install", *options, f"@huggingface/transformers@{VERSION}"]
        run = subprocess.run(command, capture_output=True, text=True, timeout=600, stdin=subprocess.DEVNULL)
        if run.returncode:
            pytest.skip(f"needs @huggingface/transformers {VERSION}, which npm did not fetch: {run.stderr[-300:]}")
        (FOLDER / "complete").touch()
    return FOLDER / "node_modules"


def run_module(program: str, input: str = "") -> str:
    """What a program, a JavaScript module that may import transformers.js, prints."""
    command = ["node", "--input-type=module", "-e", program]
    run = subprocess.run(command, input=input, capture_output=True, text=True, timeout=240, cwd=npm_packages().parent)
    assert run.returncode == 0, run.stderr[-3000:]
    return run.stdout


def ask(folder: Path, *wishes: dict) -> list:
    """The answers to wishes of transformers_js.js about models in a folder; nothing is fetched from elsewhere."""
    settings = {"localModelPath": f"{folder}/", "allowRemoteModels": False, "useWasmCache": False}
    request = {"script": str(SCRIPT), "settings": settings, "wishes": wishes}
    return json.loads(run_module(PROGRAM, json.dumps(request)))
