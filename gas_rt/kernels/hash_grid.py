"""The multiresolution hash grid's layout, as tiny-cuda-nn defines it."""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
from numpy.typing import NDArray

from gas_rt.errors import InputError

__all__ = ["HashGridConfig"]

ENTRY_ALIGNMENT = 8
MLP_PADDING = 16
LIMITS = {
    "levels": (1, 32),
    "log2_table": (3, 24),
    "base_resolution": (2, 1024),
}
FEATURES = (1, 2, 4, 8)
MAX_INPUT = 64


@dataclass(frozen=True)
class HashGridConfig:
    """Sizes of a hash grid, in tiny-cuda-nn's parameter layout ``[level][entry][feature]``.

    Level l has ``scale = base_resolution * per_level_scale**l - 1`` cells per unit and
    ``ceil(scale) + 1`` vertices per axis. It is stored densely when all its vertices fit into
    ``2**log2_table`` entries and hashed otherwise.

    Parameters
    ----------
    levels : number of resolutions.
    features : values per entry: 1, 2, 4 or 8.
    log2_table : entries per level at most, as a power of two.
    base_resolution : vertices per axis of the coarsest level.
    per_level_scale : growth of the resolution from level to level.
    """

    levels: int = 8
    features: int = 4
    log2_table: int = 15
    base_resolution: int = 16
    per_level_scale: float = 1.6

    def __post_init__(self) -> None:
        for name, (low, high) in LIMITS.items():
            value = getattr(self, name)
            if not isinstance(value, int | np.integer) or not low <= value <= high:
                raise InputError(f"HashGridConfig.{name}: expected {low}..{high}, got {value!r}")
        if self.features not in FEATURES:
            raise InputError(
                f"HashGridConfig.features: expected one of {FEATURES}, got {self.features}"
            )
        if not (math.isfinite(self.per_level_scale) and 1.0 <= self.per_level_scale <= 4.0):
            raise InputError(
                f"HashGridConfig.per_level_scale: expected 1..4, got {self.per_level_scale}"
            )
        if self.resolutions[-1] > 1 << 19:
            raise InputError(
                f"HashGridConfig: the finest level has {self.resolutions[-1]} vertices per axis; "
                "lower levels or per_level_scale until it has at most 524288"
            )

    @cached_property
    def scales(self) -> NDArray[np.float32]:
        """[L] cells per unit length; the position in a level is ``scale * x + 0.5``."""
        # tiny-cuda-nn evaluates exp2f(level * log2f(per_level_scale)) in single precision, and the
        # ceil of the result decides the layout: round where it rounds.
        log2_scale = np.float32(math.log2(np.float32(self.per_level_scale)))
        growth = [
            np.float32(2.0 ** float(np.float32(lv) * log2_scale)) for lv in range(self.levels)
        ]
        base = np.float32(self.base_resolution)
        return np.array([g * base - np.float32(1) for g in growth], np.float32)

    @cached_property
    def resolutions(self) -> NDArray[np.int64]:
        """[L] vertices per axis."""
        return np.ceil(self.scales).astype(np.int64) + 1

    @cached_property
    def sizes(self) -> NDArray[np.int64]:
        """[L] entries stored per level."""
        dense = [int(r) ** 3 for r in self.resolutions]
        aligned = [-(-n // ENTRY_ALIGNMENT) * ENTRY_ALIGNMENT for n in dense]
        return np.array([min(n, 1 << self.log2_table) for n in aligned], np.int64)

    @cached_property
    def offsets(self) -> NDArray[np.int64]:
        """[L + 1] first entry of each level, then the total."""
        return np.concatenate([[0], np.cumsum(self.sizes)]).astype(np.int64)

    @cached_property
    def hashed(self) -> NDArray[np.bool_]:
        """[L] whether the level is hashed (its vertices do not fit)."""
        return np.array(
            [int(r) ** 3 > int(n) for r, n in zip(self.resolutions, self.sizes, strict=True)]
        )

    @property
    def n_params(self) -> int:
        """Number of values in the table."""
        return int(self.offsets[-1]) * self.features

    @property
    def n_features(self) -> int:
        """Length of the encoding."""
        return self.levels * self.features

    @property
    def n_padded(self) -> int:
        """Length of the encoding padded with zeros for the density net."""
        return -(-self.n_features // MLP_PADDING) * MLP_PADDING

    def as_dict(self) -> dict[str, Any]:
        """Plain values for a bundle or an avatar file; ``HashGridConfig(**d)`` reads them back."""
        return {
            "levels": int(self.levels),
            "features": int(self.features),
            "log2_table": int(self.log2_table),
            "base_resolution": int(self.base_resolution),
            "per_level_scale": float(self.per_level_scale),
        }
