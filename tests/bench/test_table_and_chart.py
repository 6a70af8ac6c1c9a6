"""The table and the chart of synthetic reports."""

from __future__ import annotations

import numpy as np
import pytest

from gas_rt.bench import chart
from gas_rt.bench.chart import draw_chart, nice_step
from gas_rt.bench.start import PHASES, StartTimes, peak_rss_mib, start_row
from gas_rt.bench.table import as_text
from tests.bench.reports import report, run

PROMISED = {"fps": 30.0, "age_ms": 250.0}


def test_the_table_has_a_line_per_run_and_says_what_was_not_judged() -> None:
    text = as_text(report())
    lines = text.splitlines()
    assert lines[1].split()[:7] == ["saturated", "diagonal", "4", "steps", "128", "px", "auto"]
    assert "0 (0 ms)" in lines[2]
    assert "denoise 180.0; 55.0 in all" in text
    assert "interpreter 40, first frame 300; 2000 in all, 230 MiB" in text
    assert "promises: not judged (a toy)" in text


def test_the_table_shows_promises_and_runs_without_figures() -> None:
    nothing = dict.fromkeys(("p50", "p90", "p95", "p99", "max"))
    empty = run("live")
    for key in ("fps", "first_frame_ms", "jitter_ms", "deadline_miss", "full_share", "viewer"):
        empty[key] = None
    empty |= {"age_ms": nothing, "interframe_ms": nothing, "core_s_per_frame": None}
    promise = {
        "name": "steady rate",
        "run": "r",
        "value": None,
        "at_least": 30.0,
        "unit": "fps",
        "status": "too noisy",
    }
    text = as_text(report(run("saturated"), empty, promises=[promise]))
    assert "steady rate: – (at least 30 fps): too noisy" in text
    drawn = draw_chart(report(run("saturated"), empty), promises=PROMISED)
    assert drawn.dtype == np.uint8


def test_bars_are_as_long_as_their_values() -> None:
    two = [run("saturated"), run("live"), run("saturated", steps=2), run("live", steps=2)]
    two[2]["fps"] = 68.0
    drawn = draw_chart(report(*two), promises=PROMISED)
    assert drawn.shape[1] == chart.WIDTH * chart.SCALE
    right = drawn[:, drawn.shape[1] * 6 // 10 :]
    full = (right == np.array(chart.FULL)).all(-1)
    lengths = []
    for k in range(2):
        y = round((chart.HEAD + chart.ROW * (k + 0.5)) * chart.SCALE)
        lengths.append(int(full[y].sum()))
    assert lengths[1] == pytest.approx(2 * lengths[0], rel=0.03)


def test_a_noisy_run_is_marked_beside_its_name() -> None:
    quiet = draw_chart(report(), promises=PROMISED)
    disturbed = {**run("live"), "noise": {"spread": 0.3, "problems": ["busy"]}}
    noisy = draw_chart(report(run("saturated"), disturbed), promises=PROMISED)
    changed = (quiet != noisy).any(axis=(0, 2))
    assert changed.any()
    assert not changed[chart.NAMES * chart.SCALE :].any()


@pytest.mark.parametrize("top", [0.3, 1, 7, 33, 280, 4e6])
def test_steps_of_an_axis_are_round(top: float) -> None:
    step = nice_step(top, ticks=5)
    assert 2 < top / step <= 5 + 1e-9
    assert f"{step:e}"[0] in "125"


def test_phases_of_a_start_add_up() -> None:
    marks = [k * k * 1_000_000 for k in range(6)]
    row = start_row("cold", StartTimes(*marks), {"peak_rss_mib": 5.0})
    assert [row[f"{phase}_ms"] for phase in PHASES] == [1.0, 3.0, 5.0, 7.0, 9.0]
    assert row["total_ms"] == 25.0
    assert row["peak_rss_mib"] == 5.0


def test_peak_memory_is_of_this_process() -> None:
    assert 10 < peak_rss_mib() < 100_000
