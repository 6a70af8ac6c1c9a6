"""What the film verbs leave beside the film: a trace, a recording."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import pytest

from gas_rt import Avatar, Recording
from tests.cli.test_cli import gas_rt, model_flags, refused
from tests.stream.trace_rules import check_trace
from tests.toy_person import NO_BAKE, ToyPerson, person_files

Capture = pytest.CaptureFixture[str]


@pytest.fixture(scope="module")
def avatar_file(diffusion_avatar: Avatar, tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("avatar") / "d.avatar"
    diffusion_avatar.save(path)
    return path


def test_render_writes_a_trace(
    diffusion_folder: Path, avatar_file: Path, tmp_path: Path, capsys: Capture
) -> None:
    trace = tmp_path / "t.json"
    call = ("--orbit", "-o", tmp_path / "o.mp4", "--size", 64, "--frames", 5, "--json")
    flags = model_flags(diffusion_folder)
    assert gas_rt("render", avatar_file, *call, "--trace", trace, *flags) == 0
    (run,) = json.loads(capsys.readouterr().out)["runs"]
    assert set(run["waits_ms"]) == {"queue", "handoff", "window"}
    phases = check_trace(json.loads(trace.read_text()))
    assert len(phases["s"]) == 5
    assert sum(e["name"] == "denoise" for e in phases["X"]) == 7


def test_a_trace_is_refused_before_the_work(
    diffusion_folder: Path, avatar_file: Path, tmp_path: Path, capsys: Capture
) -> None:
    call = ("--orbit", "-o", tmp_path / "o.mp4", *model_flags(diffusion_folder))
    missing = tmp_path / "none" / "t.json"
    assert "trace: folder" in refused(capsys, "render", avatar_file, *call, "--trace", missing)
    assert "--trace: folder" in refused(
        capsys, "demo", "--out", tmp_path / "out", "--trace", missing
    )


def test_the_demos_runs_are_processes_of_one_trace(
    toy_folder: Path, person: ToyPerson, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("gas_rt.model.BakeConfig", lambda: NO_BAKE)
    monkeypatch.setattr("gas_rt.cli.demo.SPEED_FRAMES", 3)
    monkeypatch.setattr("gas_rt.cli.demo.ORBIT_FRAMES", 3)
    monkeypatch.setattr("gas_rt.cli.demo.MOTION_FRAMES", 3)
    files, trace = person_files(tmp_path / "person", person), tmp_path / "t.json"
    call = ("demo", "--out", tmp_path / "out", "--person", files, "--trace", trace, "--json")
    assert gas_rt(*call, *model_flags(toy_folder)) == 0
    phases = check_trace(json.loads(trace.read_text()))
    names = [e["args"]["name"] for e in phases["M"] if e["name"] == "process_name"]
    assert names == ["orbit", "motion", "throughput field 128", "throughput field 256"]
    assert len(phases["s"]) == 12


def test_render_records_and_replays(
    diffusion_folder: Path, avatar_file: Path, tmp_path: Path, capsys: Capture
) -> None:
    record, flags = tmp_path / "r.gasrec", model_flags(diffusion_folder)
    call = ("--orbit", "-o", tmp_path / "o.mp4", "--size", 64, "--frames", 6)
    assert gas_rt("render", avatar_file, *call, "--record", record, "--fps", 12, *flags) == 0
    capsys.readouterr()
    again = ("--replay", record, "-o", tmp_path / "again.mp4", *flags)
    assert gas_rt("render", avatar_file, *again, "--json") == 0
    document = json.loads(capsys.readouterr().out)
    assert document["replay"] == {"frames": 6, "identical": 6, "differing": []}
    assert document["runs"][0]["policy"] == "diagonal"
    assert (tmp_path / "again.mp4").read_bytes() == (tmp_path / "o.mp4").read_bytes()
    assert gas_rt("render", avatar_file, *again) == 0
    assert "6 frames, 6 identical to the bit" in capsys.readouterr().out
    line = refused(capsys, "render", avatar_file, *again, "--policy", "field")
    assert "--policy: not with --replay" in line


def test_a_replay_that_differs_has_status_3(
    diffusion_folder: Path, avatar_file: Path, tmp_path: Path, capsys: Capture
) -> None:
    record, flags = tmp_path / "r.gasrec", model_flags(diffusion_folder)
    call = ("--orbit", "-o", tmp_path / "o.mp4", "--size", 64, "--frames", 4)
    assert gas_rt("render", avatar_file, *call, "--record", record, *flags) == 0
    said = Recording.open(record)
    shown = list(said.shown)
    shown[1] = replace(shown[1], digest=b"\1" * 16)
    replace(said, shown=tuple(shown)).save(record)
    capsys.readouterr()
    assert gas_rt("render", avatar_file, "--replay", record, "-o", tmp_path / "a.mp4", *flags) == 3
    assert "frame 1 is the first that differs" in capsys.readouterr().out
    assert "not a gas-rt recording" in refused(
        capsys, "render", avatar_file, "--replay", avatar_file, "-o", tmp_path / "a.mp4", *flags
    )
