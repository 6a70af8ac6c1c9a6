"""The parameters of the avatar's canonical field: a hash grid, a density net, a colour net."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import Any

import numpy as np
from numpy.typing import NDArray

from gas_rt.core import F32, checked
from gas_rt.errors import InputError, ShapeError
from gas_rt.kernels._backend import native
from gas_rt.kernels.hash_grid import HashGridConfig

__all__ = ["DENSITY_SCALE", "HashField", "density_mlp_size"]

HIDDEN = 32
GEOMETRY = 16
COLOUR_PADDED = 32
OUT_PADDED = 16
COLOUR_PAD_VALUE = 1.0
# 1/m: over 1 cm, about the spacing of the march's samples, opacity is then sigmoid(logit).
DENSITY_SCALE = 100.0
# Beyond these sides of a box, positions in it are lost to rounding.
EXTENT_M = (1e-3, 1e4)
COLOUR_MLP_SIZE = HIDDEN * COLOUR_PADDED + OUT_PADDED * HIDDEN


def name_of_dtype(value: Any) -> str:
    """Of an array, "" of anything else."""
    return str(getattr(value, "dtype", ""))


def density_mlp_size(config: HashGridConfig) -> int:
    """Number of values in the density net."""
    return HIDDEN * config.n_padded + GEOMETRY * HIDDEN


@dataclass(frozen=True, eq=False)
class HashField:
    """Frozen parameters of a canonical field, in tiny-cuda-nn's layouts.

    A point is normalised to the box, clamped to it, and encoded by the grid (padded with 0 to a
    multiple of 16). The density net gives 16 values, ``sigma = density_scale * softplus(out[0])``.
    The colour net sees those 16, the direction, and 13 inputs that are constantly 1; sigmoid. Both
    nets have one hidden layer of 32 ReLUs and no biases. Softplus is never negative, falls to
    1e-4 / m at a logit of -14, and makes opacity over ``1 / density_scale`` the logit's sigmoid, so
    that a bake is a well-conditioned regression from empty to solid.

    Parameters
    ----------
    table : [config.n_params], level, entry, feature; float32 or float16, which is kept: a table
        of halves takes half the memory and is widened where it is read, so both evaluate alike.
    density_mlp : [32 * n_padded + 16 * 32], row-major (out, in) matrices.
    colour_mlp : [32 * 32 + 16 * 32], as above; rows 3.. of the last matrix are not used.
    lo, hi : [3] metres, corners of the box.
    density_scale : 1/m.
    """

    config: HashGridConfig
    table: F32 | NDArray[np.float16]
    density_mlp: F32
    colour_mlp: F32
    lo: F32
    hi: F32
    density_scale: float = field(default=DENSITY_SCALE, kw_only=True)

    def __post_init__(self) -> None:
        config = self.config
        shapes = {
            "table": config.n_params,
            "density_mlp": density_mlp_size(config),
            "colour_mlp": COLOUR_MLP_SIZE,
            "lo": 3,
            "hi": 3,
        }
        is_half = name_of_dtype(self.table) == "float16"
        for name, size in shapes.items():
            dtype = np.float16 if is_half and name == "table" else np.float32
            value = getattr(self, name)
            array = checked(value, f"HashField.{name}", shape=(size,), dtype=dtype)
            object.__setattr__(self, name, array)
        low, high = EXTENT_M
        extent = self.hi.astype(np.float64) - self.lo
        if not ((extent >= low) & (extent <= high)).all():
            raise ShapeError(
                f"HashField.hi: expected {low:g}..{high:g} m more than lo on every axis, got "
                f"{self.lo.tolist()} to {self.hi.tolist()}"
            )
        if not 0 < self.density_scale < 1e6:
            raise InputError(
                f"HashField.density_scale: expected 0..1e6 per metre, got {self.density_scale}"
            )

    @classmethod
    def from_tcnn(
        cls,
        config: HashGridConfig,
        density_and_grid: NDArray[Any],
        colour: NDArray[Any],
        *,
        lo: F32,
        hi: F32,
        density_scale: float = DENSITY_SCALE,
    ) -> HashField:
        """Read the flat ``params`` of tiny-cuda-nn modules, float16 or float32.

        Parameters
        ----------
        density_and_grid : [density net, then table], a ``NetworkWithInputEncoding``'s; of
            float16, the table stays so.
        colour : [32 * 32 + 16 * 32], a ``Network``'s.
        """
        split = density_mlp_size(config)
        flat = checked(
            density_and_grid,
            "density_and_grid",
            shape=(split + config.n_params,),
            dtype=np.float16 if name_of_dtype(density_and_grid) == "float16" else np.float32,
        )
        colour = checked(colour, "colour", shape=(COLOUR_MLP_SIZE,))
        return cls(config, flat[split:], flat[:split], colour, lo, hi, density_scale=density_scale)

    def tcnn_params(self) -> F32:
        """The flat ``[MLP | grid]`` vector that `from_tcnn` reads."""
        return np.concatenate([self.density_mlp, self.table], dtype=np.float32)

    def halved(self) -> HashField:
        """The field with its table rounded to float16: half the memory, entries to 5e-4 of them."""
        with np.errstate(over="ignore"):
            table = self.table.astype(np.float16)
        if not np.isfinite(table).all():
            peak = float(np.abs(self.table).max())
            raise InputError(f"HashField.table: {peak:g} exceeds float16; keep it in float32")
        return replace(self, table=table)

    def arrays(self) -> dict[str, NDArray[Any]]:
        """What a file stores. `from_arrays` reads it back."""
        return {
            "table": self.table,
            "density_mlp": self.density_mlp,
            "colour_mlp": self.colour_mlp,
            "box": np.stack([self.lo, self.hi]),
            "density_scale": np.array([self.density_scale], np.float32),
        }

    @classmethod
    def from_arrays(cls, config: HashGridConfig, arrays: dict[str, NDArray[Any]]) -> HashField:
        """The field that `arrays` described."""
        missing = {"table", "density_mlp", "colour_mlp", "box", "density_scale"} - arrays.keys()
        if missing:
            raise InputError(f"HashField: missing {sorted(missing)}, found {sorted(arrays)}")
        lo, hi = checked(arrays["box"], "box", shape=(2, 3))
        scale = checked(arrays["density_scale"], "density_scale", shape=(1,))
        mlps = arrays["density_mlp"], arrays["colour_mlp"]
        return cls(config, arrays["table"], *mlps, lo, hi, density_scale=float(scale[0]))

    @cached_property
    def compiled(self) -> native.Field:
        """The compiled kernels' copy of the parameters, made on first use."""
        config = self.config
        return native.Field(
            config.scales.tolist(),
            config.resolutions.tolist(),
            config.sizes.tolist(),
            config.features,
            self.table,
            np.concatenate([self.density_mlp, self.colour_mlp]),
            self.lo.tolist(),
            self.hi.tolist(),
            self.density_scale,
        )
