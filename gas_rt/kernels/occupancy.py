"""Which cells of a field's box may hold density: what the fast march skips."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from gas_rt.core import U8, checked
from gas_rt.errors import InputError
from gas_rt.kernels.field import field_density
from gas_rt.kernels.hash_field import HashField
from gas_rt.kernels.shell import PosedShell

__all__ = ["Occupancy", "occupancy"]

# 1/m: half a percent of opacity per centimetre.
THRESHOLD = 0.5
RESOLUTIONS = (4, 512)
# Points per cell and axis at which density is looked for, evenly spaced.
PROBES = 2


@dataclass(frozen=True, eq=False)
class Occupancy:
    """A bitfield over a field's box.

    Parameters
    ----------
    bits : [ceil(resolution**3 / 8)] uint8; cell (x, y, z) is bit
        ``x + resolution * (y + resolution * z)``, the lowest bit of a byte first.
    resolution : cells per axis.
    """

    bits: U8
    resolution: int

    def __post_init__(self) -> None:
        low, high = RESOLUTIONS
        if not isinstance(self.resolution, int | np.integer) or not low <= self.resolution <= high:
            raise InputError(
                f"Occupancy.resolution: expected {low}..{high} cells per axis, "
                f"got {self.resolution!r}"
            )
        size = (int(self.resolution) ** 3 + 7) // 8
        bits = checked(self.bits, "Occupancy.bits", shape=(size,), dtype=np.uint8)
        object.__setattr__(self, "bits", bits)

    def cells(self) -> NDArray[np.bool_]:
        """[z, y, x] whether a cell may hold density."""
        n = self.resolution
        flat = np.unpackbits(self.bits, count=n**3, bitorder="little")
        return flat.reshape(n, n, n).astype(bool)


def occupancy(
    field: HashField,
    *,
    resolution: int = 128,
    threshold: float = THRESHOLD,
    shell: PosedShell | None = None,
    threads: int = 1,
) -> Occupancy:
    """The cells where the density exceeds `threshold` (1/m), and those half a cell around.

    Density is looked for at `PROBES` points per cell and axis; a cell is full if it has such a
    point or is next to one of a neighbour's. Whole neighbours would be a seventh more samples.

    Parameters
    ----------
    shell : the body's shell in the canonical pose; cells outside it are empty. The radius it was
        made with should exceed the posed shells', since skinning stretches. None looks everywhere.
    """
    low, high = RESOLUTIONS
    if not low <= resolution <= high:
        raise InputError(f"resolution: expected {low}..{high} cells per axis, got {resolution}")
    if not threshold >= 0:
        raise InputError(f"threshold: expected at least 0 per metre, got {threshold}")
    line = (np.arange(resolution * PROBES, dtype=np.float32) + 0.5) / (resolution * PROBES)
    x, y = (field.lo[d] + line * (field.hi[d] - field.lo[d]) for d in (0, 1))
    dense = np.zeros((len(line),) * 3, bool)  # [z, y, x]
    plane = np.stack([*np.meshgrid(x, y), np.empty((len(line),) * 2, np.float32)], -1)
    for layer, height in enumerate(line):  # a layer at a time, to bound memory
        plane[..., 2] = field.lo[2] + height * (field.hi[2] - field.lo[2])
        points = plane.reshape(-1, 3)
        near = np.arange(len(points))
        if shell is not None:
            near = np.flatnonzero(shell.query(points)[0] >= 0)
        hits = near[field_density(field, points[near], threads=threads) > threshold]
        dense.reshape(len(line), -1)[layer, hits] = True
    for axis in range(3):
        dense = _pooled(_widened(dense, axis), axis)
    return Occupancy(np.packbits(dense.ravel(), bitorder="little"), resolution)


def _widened(points: NDArray[np.bool_], axis: int) -> NDArray[np.bool_]:
    """Each point or either neighbour along `axis`."""
    along = (slice(None),) * axis
    later, earlier = (*along, slice(1, None)), (*along, slice(None, -1))
    out = points.copy()
    out[later] |= points[earlier]
    out[earlier] |= points[later]
    return out


def _pooled(points: NDArray[np.bool_], axis: int) -> NDArray[np.bool_]:
    """Whether a cell has a point, along `axis`."""
    shape = points.shape
    split = points.reshape(*shape[:axis], shape[axis] // PROBES, PROBES, *shape[axis + 1 :])
    cells: NDArray[np.bool_] = np.logical_or.reduce(split, axis=axis + 1)
    return cells
