"""Which frames count, on which side, and what is reported of them."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from PIL import Image

from gas_rt.files import read_npz
from reference.evaluate import judge
from reference.evaluate.cases import PERIOD
from reference.evaluate.shown import Shown
from reference.evaluate.surface import Changes
from reference.people.surface import Surface


def off_by(error, *, renders=False):
    """Shows the truth, off by `error` inside the square."""

    def show(case):
        truth = case.rgb.astype(np.float32) / 255
        given = truth if renders else None
        return Shown(truth + error * (truth > 0), 0.5, 2, 4.0, given)

    return show


def test_frames_and_sides(square):
    cases = [square("view", side=32, seed=s) for s in (950_000, 950_001)]
    cases.append(square("pose", side=32))
    rows = judge.evaluate(off_by(0.01), cases).rows
    assert [(r["seed"], r["task"], r["frame"]) for r in rows[:4]] == [
        *((950_000, "view", k) for k in (1, 2, 3)),
        (950_001, "view", 1),
    ]
    found = judge.summary(rows)
    assert {side: part["frames"] for side, part in found["view"].items()} == {
        "all": 6,
        "seen": 4,
        "hidden": 2,
    }
    assert found["motion"]["frames"] == 4
    # 16 × 16 pixels off by 0.01 in a box of 24 × 24 and a picture of 32 × 32.
    box = -10 * np.log10(1e-4 * 256 / 576)
    assert found["view"]["all"]["box_psnr_db"] == pytest.approx(box, abs=1e-3)
    assert found["view"]["all"]["psnr_db"] == pytest.approx(-10 * np.log10(1e-4 / 4), abs=1e-3)
    assert found["motion"]["box_psnr_db"] == pytest.approx(box, abs=1e-3)


def test_what_was_not_shown_is_not_in_the_summary(square):
    rows = judge.evaluate(off_by(0.0), [square("pose", side=32)]).rows
    assert set(judge.summary(rows)) == {"motion"}


def test_speed_counts_frames_over_all_clips(square):
    found = judge.evaluate(off_by(0.0), [square("view", side=32), square("pose", side=32)])
    assert judge.speed(found.shown) == {"first_frame": {"ms": 500.0, "poses": 2.0}, "fps": 1.0}


@pytest.mark.parametrize("renders", [False, True])
def test_the_sheet_shows_truth_above_what_was_given_and_shown(square, tmp_path, renders):
    sheet = tmp_path / "new" / "sheet.png"
    cases = [square("view", side=32), square("pose", side=32, frames=2)]
    judge.evaluate(off_by(0.0, renders=renders), cases, sheet=sheet)
    with Image.open(sheet) as picture:
        assert picture.size == (7 * 32, 2 * (2 + renders) * 32)
        pixels = np.asarray(picture)
    assert (pixels[:32, :32] == cases[0].photo.rgb).all()
    for row in range(1, 2 + renders):
        assert (pixels[32 * row : 32 * (row + 1), 32:] == pixels[:32, 32:]).all()


def test_steadiness_compares_the_last_round_with_the_second(square):
    case = square("pose", frames=3 * PERIOD, side=16)
    truth = case.rgb.astype(np.float32) / 255
    worse = np.repeat([0.2, 0.01, 0.1], PERIOD).astype(np.float32)[:, None, None, None]
    found = judge.steadiness(case, Shown(truth + worse, 0.1, 1, 1.0))
    assert found["frames"] == 3 * PERIOD
    assert [r["frames"] for r in found["rounds"]] == [PERIOD] * 3
    assert found["change_db"] == pytest.approx(-20.0, abs=1e-3)
    assert set(found["since_third"].values()) == {0.0}


def test_drift_is_told_per_round_and_per_thousand_frames(square):
    rounds = 6
    case = square("pose", frames=rounds * PERIOD, side=16)
    truth = case.rgb.astype(np.float32) / 255
    loss_db = np.repeat(0.5 * np.arange(rounds), PERIOD)  # each round loses half a decibel
    error = (0.01 * 10 ** (loss_db / 20)).astype(np.float32)[:, None, None, None]
    found = judge.steadiness(case, Shown(truth + error, 0.1, 1, 1.0))
    assert [r["box_psnr_db"] for r in found["rounds"]] == pytest.approx(
        [40 - 0.5 * k for k in range(rounds)], abs=1e-3
    )
    assert found["slope_db_per_1000"] == pytest.approx(-0.5 / PERIOD * 1000, abs=0.01)
    assert found["since_third"]["box_psnr_db"] == pytest.approx(-1.5, abs=1e-3)
    assert found["change_db"] == pytest.approx(-2.0, abs=1e-3)
    assert "frames" not in found["since_third"]


def flickering(error):
    """Shows the truth, lighter and darker by `error` in turn in the square and round it."""

    def show(case):
        sign = np.where(np.arange(len(case)) % 2, -1, 1)[:, None, None, None]
        truth = case.rgb.astype(np.float32) / 255
        return Shown(truth + (error * sign).astype(np.float32), 0.5, 2, 4.0)

    return show


def test_flicker_is_the_change_that_the_truth_does_not_have(square):
    case = square("pose", side=32, frames=5)
    found = judge.over_time(judge.evaluate(flickering(0.01), [case, case]))
    assert set(found) == {"flicker"}
    box = found["flicker"]["box"]
    assert box["unexplained_levels"] == pytest.approx(255 * 0.02, abs=1e-3)
    # The square of 16 × 16 pixels brightens by 50 levels a frame, in a box of 24 × 24.
    assert box["truth_levels"] == pytest.approx(50 * 16 / 24, abs=1e-3)
    assert box["unexplained_ratio"] == pytest.approx(5.1 / (50 * 16 / 24), abs=1e-3)
    assert box["points"] == 2 * 4 * 24 * 24
    still = judge.over_time(judge.evaluate(off_by(0.01), [case]))["flicker"]["box"]
    assert still["unexplained_levels"] < 1e-4
    assert still["ratio"] == pytest.approx(1)


def test_changes_between_views_and_in_motions_are_kept_apart(square, monkeypatch):
    sums = {950_000: Changes(3, 3.0, 12.0, 3.0), 950_001: Changes(9, 9.0, 36.0, 9.0)}
    nothing = Surface(np.zeros((0, 3), np.int32), (), ())
    cases = [replace(square("view", seed=s), surface=nothing) for s in sums]
    cases.append(replace(square("pose", seed=950_000), surface=nothing))
    found = iter([*sums.values(), Changes(3, 12.0, 0.0, 12.0)])
    monkeypatch.setattr(judge.surface, "changes", lambda *_: next(found))
    told = judge.over_time(judge.evaluate(off_by(0.0), cases))
    assert told["multiview"] == {
        "shown_levels": 255.0,
        "truth_levels": 510.0,
        "unexplained_levels": 255.0,
        "ratio": 0.5,
        "unexplained_ratio": 0.5,
        "points": 4,
    }
    # Where the truth does not change at all there is nothing to compare with.
    assert told["flicker"]["surface"] == {
        "shown_levels": 510.0,
        "truth_levels": 0.0,
        "unexplained_levels": 510.0,
        "points": 1,
    }


def test_distances_that_need_weights_are_measured_where_there_are_some(square):
    def lpips(picture, truth):
        return float(np.abs(picture - truth).max() + len(truth))

    def brightness(videos):
        return videos.mean((2, 3)).reshape(len(videos), -1)

    measures = judge.Measures(lpips=lpips, fvd=brightness)  # type: ignore[arg-type]
    cases = [square(task, frames=33) for task in ("view", "pose")]
    found = judge.evaluate(off_by(0.25), cases, measures=measures)
    part = judge.summary(found.rows)["view"]["all"]
    assert (part["lpips"], part["box_lpips"]) == pytest.approx((16.25, 16.25), abs=1e-5)
    told = judge.over_time(found)["fvd"]
    # Two videos of 16 frames each, whose mean brightness is off by a quarter of 0.25.
    assert told["view"] == {"distance": pytest.approx(48 * 0.0625**2, abs=1e-3), "videos": 2}
    assert told["motion"]["videos"] == 2
    without = judge.summary(judge.evaluate(off_by(0.25), cases).rows)["view"]["all"]
    assert not any("lpips" in name for name in without)


def test_clips_are_kept_for_other_measures(square, tmp_path):
    case = square("pose", frames=3)
    judge.evaluate(off_by(0.05), [case], measures=judge.Measures(clips=tmp_path / "new"))
    kept = read_npz(tmp_path / "new" / "950000-pose.npz")
    assert (kept["truth"] == case.rgb).all()
    assert (kept["mask"] == case.mask).all()
    inside = case.rgb > 0
    assert (kept["shown"][inside] - case.rgb[inside] == 13).all()
