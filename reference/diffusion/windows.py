"""Training windows: which frames, at which noise, and which of them count.

Two kinds, for what a bundle ships: ``parity`` (all frames share a noise level, the first anchors)
and ``live`` (anchor, clean context, frames in flight at rolling levels or, for the `sequential`
policy, at one level).
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from reference.diffusion.edm import SIGMA_CLEAN

__all__ = ["ANCHOR", "Window", "WindowConfig", "live", "opening", "parity"]

ANCHOR = -1
F32 = NDArray[np.float32]


@dataclass(frozen=True)
class WindowConfig:
    """How windows are drawn.

    Attributes
    ----------
    parity_frames : frames of a parity window.
    opening_frames : frames of an opening window.
    sigma_log_mean, sigma_log_std : its ln σ.
    parity_live_share : share of parity windows whose σ is one of a live window's instead: those
        that few-step lists use, where a lognormal hardly ever goes.
    context, chunk : clean frames before those in flight of a live window, and frames per level.
    live_sigmas : the levels of the frames in flight, highest first: the shipped schedule.
    live_jitter : standard deviation of the shift of ln σ, one per window.
    live_stretch : a window's ln σ lie this many times as far below the highest as the shipped
        ones, drawn in this range, so that a list can be chosen after training.
    rolling_share : share of live windows whose levels roll; the others have one for all.
    context_sigma : context is "clean" up to a σ drawn in this range, as generated frames are.
    start_share : share of live windows at a stream's start, where the anchor stands in for
        context that does not exist yet.
    max_gap : poses may be dropped, so that two frames are up to this many apart.
    """

    parity_frames: int = 20
    opening_frames: int = 1
    sigma_log_mean: float = 0.4
    sigma_log_std: float = 1.5
    parity_live_share: float = 0.5
    context: int = 3
    chunk: int = 1
    live_sigmas: tuple[float, ...] = (40.0, 10.0, 3.0, 1.0)
    live_jitter: float = 0.2
    live_stretch: tuple[float, float] = (0.1, 1.25)
    rolling_share: float = 0.75
    context_sigma: tuple[float, float] = (SIGMA_CLEAN, 0.2)
    start_share: float = 0.25
    max_gap: int = 3

    @property
    def in_flight(self) -> int:
        """Frames a live window denoises."""
        return len(self.live_sigmas) * self.chunk

    @property
    def live_frames(self) -> int:
        return 1 + self.context + self.in_flight


@dataclass(frozen=True)
class Window:
    """F frames of a clip.

    Attributes
    ----------
    counts : 0 where the prediction is never used.
    context : 1 on frames that a stream would have generated before.
    """

    frames: NDArray[np.int64]
    sigma: F32
    counts: F32
    context: F32


def parity(config: WindowConfig, rng: np.random.Generator, *, length: int) -> Window:
    """Frame 0 of some clip and a row of its frames, not always the first."""
    count = config.parity_frames
    steps = _steps(config, rng, count=count - 1, span=length - 1)
    if rng.random() < 0.5:  # a later window: its row starts anywhere after the anchor
        steps[0] = rng.integers(1, length - steps[1:].sum())
    first = rng.integers(0, length - steps.sum())
    sigma = np.exp(config.sigma_log_mean + config.sigma_log_std * rng.standard_normal())
    if rng.random() < config.parity_live_share:
        sigma = rng.choice(_levels(config, rng))
    return Window(
        frames=first + np.concatenate([[0], np.cumsum(steps)]).astype(np.int64),
        sigma=np.full(count, max(sigma, SIGMA_CLEAN), np.float32),
        counts=np.ones(count, np.float32),
        context=np.zeros(count, np.float32),
    )


def live(config: WindowConfig, rng: np.random.Generator, *, length: int) -> Window:
    """[anchor | context | in flight, oldest first]."""
    context, flight = config.context, config.in_flight
    start = context > 0 and rng.random() < config.start_share
    missing = int(rng.integers(1, context + 1)) if start else 0
    row = context + flight - missing
    steps = _steps(config, rng, count=row - 1, span=length - 1)
    # A stream that lacks context is at its start, which may be any frame of a clip.
    first = rng.integers(0, length - steps.sum())
    frames = first + np.concatenate([[0], np.cumsum(steps)]).astype(np.int64)

    drawn = _levels(config, rng)
    levels = np.repeat(drawn[::-1], config.chunk)  # oldest is cleanest
    if rng.random() >= config.rolling_share:
        levels = np.full(flight, rng.choice(drawn))
    low, high = np.log(config.context_sigma)
    clean = np.full(context, np.exp(rng.uniform(low, high)))
    clean[:missing] = SIGMA_CLEAN  # anchors
    return Window(
        frames=np.concatenate([np.full(1 + missing, ANCHOR, np.int64), frames]),
        sigma=np.concatenate([[SIGMA_CLEAN], clean, levels]).astype(np.float32),
        counts=np.repeat(np.array([0, 1], np.float32), [1 + context, flight]),
        context=np.repeat(
            np.array([0, 1, 0], np.float32), [1 + missing, context - missing, flight]
        ),
    )


def opening(config: WindowConfig, rng: np.random.Generator, *, length: int) -> Window:
    """A row of frames at about the highest level: what the conditions alone tell."""
    count = config.opening_frames
    steps = _steps(config, rng, count=count - 1, span=length - 1)
    first = rng.integers(0, length - steps.sum())
    sigma = config.live_sigmas[0] * np.exp(config.live_jitter * rng.standard_normal())
    return Window(
        frames=first + np.concatenate([[0], np.cumsum(steps)]).astype(np.int64),
        sigma=np.full(count, sigma, np.float32),
        counts=np.ones(count, np.float32),
        context=np.zeros(count, np.float32),
    )


def _levels(config: WindowConfig, rng: np.random.Generator) -> NDArray[np.float64]:
    """Noise levels of one window, highest first: the shipped ones, stretched and shifted."""
    shipped = np.log(np.array(config.live_sigmas))
    drawn = shipped[0] + rng.uniform(*config.live_stretch) * (shipped - shipped[0])
    levels: NDArray[np.float64] = np.exp(drawn + config.live_jitter * rng.standard_normal())
    return levels


def _steps(
    config: WindowConfig, rng: np.random.Generator, *, count: int, span: int
) -> NDArray[np.int64]:
    """Distances of neighbouring frames: half the time 1, else mixed as far as the clip allows."""
    widest = min(config.max_gap, span // max(count, 1))
    if widest < 1:
        raise ValueError(
            f"a window needs {count + 1} frames in a row, clips hold {span + 1}; "
            "write longer clips or shorten the windows"
        )
    if rng.random() < 0.5:
        widest = 1
    return rng.integers(1, widest + 1, size=count)
