"""From clean latents to finished pictures: decode, find the alpha, fit the request's size."""

from __future__ import annotations

import time
from collections.abc import Iterator

import numpy as np

from gas_rt.core import F32, U8
from gas_rt.engine import Graph
from gas_rt.field.render import as_bytes
from gas_rt.stream.conditioning import Conditioning
from gas_rt.stream.denoising import Denoised
from gas_rt.stream.stages import Job, Picture

__all__ = ["DecodeStage", "WindowDecodeStage", "field_picture", "joined_alpha"]

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
        start = time.monotonic_ns()
        denoised = job.payload
        assert isinstance(denoised, Denoised)
        decoded = None
        if denoised.latent is not None:
            inputs = _inputs(denoised.latent, denoised.conditioning)
            decoded = self._graph.run(inputs)["picture"][0]  # [3, S, S]
        picture = _picture(decoded, job)
        elapsed_ns = time.monotonic_ns() - start
        return [job.after(self.name, picture, elapsed_ns=elapsed_ns, began_ns=start)]

    def finish(self) -> list[Job]:
        """Nothing is held back."""
        return []

    def reset(self) -> None:
        """Nothing is held back."""

    def close(self) -> None:
        """Nothing is owned."""


class WindowDecodeStage:
    """Decodes frames with their neighbours, for a decoder with layers along time.

    The graph takes `frames` in a row; neighbouring calls share `overlap` of them, and a frame is
    taken from the call in which it is farther from an edge, as `decode_spans` says. So frames
    come out late, some of them together. One that has no latent ends a row, as a reset does.
    """

    name = "decode"

    def __init__(self, graph: Graph, *, frames: int, overlap: int) -> None:
        self._graph = graph
        self._frames, self._overlap = frames, overlap
        self.reset()

    def process(self, job: Job) -> Iterator[Job | None]:
        """The jobs that are pictures now."""
        denoised = job.payload
        assert isinstance(denoised, Denoised)
        if denoised.latent is None:
            yield from self.finish()
            yield job.after(self.name, _picture(None, job), elapsed_ns=0)
            return
        self._row.append(job)
        self._count += 1
        if self._count == self._next:
            # The later half of what two calls share is the next one's.
            end = self._count - (self._overlap - self._overlap // 2)
            self._next += self._frames - self._overlap
            yield None
            yield from self._decoded(end)

    def finish(self) -> Iterator[Job | None]:
        """What is still held, as the end of its row."""
        if self._made < self._count:
            yield None
            yield from self._decoded(self._count)
        self.reset()

    def reset(self) -> None:
        """Begin a new row."""
        self._row: list[Job] = []  # the last of it, `frames` at most
        self._count = self._made = 0  # frames of the row that came, and that were given out
        self._next = self._frames  # how many must have come for the next call
        self._called: tuple[int, F32] | None = None  # its last frame + 1, pictures [F, 3, S, S]

    def close(self) -> None:
        """Let go of the frames."""
        self.reset()

    def _decoded(self, end: int) -> Iterator[Job]:
        """The row's frames up to `end` that were not given out yet."""
        start = time.monotonic_ns()
        del self._row[: -self._frames]
        first = self._count - len(self._row)
        if self._called is None or self._called[0] != self._count:
            latents = [job.payload.latent for job in self._row]
            latents += [latents[-1]] * (self._frames - len(latents))
            found = self._graph.run({"latents": np.stack(latents)})["picture"]
            self._called = (self._count, found)
        decoded = self._called[1]
        done = self._row[self._made - first : end - first]
        pictures = [_picture(decoded[self._made - first + k], job) for k, job in enumerate(done)]
        self._made = end
        elapsed_ns = (time.monotonic_ns() - start) // max(len(done), 1)
        for place, (job, picture) in enumerate(zip(done, pictures, strict=True)):
            made = job.after(self.name, picture, elapsed_ns=elapsed_ns, began_ns=start)
            yield made.in_burst(place)
            start += elapsed_ns


def _picture(decoded: F32 | None, job: Job) -> Picture:
    """[3, S, S] at the request's size; the field's picture where there is none or no number."""
    field: Conditioning = job.payload.conditioning
    if decoded is not None and np.isfinite(decoded).all():
        rgb = as_bytes(np.ascontiguousarray((decoded.transpose(1, 2, 0) + 1) / 2))
        alpha = joined_alpha(rgb, field.alpha)
        np.minimum(rgb, alpha[..., None], out=rgb)
        return _placed(Picture(rgb, alpha, job.payload.level), job)
    return _placed(Picture(field.rgb, field.alpha, "field"), job)


def field_picture(job: Job) -> Picture | None:
    """The field of a job that has been conditioned, at its request's size; None before that."""
    payload = job.payload
    field = payload.conditioning if isinstance(payload, Denoised) else payload
    if not isinstance(field, Conditioning):
        return None
    return _placed(Picture(field.rgb, field.alpha, "field"), job)


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


def _placed(picture: Picture, job: Job) -> Picture:
    """The picture at its request's size, in memory that is the frame's own.

    A held pose's next frames read the field's picture too.
    """
    from PIL import Image

    (rgb, alpha), (rgb_out, alpha_out) = (picture.rgb, picture.alpha), job.pixels()
    if alpha.shape == alpha_out.shape:
        np.copyto(rgb_out, rgb)
        np.copyto(alpha_out, alpha)
    else:  # premultiplied, so each channel on its own
        size, how = (alpha_out.shape[1], alpha_out.shape[0]), Image.Resampling.BICUBIC
        np.copyto(alpha_out, np.asarray(Image.fromarray(alpha).resize(size, how)))
        resized = np.asarray(Image.fromarray(rgb).resize(size, how))
        # Bicubic overshoots: colour must not exceed its coverage.
        np.minimum(resized, alpha_out[..., None], out=rgb_out)
    return Picture(rgb_out, alpha_out, picture.level)
