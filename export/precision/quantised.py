"""int8: NNCF finds the ranges of real inputs, and the graph says them as Q/DQ pairs.

Scales are symmetric, of a tensor for activations and of an output channel for weights, which is
what TensorRT takes and what OpenVINO fuses. Only layers are quantised; biases, norms and all that
lies between them stay in fp32.
"""

from __future__ import annotations

import contextlib
import logging
import sys
import warnings
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import TensorProto, numpy_helper

from export.precision.graphs import HEAVY, WIDE_NAME, heavy_nodes
from export.precision.switched import SWITCH, Narrowing, Operand

__all__ = ["Scale", "Scales", "calibrated", "int8_narrowing", "quantised"]

# What moves values and changes none, so that a scale before it is one after it.
MOVES = {"Reshape", "Transpose", "Squeeze", "Unsqueeze", "Slice", "Split", "Identity", "Expand"}
QUANTISERS = ("QuantizeLinear", "DequantizeLinear")


@dataclass(frozen=True, eq=False)
class Scale:
    """What one step of int8 is worth: [] of a tensor, or [C] along its `axis`."""

    value: NDArray[np.float32]
    axis: int | None = None


Scales = Mapping[str, Mapping[int, Scale]]  # by layer, by operand


def calibrated(
    model: onnx.ModelProto, samples: Sequence[Mapping[str, NDArray[Any]]]
) -> dict[str, dict[int, Scale]]:
    """Scales of a widened graph's layers, from what its inputs really are.

    A layer that NNCF leaves alone, or quantises one operand of only, is not among them.
    """
    found = _nncf(model, samples)
    makers = {name: node for node in found.graph.node for name in node.output}
    tensors = {t.name: t for t in found.graph.initializer}
    scales: dict[str, dict[int, Scale]] = {}
    for node in found.graph.node:
        if node.op_type not in HEAVY:
            continue
        operands = [_scale(name, makers, tensors) for name in node.input[:2]]
        if None not in operands:
            scales[node.name] = dict(enumerate(operands))  # type: ignore[arg-type]
    return {name: scales[name] for name in heavy_nodes(model) if name in scales}


def _nncf(model: onnx.ModelProto, samples: Sequence[Mapping[str, NDArray[Any]]]) -> onnx.ModelProto:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of its dependencies' deprecations
        import nncf
        from nncf.quantization.advanced_parameters import (
            AdvancedQuantizationParameters,
            OverflowFix,
            QuantizationMode,
            QuantizationParameters,
        )
    nncf.set_log_level(logging.ERROR)
    symmetric = QuantizationParameters(mode=QuantizationMode.SYMMETRIC)
    others = sorted({node.op_type for node in model.graph.node} - set(HEAVY))
    # Its progress bars are no part of what a command prints.
    with warnings.catch_warnings(), contextlib.redirect_stdout(sys.stderr):
        warnings.simplefilter("ignore")
        return nncf.quantize(
            model,
            nncf.Dataset([dict(sample) for sample in samples]),
            subset_size=len(samples),
            ignored_scope=nncf.IgnoredScope(types=others, validate=False),
            advanced_parameters=AdvancedQuantizationParameters(
                activations_quantization_params=symmetric,
                # It would shift biases by what one graph sees, and graphs share theirs.
                disable_bias_correction=True,
                overflow_fix=OverflowFix.ENABLE,
            ),
        )


def _scale(
    name: str, makers: Mapping[str, onnx.NodeProto], tensors: Mapping[str, TensorProto]
) -> Scale | None:
    """Of the DequantizeLinear an operand comes from."""
    node = makers.get(name)
    while node is not None and node.op_type in MOVES:
        node = makers.get(node.input[0])
    if node is None or node.op_type != "DequantizeLinear":
        return None
    value = numpy_helper.to_array(tensors[node.input[1]]).astype(np.float32)
    zero = numpy_helper.to_array(tensors[node.input[2]])
    assert not zero.any(), f"the range of {name} is not symmetric"
    if zero.dtype == np.uint8:  # it is never negative; TensorRT takes signed integers only
        value = value * np.float32(255 / 127)
    if value.size == 1:
        return Scale(value.reshape(()))
    return Scale(value, next(a.i for a in node.attribute if a.name == "axis"))


def quantised(model: onnx.ModelProto, scales: Scales, layers: Collection[str]) -> onnx.ModelProto:
    """A copy of a widened graph whose `layers` read their operands through int8."""
    copy = onnx.ModelProto()
    copy.CopyFrom(model)
    graph = copy.graph
    weights = {t.name: t for t in graph.initializer}
    nodes: list[onnx.NodeProto] = []
    extra: dict[str, TensorProto] = {}
    made: set[str] = set()
    for node in graph.node:
        if node.name in layers:
            for k, scale in scales[node.name].items():
                weight = weights.get(node.input[k])
                before, tensors, name = _pair(node.input[k], scale, weight)
                nodes += [n for n in before if n.name not in made]
                made.update(n.name for n in before)
                extra |= {t.name: t for t in tensors}
                node.input[k] = name
        nodes.append(node)
    used = {name for node in nodes for name in node.input}
    kept = [t for t in (*weights.values(), *extra.values()) if t.name in used]
    del graph.node[:], graph.initializer[:], graph.value_info[:]
    graph.node.extend(nodes)
    graph.initializer.extend(kept)
    onnx.checker.check_model(copy, full_check=True)
    return copy


def int8_narrowing(model: onnx.ModelProto, scales: Scales) -> Narrowing:
    """Operands through int8 and back; results are left as they are."""
    weights = {t.name: t for t in model.graph.initializer}

    def narrow(node: onnx.NodeProto, k: int) -> Operand | None:
        scale = scales[node.name].get(k)
        if k < 0 or scale is None:
            return None
        operand = _pair(node.input[k], scale, weights.get(node.input[k]))
        return _renamed(operand, f"{SWITCH}/{node.name}/{k}/")

    return narrow


def _pair(name: str, scale: Scale, weight: TensorProto | None) -> Operand:
    """Q and DQ of an activation, DQ of a weight that is stored in int8."""
    # Two layers that read one tensor may have found it a different range.
    stem = f"{name.removesuffix(WIDE_NAME)}/int8/{_label(scale)}"
    tensors = [
        numpy_helper.from_array(scale.value, f"{stem}/scale"),
        numpy_helper.from_array(np.zeros(scale.value.shape, np.int8), f"{stem}/zero"),
    ]
    how = {} if scale.axis is None else {"axis": scale.axis}
    nodes = []
    if weight is None:
        inputs = [name, f"{stem}/scale", f"{stem}/zero"]
        nodes.append(onnx.helper.make_node("QuantizeLinear", inputs, [stem], f"{stem}/to", **how))
    else:
        tensors.append(numpy_helper.from_array(_integers(weight, scale), stem))
    inputs = [stem, f"{stem}/scale", f"{stem}/zero"]
    nodes.append(
        onnx.helper.make_node("DequantizeLinear", inputs, [f"{stem}/value"], f"{stem}/from", **how)
    )
    return nodes, tensors, f"{stem}/value"


def _label(scale: Scale) -> str:
    return f"{float(scale.value):.6g}" if scale.axis is None else f"axis{scale.axis}"


def _integers(weight: TensorProto, scale: Scale) -> NDArray[np.int8]:
    value = numpy_helper.to_array(weight)
    shape = [1] * value.ndim
    if scale.axis is not None:
        shape[scale.axis] = -1
    steps = np.rint(value / scale.value.reshape(shape))
    return np.clip(steps, -127, 127).astype(np.int8)


def _renamed(operand: Operand, prefix: str) -> Operand:
    """The same with names of its own, but for what it reads from the graph."""
    nodes, tensors, _ = operand
    ours = {t.name for t in tensors} | {name for node in nodes for name in node.output}
    for tensor in tensors:
        tensor.name = prefix + tensor.name
    for node in nodes:
        node.input[:] = [prefix + n if n in ours else n for n in node.input]
        node.output[:] = [prefix + n for n in node.output]
        node.name = prefix + node.name
    return nodes, tensors, nodes[-1].output[0]
