"""NumPy twin of the field's trainer: loss, gradients, Adam."""

from __future__ import annotations

from dataclasses import replace
from functools import partial

import numpy as np

from gas_rt.core import F32
from gas_rt.kernels.hash_field import GEOMETRY, HashField
from gas_rt.kernels.twins.field import (
    activations,
    corners,
    matrices,
    normalised,
    sigmoid,
    softplus,
)

__all__ = ["Trainer", "adam_step", "loss_and_gradients"]


def loss_and_gradients(
    field: HashField,
    x: F32,
    d: F32,
    sigma: F32,
    rgb: F32,
    *,
    colour_weight: float,
    weight: F32 | None = None,
) -> tuple[float, F32, F32]:
    """The trainer's loss, and its gradients for the nets (density, colour) and the table."""
    a = activations(field, x, d)
    w0, w1, w2, w3 = matrices(field)
    each = np.full(len(x), 1 / len(x), np.float32) if weight is None else weight / len(x)
    alpha = 1 - np.exp(-sigma / field.density_scale)  # [N] over one step
    logit = a.geometry[:, 0]
    error = a.rgb - rgb
    per_point = softplus(logit) - alpha * logit + colour_weight * alpha * (error**2).sum(1)
    loss = float((per_point * each).sum(dtype=np.float64))

    d_logits = 2 * colour_weight * (each * alpha)[:, None] * error * a.rgb * (1 - a.rgb)
    d_logits = np.pad(d_logits, ((0, 0), (0, len(w3) - 3)))
    d_hidden1 = (d_logits @ w3) * (a.hidden1 > 0)
    d_geometry = (d_hidden1 @ w2)[:, :GEOMETRY]
    d_geometry[:, 0] += each * (sigmoid(logit) - alpha)
    d_hidden0 = (d_geometry @ w1) * (a.hidden0 > 0)
    d_encoded = (d_hidden0 @ w0).astype(np.float32)
    nets = [
        d_hidden0.T @ a.encoded,
        d_geometry.T @ a.hidden0,
        d_hidden1.T @ a.colour_in,
        d_logits.T @ a.hidden1,
    ]
    table = _table_gradient(field, normalised(field, x), d_encoded)
    return loss, np.concatenate([n.ravel() for n in nets]).astype(np.float32), table


def _table_gradient(field: HashField, u: F32, d_encoded: F32) -> F32:
    config = field.config
    gradient = np.zeros((config.n_params // config.features, config.features), np.float64)
    for level in range(config.levels):
        index, weight = corners(config, level, u)
        d_level = d_encoded[:, level * config.features : (level + 1) * config.features]
        np.add.at(gradient, config.offsets[level] + index, weight[..., None] * d_level[:, None])
    return gradient.astype(np.float32).ravel()


def adam_step(
    value: F32,
    gradient: F32,
    first: F32,
    second: F32,
    *,
    step: int,
    lr: float,
    beta1: float,
    beta2: float,
    epsilon: float,
) -> tuple[F32, F32, F32]:
    """One step of Adam (counted from 1) that leaves values without a gradient alone."""
    moved = gradient != 0
    first1 = np.where(moved, first * beta1 + gradient * (1 - beta1), first)
    second1 = np.where(moved, second * beta2 + gradient**2 * (1 - beta2), second)
    rate = lr * np.sqrt(1 - beta2**step) / (1 - beta1**step)
    value1 = np.where(moved, value - rate * first1 / (np.sqrt(second1) + epsilon), value)
    return value1.astype(np.float32), first1.astype(np.float32), second1.astype(np.float32)


class Trainer:
    """The compiled trainer's counterpart."""

    def __init__(self, initial: HashField) -> None:
        self._field = initial
        self._nets = np.concatenate([initial.density_mlp, initial.colour_mlp])
        self._table: F32 = np.asarray(initial.table, np.float32)
        self._moments = [np.zeros_like(a) for a in (self._nets,) * 2 + (self._table,) * 2]
        self._gradients = [np.zeros_like(self._nets), np.zeros_like(self._table)]
        self._steps = 0

    def run(
        self,
        x: F32,
        d: F32,
        sigma: F32,
        rgb: F32,
        weight: F32,
        step_m: float,
        colour_weight: float,
        lr: float,
        beta1: float,
        beta2: float,
        epsilon: float,
        threads: int,
    ) -> float:
        """The loss; a step of Adam unless `lr` is negative."""
        loss, *self._gradients = loss_and_gradients(
            self._field, x, d, sigma, rgb, colour_weight=colour_weight, weight=weight
        )
        if lr >= 0:
            self._steps += 1
            step = partial(
                adam_step, step=self._steps, lr=lr, beta1=beta1, beta2=beta2, epsilon=epsilon
            )
            start = self._field
            n1, n2, t1, t2 = self._moments
            nets_step = step(self._nets, self._gradients[0], n1, n2)
            table_step = step(self._table, self._gradients[1], t1, t2)
            self._nets, self._table = nets_step[0], table_step[0]
            self._moments = [*nets_step[1:], *table_step[1:]]
            split = start.density_mlp.size
            mlps = self._nets[:split], self._nets[split:]
            self._field = replace(start, table=self._table, density_mlp=mlps[0], colour_mlp=mlps[1])
        return loss

    def read(self, gradients: bool, table: F32, nets: F32) -> None:
        """Copies the parameters or their last gradients into the outputs."""
        nets[:] = self._gradients[0] if gradients else self._nets
        table[:] = self._gradients[1] if gradients else self._table
