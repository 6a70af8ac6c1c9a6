"""The bodies, fields and cameras that the GPU kernels are checked and timed on."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

import gas_rt
from gas_rt import kernels
from gas_rt.body import BodyModel, procedural_motion
from gas_rt.cameras import framing_camera
from gas_rt.cli.demo import person_folder
from gas_rt.core import Camera
from gas_rt.kernels import HashField, HashGridConfig, Occupancy

Array = NDArray[Any]
BODY = Path(__file__).parents[1] / "engines" / "gas-mini" / "body.npz"


@dataclass(frozen=True, eq=False)
class Scene:
    """A body in some poses, and the field of the person in the first of them."""

    body: BodyModel
    betas: Array  # [B, K]
    rotations: Array  # [B, J, 3]
    field: HashField
    occupancy: Occupancy
    camera: Camera
    radius_m: float


def bundle_scene(*, poses: int, side: int) -> Scene:
    """The bundled body dancing, with noise for a field: nothing has to be enrolled."""
    body = BodyModel.open(BODY)
    motion = procedural_motion("dance", max(poses, 25), fps=25.0, seed=0)
    rotations = np.stack([motion.pose(i).rotations for i in range(poses)])
    betas = np.zeros((poses, body.shape_count), np.float32)
    field = random_field(body, HashGridConfig(per_level_scale=1.4), margin_m=0.2)
    grid = kernels.occupancy(field, resolution=64, threshold=90.0)
    camera = framing_camera(body.pose(betas[0], motion.pose(0)).vertices, side_px=side)
    return Scene(body, betas, rotations, field, grid, camera, radius_m=0.08)


def avatar_scene(person: str | None, *, poses: int, side: int) -> Scene:
    """A person enrolled with the bundled model: a field as it is in use."""
    scene = bundle_scene(poses=poses, side=side)
    with gas_rt.load("gas-mini") as model:
        at = person_folder(model, person)
        avatar = model.enroll(at / "photo.png", at / "fit.npz", at / "mask.png")
    betas = np.tile(avatar.betas, (poses, 1))
    return replace(scene, betas=betas, field=avatar.field, occupancy=avatar.occupancy)


def random_field(body: BodyModel, config: HashGridConfig, *, margin_m: float) -> HashField:
    """A field of noise around the canonical body: dense in places, so that rays end."""
    rng = np.random.default_rng(0)
    at = body.canonical().vertices
    sizes = (config.n_params, 32 * config.n_padded + 512, 32 * 32 + 512)
    noise = (rng.normal(size=n).astype(np.float32) * 0.4 for n in sizes)
    return HashField(config, *noise, at.min(0) - margin_m, at.max(0) + margin_m)
