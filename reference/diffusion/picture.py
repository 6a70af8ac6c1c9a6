"""From generated latents to pictures, keeping what the field's render holds beyond the latents.

The autoencoder loses fine detail, and where the photo shows a person the field's render has it.
So a centred model's picture is the render plus what the autoencoder makes of the difference:
``render + decode(latents) − decode(base)``, which is the render itself where nothing was
generated; `config.picture_gain` says how much of the difference is drawn. Of what a narrow blur
takes from that picture, the share `config.picture_detail` is drawn on top.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from reference.autoencoder import Autoencoder
from reference.diffusion.config import DiffusionConfig, picture_detail, picture_gain

__all__ = ["PictureDecoder"]

DETAIL_STD_PX = 0.6  # of the blur; wider ones sharpen what is sharp already


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
        latents = generated * (picture_gain(self.config) * std / scale) + base
        decoded, again = self.autoencoder.decode(torch.cat([latents, base])).chunk(2)
        light = render + decoded - again + 1  # 0 is black, as beyond the edges
        fine = light - F.conv2d(light, self.blur, padding=1, groups=3)
        return (light + picture_detail(self.config) * fine - 1).clamp(-1, 1)
