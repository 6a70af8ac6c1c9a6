"""From generated latents to pictures, keeping what the field's render holds beyond the latents.

The autoencoder loses fine detail, and where the photo shows a person the field's render has it.
So a centred model's picture is the render plus what the autoencoder makes of the difference:
``render + decode(latents) − decode(base)``, which is the render itself where nothing was
generated. A small refiner, trained after the UNet, decides how much of either to trust.
"""

from __future__ import annotations

from dataclasses import dataclass
from itertools import pairwise

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from reference.autoencoder import Autoencoder
from reference.autoencoder.model import ResidualBlock
from reference.diffusion.config import DiffusionConfig

__all__ = ["PictureDecoder", "Refiner", "RefinerConfig"]

PICTURES = 3  # render, decoded, decoded render
UNSHUFFLE = 2


@dataclass(frozen=True)
class RefinerConfig:
    """`widths`: channels at 1/2, 1/4, … of the picture, multiples of 8; `blocks` at each, twice."""

    widths: tuple[int, ...] = (32, 64, 96)
    blocks: int = 1


class Refiner(nn.Module):
    """Corrects ``render + decoded − decoded render``; starts as no correction.

    A small U-shaped network: an error's neighbourhood, a hem or a limb, tells more about it than
    its own pixels.
    """

    def __init__(self, config: RefinerConfig | None = None) -> None:
        super().__init__()
        self.config = config or RefinerConfig()
        widths, pixel = self.config.widths, 3 * UNSHUFFLE**2
        self.first = nn.Conv2d(PICTURES * pixel, widths[0], 3, padding=1)
        self.down = nn.ModuleList(nn.Conv2d(a, b, 2, stride=2) for a, b in pairwise(widths))
        self.up = nn.ModuleList(nn.Conv2d(b, 4 * a, 1) for a, b in pairwise(widths))
        self.before = nn.ModuleList(self._blocks(width) for width in widths)
        self.after = nn.ModuleList(self._blocks(width) for width in widths[:-1])
        self.last = nn.Conv2d(widths[0], pixel, 3, padding=1)
        nn.init.zeros_(self.last.weight)
        assert self.last.bias is not None
        nn.init.zeros_(self.last.bias)

    def _blocks(self, width: int) -> nn.Sequential:
        return nn.Sequential(*(ResidualBlock(width) for _ in range(self.config.blocks)))

    def forward(self, render: Tensor, decoded: Tensor, decoded_render: Tensor) -> Tensor:
        """All [B, 3, H, W] in about [-1, 1]; H and W multiples of 2 per width."""
        pictures = torch.cat([render, decoded, decoded_render], 1)
        x = self.before[0](self.first(F.pixel_unshuffle(pictures, UNSHUFFLE)))
        skips = []
        for down, block in zip(self.down, self.before[1:], strict=True):
            skips.append(x)
            x = block(down(x))
        for up, block in zip(reversed(self.up), reversed(self.after), strict=True):
            x = block(F.pixel_shuffle(up(x), 2) + skips.pop())
        correction = F.pixel_shuffle(self.last(F.silu(x)), UNSHUFFLE)
        return render + decoded - decoded_render + correction


class PictureDecoder(nn.Module):
    """The graph ``vae_decoder`` of a bundle."""

    def __init__(
        self, autoencoder: Autoencoder, config: DiffusionConfig, refiner: Refiner | None = None
    ) -> None:
        super().__init__()
        if refiner is not None and config.residual_std is None:
            raise ValueError(
                "a refiner joins the field's render with centred latents, this model's are not "
                "(residual_std is None); leave the refiner out"
            )
        self.autoencoder, self.config, self.refiner = autoencoder, config, refiner

    def forward(
        self, generated: Tensor, base: Tensor | None = None, render: Tensor | None = None
    ) -> Tensor:
        """Generated latents [B, C, h, w] → pictures [B, 3, H, W] in [-1, 1].

        `base` [B, C, h, w] are the latents of `render` [B, 3, H, W] in [-1, 1], the field's; a
        model that is not centred takes neither.
        """
        std, scale = self.config.residual_std, self.config.latent_scale
        if std is None:
            return self.autoencoder.decode(generated / scale).clamp(-1, 1)
        if base is None or render is None:
            raise ValueError("base, render: centred latents are decoded beside the field's render")
        latents = generated * (std / scale) + base
        decoded, again = self.autoencoder.decode(torch.cat([latents, base])).chunk(2)
        if self.refiner is None:
            return (render + decoded - again).clamp(-1, 1)
        return self.refiner(render, decoded, again).clamp(-1, 1)
