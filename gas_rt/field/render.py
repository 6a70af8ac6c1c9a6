"""The field seen by a camera: exact (the teacher), baked (same samples), fast (culled)."""

from __future__ import annotations

from typing import Literal, get_args

import numpy as np

from gas_rt.core import F32, U8, Camera
from gas_rt.errors import InputError
from gas_rt.field.teacher import Teacher
from gas_rt.kernels import HashField, Occupancy, PosedShell, composite, march, march_samples

__all__ = ["RenderMode", "as_bytes", "check_mode", "render_baked", "render_exact", "to_uint8"]

RenderMode = Literal["exact", "baked", "fast"]


def check_mode(mode: str) -> RenderMode:
    """`mode` if there is such a render mode."""
    if mode not in get_args(RenderMode):
        raise InputError(f"mode: expected one of {list(get_args(RenderMode))}, got {mode!r}")
    return mode  # type: ignore[return-value]


def render_exact(
    teacher: Teacher, shell: PosedShell, camera: Camera, *, samples: int, threads: int
) -> tuple[F32, F32]:
    """rgb [H, W, 3] premultiplied over black and alpha [H, W], every sample by the teacher."""
    packed = march_samples(shell, camera, samples=samples, threads=threads)
    sigma, rgb = teacher.query(
        packed.canonical, packed.direction_canonical, fallback_id=packed.vertex_id
    )
    return composite(packed, sigma, rgb)


def render_baked(
    field: HashField,
    shell: PosedShell,
    camera: Camera,
    *,
    mode: RenderMode,
    samples: int,
    occupancy: Occupancy | None,
    half_resolution: bool = False,
    threads: int,
) -> tuple[F32, F32]:
    """As `render_exact`, from the hash grid; `half_resolution` as of `march`."""
    assert mode != "exact"
    return march(
        shell,
        field,
        camera,
        samples=samples,
        mode=mode,
        occupancy=occupancy if mode == "fast" else None,
        half_resolution=half_resolution,
        threads=threads,
    )


def as_bytes(values: F32, out: U8 | None = None) -> U8:
    """Floats in [0, 1] rounded to uint8; what lies outside is clipped."""
    scaled = values * np.float32(255)
    scaled += np.float32(0.5)
    np.clip(scaled, 0, 255, out=scaled)
    made = np.empty(values.shape, np.uint8) if out is None else out
    np.copyto(made, scaled, casting="unsafe")
    return made


def to_uint8(rgb: F32, alpha: F32, out: tuple[U8, U8] | None = None) -> tuple[U8, U8]:
    """Colour and coverage rounded to uint8; in `out` if it is given."""
    rgb_out, alpha_out = out or (None, None)
    return as_bytes(rgb, rgb_out), as_bytes(alpha, alpha_out)
