"""How colours change on the person's own surface from one frame to the next.

The surface is known: the mesh that the truth was drawn from. A point of it that two frames both see
is carried from the later one into the earlier by its face and place on the face, so cameras may
turn and the body may move. What is left of its colour's change is no motion.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from itertools import pairwise

import numpy as np
from numpy.typing import NDArray

from gas_rt.core import Camera
from gas_rt.kernels import Raster, rasterize
from reference.people.surface import Surface

__all__ = ["NOTHING", "Changes", "Matches", "changes", "matches"]

F32 = NDArray[np.float32]
F64 = NDArray[np.float64]
I32 = NDArray[np.int32]
I64 = NDArray[np.int64]
U8 = NDArray[np.uint8]

DEPTH_TOLERANCE_M = 0.03  # two pixels of a person who fills 128; more lies behind something
OPAQUE = 255  # coverage of pixels that show nothing but the person


@dataclass(frozen=True, eq=False)
class Matches:
    """M points of the surface that two frames both see.

    Attributes
    ----------
    later : [M] pixels of the later frame, numbered row by row.
    earlier, weights : [M, 4] the pixels round the same points in the earlier frame, and how much
        of each, bilinearly.
    """

    later: I64
    earlier: I64
    weights: F64

    def change(self, before: F32, after: F32) -> F64:
        """[M, 3] by how much the points' colours of pictures [H, W, 3] differ."""
        old = np.einsum("mk,mkc->mc", self.weights, before.reshape(-1, 3)[self.earlier])
        return after.reshape(-1, 3)[self.later] - old


@dataclass(frozen=True)
class Changes:
    """Sums over points of squared colour changes, of pictures in [0, 1].

    Attributes
    ----------
    values : how many were summed, three per place.
    shown, truth : of what was shown, and of the truth.
    unexplained : of the difference of the two, so of what the truth does not explain.
    """

    values: int
    shown: float
    truth: float
    unexplained: float

    @classmethod
    def of(cls, shown: NDArray, truth: NDArray) -> Changes:
        """Sums over the values of two arrays of changes."""
        squares = (float((values**2).sum()) for values in (shown, truth, shown - truth))
        return cls(shown.size, *squares)

    def __add__(self, other: Changes) -> Changes:
        return Changes(
            self.values + other.values,
            self.shown + other.shown,
            self.truth + other.truth,
            self.unexplained + other.unexplained,
        )


NOTHING = Changes(0, 0.0, 0.0, 0.0)


def changes(surface: Surface, truth: U8, mask: U8, shown: F32) -> Changes:
    """Over all pairs of neighbouring frames of a clip.

    Parameters
    ----------
    truth, mask : [N, H, W, 3] and coverage [N, H, W], as of a case.
    shown : [N, H, W, 3] in [0, 1].
    """
    total = NOTHING
    for k, found in enumerate(_of_neighbours(surface, mask)):
        real = found.change(*(truth[i].astype(np.float32) / 255 for i in (k, k + 1)))
        made = found.change(shown[k], shown[k + 1])
        total += Changes.of(made, real)
    return total


def _of_neighbours(surface: Surface, mask: U8) -> Iterator[Matches]:
    frames = zip(surface.vertices, surface.cameras, mask, strict=True)
    drawn = ((rasterize(v, surface.faces, camera), m == OPAQUE) for v, camera, m in frames)
    for k, ((raster, opaque), (after, opaque_after)) in enumerate(pairwise(drawn)):
        yield matches(
            surface.faces,
            surface.vertices[k],
            surface.cameras[k],
            rasters=(raster, after),
            opaque=(opaque, opaque_after),
        )


def matches(
    faces: I32,
    vertices: F32,
    camera: Camera,
    *,
    rasters: tuple[Raster, Raster],
    opaque: tuple[NDArray[np.bool_], NDArray[np.bool_]],
) -> Matches:
    """The points at pixel centres of the later frame that the earlier one sees too.

    A point counts if its pixel, and in the earlier frame all four round it, are opaque, and if the
    surface there is no more than 3 cm nearer or farther than the point.

    Parameters
    ----------
    vertices, camera : [V, 3] world metres and camera of the earlier frame.
    rasters, opaque : of the earlier and of the later frame; [H, W].
    """
    before, after = rasters
    later = np.flatnonzero(after.mask & opaque[1])
    corners = vertices[faces[after.face_id.ravel()[later]]]  # [M, 3, 3]
    weights = after.barycentric.reshape(-1, 3)[later]
    points = np.einsum("mk,mkc->mc", weights, corners, dtype=np.float64)
    seen = points @ camera.rotation.T.astype(np.float64) + camera.translation
    in_front = seen[:, 2] > 0
    later, seen = later[in_front], seen[in_front]
    pixel = (seen / seen[:, 2:]) @ camera.intrinsics.T.astype(np.float64)
    place = pixel[:, :2] - 0.5  # column, row; pixel centres lie at whole numbers
    first = np.floor(place).astype(np.int64)
    height, width = opaque[0].shape
    inside = ((first >= 0) & (first < [width - 1, height - 1])).all(1)
    later, seen, place, first = (v[inside] for v in (later, seen, place, first))
    steps = np.array([[0, 0], [1, 0], [0, 1], [1, 1]])
    around = first[:, None] + steps  # [M, 4, 2]
    earlier = around[..., 1] * width + around[..., 0]
    shares = np.abs(1 - steps - (place - first)[:, None]).prod(2)
    same = np.abs(before.depth.ravel()[earlier] - seen[:, 2:]) < DEPTH_TOLERANCE_M
    visible = (same & opaque[0].ravel()[earlier]).all(1)
    return Matches(later[visible], earlier[visible], shares[visible])
