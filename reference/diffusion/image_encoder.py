"""Picture → the one token of the UNet's cross-attention."""

from __future__ import annotations

from itertools import pairwise
from pathlib import Path

import torch
from torch import Tensor, nn

from reference.diffusion.config import ImageEncoderConfig

__all__ = ["ClipImageEncoder", "ConvImageEncoder", "antialiasing_matrix"]

GROUPS = 8
CLIP_SIDE = 224
CLIP_MEAN = (0.48145466, 0.4578275, 0.40821073)
CLIP_STD = (0.26862954, 0.26130258, 0.27577711)


class ConvImageEncoder(nn.Module):
    """The small model's: [B, 3, H, W] in [-1, 1] → [B, D], trained with the UNet."""

    def __init__(self, config: ImageEncoderConfig, *, channels: int) -> None:
        super().__init__()
        layers: list[nn.Module] = []
        for a, b in pairwise((3, *config.widths)):
            layers += [nn.Conv2d(a, b, 4, stride=2, padding=1), nn.GroupNorm(GROUPS, b), nn.SiLU()]
        self.layers = nn.Sequential(*layers)
        self.project = nn.Linear(2 * config.widths[-1], channels)

    def forward(self, picture: Tensor) -> Tensor:
        _check(picture)
        x = self.layers(picture)
        # The mean alone would fade with the share of the picture that the person fills.
        return self.project(torch.cat([x.mean(dim=(2, 3)), x.amax(dim=(2, 3))], dim=1))


class ClipImageEncoder(nn.Module):
    """The full-size model's: CLIP's vision tower out of `folder`, frozen."""

    def __init__(self, folder: Path) -> None:
        # Only the full-size model needs transformers.
        from transformers import CLIPVisionModelWithProjection

        if not (folder / "config.json").is_file():
            raise FileNotFoundError(
                f"{folder}: no CLIP vision model (config.json is missing); "
                "give the folder 'image_encoder' of an SVD checkout"
            )
        super().__init__()
        self.clip = CLIPVisionModelWithProjection.from_pretrained(folder, local_files_only=True)
        self.clip.eval().requires_grad_(False)

    def forward(self, picture: Tensor) -> Tensor:
        """[B, 3, H, W] in [-1, 1] → [B, D]."""
        # Private, but it defines the resampling that SVD was trained with.
        from diffusers.pipelines.stable_video_diffusion.pipeline_stable_video_diffusion import (
            _resize_with_antialiasing,
        )

        _check(picture)
        small = (_resize_with_antialiasing(picture, (CLIP_SIDE, CLIP_SIDE)) + 1) / 2
        mean, std = (small.new_tensor(v)[:, None, None] for v in (CLIP_MEAN, CLIP_STD))
        return self.clip((small - mean) / std).image_embeds


def antialiasing_matrix(side: int) -> Tensor:
    """[224, side], M of ``small = M picture Mᵀ``: SVD's resampling of a square picture.

    It is linear, and treats rows and columns alike; the function that defines it works out its
    kernel from the picture's size at every call.
    """
    from diffusers.pipelines.stable_video_diffusion.pipeline_stable_video_diffusion import (
        _resize_with_antialiasing,
    )

    narrow = 8  # columns, which stay as they are
    rows = torch.eye(side)[None, :, :, None].expand(1, side, side, narrow)
    return _resize_with_antialiasing(rows, (CLIP_SIDE, narrow))[0, :, :, 0].T.contiguous()


def _check(picture: Tensor) -> None:
    if picture.ndim != 4 or picture.shape[1] != 3:
        raise ValueError(f"picture: expected [B, 3, H, W] in [-1, 1], found {list(picture.shape)}")
