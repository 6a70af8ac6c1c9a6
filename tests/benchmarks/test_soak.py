"""The soak: its estimators on made series, its judgement, its state, and all of it in seconds."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from benchmarks.soak import __main__ as soak
from benchmarks.soak.parts import (
    LIMIT_MIB,
    PARTS,
    Leaks,
    SoakSettings,
    heap_mib,
    pairs_per_frame,
)
from benchmarks.soak.trend import Trend, flatness, growth, theil_sen
from gas_rt import Avatar
from gas_rt.errors import InputError

SETTINGS = SoakSettings("toy", "openvino", "fp32", None, None, None, None)
BLOCKS = list(range(100, 10_001, 100))


def series(
    *, rate: float = 0.0, noise: float = 0.0, step: float = 0.0, seed: int = 0
) -> list[float]:
    """Around 100: growing by `rate` over the run, with noise, and a step in the middle."""
    rng = np.random.default_rng(seed)
    at = np.linspace(0, 1, len(BLOCKS))
    found = 100 + rate * at + step * (at > 0.5) + rng.normal(0, noise, len(BLOCKS))
    return [float(value) for value in found]


# ---- estimators -----------------------------------------------------------------------------


def test_a_line_has_its_slope_and_no_doubt() -> None:
    trend = theil_sen(BLOCKS, series(rate=7))
    assert (trend.change, trend.low, trend.high) == pytest.approx((7, 7, 7))


@pytest.mark.parametrize("seed", range(20))
def test_the_interval_holds_the_slope_through_noise_and_outliers(seed: int) -> None:
    found = series(rate=3, noise=2, seed=seed)
    trend = theil_sen(BLOCKS, found)
    assert trend.low <= trend.change <= trend.high
    assert trend.low - 1.5 < 3 < trend.high + 1.5
    spoiled = list(found)
    spoiled[::20] = [1e4] * 5  # a paused machine
    assert theil_sen(BLOCKS, spoiled).change == pytest.approx(trend.change, abs=1.0)


def test_nineteen_of_twenty_intervals_hold_the_slope() -> None:
    held = 0
    for seed in range(200):
        trend = theil_sen(BLOCKS, series(rate=3, noise=2, seed=seed))
        held += trend.low <= 3 <= trend.high
    assert 180 <= held <= 200


@given(
    st.lists(st.floats(-1e3, 1e3), min_size=3, max_size=30),
    st.floats(-100, 100),
    st.floats(0.1, 10),
)
def test_trends_move_with_their_values(values: list[float], off: float, scale: float) -> None:
    x = list(range(len(values)))
    trend = theil_sen(x, values)
    moved = theil_sen(x, [scale * v + off for v in values])
    close = {"rel": 1e-6, "abs": 1e-6}
    assert moved.change == pytest.approx(scale * trend.change, **close)
    assert (moved.low, moved.high) == pytest.approx(
        (scale * trend.low, scale * trend.high), **close
    )


@pytest.mark.parametrize(
    ("trend", "verdict"),
    [
        (Trend(0, -4, 4), "flat"),
        (Trend(0, -5, 5), "flat"),
        (Trend(0, -5.01, 4), "too noisy"),
        (Trend(6, 4, 8), "too noisy"),
        (Trend(8, 5.01, 9), "changed"),
        (Trend(-8, -9, -5.01), "changed"),
    ],
)
def test_flat_changed_or_too_noisy(trend: Trend, verdict: str) -> None:
    assert flatness(trend, level=100, limit=0.05) == verdict


def test_growth_sees_slopes_and_steps() -> None:
    assert growth(BLOCKS, series()) == 0
    assert growth(BLOCKS, series(rate=20)) == pytest.approx(20)
    assert growth(BLOCKS, series(step=30)) >= 30
    late = series()
    late[-10:] = [v + 25 for v in late[-10:]]  # no slope that a median would see
    assert growth(BLOCKS, late) == pytest.approx(25)
    assert growth(BLOCKS, series(noise=0.3)) < 1


def test_cost_is_per_block() -> None:
    middles, costs = pairs_per_frame([100, 200, 400], [1.0, 3.0, 5.0])
    assert middles == [150.0, 300.0]
    assert costs == [0.02, 0.01]


# ---- judgement ------------------------------------------------------------------------------


def part(**change: Any) -> dict[str, Any]:
    """Notes of a run in which nothing grows."""
    count = len(BLOCKS)
    found: dict[str, Any] = {
        "at": BLOCKS,
        "cpu_s": [0.05 * n for n in BLOCKS],
        "fresh": [{"at": at, "core_s_per_frame": 0.05} for at in BLOCKS[::3]],
        "rss_mib": [300.0] * count,
        "heap_mib": [200.0] * count,
        "threads": [9] * count,
        "descriptors": [12] * count,
        "before": {"threads": 6, "descriptors": 12},
        "after": {"threads": 6, "descriptors": 12},
        "info": {},
    }
    return {**found, **change}


def verdicts(name: str, notes: dict[str, Any], *, quick: bool = False) -> dict[str, bool]:
    return {r["name"]: r["ok"] for r in soak.judge(name, notes, quick=quick)}


def test_a_flat_run_passes() -> None:
    assert verdicts("frames", part()) == {
        "soak_cost_per_frame": True,
        "soak_frames_memory": True,
        "soak_frames_threads": True,
        "soak_frames_descriptors": True,
    }
    assert all(verdicts("cycles", part()).values())


@pytest.mark.parametrize(
    ("change", "fails"),
    [
        ({"rss_mib": series(rate=LIMIT_MIB + 1)}, "soak_frames_memory"),
        ({"heap_mib": series(rate=LIMIT_MIB + 1)}, "soak_frames_memory"),
        ({"after": {"threads": 7, "descriptors": 12}}, "soak_frames_threads"),
        ({"after": {"threads": 6, "descriptors": 13}}, "soak_frames_descriptors"),
        ({"cpu_s": [0.05 * n * (1 + n / 1e5) for n in BLOCKS]}, "soak_cost_per_frame"),
    ],
)
def test_each_kind_of_growth_fails_its_row(change: dict[str, Any], fails: str) -> None:
    found = verdicts("frames", part(**change))
    assert [name for name, ok in found.items() if not ok] == [fails]


def test_a_cost_that_cannot_be_told_does_not_pass() -> None:
    rng = np.random.default_rng(0)
    noisy = np.cumsum(rng.lognormal(np.log(5), 1.0, len(BLOCKS)))
    (cost, *_) = soak.judge("frames", part(cpu_s=noisy.tolist()), quick=False)
    assert (cost["ok"], cost["verdict"]) == (False, "too noisy")
    (cost, *_) = soak.judge("frames", part(cpu_s=noisy.tolist()), quick=True)
    assert cost["ok"]  # not judged in a quick run


def test_a_processor_that_changes_its_speed_is_no_change_of_cost() -> None:
    slower = [1.0 + 0.15 * at / BLOCKS[-1] for at in BLOCKS]
    spent = np.cumsum([5 * s for s in slower]).tolist()
    new = [
        {"at": at, "core_s_per_frame": 0.04 * s}
        for at, s in zip(BLOCKS[::3], slower[::3], strict=True)
    ]
    (cost, *_) = soak.judge("frames", part(cpu_s=spent, fresh=new), quick=False)
    assert (cost["ok"], cost["verdict"]) == (True, "flat")
    assert cost["change_not_compared"]["change"] > 0.1
    assert cost["of_a_new_process"] == pytest.approx(1.25, rel=0.01)
    (cost, *_) = soak.judge("frames", part(cpu_s=spent), quick=False)
    assert not cost["ok"]


@pytest.mark.skipif(heap_mib() is None, reason="the C library does not tell its heap")
def test_a_leak_into_free_heap_is_seen() -> None:
    before = heap_mib()
    freed = [np.ones(1 << 15, np.uint8) for _ in range(1024)]
    del freed
    leaked = [np.ones(1 << 15, np.uint8) for _ in range(512)]
    after = heap_mib()
    assert before is not None
    assert after is not None
    assert 15 < after - before < 20
    assert len(leaked) == 512


def test_a_control_passes_only_if_it_is_caught() -> None:
    assert verdicts("leaking_memory", part(rss_mib=series(rate=32)), quick=True) == {
        "soak_leaking_memory_caught": True
    }
    assert not verdicts("leaking_memory", part())["soak_leaking_memory_caught"]
    assert verdicts("leaking_threads", part(after={"threads": 60, "descriptors": 12}))[
        "soak_leaking_threads_caught"
    ]
    assert not verdicts("leaking_threads", part())["soak_leaking_threads_caught"]
    assert not verdicts("leaking_descriptors", part())["soak_leaking_descriptors_caught"]


def test_leaks_can_be_taken_back() -> None:
    leaks = Leaks()
    leaks.leak_memory(64)()
    leaks.leak_descriptor()
    leaks.leak_thread()
    assert leaks.memory[0].nbytes == 2 * LIMIT_MIB * 2**20 / 64
    leaks.close()
    assert not leaks.memory
    assert not leaks.files


# ---- state ----------------------------------------------------------------------------------


def test_an_interrupted_run_goes_on(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    state, ran = tmp_path / "s.json", []

    def apart(name: str, settings: SoakSettings, *, quick: bool) -> dict[str, Any]:
        ran.append(name)
        if len(ran) == 3:
            raise KeyboardInterrupt
        return part()

    monkeypatch.setattr(soak, "_apart", apart)
    with pytest.raises(KeyboardInterrupt):
        soak.run(list(PARTS), SETTINGS, state=state, quick=True)
    assert len(json.loads(state.read_text())["parts"]) == 2
    found = soak.run(list(PARTS), SETTINGS, state=state, quick=True)
    assert list(found) == list(PARTS)
    assert ran == [*list(PARTS)[:3], *list(PARTS)[2:]]


@pytest.mark.parametrize("content", ["", "[]", "{}", '{"settings": 1, "parts": 5}'])
def test_a_state_that_is_none(tmp_path: Path, content: str) -> None:
    (tmp_path / "s.json").write_text(content)
    with pytest.raises(InputError, match="no state of a soak"):
        soak.read_state(tmp_path / "s.json", SETTINGS)


def test_a_state_of_another_run(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    state = tmp_path / "s.json"
    monkeypatch.setattr(soak, "_apart", lambda *_, **__: part())
    soak.run(["frames"], SETTINGS, state=state, quick=True)
    with pytest.raises(InputError, match="of other settings"):
        soak.read_state(state, replace(SETTINGS, frames=5))
    assert soak.main(["--state", str(state), "--quick"]) == 1
    assert "error: --state" in capsys.readouterr().err


# ---- the command on the toy bundle ----------------------------------------------------------


@pytest.fixture(scope="module")
def quick_call(
    diffusion_avatar: Avatar, diffusion_folder: Path, tmp_path_factory: Any
) -> list[str]:
    """A soak of seconds on the toy bundle; every part is a process that loads it."""
    path = tmp_path_factory.mktemp("soak") / "a.avatar"
    diffusion_avatar.save(path)
    call = ["--quick", "--json", "--avatar", str(path), "--model", str(diffusion_folder)]
    return [*call, "--backend", "openvino", "--precision", "fp32", "--side", "48"]


@pytest.mark.timeout(300)
def test_quick_soaks_a_stream_and_catches_leaked_memory(
    quick_call: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "r.json"
    call = [*quick_call, "--out", str(out), "--parts", "frames,leaking_memory"]
    assert soak.main(call) == 0
    document = json.loads(capsys.readouterr().out)
    assert document == json.loads(out.read_text())
    rows = {r["name"]: r for r in document["rows"]}
    assert rows["soak_leaking_memory_caught"]["ours"] > LIMIT_MIB
    assert rows["soak_frames_threads"]["most"] > rows["soak_frames_threads"]["before"]
    assert rows["soak_cost_per_frame"]["core_s_per_frame"] > 0
    assert [p["at"] for p in document["parts"]["frames"]["fresh"]] == [20, 40, 60]
    assert rows["soak_cost_per_frame"]["of_a_new_process"] > 0
    assert document["settings"]["frames"] == 60
    assert document["parts"]["frames"]["at"] == [20, 30, 40, 50, 60]
    # What the machine did beside it matters where time is judged.
    assert document["noise"] == document["parts"]["frames"]["noise"] != {}
    assert "other_share" in document["parts"]["leaking_memory"]["noise"]


@pytest.mark.timeout(300)
def test_quick_opens_sessions_and_catches_what_they_leak(
    quick_call: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    call = [*quick_call, "--parts", "cycles,leaking_descriptors,leaking_threads"]
    assert soak.main(call) == 0
    rows = {r["name"]: r for r in json.loads(capsys.readouterr().out)["rows"]}
    assert rows["soak_cycles_descriptors"]["ours"] == rows["soak_cycles_threads"]["ours"] == 0
    assert rows["soak_leaking_descriptors_caught"]["ours"] == 6
    assert rows["soak_leaking_threads_caught"]["ours"] == 6


def test_a_part_that_fails_is_one_clear_error(
    tmp_path: Path, diffusion_folder: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    none = ["--avatar", str(tmp_path / "none.avatar"), "--model", str(diffusion_folder)]
    assert soak.main(["--quick", "--parts", "frames", *none]) == 1
    assert "error: soak: part 'frames' ended with status 1" in capfd.readouterr().err
    assert soak.main(["--quick", "--parts", "frames", "--model", str(tmp_path / "none")]) == 1
    assert "error: " in capfd.readouterr().err
