"""`sequential`: the next window starts from the last frames of the one before, pinned."""

from __future__ import annotations

from typing import ClassVar

from gas_rt.core import F32, Window
from gas_rt.diffusion.live import Flying, LivePolicy
from gas_rt.diffusion.sigmas import SIGMA_MIN
from gas_rt.diffusion.windows import Anchor, Call, FinalFrame, Role, Schedule, Slot

__all__ = ["SequentialPolicy"]


class SequentialPolicy(LivePolicy):
    """All steps run for one chunk of new frames, then the window moves on by a chunk.

    Without an anchor there is nothing to pin at the start: the first window is in flight as a
    whole, and if windows have an anchor slot, its first frame is the anchor from then on (the
    release's habit). With `renoise`, pinned frames are brought to the current sigma at every step
    instead of standing at `SIGMA_MIN`, so that a window has one sigma: what the authors' weights
    know.
    """

    name: ClassVar[str] = "sequential"

    def __init__(
        self,
        schedule: Schedule,
        *,
        latent_shape: tuple[int, int, int],
        anchor: Anchor | None = None,
        noise_period: int | None = None,
        longest_window: int | None = None,
        context_gain: float = 1.0,
        renoise: bool = False,
    ) -> None:
        super().__init__(
            schedule,
            latent_shape=latent_shape,
            anchor=anchor,
            noise_period=noise_period,
            longest_window=longest_window,
            context_gain=context_gain,
        )
        self._renoise = renoise

    @staticmethod
    def slots_of(window: Window) -> int:
        """[anchor | context | chunk]."""
        return window.anchor + window.context + window.chunk

    def _clear(self) -> None:
        super()._clear()
        self._flying: list[Flying] = []
        self._used: Schedule = self._schedule  # by the frames in flight
        self._step = 0

    def _plan(self) -> list[Slot] | None:
        if not self._flying and not self._board():
            return None
        sigma, sigma_next = self._used.sigmas[self._step : self._step + 2]
        flight = [
            Slot(f.frame, "padding" if f.ghost else "flight", f.x, sigma, sigma_next)
            for f in self._flying
        ]
        window, task = self._used.window, self._flying[0].frame.task
        if len(flight) == self.slots_of(window):
            return flight
        context = self._recent(window.context, task=task)
        anchor = [self._pinned(self._anchor_as(task), "anchor")] if window.anchor else []
        return [*anchor, *(self._pinned(clean, role) for role, clean in context), *flight]

    def _board(self) -> bool:
        """Take the next chunk in; False while it waits for frames."""
        if not self._pending:
            return False
        schedule = self._pending[0][2]
        starts_bare = self._anchor is None and not self._past
        size = self.slots_of(schedule.window) if starts_bare else schedule.window.chunk
        group = self._group(size)
        if group is None:
            return False
        self._flying = self._take(group, size=size, schedule=schedule)
        self._used, self._step = schedule, 0
        return True

    def _pinned(self, clean: FinalFrame, role: Role) -> Slot:
        if not self._renoise:
            return Slot(clean.frame, role, clean.latent, SIGMA_MIN, SIGMA_MIN)
        sigma, sigma_next = self._used.sigmas[self._step : self._step + 2]
        return Slot(clean.frame, role, self._noised(clean, sigma), sigma, sigma_next)

    def _apply(self, call: Call, x_next: F32, x0: F32) -> list[FinalFrame]:
        first = call.length - len(self._flying)
        for slot, flying in enumerate(self._flying, first):
            flying.step(x_next[slot])
        self._step += 1
        if self._step < self._used.window.steps:
            return []
        finals = [FinalFrame(f.frame, f.x) for f in self._flying if not f.ghost]
        if self._anchor is None:
            self._anchor = Anchor(finals[0].frame, finals[0].latent)
        self._remember(finals)
        self._flying = []
        return finals
