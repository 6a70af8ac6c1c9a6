"""Small people for the tests of stage 1: the bundled body with painted vertices, 32 px wide."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from gas_rt.body import BodyModel
from gas_rt.core import Camera, Pose
from gas_rt.kernels import interpolate, rasterize

ROOT = Path(__file__).parents[2]
SIDE = 32
TARGETS = 4


def orbit_camera(azimuth: float, *, side: int = SIDE) -> Camera:
    """Looks at the body's middle from 4 m away."""
    forward = np.array([-np.sin(azimuth), 0.0, -np.cos(azimuth)])
    right = np.cross([0.0, -1.0, 0.0], forward)
    rotation = np.stack([right, np.cross(forward, right), forward]).astype(np.float32)
    translation = np.array([0.0, 0.0, 4.0]) - rotation @ np.array([0.0, -0.28, 0.0])
    intrinsics = np.array([[2 * side, 0, side / 2], [0, 2 * side, side / 2], [0, 0, 1]])
    return Camera(
        intrinsics.astype(np.float32), rotation, translation.astype(np.float32), side, side
    )


def shoot(body: BodyModel, colours, betas, pose: Pose, camera: Camera):
    posed = body.pose(betas, pose)
    raster = rasterize(posed.vertices, body.faces, camera)
    rgb = interpolate(raster, body.faces, colours)
    return (rgb * 255).astype(np.uint8), (raster.mask * 255).astype(np.uint8)


def shard(body: BodyModel, seeds: range) -> dict[str, np.ndarray]:
    people = [make_person(body, seed) for seed in seeds]
    shard = {name: np.stack([p[name] for p in people]) for name in people[0]}
    return shard | {"seeds": np.array(seeds, np.int64)}


def make_person(body: BodyModel, seed: int) -> dict[str, np.ndarray]:
    rng = np.random.default_rng(seed)
    betas = rng.normal(size=10).astype(np.float32)
    palette = rng.random((4, 3)).astype(np.float32)
    height = body.canonical().vertices[:, 1]
    colours = palette[np.clip(((height + 0.9) * 2.5).astype(int), 0, 3)]
    rest = Pose.rest()
    bent = Pose((0.2 * rng.normal(size=(24, 3))).astype(np.float32))
    poses = [rest, rest, rest, rest, bent]
    cameras = [orbit_camera(a) for a in (0.2, 0.2 + np.pi, 1.5, -0.6, 0.9)]
    shots = [shoot(body, colours, betas, p, c) for p, c in zip(poses, cameras, strict=True)]
    person = {"betas": betas, "tgt_kind": np.array([0, 0, 0, 1], np.uint8)}
    columns = {
        "rgb": [rgb for rgb, _ in shots],
        "mask": [mask for _, mask in shots],
        "rotations": [p.rotations for p in poses],
        "translation": [p.translation for p in poses],
        "K": [c.intrinsics for c in cameras],
        "R": [c.rotation for c in cameras],
        "t": [c.translation for c in cameras],
    }
    for name, values in columns.items():
        person[f"ref_{name}"] = values[0]
        person[f"tgt_{name}"] = np.stack(values[1:])
    return person
