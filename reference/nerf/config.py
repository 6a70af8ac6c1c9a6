"""Sizes of the stage-1 model and of its training, one named preset each."""

from __future__ import annotations

from dataclasses import asdict, dataclass, fields, replace
from typing import Any

from reference.training import Schedule

__all__ = ["PRESETS", "FieldConfig", "TrainConfig", "from_dict", "to_dict"]


@dataclass(frozen=True)
class FieldConfig:
    """Shapes of the human NeRF.

    Attributes
    ----------
    resolution : side of the photo in pixels; a multiple of 16.
    encoder_widths : channels of the picture encoder at 1/2, 1/4, 1/8 and 1/16 of the photo.
    image_channels : learned channels per photo pixel; rgb and mask travel beside them.
    identity_channels : length of the global vector.
    vertex_channels : channels per body vertex.
    vertex_embedding : learned constants per vertex, which name the place on the body.
    plane_side, plane_channels : front and back canonical feature maps; the side divides by 8.
    plane_widths : channels of the plane U-Net at 1/2, 1/4 and 1/8 of `plane_side`.
    hidden, deeper : width of the point decoder, and layers it has beyond its first two.
    shell_radius_m, shell_radius_max_m : samples farther than the first from every posed vertex do
        not exist, but around hips, waist and legs, where the radius is a person's own, as wide as
        the photo tells within these two.
    samples : lattice points per ray.
    """

    resolution: int = 128
    encoder_widths: tuple[int, int, int, int] = (64, 96, 144, 192)
    image_channels: int = 20
    identity_channels: int = 128
    vertex_channels: int = 32
    vertex_embedding: int = 8
    plane_side: int = 64
    plane_channels: int = 24
    plane_widths: tuple[int, int, int] = (128, 192, 256)
    hidden: int = 96
    deeper: int = 2
    shell_radius_m: float = 0.08
    shell_radius_max_m: float = 0.25
    samples: int = 48


@dataclass(frozen=True)
class TrainConfig(Schedule):
    """How stage 1 is trained; one step sees `persons` people, one target picture each.

    Attributes
    ----------
    person_share : share of rays drawn from the dilated ground-truth mask; the rest fall
        anywhere in the person's box.
    view_share : share of targets that show the photo's own pose from another camera.
    workers : threads a step's people are divided among; part of the result, since it orders sums.
    """

    steps: int = 7_000
    lr: float = 1.5e-3
    persons: int = 4
    workers: int = 2
    rays: int = 640
    person_share: float = 0.75
    view_share: float = 0.7
    alpha_weight: float = 0.2
    bf16: bool = True


PRESETS: dict[str, tuple[FieldConfig, TrainConfig]] = {
    "mini": (FieldConfig(), TrainConfig()),
    # Four times the pixels: maps that keep their distance from them, and rays to see them.
    "mini-256": (FieldConfig(resolution=256, plane_side=96), TrainConfig(rays=1280)),
    # Small enough for unit tests; nothing it learns is worth looking at.
    "tiny": (
        FieldConfig(
            resolution=32,
            encoder_widths=(8, 8, 16, 16),
            image_channels=4,
            identity_channels=8,
            vertex_channels=8,
            vertex_embedding=4,
            plane_side=16,
            plane_channels=8,
            plane_widths=(8, 16, 16),
            hidden=16,
            deeper=1,
            samples=16,
        ),
        TrainConfig(steps=6, persons=2, rays=32, warmup=2, bf16=False),
    ),
}


def from_dict(cls: type[Any], values: dict[str, Any]) -> Any:
    """Rebuild a config from JSON; unknown and missing names are errors."""
    names = {f.name for f in fields(cls)}
    if set(values) != names:
        raise ValueError(
            f"{cls.__name__}: expected the keys {sorted(names)}, found {sorted(values)}; "
            "the checkpoint is of another version"
        )
    lists = {k: tuple(v) if isinstance(v, list) else v for k, v in values.items()}
    return replace(cls(), **lists)


def to_dict(config: FieldConfig | TrainConfig) -> dict[str, Any]:
    """The config as JSON-ready values."""
    return asdict(config)
