"""How strongly a frame is guided, and which task it is told it serves.

The release hard-codes guidance for clips of 20 frames. Here it is a function of the frame alone,
so that it means the same in a stream, which has no length.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import get_args

import numpy as np
from numpy.typing import NDArray

from gas_rt.core import F32, Camera, Task
from gas_rt.errors import InputError

__all__ = ["BEHIND_GUIDANCE", "POSE_GUIDANCE", "azimuth_between", "guidance_of", "switcher"]

POSE_GUIDANCE = 2.0  # the paper's constant; the release's code ramps it over the clip
BEHIND_GUIDANCE = 2.0  # where the release's triangle over its orbit peaks
SWITCHER: dict[Task, tuple[float, float]] = {"view": (0.0, 1.0), "pose": (1.0, 0.0)}
LEVEL_MIN = 1e-3  # below this horizontal share a viewing direction is vertical


def guidance_of(
    task: Task,
    camera: Camera,
    reference: Camera,
    *,
    pose: float = POSE_GUIDANCE,
    view_behind: float = BEHIND_GUIDANCE,
) -> float:
    """Guidance of one frame: `pose`, or for a view 1 + (`view_behind` − 1)·φ/π.

    φ is the azimuth from the reference camera: from 1 where the reference shows the person to
    `view_behind` behind; by default the release's triangle on its orbit.
    """
    _check(task)
    if task == "pose":
        return pose
    return 1.0 + (view_behind - 1.0) * azimuth_between(camera, reference) / math.pi


def azimuth_between(camera: Camera, reference: Camera) -> float:
    """The angle in [0, π] rad between two cameras' viewing directions, seen from above."""
    difference = _heading_rad(camera) - _heading_rad(reference)
    return abs(math.remainder(difference, 2 * math.pi))


def switcher(tasks: Sequence[Task]) -> F32:
    """The modality switcher's one-hots [F, 2]: view = [0, 1], pose = [1, 0]."""
    for task in tasks:
        _check(task)
    return np.array([SWITCHER[task] for task in tasks], np.float32).reshape(-1, 2)


def _heading_rad(camera: Camera) -> float:
    """Which way the camera looks, about the world's y axis."""
    rotation: NDArray[np.float64] = camera.rotation.astype(np.float64)
    forward, up = rotation[2], -rotation[1]
    if math.hypot(forward[0], forward[2]) < LEVEL_MIN:
        # Straight down, the top of the picture is where a tilted camera would look; straight up,
        # its bottom is.
        forward = up if forward[1] < 0 else -up
    return math.atan2(forward[0], forward[2])


def _check(task: Task) -> None:
    if task not in get_args(Task):
        raise InputError(f"task {task!r}: unknown; choose one of {', '.join(get_args(Task))}")
