"""NumPy twin of the hash-grid field: encoding, nets, loss and gradients, Adam."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from gas_rt.core import F32
from gas_rt.kernels.field import COLOUR_PAD_VALUE, COLOUR_PADDED, GEOMETRY, HIDDEN, HashField
from gas_rt.kernels.hash_grid import HashGridConfig

__all__ = ["adam_step", "field_forward", "hash_encode", "loss_and_gradients"]

PRIMES = np.array([1, 2654435761, 805459861], np.uint32)


def normalised(field: HashField, x: F32) -> F32:
    """Canonical points [N, 3] in the box's coordinates, clamped to [0, 1]."""
    return np.clip((x - field.lo) / (field.hi - field.lo), 0, 1).astype(np.float32)


def corners(config: HashGridConfig, level: int, u: F32) -> tuple[NDArray[np.int64], F32]:
    """Entries [N, 8] around box coordinates [N, 3] in one level, and their weights [N, 8]."""
    position = u * config.scales[level] + np.float32(0.5)  # [N, 3]
    cell = np.floor(position)
    fraction = (position - cell).astype(np.float32)
    bits = (np.arange(8)[:, None] >> np.arange(3)) & 1  # [8, 3]
    vertex = cell.astype(np.uint32)[:, None] + bits.astype(np.uint32)  # [N, 8, 3]
    resolution, size = int(config.resolutions[level]), int(config.sizes[level])
    if config.hashed[level]:
        spread = vertex * PRIMES
        index = (spread[..., 0] ^ spread[..., 1] ^ spread[..., 2]).astype(np.int64) % size
    else:
        strides = np.array([1, resolution, resolution**2], np.int64)
        index = (vertex.astype(np.int64) @ strides) % size
    sides = np.where(bits == 1, fraction[:, None], 1 - fraction[:, None])  # [N, 8, 3]
    return index, sides.prod(-1).astype(np.float32)


def hash_encode(config: HashGridConfig, table: F32, u: F32) -> F32:
    """Features [N, levels * features] at box coordinates [N, 3]."""
    features = []
    for level in range(config.levels):
        index, weight = corners(config, level, u)
        entries = table.reshape(-1, config.features)[config.offsets[level] + index]  # [N, 8, F]
        features.append((entries * weight[..., None]).sum(1))
    return np.concatenate(features, 1).astype(np.float32)


@dataclass(frozen=True, eq=False)
class Activations:
    """Everything the backward pass needs, [N, channels] each."""

    encoded: F32
    hidden0: F32
    geometry: F32
    colour_in: F32
    hidden1: F32
    rgb: F32


def matrices(field: HashField) -> tuple[F32, F32, F32, F32]:
    """The four matrices [out, in] of the nets."""
    split = HIDDEN * field.config.n_padded
    return (
        field.density_mlp[:split].reshape(HIDDEN, -1),
        field.density_mlp[split:].reshape(GEOMETRY, HIDDEN),
        field.colour_mlp[: HIDDEN * COLOUR_PADDED].reshape(HIDDEN, COLOUR_PADDED),
        field.colour_mlp[HIDDEN * COLOUR_PADDED :].reshape(-1, HIDDEN),
    )


def activations(field: HashField, x: F32, d: F32) -> Activations:
    """The forward pass."""
    w0, w1, w2, w3 = matrices(field)
    features = hash_encode(field.config, field.table, normalised(field, x))
    encoded = np.pad(features, ((0, 0), (0, field.config.n_padded - features.shape[1])))
    hidden0 = np.maximum(encoded @ w0.T, 0)
    geometry = hidden0 @ w1.T
    padding = np.full((len(x), COLOUR_PADDED - GEOMETRY - 3), COLOUR_PAD_VALUE, np.float32)
    colour_in = np.concatenate([geometry, d, padding], 1)
    hidden1 = np.maximum(colour_in @ w2.T, 0)
    logits = (hidden1 @ w3.T)[:, :3]
    return Activations(encoded, hidden0, geometry, colour_in, hidden1, sigmoid(logits))


def sigmoid(x: F32) -> F32:
    """1 / (1 + e^-x) without overflow."""
    small = np.exp(-np.abs(x))
    return np.where(x >= 0, 1 / (1 + small), small / (1 + small)).astype(np.float32)


def softplus(x: F32) -> F32:
    """log(1 + e^x) without overflow."""
    return (np.maximum(x, 0) + np.log1p(np.exp(-np.abs(x)))).astype(np.float32)


def field_forward(field: HashField, x: F32, d: F32, *, threads: int = 1) -> tuple[F32, F32]:
    """Density [N] in 1/m and colour [N, 3] at canonical points; `threads` is not used."""
    a = activations(field, x, d)
    return field.density_scale * softplus(a.geometry[:, 0]), a.rgb


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
    d_encoded = d_hidden0 @ w0
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
    beta1: float = 0.9,
    beta2: float = 0.99,
    epsilon: float = 1e-15,
) -> tuple[F32, F32, F32]:
    """One step of Adam (counted from 1) that leaves values without a gradient alone."""
    moved = gradient != 0
    first1 = np.where(moved, first * beta1 + gradient * (1 - beta1), first)
    second1 = np.where(moved, second * beta2 + gradient**2 * (1 - beta2), second)
    rate = lr * np.sqrt(1 - beta2**step) / (1 - beta1**step)
    value1 = np.where(moved, value - rate * first1 / (np.sqrt(second1) + epsilon), value)
    return value1.astype(np.float32), first1.astype(np.float32), second1.astype(np.float32)
