"""A field in tiny-cuda-nn's layout, evaluated a second time: point by point, from its flat vectors.

Written from the description of the format (grid.h, common_device.h and the README of tiny-cuda-nn),
not from this package: Python numbers, no arrays of indices, nothing shared with the kernels or with
their twins.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

PRIMES = (1, 2654435761, 805459861)
Vector = Sequence[float]


class Grid(NamedTuple):
    """``otype: HashGrid`` with its n_levels, n_features_per_level, ..."""

    levels: int
    features: int
    log2_hashmap_size: int
    base_resolution: int
    per_level_scale: float


def single(value: float) -> float:
    """Rounded to float32, as the GPU computes scales."""
    return float(np.float32(value))


def level_layout(grid: Grid) -> list[tuple[float, int, int, int]]:
    """Scale, resolution, entries and first entry of each level."""
    out, first = [], 0
    step = single(math.log2(single(grid.per_level_scale)))
    for level in range(grid.levels):
        growth = single(2.0 ** single(level * step))
        scale = single(single(growth * grid.base_resolution) - 1)
        resolution = math.ceil(scale) + 1
        entries = (resolution**3 + 7) // 8 * 8
        entries = min(entries, 2**grid.log2_hashmap_size)
        out.append((scale, resolution, entries, first))
        first += entries
    return out


def entry(cell: Sequence[int], resolution: int, entries: int) -> int:
    """Where a vertex of the grid is stored."""
    stride, index = 1, 0
    for coordinate in cell:
        if stride > entries:
            break
        index += coordinate * stride
        stride *= resolution
    if stride > entries:
        index = 0
        for coordinate, prime in zip(cell, PRIMES, strict=True):
            index ^= coordinate * prime % 2**32
    return index % entries


def encode(grid: Grid, table: Vector, u: Vector) -> list[float]:
    """The grid's features at u in [0, 1]^3, padded with 0 to a multiple of 16."""
    out = []
    for scale, resolution, entries, first in level_layout(grid):
        position = [scale * x + 0.5 for x in u]
        low = [math.floor(p) for p in position]
        sums = [0.0] * grid.features
        for corner in range(8):
            cell, weight = [], 1.0
            for axis in range(3):
                upper = corner >> axis & 1
                fraction = position[axis] - low[axis]
                cell.append(low[axis] + upper)
                weight *= fraction if upper else 1 - fraction
            at = (first + entry(cell, resolution, entries)) * grid.features
            for f in range(grid.features):
                sums[f] += weight * float(table[at + f])
        out += sums
    return out + [0.0] * (-len(out) % 16)


def layer(weights: Vector, inputs: Vector, outputs: int) -> list[float]:
    """A matrix [outputs, inputs], row-major, without biases."""
    n = len(inputs)
    return [
        math.fsum(float(weights[o * n + i]) * inputs[i] for i in range(n)) for o in range(outputs)
    ]


def mlp(params: Vector, inputs: Vector) -> list[float]:
    """One hidden layer of 32 ReLUs, 16 outputs."""
    hidden = [max(0.0, h) for h in layer(params, inputs, 32)]
    return layer(params[32 * len(inputs) :], hidden, 16)


def field(
    grid: Grid,
    density_and_grid: Vector,
    colour: Vector,
    *,
    u: Vector,
    direction: Vector,
    density_scale: float,
) -> tuple[float, list[float]]:
    """Density in 1/m and colour, from the flat params of the two modules."""
    padded = (grid.levels * grid.features + 15) // 16 * 16
    net_size = 32 * padded + 16 * 32  # the MLP comes first, then the grid
    features = encode(grid, density_and_grid[net_size:], u)
    geometry = mlp(density_and_grid[:net_size], features)
    sigma = density_scale * math.log1p(math.exp(geometry[0]))
    # Of a module without an encoding, the inputs are padded with 1.
    seen = mlp(colour, [*geometry, *direction, *[1.0] * 13])
    return sigma, [1 / (1 + math.exp(-logit)) for logit in seen[:3]]
