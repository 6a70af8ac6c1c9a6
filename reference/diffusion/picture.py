"""From generated latents to pictures, keeping what the field's render holds beyond the latents.

The autoencoder loses fine detail, and where the photo shows a person the field's render has it.
So a centred model's picture is the render plus what the autoencoder makes of the difference:
``render + g (decode(latents) − decode(base))``, which is the render itself where nothing was
generated. Small changes are mostly guesses about what the field has right, large ones mostly are
right, so g grows with the change's root mean square nearby. Of what a narrow blur takes from that
picture, the share `DETAIL` is drawn on top: the field and a mean of guesses are both blurred.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from reference.autoencoder import Autoencoder
from reference.diffusion.config import DiffusionConfig

__all__ = ["DETAIL", "PictureDecoder", "drawn_share"]

# Chosen on validation people: docs/training.md.
SMALLEST, LARGEST = 0.45, 1.05  # shares of a change that are drawn
MIDDLE = 0.16  # root mean square where the share is between them, of pictures in [-1, 1]
NEARBY_PX = 17  # side of the square that the mean is taken over
DETAIL = 0.2
DETAIL_STD_PX = 0.6  # of the blur; wider ones sharpen what is sharp already


def drawn_share(change: Tensor) -> Tensor:
    """[B, 3, H, W] in units of pictures in [-1, 1] → how much of it is drawn, [B, 1, H, W]."""
    reach = NEARBY_PX // 2
    power = (change**2).mean(1, keepdim=True)  # black, so 0, beyond the edges
    power = F.avg_pool2d(power, (NEARBY_PX, 1), stride=1, padding=(reach, 0))
    power = F.avg_pool2d(power, (1, NEARBY_PX), stride=1, padding=(0, reach))
    return SMALLEST + (LARGEST - SMALLEST) * power / (power + MIDDLE**2)


class PictureDecoder(nn.Module):
    """The graph ``vae_decoder`` of a bundle."""

    def __init__(self, autoencoder: Autoencoder, config: DiffusionConfig) -> None:
        super().__init__()
        self.autoencoder, self.config = autoencoder, config
        taps = torch.exp(-0.5 * (torch.tensor([-1.0, 0.0, 1.0]) / DETAIL_STD_PX) ** 2)
        taps = taps / taps.sum()
        self.blur: Tensor
        blur = (taps[:, None] * taps)[None, None].repeat(3, 1, 1, 1)
        self.register_buffer("blur", blur, persistent=False)

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
        change = decoded - again
        light = render + drawn_share(change) * change + 1  # 0 is black, as beyond the edges
        fine = light - F.conv2d(light, self.blur, padding=1, groups=3)
        return (light + DETAIL * fine - 1).clamp(-1, 1)
