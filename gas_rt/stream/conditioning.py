"""What a frame shows, as the denoiser reads it: the field's render and the normal map, encoded."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from gas_rt.core import F32, U8, Camera
from gas_rt.engine import Graph
from gas_rt.field.render import to_uint8
from gas_rt.field.rig import PosedRig
from gas_rt.kernels import PosedShell, render_normals
from gas_rt.stream.stages import Job

__all__ = ["ConditionStage", "Conditioner", "Conditioning", "Render"]

# rgb [S, S, 3] premultiplied over black and alpha [S, S], both in [0, 1]
Render = Callable[[PosedShell, Camera], tuple[F32, F32]]


@dataclass(frozen=True, eq=False)
class Conditioning:
    """One frame's condition, and the field's picture it was made from.

    Attributes
    ----------
    condition : [C0, h, w].
    base : [C, h, w] latents of the render, on which what is generated comes; None where latents
        are generated whole.
    rgb, alpha : [S, S, 3] and [S, S], the field's render. In bytes, as training saw it and
        because a policy may hold a whole clip's.
    """

    condition: F32
    base: F32 | None
    rgb: U8
    alpha: U8

    @property
    def render(self) -> F32:
        """[1, 3, S, S] in [-1, 1]: the render as graphs read it."""
        return _render(self.rgb)


class Conditioner:
    """Makes the conditioning of a pose and a camera at the model's resolution."""

    def __init__(self, graph: Graph, render: Render, *, side_px: int, threads: int) -> None:
        self._graph = graph
        self._render = render
        self._side_px = side_px
        self._threads = threads

    def __call__(
        self, posed: PosedRig, camera: Camera
    ) -> tuple[Conditioning, tuple[int, int, int]]:
        """The conditioning, and the ns that field, normal map and graph took."""
        camera = camera.resized(width=self._side_px, height=self._side_px)
        start = time.monotonic_ns()
        rgb, alpha = to_uint8(*self._render(posed.shell, camera))
        rendered = time.monotonic_ns()
        body = posed.body
        normals, _ = render_normals(body.vertices, body.faces, camera, threads=self._threads)
        shaded = time.monotonic_ns()
        out = self._graph.run({"render": _render(rgb), "normals": _planes(normals)})
        base = out["base"][0] if "base" in out else None
        made = Conditioning(out["condition"][0], base, rgb, alpha)
        done = time.monotonic_ns()
        return made, (rendered - start, shaded - rendered, done - shaded)


def _render(rgb: U8) -> F32:
    return _planes(rgb.astype(np.float32) * np.float32(2 / 255) - 1)


def _planes(picture: F32) -> F32:
    """[S, S, 3] → [1, 3, S, S]."""
    return np.ascontiguousarray(picture.transpose(2, 0, 1)[None], np.float32)


class ConditionStage:
    """Conditions a posed job; while pose and camera stay, it is done once."""

    name = "condition"

    def __init__(self, conditioner: Conditioner) -> None:
        self._conditioner = conditioner
        self._last: tuple[PosedRig, Camera, Conditioning] | None = None

    def process(self, job: Job) -> list[Job]:
        """The job with a `Conditioning`."""
        posed, camera = job.payload, job.request.camera
        assert isinstance(posed, PosedRig)
        spent, began_ns = (0, 0, 0), time.monotonic_ns()
        if self._last is None or self._last[0] is not posed or not _same(self._last[1], camera):
            made, spent = self._conditioner(posed, camera)
            self._last = posed, camera, made
        for step, elapsed_ns in zip(("field", "normals", self.name), spent, strict=True):
            job = job.after(step, self._last[2], elapsed_ns=elapsed_ns, began_ns=began_ns)
            began_ns += elapsed_ns
        return [job]

    def finish(self) -> list[Job]:
        """Nothing is held back."""
        return []

    def reset(self) -> None:
        """Nothing is held back."""

    def close(self) -> None:
        """Let go of the last frame."""
        self._last = None


def _same(one: Camera, two: Camera) -> bool:
    return one is two or (
        (one.width, one.height) == (two.width, two.height)
        and np.array_equal(one.intrinsics, two.intrinsics)
        and np.array_equal(one.rotation, two.rotation)
        and np.array_equal(one.translation, two.translation)
    )
