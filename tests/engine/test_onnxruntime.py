"""ONNX Runtime: right numbers on the CPU, and no provider that stays silently behind."""

from __future__ import annotations

import types
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime
import pytest
from onnx import helper

from gas_rt.core import BackendReport
from gas_rt.engine import GraphSpec, TensorSpec, open_engine
from gas_rt.engine.onnxruntime import OnnxRuntimeEngine
from gas_rt.errors import BackendError, GasRtWarning, ShapeError
from tests.engine.tensorrt_world import expected, some_inputs, write_step


@pytest.fixture
def step(tmp_path: Path) -> GraphSpec:
    return write_step(tmp_path / "bundle")


def test_outputs_are_right_and_the_callers(step: GraphSpec) -> None:
    graph = open_engine("onnxruntime", threads=1).load(step)
    kept = graph.run(some_inputs(1))
    wanted = expected(step, some_inputs(1))
    graph.run(some_inputs(2))
    for name, value in wanted.items():
        np.testing.assert_allclose(kept[name], value, atol=1e-6)
        assert kept[name].flags.writeable


def test_the_report_gives_the_precision_of_the_file(tmp_path: Path, step: GraphSpec) -> None:
    engine = open_engine("onnxruntime", threads=1)
    assert engine.report == BackendReport("onnxruntime", "onnxruntime", "cpu", "as exported")
    assert engine.load(step).report == BackendReport("onnxruntime", "onnxruntime", "cpu", "fp32")
    half = write_step(tmp_path / "half", precision="fp16")
    assert engine.load(half).report.precision == "fp16"
    engine.close()
    told = open_engine("onnxruntime", threads=1, denoiser=half)
    assert told.report.precision == "fp16"


def test_a_precision_it_cannot_give_is_refused(tmp_path: Path, step: GraphSpec) -> None:
    message = r"step\.onnx computes in fp32; export the bundle with --precision bf16"
    with pytest.raises(BackendError, match=message):
        open_engine("onnxruntime", threads=1, precision="bf16", denoiser=step)
    with pytest.raises(BackendError, match=message):
        open_engine("onnxruntime", threads=1, precision="bf16").load(step)
    odd = write_step(tmp_path / "odd", precision="fp7")
    with pytest.raises(BackendError, match="was exported in precision 'fp7', known are fp32"):
        open_engine("onnxruntime", threads=1).load(odd)


def test_wrong_inputs_are_named(step: GraphSpec) -> None:
    graph = open_engine("onnxruntime", threads=1).load(step)
    with pytest.raises(ShapeError, match="input 'x' was not given"):
        graph.run({})


def test_a_graph_that_is_not_what_its_bundle_says(tmp_path: Path, step: GraphSpec) -> None:
    engine = open_engine("onnxruntime", threads=1)
    one = TensorSpec((1,), "float32")
    for inputs, outputs, message in (
        ({"picture": one}, {}, r"no input 'picture', it has \['gain', 'x'\]"),
        ({}, {"y": one}, "no output 'y'"),
        ({"gain": one}, {}, r"input 'gain': the ONNX file has shape \[2\], bundle.json says \[1\]"),
        ({"x": one}, {}, r"input 'x': the ONNX file has shape \[2, 3, 8, 8\]"),
    ):
        with pytest.raises(BackendError, match=message):
            engine.load(GraphSpec("step", step.path, inputs, outputs))
    bad = tmp_path / "bad.onnx"
    bad.write_bytes(b"not a graph")
    with pytest.raises(BackendError, match=r"cannot read bad\.onnx"):
        engine.load(GraphSpec("bad", bad, {}, {}))
    bad.write_bytes(helper.make_model(helper.make_graph([], "g", [], [])).SerializeToString()[:-1])
    with pytest.raises(BackendError, match=r"bad\.onnx"):
        engine.load(GraphSpec("bad", bad, {}, {}))
    cut = step.path.parent / "step.bin"
    cut.write_bytes(cut.read_bytes()[:100])
    with pytest.raises(BackendError, match=r"ONNX Runtime cannot load step\.onnx"):
        engine.load(step)


def test_a_run_that_fails_is_a_backend_error(step: GraphSpec) -> None:
    engine = OnnxRuntimeEngine(provider="cpu", threads=1, requested="onnxruntime")
    graph: Any = engine.load(step)
    graph._session = types.SimpleNamespace(run=_fail)
    with pytest.raises(BackendError, match="graph step: ONNX Runtime failed: boom"):
        graph.run(some_inputs())


def _fail(*arguments: Any) -> None:
    raise onnxruntime.capi.onnxruntime_pybind11_state.Fail("boom")


# ---- providers that do not start ---------------------------------------------------------------


class Session:
    """A session that got other providers than it was asked for; computes on the CPU."""

    providers: list[str]
    nodes: dict[str, int]

    def __init__(self, path: str, *, sess_options: Any, providers: Any, enable_fallback: int):
        assert enable_fallback == 0
        asked = [name for name, _ in providers]
        assert asked[-1] == "CPUExecutionProvider"
        assert len(asked) > 1
        self._real = REAL_SESSION(path, sess_options, providers=["CPUExecutionProvider"])

    def __getattr__(self, name: str) -> Any:
        return getattr(self._real, name)

    def get_providers(self) -> list[str]:
        return self.providers

    def get_provider_graph_assignment_info(self) -> list[Any]:
        return [
            types.SimpleNamespace(ep_name=name, get_nodes=lambda n=n: [None] * n)
            for name, n in self.nodes.items()
        ]


REAL_SESSION = onnxruntime.InferenceSession
CUDA, TRT, CPU = "CUDAExecutionProvider", "TensorrtExecutionProvider", "CPUExecutionProvider"


@pytest.fixture
def gpu_build(monkeypatch: pytest.MonkeyPatch) -> None:
    """An onnxruntime-gpu whose sessions are `Session`."""
    monkeypatch.setattr(onnxruntime, "get_available_providers", lambda: [TRT, CUDA, CPU])
    monkeypatch.setattr(onnxruntime, "InferenceSession", Session)


def engine(provider: Any, **options: Any) -> OnnxRuntimeEngine:
    requested = f"onnxruntime-{provider}"
    return OnnxRuntimeEngine(provider=provider, threads=1, requested=requested, **options)


@pytest.mark.usefixtures("gpu_build")
@pytest.mark.parametrize(
    ("provider", "got", "device"),
    [("cuda", [CPU], "cpu"), ("tensorrt", [CPU], "cpu"), ("tensorrt", [CUDA, CPU], "cuda")],
)
def test_a_provider_that_did_not_start_is_told_or_refused(
    monkeypatch: pytest.MonkeyPatch, step: GraphSpec, provider: Any, got: list[str], device: str
) -> None:
    monkeypatch.setattr(Session, "providers", got, raising=False)
    with pytest.warns(GasRtWarning, match=rf"did not start, ONNX Runtime took {', '.join(got)}"):
        graph = engine(provider).load(step)
    assert graph.report.requested == f"onnxruntime-{provider}"
    assert graph.report.device == device
    assert "did not start" in graph.report.notes[0]
    with pytest.raises(BackendError, match=r"did not start.*Refused, since 'strict'"):
        engine(provider, strict=True).load(step)


@pytest.mark.usefixtures("gpu_build")
def test_nodes_that_run_elsewhere_are_counted(
    monkeypatch: pytest.MonkeyPatch, step: GraphSpec
) -> None:
    monkeypatch.setattr(Session, "providers", [CUDA, CPU], raising=False)
    monkeypatch.setattr(Session, "nodes", {CUDA: 40, CPU: 2}, raising=False)
    with pytest.warns(GasRtWarning, match=f"{CUDA} does not run all nodes, 2 of 42 on {CPU}"):
        report = engine("cuda").load(step).report
    assert report.device == "cuda"
    assert len(report.notes) == 1
    with pytest.raises(BackendError, match=r"2 of 42 on CPUExecutionProvider\. Refused"):
        engine("cuda", strict=True).load(step)
    monkeypatch.setattr(Session, "nodes", {CUDA: 42}, raising=False)
    assert engine("cuda", strict=True).load(step).report.notes == ()


def test_a_build_without_the_provider_is_named() -> None:
    with pytest.raises(BackendError, match=f"built without {CUDA}.*pip install onnxruntime-gpu"):
        engine("cuda")


def test_placement_is_what_onnxruntime_says(step: GraphSpec) -> None:
    """The real session, on the CPU, can be asked for every node."""
    from gas_rt.engine.onnxruntime import _nodes_by_provider

    loaded: Any = open_engine("onnxruntime", threads=1).load(step)
    nodes = _nodes_by_provider(loaded._session)
    assert set(nodes) == {CPU}
    assert nodes[CPU] >= 3
