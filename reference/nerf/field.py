"""Features of one person at canonical points to density and colour."""

from __future__ import annotations

import math

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from reference.nerf.config import FieldConfig

__all__ = ["Field", "positional"]

POSITION_OCTAVES = 2
DISTANCE_OCTAVES = 4
DENSITY_SCALE = 100.0  # 1/m per unit of softplus: 3 units make 1.3 cm of cloth nearly opaque
SURFACE_SHARPNESS = 1.5  # initial prior: units of density logit per centimetre of depth


def positional(x: Tensor, octaves: int) -> Tensor:
    """x [N,D] → [sin, cos](2^k π x), [N, 2·D·octaves]."""
    scaled = torch.cat([x * (math.pi * 2**k) for k in range(octaves)], -1)
    return torch.cat([scaled.sin(), scaled.cos()], -1)


class Field(nn.Module):
    """Three sources per point (map, pixel, vertex), fused by a small gated network.

    Gated linear units are the cheap form of attention between three sources: which of them is to
    be trusted depends on whether the point's surface is seen in the photo.
    """

    def __init__(self, config: FieldConfig, vertices: Tensor, normals: Tensor) -> None:
        super().__init__()
        self.unit_m = config.shell_radius_m  # of offsets; a person's own shell may be wider
        pixel = 4 + config.image_channels
        geometry = 3 + 1 + 2 * DISTANCE_OCTAVES + 3 + 6 * POSITION_OCTAVES
        sources = (config.plane_channels, pixel, config.vertex_channels)
        width = config.hidden
        # [V,7]: position, normal, weight of the front map (soft where the surface is edge-on).
        front = torch.sigmoid(6.0 * normals[:, 2:])
        self.register_buffer("table", torch.cat([vertices, normals, front], 1))
        self.register_buffer("plane_centre", torch.zeros(2))
        self.register_buffer("plane_half", torch.ones(2))
        self.plane_channels = config.plane_channels
        self.enter = nn.Linear(geometry + sum(sources), 2 * width)
        self.hidden = nn.Linear(width, width)
        self.deeper = nn.ModuleList(nn.Linear(width, width) for _ in range(config.deeper))
        self.density = nn.Linear(width, 1)
        self.colour1 = nn.Linear(width + 4, 64)
        self.colour2 = nn.Linear(64, 4)
        nn.init.zeros_(self.density.weight)
        nn.init.ones_(self.density.bias)
        for layer in self.deeper:  # adds nothing until it has learned what
            nn.init.zeros_(layer.weight)
            nn.init.zeros_(layer.bias)

    def gather(
        self,
        x_can: Tensor,
        uv: Tensor,
        vertex_id: Tensor,
        planes: Tensor,
        image_features: Tensor,
        vertex_features: Tensor,
    ) -> Tensor:
        """Everything one person's features say about N points: [N, 7 + ΣC]."""
        anchored = torch.cat([self.table, vertex_features], 1).index_select(0, vertex_id)
        at_map = ((x_can[:, :2] - self.plane_centre) / self.plane_half)[None, None]  # [1,1,N,2]
        maps = _sample(planes, at_map.expand(2, -1, -1, -1))  # [2,C,N]
        front = anchored[:, 6]
        plane = (maps[0] * front + maps[1] * (1 - front)).t()
        pixel = _sample(image_features, uv[None, None])[0].t()
        return torch.cat([anchored[:, :6], plane, pixel, anchored[:, 7:]], 1)

    def decode(self, x_can: Tensor, d_can: Tensor, features: Tensor) -> tuple[Tensor, Tensor]:
        """x_can, d_can [N,3], features of `gather` → sigma [N] in 1/m, rgb [N,3]."""
        anchor, normal, tokens = features[:, :3], features[:, 3:6], features[:, 6:]
        offset = (x_can - anchor) / self.unit_m
        # Bounded: waves repeat after two units, and the prior would grow beyond what cloth that
        # far off could learn to overcome.
        distance = (offset * normal).sum(1, keepdim=True).clamp(-1, 1)
        geometry = torch.cat(
            [
                offset,
                distance,
                positional(distance, DISTANCE_OCTAVES),
                normal,
                positional(x_can, POSITION_OCTAVES),
            ],
            1,
        )
        h = F.glu(self.enter(torch.cat([geometry, tokens], 1)), 1)
        h = F.silu(self.hidden(h))
        for layer in self.deeper:
            h = h + F.silu(layer(h))
        depth_cm = -distance.float() * (self.unit_m * 100)
        logit = self.density(h).float() + SURFACE_SHARPNESS * depth_cm
        sigma = DENSITY_SCALE * F.softplus(logit)
        facing = (d_can * normal).sum(1, keepdim=True)
        c = F.silu(self.colour1(torch.cat([h, d_can.to(h.dtype), facing.to(h.dtype)], 1)))
        c = self.colour2(c).float()
        photo = tokens[:, self.plane_channels : self.plane_channels + 3]
        # The photo's own colour passes where the network trusts it: fine detail costs no capacity.
        seen = torch.sigmoid(c[:, 3:])
        rgb = torch.sigmoid(c[:, :3]) * (1 - seen) + photo * seen
        return sigma[:, 0], rgb

    def forward(
        self,
        x_can: Tensor,
        d_can: Tensor,
        uv: Tensor,
        vertex_id: Tensor,
        planes: Tensor,
        image_features: Tensor,
        vertex_features: Tensor,
    ) -> tuple[Tensor, Tensor]:
        """The field of one person: sigma [N] in 1/m, rgb [N,3] in [0,1]."""
        features = self.gather(x_can, uv, vertex_id, planes, image_features, vertex_features)
        return self.decode(x_can, d_can, features)


def _sample(maps: Tensor, grid: Tensor) -> Tensor:
    """maps [P,C,H,W] at grid [P,1,N,2] → [P,C,N], bilinear, border clamped."""
    out = F.grid_sample(maps, grid, mode="bilinear", padding_mode="border", align_corners=False)
    return out[:, :, 0]
