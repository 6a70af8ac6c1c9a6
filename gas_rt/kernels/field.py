"""Evaluation of the avatar's canonical field."""

from __future__ import annotations

import numpy as np

from gas_rt.core import F32, checked
from gas_rt.kernels import twins
from gas_rt.kernels._backend import check_threads, use_twins
from gas_rt.kernels.hash_field import HashField

__all__ = ["field_density", "field_forward"]


def field_forward(field: HashField, x: F32, d: F32, *, threads: int = 1) -> tuple[F32, F32]:
    """Density and colour at canonical points.

    Parameters
    ----------
    x : [N, 3] metres, canonical.
    d : [N, 3] unit viewing directions, canonical.

    Returns
    -------
    sigma : [N] 1/m, never negative; does not depend on `d`.
    rgb : [N, 3] in [0, 1].
    """
    x = checked(x, "x", shape=(None, 3))
    d = checked(d, "d", shape=(len(x), 3))
    threads = check_threads(threads)
    if use_twins():
        return twins.field_forward(field, x, d, threads=threads)
    sigma, rgb = np.empty(len(x), np.float32), np.empty((len(x), 3), np.float32)
    field.compiled.forward(x, d, threads, sigma, rgb)
    return sigma, rgb


def field_density(field: HashField, x: F32, *, threads: int = 1) -> F32:
    """Density at canonical points [N, 3] alone, in 1/m."""
    x = checked(x, "x", shape=(None, 3))
    threads = check_threads(threads)
    if use_twins():
        return twins.field_density(field, x, threads=threads)
    sigma = np.empty(len(x), np.float32)
    field.compiled.density(x, threads, sigma)
    return sigma
