"""Stage 1 as two graphs, and its part of a bundle's configuration."""

from __future__ import annotations

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from export.onnx_files import Case
from gas_rt.body.photo import VISIBLE_TOLERANCE_M
from reference.nerf import HumanNerf

__all__ = ["FIELD_POINTS", "nerf_cases", "nerf_config"]

FIELD_POINTS = 65_536
BOX_MARGIN_M = 0.01  # of the march's box around the posed shell
CANONICAL_MARGIN_M = 0.02  # of the field's box around the canonical shell
ENCODER_OUTPUTS = ("planes", "image_features", "vertex_features")
FIELD_OUTPUTS = ("sigma", "rgb")

Inputs = dict[str, Tensor]


class EncoderGraph(nn.Module):
    """One photo's features, without a batch axis where the field wants none.

    A photo that is `shrink` times as wide as what the model was trained on is averaged down.
    """

    def __init__(self, nerf: HumanNerf, *, shrink: int = 1) -> None:
        super().__init__()
        self.nerf, self.shrink = nerf, shrink

    def forward(
        self, image: Tensor, vertex_uv: Tensor, vertex_visible: Tensor
    ) -> tuple[Tensor, Tensor, Tensor]:
        """See `HumanNerf.encode`."""
        if self.shrink > 1:
            image = F.avg_pool2d(image, self.shrink)
        person = self.nerf.encode(image, vertex_uv[None], vertex_visible[None])
        return person.planes[0], person.image, person.vertex[0]


class FieldGraph(nn.Module):
    """The field at a static number of points."""

    def __init__(self, nerf: HumanNerf) -> None:
        super().__init__()
        self.nerf = nerf

    def forward(self, *arguments: Tensor) -> tuple[Tensor, Tensor]:
        """See `Field.forward`."""
        out: tuple[Tensor, Tensor] = self.nerf.field(*arguments)
        return out


@torch.inference_mode()
def nerf_cases(
    nerf: HumanNerf, *, points: int = FIELD_POINTS, side_px: int | None = None
) -> dict[str, Case]:
    """The graphs, with random inputs; the field's `points` are those of one call.

    `side_px` is the photo's, a multiple of what the model was trained on, which is the default.
    """
    trained = nerf.config.resolution
    side = side_px or trained
    if side % trained:
        raise ValueError(
            f"side: stage 1 reads photos of {trained} px, and of multiples; got {side} px"
        )
    generator = torch.Generator().manual_seed(0)
    graph = EncoderGraph(nerf, shrink=side // trained)
    encoder = Case(graph, _encoder_inputs(nerf, side, generator), ENCODER_OUTPUTS)
    queries = _field_inputs(nerf, encoder.expected(), points, generator)
    return {"nerf_encoder": encoder, "nerf_field": Case(FieldGraph(nerf), queries, FIELD_OUTPUTS)}


def _encoder_inputs(nerf: HumanNerf, side: int, generator: torch.Generator) -> Inputs:
    count = len(nerf.place)
    return {
        "image": torch.rand(1, 4, side, side, generator=generator),
        "vertex_uv": torch.rand(count, 2, generator=generator) * 2 - 1,
        "vertex_visible": (torch.rand(count, 1, generator=generator) > 0.5).float(),
    }


def _field_inputs(
    nerf: HumanNerf, features: Inputs, points: int, generator: torch.Generator
) -> Inputs:
    """Random points, one in four of the widest shell, with the features of a photo."""
    wide = torch.rand(points, 1, generator=generator) < 0.25
    reach = torch.where(wide, nerf.config.shell_radius_max_m, nerf.config.shell_radius_m)
    vertex_id = torch.randint(len(nerf.place), (points,), generator=generator, dtype=torch.int32)
    anchor = nerf.field.table[vertex_id.long(), :3]
    direction = torch.randn(points, 3, generator=generator)
    return {
        "x_can": anchor + reach * (torch.rand(points, 3, generator=generator) - 0.5),
        "d_can": direction / direction.norm(dim=1, keepdim=True),
        "uv": torch.rand(points, 2, generator=generator) * 2.2 - 1.1,
        "vertex_id": vertex_id,
        **features,
    }


def nerf_config(
    nerf: HumanNerf,
    graphs: dict[str, Any],
    *,
    camera_ranges: dict[str, list[float]],
    side_px: int | None = None,
) -> dict[str, Any]:
    """What the runtime must know of stage 1; `graphs` as bundle.json describes them."""
    side = side_px or nerf.config.resolution
    config = nerf.config
    vertices = nerf.field.table[:, :3].numpy()
    reach = config.shell_radius_m + CANONICAL_MARGIN_M
    encoder = graphs["nerf_encoder"]["outputs"]
    return {
        "resolution": side,
        "shell_radius_m": config.shell_radius_m,
        "shell_radius_max_m": config.shell_radius_max_m,
        "canonical_box_m": {
            "lo": [round(float(v), 4) for v in vertices.min(0) - reach],
            "hi": [round(float(v), 4) for v in vertices.max(0) + reach],
        },
        "march": {"samples": config.samples, "box_margin_m": BOX_MARGIN_M},
        "vertex_count": len(vertices),
        **{f"{name}_shape": encoder[name]["shape"] for name in ENCODER_OUTPUTS},
        "field_points": graphs["nerf_field"]["inputs"]["vertex_id"]["shape"][0],
        "photo": {
            "side_px": side,
            "background": "black",
            "visible_depth_tolerance_m": VISIBLE_TOLERANCE_M,
        },
        "camera_ranges": camera_ranges,
    }
