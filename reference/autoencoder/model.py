"""Encoder and decoder: pixel-unshuffle stem, residual blocks at 1/2, 1/4 and 1/8 resolution."""

from __future__ import annotations

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor, nn

__all__ = ["Autoencoder", "AutoencoderConfig"]

DOWNSAMPLING = 8
GROUPS = 8  # 32 groups on 32–64 channels would be almost an instance norm


@dataclass(frozen=True)
class AutoencoderConfig:
    """Widths are per resolution, finest first; each must be a multiple of 8."""

    latent_channels: int = 16
    encoder_widths: tuple[int, int, int] = (32, 64, 96)
    decoder_widths: tuple[int, int, int] = (48, 96, 128)
    blocks: int = 2
    # Standard deviation of the noise added to unit-variance latents in training: it keeps the
    # decoder smooth around each code, which is what a KL term would do.
    latent_noise: float = 0.05


class ResidualBlock(nn.Module):
    """GroupNorm, SiLU, 3×3 convolution, twice; identity skip."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.norm1 = nn.GroupNorm(GROUPS, width)
        self.conv1 = nn.Conv2d(width, width, 3, padding=1)
        self.norm2 = nn.GroupNorm(GROUPS, width)
        self.conv2 = nn.Conv2d(width, width, 3, padding=1)
        nn.init.zeros_(self.conv2.weight)
        nn.init.zeros_(self.conv2.bias)

    def forward(self, x: Tensor) -> Tensor:  # [B, width, h, w]
        h = self.conv1(F.silu(self.norm1(x)))
        return x + self.conv2(F.silu(self.norm2(h)))


class Encoder(nn.Module):
    """[B, 3, H, W] in [-1, 1] → [B, latent_channels, H/8, W/8]."""

    def __init__(self, config: AutoencoderConfig) -> None:
        super().__init__()
        fine, middle, coarse = config.encoder_widths
        self.layers = nn.Sequential(
            nn.PixelUnshuffle(2),
            nn.Conv2d(12, fine, 3, padding=1),
            *(ResidualBlock(fine) for _ in range(config.blocks)),
            nn.Conv2d(fine, middle, 4, stride=2, padding=1),
            *(ResidualBlock(middle) for _ in range(config.blocks)),
            nn.Conv2d(middle, coarse, 4, stride=2, padding=1),
            *(ResidualBlock(coarse) for _ in range(config.blocks)),
            nn.GroupNorm(GROUPS, coarse),
            nn.SiLU(),
            nn.Conv2d(coarse, config.latent_channels, 1),
        )

    def forward(self, picture: Tensor) -> Tensor:
        return self.layers(picture)


class Decoder(nn.Module):
    """[B, latent_channels, h, w] → [B, 3, 8h, 8w], nominally in [-1, 1]."""

    def __init__(self, config: AutoencoderConfig) -> None:
        super().__init__()
        fine, middle, coarse = config.decoder_widths
        self.layers = nn.Sequential(
            nn.Conv2d(config.latent_channels, coarse, 3, padding=1),
            *(ResidualBlock(coarse) for _ in range(config.blocks)),
            nn.Conv2d(coarse, middle * 4, 1),
            nn.PixelShuffle(2),
            *(ResidualBlock(middle) for _ in range(config.blocks)),
            nn.Conv2d(middle, fine * 4, 1),
            nn.PixelShuffle(2),
            *(ResidualBlock(fine) for _ in range(config.blocks)),
            nn.GroupNorm(GROUPS, fine),
            nn.SiLU(),
            nn.Conv2d(fine, 12, 3, padding=1),
            nn.PixelShuffle(2),
        )

    def forward(self, latent: Tensor) -> Tensor:
        return self.layers(latent)


class Autoencoder(nn.Module):
    """Picture ⇄ latent.

    ``latent_mean`` and ``latent_std`` ([1, C, 1, 1] buffers, measured on training pictures) bring
    latents to zero mean and unit variance per channel; ``encode`` applies them and ``decode``
    undoes them, so every other part sees normalised latents.
    """

    def __init__(self, config: AutoencoderConfig | None = None) -> None:
        super().__init__()
        self.config = config or AutoencoderConfig()
        self.encoder = Encoder(self.config)
        self.decoder = Decoder(self.config)
        channels = self.config.latent_channels
        self.latent_mean: Tensor
        self.latent_std: Tensor
        self.register_buffer("latent_mean", torch.zeros(1, channels, 1, 1))
        self.register_buffer("latent_std", torch.ones(1, channels, 1, 1))

    def encode(self, picture: Tensor) -> Tensor:
        """[B, 3, H, W] in [-1, 1], H and W multiples of 8 → normalised latents [B, C, H/8, W/8]."""
        if (
            picture.ndim != 4
            or picture.shape[1] != 3
            or any(n % DOWNSAMPLING or n == 0 for n in picture.shape[2:])
        ):
            raise ValueError(
                "picture: expected [B, 3, H, W] with H and W multiples of 8, "
                f"got {list(picture.shape)}; pad or resize it"
            )
        return (self.encoder(picture) - self.latent_mean) / self.latent_std

    def decode(self, latent: Tensor) -> Tensor:
        """Normalised latents [B, C, h, w] → [B, 3, 8h, 8w]; not clamped."""
        return self.decoder(latent * self.latent_std + self.latent_mean)
