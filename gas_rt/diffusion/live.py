"""What the two streaming policies share: waiting frames, the past, the anchor and padding."""

from __future__ import annotations

from abc import abstractmethod
from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np

from gas_rt.core import F32, Task, Window
from gas_rt.diffusion.noise import ANCHOR_INDEX
from gas_rt.diffusion.policy import WindowPolicy
from gas_rt.diffusion.windows import Anchor, FinalFrame, FrameSpec, Role, Schedule
from gas_rt.errors import InputError, ShapeError

__all__ = ["Flying", "LivePolicy"]


@dataclass
class Flying:
    """A frame that is being denoised. A ghost fills a chunk and is never final."""

    frame: FrameSpec
    x: F32  # [C, h, w]
    ghost: bool = False

    def step(self, x_next: F32) -> None:
        """Take the denoiser's answer; read-only, for it may leave as a final latent."""
        self.x = x_next.copy()
        self.x.flags.writeable = False


class LivePolicy(WindowPolicy):
    """A policy whose windows are [anchor | context, clean | in flight].

    Frames enter in chunks of `window.chunk`. A chunk that the end of the stream or a change of
    schedule leaves incomplete is filled by ghosts: the last frame held, with the next indices'
    noise. Where the past is shorter than a window needs, it is extended by the anchor held; if
    there is none, by the oldest final frame.
    """

    def __init__(
        self,
        schedule: Schedule,
        *,
        latent_shape: tuple[int, int, int],
        anchor: Anchor | None = None,
        noise_period: int | None = None,
        longest_window: int | None = None,
        context_gain: float = 1.0,
    ) -> None:
        """`longest_window`: slots of the longest window this will ever be changed to.

        It is how much past is kept; unless given, `schedule` has the longest. Final frames become
        context with their latents times `context_gain`: below 1 a stream's errors fade instead of
        growing from frame to frame, where latents are what the field's render lacks.
        """
        if not 0 <= context_gain <= 1:
            raise InputError(f"context_gain: expected a number in [0, 1], got {context_gain!r}")
        self._context_gain = np.float32(context_gain)
        super().__init__(schedule, latent_shape=latent_shape, noise_period=noise_period)
        if anchor is not None:
            if anchor.frame.index != ANCHOR_INDEX:
                raise InputError(
                    f"Anchor.frame.index: must be {ANCHOR_INDEX}, got {anchor.frame.index}"
                )
            if anchor.latent.shape != self._shape:
                raise ShapeError(
                    f"Anchor.latent: expected shape {list(self._shape)}, got "
                    f"{list(anchor.latent.shape)}; encode the reference at the stream's size"
                )
        self._given_anchor = anchor
        own = self.slots_of(schedule.window)
        self._longest = own if longest_window is None else longest_window
        self._check_schedule(schedule)
        self._clear()

    @staticmethod
    @abstractmethod
    def slots_of(window: Window) -> int:
        """Slots of a call with this layout: the F of the graph."""

    def _remember(self, finals: Sequence[FinalFrame]) -> None:
        """Let windows to come read final frames."""
        gain = self._context_gain
        self._past.extend(
            finals if gain == 1 else [FinalFrame(f.frame, f.latent * gain) for f in finals]
        )

    @property
    def readable(self) -> tuple[FrameSpec, ...]:
        """The anchor, the past a window can reach, and the frames that are not final."""
        if self.done:
            return ()
        anchor = [] if self._anchor is None else [self._anchor.frame]
        return (*anchor, *(final.frame for final in self._past), *self.unfinished)

    def change_schedule(self, schedule: Schedule) -> None:
        """Denoise the frames admitted from now on by `schedule`; those before keep theirs."""
        if schedule == self._schedule:
            return
        self._check_schedule(schedule)
        self._schedule = schedule
        self._epoch += 1

    def _check_schedule(self, schedule: Schedule) -> None:
        slots = self.slots_of(schedule.window)
        if slots > self._longest:
            raise InputError(
                f"a window of {slots} frames: this policy keeps the past for {self._longest}; "
                f"open it with longest_window={slots}"
            )
        if self._given_anchor is not None and schedule.window.anchor == 0:
            raise InputError(
                "an anchor was given, but Window.anchor is 0; set it to 1 or leave the anchor out"
            )

    def _admit(self, frame: FrameSpec) -> None:
        self._pending.append((self._epoch, frame, self._schedule))

    def _clear(self) -> None:
        self._epoch = 0  # counts changes of schedule: a chunk never spans one
        self._pending: deque[tuple[int, FrameSpec, Schedule]] = deque()
        self._past: deque[FinalFrame] = deque(maxlen=self._longest)
        self._anchor = self._given_anchor

    def _group(self, size: int) -> list[FrameSpec] | None:
        """The next chunk's real frames, at most `size`; None while it could still grow."""
        epoch = self._pending[0][0]
        group: list[FrameSpec] = []
        for at, frame, _ in self._pending:
            if at != epoch or len(group) == size:
                break
            group.append(frame)
        complete = len(group) == size or epoch != self._epoch or self._ended
        return group if complete else None

    def _take(self, frames: list[FrameSpec], *, size: int, schedule: Schedule) -> list[Flying]:
        """Take `frames` off the waiting ones and fill their chunk up to `size` with ghosts."""
        for _ in frames:
            self._pending.popleft()
        flying = [Flying(frame, self._initial(frame, schedule)) for frame in frames]
        return flying + self._ghosts(frames[-1], size - len(frames), schedule=schedule)

    def _ghosts(self, last: FrameSpec, count: int, *, schedule: Schedule) -> list[Flying]:
        """`last` held for `count` frames more."""
        frames = [replace(last, index=last.index + k + 1) for k in range(count)]
        return [Flying(frame, self._initial(frame, schedule), ghost=True) for frame in frames]

    def _recent(self, count: int, *, task: Task) -> list[tuple[Role, FinalFrame]]:
        """The last `count` clean frames, oldest first, extended as the class says.

        Shorter than `count` only if there is neither a past nor an anchor: then empty.
        """
        known = list(self._past)[max(0, len(self._past) - count) :]
        recent: list[tuple[Role, FinalFrame]] = [("context", final) for final in known]
        if self._anchor is None and not known:
            return []
        missing = count - len(known)
        if self._anchor is None:
            held = [known[0]] * missing
        else:  # each with an index, and so noise, of its own
            anchor = self._anchor_as(task)
            before = range(ANCHOR_INDEX - missing, ANCHOR_INDEX)
            held = [FinalFrame(replace(anchor.frame, index=i), anchor.latent) for i in before]
        padding: list[tuple[Role, FinalFrame]] = [("padding", final) for final in held]
        return padding + recent

    def _anchor_as(self, task: Task) -> FinalFrame:
        """The anchor, told the task of the frames it stands beside."""
        assert self._anchor is not None
        return FinalFrame(replace(self._anchor.frame, task=task), self._anchor.latent)

    def _noised(self, clean: FinalFrame, sigma: float) -> F32:
        """[C, h, w]: a clean frame brought to `sigma` by the frame's own noise."""
        return clean.latent + np.float32(sigma) * self._noise(clean.frame)
