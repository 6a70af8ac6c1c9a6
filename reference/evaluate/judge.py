"""Frames to figures: metrics per frame, their means, consistency, drift, and the sheet to look at.

``docs/evaluation.md`` defines every figure.
"""

from __future__ import annotations

import sys
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from gas_rt.files import write_npz
from reference.evaluate import surface
from reference.evaluate.cases import PERIOD, Case
from reference.evaluate.fvd import Detector, frechet_distance, segments
from reference.evaluate.lpips import Lpips
from reference.evaluate.shown import Show, Shown
from reference.evaluate.surface import Changes
from reference.metrics import SEEN_DEG, azimuth_deg, box_and_whole, mask_box

__all__ = ["Found", "Measures", "evaluate", "over_time", "speed", "steadiness", "summary"]

SHEET_SHARES = (0.0, 0.15, 0.35, 0.5, 0.65, 0.85)  # of a clip; the photo's view, sides, back
LABELS = ("seed", "task", "frame", "azimuth_deg")  # of rows; the rest are metrics
LEVELS = 255  # changes of colour are told in grey levels

Row = dict[str, Any]
F32 = NDArray[np.float32]
U8 = NDArray[np.uint8]


@dataclass(frozen=True)
class Measures:
    """What is measured beside the usual: distances that need weights, which only the user has.

    Attributes
    ----------
    clips : folder that keeps every case's truth and what was shown, for measures of others.
    """

    lpips: Lpips | None = None
    fvd: Detector | None = None
    clips: Path | None = None


@dataclass
class Found:
    """What was found of some cases; by task, where cases of one task are pooled.

    Attributes
    ----------
    rows : one per judged frame.
    shown : how each case was shown, without its pictures.
    on_surface, in_box : changes of colour from frame to frame, on the person's surface and at the
        pixels of the box.
    features : of videos of the truth and of what was shown.
    """

    rows: list[Row] = field(default_factory=list)
    shown: list[Shown] = field(default_factory=list)
    on_surface: dict[str, list[Changes]] = field(default_factory=dict)
    in_box: dict[str, list[Changes]] = field(default_factory=dict)
    features: dict[str, list[tuple[NDArray, NDArray]]] = field(default_factory=dict)


def evaluate(
    show: Show,
    cases: Iterable[Case],
    *,
    sheet: Path | None = None,
    measures: Measures | None = None,
) -> Found:
    """Show cases and judge them."""
    measures = measures or Measures()
    total = Found()
    strips: list[U8] = []
    for case in cases:
        shown = show(case)
        rows = judged(case, shown, lpips=measures.lpips)
        total.rows.extend(rows)
        _follow(case, shown, total, measures)
        print(_line(case, rows, shown), file=sys.stderr, flush=True)
        if sheet is not None:
            strips += _strips(case, shown)
        if measures.clips is not None:
            _keep(case, shown, measures.clips)
        total.shown.append(replace(shown, pictures=shown.pictures[:, :0], renders=None))
    if sheet is not None and strips:
        sheet.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(np.concatenate(strips)).save(sheet, optimize=True)
    return total


def _follow(case: Case, shown: Shown, total: Found, measures: Measures) -> None:
    """What only several frames together tell."""
    if len(case) > 1:
        in_box = box_changes(case.rgb, case.mask, shown.pictures)
        total.in_box.setdefault(case.task, []).append(in_box)
        if case.surface is not None:
            pictures = (case.rgb, case.mask, shown.pictures)
            on_it = surface.changes(case.surface, *pictures)
            total.on_surface.setdefault(case.task, []).append(on_it)
    if measures.fvd is not None:
        frames = slice(case.counted.start, case.counted.stop)
        truth = segments(case.rgb[frames].astype(np.float32) / 255)
        if len(truth):
            pair = (measures.fvd(truth), measures.fvd(segments(shown.pictures[frames])))
            total.features.setdefault(case.task, []).append(pair)


def box_changes(truth: U8, mask: U8, shown: F32) -> Changes:
    """Over all pairs of neighbouring frames, at the pixels of the box round both.

    Arguments as of `surface.changes`.
    """
    total = surface.NOTHING
    for k in range(len(truth) - 1):
        box = mask_box(np.maximum(mask[k], mask[k + 1]))
        real = np.diff(truth[k : k + 2].astype(np.float64) / 255, axis=0)[0][box]
        made = np.diff(shown[k : k + 2].astype(np.float64), axis=0)[0][box]
        total += Changes.of(made, real)
    return total


def _keep(case: Case, shown: Shown, folder: Path) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    arrays = {"truth": case.rgb, "mask": case.mask, "shown": _bytes(shown.pictures)}
    write_npz(folder / f"{case.seed}-{case.task}.npz", arrays)


def over_time(found: Found) -> dict[str, Any]:
    """Consistency of views, flicker of motions and the distance of videos, over all cases."""
    about: dict[str, Any] = {}
    if views := found.on_surface.get("view"):
        about["multiview"] = _told(views)
    motion = {"surface": found.on_surface.get("pose"), "box": found.in_box.get("pose")}
    if flicker := {place: _told(parts) for place, parts in motion.items() if parts}:
        about["flicker"] = flicker
    for name, task in (("view", "view"), ("motion", "pose")):
        pairs = found.features.get(task)
        if not pairs:
            continue
        truth, shown = (np.concatenate(side) for side in zip(*pairs, strict=True))
        if len(truth) > 1:
            distance = round(frechet_distance(truth, shown), 4)
            about.setdefault("fvd", {})[name] = {"distance": distance, "videos": len(truth)}
    return about


def _told(parts: list[Changes]) -> dict[str, float]:
    """Root mean squares in grey levels; `ratio` is the shown one's change over the truth's."""
    total = sum(parts, start=surface.NOTHING)
    rms = {
        name: LEVELS * float(np.sqrt(value / max(total.values, 1)))
        for name, value in (
            ("shown_levels", total.shown),
            ("truth_levels", total.truth),
            ("unexplained_levels", total.unexplained),
        )
    }
    told: dict[str, float] = {name: round(value, 4) for name, value in rms.items()}
    if rms["truth_levels"] > 0:
        told["ratio"] = round(rms["shown_levels"] / rms["truth_levels"], 4)
        told["unexplained_ratio"] = round(rms["unexplained_levels"] / rms["truth_levels"], 4)
    return told | {"points": total.values // 3}


def judged(case: Case, shown: Shown, *, lpips: Lpips | None = None) -> list[Row]:
    """The metrics of a case's frames."""
    rows = []
    for k in case.counted:
        truth = case.rgb[k].astype(np.float32) / 255
        metrics = box_and_whole(shown.pictures[k], truth, case.mask[k])
        if lpips is not None:
            box = mask_box(case.mask[k])
            metrics["box_lpips"] = lpips(shown.pictures[k][box], truth[box])
            metrics["lpips"] = lpips(shown.pictures[k], truth)
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
    start in it. ``since_third`` is the last round less the third in every metric, and
    ``slope_db_per_1000`` the line through the rounds from the second on, in box PSNR per thousand
    frames.
    """
    rows = judged(case, shown)
    rounds = [_mean(rows[k : k + PERIOD]) for k in range(0, len(rows) - PERIOD + 1, PERIOD)]
    change = rounds[-1]["box_psnr_db"] - rounds[1]["box_psnr_db"]
    course = [part["box_psnr_db"] for part in rounds[1:]]
    slope = np.polyfit(PERIOD / 1000 * np.arange(len(course)), course, 1)[0]
    return {
        "seed": case.seed,
        "frames": len(case),
        "period": PERIOD,
        "rounds": rounds,
        "change_db": round(change, 4),
        "since_third": {
            name: round(rounds[-1][name] - rounds[2][name], 4)
            for name in rounds[0]
            if name != "frames"
        },
        "slope_db_per_1000": round(float(slope), 4),
    }


def _mean(rows: list[Row]) -> dict[str, float]:
    names = [name for name in rows[0] if name not in LABELS]
    means = {name: round(float(np.mean([r[name] for r in rows])), 4) for name in names}
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
