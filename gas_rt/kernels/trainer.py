"""Fits a canonical hash-grid field to samples of a teacher: the bake."""

from __future__ import annotations

import math
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from gas_rt.core import F32, checked
from gas_rt.errors import InputError, ShapeError
from gas_rt.kernels import twins
from gas_rt.kernels._backend import check_threads, native, use_twins
from gas_rt.kernels.hash_field import COLOUR_MLP_SIZE, HIDDEN, HashField, density_mlp_size
from gas_rt.kernels.hash_grid import HashGridConfig

__all__ = ["FieldGradients", "FieldTrainer", "learning_rate"]

BETA1 = 0.9
# Shorter than Adam's usual memory: a bake is a few hundred steps.
BETA2 = 0.99
EPSILON = 1e-15
# The released teacher's samples are 1.1 to 2 cm apart; opacity is compared over about that.
STEP_M = 0.01
# Weighs a squared colour error against the opacity's cross-entropy, which is about twice the
# squared opacity error where opacity is near one half.
COLOUR_WEIGHT = 5.0
TABLE_INIT = 1e-4


class FieldGradients(NamedTuple):
    """The loss and its gradients, in the layouts of `HashField`."""

    loss: float
    table: F32
    density_mlp: F32
    colour_mlp: F32


class FieldTrainer:
    """Trains a `HashField` natively with Adam; the same bits for any number of threads.

    What a render shows of a sample is its opacity over one step of the ray, and its colour only
    as far as it is opaque. So the loss is, per point, with ``alpha = 1 - exp(-sigma * step_m)`` of
    the target and ``logit`` of the field,

        softplus(logit) - alpha * logit + colour_weight * alpha * |rgb - target|^2

    that is, the cross-entropy of the opacities (the field's density is ``softplus(logit) /
    step_m``, hence its opacity ``sigmoid(logit)``) and an opacity-weighted colour error, averaged.
    Its floor is the entropy of the target's opacities. Entries of the grid that no sample of a
    step touches keep their value and moments.

    Parameters
    ----------
    lo, hi : [3] metres, the field's box.
    step_m : length over which opacity is compared; the field's density_scale is its inverse.
    """

    def __init__(
        self,
        config: HashGridConfig,
        seed: int,
        *,
        lo: F32,
        hi: F32,
        step_m: float = STEP_M,
        colour_weight: float = COLOUR_WEIGHT,
        threads: int = 1,
    ) -> None:
        if not 1e-4 <= step_m <= 1.0:
            raise InputError(f"FieldTrainer.step_m: expected 0.0001..1 metres, got {step_m}")
        if not 0 <= colour_weight <= 1e6:
            raise InputError(f"FieldTrainer.colour_weight: expected 0..1e6, got {colour_weight}")
        self._initial = _initial_field(config, seed, lo=lo, hi=hi, density_scale=1 / step_m)
        self._step_m = step_m
        self._colour_weight = colour_weight
        self._threads = check_threads(threads)
        self._trainer = (
            twins.Trainer(self._initial) if use_twins() else native.Trainer(self._initial.compiled)
        )

    def step(
        self, x: F32, d: F32, sigma: F32, rgb: F32, *, lr: float, weight: F32 | None = None
    ) -> float:
        """Move every parameter once; returns the loss before the step.

        Parameters
        ----------
        x : [N, 3] metres, canonical.
        d : [N, 3] unit viewing directions, canonical.
        sigma : [N] the teacher's density, 1/m; negative counts as 0.
        rgb : [N, 3] the teacher's colour.
        lr : Adam's learning rate, see `learning_rate`.
        weight : [N] how much a sample matters; 1 if None.
        """
        if not (math.isfinite(lr) and lr >= 0):
            raise InputError(f"lr: expected a finite rate of at least 0, got {lr}")
        return self._run(x, d, sigma, rgb, weight, lr)

    def gradients(
        self, x: F32, d: F32, sigma: F32, rgb: F32, *, weight: F32 | None = None
    ) -> FieldGradients:
        """The loss and its gradients at the current parameters, which stay as they are."""
        loss = self._run(x, d, sigma, rgb, weight, -1.0)
        return FieldGradients(loss, *self._read(gradients=True))

    def field(self) -> HashField:
        """A copy of the current field."""
        start = self._initial
        table, density_mlp, colour_mlp = self._read(gradients=False)
        scale = start.density_scale
        return HashField(
            start.config, table, density_mlp, colour_mlp, start.lo, start.hi, density_scale=scale
        )

    def _run(self, x: F32, d: F32, sigma: F32, rgb: F32, weight: F32 | None, lr: float) -> float:
        x = checked(x, "x", shape=(None, 3))
        n = len(x)
        if n == 0:
            raise ShapeError("x: expected at least one point, got none; skip the step")
        d = checked(d, "d", shape=(n, 3))
        sigma = np.maximum(checked(sigma, "sigma", shape=(n,)), 0)
        rgb = checked(rgb, "rgb", shape=(n, 3))
        if weight is None:
            weight = np.ones(n, np.float32)
        weight = checked(weight, "weight", shape=(n,))
        if weight.min() < 0:
            raise InputError(f"weight: expected at least 0, got {weight.min()}")
        return self._trainer.run(
            x,
            d,
            sigma,
            rgb,
            weight,
            self._step_m,
            self._colour_weight,
            lr,
            BETA1,
            BETA2,
            EPSILON,
            self._threads,
        )

    def _read(self, *, gradients: bool) -> tuple[F32, F32, F32]:
        config = self._initial.config
        split = density_mlp_size(config)
        table = np.empty(config.n_params, np.float32)
        nets = np.empty(split + COLOUR_MLP_SIZE, np.float32)
        self._trainer.read(gradients, table, nets)
        return table, nets[:split], nets[split:]


def learning_rate(step: int, steps: int, *, peak: float = 3e-2, warmup: int = 10) -> float:
    """Linear warm-up to `peak`, then a half cosine down to a hundredth of it at the last step."""
    if step < warmup:
        return peak * (step + 1) / warmup
    progress = (step - warmup) / max(1, steps - 1 - warmup)
    return peak * (0.01 + 0.99 * 0.5 * (1 + math.cos(math.pi * min(1.0, progress))))


def _initial_field(
    config: HashGridConfig, seed: int, *, lo: F32, hi: F32, density_scale: float
) -> HashField:
    """A table near zero and Glorot-uniform nets; the unused rows of the colour net are zero."""
    rng = np.random.default_rng(seed)

    def uniform(size: int, limit: float) -> NDArray[np.float32]:
        return rng.uniform(-limit, limit, size).astype(np.float32)

    table = uniform(config.n_params, TABLE_INIT)
    first = uniform(HIDDEN * config.n_padded, math.sqrt(6 / (HIDDEN + config.n_padded)))
    density = np.concatenate(
        [first, uniform(density_mlp_size(config) - len(first), math.sqrt(6 / (HIDDEN + 16)))]
    )
    colour = uniform(COLOUR_MLP_SIZE, math.sqrt(6 / (HIDDEN + 32)))
    colour[-13 * HIDDEN :] = 0
    return HashField(config, table, density, colour, lo, hi, density_scale=density_scale)
