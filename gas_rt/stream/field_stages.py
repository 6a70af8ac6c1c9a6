"""The stages whose picture is the field's render: pose the body, march the rays."""

from __future__ import annotations

import time
from collections.abc import Callable

from gas_rt.core import F32, Camera
from gas_rt.field.render import to_uint8
from gas_rt.field.rig import PosedRig, Rig
from gas_rt.kernels import PosedShell
from gas_rt.stream.stages import Job, Picture

__all__ = ["BodyStage", "FieldStage"]

Render = Callable[[PosedShell, Camera], tuple[F32, F32]]


class BodyStage:
    """Poses the body and builds the shell around it."""

    name = "body"

    def __init__(self, rig: Rig, *, threads: int) -> None:
        self._rig = rig
        self._threads = threads

    def process(self, job: Job) -> list[Job]:
        """The job with a `PosedRig`."""
        start = time.perf_counter_ns()
        posed = self._rig.pose(job.request.pose, threads=self._threads)
        return [job.after(self.name, posed, elapsed_ns=time.perf_counter_ns() - start)]

    def reset(self) -> None:
        """Nothing is held back."""

    def close(self) -> None:
        """Nothing is owned."""


class FieldStage:
    """Renders the field through the job's camera."""

    name = "field"

    def __init__(self, render: Render) -> None:
        self._render = render

    def process(self, job: Job) -> list[Job]:
        """The job with a `Picture`."""
        start = time.perf_counter_ns()
        posed = job.payload
        assert isinstance(posed, PosedRig)
        rgb, alpha = self._render(posed.shell, job.request.camera)
        picture = Picture(*to_uint8(rgb, alpha), "field")
        return [job.after(self.name, picture, elapsed_ns=time.perf_counter_ns() - start)]

    def reset(self) -> None:
        """Nothing is held back."""

    def close(self) -> None:
        """Nothing is owned."""
