"""The rules of the Trace Event Format that a viewer relies on, as far as our files use it."""

from __future__ import annotations

import json
from collections import defaultdict
from typing import Any

PHASES = {"M", "X", "i", "C", "b", "e", "s", "t", "f"}


def check_trace(document: dict[str, Any]) -> dict[str, list[dict[str, Any]]]:
    """Assert that the rules hold; the events by phase."""
    events = json.loads(json.dumps(document, allow_nan=False))["traceEvents"]
    phases: dict[str, list[dict[str, Any]]] = defaultdict(list)
    for event in events:
        assert event["ph"] in PHASES, event
        assert isinstance(event["pid"], int), event
        assert isinstance(event["name"], str), event
        if event["ph"] != "M":
            assert event["ts"] >= 0, event
        if event["ph"] in "Xistf":
            assert event["tid"] > 0, event
        if event["ph"] == "X":
            assert event["dur"] >= 0, event
        if event["ph"] == "C":
            assert all(isinstance(v, int) for v in event["args"].values()), event
        phases[event["ph"]].append(event)
    timed = [event["ts"] for event in events if event["ph"] != "M"]
    assert timed == sorted(timed)
    assert [e["ph"] for e in events[: len(phases["M"])]] == ["M"] * len(phases["M"])
    _check_tracks(phases)
    _check_flows(phases)
    _check_lanes(phases)
    return phases


def _check_tracks(phases: dict[str, list[dict[str, Any]]]) -> None:
    """Every track has one name, and its spans follow each other."""
    named = [(e["pid"], e["tid"]) for e in phases["M"] if e["name"] == "thread_name"]
    assert len(named) == len(set(named))
    ends: dict[tuple[int, int], float] = {}
    for span in phases["X"]:
        track = span["pid"], span["tid"]
        assert track in named, span
        assert span["ts"] >= ends.get(track, 0.0) - 1e-6, f"overlaps the one before: {span}"
        ends[track] = span["ts"] + span["dur"]


def _check_flows(phases: dict[str, list[dict[str, Any]]]) -> None:
    """A flow begins once and ends once, in that order, each at a span of its track."""
    starts = {e["id"]: e for e in phases["s"]}
    ends = {e["id"]: e for e in phases["f"]}
    assert len(starts) == len(phases["s"])
    assert len(ends) == len(phases["f"])
    assert starts.keys() == ends.keys()
    begun = {(e["pid"], e["tid"], e["ts"]) for e in phases["X"]}
    for event in phases["s"] + phases["t"] + phases["f"]:
        assert (event["pid"], event["tid"], event["ts"]) in begun, event
        assert starts[event["id"]]["ts"] <= event["ts"] <= ends[event["id"]]["ts"]
        assert (event["cat"], event["name"]) == ("frame", "frame")
    assert all(e["bp"] == "e" for e in phases["f"])


def _check_lanes(phases: dict[str, list[dict[str, Any]]]) -> None:
    """Asynchronous slices of an id open and close like brackets."""
    lanes: dict[Any, list[str]] = defaultdict(list)
    both = [*phases["b"], *phases["e"]]
    both.sort(key=lambda e: (e["ts"], e["ph"] == "b"))
    for event in both:
        lane = lanes[event["cat"], event["id"]]
        if event["ph"] == "b":
            lane.append(event["name"])
        else:
            assert lane.pop() == event["name"], event
    assert not any(lanes.values())
