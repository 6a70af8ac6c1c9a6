"""What a session is opened with, checked."""

from __future__ import annotations

from dataclasses import dataclass
from typing import get_args

from gas_rt.core import OnLate, Task
from gas_rt.errors import InputError
from gas_rt.stream.ladder import LadderConfig
from gas_rt.stream.starvation import Starvation

__all__ = ["FPS_MAX", "SessionConfig"]

FPS_MAX = 1000.0


@dataclass(frozen=True)
class SessionConfig:
    """What a session promises.

    Attributes
    ----------
    policy, steps, seed : what makes the frames; the field takes no steps and no seed.
    task : what requests show that don't say it themselves.
    fps : the rate frames are wanted at: deadlines, and the cadence of ``paced``.
    on_late : ``freshest`` drops stale poses, ``lossless`` refuses new ones, ``paced`` keeps a
        steady cadence with the newest pose.
    pipelined : False runs all stages on one thread.
    split : which stages share a thread, as ``body+condition|denoise|decode``; None takes the
        stages as they are given. Has no effect unless `pipelined`.
    burst : frames that can leave the last stage together; as many may wait to be taken.
    ladder : how late frames are answered; None waits for each, however late.
    max_age_ms : poses older than this when they would be begun, and frames older when they would
        be handed out, are dropped instead and counted as ``old_pose`` and ``old_frame``. What
        stands in for a late frame is no older either.
    resample : frames are made at `fps` whatever the rate of the poses, which are interpolated;
        the counts are then of what was made of them, not of pushes.
    starvation : what the avatar does when poses stop; needs `resample`.
    """

    policy: str = "field"
    steps: int = 0
    seed: int = 0
    task: Task = "pose"
    fps: float = 25.0
    on_late: OnLate = "freshest"
    pipelined: bool = True
    split: str | None = None
    burst: int = 1
    ladder: LadderConfig | None = None
    max_age_ms: float | None = None
    resample: bool = False
    starvation: Starvation | None = None

    def __post_init__(self) -> None:
        if self.task not in get_args(Task):
            raise InputError(f"task: expected one of {list(get_args(Task))}, got {self.task!r}")
        if self.on_late not in get_args(OnLate):
            raise InputError(
                f"on_late: expected one of {list(get_args(OnLate))}, got {self.on_late!r}"
            )
        if not 0 < self.fps <= FPS_MAX:
            raise InputError(f"fps: expected a rate in (0, {FPS_MAX:g}], got {self.fps!r}")
        if self.max_age_ms is not None and not 0 < self.max_age_ms < float("inf"):
            raise InputError(
                f"max_age_ms: expected a time above 0 or None, got {self.max_age_ms!r}"
            )
        if self.resample and self.on_late == "lossless":
            raise InputError(
                "resample: a 'lossless' session makes a frame of every pose; leave it out, or use "
                "'freshest' or 'paced'"
            )
        if self.starvation is not None and not isinstance(self.starvation, Starvation):
            raise InputError(
                f"starvation: expected True, False or a gas_rt.Starvation, got {self.starvation!r}"
            )
        if self.starvation is not None and not self.resample:
            raise InputError("starvation: makes poses of its own; it needs resample=True")
        if self.ladder is not None and self.on_late == "lossless":
            raise InputError(
                "ladder: frames of a 'lossless' session do not depend on timing; leave the ladder "
                "out, or use 'freshest' or 'paced'"
            )
