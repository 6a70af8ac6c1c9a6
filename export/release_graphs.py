"""The released stage 2 as graphs: same tensors in and out as ours, at SVD's geometry."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor, nn

from export.diffusion import ConditionerGraph, VaeEncoderGraph, step_case
from export.onnx_files import Case
from export.release import Models
from gas_rt.diffusion import karras_sigmas
from reference.autoencoder.svd import SvdAutoencoder
from reference.diffusion.image_encoder import CLIP_MEAN, CLIP_STD, antialiasing_matrix

__all__ = ["Geometry", "in_precision", "reduced", "release_cases", "release_config"]


@dataclass(frozen=True)
class Geometry:
    """The static shapes of a converted bundle; the defaults are the release's.

    Attributes
    ----------
    side_px : of the pictures.
    frames, overlap : of a window of `parity`, and how many of them the next one shares.
    decoder_frames, decoder_overlap : the same of the decoder's calls.
    steps : of denoising, from the scheduler's highest level to its lowest.
    """

    side_px: int = 512
    frames: int = 20
    overlap: int = 6
    decoder_frames: int = 20
    decoder_overlap: int = 6
    steps: int = 25

    def __post_init__(self) -> None:
        for name, frames, overlap, low in (
            ("frames", self.frames, self.overlap, 1),
            ("decoder_frames", self.decoder_frames, self.decoder_overlap, 0),
        ):
            if not low <= overlap < frames:
                raise ValueError(
                    f"{name}: windows of {frames} frames cannot share {overlap} of them; choose an "
                    f"overlap of {low}..{frames - 1}"
                )


class ClipGraph(nn.Module):
    """Picture [1, 3, S, S] in [-1, 1] → embedding [1, D]."""

    def __init__(self, clip: nn.Module, *, side_px: int) -> None:
        super().__init__()
        self.clip = clip
        self.shrink: Tensor
        self.register_buffer("shrink", antialiasing_matrix(side_px))
        mean, std = (torch.tensor(v)[:, None, None] for v in (CLIP_MEAN, CLIP_STD))
        self.gain: Tensor
        self.offset: Tensor
        self.register_buffer("gain", 0.5 / std)
        self.register_buffer("offset", (0.5 - mean) / std)

    def forward(self, picture: Tensor) -> Tensor:
        small = self.shrink @ picture @ self.shrink.T
        embedding: Tensor = self.clip(small * self.gain + self.offset).image_embeds
        return embedding


class TemporalDecoderGraph(nn.Module):
    """Generated latents of frames in a row [F, C, h, w] → pictures [F, 3, H, W] in [-1, 1]."""

    def __init__(self, autoencoder: SvdAutoencoder) -> None:
        super().__init__()
        self.autoencoder = autoencoder

    def forward(self, latents: Tensor) -> Tensor:
        unscaled = latents / self.autoencoder.config.scaling_factor
        dtype = self.autoencoder.vae.decoder.conv_in.weight.dtype
        return self.autoencoder.decode(unscaled.to(dtype)).float().clamp(-1, 1)


def in_precision(models: Models, precision: str) -> Models:
    """What the graphs compute in: with fp16, the UNet and the decoder.

    The encoders run once per avatar, and SVD's picture encoder overflows in fp16; the condition
    networks run once per frame. Those stay in fp32.
    """
    dtype = {"fp16": torch.float16, "fp32": torch.float32}[precision]
    models.denoiser.unet.to(dtype)
    models.autoencoder.vae.decoder.to(dtype)
    return models


@torch.no_grad()
def release_cases(models: Models, geometry: Geometry) -> dict[str, Case]:
    """Every graph of stage 2, with random inputs to check it by."""
    denoiser, autoencoder = models.denoiser, models.autoencoder
    factor, side = autoencoder.config.downsampling, geometry.side_px
    step = factor * denoiser.config.unet.downsampling
    if side % step:
        raise ValueError(f"side: the UNet needs a multiple of {step} px, got {side} px")
    generator = torch.Generator().manual_seed(0)

    def picture() -> Tensor:
        return torch.rand(1, 3, side, side, generator=generator)

    shape = (autoencoder.config.latent_channels, side // factor, side // factor)
    latents = torch.randn(geometry.decoder_frames, *shape, generator=generator)
    cases = {
        "image_encoder": Case(
            ClipGraph(models.clip, side_px=side), {"picture": picture() * 2 - 1}, ("embedding",)
        ),
        "vae_encoder": Case(
            VaeEncoderGraph(autoencoder), {"picture": picture() * 2 - 1}, ("latents",)
        ),
        "conditioner": Case(
            ConditionerGraph(denoiser, autoencoder),
            {"render": picture() * 2 - 1, "normals": picture()},
            ("condition",),
        ),
        "vae_decoder": Case(TemporalDecoderGraph(autoencoder), {"latents": latents}, ("picture",)),
    }
    for name, guided in (("denoiser", True), ("denoiser_nocfg", False)):
        cases[f"{name}_{geometry.frames}"] = step_case(
            denoiser, geometry.frames, guided=guided, side_px=side, generator=generator
        )
    return cases


def reduced(geometry: Geometry, *, side_px: int, frames: int) -> Geometry:
    """At most so large, which can be run where no accelerator is; the same if it is already."""
    if geometry.side_px <= side_px and max(geometry.frames, geometry.decoder_frames) <= frames:
        return geometry
    frames = min(frames, geometry.frames)
    return replace(
        geometry,
        side_px=min(side_px, geometry.side_px),
        frames=frames,
        overlap=1,
        decoder_frames=min(frames, geometry.decoder_frames),
        decoder_overlap=0,
    )


def release_config(
    models: Models,
    geometry: Geometry,
    *,
    sigma_min: float,
    sigma_max: float,
    guidance: Mapping[str, float],
) -> dict[str, Any]:
    """What the runtime must know of the released stage 2.

    It knows windows of one noise level only, so `parity` is the one policy.
    """
    config, frames = models.denoiser.config, geometry.frames
    side = geometry.side_px // models.autoencoder.config.downsampling
    levels = karras_sigmas(geometry.steps, sigma_min=sigma_min, sigma_max=sigma_max)[:-1]
    return {
        "latent_shape": [config.unet.latent_channels, side, side],
        "embedding_channels": config.unet.embedding_channels,
        "condition_channels": config.unet.widths[0],
        "residual_std": None,
        "latent_scale": config.latent_scale,
        "context_gain": 1.0,
        "decoder": {"frames": geometry.decoder_frames, "overlap": geometry.decoder_overlap},
        "profiles": {
            "parity": {
                "frames": frames,
                "overlap": geometry.overlap,
                "guided": f"denoiser_{frames}",
                "unguided": f"denoiser_nocfg_{frames}",
            }
        },
        "policies": {
            "parity": {"profile": "parity", "sigmas": {str(geometry.steps): list(levels)}}
        },
        "default": {"policy": "parity", "steps": geometry.steps},
        "guidance": dict(guidance),
    }
