"""What a graph may hold, so that every runtime's ONNX parser reads it."""

from __future__ import annotations

import onnx

from export.onnx_files import OPSET

__all__ = ["lint", "operators"]

# Data-dependent shapes and control flow: no static plan can be built for them.
REFUSED = {"NonZero", "Loop", "If", "Scan", "Unique", "NonMaxSuppression"}
REFUSED_BEGINNINGS = ("Scatter", "Sequence", "Random")
# TensorRT knows these on pictures [N, C, H, W], not on volumes.
PICTURES_ONLY = {"GridSample", "Resize"}


def lint(graph: onnx.ModelProto) -> list[str]:
    """What is wrong with `graph`; nothing, if all is well."""
    found = [
        f"opset {entry.version} of {entry.domain or 'ai.onnx'}, expected ai.onnx {OPSET}"
        for entry in graph.opset_import
        if entry.domain not in ("", "ai.onnx") or entry.version != OPSET
    ]
    inferred = onnx.shape_inference.infer_shapes(graph, data_prop=True).graph
    rank = {}
    for value in (*inferred.input, *inferred.output, *inferred.value_info):
        shape = value.type.tensor_type.shape
        rank[value.name] = len(shape.dim)
        if any(dim.dim_param or not dim.HasField("dim_value") for dim in shape.dim):
            found.append(f"{value.name!r} has a shape that is not static")
    for node in inferred.node:
        if node.op_type in REFUSED or node.op_type.startswith(REFUSED_BEGINNINGS):
            found.append(f"operator {node.op_type} ({node.name})")
        if node.op_type in PICTURES_ONLY and rank.get(node.input[0], 4) != 4:
            found.append(f"{node.op_type} of {rank[node.input[0]]} axes ({node.name})")
    return found


def operators(graph: onnx.ModelProto) -> list[str]:
    """The operators a graph uses; a convolution is told by how many axes it runs along."""
    weights = {t.name: len(t.dims) for t in graph.graph.initializer}
    behind = {n.output[0]: n.input[0] for n in graph.graph.node if n.op_type == "Cast"}
    names = set()
    for node in graph.graph.node:
        name = node.op_type
        if name == "Conv":
            weight = behind.get(node.input[1], node.input[1])
            name += f"{weights[weight] - 2}d"
        names.add(name)
    return sorted(names)
