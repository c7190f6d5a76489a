"""
Runs a notebook on the CPU, with its small settings, and stores in it what its cells show, without local paths.

    python training/notebooks/store_outputs.py training/notebooks/2_spam.ipynb "DATA = ['--data_file', 'messages.tsv']"

Further words are lines of Python that follow the notebook's own parameters, such as data that is already here.
"""

import argparse
import base64
import io
import os
import re
import tempfile
from pathlib import Path

import nbclient
import nbformat
from nbformat.v4 import new_code_cell
from PIL import Image

ANSI = re.compile(r"\x1b\[[0-9;?]*[A-Za-z]")
LOCAL_PATH = re.compile(r"(?<![\w:/.])/(?:tmp|work|home|root|Users|mnt)/(?:[\w.+-]+/)*")
NOTE_OF_PIP = re.compile(r"Note: you may need to restart the kernel.*\n?")


def run(path: Path, lines: list[str]) -> nbformat.NotebookNode:
    """The notebook with its outputs, run in an empty folder with the lines behind its parameters."""
    notebook = nbformat.read(path, as_version=4)
    [parameters] = [i for i, cell in enumerate(notebook.cells) if "parameters" in cell.metadata.get("tags", [])]
    notebook.cells.insert(parameters + 1, new_code_cell("\n".join(lines)))
    os.environ["CUDA_VISIBLE_DEVICES"] = ""
    with tempfile.TemporaryDirectory() as folder:
        resources = {"metadata": {"path": folder}}
        nbclient.NotebookClient(notebook, timeout=None, record_timing=False, resources=resources).execute()
    del notebook.cells[parameters + 1]
    return notebook


def clean(cell: nbformat.NotebookNode) -> None:
    """Takes from a cell's outputs what is not for its readers: warnings, colours of a terminal and local paths."""
    cell.metadata.pop("execution", None)
    kept, text = [], ""
    for output in cell.outputs:
        if output.output_type == "stream":
            text += output.text if output.name == "stdout" else ""
            continue
        output.metadata = {}
        if "image/png" in output.get("data", {}):
            output.data = {"image/png": smaller(output.data["image/png"])}
        elif output.get("data", {}).get("text/html") == "":  # a progress bar that was cleared
            continue
        elif "<progress" in (shown := output.get("data", {}).get("text/html", "")):  # Trainer's: the table of losses
            _, table, losses = shown.partition("<table")
            if not table:
                continue
            output.data = {"text/html": table + losses}
        elif "text/plain" in output.get("data", {}):
            output.data["text/plain"] = without_machine(output.data["text/plain"])
        kept.append(output)
    if text := without_machine(text):
        kept.insert(0, nbformat.v4.new_output("stream", name="stdout", text=text))
    cell.outputs = kept


def without_machine(text: str) -> str:
    """The text as a terminal shows it, without colours, overwritten lines and the folders of this machine."""
    text = NOTE_OF_PIP.sub("", ANSI.sub("", text).replace("\r\n", "\n"))
    text = "\n".join(line.rpartition("\r")[2] for line in text.split("\n"))
    return LOCAL_PATH.sub("", text)


def smaller(png: str) -> str:
    """A picture in 64 colours, which is enough for a plot."""
    small = io.BytesIO()
    picture = Image.open(io.BytesIO(base64.b64decode(png))).convert("RGB")
    picture.thumbnail((900, 900))
    picture.quantize(64).save(small, "png", optimize=True)
    return base64.b64encode(small.getvalue()).decode()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("notebook", type=Path)
    parser.add_argument("line", nargs="*")
    args = parser.parse_args()
    notebook = run(args.notebook, args.line)
    cells = [cell for cell in notebook.cells if cell.cell_type == "code"]
    for number, cell in enumerate(cells, start=1):
        clean(cell)
        cell.execution_count = number
        for output in cell.outputs:
            if "execution_count" in output:
                output.execution_count = number
    notebook.metadata.language_info = {"name": "python"}
    nbformat.write(notebook, args.notebook)


if __name__ == "__main__":
    main()
