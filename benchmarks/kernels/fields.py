"""Hash grid and nets at a million points, against torch."""

from __future__ import annotations

from typing import Any

import numpy as np

from benchmarks.kernels.people import Setting
from benchmarks.kernels.rows import Limit, Row
from benchmarks.kernels.skinning import require_torch
from benchmarks.kernels.timing import Call, interleave
from gas_rt.field.bake import shell_points
from gas_rt.kernels import HashField, HashGridConfig, field_forward
from gas_rt.kernels.hash_field import GEOMETRY, HIDDEN

__all__ = ["field_points", "flop_per_point"]

RATIO, NS_PER_POINT = 15.0, 100.0
CHUNK = 1 << 14  # points torch is given at a time; the fastest of 2^12 to 2^20
SIGMA_TOLERANCE, RGB_TOLERANCE = 1e-2, 2e-3  # the table's cells magnify a position's rounding


def field_points(setting: Setting) -> Row:
    """A million points of the canonical shell in random order, with the avatar's own field."""
    torch = require_torch(setting.threads)
    from benchmarks.kernels.torch_field import TorchField

    field = setting.avatar.field
    x, d = points_of(setting, 4096 if setting.quick else 1_000_000)
    peer_field = TorchField(field).eval()
    tx, td = torch.from_numpy(x), torch.from_numpy(d)

    def peer() -> tuple[Any, Any]:
        with torch.inference_mode():
            parts = [
                peer_field(a, b) for a, b in zip(tx.split(CHUNK), td.split(CHUNK), strict=True)
            ]
        return torch.cat([s for s, _ in parts]), torch.cat([c for _, c in parts])

    threads = setting.threads
    calls = {
        "ours": Call(lambda: field_forward(field, x, d, threads=threads), 5, warm_up=2),
        "one_core": Call(lambda: field_forward(field, x, d, threads=1), 3),
        "peer": Call(peer),
    }
    took = interleave(calls, rounds=1 if setting.quick else 7)
    sigma, rgb = field_forward(field, x, d, threads=threads)
    want_sigma, want_rgb = (t.numpy() for t in peer())
    relative = np.abs(sigma - want_sigma) / (np.abs(want_sigma) + 1.0)
    ours_ms = took["ours"].p50_ms
    ns = ours_ms * 1e6 / len(x) * threads
    return Row(
        name="field_points",
        against=f"the same field in torch {torch.__version__}, {CHUNK} points at a time",
        threads=threads,
        speed=[
            Limit("times faster", took["peer"].p50_ms / ours_ms, RATIO),
            Limit("ns per point and core", ns, NS_PER_POINT, at_least=False),
        ],
        correct=[
            Limit("density apart at most, relative", float(relative.max()), SIGMA_TOLERANCE, False),
            Limit(
                "colour apart at most", float(np.abs(rgb - want_rgb).max()), RGB_TOLERANCE, False
            ),
        ],
        ours=took["ours"],
        peer=took["peer"],
        peak=setting.peaks.share_of_flops(flop_per_point(field.config) * len(x), ours_ms, threads),
        details={
            "points": len(x),
            "one_core_ms": took["one_core"].as_dict(),
            "flop_per_point": flop_per_point(field.config),
            "table_mib": round(table_bytes(field) / 2**20, 2),
        },
    )


def points_of(setting: Setting, count: int) -> tuple[Any, Any]:
    """Points [N, 3] of the canonical shell and directions, as a bake draws them."""
    return shell_points(
        setting.model.parts.canonical_body(setting.avatar.radius_m),
        count,
        config=setting.bake,
        rng=np.random.default_rng(7),
    )


def flop_per_point(config: HashGridConfig) -> int:
    """Multiplications and additions that no implementation can leave out."""
    interpolation = config.levels * 8 * (config.features + 2)  # weights are products of two more
    density = HIDDEN * config.n_features + GEOMETRY * HIDDEN
    colour = HIDDEN * (GEOMETRY + 4) + 3 * HIDDEN
    return 2 * (interpolation + density + colour)


def table_bytes(field: HashField) -> int:
    """Of the hash grid, as the kernel reads it."""
    return field.table.nbytes
