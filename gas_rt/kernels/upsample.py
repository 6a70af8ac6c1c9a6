"""Pictures at twice their resolution, for what was rendered at half."""

from __future__ import annotations

import numpy as np

from gas_rt.core import F32, Camera, as_array, checked
from gas_rt.errors import InputError
from gas_rt.kernels import twins
from gas_rt.kernels._backend import check_threads, native, use_twins

__all__ = ["half_camera", "upsample"]

MAX_SIDE_PX = 16384  # as of a camera


def half_camera(camera: Camera) -> Camera:
    """The same view on pixels twice as wide; of an odd size the last ones reach beyond it."""
    scale = np.diag([0.5, 0.5, 1.0]).astype(np.float32)
    return Camera(
        scale @ camera.intrinsics,
        camera.rotation,
        camera.translation,
        (camera.width + 1) // 2,
        (camera.height + 1) // 2,
    )


def upsample(picture: F32, *, height: int, width: int, threads: int = 1) -> F32:
    """A picture of `half_camera` on the pixels of the camera, bilinear; edges are held.

    Parameters
    ----------
    picture : [(height + 1) // 2, (width + 1) // 2] or [..., C].

    Returns
    -------
    [height, width] or [height, width, C].
    """
    for name, size in (("height", height), ("width", width)):
        if not isinstance(size, int | np.integer) or not 1 <= size <= MAX_SIDE_PX:
            raise InputError(f"{name}: expected 1..{MAX_SIDE_PX} pixels, got {size!r}")
    half = ((height + 1) // 2, (width + 1) // 2)
    channels = as_array(picture, "picture").shape[2:]
    picture = checked(picture, "picture", shape=(*half, None) if channels else half)
    threads = check_threads(threads)
    layers = picture.reshape(*half, -1) if picture.ndim == 2 else picture
    if use_twins():
        out = twins.upsample(layers, height=height, width=width)
    else:
        out = np.empty((height, width, layers.shape[2]), np.float32)
        native.upsample(layers, threads, out)
    return out.reshape(height, width, *channels)
