"""Photo to pixel features and a global vector."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from reference.nerf.config import FieldConfig

__all__ = ["ImageEncoder", "ResBlock"]


def norm(channels: int) -> nn.GroupNorm:
    """GroupNorm in groups of at least two channels; 8 groups where the width allows it."""
    groups = 8 if channels % 8 == 0 and channels >= 16 else 4
    return nn.GroupNorm(groups, channels)


class ResBlock(nn.Module):
    """Two 3×3 convolutions, pre-activated; the second starts at zero."""

    def __init__(self, inputs: int, outputs: int) -> None:
        super().__init__()
        self.norm1 = norm(inputs)
        self.conv1 = nn.Conv2d(inputs, outputs, 3, padding=1)
        self.norm2 = norm(outputs)
        self.conv2 = nn.Conv2d(outputs, outputs, 3, padding=1)
        self.skip = nn.Conv2d(inputs, outputs, 1) if inputs != outputs else nn.Identity()
        nn.init.zeros_(self.conv2.weight)
        nn.init.zeros_(self.conv2.bias)

    def forward(self, x: Tensor) -> Tensor:
        h = self.conv1(F.silu(self.norm1(x)))
        h = self.conv2(F.silu(self.norm2(h)))
        out: Tensor = self.skip(x) + h
        return out


class ImageEncoder(nn.Module):
    """A U-Net over the photo.

    The features it returns hold the photo's own rgb and mask in their first four channels, so a
    seen colour reaches the point decoder without passing a bottleneck.
    """

    def __init__(self, config: FieldConfig) -> None:
        super().__init__()
        a, b, c, d = config.encoder_widths
        self.stem = nn.Conv2d(16, a, 3, padding=1)
        self.down1 = ResBlock(a, a)
        self.to2 = nn.Conv2d(a, b, 3, stride=2, padding=1)
        self.down2 = ResBlock(b, b)
        self.to3 = nn.Conv2d(b, c, 3, stride=2, padding=1)
        self.down3 = ResBlock(c, c)
        self.to4 = nn.Conv2d(c, d, 3, stride=2, padding=1)
        self.middle = nn.Sequential(ResBlock(d, d), ResBlock(d, d))
        self.identity = nn.Linear(2 * d, config.identity_channels)
        self.up3 = ResBlock(d + c, c)
        self.up2 = ResBlock(c + b, b)
        self.up1 = ResBlock(b + a, a)
        self.head = nn.Conv2d(a, 4 * config.image_channels, 1)

    def forward(self, image: Tensor) -> tuple[Tensor, Tensor]:
        """image [B,4,R,R] → features [B,4+C,R,R], identity [B,Z]."""
        x1 = self.down1(self.stem(F.pixel_unshuffle(image, 2)))
        x2 = self.down2(self.to2(x1))
        x3 = self.down3(self.to3(x2))
        x4 = self.middle(self.to4(x3))
        pooled = torch.cat([x4.mean((2, 3)), x4.amax((2, 3))], 1)
        identity = self.identity(pooled)
        y = self.up3(torch.cat([_double(x4), x3], 1))
        y = self.up2(torch.cat([_double(y), x2], 1))
        y = self.up1(torch.cat([_double(y), x1], 1))
        features = F.pixel_shuffle(self.head(F.silu(y)), 2)
        return torch.cat([image, features.to(image.dtype)], 1), identity


def _double(x: Tensor) -> Tensor:
    """Nearest-neighbour upsampling by two."""
    return F.interpolate(x, scale_factor=2.0, mode="nearest")
