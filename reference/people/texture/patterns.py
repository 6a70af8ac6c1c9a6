"""Fabric patterns as functions of cloth coordinates."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray

from reference.people.outfit import Fabric

F32 = NDArray[np.float32]

__all__ = ["weave"]

EDGE_M = 0.005
"""Softness of a pattern's edges: about a texel, so that stripes do not alias."""


def _band(value: F32, period: float, share: float) -> F32:
    """1 in stripes of `share` of the `period`, with soft edges. [N] → [N]."""
    t = np.abs((value / period) % 1.0 - 0.5) * period
    return np.clip((share * period / 2 - t) / EDGE_M + 0.5, 0, 1).astype(np.float32)


def _mix(a: F32, b: tuple[float, float, float], alpha: F32) -> F32:
    return np.asarray(a + (np.array(b, np.float32) - a) * alpha[:, None], np.float32)


def weave(fabric: Fabric, u: F32, v: F32, noise: F32) -> F32:
    """Colours [N,3] at cloth coordinates u, v [N] metres; noise [N] in about [-1, 1]."""
    base = np.broadcast_to(np.array(fabric.base, np.float32), (len(u), 3)).copy()
    painter = PAINTERS.get(fabric.pattern)
    return base if painter is None else painter(fabric, base, u, v, noise)


def _stripes(f: Fabric, base: F32, u: F32, v: F32, noise: F32) -> F32:
    shifted = v + f.phase * f.scale_m
    colour = _mix(base, f.second, _band(shifted, 1.6 * f.scale_m, 0.5))
    if f.phase > 0.6:
        colour = _mix(colour, f.third, _band(shifted + 0.8 * f.scale_m, 3.2 * f.scale_m, 0.12))
    return colour


def _pinstripes(f: Fabric, base: F32, u: F32, v: F32, noise: F32) -> F32:
    return _mix(base, f.second, 0.8 * _band(u, 0.02 + 0.5 * f.scale_m, 0.2))


def _check(f: Fabric, base: F32, u: F32, v: F32, noise: F32) -> F32:
    across, along = _band(u, 1.6 * f.scale_m, 0.5), _band(v, 1.6 * f.scale_m, 0.5)
    return _mix(base, f.second, np.abs(across - along))


def _plaid(f: Fabric, base: F32, u: F32, v: F32, noise: F32) -> F32:
    period = 1.3 * f.scale_m + 0.02
    colour = _mix(base, f.second, 0.55 * _band(u, period, 0.4))
    colour = _mix(colour, f.second, 0.55 * _band(v, period, 0.4))
    colour = _mix(colour, f.third, 0.8 * _band(u + period / 2, period, 0.1))
    return _mix(colour, f.third, 0.8 * _band(v + period / 2, period, 0.1))


def _dots(f: Fabric, base: F32, u: F32, v: F32, noise: F32) -> F32:
    period = 1.1 * f.scale_m
    row = np.floor(v / period)
    du = ((u / period + 0.5 * (row % 2)) % 1.0 - 0.5) * period
    dv = (v / period - row - 0.5) * period
    radius = np.sqrt(du * du + dv * dv)
    return _mix(base, f.second, np.clip((0.3 * period - radius) / EDGE_M + 0.5, 0, 1))


def _gradient(f: Fabric, base: F32, u: F32, v: F32, noise: F32) -> F32:
    low, high = np.percentile(v, [5, 95])
    t = np.clip((v - low) / max(high - low, 0.05), 0, 1)
    return _mix(base, f.second, t.astype(np.float32))


def _block(f: Fabric, base: F32, u: F32, v: F32, noise: F32) -> F32:
    high = np.percentile(v, 97)
    edge = high - 0.12 - 0.22 * f.phase
    colour = _mix(base, f.second, np.clip((v - edge) / EDGE_M, 0, 1))
    if f.scale_m > 0.05:
        colour = _mix(colour, f.third, _band(v - edge + 0.25, 0.5, 0.07))
    return colour


def _camo(f: Fabric, base: F32, u: F32, v: F32, noise: F32) -> F32:
    dark = tuple(0.55 * c for c in f.base)
    colour = _mix(base, (dark[0], dark[1], dark[2]), np.clip((noise - 0.12) * 12, 0, 1))
    return _mix(colour, f.second, 0.7 * np.clip((-noise - 0.18) * 12, 0, 1))


def _diagonal(f: Fabric, base: F32, u: F32, v: F32, noise: F32) -> F32:
    if f.phase < 0.5:
        sash = np.clip((0.5 * f.scale_m + 0.03 - np.abs(u + 0.7 * (v - v.mean()))) / EDGE_M, 0, 1)
        return _mix(base, f.second, sash.astype(np.float32))
    return _mix(base, f.second, _band(u + v, 2 * f.scale_m, 0.45))


def _halves(f: Fabric, base: F32, u: F32, v: F32, noise: F32) -> F32:
    return _mix(base, f.second, np.clip(u / EDGE_M + 0.5, 0, 1).astype(np.float32))


def _zigzag(f: Fabric, base: F32, u: F32, v: F32, noise: F32) -> F32:
    wave = np.abs((u / (1.4 * f.scale_m)) % 1.0 - 0.5) * f.scale_m
    return _mix(base, f.second, _band(v + wave, 1.5 * f.scale_m, 0.45))


def _flowers(f: Fabric, base: F32, u: F32, v: F32, noise: F32) -> F32:
    period = 1.3 * f.scale_m
    cell_u, cell_v = np.floor(u / period), np.floor(v / period)
    key = np.sin(cell_u * 12.9898 + cell_v * 78.233 + f.phase) * 43758.5453
    jitter = (key - np.floor(key) - 0.5) * 0.4
    du = (u / period - cell_u - 0.5 + jitter) * period
    dv = (v / period - cell_v - 0.5 - jitter) * period
    radius = np.sqrt(du * du + dv * dv)
    petals = period * (0.26 + 0.08 * np.cos(5 * np.arctan2(dv, du)))
    colour = _mix(base, f.second, np.clip((petals - radius) / EDGE_M + 0.5, 0, 1))
    return _mix(colour, f.third, np.clip((0.1 * period - radius) / EDGE_M + 0.5, 0, 1))


def _denim(f: Fabric, base: F32, u: F32, v: F32, noise: F32) -> F32:
    low, high = np.percentile(v, [2, 98])
    t = (v - low) / max(high - low, 0.05)
    # Worn thighs and knees are paler than seams and hems.
    worn = np.exp(-(((t - 0.62) / 0.22) ** 2)) + 0.5 * np.exp(-(((t - 0.4) / 0.1) ** 2))
    gain = 1 + (0.28 * f.phase + 0.1) * worn * np.exp(-((u / 0.35) ** 2)) + 0.05 * noise
    return np.clip(base * gain[:, None].astype(np.float32), 0, 1)


PAINTERS: dict[str, Callable[[Fabric, F32, F32, F32, F32], F32]] = {
    "stripes": _stripes,
    "pinstripes": _pinstripes,
    "check": _check,
    "plaid": _plaid,
    "dots": _dots,
    "gradient": _gradient,
    "block": _block,
    "camo": _camo,
    "diagonal": _diagonal,
    "halves": _halves,
    "zigzag": _zigzag,
    "flowers": _flowers,
    "denim": _denim,
}
