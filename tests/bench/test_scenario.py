"""Every promise at its bound and beyond it, and when nothing is judged."""

from __future__ import annotations

from typing import Any

import pytest

from gas_rt.bench.scenario import PROMISES, Promise, figure, judge, promised_lines
from tests.bench.reports import plan, run


def with_value(found: dict[str, Any], path: tuple[str, ...], value: float | None) -> dict[str, Any]:
    changed = dict(found)
    if len(path) == 1:
        changed[path[0]] = value
    else:
        changed[path[0]] = with_value(found[path[0]], path[1:], value)
    return changed


def statuses(runs: list[dict[str, Any]], **settings: Any) -> dict[str, str]:
    judged = judge(runs, plan=plan(**settings), promises=PROMISES)
    return {verdict.promise.name: verdict.status for verdict in judged}


BOUNDS = {
    ("fps",): (30.0, 29.99),
    ("age_ms", "p95"): (250.0, 250.01),
    ("deadline_miss",): (0.0099, 0.01),
    ("viewer", "stalls"): (0, 1),
    ("first_frame_ms_max",): (600.0, 600.01),
    ("full_share",): (0.99, 0.989),
}


@pytest.mark.parametrize("promise", PROMISES, ids=lambda p: p.name)
def test_a_promise_is_kept_up_to_its_bound(promise: Promise) -> None:
    kept, broken = BOUNDS[promise.path]
    good = with_value(run(promise.kind), promise.path, kept)
    assert statuses([good])[promise.name] == "passed"
    bad = with_value(run(promise.kind), promise.path, broken)
    assert statuses([bad])[promise.name] == "missed"
    for found, status in ((good, "passed"), (bad, "too noisy")):
        disturbed = with_value(found, ("noise", "problems"), ["round 1: 30% for others"])
        assert statuses([disturbed])[promise.name] == status
        assert statuses([{**disturbed, "steps": 2}, good])[promise.name] == "passed"
    for nothing in (None, "34", True):
        absent = with_value(run(promise.kind), promise.path, nothing)  # type: ignore[arg-type]
        assert statuses([absent])[promise.name] == "not measured"


def test_the_promised_scenario_is_judged_in_both_kinds_and_no_other() -> None:
    both = [run("saturated"), run("live")]
    assert len(statuses(both)) == len(PROMISES)
    assert set(statuses(both).values()) == {"passed"}
    assert statuses([run("live", steps=2), run("live", policy="sequential")]) == {}
    assert statuses([run("live", side=256)]) == {}
    assert statuses(both, fps=30.0) == {}
    assert statuses(both, buffer_ms=50.0) == {}
    assert statuses(both, jitter_ms=5.0) == {}


def test_a_verdict_says_value_and_bound() -> None:
    slow = with_value(run("saturated"), ("fps",), 28.123)
    verdict = judge([slow], plan=plan(), promises=PROMISES)[0]
    assert str(verdict) == "steady rate: 28.12 (at least 30 fps): missed"
    assert verdict.as_dict() == {
        "name": "steady rate",
        "run": slow["name"],
        "value": 28.123,
        "at_least": 30.0,
        "unit": "fps",
        "status": "missed",
    }


def test_not_a_number_keeps_nothing() -> None:
    for promise in PROMISES:
        assert not promise.kept(float("nan"))


def test_figures_are_found_by_their_path() -> None:
    assert figure({"a": {"b": 2}}, ("a", "b")) == 2.0
    assert figure({"a": 1}, ("a", "b")) is None
    assert figure({}, ("a",)) is None


def test_the_charts_lines_are_the_promises() -> None:
    assert promised_lines() == {"fps": 30.0, "age_ms": 250.0}
