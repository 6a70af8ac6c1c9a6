"""Which implementation the faces call: the compiled kernels, or their NumPy twins by choice."""

from __future__ import annotations

import os
from typing import Any

import numpy as np
from numpy.typing import NDArray

from gas_rt.core import Camera, checked
from gas_rt.errors import BackendError, InputError, ShapeError

_load_error: ImportError | None = None
try:
    from gas_rt.kernels import _native as native
except ImportError as error:  # reported when a kernel is used, since the twins may be chosen
    native = None  # type: ignore[assignment]
    _load_error = error

__all__ = [
    "check_indices",
    "check_rows",
    "check_threads",
    "kernel_isa",
    "native",
    "native_camera",
    "stacked",
    "use_twins",
]

VARIABLE = "GAS_RT_KERNELS"


def use_twins() -> bool:
    """Whether ``GAS_RT_KERNELS=numpy`` chose the NumPy twins; the default is ``native``.

    Raises
    ------
    BackendError : the compiled kernels are to run and could not be loaded.
    """
    choice = os.environ.get(VARIABLE) or "native"
    if choice not in {"native", "numpy"}:
        raise InputError(
            f"{VARIABLE}: expected native or numpy, got {choice!r}; unset or correct it"
        )
    if choice == "native" and _load_error is not None:
        raise BackendError(
            f"gas_rt.kernels: the compiled kernels cannot be loaded ({_load_error}); build them "
            "with `python setup.py build_ext --inplace` or install the package, or choose the "
            f"slow NumPy twins with {VARIABLE}=numpy"
        ) from _load_error
    return choice == "numpy"


def kernel_isa() -> str:
    """What runs: ``numpy``, or the instruction set of the compiled kernels."""
    return "numpy" if use_twins() else native.isa


def native_camera(camera: Camera) -> native.Camera:
    """The camera as the compiled kernels take it."""
    return native.Camera(
        camera.intrinsics, camera.rotation, camera.translation, camera.width, camera.height
    )


def check_threads(threads: int) -> int:
    """A thread count, checked."""
    if isinstance(threads, bool) or not isinstance(threads, int | np.integer) or threads < 1:
        raise InputError(f"threads: expected an integer of at least 1, got {threads!r}")
    return min(int(threads), 1024)


def stacked(
    value: Any, name: str, *, shape: tuple[int | None, ...]
) -> tuple[NDArray[np.float32], bool]:
    """`value` [B, *shape], B poses, and whether the caller gave that axis; without it B is 1."""
    try:
        batched = np.ndim(value) == len(shape) + 1
    except (TypeError, ValueError):
        batched = False  # no array: `checked` says so
    array = checked(value, name, shape=(None, *shape) if batched else shape)
    return array if batched else array[None], batched


def check_rows(value: NDArray[Any], name: str, *, rows: int, like: str) -> None:
    """Raise unless the array has as many rows as the one called `like`."""
    if len(value) != rows:
        raise ShapeError(f"{name}: expected {rows} rows like {like}, got {len(value)}")


def check_indices(
    value: NDArray[np.int32], name: str, *, count: int, of: str, lowest: int = 0
) -> None:
    """Raise unless every index is in ``lowest .. count - 1``."""
    if value.size == 0:
        return
    low, high = int(value.min()), int(value.max())
    if low < lowest or high >= count:
        worst = low if low < lowest else high
        raise ShapeError(
            f"{name}: index {worst} is out of range, expected {lowest}..{count - 1} "
            f"for {count} {of}"
        )
