"""What every window policy is: a pure state machine between frames and denoiser calls.

    policy.admit(frame)                     # frames, in order, as they come to exist
    while (call := policy.next_call()) is not None:
        x_next, x0 = denoiser(call)
        for final in policy.complete(call, x_next, x0):
            ...                             # frames, in order
    policy.end()                            # no more frames: the rest comes out

It holds latents and no thread, clock or engine. What comes out depends on the order of `admit`
and `change_schedule` alone, not on when the calls between them are asked for.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import ClassVar

import numpy as np

from gas_rt.core import F32, checked
from gas_rt.diffusion.noise import frame_noise
from gas_rt.diffusion.sigmas import initial_std
from gas_rt.diffusion.windows import Call, FinalFrame, FrameSpec, Schedule, Slot
from gas_rt.errors import InputError, ShapeError

__all__ = ["WindowPolicy"]


class WindowPolicy(ABC):
    """The interface and the bookkeeping that policies share; see the module."""

    name: ClassVar[str]

    def __init__(
        self,
        schedule: Schedule,
        *,
        latent_shape: tuple[int, int, int],
        noise_period: int | None = None,
    ) -> None:
        """`latent_shape`: [C, h, w]; `noise_period`: see `frame_noise`."""
        if len(latent_shape) != 3 or any(not isinstance(n, int) or n < 1 for n in latent_shape):
            raise InputError(f"latent_shape: expected (C, h, w), each ≥ 1, got {latent_shape!r}")
        if noise_period is not None and (not isinstance(noise_period, int) or noise_period < 1):
            raise InputError(f"noise_period: must be ≥ 1 frame or None, got {noise_period!r}")
        self._schedule = schedule
        self._shape = tuple(latent_shape)
        self._period = noise_period
        self._calls = 0
        self._open: Call | None = None
        self._ended = False
        self._last_index: int | None = None
        self._unfinished: dict[int, FrameSpec] = {}

    @property
    def schedule(self) -> Schedule:
        """What frames admitted from now on are denoised by."""
        return self._schedule

    @property
    def unfinished(self) -> tuple[FrameSpec, ...]:
        """Frames that were admitted and are not final yet, in order."""
        return tuple(self._unfinished.values())

    @property
    def done(self) -> bool:
        """Whether the stream has ended and every frame of it is final."""
        return self._ended and not self._unfinished

    @property
    @abstractmethod
    def readable(self) -> tuple[FrameSpec, ...]:
        """Frames a later call may read: what a cache of conditioning must keep."""

    def admit(self, frame: FrameSpec) -> None:
        """`frame` exists; its conditioning can be had by its handle."""
        if self._ended:
            raise InputError(
                f"frame {frame.index}: the stream has ended; reset() begins another one"
            )
        if frame.index < 0:
            raise InputError(f"frame {frame.index}: only the anchor has a negative index")
        if self._last_index is not None and frame.index <= self._last_index:
            raise InputError(
                f"frame {frame.index}: came after frame {self._last_index}; "
                "admit frames in rising order, each once"
            )
        self._admit(frame)
        self._last_index = frame.index
        self._unfinished[frame.index] = frame

    def end(self) -> None:
        """No more frames will come; ending twice is the same as once."""
        if self._last_index is None:
            raise InputError("the stream ended with zero frames; admit at least one before end()")
        self._ended = True

    @abstractmethod
    def change_schedule(self, schedule: Schedule) -> None:
        """Denoise the frames admitted from now on by `schedule`."""

    def next_call(self) -> Call | None:
        """The call to run next, the same one until it is completed; None: waits for frames."""
        if self._open is None:
            slots = self._plan()
            if slots is not None:
                self._open = Call.of(self._calls, slots)
                self._calls += 1
        return self._open

    def complete(self, call: Call, x_next: F32, x0: F32) -> tuple[FinalFrame, ...]:
        """Take the denoiser's answer to `call`; the frames that are final by it, in order.

        x_next, x0 : [F, C, h, w] finite. A refused answer leaves the policy as it was.
        """
        if call is not self._open:
            raise InputError(
                f"complete: call {call.number} is not the one asked for; complete what "
                "next_call() returned, once, and drop it after a reset"
            )
        finals = self._apply(call, self._answer(x_next, "x_next"), self._answer(x0, "x0"))
        self._open = None
        for final in finals:
            del self._unfinished[final.frame.index]
        return tuple(finals)

    def reset(self) -> tuple[FrameSpec, ...]:
        """Forget the stream and begin a new one; the frames that will never be final."""
        lost = self.unfinished
        self._open, self._ended, self._last_index = None, False, None
        self._unfinished = {}
        self._clear()
        return lost

    @abstractmethod
    def _admit(self, frame: FrameSpec) -> None:
        """Take a checked frame in."""

    @abstractmethod
    def _plan(self) -> list[Slot] | None:
        """The slots of the next call, or None while frames are missing."""

    @abstractmethod
    def _apply(self, call: Call, x_next: F32, x0: F32) -> list[FinalFrame]:
        """Step the frames that were in flight."""

    @abstractmethod
    def _clear(self) -> None:
        """Forget every frame."""

    def _initial(self, frame: FrameSpec, schedule: Schedule) -> F32:
        """[C, h, w]: pure noise at the schedule's first level."""
        return self._noise(frame) * np.float32(initial_std(schedule.sigmas[0]))

    def _noise(self, frame: FrameSpec) -> F32:
        """[C, h, w] unit noise of `frame`."""
        return frame_noise(frame.seed, frame.index, shape=self._shape, period=self._period)

    def _answer(self, value: F32, name: str) -> F32:
        """`value` if it can be the denoiser's answer to the open call."""
        call = self._open
        assert call is not None
        array = np.asarray(value)
        if array.shape == call.x.shape and array.dtype.kind == "f":
            bad = ~np.isfinite(array).all(axis=(1, 2, 3))
            if bad.any():
                where = ", ".join(
                    f"frame {call.frames[k].index} ({call.roles[k]}, sigma {call.sigma[k]:g})"
                    for k in np.flatnonzero(bad)
                )
                raise ShapeError(
                    f"{name} of call {call.number}: NaN or infinity in {where}; run the denoiser "
                    "in fp32, or reset the stream"
                )
        return checked(array, f"{name} of call {call.number}", shape=call.x.shape)
