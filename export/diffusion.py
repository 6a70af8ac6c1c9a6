"""Stage 2 as graphs of static shape, with weights rounded to what the bundle stores."""

from __future__ import annotations

import copy
from collections.abc import Mapping
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from export.onnx_files import Case, round_to_half
from gas_rt.diffusion import SIGMA_MAX, SIGMA_MIN
from reference.autoencoder import Autoencoder
from reference.autoencoder.model import DOWNSAMPLING
from reference.autoencoder.svd import SvdAutoencoder
from reference.diffusion.denoiser import Denoiser, DenoiserStep
from reference.diffusion.picture import PictureDecoder

__all__ = [
    "ConditionerGraph",
    "Stage2",
    "VaeEncoderGraph",
    "diffusion_cases",
    "rounded_to_half",
    "step_case",
]


@dataclass(frozen=True, eq=False)
class Stage2:
    """The models of stage 2, and what they were trained for.

    Attributes
    ----------
    context, chunk, live_sigmas, parity_frames : see `reference.diffusion.windows.WindowConfig`.
    few : a student's lists of levels, by their length; it has no second branch, and no others.
    """

    denoiser: Denoiser
    autoencoder: Autoencoder
    context: int
    chunk: int
    live_sigmas: tuple[float, ...]
    parity_frames: int
    few: Mapping[int, tuple[float, ...]] | None = None

    def __post_init__(self) -> None:
        wanted, found = (
            self.denoiser.config.unet.latent_channels,
            self.autoencoder.config.latent_channels,
        )
        if wanted != found:
            raise ValueError(
                f"the UNet was trained on latents of {wanted} channels, this autoencoder makes "
                f"{found}; give the autoencoder its clips were encoded with"
            )
        if self.denoiser.told != (self.few is not None):
            raise ValueError(
                "a student is exported with the lists of levels it was trained on, and a model "
                "that is none without; open its checkpoint with `bundle.open_stage2`"
            )
        if self.denoiser.image_encoder is None:
            raise ValueError(
                "the UNet's image encoder is CLIP, which this export has no graph of; "
                "give a model whose image encoder is 'conv'"
            )

    @property
    def modules(self) -> dict[str, nn.Module]:
        """By the name under which a bundle stores its weights."""
        parts = {"diffusion": self.denoiser, "autoencoder": self.autoencoder}
        return parts

    @property
    def picture_decoder(self) -> PictureDecoder:
        """From generated latents to pictures."""
        return PictureDecoder(self.autoencoder, self.denoiser.config).eval()

    @property
    def live_frames(self) -> int:
        """F of the live graphs: anchor, context and every frame in flight."""
        return 1 + self.context + len(self.live_sigmas) * self.chunk


class ImageEncoderGraph(nn.Module):
    """Picture [1, 3, S, S] in [-1, 1] → embedding [1, D]."""

    def __init__(self, denoiser: Denoiser) -> None:
        super().__init__()
        self.denoiser = denoiser

    def forward(self, picture: Tensor) -> Tensor:
        return self.denoiser.embed(picture)


class VaeEncoderGraph(nn.Module):
    """Picture [1, 3, S, S] in [-1, 1] → latents [1, C, h, w], normalised, unscaled."""

    def __init__(self, autoencoder: Autoencoder | SvdAutoencoder) -> None:
        super().__init__()
        self.autoencoder = autoencoder

    def forward(self, picture: Tensor) -> Tensor:
        return self.autoencoder.encode(picture)


class ConditionerGraph(nn.Module):
    """A frame's conditions → what the UNet adds, and what is added to what it generates."""

    def __init__(self, denoiser: Denoiser, autoencoder: Autoencoder | SvdAutoencoder) -> None:
        super().__init__()
        self.denoiser, self.autoencoder = denoiser, autoencoder

    def forward(
        self,
        render: Tensor,  # [1, 3, S, S] in [-1, 1]
        normals: Tensor,  # [1, 3, S, S] in [0, 1]
    ) -> tuple[Tensor, ...]:
        """condition [1, C0, h, w]; of a centred model also base [1, C, h, w], render's latents."""
        latents = self.autoencoder.encode(render)
        condition = self.denoiser.condition(latents[None], normals[None])[0]
        if self.denoiser.config.residual_std is None:
            return (condition,)
        return condition, latents


def rounded_to_half(stage: Stage2) -> Stage2:
    """The same with every weight that will be stored in fp16 rounded to it."""
    values = vars(stage) | {
        "denoiser": _rounded(stage.denoiser),
        "autoencoder": _rounded(stage.autoencoder),
    }
    return Stage2(**values)


def _rounded(module: nn.Module) -> nn.Module:
    module = copy.deepcopy(module)
    round_to_half(module.state_dict().items())
    return module


@torch.inference_mode()
def diffusion_cases(stage: Stage2, *, side_px: int) -> dict[str, Case]:
    """Every graph of stage 2 for pictures of `side_px`, with random inputs to check it by."""
    config = stage.denoiser.config
    step = DOWNSAMPLING * config.unet.downsampling
    if side_px % step:
        raise ValueError(
            f"stage 1 renders {side_px} px, the UNet needs a multiple of {step}; "
            "train both on pictures of one size"
        )
    generator = torch.Generator().manual_seed(0)

    def picture() -> Tensor:
        return torch.rand(1, 3, side_px, side_px, generator=generator)

    has_base = config.residual_std is not None
    conditioned = {"render": picture() * 2 - 1, "normals": picture()}
    conditioner = Case(
        ConditionerGraph(stage.denoiser, stage.autoencoder),
        conditioned,
        ("condition", "base") if has_base else ("condition",),
    )
    latents = torch.randn(1, *_latent_shape(stage.denoiser, side_px), generator=generator)
    decoded = {"latents": latents}
    if has_base:
        decoded |= {"base": conditioner.expected()["base"], "render": conditioned["render"]}
    cases = {
        "image_encoder": Case(
            ImageEncoderGraph(stage.denoiser), {"picture": picture() * 2 - 1}, ("embedding",)
        ),
        "vae_encoder": Case(
            VaeEncoderGraph(stage.autoencoder), {"picture": picture() * 2 - 1}, ("latents",)
        ),
        "conditioner": conditioner,
        "vae_decoder": Case(stage.picture_decoder, decoded, ("picture",)),
    }
    for suffix, frames in (
        ("", stage.live_frames),
        (f"_{stage.parity_frames}", stage.parity_frames),
    ):
        for name, guided in (("denoiser", True), ("denoiser_nocfg", False)):
            if guided and stage.few is not None:
                continue  # its one branch takes the guidance itself
            cases[name + suffix] = step_case(
                stage.denoiser, frames, guided=guided, side_px=side_px, generator=generator
            )
    return cases


def _latent_shape(denoiser: Denoiser, side_px: int) -> tuple[int, int, int]:
    side = side_px // DOWNSAMPLING
    return denoiser.config.unet.latent_channels, side, side


def step_case(
    denoiser: Denoiser, frames: int, *, guided: bool, side_px: int, generator: torch.Generator
) -> Case:
    """One denoising step of a window, at noise levels from clean to the release's highest."""
    unet, shape = denoiser.config.unet, _latent_shape(denoiser, side_px)
    sigma = torch.logspace(0, 1, frames, base=SIGMA_MAX / SIGMA_MIN) * SIGMA_MIN
    x = (
        torch.randn(frames, *shape, generator=generator)
        * (1 + sigma[:, None, None, None] ** 2).sqrt()
    )
    inputs = {
        "x": x,
        "sigma": sigma,
        "sigma_next": sigma * torch.rand(frames, generator=generator),
        "reference": torch.randn(1, *shape, generator=generator),
        "embedding": torch.randn(1, unet.embedding_channels, generator=generator),
        "condition": torch.randn(frames, unet.widths[0], *shape[1:], generator=generator),
        "switcher": torch.eye(2)[torch.arange(frames) % 2],
    }
    if guided or denoiser.told:
        inputs["guidance"] = 1 + torch.rand(frames, generator=generator)
    assert tuple(inputs)[: len(DenoiserStep.INPUTS)] == DenoiserStep.INPUTS
    return Case(DenoiserStep(denoiser, guided=guided), inputs, DenoiserStep.OUTPUTS)
