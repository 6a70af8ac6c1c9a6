"""Stand-ins for TensorRT, CuPy and the plan store, and a small graph, for the backend's tests."""

from __future__ import annotations

import sys
import threading
import types
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime
import pytest
from onnx import TensorProto, helper, numpy_helper

from gas_rt.engine import GraphSpec, TensorSpec
from gas_rt.engine.tensorrt import TensorRtEngine
from gas_rt.errors import PlanError
from tests.engine.fake_cupy import FakeGpu
from tests.engine.fake_tensorrt import FakeTensorRt

FRAMES, CHANNELS, SIDE = 2, 3, 8
SHAPE = (FRAMES, CHANNELS, SIDE, SIDE)
Inputs = dict[str, np.ndarray]


class FakeSteps:
    """What a build may tell and ask, as the plan store gives it."""

    def __init__(self, store: FakeStore, progress: Any, cancel: threading.Event | None) -> None:
        self._store, self._progress, self._cancel = store, progress, cancel

    @property
    def cancelled(self) -> bool:
        return self._cancel is not None and self._cancel.is_set()

    def tell(self, share: float, doing: str) -> None:
        self._store.told.append((share, doing))
        if self._progress is not None:
            self._progress(share, doing)

    def timing_cache(self) -> bytes:
        return self._store.timings

    def keep_timing_cache(self, data: bytes) -> None:
        self._store.timings = data


@dataclass
class FakeStore:
    """Plans in memory, by the digest of their key."""

    plans: dict[str, bytes] = field(default_factory=dict)
    keys: list[Any] = field(default_factory=list)
    told: list[tuple[float, str]] = field(default_factory=list)
    timings: bytes = b""
    status: str = "on"

    refused: bool = False

    def find(self, key: Any) -> Any:
        self.keys.append(key)
        if self.refused:
            raise PlanError("plan x: contents differ; refused", field="contents")
        data = self.plans.get(key.digest)
        return None if data is None else types.SimpleNamespace(read=lambda: data)

    def discard(self, key: Any) -> None:
        del self.plans[key.digest]

    def build(
        self,
        key: Any,
        make: Callable[[Any], bytes],
        *,
        progress: Any = None,
        cancel: threading.Event | None = None,
    ) -> Any:
        data = make(FakeSteps(self, progress, cancel))
        self.plans[key.digest] = data
        return types.SimpleNamespace(read=lambda: data)


@dataclass
class World:
    """A machine with a GPU and TensorRT, none of which is there."""

    gpu: FakeGpu
    trt: FakeTensorRt
    store: FakeStore

    def engine(self, **options: Any) -> TensorRtEngine:
        return TensorRtEngine(**{"requested": "tensorrt", "store": self.store, **options})


def make_world(monkeypatch: pytest.MonkeyPatch, version: str = "11.4.0.106") -> World:
    """Put the stand-ins where the backend imports TensorRT and CuPy from."""
    gpu = FakeGpu()
    trt = FakeTensorRt(gpu, version)
    monkeypatch.setitem(sys.modules, "tensorrt", trt.module())
    monkeypatch.setitem(sys.modules, "cupy", gpu.cupy)
    monkeypatch.setitem(sys.modules, "cupyx", gpu.cupyx)
    return World(gpu, trt, FakeStore())


def write_step(
    folder: Path, *, name: str = "step", nodes: int = 1, precision: str = ""
) -> GraphSpec:
    """A graph like a denoiser's: x [F, C, S, S], gain [F] → x_next and x0, x0 = conv(x).

    `nodes` convolutions follow one another; weights are in a file of their own.
    """
    half = precision == "fp16"
    kind = TensorProto.FLOAT16 if half else TensorProto.FLOAT
    generator = np.random.default_rng(0)
    weights, made, at = [], [], "x"
    if half:
        made.append(helper.make_node("Cast", ["x"], ["x_half"], to=kind))
        at = "x_half"
    for index in range(nodes):
        values = generator.normal(0, 0.2, (CHANNELS, CHANNELS, 3, 3))
        values = values.astype(np.float16 if half else np.float32)
        weights.append(numpy_helper.from_array(values, f"conv{index}.weight"))
        target = f"y{index}"
        made.append(
            helper.make_node("Conv", [at, f"conv{index}.weight"], [target], pads=[1, 1, 1, 1])
        )
        at = target
    made += [
        helper.make_node("Cast", [at], ["x0"], to=TensorProto.FLOAT),
        helper.make_node("Reshape", ["gain", "wide"], ["gain_wide"]),
        helper.make_node("Mul", ["x0", "gain_wide"], ["change"]),
        helper.make_node("Add", ["x", "change"], ["x_next"]),
    ]
    graph = helper.make_graph(
        made,
        name,
        [_value("x", SHAPE), _value("gain", (FRAMES,))],
        [_value("x_next", SHAPE), _value("x0", SHAPE)],
        initializer=[
            *weights,
            numpy_helper.from_array(np.array([FRAMES, 1, 1, 1], np.int64), "wide"),
        ],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=9)
    if precision:
        helper.set_model_props(model, {"gas_rt.precision": precision})
    folder.mkdir(exist_ok=True)
    path = folder / f"{name}.onnx"
    onnx.save_model(
        model, path, save_as_external_data=True, location=f"{name}.bin", size_threshold=128
    )
    frames = TensorSpec(SHAPE, "float32")
    return GraphSpec(
        name,
        path,
        {"x": frames, "gain": TensorSpec((FRAMES,), "float32")},
        {"x_next": frames, "x0": frames},
    )


def write_plain(folder: Path) -> GraphSpec:
    """A graph without weights: y = x + x."""
    node = helper.make_node("Add", ["x", "x"], ["y"])
    graph = helper.make_graph([node], "plain", [_value("x", (4,))], [_value("y", (4,))])
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=9)
    onnx.save(model, folder / "plain.onnx")
    tensor = TensorSpec((4,), "float32")
    return GraphSpec("plain", folder / "plain.onnx", {"x": tensor}, {"y": tensor})


def _value(name: str, shape: tuple[int, ...]) -> onnx.ValueInfoProto:
    return helper.make_tensor_value_info(name, TensorProto.FLOAT, list(shape))


def some_inputs(seed: int = 0) -> Inputs:
    """Inputs of `write_step`'s graph."""
    generator = np.random.default_rng(seed)
    x = generator.normal(size=SHAPE).astype(np.float32)
    return {"x": x, "gain": generator.uniform(0.1, 0.5, FRAMES).astype(np.float32)}


def expected(spec: GraphSpec, inputs: Mapping[str, np.ndarray]) -> Inputs:
    """What the graph makes of its inputs."""
    session = onnxruntime.InferenceSession(spec.path, providers=["CPUExecutionProvider"])
    names = list(spec.outputs)
    return dict(zip(names, session.run(names, dict(inputs)), strict=True))
