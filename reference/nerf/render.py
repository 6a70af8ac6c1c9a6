"""The teacher's picture: every in-shell sample through the network (render mode "exact")."""

from __future__ import annotations

import numpy as np
import torch
from numpy.typing import NDArray

from gas_rt.core import Camera
from gas_rt.kernels import PosedShell
from reference.data import Geometry, PhotoGeometry
from reference.nerf.model import HumanNerf, PersonFeatures
from reference.nerf.volume import composite

__all__ = ["encode_photo", "render_view"]

CHUNK = 65_536  # points per decoder call; bounds memory, changes nothing else


@torch.inference_mode()
def encode_photo(model: HumanNerf, photo: PhotoGeometry) -> PersonFeatures:
    """The features of one person (batch of one)."""
    return model.encode(
        torch.from_numpy(photo.image)[None],
        torch.from_numpy(photo.vertex_uv)[None],
        torch.from_numpy(photo.vertex_visible)[None],
    )


@torch.inference_mode()
def render_view(
    model: HumanNerf,
    person: PersonFeatures,
    geometry: Geometry,
    photo: PhotoGeometry,
    shell: PosedShell,
    camera: Camera,
) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """rgb [H,W,3] premultiplied over black, alpha [H,W]."""
    points = geometry.samples(shell, camera, photo)
    sigma, rgb = [], []
    for rows in torch.arange(len(points.ray)).split(CHUNK):
        out = model.field(
            points.x_can[rows],
            points.d_can[rows],
            points.uv[rows],
            points.vertex_id[rows],
            person.planes[0],
            person.image,
            person.vertex[0],
        )
        sigma.append(out[0])
        rgb.append(out[1])
    shape = (camera.height, camera.width)
    if not sigma:
        return np.zeros((*shape, 3), np.float32), np.zeros(shape, np.float32)
    colour, alpha = composite(
        points.ray,
        points.delta,
        torch.cat(sigma),
        torch.cat(rgb),
        rays=camera.width * camera.height,
    )
    return colour.reshape(*shape, 3).numpy(), alpha.reshape(shape).numpy()
