"""Trained stage-1 models out of their checkpoints."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

from gas_rt.body import BodyModel
from gas_rt.body.person_shell import still_shell
from reference.checkpoint import read_checkpoint
from reference.nerf.config import FieldConfig, from_dict
from reference.nerf.model import CanonicalMesh, HumanNerf

__all__ = ["mesh_of", "open_checkpoint"]

MIRROR_REACH_M = 0.1  # beyond this a vertex has no partner and stands for itself


def mesh_of(body: BodyModel) -> CanonicalMesh:
    """The model's constants out of the body file.

    The other side of the body is found by reflection: any body in SMPL's layout has one in the
    canonical pose, whether or not its file says which vertices correspond.
    """
    canonical = body.canonical()
    shell = still_shell(canonical.vertices, radius_m=MIRROR_REACH_M)
    mirror, _ = shell.query(canonical.vertices * np.array([-1, 1, 1], np.float32))
    alone = mirror < 0
    mirror[alone] = np.flatnonzero(alone)
    return CanonicalMesh(canonical.vertices, canonical.normals, mirror.astype(np.int64))


def open_checkpoint(path: Path, mesh: CanonicalMesh) -> tuple[HumanNerf, dict[str, Any]]:
    """The averaged model of a checkpoint, ready for evaluation, and its configuration."""
    told = ("step", "field", "train", "camera_ranges")
    state = read_checkpoint(path, keys=(*told, "mean"), stage="stage1")
    model = HumanNerf(from_dict(FieldConfig, state["field"]), mesh)
    model.load_state_dict(state["mean"])
    return model.eval().requires_grad_(False), {name: state[name] for name in told}
