"""NumPy twin of the march."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from gas_rt.core import F32, Camera
from gas_rt.kernels.twins.field import field_forward, normalised

if TYPE_CHECKING:
    from gas_rt.kernels.hash_field import HashField
    from gas_rt.kernels.occupancy import Occupancy
    from gas_rt.kernels.shell import PosedShell

__all__ = ["composite", "march", "march_samples"]

BOX_MARGIN_M = 0.01
LAST_DELTA_M = 1e10
F64 = NDArray[np.float64]


def lattice(
    shell: PosedShell, camera: Camera, *, samples: int, pixels: NDArray[np.int32] | None
) -> tuple[NDArray[np.bool_], F32, F32, F32]:
    """Which rays hit the box [R], and their start [R, 3], step [R, 3] and delta [R] in metres."""
    if pixels is None:
        rows, columns = np.mgrid[: camera.height, : camera.width]
        pixels = np.stack([columns.ravel(), rows.ravel()], 1).astype(np.int32)
    rotation, k = camera.rotation.astype(np.float64), camera.intrinsics.astype(np.float64)
    origin = -rotation.T @ camera.translation
    in_camera = (pixels + 0.5 - k[:2, 2]) / [k[0, 0], k[1, 1]]
    direction = np.concatenate([in_camera, np.ones((len(pixels), 1))], 1) @ rotation
    lo, hi = shell.lo.astype(np.float64) - BOX_MARGIN_M, shell.hi.astype(np.float64) + BOX_MARGIN_M
    parallel = np.abs(direction) < 1e-12
    outside = (parallel & ((origin < lo) | (origin > hi))).any(1)
    safe = np.where(parallel, 1.0, direction)
    a, b = (lo - origin) / safe, (hi - origin) / safe
    near = np.where(parallel, 0.0, np.minimum(a, b)).max(1).clip(0)
    far = np.where(parallel, 1e30, np.maximum(a, b)).min(1)
    hit = (far > near) & ~outside
    near, step = np.where(hit, near, 0), np.where(hit, (far - near) / (samples - 1), 0)
    delta = step * np.linalg.norm(direction, axis=1)
    start = origin + near[:, None] * direction
    return (
        hit,
        start.astype(np.float32),
        (step[:, None] * direction).astype(np.float32),
        delta.astype(np.float32),
    )


def march_samples(
    shell: PosedShell, camera: Camera, *, samples: int, pixels: NDArray[np.int32] | None
) -> tuple[NDArray[np.int64], NDArray[np.int32], F32, F32, F32, NDArray[np.int32]]:
    """offsets, ray, delta, canonical, direction and vertex_id of the samples in the shell."""
    hit, start, step, delta = lattice(shell, camera, samples=samples, pixels=pixels)
    k = np.arange(samples, dtype=np.float32)
    points = (start[:, None] + step[:, None] * k[:, None]).reshape(-1, 3)  # [R * samples, 3]
    ids, canonical = np.full(len(points), -1, np.int32), np.zeros_like(points)
    inside = np.repeat(hit, samples)
    ids[inside], canonical[inside] = shell.query(points[inside])
    deltas = np.broadcast_to(delta[:, None], (len(hit), samples)).copy()
    deltas[:, -1] = LAST_DELTA_M
    found = ids >= 0
    ray = np.repeat(np.arange(len(hit), dtype=np.int32), samples)[found]
    direction = np.einsum("nij,nj->ni", shell.maps[ids[found], :, :3], step[ray])
    direction /= np.maximum(np.linalg.norm(direction, axis=1, keepdims=True), 1e-30)
    counts = found.reshape(-1, samples).sum(1)
    offsets = np.concatenate([[0], np.cumsum(counts)]).astype(np.int64)
    return offsets, ray, deltas.ravel()[found], canonical[found], direction, ids[found]


def composite(
    offsets: NDArray[np.int64], delta: F32, sigma: F32, rgb: F32, *, early_stop: float = 0.0
) -> tuple[F32, F32]:
    """rgb [R, 3] premultiplied over black and alpha [R]."""
    rays = len(offsets) - 1
    out, alpha = np.zeros((rays, 3), np.float32), np.zeros(rays, np.float32)
    passed = np.exp(-np.maximum(sigma, 0) * delta)
    for i in range(rays):
        transmitted = 1.0
        for s in range(offsets[i], offsets[i + 1]):
            if transmitted < early_stop:
                break
            out[i] += transmitted * (1 - passed[s]) * rgb[s]
            transmitted *= passed[s]
        alpha[i] = 1 - transmitted
    return out, alpha


def occupied(occupancy: Occupancy, u: F32) -> NDArray[np.bool_]:
    """Whether the cells of box coordinates [N, 3] are."""
    n = occupancy.resolution
    x, y, z = np.minimum((u * np.float32(n)).astype(np.int64), n - 1).T
    at = x + n * (y + n * z)
    set_bits: NDArray[np.bool_] = (occupancy.bits[at >> 3] >> (at & 7) & 1).astype(bool)
    return set_bits


def march(
    shell: PosedShell,
    field: HashField,
    camera: Camera,
    *,
    samples: int,
    occupancy: Occupancy | None,
    early_stop: float,
) -> tuple[F32, F32]:
    """rgb [H, W, 3] premultiplied over black and alpha [H, W]."""
    offsets, _, delta, canonical, direction, _ = march_samples(
        shell, camera, samples=samples, pixels=None
    )
    sigma, rgb = field_forward(field, canonical, direction, threads=1)
    if occupancy is not None:
        sigma = np.where(occupied(occupancy, normalised(field, canonical)), sigma, 0)
    out, alpha = composite(offsets, delta, sigma, rgb, early_stop=early_stop)
    shape = (camera.height, camera.width)
    return out.reshape(*shape, 3), alpha.reshape(shape)
