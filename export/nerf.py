"""``python -m export nerf CHECKPOINT -o BUNDLE``: stage 1 as two ONNX graphs and a bundle.json."""

from __future__ import annotations

import hashlib
import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from export.onnx_files import export_graph, move_weights
from gas_rt.body import BodyModel
from gas_rt.body.photo import VISIBLE_TOLERANCE_M
from reference.nerf import HumanNerf
from reference.nerf.checkpoint import mesh_of, open_checkpoint

__all__ = ["export_nerf", "parity"]

SCHEMA_VERSION = 1
VERSION = "0.1.0"
WEIGHTS = "weights.safetensors"
BODY = "body.npz"
FIELD_POINTS = 65_536
BOX_MARGIN_M = 0.01  # of the march's box around the posed shell
CANONICAL_MARGIN_M = 0.02  # of the field's box around the canonical shell
PARITY_RELATIVE = 1e-4
ENCODER_OUTPUTS = ["planes", "image_features", "vertex_features"]
FIELD_OUTPUTS = ["sigma", "rgb"]

Inputs = dict[str, Tensor]


class EncoderGraph(nn.Module):
    """One photo's features, without a batch axis where the field wants none."""

    def __init__(self, nerf: HumanNerf) -> None:
        super().__init__()
        self.nerf = nerf

    def forward(
        self, image: Tensor, vertex_uv: Tensor, vertex_visible: Tensor
    ) -> tuple[Tensor, Tensor, Tensor]:
        """See `HumanNerf.encode`."""
        person = self.nerf.encode(image, vertex_uv[None], vertex_visible[None])
        return person.planes[0], person.image, person.vertex[0]


class FieldGraph(nn.Module):
    """The field at a static number of points."""

    def __init__(self, nerf: HumanNerf) -> None:
        super().__init__()
        self.nerf = nerf

    def forward(self, *arguments: Tensor) -> tuple[Tensor, Tensor]:
        """See `Field.forward`."""
        out: tuple[Tensor, Tensor] = self.nerf.field(*arguments)
        return out


def encoder_inputs(nerf: HumanNerf, generator: torch.Generator) -> Inputs:
    """Random inputs of the encoder's shapes."""
    side, count = nerf.config.resolution, len(nerf.place)
    return {
        "image": torch.rand(1, 4, side, side, generator=generator),
        "vertex_uv": torch.rand(count, 2, generator=generator) * 2 - 1,
        "vertex_visible": (torch.rand(count, 1, generator=generator) > 0.5).float(),
    }


def field_inputs(
    nerf: HumanNerf, features: tuple[Tensor, ...], points: int, generator: torch.Generator
) -> Inputs:
    """Random points of the shell, with the features of a photo."""
    radius = nerf.config.shell_radius_m
    vertex_id = torch.randint(len(nerf.place), (points,), generator=generator, dtype=torch.int32)
    anchor = nerf.field.table[vertex_id.long(), :3]
    direction = torch.randn(points, 3, generator=generator)
    return {
        "x_can": anchor + radius * (torch.rand(points, 3, generator=generator) - 0.5),
        "d_can": direction / direction.norm(dim=1, keepdim=True),
        "uv": torch.rand(points, 2, generator=generator) * 2.2 - 1.1,
        "vertex_id": vertex_id,
        **dict(zip(ENCODER_OUTPUTS, features, strict=True)),
    }


@torch.inference_mode()
def export_nerf(
    nerf: HumanNerf,
    *,
    body_path: Path,
    out: Path,
    provenance: dict[str, Any],
    camera_ranges: dict[str, list[float]],
    points: int = FIELD_POINTS,
) -> dict[str, Any]:
    """Write the bundle's stage-1 part into the folder `out`; returns its bundle.json.

    Raises ValueError if a runtime's outputs differ from PyTorch's.
    """
    generator = torch.Generator().manual_seed(0)
    encoder, field = EncoderGraph(nerf), FieldGraph(nerf)
    photo = encoder_inputs(nerf, generator)
    features = encoder(*photo.values())
    queries = field_inputs(nerf, features, points, generator)
    graphs = {
        "nerf_encoder": export_graph(encoder, photo, ENCODER_OUTPUTS),
        "nerf_field": export_graph(field, queries, FIELD_OUTPUTS),
    }
    described = {name: _describe(name, graph) for name, graph in graphs.items()}
    move_weights(graphs, out, weights=WEIGHTS)
    if not (out / BODY).exists() or not (out / BODY).samefile(body_path):
        shutil.copyfile(body_path, out / BODY)
    expected = {
        "nerf_encoder": (photo, dict(zip(ENCODER_OUTPUTS, features, strict=True))),
        "nerf_field": (queries, dict(zip(FIELD_OUTPUTS, field(*queries.values()), strict=True))),
    }
    worst = {
        f"{name}/{runtime}": error
        for name, (inputs, outputs) in expected.items()
        for runtime, error in parity(out / f"{name}.onnx", inputs, outputs).items()
    }
    bad = {name: error for name, error in worst.items() if not error <= PARITY_RELATIVE}
    if bad:
        raise ValueError(
            f"{out}: outputs differ from PyTorch's by {bad} relative, at most "
            f"{PARITY_RELATIVE} is allowed; the bundle has no bundle.json and must not be used"
        )
    manifest = _manifest(nerf, out, described, points, camera_ranges)
    manifest["provenance"] = provenance | {"parity": worst, "torch": torch.__version__}
    (out / "bundle.json").write_text(json.dumps(manifest, indent=1) + "\n")
    return manifest


def parity(path: Path, inputs: Inputs, outputs: Inputs) -> dict[str, float]:
    """Largest relative error (of each output's range) in ONNX Runtime and OpenVINO, fp32."""
    import onnxruntime
    import openvino

    arrays = {name: value.numpy() for name, value in inputs.items()}
    wanted = {name: value.numpy() for name, value in outputs.items()}
    session = onnxruntime.InferenceSession(path, providers=["CPUExecutionProvider"])
    found = dict(zip(wanted, session.run(list(wanted), _known(arrays, session)), strict=True))
    errors = {"onnxruntime": _worst(found, wanted)}
    core = openvino.Core()
    hint = {"INFERENCE_PRECISION_HINT": "f32", "INFERENCE_NUM_THREADS": 2}
    compiled = core.compile_model(path, "CPU", hint)
    result = compiled(arrays)
    errors["openvino"] = _worst({name: result[name] for name in wanted}, wanted)
    return errors


def _known(arrays: dict[str, NDArray[Any]], session: Any) -> dict[str, NDArray[Any]]:
    names = {entry.name for entry in session.get_inputs()}
    assert names == set(arrays), f"the graph lost inputs: {set(arrays) - names}"
    return arrays


def _worst(found: dict[str, NDArray[Any]], wanted: dict[str, NDArray[Any]]) -> float:
    """Largest error relative to the output's largest magnitude."""
    return max(
        float(np.abs(found[name] - value).max() / max(np.abs(value).max(), 1e-6))
        for name, value in wanted.items()
    )


def _describe(name: str, graph: onnx.ModelProto) -> dict[str, Any]:
    def tensors(values: Any) -> dict[str, Any]:
        return {
            value.name: {
                "shape": [d.dim_value for d in value.type.tensor_type.shape.dim],
                "dtype": onnx.helper.tensor_dtype_to_np_dtype(
                    value.type.tensor_type.elem_type
                ).name,
            }
            for value in values
        }

    return {
        "file": f"{name}.onnx",
        "inputs": tensors(graph.graph.input),
        "outputs": tensors(graph.graph.output),
    }


def _manifest(
    nerf: HumanNerf,
    out: Path,
    graphs: dict[str, Any],
    points: int,
    camera_ranges: dict[str, list[float]],
) -> dict[str, Any]:
    config = nerf.config
    vertices = nerf.field.table[:, :3].numpy()
    reach = config.shell_radius_m + CANONICAL_MARGIN_M
    encoder = graphs["nerf_encoder"]["outputs"]
    files = sorted(
        p for p in out.rglob("*") if p.is_file() and p.name not in ("bundle.json", ".gitattributes")
    )
    return {
        "schema_version": SCHEMA_VERSION,
        "name": out.name,
        "version": VERSION,
        "license": "Apache-2.0",
        "files": {p.relative_to(out).as_posix(): file_entry(p) for p in files},
        "graphs": graphs,
        "body": BODY,
        "policies": ["field"],
        "config": {
            "resolution": config.resolution,
            "shell_radius_m": config.shell_radius_m,
            "canonical_box_m": {
                "lo": [round(float(v), 4) for v in vertices.min(0) - reach],
                "hi": [round(float(v), 4) for v in vertices.max(0) + reach],
            },
            "march": {"samples": config.samples, "box_margin_m": BOX_MARGIN_M},
            "vertex_count": len(vertices),
            **{f"{name}_shape": encoder[name]["shape"] for name in ENCODER_OUTPUTS},
            "field_points": points,
            "photo": {
                "side_px": config.resolution,
                "background": "black",
                "visible_depth_tolerance_m": VISIBLE_TOLERANCE_M,
            },
            "camera_ranges": camera_ranges,
        },
    }


def file_entry(path: Path) -> dict[str, Any]:
    """Size and SHA-256 of a file, as bundle.json lists them."""
    data = path.read_bytes()
    return {"sha256": hashlib.sha256(data).hexdigest(), "bytes": len(data)}


def run(checkpoint: Path, *, body_path: Path, out: Path) -> dict[str, Any]:
    """The verb: a training checkpoint's averaged weights to a bundle."""
    nerf, about = open_checkpoint(checkpoint, mesh_of(BodyModel.open(body_path)))
    cameras = about.pop("camera_ranges")
    return export_nerf(nerf, body_path=body_path, out=out, provenance=about, camera_ranges=cameras)
