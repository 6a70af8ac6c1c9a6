"""Cameras that keep a person in the frame."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.spatial import ConvexHull

from gas_rt.cameras import framing_camera
from gas_rt.core import Camera

F32 = NDArray[np.float32]

__all__ = ["LONG_LENS", "Lens", "draw_lens", "framed"]

LONG_LENS = 10000 / 512
"""Focal length of the release in picture widths: about 35 m away."""

LONG_LENS_SHARE = 0.4
FOV_DEGREES = (35.0, 60.0)


@dataclass(frozen=True)
class Lens:
    """Focal length in picture widths, and the share of the frame the person shall fill."""

    focal: float
    fill: float


def draw_lens(rng: np.random.Generator) -> Lens:
    """The release's long lens, or a game camera's field of view."""
    if rng.random() < LONG_LENS_SHARE:
        focal = LONG_LENS
    else:
        focal = 0.5 / np.tan(np.radians(rng.uniform(*FOV_DEGREES)) / 2)
    return Lens(float(focal), float(rng.uniform(0.85, 0.92)))


def framed(
    points: Sequence[F32], *, azimuth: float, elevation: float, lens: Lens, size: int
) -> Camera:
    """A square picture in which all `points` ([n,3] each) fill `lens.fill` of the frame.

    Radians; azimuth 0 is in front, growing towards the subject's left.
    """
    everything = np.concatenate(points)
    # What fills the frame is on the hull; it has a hundredth of the points.
    return framing_camera(
        everything[ConvexHull(everything).vertices],
        side_px=size,
        azimuth_deg=float(np.degrees(azimuth)),
        elevation_deg=float(np.degrees(elevation)),
        focal_over_side=lens.focal,
        fill=lens.fill,
    )
