"""Which layers compute in which type: counted in a file, and in what a runtime made of it."""

from __future__ import annotations

from collections import Counter
from pathlib import Path
from typing import Any

import onnx
from onnx import TensorProto

from export.precision.graphs import HEAVY, types_of

__all__ = ["layer_types", "runtime_types", "wide_tail"]

NAMES = {
    TensorProto.FLOAT: "fp32",
    TensorProto.FLOAT16: "fp16",
    TensorProto.BFLOAT16: "bf16",
}
OPENVINO_NAMES = {"f32": "fp32", "f16": "fp16", "bf16": "bf16", "i8": "int8", "u8": "int8"}
# What OpenVINO calls a layer; it joins some, and rewrites products of matrices.
OPENVINO_LAYERS = {"Convolution", "FullyConnected", "MatMul"}


def layer_types(model: onnx.ModelProto) -> dict[str, str]:
    """By layer, its type: int8 where both operands come out of a DequantizeLinear."""
    kinds = types_of(model)
    makers = {name: node for node in model.graph.node for name in node.output}
    found = {}
    for node in model.graph.node:
        if node.op_type not in HEAVY:
            continue
        operands = [makers.get(name) for name in node.input[:2]]
        if all(maker is not None and maker.op_type == "DequantizeLinear" for maker in operands):
            found[node.name] = "int8"
        else:
            kind = kinds.get(node.output[0], TensorProto.UNDEFINED)
            found[node.name] = NAMES.get(kind, str(kind))
    return found


def wide_tail(model: onnx.ModelProto) -> list[str]:
    """Nodes that no layer follows and that do not compute in fp32; there should be none.

    These are the combination of guided branches, the Euler step, or a picture's range.
    """
    kinds = types_of(model)
    leads: set[str] = set()
    wrong = []
    for node in reversed(model.graph.node):
        if node.op_type in HEAVY or leads.intersection(node.output):
            leads.update(node.input)
            continue
        narrow = {kinds.get(name) for name in node.output} & {
            TensorProto.FLOAT16,
            TensorProto.BFLOAT16,
        }
        if narrow or node.op_type in ("QuantizeLinear", "DequantizeLinear"):
            wrong.append(node.name)
    return wrong


def runtime_types(path: Path, *, hint: str, threads: int) -> dict[str, int]:
    """How many layers OpenVINO runs in which type on this processor, when told `hint`.

    Its names for a layer's type are of the operands it reads.
    """
    import openvino

    config = {"INFERENCE_PRECISION_HINT": hint, "INFERENCE_NUM_THREADS": threads}
    compiled = openvino.Core().compile_model(path, "CPU", config)
    counts: Counter[str] = Counter()
    for node in compiled.get_runtime_model().get_ops():
        about: Any = node.get_rt_info()
        if about["layerType"].value in OPENVINO_LAYERS:
            kind = about["runtimePrecision"].value
            counts[OPENVINO_NAMES.get(kind, kind)] += 1
    return dict(sorted(counts.items()))
