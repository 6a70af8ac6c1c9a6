"""Arithmetic on shapes, done once: tracing writes it into the graph though every shape is static.

Only integers are folded, unless asked: numbers that came from weights stay as the model computes
them. Of a graph whose weights are its inputs, floats follow from constants alone.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import numpy_helper
from onnx.reference import ReferenceEvaluator

__all__ = ["fold_shapes"]

ELEMENTS_MAX = 64  # of a value that is worth folding: shapes, axes, indices
FLOATS = (onnx.TensorProto.FLOAT, onnx.TensorProto.FLOAT16, onnx.TensorProto.DOUBLE)
Known = dict[str, NDArray[Any]]


def fold_shapes(
    model: onnx.ModelProto, *, floats: bool = False, elements: int = ELEMENTS_MAX
) -> onnx.ModelProto:
    """The same graph with integers that depend on static shapes alone as constants.

    With `floats`, other numbers that depend on no input too; `elements` is the largest value.
    """
    kinds = "iubf" if floats else "iub"
    while True:
        inferred = onnx.shape_inference.infer_shapes(model, data_prop=True)
        known = _known(inferred, kinds, elements)
        folded = {
            name: known[name]
            for node in model.graph.node
            for name in node.output
            if name in known and node.op_type != "Constant"
        }
        if not folded:
            break
        _replace(model, folded)
    _share_constants(model)
    return model


def _known(model: onnx.ModelProto, kinds: str, elements: int) -> Known:
    """Every small tensor of such `kinds` whose value follows from constants and shapes."""
    graph = model.graph
    shapes = {
        value.name: [dim.dim_value for dim in value.type.tensor_type.shape.dim]
        for value in (*graph.input, *graph.output, *graph.value_info)
        if value.type.tensor_type.HasField("shape")
        and all(dim.HasField("dim_value") for dim in value.type.tensor_type.shape.dim)
    }
    shapes |= {tensor.name: list(tensor.dims) for tensor in graph.initializer}
    known: Known = {
        tensor.name: numpy_helper.to_array(tensor)
        for tensor in graph.initializer
        if ("f" in kinds or tensor.data_type not in FLOATS) and _size(tensor.dims) <= elements
    }
    for node in graph.node:
        if node.op_type == "Shape" and node.input[0] in shapes:
            start, end = (_integer(node, name) for name in ("start", "end"))
            known[node.output[0]] = np.array(shapes[node.input[0]][start:end], np.int64)
        elif all(name in known or not name for name in node.input):
            found = _evaluate(node, known, model)
            known |= {
                k: v for k, v in found.items() if v.dtype.kind in kinds and v.size <= elements
            }
    return known


def _evaluate(node: onnx.NodeProto, known: Known, model: onnx.ModelProto) -> Known:
    """The node's outputs."""
    if node.op_type == "Constant" and node.attribute[0].name == "value":
        return {node.output[0]: numpy_helper.to_array(node.attribute[0].t)}
    given = {name: known[name] for name in node.input if name}
    function = onnx.helper.make_graph(
        [node],
        "one node",
        [onnx.helper.make_tensor_value_info(k, _type(v), v.shape) for k, v in given.items()],
        [onnx.ValueInfoProto(name=name) for name in node.output],
    )
    one = onnx.helper.make_model(function, opset_imports=model.opset_import)
    values = ReferenceEvaluator(one).run(None, given)
    return {name: np.asarray(value) for name, value in zip(node.output, values, strict=True)}


def _replace(model: onnx.ModelProto, folded: Known) -> None:
    """Put constants where nodes were, and drop nodes that nobody reads any more."""
    nodes = []
    for node in model.graph.node:
        if not all(name in folded for name in node.output):
            nodes.append(node)
    needed = {value.name for value in model.graph.output}
    kept = []
    for node in reversed(nodes):
        if needed.intersection(node.output):
            needed.update(node.input)
            kept.append(node)
    del model.graph.node[:]
    model.graph.node.extend(reversed(kept))
    model.graph.initializer.extend(
        numpy_helper.from_array(value, name) for name, value in folded.items() if name in needed
    )
    initializers = [tensor for tensor in model.graph.initializer if tensor.name in needed]
    del model.graph.initializer[:]
    model.graph.initializer.extend(initializers)


def _share_constants(model: onnx.ModelProto) -> None:
    """Every constant once: tracing writes the same few hundreds of times."""
    shared: dict[bytes, str] = {}
    renamed: dict[str, str] = {}
    nodes = []
    for node in model.graph.node:
        if node.op_type != "Constant" or node.attribute[0].name != "value":
            nodes.append(node)
            continue
        tensor = node.attribute[0].t
        key = f"{tensor.data_type} {list(tensor.dims)} ".encode() + tensor.raw_data
        if tensor.ByteSize() > ELEMENTS_MAX * 8 or not tensor.HasField("raw_data"):
            nodes.append(node)
            continue
        if key not in shared:
            shared[key] = tensor.name = f"constant_{len(shared)}"
            model.graph.initializer.append(tensor)
        renamed[node.output[0]] = shared[key]
    for node in nodes:
        node.input[:] = [renamed.get(name, name) for name in node.input]
    del model.graph.node[:]
    model.graph.node.extend(nodes)


def _size(dims: Any) -> int:
    return int(np.prod(dims))


def _type(array: NDArray[Any]) -> int:
    return int(onnx.helper.np_dtype_to_tensor_dtype(array.dtype))


def _integer(node: onnx.NodeProto, name: str) -> int | None:
    for attribute in node.attribute:
        if attribute.name == name:
            return int(attribute.i)
    return None
