"""
An ONNX graph in 8 bits, in two ways.

`quantize` is faster than fp32: the matrix products by onnxruntime's `quantize_dynamic`, the token embeddings here.
`quantize_dynamic` gives each output of a matrix a scale of its own, and measures the inputs as they come. It would
quantise the embeddings with one scale for all tokens, and could not share them with a tied output head; here each
token has its own scale, which for a tied head is that of the head's output, so that the file holds the matrix once.

`store` only makes the file smaller: the runtime widens the weights when it loads it, and computes in fp32. No input is
rounded, so that the scores are closer to the model's, and those of a text do not depend on others.
"""

import logging
from pathlib import Path

import numpy as np

from ..utils.requirements import import_onnxruntime

INT8_MAX = 127
BLOCK = 32  # weights with a scale of their own, in `store`


def quantize(source: Path, target: Path, embeddings: str) -> None:
    """
    Writes the graph in `source` in 8 bits.

    Args:
        embeddings: the name of the matrix of token embeddings, `(V, C)`, or `(C, V)` where it is also the head's.
    """
    import onnx

    import_onnxruntime()
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


def store(source: Path, target: Path) -> None:
    """
    Writes the graph in `source` with its matrices in 8 bits and a scale for each 32 weights. Those that are looked up
    take 16 bits: attention in the first block can multiply what the rounding of an embedding costs.
    """
    import onnx
    from onnx import TensorProto, helper, numpy_helper

    model = onnx.load(source)
    graph, widened = model.graph, []
    looked_up = {node.input[0] for node in graph.node if node.op_type == "Gather"}
    for tensor in [one for one in graph.initializer if one.data_type == TensorProto.FLOAT and len(one.dims) == 2]:
        name, matrix = tensor.name, numpy_helper.to_array(tensor)
        if name in looked_up:
            parts = {"half": matrix.astype(np.float16)}
            widened.append(helper.make_node("Cast", [f"{name}_half"], [name], to=TensorProto.FLOAT))
        elif matrix.size % BLOCK == 0:
            values, scales = _by_row(matrix.reshape(-1, BLOCK))
            parts = {"int8": values, "scale": scales, "shape": np.array(matrix.shape)}
            widened += [
                helper.make_node("Cast", [f"{name}_int8"], [f"{name}_float"], to=TensorProto.FLOAT),
                helper.make_node("Mul", [f"{name}_float", f"{name}_scale"], [f"{name}_rows"]),
                helper.make_node("Reshape", [f"{name}_rows", f"{name}_shape"], [name]),
            ]
        else:
            continue
        graph.initializer.remove(tensor)
        graph.initializer.extend([numpy_helper.from_array(array, f"{name}_{part}") for part, array in parts.items()])
    nodes = [*widened, *graph.node]
    del graph.node[:]
    graph.node.extend(nodes)
    onnx.save(model, target)
