"""`parity`: the release's rule. Windows over the whole clip are fused at every step; offline.

Frame 0 anchors every window and is stepped like any other. A window's estimates x0 count by a
triangle over its positions; the release fuses the network's v instead, which is the same, because
x0 is linear in v and a frame has one x and one sigma in all its windows.
"""

from __future__ import annotations

from typing import ClassVar

import numpy as np

from gas_rt.core import F32, Window
from gas_rt.diffusion.policy import WindowPolicy
from gas_rt.diffusion.sigmas import euler_step
from gas_rt.diffusion.windows import Call, FinalFrame, FrameSpec, Schedule, Slot
from gas_rt.errors import InputError

__all__ = ["ParityPolicy", "fusion_weights", "spans", "tile_of", "tiles"]


def tile_of(window: Window) -> int:
    """Frames in one of `parity`'s windows: 20 in the release."""
    return window.anchor + window.context + window.chunk


def tiles(frames: int, window: Window) -> list[list[int]]:
    """Which frames each window holds: [0, i+1 .. i+tile−1] for i = 0, chunk, 2·chunk …, and a tail.

    A clip shorter than a tile gives one window that holds it all.
    """
    return spans(frames, tile=tile_of(window), stride=window.chunk)


def spans(frames: int, *, tile: int, stride: int) -> list[list[int]]:
    """`tiles` of windows of `tile` frames that begin `stride` frames apart."""
    if frames <= tile:
        return [list(range(frames))]
    starts = list(range(0, frames - tile + 1, stride))
    if starts[-1] + tile < frames:
        starts.append(frames - tile)
    return [[0, *range(start + 1, start + tile)] for start in starts]


def fusion_weights(tile: int) -> F32:
    """[tile] weight of each position: min(w, 2 − w) for w = (k + ½)·2/tile."""
    w = (np.arange(tile) + 0.5) * 2 / tile
    return np.minimum(w, 2 - w).astype(np.float32)


class ParityPolicy(WindowPolicy):
    """See the module. The first call is ready when the clip has ended; all frames come at once.

    A clip shorter than a tile is padded by its last frame, repeated as it stands at each step;
    what the denoiser makes of the copies is not used.
    """

    name: ClassVar[str] = "parity"

    def __init__(
        self,
        schedule: Schedule,
        *,
        latent_shape: tuple[int, int, int],
        noise_period: int | None = None,
    ) -> None:
        super().__init__(schedule, latent_shape=latent_shape, noise_period=noise_period)
        _check_window(schedule)
        self._clear()

    @property
    def readable(self) -> tuple[FrameSpec, ...]:
        """The whole clip, until it is final."""
        return () if self.done else tuple(self._frames)

    def change_schedule(self, schedule: Schedule) -> None:
        """Denoise the clip by `schedule`: a clip has one, so none may be admitted yet."""
        _check_window(schedule)
        if self._frames and schedule != self._schedule:
            raise InputError(
                f"parity denoises a clip by one schedule, and {len(self._frames)} frames of this "
                "clip were admitted; change it before the first, or after reset()"
            )
        self._schedule = schedule

    def _admit(self, frame: FrameSpec) -> None:
        self._frames.append(frame)

    def _clear(self) -> None:
        self._frames: list[FrameSpec] = []
        self._windows: list[list[int]] = []
        self._step = 0
        self._window = 0

    def _begin(self) -> None:
        self._windows = tiles(len(self._frames), self._schedule.window)
        self._x = np.stack([self._initial(f, self._schedule) for f in self._frames])
        self._zero_sums()

    def _zero_sums(self) -> None:
        self._sum = np.zeros_like(self._x)  # [N, C, h, w]
        self._weight = np.zeros((len(self._x), 1, 1, 1), np.float32)

    def _plan(self) -> list[Slot] | None:
        if not self._ended or self.done:
            return None
        if not self._windows:
            self._begin()
        sigma, sigma_next = self._schedule.sigmas[self._step : self._step + 2]
        held = self._windows[self._window]
        slots = [
            Slot(self._frames[i], "flight" if k else "anchor", self._x[i], sigma, sigma_next)
            for k, i in enumerate(held)
        ]
        last = slots[-1]
        copy = Slot(last.frame, "padding", last.x, sigma, sigma_next)
        return slots + [copy] * (tile_of(self._schedule.window) - len(slots))

    def _apply(self, call: Call, x_next: F32, x0: F32) -> list[FinalFrame]:
        held = self._windows[self._window]
        weight = fusion_weights(call.length)[: len(held), None, None, None]
        self._sum[held] += weight * x0[: len(held)]  # no frame is twice in a window
        self._weight[held] += weight
        self._window += 1
        if self._window < len(self._windows):
            return []
        sigma, sigma_next = self._schedule.sigmas[self._step : self._step + 2]
        fused = self._sum / self._weight
        self._x = euler_step(self._x, fused, sigma=sigma, sigma_next=sigma_next)
        self._window, self._step = 0, self._step + 1
        self._zero_sums()
        if self._step < self._schedule.window.steps:
            return []
        self._x.flags.writeable = False
        return [FinalFrame(f, x) for f, x in zip(self._frames, self._x, strict=True)]


def _check_window(schedule: Schedule) -> None:
    if schedule.window.anchor != 1:
        raise InputError(
            "parity: frame 0 anchors every window, but Window.anchor is "
            f"{schedule.window.anchor}; set it to 1"
        )
