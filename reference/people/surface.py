"""What truly was before the camera, for whoever judges pictures by it."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from gas_rt.core import Camera

__all__ = ["Surface"]


@dataclass(frozen=True, eq=False)
class Surface:
    """A person's dressed mesh in every frame of a clip, and the cameras that saw it.

    Attributes
    ----------
    faces : [F, 3].
    vertices : per frame [V, 3] metres, world.
    cameras : per frame; the true ones, where a clip's own are estimates.
    """

    faces: NDArray[np.int32]
    vertices: tuple[NDArray[np.float32], ...]
    cameras: tuple[Camera, ...]
