"""bundle.json: what a bundle's folder holds and how the runtime is to use it."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import onnx

from export.diffusion import Stage2
from gas_rt.diffusion import SIGMA_MIN, karras_sigmas
from reference.autoencoder.model import DOWNSAMPLING
from reference.diffusion.config import context_gain

__all__ = ["MANIFEST", "describe", "diffusion_config", "file_entry", "manifest", "policies"]

SCHEMA_VERSION = 1
VERSION = "0.1.0"
MANIFEST = "bundle.json"
LICENSE = "Apache-2.0"

# `parity` is trained on windows of one noise level, any level, so its lists are free. Karras from
# the live profile's first level: SVD's 700 is far above what the small models are trained on.
PARITY_STEPS = (8, 25)
# The release's windows of 20 frames share 6.
OVERLAP_SHARE = 0.3


def manifest(
    folder: Path,
    *,
    name: str,
    graphs: Mapping[str, Any],
    body: str,
    policies: list[str],
    config: Mapping[str, Any],
    provenance: Mapping[str, Any],
    license: str = LICENSE,
) -> dict[str, Any]:
    """bundle.json of the files in `folder`."""
    files = sorted(p for p in folder.rglob("*") if p.is_file() and p.name != MANIFEST)
    return {
        "schema_version": SCHEMA_VERSION,
        "name": name,
        "version": VERSION,
        "license": license,
        "files": {p.relative_to(folder).as_posix(): file_entry(p) for p in files},
        "graphs": dict(graphs),
        "body": body,
        "policies": policies,
        "config": dict(config),
        "provenance": dict(provenance),
    }


def file_entry(path: Path) -> dict[str, Any]:
    """Size and SHA-256 of a file, as bundle.json lists them."""
    with path.open("rb") as stream:
        digest = hashlib.file_digest(stream, "sha256")
    return {"sha256": digest.hexdigest(), "bytes": path.stat().st_size}


def describe(name: str, graph: onnx.ModelProto) -> dict[str, Any]:
    """A graph's file, inputs and outputs."""

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


def policies(stage: Stage2 | None) -> list[str]:
    """What a bundle can do: without stage 2 it shows the field."""
    return ["field"] if stage is None else ["field", "diagonal", "sequential", "parity"]


def diffusion_config(
    stage: Stage2, *, side_px: int, guidance: Mapping[str, float]
) -> dict[str, Any]:
    """What the runtime must know of stage 2.

    `guidance`: of "pose" frames, and of "view" frames "behind" the person.
    """
    model = stage.denoiser.config
    live, frames = stage.live_sigmas, stage.parity_frames
    levels = {str(len(live)): list(live)}
    of_parity = levels | _parity_sigmas(live[0])
    guided, diagonal = "denoiser", {"chunk": stage.chunk}
    if stage.few is not None:
        # A student was trained for its lists alone. Without a chunk, the runtime fills the window:
        # the fewer the levels, the more frames share one.
        levels = of_parity = {str(steps): list(few) for steps, few in stage.few.items()}
        guided, diagonal = "denoiser_nocfg", {}
    side = side_px // DOWNSAMPLING
    return {
        "latent_shape": [model.unet.latent_channels, side, side],
        "embedding_channels": model.unet.embedding_channels,
        "condition_channels": model.unet.widths[0],
        "residual_std": model.residual_std,
        "latent_scale": model.latent_scale,
        "context_gain": context_gain(model),
        "profiles": {
            "live": {
                "frames": stage.live_frames,
                "anchor": 1,
                "context": stage.context,
                "chunk": stage.chunk,
                "guided": guided,
                "unguided": "denoiser_nocfg",
            },
            "parity": {
                "frames": frames,
                "overlap": round(OVERLAP_SHARE * frames),
                "guided": f"{guided}_{frames}",
                "unguided": f"denoiser_nocfg_{frames}",
            },
        },
        "policies": {
            "diagonal": {"profile": "live", **diagonal, "sigmas": levels},
            "sequential": {"profile": "live", "chunk": len(live) * stage.chunk, "sigmas": levels},
            "parity": {"profile": "parity", "sigmas": of_parity},
        },
        "default": {"policy": "diagonal", "steps": max(map(int, levels))},
        "guidance": dict(guidance),
    }


def _parity_sigmas(highest: float) -> dict[str, list[float]]:
    """Karras' levels at which each step starts; the runtime adds where the last one ends."""
    return {
        str(steps): [
            float(f"{level:.5g}")
            for level in karras_sigmas(steps, sigma_min=SIGMA_MIN, sigma_max=highest)[:-1]
        ]
        for steps in PARITY_STEPS
    }
