"""Stage 1 as a bundle: runtimes agree with PyTorch, weights are stored once."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path

import numpy as np
import onnx
import pytest
import torch
from safetensors.numpy import load_file

from export import nerf as exporting
from gas_rt.body import BodyModel
from reference.nerf import PRESETS, HumanNerf
from reference.nerf.checkpoint import mesh_of

BODY = Path(__file__).parents[2] / "engines" / "gas-mini" / "body.npz"
POINTS = 256
RANGES = {"focal_over_side": [1.0, 20.0]}


def tiny_model() -> HumanNerf:
    torch.manual_seed(0)
    model = HumanNerf(PRESETS["tiny"][0], mesh_of(BodyModel.open(BODY)))
    # Blocks start as identities and density without features: let every weight take part.
    for parameter in model.parameters():
        torch.nn.init.normal_(parameter, std=0.1)
    return model.eval().requires_grad_(False)


@pytest.fixture(scope="module")
def bundle(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("bundles") / "gas-tiny"
    exporting.export_nerf(
        tiny_model(),
        body_path=BODY,
        out=folder,
        provenance={"step": 0},
        camera_ranges=RANGES,
        points=POINTS,
    )
    return folder


def test_the_bundle_describes_itself(bundle):
    manifest = json.loads((bundle / "bundle.json").read_text())
    listed = {p.name for p in bundle.iterdir()} - {"bundle.json"}
    assert set(manifest["files"]) == listed
    for name, entry in manifest["files"].items():
        data = (bundle / name).read_bytes()
        assert entry == {"sha256": hashlib.sha256(data).hexdigest(), "bytes": len(data)}
    assert manifest["graphs"]["nerf_field"]["inputs"]["vertex_id"] == {
        "shape": [POINTS],
        "dtype": "int32",
    }
    assert manifest["config"]["field_points"] == POINTS
    assert max(manifest["provenance"]["parity"].values()) <= exporting.PARITY_RELATIVE


def test_weights_lie_in_the_safetensors_file_once(bundle):
    stored = load_file(bundle / "weights.safetensors")
    size = (bundle / "weights.safetensors").stat().st_size
    owners: dict[int, tuple[int, ...]] = {}
    for name in ("nerf_encoder", "nerf_field"):
        graph = onnx.load(bundle / f"{name}.onnx", load_external_data=False)
        outside = [t for t in graph.graph.initializer if t.external_data]
        assert outside
        for tensor in outside:
            entry = {e.key: e.value for e in tensor.external_data}
            assert entry["location"] == "weights.safetensors"
            end = int(entry["offset"]) + int(entry["length"])
            assert end <= size
            owners[int(entry["offset"])] = tuple(tensor.dims)
    assert len(owners) == len(stored)
    assert "image_encoder.stem.weight" in stored
    expected = tiny_model().image_encoder.stem.weight.numpy()
    np.testing.assert_array_equal(stored["image_encoder.stem.weight"], expected)


def test_graphs_use_only_known_operators(bundle):
    """No scatter and no 5-D sampling: every runtime's ONNX parser reads these graphs."""
    used = {
        node.op_type
        for name in ("nerf_encoder", "nerf_field")
        for node in onnx.load(bundle / f"{name}.onnx", load_external_data=False).graph.node
    }
    assert not {op for op in used if op.startswith("Scatter") or op in ("NonZero", "Loop", "If")}


def test_the_same_model_gives_the_same_bytes(bundle, monkeypatch, tmp_path):
    """And a bundle whose runtimes disagree with PyTorch gets no bundle.json."""
    monkeypatch.setattr(exporting, "PARITY_RELATIVE", 0.0)
    with pytest.raises(ValueError, match="differ from PyTorch"):
        exporting.export_nerf(
            tiny_model(),
            body_path=BODY,
            out=tmp_path / "gas-tiny",
            provenance={},
            camera_ranges=RANGES,
            points=POINTS,
        )
    assert not (tmp_path / "gas-tiny" / "bundle.json").exists()
    for name in ("weights.safetensors", "nerf_encoder.onnx", "nerf_field.onnx"):
        assert (tmp_path / "gas-tiny" / name).read_bytes() == (bundle / name).read_bytes()
