"""Which frames count, on which side, and what is reported of them."""

from __future__ import annotations

import numpy as np
import pytest
from PIL import Image

from reference.evaluate import judge
from reference.evaluate.cases import PERIOD
from reference.evaluate.shown import Shown


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
    rows, _ = judge.evaluate(off_by(0.01), cases)
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
    rows, _ = judge.evaluate(off_by(0.0), [square("pose", side=32)])
    assert set(judge.summary(rows)) == {"motion"}


def test_speed_counts_frames_over_all_clips(square):
    _, shown = judge.evaluate(off_by(0.0), [square("view", side=32), square("pose", side=32)])
    assert judge.speed(shown) == {"first_frame": {"ms": 500.0, "poses": 2.0}, "fps": 1.0}


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
