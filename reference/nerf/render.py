"""The teacher's picture: every in-shell sample through the network (render mode "exact")."""

from __future__ import annotations

import numpy as np
import torch
from numpy.typing import NDArray

from gas_rt.core import Camera
from gas_rt.kernels import PosedShell
from reference.data import Geometry, PhotoGeometry, PointSet
from reference.devices import moved, place_of
from reference.nerf.model import HumanNerf, PersonFeatures
from reference.nerf.volume import composite

__all__ = ["encode_photo", "render_view"]

CHUNK = 4096  # points per decoder call: a call's activations stay in a core's cache
LAYER = 8  # samples per ray between two looks at how much light is left
GPU_CHUNK, GPU_LAYER = 1 << 18, 24  # there calls cost more than samples that could be left out


@torch.inference_mode()
def encode_photo(model: HumanNerf, photo: PhotoGeometry) -> PersonFeatures:
    """The features of one person (batch of one)."""
    given = (photo.image, photo.vertex_uv, photo.vertex_visible)
    return model.encode(*moved(tuple(torch.from_numpy(v)[None] for v in given), place_of(model)))


@torch.inference_mode()
def render_view(
    model: HumanNerf,
    person: PersonFeatures,
    geometry: Geometry,
    photo: PhotoGeometry,
    shell: PosedShell,
    camera: Camera,
    *,
    early_stop: float = 0.0,
) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """rgb [H,W,3] premultiplied over black, alpha [H,W].

    Samples behind which no more than `early_stop` of the light is left are not evaluated; none
    that matters is skipped at 0.
    """
    place = place_of(model)
    points: PointSet = moved(geometry.samples(shell, camera, photo), place)
    rays = camera.width * camera.height
    depth = _rank(points.ray, rays=rays)
    sigma = torch.zeros(len(depth), device=place)
    rgb, tau = torch.zeros(len(depth), 3, device=place), torch.zeros(rays, device=place)
    chunk, step = (CHUNK, LAYER) if place.type == "cpu" else (GPU_CHUNK, GPU_LAYER)
    for nearest in range(0, int(depth.max()) + 1 if len(depth) else 0, step):
        layer = (depth >= nearest) & (depth < nearest + step)
        wanted = torch.nonzero(layer & (torch.exp(-tau) > early_stop)[points.ray])[:, 0]
        for rows in wanted.split(chunk):
            sigma[rows], rgb[rows] = model.field(
                points.x_can[rows],
                points.d_can[rows],
                points.uv[rows],
                points.vertex_id[rows],
                person.planes[0],
                person.image,
                person.vertex[0],
            )
        tau.index_add_(0, points.ray[wanted], (sigma * points.delta)[wanted])
    colour, alpha = composite(points.ray, points.delta, sigma, rgb, rays=rays)
    shape = (camera.height, camera.width)
    return colour.reshape(*shape, 3).cpu().numpy(), alpha.reshape(shape).cpu().numpy()


def _rank(ray: torch.Tensor, *, rays: int) -> torch.Tensor:
    """How many samples of its ray lie before each sample; ray [N] ascending."""
    count = torch.bincount(ray, minlength=rays)
    first = torch.cumsum(count, 0) - count
    return torch.arange(len(ray), device=ray.device) - first[ray]
