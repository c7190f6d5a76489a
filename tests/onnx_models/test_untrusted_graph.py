"""An ONNX file brings no operators of its own, and no weights from outside of its folder."""

from pathlib import Path

import numpy as np
import pytest

from hf_gpt_scratch.onnx_models.graph import Graph
from hf_gpt_scratch.utils.errors import InputError

onnx = pytest.importorskip("onnx", reason="pip install 'hf-gpt-scratch[onnx]'")
pytest.importorskip("onnxruntime", reason="pip install 'hf-gpt-scratch[onnx]'")


def save(path: Path, operator: str, domain: str = "", location: str | None = None) -> Path:
    """A graph of one operator on an input and maybe on weights in another file."""
    weights = []
    if location:
        tensor = onnx.TensorProto(name="w", data_type=onnx.TensorProto.FLOAT, dims=[4])
        tensor.data_location = onnx.TensorProto.EXTERNAL
        for key, value in (("location", location), ("offset", "0"), ("length", "16")):
            tensor.external_data.add(key=key, value=value)
        weights = [tensor]
    ends = [onnx.helper.make_tensor_value_info(name, onnx.TensorProto.FLOAT, [4]) for name in "xy"]
    node = onnx.helper.make_node(operator, ["x", "w"] if weights else ["x"], ["y"], domain=domain)
    graph = onnx.helper.make_graph([node], "graph", ends[:1], ends[1:], weights)
    opsets = [onnx.helper.make_opsetid("", 17), *([onnx.helper.make_opsetid(domain, 1)] if domain else [])]
    path.write_bytes(onnx.helper.make_model(graph, opset_imports=opsets, ir_version=9).SerializeToString())
    return path


@pytest.fixture
def folder(tmp_path) -> Path:
    (tmp_path / "onnx").mkdir()
    for path in (tmp_path / "outside.bin", tmp_path / "onnx" / "inside.bin"):
        np.ones(4, dtype=np.float32).tofile(path)
    (tmp_path / "onnx" / "link.bin").symlink_to("../outside.bin")
    return tmp_path / "onnx"


def test_an_operator_of_another_is_refused(folder):
    with pytest.raises(InputError, match="cannot be loaded by onnxruntime .*not a registered"):
        Graph(save(folder / "model.onnx", "Evil", "evil"))


@pytest.mark.parametrize("location", ["../outside.bin", "link.bin", "absolute"])
def test_weights_outside_of_the_folder_are_refused(folder, location):
    location = str(folder.parent / "outside.bin") if location == "absolute" else location
    with pytest.raises(InputError, match="cannot be loaded by onnxruntime .*External data path"):
        Graph(save(folder / "model.onnx", "Add", location=location))


def test_those_beside_it_are_read(folder):
    """And then only the inputs are not those of a model."""
    with pytest.raises(InputError, match="has other inputs and outputs"):
        Graph(save(folder / "model.onnx", "Add", location="inside.bin"))
