"""What a graph may hold, so that every runtime's ONNX parser reads it."""

from __future__ import annotations

import re

import onnx

from export.onnx_files import OPSET, OPSET_BF16

__all__ = ["lint", "operators"]

FILE_NAME = re.compile(r"[A-Za-z0-9_-][A-Za-z0-9._-]*")

# What graphs may hold. All but GridSample and LayerNormalization are in the published table of
# TensorRT 8.4's ONNX parser; those two came later. OpenVINO runs each in the tests. One
# that is not here may be as good: look it up, then add it. No TensorRT plan has been built yet.
KNOWN = {
    *("Add", "AveragePool", "Cast", "Clip", "Concat", "Constant", "ConstantOfShape", "Conv"),
    *("Cos", "DepthToSpace", "Div", "Erf", "Exp", "Expand", "Gather", "Gemm"),
    *(
        "GridSample",
        "Identity",
        "InstanceNormalization",
        "LayerNormalization",
        "Log",
        "MatMul",
        "Mul",
        "Neg",
    ),
    *(
        "DequantizeLinear",
        "Pad",
        "Pow",
        "QuantizeLinear",
        "ReduceMax",
        "ReduceMean",
        "ReduceSum",
        "Relu",
        "Reshape",
        "Resize",
    ),
    *("Sigmoid", "Sin", "Slice", "Softmax", "Softplus", "SpaceToDepth", "Split", "Sqrt"),
    *("Squeeze", "Sub", "Tanh", "Tile", "Transpose", "Unsqueeze", "Where"),
}
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
        if entry.domain not in ("", "ai.onnx") or entry.version not in (OPSET, OPSET_BF16)
    ]
    inferred = onnx.shape_inference.infer_shapes(graph, data_prop=True).graph
    rank = {}
    for value in (*inferred.input, *inferred.output, *inferred.value_info):
        shape = value.type.tensor_type.shape
        rank[value.name] = len(shape.dim)
        if any(dim.dim_param or not dim.HasField("dim_value") for dim in shape.dim):
            found.append(f"{value.name!r} has a shape that is not static")
    for tensor in graph.graph.initializer:
        where = {entry.key: entry.value for entry in tensor.external_data}.get("location", "")
        if tensor.external_data and not FILE_NAME.fullmatch(where):
            found.append(f"{tensor.name!r} lies in {where!r}, which is no file of the folder")
    for node in inferred.node:
        refused = node.op_type in REFUSED or node.op_type.startswith(REFUSED_BEGINNINGS)
        if refused or node.op_type not in KNOWN or node.domain not in ("", "ai.onnx"):
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
