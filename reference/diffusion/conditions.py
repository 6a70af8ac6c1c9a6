"""The two networks whose sum is added after the UNet's first convolution.

They do not see the noise level, so a frame's sum is computed once and kept. Names and, in the
`full` preset, shapes of their state dicts are those of the release's `nerf_net.pth` and
`pose_net.pth`.
"""

from __future__ import annotations

import math
from itertools import pairwise

import torch
from torch import Tensor, nn

from reference.diffusion.config import ConditionConfig

__all__ = ["NerfNet", "PoseNet"]

INITIAL_SCALE = 2.0


class _ConditionNet(nn.Module):
    """Convolutions with SiLU between and after, a 1×1 projection, a learned scale.

    Weights start so that a signal keeps its size from layer to layer. The library's default halves
    it and more: after five layers a condition is a constant, and hardly learns to be more.
    """

    def __init__(self, convolutions: list[nn.Conv2d], out_channels: int) -> None:
        super().__init__()
        layers = [layer for conv in convolutions for layer in (conv, nn.SiLU())]
        self.conv_layers = nn.Sequential(*layers)
        self.final_proj = nn.Conv2d(convolutions[-1].out_channels, out_channels, 1)
        for convolution in (*convolutions, self.final_proj):
            nn.init.kaiming_normal_(convolution.weight, nonlinearity="relu")
            assert convolution.bias is not None
            nn.init.zeros_(convolution.bias)
        with torch.no_grad():
            self.final_proj.weight /= INITIAL_SCALE * math.sqrt(2)
        self.scale = nn.Parameter(torch.full((1,), INITIAL_SCALE))

    def forward(self, x: Tensor) -> Tensor:
        wanted = self.conv_layers[0].in_channels
        if x.ndim != 4 or x.shape[1] != wanted:
            raise ValueError(
                f"{type(self).__name__}: expected [F, {wanted}, H, W], found {list(x.shape)}; "
                "fold batch and frames into the first axis"
            )
        return self.final_proj(self.conv_layers(x)) * self.scale


class NerfNet(_ConditionNet):
    """Latents of the NeRF render, unscaled [F, C, h, w] → [F, C0, h, w]."""

    def __init__(self, config: ConditionConfig, *, latent_channels: int, out_channels: int) -> None:
        widths = (latent_channels, *config.nerf_widths)
        convolutions = [nn.Conv2d(a, b, 3, padding=1) for a, b in pairwise(widths)]
        super().__init__(convolutions, out_channels)


class PoseNet(_ConditionNet):
    """Normal map, raw [0, 1] [F, 3, 8h, 8w] → [F, C0, h, w]."""

    def __init__(self, config: ConditionConfig, *, out_channels: int) -> None:
        full, half, quarter, eighth, last = config.pose_widths
        convolutions = [nn.Conv2d(3, full, 3, padding=1)]
        for a, b in pairwise((full, half, quarter, eighth)):
            convolutions.append(nn.Conv2d(a, b, 4, stride=2, padding=1))
            convolutions.append(nn.Conv2d(b, b, 3, padding=1))
        convolutions.append(nn.Conv2d(eighth, last, 3, padding=1))
        super().__init__(convolutions, out_channels)
