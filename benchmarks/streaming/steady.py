"""Steady streams: what pipelining brings, and what the cheap wins do."""

from __future__ import annotations

import statistics
from collections.abc import Callable, Iterable
from functools import partial
from typing import Any

from benchmarks.reporting import row
from benchmarks.streaming.setting import Setting, still_with_noise
from gas_rt.bench.drive import Recording

__all__ = ["cheap_wins", "pipelining"]

# Of what all cores could do if nobody ever waited.
REQUIRED_USE = 0.9
# A flag that is meant to save may cost no more than what two runs differ by.
REQUIRED_WIN = 0.97
TREMBLE_RAD = 0.004
SKIP_RAD = 0.02


def pipelining(setting: Setting) -> list[dict[str, Any]]:
    """Stages on their own threads against one thread at its best, in turns."""
    off = {
        f"one thread, budget {threads}": partial(
            setting.session, threads=threads, on_late="lossless", pipelined=False
        )
        for threads in range(1, setting.cores + 1)
    }
    on = "pipelined"
    found = setting.in_turns({on: partial(setting.session, on_late="lossless"), **off})
    fps = {name: median(r.fps for r in turns) for name, turns in found.items()}
    core_s = {name: median(r.core_s_per_frame for r in turns) for name, turns in found.items()}
    best = max(off, key=lambda name: fps[name])
    further = {
        "fps": {name: round(value, 3) for name, value in fps.items()},
        "core_s_per_frame": {name: round(value, 6) for name, value in core_s.items()},
        "rounds_fps": {name: _rates(turns) for name, turns in found.items()},
    }
    return [
        row(
            "pipelining_use_of_cores",
            fps[on],
            setting.cores / core_s[on],
            "fps, against cores / core-seconds a frame",
            required=REQUIRED_USE,
            more_is_better=True,
            judged=not setting.quick,
            **further,
        ),
        row(
            "pipelining_on_off",
            fps[on],
            fps[best],
            f"fps, against {best}",
            required=1.0,
            more_is_better=True,
            judged=not setting.quick,
        ),
    ]


def cheap_wins(setting: Setting) -> list[dict[str, Any]]:
    """Core-seconds per frame with each flag that sessions have, against those without."""
    still = partial(still_with_noise, setting.poses, TREMBLE_RAD)
    wins: list[tuple[str, dict[str, Any], Callable[[], Any]]] = [
        ("half_field", {"half_field": True}, setting.requests),
        ("skip_below_rad", {"skip_below_rad": SKIP_RAD}, still),
    ]
    return [_win(setting, *win) for win in wins]


def _win(
    setting: Setting, flag: str, given: dict[str, Any], requests: Callable[[], Any]
) -> dict[str, Any]:
    without = partial(setting.session, on_late="lossless")
    found = setting.in_turns({"with": partial(without, **given), "without": without}, requests)
    core_s = {name: median(r.core_s_per_frame for r in turns) for name, turns in found.items()}
    fps = {name: median(r.fps for r in turns) for name, turns in found.items()}
    return row(
        f"win_{flag}",
        1e3 * core_s["with"],
        1e3 * core_s["without"],
        "core-ms a frame",
        required=REQUIRED_WIN,
        more_is_better=False,
        judged=not setting.quick,
        fps={name: round(value, 3) for name, value in fps.items()},
        given=given,
    )


def median(values: Iterable[float | None]) -> float:
    """Of what was measured."""
    return statistics.median(v for v in values if v is not None)


def _rates(turns: list[Recording]) -> list[float]:
    return [round(r.fps, 3) for r in turns if r.fps is not None]
