"""The bundled graphs on every backend of this machine: what PyTorch computes, to 1e-4."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from export.torch_engine import TorchEngine
from gas_rt.core import BackendReport
from gas_rt.engine import Bundle, Engine, GraphSpec, TensorSpec, open_bundle, open_engine
from gas_rt.errors import BackendError

TOLERANCE = 1e-4  # of an output's largest magnitude
CHECKPOINTS = Path(__file__).parents[2] / "reference" / "checkpoints"
# The 20-frame graphs are these with other shapes, and the export compares them.
GRAPHS = (
    "nerf_encoder",
    "nerf_field",
    "image_encoder",
    "vae_encoder",
    "conditioner",
    "vae_decoder",
    "denoiser",
    "denoiser_nocfg",
)


@pytest.fixture(scope="module")
def bundle() -> Bundle:
    return open_bundle("gas-mini")


@pytest.fixture(scope="module")
def engines(bundle: Bundle) -> Iterator[dict[str, Engine]]:
    torch = TorchEngine.from_checkpoints(
        CHECKPOINTS / "stage1-mini.pt",
        CHECKPOINTS / "autoencoder-mini.pt",
        CHECKPOINTS / "unet-mini.pt",
        body=bundle.path(bundle.body),
    )
    found = {
        "torch": torch,
        **{
            name: open_engine(name, threads=1, precision="fp32")
            for name in ("openvino", "onnxruntime")
        },
    }
    yield found
    for engine in found.values():
        engine.close()


def inputs_of(spec: GraphSpec, vertices: int) -> dict[str, np.ndarray[Any, Any]]:
    """Random, of the size the graph gets when it is used."""
    generator = np.random.default_rng(len(spec.name))
    found = {}
    for name, tensor in spec.inputs.items():
        if tensor.dtype == "int32":
            found[name] = generator.integers(0, vertices, tensor.shape).astype(np.int32)
        elif name in ("sigma", "sigma_next"):
            high, low = np.geomspace(700, 0.5, tensor.shape[0]), 0.3
            found[name] = (high * (low if name == "sigma_next" else 1)).astype(np.float32)
        elif name == "x":
            noise = generator.normal(size=tensor.shape)
            scale = np.geomspace(700, 0.5, tensor.shape[0]).reshape(-1, 1, 1, 1)
            found[name] = (noise * scale).astype(np.float32)
        elif name == "switcher":
            found[name] = np.eye(2, dtype=np.float32)[np.arange(tensor.shape[0]) % 2]
        else:
            found[name] = generator.uniform(0.1, 1, tensor.shape).astype(np.float32)
    return found


@pytest.mark.parametrize("name", GRAPHS)
def test_backends_agree(name: str, bundle: Bundle, engines: dict[str, Engine]) -> None:
    spec = bundle.graph(name)
    inputs = inputs_of(spec, bundle.config.vertex_count)
    found = {kind: engine.load(spec).run(inputs) for kind, engine in engines.items()}
    for output, wanted in found.pop("torch").items():
        assert np.isfinite(wanted).all()
        scale = np.abs(wanted).max()
        assert scale > 1e-3
        for kind, values in found.items():
            error = np.abs(values[output] - wanted).max() / scale
            assert error <= TOLERANCE, f"{name}.{output} on {kind}: {error:.2g}"


def test_torch_reports_itself(bundle: Bundle, engines: dict[str, Engine]) -> None:
    graph = engines["torch"].load(bundle.graph("denoiser"))
    assert graph.report == BackendReport("torch", "torch", "cpu", "fp32")


def test_checkpoints_of_another_bundle_are_refused(
    bundle: Bundle, engines: dict[str, Engine]
) -> None:
    spec = bundle.graph("vae_encoder")
    with pytest.raises(BackendError, match="graph other: these checkpoints have none"):
        engines["torch"].load(GraphSpec("other", spec.path, {}, {}))
    smaller = {"picture": TensorSpec((1, 3, 64, 64), "float32")}
    with pytest.raises(BackendError, match=r"the bundle's takes .*64, 64.*exported from"):
        engines["torch"].load(GraphSpec("vae_encoder", spec.path, smaller, spec.outputs))
