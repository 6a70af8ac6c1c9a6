"""Comparison: every tolerance at its bound, unlike runs, and old files of all kinds."""

from __future__ import annotations

import copy
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from gas_rt.bench.compare import (
    MEMORY,
    STARTS,
    TOLERANCES,
    Change,
    Tolerance,
    check_alike,
    compare,
    read_report,
)
from gas_rt.errors import FileError, InputError
from tests.bench.reports import report, run


def edited(document: dict[str, Any], path: tuple[Any, ...], value: Any) -> dict[str, Any]:
    changed = copy.deepcopy(document)
    at = changed
    for key in path[:-1]:
        at = at[key]
    if value is ...:
        del at[path[-1]]
    else:
        at[path[-1]] = value
    return changed


# ---- what is a regression -------------------------------------------------------------------


@pytest.mark.parametrize("tolerance", [*TOLERANCES, MEMORY, *STARTS], ids=lambda t: t.name)
@pytest.mark.parametrize("old", [0.0, 200.0])
def test_a_figure_may_get_worse_by_its_tolerance(tolerance: Tolerance, old: float) -> None:
    allowed = tolerance.relative * old + tolerance.absolute
    sign = -1 if tolerance.more_is_better else 1

    def regressed(worse_by: float) -> bool:
        return Change("r", tolerance, old, old + sign * worse_by).regressed

    assert not regressed(allowed * 0.999)
    assert regressed(allowed * 1.001 + 1e-9)
    assert not regressed(-1000.0)  # better by any amount


def test_every_figure_of_both_reports_is_compared() -> None:
    found = compare(report(), report())
    assert {(c.run, c.tolerance.name) for c in found.changes} == {
        *(
            (r["name"], t.name)
            for r in report()["runs"]
            for t in TOLERANCES
            if t.kind in (None, r["kind"])
        ),
        ("all runs", "memory.peak_rss_mib"),
        *(("cold start, diagonal", t.name) for t in STARTS),
    }
    assert found.regressions == ()
    assert found.left_out == ()


def test_a_regression_names_run_figure_and_amount() -> None:
    slow = edited(report(), ("runs", 0, "fps"), 28.0)
    (change,) = compare(report(), slow).regressions
    assert str(change) == (
        "saturated diagonal 4 steps 128 px auto: fps 34 → 28 fps, -17.6% (less by 10% is tolerated)"
    )
    assert change.as_dict()["change"] == pytest.approx(-0.1765)
    late = edited(report(), ("runs", 1, "age_ms", "p95"), 260.0)
    (change,) = compare(report(), late).regressions
    assert "age_ms.p95 200 → 260 ms, +30.0% (more by 15% + 10 ms is tolerated)" in str(change)
    heavy = edited(report(), ("memory", "peak_rss_mib"), 400.0)
    assert [c.run for c in compare(report(), heavy).regressions] == ["all runs"]
    cold = edited(report(), ("cold_start", 0, "total_ms"), 4000.0)
    assert [c.tolerance.name for c in compare(report(), cold).regressions] == ["total_ms"]


def test_a_figure_that_was_0_has_no_share() -> None:
    found = edited(report(), ("runs", 1, "viewer", "stall_ms"), 60.0)
    (change,) = compare(report(), found).regressions
    assert change.as_dict()["change"] is None
    assert "viewer.stall_ms 0 → 60 ms (more by" in str(change)


def test_figures_that_one_side_lacks_are_not_compared() -> None:
    empty = edited(report(), ("runs", 1, "viewer"), None)
    assert "viewer.stall_ms" not in {c.tolerance.name for c in compare(empty, report()).changes}


# ---- what cannot be compared ----------------------------------------------------------------


@pytest.mark.parametrize(
    ("path", "value", "said"),
    [
        (("environment", "cpu"), "Other", "environment cpu was 'Other', is 'Toy'"),
        (("environment", "cpus"), 8, "cpus was 8, is 2"),
        (("environment", "kernel_isa"), "avx2", "kernel_isa"),
        (("model", "bundle"), "gas-full", "model bundle"),
        (("model", "threads"), 1, "model threads"),
        (("bench", "fps"), 30.0, "bench fps was 30.0, is 25.0"),
        (("bench", "seconds"), 5.0, "seconds"),
        (("bench", "motion"), "walk", "motion"),
        (("bench", "quick"), True, "quick"),
    ],
)
def test_unlike_machines_and_settings(path: tuple[str, ...], value: Any, said: str) -> None:
    check_alike(report(), report())
    with pytest.raises(InputError, match="the runs are unlike") as caught:
        check_alike(edited(report(), path, value), report())
    assert said in str(caught.value)


def test_an_old_run_that_was_noisy_is_no_yardstick() -> None:
    with pytest.raises(InputError, match="itself too noisy to count: round 2"):
        check_alike(report(noise=["round 2: busy"]), report())


@pytest.mark.parametrize(
    "other",
    [
        run("live", policy="sequential"),
        run("live", steps=2),
        run("live", side=256),
        {**run("live"), "backend": {**run("live")["backend"], "precision": "fp32"}},
        {**run("live"), "backend": {**run("live")["backend"], "actual": "onnxruntime"}},
    ],
    ids=["policy", "steps", "resolution", "precision", "backend"],
)
def test_a_run_without_its_like(other: dict[str, Any]) -> None:
    with pytest.raises(InputError, match="no run like live"):
        check_alike(report(), report(run("saturated"), other))


def test_runs_of_the_old_report_alone_are_named() -> None:
    old = report(run("saturated"), run("live"), run("live", policy="sequential"))
    assert compare(old, report()).left_out == ("live sequential 4 steps 128 px auto",)


# ---- files ----------------------------------------------------------------------------------


def test_a_report_is_read_as_it_was_written(tmp_path: Path) -> None:
    (tmp_path / "r.json").write_text(json.dumps(report()))
    assert read_report(tmp_path / "r.json") == report()


def refused(path: Path) -> str:
    with pytest.raises(FileError) as caught:
        read_report(path)
    said = str(caught.value)
    assert said.startswith(str(path))
    assert "\n" not in said
    return said


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (b"", "not a JSON document"),
        (b"{", "not a JSON document"),
        (b"\xff\xfe\x00", "not a JSON document"),
        (b"[" * 100_000, "not a JSON document"),
        (b"[]", "the document: expected an object, got []"),
        (b"{}", "'schema_version' is None, expected 1"),
        (b'{"schema_version": true}', "'schema_version' is True"),
        (b'{"schema_version": NaN}', "NaN is no JSON number"),
        (b'{"schema_version": 1}', "'environment': expected an object"),
    ],
)
def test_what_is_no_report(tmp_path: Path, content: bytes, said: str) -> None:
    (tmp_path / "r.json").write_bytes(content)
    assert said in refused(tmp_path / "r.json")


def test_files_that_are_not_there(tmp_path: Path) -> None:
    assert "cannot be read (No such file" in refused(tmp_path / "none.json")
    assert "cannot be read" in refused(tmp_path)


def test_a_huge_file_is_not_read(tmp_path: Path) -> None:
    with (tmp_path / "r.json").open("wb") as stream:
        stream.truncate(65 << 20)
    assert "larger than 64 MiB" in refused(tmp_path / "r.json")


@pytest.mark.parametrize(
    ("path", "value", "said"),
    [
        (("schema_version",), 2, "'schema_version' is 2, expected 1"),
        (("environment",), [], "'environment': expected an object"),
        (("model",), ..., "'model': expected an object"),
        (("bench",), None, "'bench': expected an object"),
        (("bench", "noise"), "much", "'noise' of 'bench'"),
        (("bench", "noise"), [1], "'noise' of 'bench'"),
        (("runs",), [], "'runs': is empty"),
        (("runs",), {}, "'runs': expected a list"),
        (("cold_start",), ..., "'cold_start': expected a list, got None"),
        (("cold_start", 0), 5, "start 0: expected an object"),
        (("cold_start", 0, "name"), ..., "start 0, 'name'"),
        (("runs", 1), "x", "run 1: expected an object"),
        (("runs", 1), run("saturated"), "run 1: is there twice"),
        (("runs", 0, "name"), 5, "run 0, 'name': expected a text, got 5"),
        (("runs", 0, "kind"), ..., "run 0, 'kind'"),
        (("runs", 0, "steps"), "4", "run 0, 'steps': expected a number"),
        (("runs", 0, "resolution"), 128, "'resolution': expected two numbers"),
        (("runs", 0, "resolution"), [128], "'resolution': expected two numbers"),
        (("runs", 0, "backend"), None, "'backend': expected an object"),
        (("runs", 0, "backend", "actual"), ..., "'actual': expected a text"),
        (("runs", 0, "fps"), ..., "run 0, 'fps': expected a number, got 'nothing'"),
        (("runs", 0, "fps"), "34", "run 0, 'fps': expected a number"),
        (("runs", 1, "age_ms"), 5, "run 1, 'age_ms.p50'"),
        (("runs", 1, "age_ms", "p95"), [], "run 1, 'age_ms.p95'"),
        (("runs", 1, "age_ms", "p95"), True, "run 1, 'age_ms.p95'"),
    ],
)
def test_a_report_with_one_thing_wrong(
    tmp_path: Path, path: tuple[Any, ...], value: Any, said: str
) -> None:
    (tmp_path / "r.json").write_text(json.dumps(edited(report(), path, value)))
    assert said in refused(tmp_path / "r.json")


@pytest.mark.parametrize("write", [str, repr, json.dumps], ids=["text", "repr", "string"])
def test_other_texts(tmp_path: Path, write: Callable[[object], str]) -> None:
    (tmp_path / "r.json").write_text(write("a report"))
    refused(tmp_path / "r.json")
