"""What is stored of a notebook's run: no warnings, no folders of a machine, small pictures."""

import base64
import importlib.util
import io
from pathlib import Path

import pytest
from nbformat.v4 import new_code_cell, new_output
from PIL import Image

SCRIPT = Path(__file__).parents[2] / "training" / "notebooks" / "store_outputs.py"


@pytest.fixture(scope="module")
def script():
    spec = importlib.util.spec_from_file_location("store_outputs", SCRIPT)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.mark.parametrize(
    "text, expected",
    [
        ("\x1b[31mred\x1b[0m\n", "red\n"),
        ("  0%|\r 50%|\r100%| done\nnext", "100%| done\nnext"),
        ("saved in /tmp/x_1/runs/spam, read /home/me/data.tsv", "saved in spam, read data.tsv"),
        ("Open http://127.0.0.1:7860 or https://huggingface.co/home/x", None),
        ("a ratio of 1/2, runs/spam/part/it", None),
        ("Note: you may need to restart the kernel to use updated packages.\nChanged", "Changed"),
    ],
)
def test_text(script, text, expected):
    assert script.without_machine(text) == (text if expected is None else expected)


def test_a_cell_keeps_what_it_printed_and_drew(script):
    picture = io.BytesIO()
    Image.effect_noise((1200, 600), 50).save(picture, "png")
    png = base64.b64encode(picture.getvalue()).decode()
    outputs = [
        new_output("stream", name="stderr", text="a warning"),
        new_output("stream", name="stdout", text="one\n"),
        new_output("stream", name="stdout", text="two\n"),
        new_output("display_data", {"text/html": "<progress></progress> [2/2 00:01]"}),
        new_output("display_data", {"text/html": "", "text/plain": "<HTML>"}),
        new_output("display_data", {"text/html": "<progress></progress> [2/2 00:01] <table>2.5</table>"}),
        new_output("display_data", {"image/png": png, "text/plain": "<Figure>"}, metadata={"width": 3}),
    ]
    cell = new_code_cell("run()", outputs=outputs, metadata={"execution": {"started": "now"}, "tags": ["it"]})
    script.clean(cell)
    text, table, shown = cell.outputs
    assert table.data == {"text/html": "<table>2.5</table>"}
    assert (text.name, text.text) == ("stdout", "one\ntwo\n") and cell.metadata == {"tags": ["it"]}
    small = Image.open(io.BytesIO(base64.b64decode(shown.data["image/png"])))
    assert small.size == (900, 450) and len(shown.data["image/png"]) < len(png) and not shown.metadata
