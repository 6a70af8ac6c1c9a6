"""A person's shell: how wide it must be to hold what they wear, and what anchors its points.

One implementation for training and enrolment, so that a trained model meets what it was trained on.
"""

from __future__ import annotations

import math
import threading
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from gas_rt.body.smpl import BodyModel, PosedBody
from gas_rt.core import F32, U8, Camera
from gas_rt.errors import InputError
from gas_rt.kernels import PosedShell, WideReach, march_samples
from gas_rt.kernels.shell import MAX_RADIUS_M

__all__ = ["Anchors", "ShellRange", "person_radius_m", "person_shell", "reach_m", "still_shell"]

# A sample of a posed shell lands near the canonical body, but skinning stretches: its canonical
# anchor is looked for within twice the shell's radius.
ANCHOR_RADII = 2.0
STEP_M = 0.01  # people of one radius share what is built for it
SWING = 1.25  # what hangs free leaves the photo's place as the person moves
SPARE = 0.002  # share of the mask that may be wrong: 8 of the 4,000 pixels of a person at 128²
OPAQUE = 128  # of 255
CHUNK = 256  # pixels that are held against all vertices at once
LOOKED_AT = 1 << 14  # pixels of a mask; of a larger one every second or third in both directions
MOST_M = MAX_RADIUS_M / ANCHOR_RADII  # beyond, a sample's anchor might not be found


@dataclass(frozen=True)
class ShellRange:
    """The least and the largest radius that a shell can have, metres."""

    least_m: float
    most_m: float

    def __post_init__(self) -> None:
        if not 0 < self.least_m <= self.most_m <= MOST_M:
            raise InputError(
                f"shell: expected 0 < least ≤ most ≤ {MOST_M} metres, got {self.least_m} and "
                f"{self.most_m}"
            )


class Anchors:
    """What tells the nearest canonical vertex of a canonical point; built once per centimetre."""

    def __init__(self, canonical_vertices: F32, *, threads: int = 1) -> None:
        self._vertices, self._threads = canonical_vertices, threads
        self._shells: dict[int, PosedShell] = {}
        self._making = threading.Lock()

    def around(self, radius_m: float) -> PosedShell:
        """For samples of a shell of this radius."""
        steps = _steps(radius_m)
        with self._making:
            if steps not in self._shells:
                reach = min(ANCHOR_RADII * STEP_M * steps, MAX_RADIUS_M)
                self._shells[steps] = still_shell(
                    self._vertices, radius_m=reach, threads=self._threads
                )
            return self._shells[steps]


def still_shell(vertices: F32, *, radius_m: float, threads: int = 1) -> PosedShell:
    """The shell of vertices [V, 3] that are carried nowhere: what tells the nearest of them."""
    still = np.tile(np.eye(3, 4, dtype=np.float32), (len(vertices), 1, 1))
    return PosedShell(vertices, still, radius_m=radius_m, threads=threads)


def reach_m(body: BodyModel, radius_m: float, *, limits: ShellRange) -> F32:
    """How far from each vertex a person's clothes may be, [V] metres.

    `radius_m` is the person's; only hips, waist and legs reach so far. Elsewhere it would do harm:
    a place beside the chest, where an arm hangs, is inside of the canonical pose's raised arm.
    """
    reach = np.full(body.vertex_count, limits.least_m, np.float32)
    reach[body.loose_vertices] = radius_m
    return reach


def person_shell(
    body: BodyModel, posed: PosedBody, radius_m: float, *, limits: ShellRange, threads: int = 1
) -> PosedShell:
    """The shell around a posed person; `radius_m` is what `person_radius_m` tells of them."""
    wide = radius_m > limits.least_m
    return PosedShell(
        posed.vertices,
        body.inverse_maps(posed, threads=threads),
        radius_m=limits.least_m,
        wide=WideReach(body.loose_vertices, radius_m) if wide else None,
        threads=threads,
    )


def person_radius_m(
    mask: U8,
    body: BodyModel,
    posed: PosedBody,
    camera: Camera,
    *,
    limits: ShellRange,
    threads: int = 1,
) -> float:
    """How far off hips, waist and legs what the mask covers is: a limit or whole centimetres.

    A body's clothes are mostly within a hand's breadth of it, wide skirts and coats are not: where
    the lines of sight of the mask pass the body at a distance, cloth stands off at least as far.
    A shell as wide for everybody would cost everybody twice the samples.

    Parameters
    ----------
    mask : [H, W] coverage of the person in the photo.
    posed : the fitted body in the photo's pose.
    camera : of the photo.

    Raises
    ------
    InputError : the mask is not one byte per pixel of the camera.
    """
    if mask.dtype != np.uint8 or mask.shape != (camera.height, camera.width):
        raise InputError(
            f"mask: expected uint8 [{camera.height}, {camera.width}] as the camera has pixels, got "
            f"{mask.dtype} {list(mask.shape)}"
        )
    covered = np.argwhere(mask >= OPAQUE)
    stride = math.ceil(math.sqrt(len(covered) / LOOKED_AT)) or 1
    rows, columns = covered[(covered % stride == 0).all(1)].T
    spare = int(SPARE * len(rows))
    near = still_shell(posed.vertices, radius_m=limits.least_m / SWING, threads=threads)
    pixels = np.stack([columns, rows], 1).astype(np.int32)
    outside = pixels[~_met(near, camera, pixels, threads)]
    # A hand that hangs before a skirt does not make the skirt the hand's.
    trunk = np.delete(np.arange(len(posed.vertices)), body.arm_vertices)
    distance, nearest = _distances(outside, posed.vertices[trunk], camera)
    distance = np.sort(distance[np.isin(trunk[nearest], body.loose_vertices)])
    if len(distance) <= spare:
        return limits.least_m
    reach = SWING * float(distance[len(distance) - 1 - spare])
    return min(max(round(_steps(reach) * STEP_M, 2), limits.least_m), limits.most_m)


def _steps(length_m: float) -> int:
    """Whole steps that hold a length; what only rounding adds to 9 cm does not make it 10."""
    return math.ceil(round(length_m / STEP_M, 6))


def _met(
    shell: PosedShell, camera: Camera, pixels: NDArray[np.int32], threads: int
) -> NDArray[np.bool_]:
    """[N]: whether a ray has a sample in the shell."""
    if not len(pixels):
        return np.zeros(0, bool)
    packed = march_samples(shell, camera, pixels=pixels, threads=threads)
    return np.diff(packed.offsets) > 0


def _distances(
    pixels: NDArray[np.int32], vertices: F32, camera: Camera
) -> tuple[NDArray[np.float64], NDArray[np.int64]]:
    """[N] metres from a pixel's line of sight to the vertex nearest to it, and which that is."""
    # In double: a long lens is 40 m away, and what counts are millimetres.
    k = camera.intrinsics.astype(np.float64)
    seen = vertices.astype(np.float64) @ camera.rotation.T + camera.translation  # [V, 3]
    centre = (pixels + 0.5 - k[:2, 2]) / [k[0, 0], k[1, 1]]
    ray = np.concatenate([centre, np.ones((len(pixels), 1))], 1)
    ray /= np.linalg.norm(ray, axis=1, keepdims=True)  # [N, 3]
    squared = (seen * seen).sum(1)
    squares, nearest = np.empty(len(pixels)), np.empty(len(pixels), np.int64)
    for begin in range(0, len(pixels), CHUNK):
        along = ray[begin : begin + CHUNK] @ seen.T
        off = squared - along * along
        nearest[begin : begin + CHUNK] = off.argmin(1)
        squares[begin : begin + CHUNK] = off.min(1)
    return np.sqrt(np.maximum(squares, 0)), nearest
