"""Trained stage-1 models out of their checkpoints."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch

from gas_rt.body import BodyModel
from reference.nerf.config import FieldConfig, from_dict
from reference.nerf.model import CanonicalMesh, HumanNerf

__all__ = ["mesh_of", "open_checkpoint"]


def mesh_of(body: BodyModel) -> CanonicalMesh:
    """The model's constants out of the body file."""
    canonical = body.canonical()
    return CanonicalMesh(canonical.vertices, canonical.normals, body.mirror)


def open_checkpoint(path: Path, mesh: CanonicalMesh) -> tuple[HumanNerf, dict[str, Any]]:
    """The averaged model of a checkpoint, ready for evaluation, and its configuration."""
    state = torch.load(path, weights_only=True)
    model = HumanNerf(from_dict(FieldConfig, state["field"]), mesh)
    model.load_state_dict(state["mean"])
    about = {"step": state["step"], "field": state["field"], "train": state["train"]}
    return model.eval().requires_grad_(False), about
