"""The nouns that window policies share: frames, schedules, denoiser calls and final latents."""

from __future__ import annotations

import math
from collections.abc import Hashable, Sequence
from dataclasses import dataclass
from typing import Any, Literal, get_args

import numpy as np
from numpy.typing import NDArray

from gas_rt.core import F32, Task, Window, checked
from gas_rt.diffusion.guidance import switcher
from gas_rt.diffusion.noise import INDEX_MAX, SEED_MAX
from gas_rt.diffusion.sigmas import explicit_sigmas
from gas_rt.errors import InputError

__all__ = [
    "RELEASE_WINDOW",
    "Anchor",
    "Call",
    "FinalFrame",
    "FrameSpec",
    "Role",
    "Schedule",
    "Slot",
]

# anchor: the reference, pinned (in `parity`: frame 0, stepped like the others). context: pinned at
# its level, read and not stepped. flight: stepped. padding: there because a graph's frame count is
# fixed; it never becomes final.
Role = Literal["anchor", "context", "flight", "padding"]

# Tiles of 20 frames that share 6: frame 0 and 5 neighbours (gas.md, "Windows").
RELEASE_WINDOW = Window(anchor=1, context=5, chunk=14, steps=25)


@dataclass(frozen=True)
class FrameSpec:
    """A frame that exists: what a denoiser call must know of it.

    Attributes
    ----------
    index : its number in the stream from 0; rising, gaps allowed. The anchor has `ANCHOR_INDEX`,
        and it stands in for frames before the stream with −2, −3 and so on.
    handle : the caller's name for the frame's conditioning; only passed on.
    seed : with `index`, what its noise is made from.
    guidance : scale of classifier-free guidance, 1 for none.
    """

    index: int
    handle: Hashable
    task: Task
    seed: int
    guidance: float

    def __post_init__(self) -> None:
        if not _whole(self.index) or abs(self.index) > INDEX_MAX:
            raise InputError(
                f"FrameSpec.index: must be a whole number within ±(2^63−1), got {self.index!r}"
            )
        if self.task not in get_args(Task):
            raise InputError(
                f"FrameSpec.task: must be one of {', '.join(get_args(Task))}, got {self.task!r}"
            )
        if not _whole(self.seed) or not 0 <= self.seed <= SEED_MAX:
            raise InputError(
                f"FrameSpec.seed: must be a whole number in 0..2^64−1, got {self.seed!r}"
            )
        number = isinstance(self.guidance, float | int | np.floating)
        if not number or not math.isfinite(self.guidance) or self.guidance < 0:
            raise InputError(
                f"FrameSpec.guidance: must be finite and not negative, got {self.guidance!r}"
            )


@dataclass(frozen=True, eq=False)
class Anchor:
    """The reference picture as a frame of every live window.

    Attributes
    ----------
    frame : index `ANCHOR_INDEX`, the handle of the enrolment pose's conditioning. In a call it
        takes the task of the oldest frame in flight, so that a window has one task.
    latent : [C, h, w] float32, in scaled units, clean.
    """

    frame: FrameSpec
    latent: F32

    def __post_init__(self) -> None:
        latent = checked(self.latent, "Anchor.latent", shape=(None, None, None)).copy()
        latent.flags.writeable = False
        object.__setattr__(self, "latent", latent)


@dataclass(frozen=True)
class Schedule:
    """How frames are denoised: the window's layout and the levels.

    `window.chunk` is the number of frames admitted together (in `parity`, by which the next
    window starts later), `window.context` how many neighbours are read (in `parity`, shared).

    Attributes
    ----------
    sigmas : [window.steps + 1] strictly descending.
    """

    window: Window
    sigmas: tuple[float, ...]

    def __post_init__(self) -> None:
        w = self.window
        for name, low in (("anchor", 0), ("context", 0), ("chunk", 1), ("steps", 1)):
            value = getattr(w, name)
            if not _whole(value) or value < low:
                raise InputError(f"Window.{name}: must be at least {low}, got {value!r}")
        if w.anchor > 1:
            raise InputError(f"Window.anchor: must be 0 or 1, got {w.anchor}")
        sigmas = explicit_sigmas(self.sigmas)
        if len(sigmas) != w.steps + 1:
            raise InputError(
                f"Schedule.sigmas: {w.steps} steps need {w.steps + 1} levels, got {len(sigmas)}; "
                "give where each step starts and where the last one ends"
            )
        object.__setattr__(self, "sigmas", sigmas)


@dataclass(frozen=True, eq=False)
class Slot:
    """One frame of a call: its latent x [C, h, w] is at `sigma` and shall go to `sigma_next`."""

    frame: FrameSpec
    role: Role
    x: F32
    sigma: float
    sigma_next: float


@dataclass(frozen=True, eq=False)
class Call:
    """One denoiser call that a policy asks for.

    Attributes
    ----------
    number : counts the calls of a policy, from 0.
    frames, roles : [F]. A frame may stand in several slots.
    x : [F, C, h, w] float32, read-only.
    sigma, sigma_next : [F] float32; equal where a frame is pinned. sigma is never 0.
    """

    number: int
    frames: tuple[FrameSpec, ...]
    roles: tuple[Role, ...]
    x: F32
    sigma: F32
    sigma_next: F32

    @classmethod
    def of(cls, number: int, slots: Sequence[Slot]) -> Call:
        """Gather `slots` into one call."""
        x = np.stack([slot.x for slot in slots])
        x.flags.writeable = False
        return cls(
            number,
            tuple(slot.frame for slot in slots),
            tuple(slot.role for slot in slots),
            x,
            np.array([slot.sigma for slot in slots], np.float32),
            np.array([slot.sigma_next for slot in slots], np.float32),
        )

    @property
    def length(self) -> int:
        """Slots in the window: the F of the graph that runs it."""
        return len(self.frames)

    @property
    def indices(self) -> NDArray[np.int64]:
        """[F] the frames' numbers in the stream."""
        return np.array([frame.index for frame in self.frames], np.int64)

    @property
    def handles(self) -> tuple[Hashable, ...]:
        """[F] whose conditioning each slot reads."""
        return tuple(frame.handle for frame in self.frames)

    @property
    def guidance(self) -> F32:
        """[F]."""
        return np.array([frame.guidance for frame in self.frames], np.float32)

    @property
    def switcher(self) -> F32:
        """[F, 2] one-hots of the frames' tasks."""
        return switcher([frame.task for frame in self.frames])


@dataclass(frozen=True, eq=False)
class FinalFrame:
    """A frame whose latent [C, h, w] will not change any more: decode it."""

    frame: FrameSpec
    latent: F32


def _whole(value: Any) -> bool:
    return isinstance(value, int | np.integer) and not isinstance(value, bool)
