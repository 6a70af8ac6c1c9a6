"""The stage-1 model: a photo and where the body is in it, to the features of a canonical field."""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor, nn

from reference.nerf.config import FieldConfig
from reference.nerf.encoder import ImageEncoder
from reference.nerf.field import Field, positional
from reference.nerf.planes import PlaneNet, plane_box, plane_gather

__all__ = ["CanonicalMesh", "HumanNerf", "PersonFeatures"]

F32 = NDArray[np.float32]


@dataclass(frozen=True, eq=False)
class CanonicalMesh:
    """The body in the canonical pose, the same for every identity.

    Attributes
    ----------
    vertices, normals : [V,3].
    mirror : [V] the vertex on the other side of the body; the vertex itself on the midline.
    """

    vertices: F32
    normals: F32
    mirror: NDArray[np.int64]


class PersonFeatures(NamedTuple):
    """What the encoder knows about B people."""

    planes: Tensor  # [B,2,C,P,P]
    image: Tensor  # [B,C2,R,R]
    vertex: Tensor  # [B,V,C3]


class HumanNerf(nn.Module):
    """Encoder, maps and field, with the canonical body as constants."""

    def __init__(self, config: FieldConfig, mesh: CanonicalMesh) -> None:
        super().__init__()
        self.config = config
        vertices = torch.as_tensor(mesh.vertices, dtype=torch.float32)
        normals = torch.as_tensor(mesh.normals, dtype=torch.float32)
        self.image_encoder = ImageEncoder(config)
        pixel = 4 + config.image_channels
        place = torch.cat([positional(vertices, 3), normals], 1)  # [V,21]
        self.register_buffer("place", place)
        self.register_buffer("mirror", torch.as_tensor(mesh.mirror, dtype=torch.int64))
        self.embedding = nn.Parameter(0.1 * torch.randn(vertices.shape[0], config.vertex_embedding))
        inputs = 2 * (pixel + 1) + place.shape[1] + config.vertex_embedding
        self.vertex_enter = nn.Linear(inputs, 2 * config.vertex_channels)
        self.vertex_exit = nn.Linear(2 * config.vertex_channels, config.vertex_channels - 1)
        ids, weights, distance = plane_gather(mesh.vertices, mesh.normals, side=config.plane_side)
        self.register_buffer("plane_ids", torch.from_numpy(ids.reshape(-1)))
        self.register_buffer("plane_weights", torch.from_numpy(weights)[..., None])
        # How far a map's pixel is from the body tells the network where features are extrapolated.
        near = torch.exp(-torch.from_numpy(distance) / 0.03).reshape(
            1, 2, config.plane_side, config.plane_side
        )
        self.register_buffer("plane_near", near)
        self.plane_net = PlaneNet(config, inputs=config.vertex_channels + 1)
        self.field = Field(config, vertices, normals)
        centre, half = plane_box(mesh.vertices)
        self.field.plane_centre.copy_(torch.from_numpy(centre))
        self.field.plane_half.copy_(torch.from_numpy(half))

    def encode(self, image: Tensor, vertex_uv: Tensor, vertex_visible: Tensor) -> PersonFeatures:
        """image [B,4,R,R], vertex_uv [B,V,2] in [-1,1], vertex_visible [B,V,1]."""
        features, identity = self.image_encoder(image)
        batch, count = image.shape[0], self.place.shape[0]
        pixel = F.grid_sample(
            features,
            vertex_uv[:, None],
            mode="bilinear",
            padding_mode="zeros",
            align_corners=False,
        )[:, :, 0].transpose(1, 2)  # [B,V,C2]
        seen = torch.cat([pixel * vertex_visible, vertex_visible], 2)
        other = seen.index_select(1, self.mirror)
        place = torch.cat([self.place, self.embedding], 1).expand(batch, -1, -1)
        h = F.silu(self.vertex_enter(torch.cat([seen, other, place.to(seen.dtype)], 2)))
        vertex = torch.cat([vertex_visible, self.vertex_exit(h).to(seen.dtype)], 2)
        side, channels = self.config.plane_side, self.config.vertex_channels
        gathered = vertex.index_select(1, self.plane_ids)
        gathered = gathered.reshape(batch, 2, side * side, -1, channels)
        maps = (gathered * self.plane_weights).sum(3)  # [B,2,P²,C3]
        maps = maps.transpose(2, 3).reshape(batch, 2 * channels, side, side)
        assert vertex.shape[1] == count
        maps = torch.cat([maps, self.plane_near.expand(batch, -1, -1, -1)], 1)
        planes = self.plane_net(maps, identity)
        return PersonFeatures(planes.float(), features, vertex)
