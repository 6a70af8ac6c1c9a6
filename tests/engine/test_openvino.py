"""The OpenVINO engine on tiny graphs: right numbers, honest report, named errors."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from gas_rt.core import BackendReport
from gas_rt.engine import GraphSpec, TensorSpec, open_bundle, open_engine
from gas_rt.errors import BackendError, ShapeError
from tests.toy_bundle import POINTS, SIGMA, write_bundle

VERTICES = 10


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_bundle(tmp_path_factory.mktemp("toy"), body=b"a body", vertices=VERTICES)


def encoder_inputs() -> dict[str, np.ndarray]:
    rng = np.random.default_rng(0)
    return {
        "image": rng.random((1, 4, 128, 128), np.float32),
        "vertex_uv": rng.uniform(-1, 1, (VERTICES, 2)).astype(np.float32),
        "vertex_visible": np.ones((VERTICES, 1), np.float32),
    }


def test_graphs_run_and_outputs_are_the_callers(folder: Path) -> None:
    bundle = open_bundle(folder)
    engine = open_engine("auto", threads=1, precision="fp32")
    encoder = engine.load(bundle.graph("nerf_encoder"))
    inputs = encoder_inputs()
    first = encoder.run(inputs)
    pooled = inputs["image"].reshape(1, 4, 64, 2, 64, 2).mean((3, 5))
    np.testing.assert_allclose(first["image_features"], pooled, atol=1e-6)
    kept = first["image_features"].copy()
    encoder.run({**inputs, "image": np.zeros_like(inputs["image"])})
    np.testing.assert_array_equal(first["image_features"], kept)

    field = engine.load(bundle.graph("nerf_field"))
    out = field.run(
        {
            **first,
            "x_can": np.zeros((POINTS, 3), np.float32),
            "d_can": np.zeros((POINTS, 3), np.float32),
            "uv": np.zeros((POINTS, 2), np.float32),
            "vertex_id": np.zeros(POINTS, np.int32),
        }
    )
    assert out["sigma"].shape == (POINTS,)
    assert abs(float(out["sigma"][0]) - SIGMA) < 1
    engine.close()


def test_report_tells_requested_from_actual(folder: Path) -> None:
    engine = open_engine("auto", threads=1, precision="fp32")
    graph = engine.load(open_bundle(folder).graph("nerf_encoder"))
    expected = BackendReport("auto", "openvino", "cpu", "fp32")
    assert engine.report == graph.report == expected


def test_unknown_backend_and_precision_are_named() -> None:
    with pytest.raises(BackendError, match="backend 'cuda': unknown; choose one of auto, openvino"):
        open_engine("cuda", threads=1)
    with pytest.raises(BackendError, match="precision 'int4': unknown"):
        open_engine("auto", threads=1, precision="int4")


def test_wrong_inputs_are_named(folder: Path) -> None:
    engine = open_engine("openvino", threads=1)
    graph = engine.load(open_bundle(folder).graph("nerf_encoder"))
    inputs = encoder_inputs()
    with pytest.raises(ShapeError, match="input 'vertex_uv' was not given"):
        graph.run({k: v for k, v in inputs.items() if k != "vertex_uv"})
    with pytest.raises(ShapeError, match=r"input 'image': expected shape \[1, 4, 128, 128\]"):
        graph.run({**inputs, "image": inputs["image"][:, :3]})


def test_a_graph_that_is_not_what_its_bundle_says(folder: Path, tmp_path: Path) -> None:
    engine = open_engine("openvino", threads=1)
    spec = open_bundle(folder).graph("nerf_encoder")
    wrong = GraphSpec("x", spec.path, {"picture": TensorSpec((1,), "float32")}, {})
    with pytest.raises(BackendError, match="no input 'picture'"):
        engine.load(wrong)
    for kind, name, shape in (
        ("input", "image", (1, 4, 64, 64)),
        ("input", "vertex_uv", (1 << 30, 1 << 30)),  # nothing of this size is allocated
        ("output", "image_features", (1, 4, 64)),
    ):
        said = {"input": dict(spec.inputs), "output": dict(spec.outputs)}
        said[kind][name] = TensorSpec(shape, "float32")
        other = GraphSpec("x", spec.path, said["input"], said["output"])
        with pytest.raises(BackendError, match=f"{kind} '{name}': the ONNX file has shape"):
            engine.load(other)
    (tmp_path / "bad.onnx").write_bytes(b"not a graph")
    with pytest.raises(BackendError, match=r"cannot compile bad\.onnx"):
        engine.load(GraphSpec("x", tmp_path / "bad.onnx", {}, {}))
