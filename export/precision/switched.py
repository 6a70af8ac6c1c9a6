"""One graph in which every layer can be narrow or not, by an input: for measuring them one by one.

Building a graph for each of some hundred layers takes longer than running it. Here each layer's
operands exist both as they are and narrowed, and an element of the input `SWITCH` picks.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np
import onnx
from onnx import TensorProto, numpy_helper

from export.precision.graphs import types_of
from export.precision.typed import NARROW

__all__ = ["SWITCH", "Narrowing", "Operand", "switched", "typed_narrowing"]

SWITCH = "gas_rt.switch"

# Nodes that make the narrowed twin of a tensor, with the twin's name last; None to leave it.
Operand = tuple[list[onnx.NodeProto], list[TensorProto], str]
Narrowing = Callable[[onnx.NodeProto, int], Operand | None]


def switched(
    model: onnx.ModelProto, layers: Sequence[str], narrow: Narrowing, *, outputs: bool
) -> onnx.ModelProto:
    """A copy of a widened graph with the input `SWITCH` [len(layers)] bool.

    `narrow` makes the twin of a node's operand; index −1 is its result, asked for with `outputs`.
    """
    copy = onnx.ModelProto()
    copy.CopyFrom(model)
    floats = {name for name, kind in types_of(model).items() if kind == TensorProto.FLOAT}
    numbers = {name: k for k, name in enumerate(layers)}
    graph, nodes, extra = copy.graph, [], []
    for node in graph.node:
        number = numbers.get(node.name)
        if number is None:
            nodes.append(node)
            continue
        extra.append(numpy_helper.from_array(np.array(number), f"{SWITCH}/{number}/at"))
        picked = f"{SWITCH}/{number}"
        nodes.append(
            onnx.helper.make_node("Gather", [SWITCH, f"{SWITCH}/{number}/at"], [picked], picked)
        )
        for k, name in enumerate(node.input):
            if name in floats and (operand := narrow(node, k)) is not None:
                before, tensors, twin = operand
                chosen = f"{picked}/operand {k}"
                nodes += [*before, _where(picked, twin, name, chosen)]
                extra += tensors
                node.input[k] = chosen
        nodes.append(node)
        if outputs and (operand := narrow(node, -1)) is not None:
            before, tensors, twin = operand
            made = node.output[0]
            node.output[0] = f"{made}/as it is"
            for maker in before:
                maker.input[:] = [node.output[0] if n == made else n for n in maker.input]
            nodes += [*before, _where(picked, twin, node.output[0], made)]
            extra += tensors
    del graph.node[:], graph.value_info[:]
    graph.node.extend(nodes)
    graph.initializer.extend(extra)
    graph.input.append(onnx.helper.make_tensor_value_info(SWITCH, TensorProto.BOOL, [len(layers)]))
    onnx.checker.check_model(copy)
    return copy


def _where(condition: str, yes: str, no: str, made: str) -> onnx.NodeProto:
    return onnx.helper.make_node("Where", [condition, yes, no], [made], made)


def typed_narrowing(precision: str) -> Narrowing:
    """Operands and results rounded to fp16 or bf16."""
    kind = NARROW[precision]

    def narrow(node: onnx.NodeProto, k: int) -> Operand:
        name = node.output[0] if k < 0 else node.input[k]
        stem = f"{SWITCH}/{node.name}/{k}"
        down = onnx.helper.make_node("Cast", [name], [f"{stem}/bits"], f"{stem}/down", to=kind)
        up = onnx.helper.make_node(
            "Cast", [f"{stem}/bits"], [f"{stem}/value"], f"{stem}/up", to=TensorProto.FLOAT
        )
        return [down, up], [], f"{stem}/value"

    return narrow
