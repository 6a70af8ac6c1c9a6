"""What every way of showing a case gives back."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from reference.evaluate.cases import Case

__all__ = ["Show", "Shown"]

F32 = NDArray[np.float32]


@dataclass(frozen=True, eq=False)
class Shown:
    """A case's N frames as some renderer showed them.

    Attributes
    ----------
    pictures : [N, H, W, 3] in [0, 1], premultiplied over black.
    renders : likewise, the field's renders that stage 2 was given, if they are known.
    levels : frames by the rung of the runtime's ladder that made them; empty outside of it.
    first_frame_s, first_frame_poses : from the first pose to the first frame, and how many poses
        had come by then.
    seconds : from the first pose to the last frame; making the avatar is not in it.
    """

    pictures: F32
    first_frame_s: float
    first_frame_poses: int
    seconds: float
    renders: F32 | None = None
    levels: Mapping[str, int] = field(default_factory=dict)


Show = Callable[[Case], Shown]
