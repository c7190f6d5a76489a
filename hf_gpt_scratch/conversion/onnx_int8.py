"""
An ONNX graph in 8 bits: its matrix products by onnxruntime's `quantize_dynamic`, its token embeddings here.

`quantize_dynamic` gives each output of a matrix a scale of its own, and measures the inputs as they come. It would
quantise the embeddings with one scale for all tokens, and could not share them with a tied output head; here each
token has its own scale, which for a tied head is that of the head's output, so that the file holds the matrix once.
"""

import logging
from pathlib import Path

import numpy as np

INT8_MAX = 127


def quantize(source: Path, target: Path, embeddings: str) -> None:
    """
    Writes the graph in `source` in 8 bits.

    Args:
        embeddings: the name of the matrix of token embeddings, `(V, C)`, or `(C, V)` where it is also the head's.
    """
    import onnx
    from onnxruntime.quantization import QuantType, quantize_dynamic

    before = logging.root.manager.disable
    logging.disable(logging.WARNING)  # it advises to optimize the graph first, which the exporter has done
    try:
        quantize_dynamic(
            source,
            target,
            op_types_to_quantize=["MatMul"],
            per_channel=True,
            weight_type=QuantType.QInt8,
            extra_options={"DefaultTensorType": onnx.TensorProto.FLOAT},
        )
    finally:
        logging.disable(before)
    model = onnx.load(target)
    _quantize_embeddings(model.graph, embeddings)
    onnx.save(model, target)


def _quantize_embeddings(graph, name: str) -> None:
    """Reads the token embeddings from 8 bits, each with its token's scale, in place."""
    from onnx import TensorProto, helper, numpy_helper

    tensors = {tensor.name: tensor for tensor in graph.initializer}
    number, gather = next(
        (number, node) for number, node in enumerate(graph.node) if node.op_type == "Gather" and node.input[0] == name
    )
    ids, output = gather.input[1], gather.output[0]
    axis = next((attribute.i for attribute in gather.attribute if attribute.name == "axis"), 0)
    quantized, scale = f"{name}_quantized", f"{name}_scale"
    if quantized not in tensors:  # not the head's too
        values, scales = _by_row(numpy_helper.to_array(tensors[name]))
        graph.initializer.extend([numpy_helper.from_array(values, quantized), numpy_helper.from_array(scales, scale)])
    graph.initializer.remove(tensors[name])
    nodes = [
        helper.make_node("Gather", [quantized, ids], [f"{output}_int8"], axis=axis),
        helper.make_node("Cast", [f"{output}_int8"], [f"{output}_cast"], to=TensorProto.FLOAT),
        helper.make_node("Gather", [scale, ids], [f"{output}_scale"], axis=0),
        helper.make_node("Mul", [f"{output}_cast", f"{output}_scale"], [output]),
    ]
    del graph.node[number]
    for place, node in enumerate(nodes):
        graph.node.insert(number + place, node)


def _by_row(matrix: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """A matrix `(V, C)` in 8 bits, and the scale of each row, `(V, 1)`."""
    scales = np.abs(matrix).max(1, keepdims=True) / INT8_MAX
    scales = np.where(scales == 0, 1, scales).astype(np.float32)
    return np.round(matrix / scales).astype(np.int8), scales
