"""From clean latents to finished pictures: decode, find the alpha, fit the request's size."""

from __future__ import annotations

import time

import numpy as np

from gas_rt.core import F32, U8
from gas_rt.engine import Graph
from gas_rt.field.render import as_bytes
from gas_rt.stream.conditioning import Conditioning
from gas_rt.stream.denoising import Denoised
from gas_rt.stream.stages import Job, Picture

__all__ = ["DecodeStage", "joined_alpha"]

# A generated background is black up to the decoder's noise. Below the first value a pixel shows
# nothing, from the second on it is covered; of 255.
BLACK_MAX, COVERED_MIN = 12, 36


class DecodeStage:
    """Decodes a frame, or takes the field's picture where there is nothing to decode."""

    name = "decode"

    def __init__(self, graph: Graph) -> None:
        self._graph = graph

    def process(self, job: Job) -> list[Job]:
        """The job with a `Picture` of its request's size."""
        start = time.perf_counter_ns()
        denoised = job.payload
        assert isinstance(denoised, Denoised)
        picture = _resized(
            self._picture(denoised), job.request.camera.width, job.request.camera.height
        )
        return [job.after(self.name, picture, elapsed_ns=time.perf_counter_ns() - start)]

    def _picture(self, denoised: Denoised) -> Picture:
        field = denoised.conditioning
        if denoised.latent is not None:
            out = self._graph.run(_inputs(denoised.latent, field))["picture"]  # [1, 3, S, S]
            if np.isfinite(out).all():
                rgb = as_bytes(np.ascontiguousarray((out[0].transpose(1, 2, 0) + 1) / 2))
                alpha = joined_alpha(rgb, field.alpha)
                return Picture(np.minimum(rgb, alpha[..., None]), alpha, "full")
        # Copies: a held pose's next frames read these too, and a frame is its taker's to draw on.
        return Picture(field.rgb.copy(), field.alpha.copy(), "field")

    def finish(self) -> list[Job]:
        """Nothing is held back."""
        return []

    def reset(self) -> None:
        """Nothing is held back."""

    def close(self) -> None:
        """Nothing is owned."""


def _inputs(latent: F32, field: Conditioning) -> dict[str, F32]:
    inputs = {"latents": latent[None]}
    if field.base is None:
        return inputs
    return {**inputs, "base": field.base[None], "render": field.render}


def joined_alpha(rgb: U8, field_alpha: U8) -> U8:
    """[S, S] coverage of a generated picture [S, S, 3]: the field's, and what is seen beyond it.

    The background of what the model was trained on is black, so what the picture shows outside
    of the field (a skirt that swings, hair) is there where its brightest channel rises above the
    decoder's noise: a ramp from `BLACK_MAX` to `COVERED_MIN`, and the field's alpha where that
    is higher. What is black and outside of the field counts as background. A picture stays
    premultiplied over black: the caller caps its channels at this alpha.
    """
    brightest = rgb.max(2).astype(np.float32)
    ramp = (brightest - BLACK_MAX) * np.float32(255 / (COVERED_MIN - BLACK_MAX))
    seen = np.clip(ramp + np.float32(0.5), 0, 255).astype(np.uint8)
    joined: U8 = np.maximum(seen, field_alpha)
    return joined


def _resized(picture: Picture, width: int, height: int) -> Picture:
    """The picture at a request's size; premultiplied, so each channel on its own."""
    from PIL import Image

    if picture.alpha.shape == (height, width):
        return picture
    size, how = (width, height), Image.Resampling.BICUBIC
    rgb = np.asarray(Image.fromarray(picture.rgb).resize(size, how))
    alpha = np.asarray(Image.fromarray(picture.alpha).resize(size, how))
    # Bicubic overshoots: colour must not exceed its coverage.
    return Picture(np.minimum(rgb, alpha[..., None]), alpha.copy(), picture.level)
