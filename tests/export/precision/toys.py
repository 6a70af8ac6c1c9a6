"""A graph of a few layers in the manner of a bundle: weights in fp16, a Cast to each."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

from export.onnx_files import OPSET
from export.precision.graphs import widened

WIDTH, SIDE = 24, 8
LAYERS = ("first", "middle", "last")


def written(path: Path, *, spike: str = "", seed: int = 0) -> Path:
    """x [1, C, S, S] → three convolutions with SiLU between, then 2 y + x: what lies around them.

    The layer `spike` gets one input channel a thousand times the others, which int8 cannot hold
    beside them.
    """
    rng = np.random.default_rng(seed)
    shape = [1, WIDTH, SIDE, SIDE]
    nodes, tensors = [], []

    def constant(name: str, value: np.ndarray) -> str:
        tensors.append(numpy_helper.from_array(value, name))
        return name

    at = "scaled"
    nodes.append(helper.make_node("Mul", ["x", constant("half", np.float32(0.5))], [at], "scale"))
    for layer in LAYERS:
        weight = rng.standard_normal((WIDTH, WIDTH, 3, 3)) / (3 * WIDTH**0.5)
        if layer == spike:
            gain = np.ones(WIDTH)
            gain[0] = 1000
            weight[:, 0] /= 1000
            name = constant(f"{layer}.gain", gain.astype(np.float32).reshape(1, WIDTH, 1, 1))
            nodes.append(helper.make_node("Mul", [at, name], [f"{layer}.in"], f"{layer}.gained"))
            at = f"{layer}.in"
        label = f"diffusion.{layer}.weight"
        constant(label, weight.astype(np.float16))
        wide = f"{label}/fp32"
        nodes.append(helper.make_node("Cast", [label], [wide], to=TensorProto.FLOAT))
        made = f"{layer}.out"
        nodes.append(helper.make_node("Conv", [at, wide], [made], layer, pads=[1] * 4))
        at = made
        if layer != LAYERS[-1]:
            nodes.append(helper.make_node("Sigmoid", [made], [f"{layer}.s"], f"{layer}.sigmoid"))
            at = f"{layer}.act"
            nodes.append(helper.make_node("Mul", [made, f"{layer}.s"], [at], f"{layer}.silu"))
    nodes.append(helper.make_node("Add", [at, at], ["twice"], "double"))
    nodes.append(helper.make_node("Add", ["twice", "x"], ["y"], "residual"))
    graph = helper.make_graph(
        nodes,
        "toy",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, shape)],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, shape)],
        tensors,
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", OPSET)], ir_version=8)
    onnx.checker.check_model(model, full_check=True)
    onnx.save(model, path)
    return path


def toy(folder: Path, **how: object) -> onnx.ModelProto:
    """The same, widened."""
    return widened(written(folder / "toy.onnx", **how))  # type: ignore[arg-type]


def samples(count: int, *, seed: int = 0) -> list[dict[str, np.ndarray]]:
    rng = np.random.default_rng(seed)
    shape = (count, 1, WIDTH, SIDE, SIDE)
    return [{"x": x} for x in rng.standard_normal(shape).astype(np.float32)]
