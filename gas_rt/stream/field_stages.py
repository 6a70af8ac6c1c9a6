"""The stages whose picture is the field's render: pose the body, march the rays."""

from __future__ import annotations

import time

import numpy as np

from gas_rt.body.rotations import angles_between
from gas_rt.core import Pose
from gas_rt.field.render import to_uint8
from gas_rt.field.rig import PosedRig, Rig
from gas_rt.stream.conditioning import Render
from gas_rt.stream.stages import Job, Picture

__all__ = ["BodyStage", "FieldStage"]


# A joint that turns by 1 rad moves what hangs on it by up to half a metre or so; a body that is
# shifted by as much as the threshold's angle would move a limb counts as moved.
METRES_PER_RAD = 0.5


class BodyStage:
    """Poses the body and builds the shell around it; a pose that stays is not posed again.

    With `skip_below_rad` a pose in which no joint turned by more than that since the last one that
    was posed, nor the body moved by half as many metres, counts as staying: all that is made of
    pose and camera before the denoiser is used again. Differences do not add up, since it is the
    pose last posed that the next ones are compared with.
    """

    name = "body"

    def __init__(self, rig: Rig, *, threads: int, skip_below_rad: float = 0.0) -> None:
        self._rig = rig
        self._threads = threads
        self._skip_below_rad = skip_below_rad
        self._last: tuple[Pose, PosedRig] | None = None

    def process(self, job: Job) -> list[Job]:
        """The job with a `PosedRig`."""
        start = time.monotonic_ns()
        posed = self._posed(job.request.pose)
        elapsed_ns = time.monotonic_ns() - start
        return [job.after(self.name, posed, elapsed_ns=elapsed_ns, began_ns=start)]

    def _posed(self, pose: Pose) -> PosedRig:
        if self._last is None or not _same(self._last[0], pose, below_rad=self._skip_below_rad):
            self._last = pose, self._rig.pose(pose, threads=self._threads)
        return self._last[1]

    def finish(self) -> list[Job]:
        """Nothing is held back."""
        return []

    def reset(self) -> None:
        """Nothing is held back."""

    def close(self) -> None:
        """Let go of the last pose."""
        self._last = None


def _same(one: Pose, two: Pose, *, below_rad: float) -> bool:
    if one is two or (
        np.array_equal(one.rotations, two.rotations)
        and np.array_equal(one.translation, two.translation)
    ):
        return True
    if not below_rad:
        return False
    moved_m = float(np.abs(one.translation - two.translation).max())
    if moved_m > METRES_PER_RAD * below_rad:
        return False
    return float(angles_between(one.rotations, two.rotations).max()) <= below_rad


class FieldStage:
    """Renders the field through the job's camera."""

    name = "field"

    def __init__(self, render: Render) -> None:
        self._render = render

    def process(self, job: Job) -> list[Job]:
        """The job with a `Picture`."""
        start = time.monotonic_ns()
        posed = job.payload
        assert isinstance(posed, PosedRig)
        rgb, alpha = self._render(posed.shell, job.request.camera)
        picture = Picture(*to_uint8(rgb, alpha, out=job.pixels()), "field")
        elapsed_ns = time.monotonic_ns() - start
        return [job.after(self.name, picture, elapsed_ns=elapsed_ns, began_ns=start)]

    def finish(self) -> list[Job]:
        """Nothing is held back."""
        return []

    def reset(self) -> None:
        """Nothing is held back."""

    def close(self) -> None:
        """Nothing is owned."""
