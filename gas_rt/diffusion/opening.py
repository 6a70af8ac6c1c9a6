"""Opening a window policy by its name."""

from __future__ import annotations

from gas_rt.diffusion.diagonal import DiagonalPolicy
from gas_rt.diffusion.parity import ParityPolicy
from gas_rt.diffusion.policy import WindowPolicy
from gas_rt.diffusion.sequential import SequentialPolicy
from gas_rt.diffusion.sigmas import SIGMA_MIN
from gas_rt.diffusion.windows import Anchor, Schedule
from gas_rt.errors import InputError

__all__ = ["POLICIES", "last_sigma", "open_policy"]

POLICIES = ("parity", "sequential", "diagonal")


def last_sigma(policy: str) -> float:
    """Where the last step of a policy ends.

    A live policy's finished frames are context and so lie at the lowest level that was trained,
    `SIGMA_MIN`; in `parity` they are done and lie at 0, as released.
    """
    return 0.0 if policy == "parity" else SIGMA_MIN


def open_policy(
    name: str,
    schedule: Schedule,
    *,
    latent_shape: tuple[int, int, int],
    anchor: Anchor | None = None,
    noise_period: int | None = None,
    longest_window: int | None = None,
    context_gain: float = 1.0,
    renoise: bool = False,
) -> WindowPolicy:
    """The policy called `name`, empty. `latent_shape` is [C, h, w].

    `anchor`, `longest_window` and `context_gain` (see `LivePolicy`; `parity`, which has no past,
    leaves it alone) are for the live policies, `renoise` is for `sequential`; asking
    for one that a policy does not have is an error.
    """
    if name not in POLICIES:
        raise InputError(f"policy {name!r}: unknown; choose one of {', '.join(POLICIES)}")
    if renoise and name != "sequential":
        raise InputError(f"policy {name}: renoise is sequential's; leave it out")
    if name == "parity":
        if anchor is not None or longest_window is not None:
            raise InputError(
                "policy parity: frame 0 is the anchor and the clip the window; leave anchor and "
                "longest_window out"
            )
        return ParityPolicy(schedule, latent_shape=latent_shape, noise_period=noise_period)
    if name == "sequential":
        return SequentialPolicy(
            schedule,
            latent_shape=latent_shape,
            anchor=anchor,
            noise_period=noise_period,
            longest_window=longest_window,
            context_gain=context_gain,
            renoise=renoise,
        )
    return DiagonalPolicy(
        schedule,
        latent_shape=latent_shape,
        anchor=anchor,
        noise_period=noise_period,
        longest_window=longest_window,
        context_gain=context_gain,
    )
