"""report.json: the fields of the contract, and figures that can be checked by hand."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import numpy as np

from gas_rt.core import BackendReport, Camera, Frame, FrameTimings, Request
from gas_rt.stream.report import RunRecorder, report, write_report
from tests.stream.conftest import pose

MS = 1_000_000


def frame(camera: Camera, captured_ms: int, ready_ms: int) -> Frame:
    timings = FrameTimings(captured_ms * MS, captured_ms * MS, ready_ms * MS, {"body": 2.0})
    rgb = np.zeros((48, 64, 3), np.uint8)
    return Frame(rgb, rgb[..., 0], 0, Request(pose(), camera), timings, "field")


def recorder() -> RunRecorder:
    return RunRecorder("r", "field", "pose", 0, 25.0, BackendReport("auto", "toy", "cpu", "fp32"))


def test_a_row_has_the_contracts_fields_and_the_right_figures(camera: Camera) -> None:
    run = recorder()
    run.pushed(100 * MS)
    run.pushed(140 * MS)
    for captured, ready in ((100, 110), (140, 150), (180, 200), (220, 230)):
        run.polled(frame(camera, captured, ready), (ready + 2) * MS)
    row = run.row(dropped=3)
    assert set(row) == {
        *("name", "policy", "task", "steps", "resolution", "frames", "fps", "first_frame_ms"),
        *("age_ms", "stages_ms", "waits_ms", "deadline_miss", "dropped", "level", "backend"),
    }
    assert row["resolution"] == [64, 48]
    assert row["frames"] == 4
    assert row["fps"] == 25.0
    assert row["first_frame_ms"] == 12.0
    assert set(row["age_ms"]) == {"p50", "p90", "p95", "p99", "max"}
    assert (row["age_ms"]["p50"], row["age_ms"]["max"]) == (10.0, 20.0)
    assert row["stages_ms"]["body"]["p50"] == 2.0
    assert row["deadline_miss"] == round(1 / 3, 4)  # 150 → 200 ms
    assert row["dropped"] == 3
    assert row["level"] == {"full": 0, "fewer_steps": 0, "field": 4, "held": 0}
    assert row["backend"]["requested"] == "auto"


def test_a_held_frame_repeats_no_work(camera: Camera) -> None:
    run, shown = recorder(), frame(camera, 100, 110)
    shown.timings.waits_ms["queue"] = 8.0
    waits = {**shown.timings.waits_ms, "held": 60.0}
    timings = replace(shown.timings, ready_ns=170 * MS, waits_ms=waits)
    held = replace(shown, timings=timings, level="held")
    for k, polled in enumerate((shown, held, held)):
        run.polled(polled, (120 + 60 * k) * MS)
    assert run.stages_ms == {"body": [2.0]}
    assert run.waits_ms == {"queue": [8.0], "held": [60.0, 60.0]}
    assert run.row(dropped=0)["frames"] == 3


def test_a_run_without_frames_has_no_figures() -> None:
    row = recorder().row(dropped=0)
    assert (row["frames"], row["fps"], row["first_frame_ms"]) == (0, None, None)
    assert row["age_ms"]["p50"] is None


def test_the_document_is_json_with_an_environment(tmp_path: Path) -> None:
    write_report(tmp_path / "r.json", report(["gas-rt", "demo"], [recorder().row(dropped=0)]))
    document = json.loads((tmp_path / "r.json").read_text())
    assert document["schema_version"] == 1
    assert document["command"] == ["gas-rt", "demo"]
    assert {"python", "cpu", "cpus", "kernel_isa", "packages"} <= set(document["environment"])
    assert len(document["runs"]) == 1
