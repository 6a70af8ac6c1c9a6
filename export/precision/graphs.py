"""A bundle's graphs with their weights in memory and in fp32, and back to what a file holds.

Everything here works on graphs as the export wrote them: an initialiser is stored in fp16 and one
Cast brings it to fp32. What changes types wants plain fp32 weights instead.
"""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

import onnx
from onnx import TensorProto, numpy_helper

from export.onnx_files import digest

__all__ = ["HEAVY", "heavy_nodes", "ordered_nodes", "stored_names", "types_of", "widened"]

# Where the time goes, and what a layer is here: one of these nodes.
HEAVY = ("Conv", "Gemm", "MatMul")
WIDE_NAME = "/fp32"  # what `halve` adds to the name of a weight that a Cast brought to fp32


def widened(path: Path) -> onnx.ModelProto:
    """The graph in fp32 throughout, with its weights inside."""
    model = onnx.load(path)
    graph = model.graph
    constants = {t.name: t for t in graph.initializer}
    halves = {name for name, t in constants.items() if t.data_type == TensorProto.FLOAT16}
    nodes, wide = [], []
    for node in graph.node:
        # Integers too: NNCF cannot read a Cast of a constant.
        if node.op_type == "Cast" and node.input[0] in constants:
            dtype = onnx.helper.tensor_dtype_to_np_dtype(node.attribute[0].i)
            value = numpy_helper.to_array(constants[node.input[0]]).astype(dtype)
            wide.append(numpy_helper.from_array(value, node.output[0]))
        else:
            nodes.append(node)
    used = {name for node in nodes for name in node.input}
    kept = [t for t in graph.initializer if t.name in used]
    if lost := sorted(used & halves):
        raise ValueError(
            f"{path.name}: computes with {lost[0]!r} in fp16 already; give the bundle in fp32"
        )
    del graph.node[:], graph.initializer[:]
    graph.node.extend(nodes)
    graph.initializer.extend([*kept, *wide])
    return model


def stored_names(model: onnx.ModelProto) -> dict[bytes, str]:
    """Digest of a widened graph's weights → their names, for `halve`."""
    return {
        digest(numpy_helper.to_array(t)): t.name.removesuffix(WIDE_NAME)
        for t in model.graph.initializer
        if t.name.endswith(WIDE_NAME)
    }


def heavy_nodes(model: onnx.ModelProto) -> dict[str, onnx.NodeProto]:
    """The layers, by name, in the graph's order."""
    return {node.name: node for node in model.graph.node if node.op_type in HEAVY}


def types_of(model: onnx.ModelProto) -> dict[str, int]:
    """TensorProto.DataType of every tensor."""
    inferred = onnx.shape_inference.infer_shapes(model).graph
    types = {t.name: t.data_type for t in inferred.initializer}
    for value in (*inferred.input, *inferred.output, *inferred.value_info):
        types[value.name] = value.type.tensor_type.elem_type
    return types


def ordered_nodes(model: onnx.ModelProto, nodes: Iterable[onnx.NodeProto]) -> None:
    """Put `nodes` into the graph, each after those it reads, otherwise as they come."""
    waiting = list(nodes)
    made = {t.name for t in model.graph.initializer} | {v.name for v in model.graph.input} | {""}
    placed: list[onnx.NodeProto] = []
    while waiting:
        later = []
        for node in waiting:
            if made.issuperset(node.input):
                placed.append(node)
                made.update(node.output)
            else:
                later.append(node)
        assert len(later) < len(waiting), f"a cycle, or nobody makes the inputs of {later[0].name}"
        waiting = later
    del model.graph.node[:]
    model.graph.node.extend(placed)
