"""NumPy twin of the hash-grid field."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from gas_rt.core import F32
from gas_rt.kernels.hash_field import (
    COLOUR_PAD_VALUE,
    COLOUR_PADDED,
    GEOMETRY,
    HIDDEN,
    HashField,
)
from gas_rt.kernels.hash_grid import HashGridConfig

__all__ = ["field_density", "field_forward", "hash_encode"]

PRIMES = np.array([1, 2654435761, 805459861], np.uint32)


def normalised(field: HashField, x: F32) -> F32:
    """Canonical points [N, 3] in the box's coordinates, clamped to [0, 1]."""
    # fmin and fmax take NaN, which a map of huge entries can make, to the box's surface.
    u: F32 = (x - field.lo) * (np.float32(1) / (field.hi - field.lo))
    return np.fmin(np.fmax(u, np.float32(0)), np.float32(1))


def corners(config: HashGridConfig, level: int, u: F32) -> tuple[NDArray[np.int64], F32]:
    """Entries [N, 8] around box coordinates [N, 3] in one level, and their weights [N, 8]."""
    # Rounded once, as a fused multiply-add: fine levels have thousands of cells per unit.
    position = (u * config.scales[level].astype(np.float64) + 0.5).astype(np.float32)  # [N, 3]
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


def hash_encode(config: HashGridConfig, table: NDArray[Any], u: F32) -> F32:
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


def field_forward(field: HashField, x: F32, d: F32, *, threads: int) -> tuple[F32, F32]:
    """Density [N] in 1/m and colour [N, 3] at canonical points."""
    a = activations(field, x, d)
    return field.density_scale * softplus(a.geometry[:, 0]), a.rgb


def field_density(field: HashField, x: F32, *, threads: int) -> F32:
    """Density [N] in 1/m at canonical points."""
    return field.density_scale * softplus(activations(field, x, np.zeros_like(x)).geometry[:, 0])
