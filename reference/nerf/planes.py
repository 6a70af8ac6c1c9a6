"""Vertex features to front and back canonical maps, where the unseen side is painted in.

The canonical pose is the same for everybody, so which vertices a map's pixel gathers from is a
constant: a Gather and a weighted sum, which every inference runtime has.
"""

from __future__ import annotations

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor, nn

from reference.nerf.config import FieldConfig
from reference.nerf.encoder import ResBlock

__all__ = ["PLANE_NEIGHBOURS", "PlaneNet", "plane_box", "plane_gather"]

F32 = NDArray[np.float32]
PLANE_NEIGHBOURS = 4
PLANE_MARGIN_M = 0.1  # around the canonical vertices; wide clothes beyond see the map's border


def plane_box(vertices: F32) -> tuple[F32, F32]:
    """Centre [2] and half side [2] of the square x, y region both maps cover."""
    lo, hi = vertices[:, :2].min(0), vertices[:, :2].max(0)
    half = float((hi - lo).max()) / 2 + PLANE_MARGIN_M
    return ((lo + hi) / 2).astype(np.float32), np.full(2, half, np.float32)


def plane_gather(vertices: F32, normals: F32, *, side: int) -> tuple[NDArray[np.int64], F32, F32]:
    """For each pixel of the front (+z) and back map: vertices, weights, distance to the nearest.

    Returns ids [2, side², 4], weights [2, side², 4] that sum to one, distance [2, side²] metres.
    """
    centre, half = plane_box(vertices)
    steps = (2 * (np.arange(side, dtype=np.float32) + 0.5) / side - 1) * half[0]
    # Row 0 of a map has the lowest y: grid_sample's y then grows with the world's.
    pixels = np.stack(np.meshgrid(steps + centre[0], steps + centre[1]), -1).reshape(-1, 2)
    ids = np.empty((2, side * side, PLANE_NEIGHBOURS), np.int64)
    distance = np.empty((2, side * side, PLANE_NEIGHBOURS), np.float32)
    for plane, sign in enumerate((1.0, -1.0)):
        facing = np.flatnonzero(normals[:, 2] * sign > 0.0)
        for rows in np.array_split(np.arange(side * side), max(1, side * side // 512)):
            squared = ((pixels[rows, None] - vertices[None, facing, :2]) ** 2).sum(-1)
            near = np.argpartition(squared, PLANE_NEIGHBOURS, axis=1)[:, :PLANE_NEIGHBOURS]
            ids[plane, rows] = facing[near]
            distance[plane, rows] = np.sqrt(np.take_along_axis(squared, near, 1))
    weights = 1 / (distance + 2e-3)
    weights /= weights.sum(-1, keepdims=True)
    return ids, weights.astype(np.float32), distance.min(-1)


class PlaneNet(nn.Module):
    """A U-Net over both maps at once.

    They are stacked on channels: a pixel of the back map lies behind the front map's pixel of
    the same place, so what is unseen can be guessed from what is seen locally.
    """

    def __init__(self, config: FieldConfig, *, inputs: int) -> None:
        super().__init__()
        a, b, c = config.plane_widths
        self.channels = config.plane_channels
        self.squeeze = nn.Conv2d(2 * inputs, 2 * inputs, 1)
        self.stem = nn.Conv2d(8 * inputs, a, 1)
        self.down1 = ResBlock(a, a)
        self.to2 = nn.Conv2d(a, b, 3, stride=2, padding=1)
        self.down2 = ResBlock(b, b)
        self.to3 = nn.Conv2d(b, c, 3, stride=2, padding=1)
        self.identity = nn.Linear(config.identity_channels, c)
        self.middle = nn.Sequential(ResBlock(c, c), ResBlock(c, c))
        self.up2 = ResBlock(c + b, b)
        self.up1 = ResBlock(b + a, a)
        self.head = nn.Conv2d(a, 8 * config.plane_channels, 1)

    def forward(self, maps: Tensor, identity: Tensor) -> Tensor:
        """maps [B,2·inputs,P,P], identity [B,Z] → planes [B,2,C,P,P]."""
        x1 = self.down1(self.stem(F.pixel_unshuffle(F.silu(self.squeeze(maps)), 2)))
        x2 = self.down2(self.to2(x1))
        x3 = self.to3(x2) + self.identity(identity)[:, :, None, None]
        y = self.middle(x3)
        y = self.up2(torch.cat([F.interpolate(y, scale_factor=2.0, mode="nearest"), x2], 1))
        y = self.up1(torch.cat([F.interpolate(y, scale_factor=2.0, mode="nearest"), x1], 1))
        y = F.pixel_shuffle(self.head(F.silu(y)), 2)
        return y.reshape(maps.shape[0], 2, self.channels, *maps.shape[2:])
