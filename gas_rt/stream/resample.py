"""A tracker's poses at the rate of the stream: between two samples by slerp. Pure."""

from __future__ import annotations

from bisect import bisect_right
from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from gas_rt.body.rotations import axis_angle_from_matrix, matrix_from_quaternion, slerp
from gas_rt.body.rotations import quaternion_from_axis_angle as quaternions
from gas_rt.core import Camera, Pose, Request

__all__ = ["Resampler", "between", "blended"]

SAMPLES_KEPT = 64  # a quarter of a second of the fastest trackers
DELAY_MAX_NS = 150_000_000  # a tracker slower than this is held between its samples
PAUSE_NS = 2 * DELAY_MAX_NS  # samples further apart have nothing between them that one could know
INTERVAL_MEMORY = 0.2  # share of a new measurement in the mean distance of samples


class Resampler:
    """Keeps the latest samples and says what was to be seen at a time between them.

    What is shown lies one distance of samples behind now, so that there is a sample on either
    side: that much age is the price of smoothness. Samples may come out of order; one that is
    older than what was shown already changes nothing.
    """

    def __init__(self) -> None:
        self.reset()

    def reset(self) -> None:
        """Forget every sample."""
        self._samples: list[Request] = []  # by capture time
        self._times: list[int] = []
        self._interval_ns: float | None = None

    @property
    def newest(self) -> Request | None:
        """The sample that was captured last."""
        return self._samples[-1] if self._samples else None

    @property
    def newest_ns(self) -> int | None:
        """When it was captured."""
        return self._times[-1] if self._times else None

    @property
    def delay_ns(self) -> int:
        """How far behind now to look: the mean distance of samples, and no more than a limit."""
        return 0 if self._interval_ns is None else round(min(self._interval_ns, DELAY_MAX_NS))

    def add(self, sample: Request, *, captured_ns: int) -> None:
        """Take a sample in; one of a time that is known replaces it."""
        place = bisect_right(self._times, captured_ns)
        if place and self._times[place - 1] == captured_ns:
            self._samples[place - 1] = sample
            return
        if place and place == len(self._times):
            self._measure(captured_ns - self._times[-1])
        self._samples.insert(place, sample)
        self._times.insert(place, captured_ns)
        del self._samples[:-SAMPLES_KEPT], self._times[:-SAMPLES_KEPT]

    def at(self, time_ns: int) -> Request:
        """What was to be seen at `time_ns`; before the first sample that, after the last it.

        After a pause the sample that ends it is shown at once.
        """
        after = bisect_right(self._times, time_ns)
        if after == 0:
            return self._dated(self._samples[0], self._times[0])
        before = self._samples[after - 1]
        if after == len(self._samples):
            return self._dated(before, self._times[-1])
        low, high = self._times[after - 1 : after + 1]
        if high - low > PAUSE_NS:
            return self._dated(self._samples[after], high)
        pose, camera = between(before, self._samples[after], (time_ns - low) / (high - low))
        # Task and steps are not between anything: they change with the sample that says so.
        return self._dated(replace(before, pose=pose, camera=camera), time_ns)

    def _measure(self, distance_ns: int) -> None:
        if distance_ns > PAUSE_NS:
            return  # a pause says nothing of the rate
        known = self._interval_ns
        if known is None:
            self._interval_ns = float(distance_ns)
        else:
            self._interval_ns = known + INTERVAL_MEMORY * (distance_ns - known)

    @staticmethod
    def _dated(sample: Request, captured_ns: int) -> Request:
        return replace(sample, captured_ns=captured_ns)


def between(one: Request, two: Request, part: float) -> tuple[Pose, Camera]:
    """Pose and camera at `part` of the way from `one` to `two`, in 0..1.

    Joints and the camera's orientation turn on the shortest way; the body's translation, the
    camera's place and its intrinsics move straight. A camera of another size is cut to, halfway.
    """
    return blended(one.pose, two.pose, part), _camera(one.camera, two.camera, part)


def blended(one: Pose, two: Pose, part: float) -> Pose:
    """The pose at `part` of the way from `one` to `two`."""
    if one is two or part <= 0:
        return one
    if part >= 1:
        return two
    rotations = slerp(one.rotations, two.rotations, np.full(len(one.rotations), part))
    translation = (1 - part) * one.translation + part * two.translation
    return Pose(rotations.astype(np.float32), translation.astype(np.float32))


def _camera(one: Camera, two: Camera, part: float) -> Camera:
    if one is two or part <= 0:
        return one
    if part >= 1:
        return two
    if (one.width, one.height) != (two.width, two.height):
        return one if part < 0.5 else two
    turned = slerp(
        axis_angle_from_matrix(one.rotation), axis_angle_from_matrix(two.rotation), np.array(part)
    )
    rotation = matrix_from_quaternion(quaternions(turned))
    place = (1 - part) * _place(one) + part * _place(two)
    intrinsics = (1 - part) * one.intrinsics + part * two.intrinsics
    return Camera(
        intrinsics.astype(np.float32),
        rotation.astype(np.float32),
        (-rotation @ place).astype(np.float32),
        one.width,
        one.height,
    )


def _place(camera: Camera) -> NDArray[np.float64]:
    """[3] where the camera stands in the world."""
    return np.asarray(-camera.rotation.T.astype(np.float64) @ camera.translation, np.float64)
