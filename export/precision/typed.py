"""fp16 and bf16 written into a graph: layers in the narrow type, Casts where types meet.

TensorRT 11 runs a network in the types its ONNX file has, so the file has to say them. The chosen
layers and what merely passes values between them are narrow. What sums or raises to powers over
many values stays in fp32, and so does all that comes before the first layer or after the last:
EDM scaling, the combination of the guided branches, the Euler step, pictures' range.
"""

from __future__ import annotations

from collections.abc import Collection

import numpy as np
import onnx
from onnx import TensorProto, numpy_helper

from export.onnx_files import OPSET, OPSET_BF16
from export.precision.graphs import HEAVY, WIDE_NAME, types_of

__all__ = ["NARROW", "OPSETS", "lowered", "rounded"]

NARROW = {"fp16": TensorProto.FLOAT16, "bf16": TensorProto.BFLOAT16}
OPSETS = {"fp16": (OPSET, 8), "bf16": (OPSET_BF16, 10)}  # and the file format's version
# Values pass through these unchanged or nearly, so they follow their inputs' type.
FOLLOW = {
    *("Add", "AveragePool", "Clip", "Concat", "DepthToSpace", "Div", "Erf", "Expand", "Gather"),
    *("Identity", "Mul", "Neg", "Pad", "Relu", "Reshape", "Resize", "Sigmoid", "Slice"),
    *("SpaceToDepth", "Split", "Squeeze", "Sub", "Tanh", "Tile", "Transpose", "Unsqueeze"),
    "Where",
}
# Their other inputs are sizes and scales with types of their own.
FIRST_ONLY = {"Expand", "Gather", "Reshape", "Resize", "Slice", "Split", "Squeeze", "Tile"} | {
    "Unsqueeze"
}


def lowered(model: onnx.ModelProto, layers: Collection[str], precision: str) -> onnx.ModelProto:
    """A copy of a widened graph whose `layers` compute in `precision`."""
    copy = onnx.ModelProto()
    copy.CopyFrom(model)
    _Pass(copy, layers, precision).run()
    opset, version = OPSETS[precision]
    del copy.opset_import[:]
    copy.opset_import.append(onnx.helper.make_opsetid("", opset))
    copy.ir_version = version
    onnx.checker.check_model(copy, full_check=True)
    return copy


class _Pass:
    """Nodes in order; which tensors are narrow is known for all that came before."""

    def __init__(self, model: onnx.ModelProto, layers: Collection[str], precision: str) -> None:
        self.graph, self.layers = model.graph, set(layers)
        self.kind, self.suffix = NARROW[precision], precision
        self.floats = {n for n, kind in types_of(model).items() if kind == TensorProto.FLOAT}
        self.weights = {t.name: t for t in self.graph.initializer}
        self.leading = _leading(self.graph, self.layers)
        self.narrow: set[str] = set()
        self.nodes: list[onnx.NodeProto] = []
        self.twins: dict[str, str] = {}  # a tensor → the same in the other type

    def run(self) -> None:
        for node in self.graph.node:
            low = self._is_low(node)
            for k, name in enumerate(node.input):
                if name in self.floats and not (low and k and node.op_type in FIRST_ONLY):
                    node.input[k] = self._as(name, narrow=low)
            self.nodes.append(node)
            if low:
                self.narrow.update(name for name in node.output if name in self.floats)
        del self.graph.node[:], self.graph.value_info[:]
        self.graph.node.extend(self.nodes)
        used = {name for node in self.nodes for name in node.input}
        kept = [t for t in self.weights.values() if t.name in used]
        del self.graph.initializer[:]
        self.graph.initializer.extend(kept)

    def _is_low(self, node: onnx.NodeProto) -> bool:
        if self._ends(node):
            return False
        if node.op_type in HEAVY:
            return node.name in self.layers
        follows = node.op_type in FOLLOW and any(name in self.narrow for name in node.input)
        return follows and node.name in self.leading

    def _ends(self, node: onnx.NodeProto) -> bool:
        return any(value.name in node.output for value in self.graph.output)

    def _as(self, name: str, *, narrow: bool) -> str:
        """`name`, or its twin in the other type where that is what is wanted."""
        if (name in self.narrow) == narrow:
            return name
        key = f"{name}|{narrow}"
        if key not in self.twins:
            stem = name.removesuffix(WIDE_NAME)
            self.twins[key] = twin = f"{stem}/{self.suffix if narrow else 'wide'}"
            if name in self.weights:
                self.weights[twin] = self._weight(self.weights[name], twin)
            else:
                to = self.kind if narrow else TensorProto.FLOAT
                self.nodes.append(onnx.helper.make_node("Cast", [name], [twin], twin, to=to))
        return self.twins[key]

    def _weight(self, tensor: TensorProto, name: str) -> TensorProto:
        value = numpy_helper.to_array(tensor)
        with np.errstate(over="ignore"):
            cast = value.astype(onnx.helper.tensor_dtype_to_np_dtype(self.kind))
        if not np.isfinite(cast.astype(np.float32)).all():
            raise ValueError(
                f"weight {name}: holds {np.abs(value).max():g}, which {self.suffix} cannot store; "
                "keep its layer in fp32"
            )
        return numpy_helper.from_array(cast, name)


def _leading(graph: onnx.GraphProto, layers: Collection[str]) -> set[str]:
    """Nodes from which a chosen layer is reached."""
    wanted: set[str] = set()
    found: set[str] = set()
    for node in reversed(graph.node):
        if wanted.intersection(node.output):
            found.add(node.name)
            wanted.update(node.input)
        if node.name in layers:
            wanted.update(node.input)
    return found


def rounded(model: onnx.ModelProto) -> onnx.ModelProto:
    """The same computed in fp32, and rounded to the narrow type after every node that makes it.

    Any processor can run this, and it is what the file says: ONNX Runtime's CPU has no bf16, and of
    fp16 it leaves out the rounding between nodes that it computes in fp32. A kernel that fuses
    nodes rounds less often.
    """
    kinds = types_of(model)
    narrow_kinds = set(NARROW.values())
    wide = onnx.ModelProto()
    wide.CopyFrom(model)
    graph = wide.graph
    del graph.node[:], graph.initializer[:], graph.value_info[:]
    for node in model.graph.node:
        copy = onnx.NodeProto()
        copy.CopyFrom(node)
        graph.node.append(copy)
        for k, name in enumerate(node.output):
            if (kind := kinds.get(name)) not in narrow_kinds:
                continue
            made = f"{name}/unrounded"
            if node.op_type == "Cast":
                graph.node[-1].CopyFrom(_cast(node.input[0], made, TensorProto.FLOAT))
            else:
                graph.node[-1].output[k] = made
            graph.node.append(_cast(made, f"{name}/bits", kind))
            graph.node.append(_cast(f"{name}/bits", name, TensorProto.FLOAT))
    for tensor in model.graph.initializer:
        if tensor.data_type in narrow_kinds:
            value = numpy_helper.to_array(tensor).astype(np.float32)
            tensor = numpy_helper.from_array(value, tensor.name)
        graph.initializer.append(tensor)
    del wide.opset_import[:]
    opset, wide.ir_version = OPSETS["fp16"]
    wide.opset_import.append(onnx.helper.make_opsetid("", opset))
    onnx.checker.check_model(wide)
    return wide


def _cast(given: str, made: str, kind: int) -> onnx.NodeProto:
    return onnx.helper.make_node("Cast", [given], [made], f"{made}/rounding", to=kind)
