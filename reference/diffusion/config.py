"""Sizes of the stage-2 models, one named preset each."""

from __future__ import annotations

from dataclasses import dataclass, field

__all__ = [
    "PRESETS",
    "ConditionConfig",
    "DiffusionConfig",
    "ImageEncoderConfig",
    "UNetConfig",
    "context_gain",
]


@dataclass(frozen=True)
class UNetConfig:
    """Shape of the UNet; the defaults are SVD-XT 1.1's.

    Attributes
    ----------
    widths : channels per resolution, finest first; multiples of 32, which the library's blocks
        are built with, and of `groups`.
    attention : whether a resolution has transformers beside its residual blocks.
    heads : attention heads per resolution; a head's width is ``width / heads``.
    layers : residual blocks per resolution on the way down; one more on the way up.
    embedding_channels : length of the picture's embedding, the one token of cross-attention.
    groups : groups of every GroupNorm. 32 of them on 64 channels would be almost an instance norm.
    feed_forward : the transformers' hidden width over their width.
    id_channels : sinusoids per added time id and per entry of the switcher.
    """

    latent_channels: int = 4
    widths: tuple[int, ...] = (320, 640, 1280, 1280)
    attention: tuple[bool, ...] = (True, True, True, False)
    heads: tuple[int, ...] = (5, 10, 20, 20)
    layers: int = 2
    embedding_channels: int = 1024
    groups: int = 32
    feed_forward: int = 4
    id_channels: int = 256

    def __post_init__(self) -> None:
        levels = {len(self.widths), len(self.attention), len(self.heads)}
        if len(levels) != 1:
            raise ValueError(
                "UNetConfig: widths, attention and heads must name the same resolutions, found "
                f"{len(self.widths)}, {len(self.attention)} and {len(self.heads)} of them"
            )
        for width, heads in zip(self.widths, self.heads, strict=True):
            if width % 32 or width % self.groups or width % heads:
                raise ValueError(
                    f"UNetConfig: width {width} must divide by 32, by groups = {self.groups} and "
                    f"by heads = {heads}"
                )

    @property
    def downsampling(self) -> int:
        """Height and width of the latents must divide by this."""
        return 2 ** (len(self.widths) - 1)


@dataclass(frozen=True)
class ConditionConfig:
    """Hidden channels of the two condition networks; the defaults are the release's.

    `pose_widths` are the channels at full, 1/2, 1/4 and 1/8 resolution and before the projection.
    """

    nerf_widths: tuple[int, ...] = (4, 16, 32, 64, 128)
    pose_widths: tuple[int, int, int, int, int] = (3, 16, 32, 64, 128)


@dataclass(frozen=True)
class ImageEncoderConfig:
    """What turns the picture into one token.

    Attributes
    ----------
    kind : "conv" is a small network trained with the UNet. "clip" is the full-size model's:
        transformers' CLIPVisionModelWithProjection, loaded from the folder
        `image_encoder` of an SVD checkout by `image_encoder.ClipImageEncoder`; it is frozen and
        no part of the state dict.
    widths : channels of "conv" at 1/2, 1/4, 1/8 and 1/16 of the picture, multiples of 8.
    """

    kind: str = "conv"
    widths: tuple[int, ...] = (16, 32, 64, 96)

    def __post_init__(self) -> None:
        if self.kind not in ("conv", "clip"):
            raise ValueError(f"ImageEncoderConfig: kind is 'conv' or 'clip', found {self.kind!r}")


@dataclass(frozen=True)
class DiffusionConfig:
    """A whole stage 2.

    Attributes
    ----------
    latent_scale : noisy latents are the autoencoder's times this; reference and NeRF latents are
        not scaled. SVD's VAE has 0.18215, ours has unit variance already.
    residual_std : None generates latents, as released. A number generates what they have beyond
        those of the field's render, in units of this standard deviation: an untrained model then
        shows the field, and none of its capacity goes into copying it.
    added_ids : SVD's (fps − 1, motion bucket, noise augmentation), constant for us.
    nerf, switcher : False for the ablations, which are told nothing of the field's render, or not
        whether views or motions are asked for; what is given of it is ignored.
    """

    unet: UNetConfig = field(default_factory=UNetConfig)
    conditions: ConditionConfig = field(default_factory=ConditionConfig)
    image_encoder: ImageEncoderConfig = field(default_factory=ImageEncoderConfig)
    latent_scale: float = 1.0
    residual_std: float | None = None
    added_ids: tuple[float, float, float] = (6.0, 127.0, 0.0)
    nerf: bool = True
    switcher: bool = True

    def __post_init__(self) -> None:
        if not self.nerf and self.residual_std is not None:
            raise ValueError(
                "DiffusionConfig: without the field's render there is nothing that latents could "
                f"be centred on; set residual_std to None, found {self.residual_std}"
            )


def context_gain(config: DiffusionConfig) -> float:
    """What a stream's finished latents are multiplied by where they become context.

    Centred latents may shrink towards the field's render. Over 400 frames of a walk that repeats a
    gain of 1 lost 5.7 dB, as errors fed themselves; a half lost nothing over 200.
    """
    return 1.0 if config.residual_std is None else 0.5


PRESETS: dict[str, DiffusionConfig] = {
    "full": DiffusionConfig(
        image_encoder=ImageEncoderConfig(kind="clip"),
        latent_scale=0.18215,
    ),
    # Attention at the finest resolution would double the time of a step on two cores.
    "mini": DiffusionConfig(
        unet=UNetConfig(
            latent_channels=16,
            widths=(64, 96, 128),
            attention=(False, True, True),
            heads=(2, 3, 4),
            layers=1,
            embedding_channels=128,
            groups=8,
            feed_forward=2,
            id_channels=64,
        ),
        # The release's five layers of 4 channels and more would squeeze our 16, and trained from
        # nothing five layers lose what one keeps: see docs/training.md.
        conditions=ConditionConfig(nerf_widths=(96,)),
        residual_std=0.5,  # on the person 0.57, measured on clips; elsewhere next to nothing
    ),
    # Small enough for unit tests; nothing it learns is worth looking at.
    "tiny": DiffusionConfig(
        unet=UNetConfig(
            latent_channels=4,
            widths=(32, 32),
            attention=(False, True),
            heads=(1, 1),
            layers=1,
            embedding_channels=16,
            groups=8,
            feed_forward=2,
            id_channels=16,
        ),
        conditions=ConditionConfig(nerf_widths=(4, 8), pose_widths=(3, 4, 8, 8, 16)),
        residual_std=0.5,
        image_encoder=ImageEncoderConfig(widths=(8, 16)),
    ),
}
# The same layers on four times the latents: attention spans as many cells of its own level more.
PRESETS["mini-256"] = PRESETS["mini"]
