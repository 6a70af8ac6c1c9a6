"""Frames to figures: metrics per frame, their means, steadiness, and the sheet to look at."""

from __future__ import annotations

import sys
from collections import Counter
from collections.abc import Iterable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from reference.evaluate.cases import PERIOD, Case
from reference.evaluate.shown import Show, Shown
from reference.metrics import METRICS, SEEN_DEG, azimuth_deg, box_and_whole

__all__ = ["evaluate", "speed", "steadiness", "summary"]

SHEET_SHARES = (0.0, 0.15, 0.35, 0.5, 0.65, 0.85)  # of a clip; the photo's view, sides, back
NAMES = (*(f"box_{name}" for name in METRICS), *METRICS)

Row = dict[str, Any]
F32 = NDArray[np.float32]
U8 = NDArray[np.uint8]


def evaluate(
    show: Show, cases: Iterable[Case], *, sheet: Path | None = None
) -> tuple[list[Row], list[Shown]]:
    """One row per judged frame, and how each case was shown (without its pictures)."""
    rows: list[Row] = []
    timed: list[Shown] = []
    strips: list[U8] = []
    for case in cases:
        shown = show(case)
        found = judged(case, shown)
        rows += found
        print(_line(case, found, shown), file=sys.stderr, flush=True)
        if sheet is not None:
            strips += _strips(case, shown)
        timed.append(replace(shown, pictures=shown.pictures[:, :0], renders=None))
    if sheet is not None and strips:
        sheet.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(np.concatenate(strips)).save(sheet, optimize=True)
    return rows, timed


def judged(case: Case, shown: Shown) -> list[Row]:
    """The metrics of a case's frames."""
    rows = []
    for k in case.counted:
        truth = case.rgb[k].astype(np.float32) / 255
        metrics = box_and_whole(shown.pictures[k], truth, case.mask[k])
        angle = azimuth_deg(case.photo.camera, case.cameras[k])
        rows.append(
            {"seed": case.seed, "task": case.task, "frame": k, "azimuth_deg": round(angle, 2)}
            | {name: round(value, 5) for name, value in metrics.items()}
        )
    return rows


def summary(rows: list[Row]) -> dict[str, Any]:
    """Means over frames: of views all round, of their seen side and the rest, and of motions."""
    views = [r for r in rows if r["task"] == "view"]
    sides = {
        "all": views,
        "seen": [r for r in views if r["azimuth_deg"] <= SEEN_DEG + 1e-6],
        "hidden": [r for r in views if r["azimuth_deg"] > SEEN_DEG + 1e-6],
    }
    found: dict[str, Any] = {}
    if views:
        found["view"] = {side: _mean(part) for side, part in sides.items() if part}
    if motions := [r for r in rows if r["task"] == "pose"]:
        found["motion"] = _mean(motions)
    return found


def speed(shown: list[Shown]) -> dict[str, Any]:
    """Frames per second, and how long and how many poses the first frame took; means over clips.

    A rate is that of whole clips, the wait for the first frame included.
    """
    frames = sum(len(s.pictures) for s in shown)
    levels: Counter[str] = Counter()
    for one in shown:
        levels.update(one.levels)
    found = {
        "first_frame": {
            "ms": round(1e3 * float(np.mean([s.first_frame_s for s in shown])), 1),
            "poses": round(float(np.mean([s.first_frame_poses for s in shown])), 1),
        },
        "fps": round(frames / sum(s.seconds for s in shown), 2),
    }
    return found | ({"level": dict(levels)} if levels else {})


def steadiness(case: Case, shown: Shown) -> dict[str, Any]:
    """Means per round of a motion that repeats, so that every round has the same truth.

    ``change_db`` is the last round's box PSNR less the second's: the first one has the stream's
    start in it.
    """
    rows = judged(case, shown)
    rounds = [_mean(rows[k : k + PERIOD]) for k in range(0, len(rows) - PERIOD + 1, PERIOD)]
    change = rounds[-1]["box_psnr_db"] - rounds[1]["box_psnr_db"]
    return {
        "seed": case.seed,
        "frames": len(case),
        "period": PERIOD,
        "rounds": rounds,
        "change_db": round(change, 4),
    }


def _mean(rows: list[Row]) -> dict[str, float]:
    means = {name: round(float(np.mean([r[name] for r in rows])), 4) for name in NAMES}
    return means | {"frames": len(rows)}


def _line(case: Case, rows: list[Row], shown: Shown) -> str:
    parts = summary(rows)
    sides = parts.get("view", {}) | {k: v for k, v in parts.items() if k == "motion"}
    figures = "  ".join(f"{side} {part['box_psnr_db']:.2f} dB" for side, part in sides.items())
    return f"seed {case.seed} {case.task}: {figures}  {len(case) / shown.seconds:.1f} fps"


def _strips(case: Case, shown: Shown) -> list[U8]:
    """Photo and truth; below them what stage 2 was given, if that is known, and what was shown."""
    chosen = sorted({int(share * len(case)) for share in SHEET_SHARES})
    empty = np.zeros_like(case.photo.rgb)
    rows = [[case.photo.rgb, *case.rgb[chosen]]]
    given = [] if shown.renders is None else [shown.renders]
    rows += [[empty, *_bytes(pictures[chosen])] for pictures in (*given, shown.pictures)]
    widest = len(SHEET_SHARES) + 1
    return [np.concatenate([*row, *[empty] * (widest - len(row))], 1) for row in rows]


def _bytes(pictures: F32) -> U8:
    return (pictures * 255 + 0.5).astype(np.uint8)
