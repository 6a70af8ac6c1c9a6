"""SVD's autoencoder: a picture encoder and a decoder with layers along time.

The decoder's layers see neighbouring frames, and its group norms all frames of a call, so a frame
depends on which others it was decoded with. A clip is decoded in one call, as released, or in
windows that overlap.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import torch
from diffusers import AutoencoderKLTemporalDecoder
from torch import Tensor, nn

from gas_rt.diffusion.decoding import decode_spans

__all__ = ["SvdAutoencoder", "SvdAutoencoderConfig", "decode_in_windows"]


@dataclass(frozen=True)
class SvdAutoencoderConfig:
    """What its `config.json` says that others need.

    Attributes
    ----------
    scaling_factor : of noisy latents; reference and NeRF latents are not scaled.
    force_upcast : whether the encoder overflows in fp16 and is to be computed in fp32.
    downsampling : of height and width.
    """

    latent_channels: int
    scaling_factor: float
    force_upcast: bool
    downsampling: int


class SvdAutoencoder(nn.Module):
    """Picture ⇄ latent, with the weights' names of a diffusers `vae` folder."""

    def __init__(self, config: Mapping[str, Any]) -> None:
        """`config` is the folder's config.json."""
        super().__init__()
        self.vae = AutoencoderKLTemporalDecoder.from_config(dict(config))
        values = self.vae.config
        self.config = SvdAutoencoderConfig(
            latent_channels=values.latent_channels,
            scaling_factor=values.scaling_factor,
            force_upcast=values.force_upcast,
            downsampling=2 ** (len(values.block_out_channels) - 1),
        )

    def encode(self, picture: Tensor) -> Tensor:
        """[B, 3, H, W] in [-1, 1] → the distribution's mode, unscaled [B, C, h, w]."""
        moments = self.vae.quant_conv(self.vae.encoder(picture))
        return moments[:, : self.config.latent_channels]

    def decode(self, latents: Tensor) -> Tensor:
        """Unscaled latents of F frames in a row [F, C, h, w] → [F, 3, H, W]; not clamped."""
        frames = len(latents)
        # 0 everywhere: frames of one video, so the temporal layers are mixed in.
        images = torch.zeros(1, frames, dtype=latents.dtype, device=latents.device)
        return self.vae.decoder(latents, num_frames=frames, image_only_indicator=images)


def decode_in_windows(
    decode: Callable[[Tensor], Tensor], latents: Tensor, *, frames: int, overlap: int
) -> Tensor:
    """A clip [N, C, h, w] → [N, 3, H, W] through calls of `frames` frames each.

    Neighbouring windows share `overlap` frames, and each frame is taken from the window where it
    is farther from an edge. A clip shorter than a window is padded by its last frame.
    """
    pictures: list[Tensor] = []
    for span in decode_spans(len(latents), frames=frames, overlap=overlap):
        held = latents[span.first : span.first + frames]
        if len(held) < frames:
            held = torch.cat([held, held[-1:].expand(frames - len(held), -1, -1, -1)])
        pictures.append(decode(held)[span.kept_from - span.first : span.kept_to - span.first])
    return torch.cat(pictures)
