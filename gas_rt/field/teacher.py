"""One person's field as the model defines it: slow, exact, what everything is baked from."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from gas_rt.body.photo import carry_to_photo
from gas_rt.core import F32, Camera
from gas_rt.kernels import PosedShell

__all__ = ["FEATURES", "PhotoGeometry", "Teacher"]

I32 = NDArray[np.int32]
RunGraph = Callable[[Mapping[str, NDArray[Any]]], dict[str, NDArray[Any]]]

FEATURES = ("planes", "image_features", "vertex_features")  # of one photo, by graph input


@dataclass(frozen=True, eq=False)
class PhotoGeometry:
    """How canonical points are found in the photo: maps [V, 3, 4] to its pose, and its camera."""

    maps: F32
    camera: Camera


class Teacher:
    """The field of one person, evaluated by the bundle's ``nerf_field`` graph.

    Parameters
    ----------
    run : runs the graph.
    features : the encoder's outputs for the photo, by name.
    points : rows of one call; the graph's shapes are static.
    """

    def __init__(
        self,
        run: RunGraph,
        features: Mapping[str, NDArray[Any]],
        *,
        photo: PhotoGeometry,
        anchor_shell: PosedShell,
        points: int,
    ) -> None:
        self._run = run
        self._features = {name: np.asarray(features[name], np.float32) for name in FEATURES}
        self._photo = photo
        self._anchors = anchor_shell
        self._points = points

    def query(
        self, canonical: F32, direction: F32, *, fallback_id: I32 | None = None
    ) -> tuple[F32, F32]:
        """Density and colour at canonical points.

        Parameters
        ----------
        canonical : [N, 3] metres.
        direction : [N, 3] unit viewing directions in canonical space.
        fallback_id : [N] vertex that anchors a point too far from every canonical one; without
            it such points are empty.

        Returns
        -------
        sigma : [N] 1/m; rgb : [N, 3].
        """
        vertex_id, _ = self._anchors.query(canonical)
        lost = vertex_id < 0
        if fallback_id is not None:
            vertex_id = np.where(lost, fallback_id, vertex_id)
        vertex_id = np.maximum(vertex_id, 0).astype(np.int32)
        uv = carry_to_photo(canonical, vertex_id, self._photo.maps, self._photo.camera)
        count, size = len(canonical), self._points
        sigma = np.empty(count, np.float32)
        rgb = np.empty((count, 3), np.float32)
        for begin in range(0, count, size):
            rows = slice(begin, min(begin + size, count))
            out = self._run(
                {
                    "x_can": _padded(canonical[rows], size),
                    "d_can": _padded(direction[rows], size),
                    "uv": _padded(uv[rows], size),
                    "vertex_id": _padded(vertex_id[rows], size),
                    **self._features,
                }
            )
            filled = rows.stop - begin
            sigma[rows] = out["sigma"].reshape(-1)[:filled]
            rgb[rows] = out["rgb"][:filled]
        if fallback_id is None:
            sigma[lost] = 0.0
        return np.maximum(sigma, 0.0), np.clip(rgb, 0.0, 1.0)


def _padded(rows: NDArray[Any], size: int) -> NDArray[Any]:
    """Rows repeated from the first up to `size`, so that a padding row is a valid one."""
    if len(rows) == size:
        return rows
    out = np.empty((size, *rows.shape[1:]), rows.dtype)
    out[: len(rows)] = rows
    out[len(rows) :] = rows[:1]
    return out
