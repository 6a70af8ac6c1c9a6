"""Noise levels: SVD's preconditioning, Karras' schedule, explicit few-step lists, the Euler step.

Sigma is the standard deviation of the noise on a unit-variance latent. Everything is computed in
fp64 and handed out in fp32: 700² overflows fp16, and 0.002² vanishes beside 1 in it.

Sources: Karras et al. 2022, "Elucidating the Design Space of Diffusion-Based Generative Models"
(EDM), eq. 5 (schedule), eq. 7 (preconditioning), algorithm 1 without its correction (Euler);
Stable Video Diffusion, appendix D (v-prediction, c_noise).
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
from numpy.typing import ArrayLike, NDArray

from gas_rt.core import F32, checked
from gas_rt.errors import InputError

__all__ = [
    "RHO",
    "SIGMA_MAX",
    "SIGMA_MIN",
    "Coefficients",
    "coefficients",
    "denoised",
    "euler_step",
    "explicit_sigmas",
    "initial_std",
    "karras_sigmas",
]

SIGMA_MIN = 0.002  # what "clean" means: the lowest level the model was trained on
SIGMA_MAX = 700.0  # SVD's; EDM's pictures start from 80
RHO = 7.0  # EDM's choice: how much of the schedule lies at low noise
STEPS_MAX = 1000


@dataclass(frozen=True, eq=False)
class Coefficients:
    """EDM preconditioning for v-prediction, one value per frame.

    ``v = network(c_in · x, c_noise)``, ``x0 = c_skip · x + c_out · v``.

    Attributes
    ----------
    c_in, c_skip, c_out, c_noise : [F] float32.
    """

    c_in: F32
    c_skip: F32
    c_out: F32
    c_noise: F32


def coefficients(sigma: ArrayLike) -> Coefficients:
    """The coefficients at `sigma` [F], each above 0: c_noise = ¼ ln σ has no value at 0."""
    values = np.atleast_1d(np.asarray(sigma, np.float64))
    if values.ndim != 1 or not np.isfinite(values).all() or (values <= 0).any():
        raise InputError(
            f"coefficients: sigma must be a list of finite numbers above 0, got {sigma!r}; "
            f"a clean frame has {SIGMA_MIN}, never 0"
        )
    total = values**2 + 1.0  # variance of the noisy latent
    return Coefficients(
        c_in=(1 / np.sqrt(total)).astype(np.float32),
        c_skip=(1 / total).astype(np.float32),
        c_out=(-values / np.sqrt(total)).astype(np.float32),
        c_noise=(0.25 * np.log(values)).astype(np.float32),
    )


def denoised(x: F32, v: F32, *, sigma: ArrayLike) -> F32:
    """The estimate x0 of the clean latent from the network's `v`; x, v [F, ...], sigma [F]."""
    c = coefficients(sigma)
    return np.asarray(
        _per_frame(c.c_skip, x.ndim) * x + _per_frame(c.c_out, x.ndim) * v, np.float32
    )


def euler_step(x: F32, x0: F32, *, sigma: ArrayLike, sigma_next: ArrayLike) -> F32:
    """One step of the probability-flow ODE from `sigma` to `sigma_next`, both [F].

    ``x_next = x0 + (σ_next / σ)(x − x0)``, which is EDM's ``x + (σ_next − σ)(x − x0)/σ`` without
    the difference of two numbers near 700. σ_next = 0 gives x0 itself, σ_next = σ gives x.
    x, x0 : [F, ...] float32 → [F, ...] float32.
    """
    start = np.atleast_1d(np.asarray(sigma, np.float64))
    end = np.atleast_1d(np.asarray(sigma_next, np.float64))
    if not (np.isfinite(start).all() and (start > 0).all() and np.isfinite(end).all()):
        raise InputError(f"euler_step: sigma must be finite and above 0, got {sigma!r}")
    if (end < 0).any():
        raise InputError(f"euler_step: sigma_next must not be negative, got {sigma_next!r}")
    ratio = _per_frame((end / start).astype(np.float32), x.ndim)
    return np.asarray(x0 + ratio * (x - x0), np.float32)


def initial_std(sigma: float) -> float:
    """Standard deviation of the pure noise a frame starts from: √(σ² + 1).

    It is that of a unit-variance latent noised to σ, and what the release starts from. At σ = 700
    it equals σ to one part in a million; for a few-step list that starts lower it does not.
    """
    return float(np.sqrt(float(sigma) ** 2 + 1.0))


def karras_sigmas(
    steps: int,
    *,
    sigma_min: float = SIGMA_MIN,
    sigma_max: float = SIGMA_MAX,
    rho: float = RHO,
    last: Literal["zero", "clean"] = "zero",
) -> tuple[float, ...]:
    """EDM's schedule: `steps` + 1 descending levels, evenly spaced in σ^(1/rho).

    ``last="zero"`` is the release: `steps` levels from sigma_max to sigma_min, then 0.
    ``last="clean"`` spaces all `steps` + 1 from sigma_max to sigma_min: no level is spent on the
    way from sigma_min to 0, and finished frames lie at the level at which they serve as context.
    """
    if not isinstance(steps, int) or isinstance(steps, bool) or not 1 <= steps <= STEPS_MAX:
        raise InputError(f"karras_sigmas: steps must be 1..{STEPS_MAX}, got {steps!r}")
    if last not in ("zero", "clean"):
        raise InputError(f"karras_sigmas: last must be 'zero' or 'clean', got {last!r}")
    if not (0 < sigma_min < sigma_max < np.inf and 0 < rho < np.inf):
        raise InputError(
            "karras_sigmas: needs 0 < sigma_min < sigma_max and rho > 0, all finite, got "
            f"sigma_min {sigma_min}, sigma_max {sigma_max}, rho {rho}"
        )
    ramp = np.linspace(0.0, 1.0, steps if last == "zero" else steps + 1)
    low, high = sigma_min ** (1 / rho), sigma_max ** (1 / rho)
    levels = (high + ramp * (low - high)) ** rho
    return explicit_sigmas([*levels, 0.0] if last == "zero" else levels)


def explicit_sigmas(values: Iterable[Any]) -> tuple[float, ...]:
    """A few-step list, checked: [steps + 1] strictly descending levels, each an exact fp32 value.

    All are above 0, but for the last, which may be 0 (the release's way) or `SIGMA_MIN`.
    """
    listed = list(values) if isinstance(values, Iterable) else [values]
    array = checked(listed, "sigmas", shape=(None,), dtype=np.float64)
    if not 2 <= array.size <= STEPS_MAX + 1:
        raise InputError(
            f"sigmas: expected steps + 1 levels for 1..{STEPS_MAX} steps, got {array.size}; "
            "give where each step starts and where the last one ends"
        )
    with np.errstate(over="ignore"):  # infinity is refused below
        levels = array.astype(np.float32)
    if not np.isfinite(levels).all() or (levels[:-1] <= 0).any() or levels[-1] < 0:
        raise InputError(
            f"sigmas: every level must be above 0 and fit fp32, the last may be 0; got {listed}"
        )
    rising = np.flatnonzero(np.diff(levels) >= 0)
    if rising.size:
        k = int(rising[0])
        raise InputError(
            f"sigmas: must descend strictly, but level {k + 1} is {levels[k + 1]:g} after "
            f"{levels[k]:g}; sort the list and drop repeats"
        )
    return tuple(float(level) for level in levels)


def _per_frame(values: NDArray[np.float32], ndim: int) -> NDArray[np.float32]:
    """[F] → [F, 1, 1, ...] with `ndim` axes."""
    return values.reshape(-1, *[1] * (ndim - 1))
