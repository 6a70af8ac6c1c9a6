"""EDM with v-prediction as in SVD (unit data variance), every quantity per frame.

``x = x0 + σ n``; the network sees ``c_in x`` and ``c_noise`` and predicts
``v = (n − σ x0) / √(σ² + 1)``.
"""

from __future__ import annotations

import torch
from torch import Tensor

from gas_rt.diffusion import sigmas

__all__ = [
    "SIGMA_CLEAN",
    "c_in",
    "c_noise",
    "euler",
    "guide",
    "karras_sigmas",
    "loss_weight",
    "per_frame",
    "velocity",
    "x0_from_velocity",
]

SIGMA_CLEAN = sigmas.SIGMA_MIN  # "clean" is this, never 0: ln σ must exist


def per_frame(sigma: Tensor, like: Tensor) -> Tensor:
    """[…] → […, 1, 1, 1], beside latents […, C, h, w]."""
    if tuple(sigma.shape) != tuple(like.shape[:-3]):
        raise ValueError(
            f"sigma: expected {list(like.shape[:-3])}, one per frame of latents "
            f"{list(like.shape)}, found {list(sigma.shape)}"
        )
    return sigma[..., None, None, None]


def c_in(sigma: Tensor) -> Tensor:
    """What brings noisy latents to unit variance."""
    return torch.rsqrt(sigma**2 + 1)


def c_noise(sigma: Tensor) -> Tensor:
    """The noise level as the time embedding takes it, SVD's continuous timestep."""
    return 0.25 * torch.log(sigma)


def x0_from_velocity(x: Tensor, v: Tensor, sigma: Tensor) -> Tensor:
    """The clean latents that noisy ones [..., C, h, w] and a predicted v mean."""
    s = per_frame(sigma, x)
    return x / (s**2 + 1) - v * s * torch.rsqrt(s**2 + 1)


def velocity(x0: Tensor, noise: Tensor, sigma: Tensor) -> Tensor:
    """What the network should have predicted."""
    s = per_frame(sigma, x0)
    return (noise - s * x0) * torch.rsqrt(s**2 + 1)


def loss_weight(sigma: Tensor) -> Tensor:
    """EDM's weight on the squared error of x0; with it the error of v has weight 1."""
    return (sigma**2 + 1) / sigma**2


def euler(x: Tensor, x0: Tensor, sigma: Tensor, sigma_next: Tensor) -> Tensor:
    """One step of the ODE from σ to σ_next, which may be 0."""
    ratio = per_frame(sigma_next / sigma, x)
    return x0 + ratio * (x - x0)


def guide(unconditional: Tensor, conditional: Tensor, guidance: Tensor) -> Tensor:
    """Classifier-free guidance, per frame."""
    return unconditional + per_frame(guidance, conditional) * (conditional - unconditional)


def karras_sigmas(steps: int) -> Tensor:
    """[steps + 1], falling from 700 to 0.002, then 0: SVD's schedule."""
    if steps < 1:
        raise ValueError(f"steps: expected at least 1, found {steps}")
    return torch.tensor(sigmas.karras_sigmas(steps))
