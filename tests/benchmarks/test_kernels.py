"""The kernels' benchmark: every row runs and is correct at small sizes, and misses are told."""

from __future__ import annotations

import json
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import gas_rt
from benchmarks.kernels import __main__ as command
from benchmarks.kernels.machine import Peaks, measure_peaks
from benchmarks.kernels.people import Setting, smpl_size
from benchmarks.kernels.rows import Limit, Row, Skipped
from benchmarks.kernels.table import markdown
from benchmarks.kernels.timing import Call, interleave
from gas_rt.body import BodyModel

RESULT = Path(__file__).parents[2] / "benchmarks" / "results" / "kernels-cpu.json"
PEAKS = Peaks({1: 10.0, 2: 20.0}, {1: 5.0, 2: 5.0}, {1: 100.0, 2: 200.0}, "made up")


@pytest.fixture(scope="module")
def setting() -> Iterator[Setting]:
    made = Setting(PEAKS, threads=2, quick=True)
    yield made
    made.close()


@pytest.mark.parametrize("name", command.ROWS)
@pytest.mark.filterwarnings("ignore::DeprecationWarning")
def test_a_row_is_correct_at_small_sizes(setting: Setting, name: str) -> None:
    try:
        row = command.ROWS[name](setting)
    except Skipped as reason:
        pytest.skip(str(reason))
    wrong = [str(limit) for limit in row.correct if not limit.ok]
    assert not wrong
    told = json.loads(json.dumps(row.as_dict(quick=True)))
    assert {"name", "ours", "peer", "unit", "ratio", "required", "ok"} <= set(told)
    assert told["verdict"] == "correct"


def made_up_row(**changes: Any) -> Row:
    ours, peer = interleave({"a": Call(int), "b": Call(int)}, rounds=1).values()
    values: dict[str, Any] = {
        "name": "made_up",
        "against": "nothing",
        "threads": 1,
        "speed": [Limit("times faster", 2.0, 3.0), Limit("ms", 1.0, 2.0, at_least=False)],
        "ours": ours,
        "peer": peer,
    }
    return Row(**(values | changes))


def test_a_missed_limit_is_a_missed_row_unless_one_is_enough() -> None:
    assert not made_up_row().ok(quick=False)
    assert made_up_row(any_of=True).ok(quick=False)
    assert made_up_row().ok(quick=True)
    assert not made_up_row(correct=[Limit("wrong", float("nan"), 0)]).ok(quick=True)


def test_a_missed_row_is_exit_status_3(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(command, "measure_peaks", lambda *, cores, quick: PEAKS)
    monkeypatch.setitem(command.ROWS, "bake", lambda setting: made_up_row())
    assert command.main(["--rows", "bake", "--json"]) == 3
    document = json.loads(capsys.readouterr().out)
    assert document["rows"][0]["verdict"] == "missed"
    assert document["command"][-3:] == ["--rows", "bake", "--json"]
    assert command.main(["--rows", "bake", "--quick"]) == 0


def test_a_kept_report_is_shown_as_a_table(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    monkeypatch.setattr(command, "measure_peaks", lambda *, cores, quick: PEAKS)
    monkeypatch.setitem(command.ROWS, "bake", lambda setting: made_up_row())
    kept = tmp_path / "report.json"
    command.main(["--rows", "bake", "--out", str(kept)])
    printed = capsys.readouterr().out
    assert command.main(["--show", str(kept)]) == 3
    assert capsys.readouterr().out == printed
    assert "**missed**" in printed


def test_a_row_without_its_peer_says_why(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def absent(setting: Setting) -> Row:
        raise Skipped("smplx is not installed")

    monkeypatch.setattr(command, "measure_peaks", lambda *, cores, quick: PEAKS)
    monkeypatch.setitem(command.ROWS, "lbs_forward", absent)
    assert command.main(["--rows", "lbs_forward"]) == 0
    assert "`lbs_forward`: smplx is not installed" in capsys.readouterr().out


def test_an_unknown_row_is_a_usage_error(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as stopped:
        command.main(["--rows", "lbs"])
    assert stopped.value.code == 2
    assert "no such row: ['lbs']" in capsys.readouterr().err


def test_competitors_take_turns() -> None:
    order: list[str] = []
    calls = {
        "a": Call(lambda: order.append("a"), per_round=2),
        "b": Call(lambda: (order.append("b"), time.sleep(0.002)), warm_up=2),
    }
    took = interleave(calls, rounds=2)
    assert "".join(order) == "abb" + "aab" * 2
    assert took["a"].runs == 4
    assert took["b"].p95_ms >= took["b"].p50_ms >= 2.0


def test_peaks_are_rates_of_this_machine() -> None:
    peaks = measure_peaks(cores=2, quick=True)
    for rates in (peaks.cached_gb_s, peaks.memory_gb_s, peaks.gflop_s):
        assert set(rates) == {1, 2}
        assert min(rates.values()) > 0.1
    assert PEAKS.share_of_reading(10e6, 1.0, 1) == {
        "gb_s": 10.0,
        "share_of_cached": 1.0,
        "share_of_memory": 2.0,
    }


def test_the_body_of_smpls_size_is_the_bundled_one_refined(setting: Setting) -> None:
    small, large = setting.body, BodyModel.from_arrays(smpl_size(setting.body))
    assert large.vertex_count == 6890
    assert large.posedirs.shape == (6890, 3, 207)
    betas, pose = np.ones(10, np.float32), gas_rt.Pose.rest()
    posed = large.pose(betas, pose)
    want = small.pose(betas, pose).vertices
    np.testing.assert_allclose(posed.vertices[: len(want)], want, atol=1e-6)
    # Closed before, closed after: every edge is in two faces.
    edges = np.sort(posed.faces[:, [[0, 1], [1, 2], [2, 0]]].reshape(-1, 2), axis=1)
    before = np.sort(small.faces[:, [[0, 1], [1, 2], [2, 0]]].reshape(-1, 2), axis=1)
    open_now, open_before = (
        int((np.unique(e, axis=0, return_counts=True)[1] != 2).sum()) for e in (edges, before)
    )
    assert open_now == open_before


def test_the_committed_result_has_every_row() -> None:
    if not RESULT.is_file():
        pytest.skip(f"{RESULT.name} has not been measured yet")
    document = json.loads(RESULT.read_text())
    assert [row["name"] for row in document["rows"]] == list(command.ROWS)
    assert not document["quick"]
    assert markdown(document).count("\n") >= len(command.ROWS)
