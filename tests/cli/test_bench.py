"""gas-rt bench on the toy bundle: what it reports, writes, refuses, and its exit status."""

from __future__ import annotations

import copy
import json
from dataclasses import asdict
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from gas_rt import Avatar, BackendReport, Model
from gas_rt.bench.scenario import Promise
from gas_rt.cli import bench, cold_start
from gas_rt.errors import BackendError
from gas_rt.stream.report import environment
from tests.bench.reports import report as synthetic
from tests.cli.test_cli import gas_rt, model_flags, refused

Capture = pytest.CaptureFixture[str]


@pytest.fixture(scope="module")
def avatar_path(diffusion_avatar: Avatar, tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("avatar") / "a.avatar"
    diffusion_avatar.save(path)
    return path


@pytest.fixture
def flags(diffusion_folder: Path, avatar_path: Path) -> list[str]:
    return [*model_flags(diffusion_folder), "--avatar", str(avatar_path), "--fps", "100"]


@pytest.mark.timeout(300)  # two of its processes start from nothing
def test_quick_measures_every_combination(
    flags: list[str], tmp_path: Path, capsys: Capture
) -> None:
    out, plot = tmp_path / "r.json", tmp_path / "p.png"
    call = ["bench", "--quick", "--json", "--out", out, "--plot", plot, *flags]
    call += ["--policies", "diagonal,field", "--steps", "3", "--resolutions", "48,64"]
    assert gas_rt(*call) == 0
    document = json.loads(capsys.readouterr().out)
    assert document == json.loads(out.read_text())
    assert document["schema_version"] == 1
    assert document["command"][:2] == ["gas-rt", "bench"]
    names = [run["name"] for run in document["runs"]]
    assert len(names) == len(set(names)) == 2 * 2 * 2
    for run in document["runs"]:
        if run["kind"] == "live":  # as many as this machine, now, makes in a fifth of a second
            assert run["viewer"] is None or run["viewer"]["frames"] == run["frames"]
            assert run["push_late_ms"]["max"] >= 0
            continue
        assert run["frames"] >= 4, run["name"]
        assert run["resolution"] in ([48, 48], [64, 64])
        assert run["core_s_per_frame"] > 0
        assert run["backend"]["actual"] == "openvino"
        work = sum(v["p50"] for v in run["stages_ms"].values())
        assert 0 < work <= 3 * run["stages_sum_ms"]
        assert run["level"]["field" if run["policy"] == "field" else "full"] == run["frames"]
    cold, warm = document["cold_start"]
    assert (cold["name"][:5], warm["name"][:5]) == ("cold ", "warm ")
    assert cold["plans"] == warm["plans"] == "on"
    for start in (cold, warm):
        phases = [v for k, v in start.items() if k.endswith("_ms") and k != "total_ms"]
        assert len(phases) == 5
        assert all(v > 0 for v in phases)
        assert start["total_ms"] == pytest.approx(sum(phases), abs=0.01)
        assert start["peak_rss_mib"] > 20
    assert document["bench"]["promises"] == []
    assert document["bench"]["not_judged"] == "--quick"
    with Image.open(plot) as picture:
        assert picture.width > 1000


def test_the_table_is_for_people(flags: list[str], capsys: Capture) -> None:
    call = ["--quick", "--no-start", "--policies", "sequential", "--steps", "3"]
    assert gas_rt("bench", *call, *flags) == 0
    text = capsys.readouterr().out
    assert "saturated sequential 3 steps 128 px openvino" in text
    assert "promises: not judged (--quick)" in text


def test_it_refuses(flags: list[str], tmp_path: Path, capsys: Capture) -> None:
    def told(*more: object) -> str:
        return refused(capsys, "bench", *flags, *more)

    assert "parity needs the whole clip" in told("--policies", "parity")
    assert "supports field" in told("--policies", "none")
    assert "3, got 4" in told("--steps", "4")
    assert "--seconds: expected 0.1 to 86400, got 0.0" in told("--seconds", "0")
    assert "--seconds: expected 0.1" in told("--seconds", "inf")
    assert "--rounds: expected 1" in told("--rounds", "0")
    assert "--fps: expected 1 to 1000, got nan" in told("--fps", "nan")
    assert "--jitter-ms: expected 0" in told("--jitter-ms", "-1")
    assert "--buffer-ms: expected 0" in told("--buffer-ms", "inf")
    assert "--resolutions: expected 16" in told("--resolutions", "8")
    assert "does not exist; create it first" in told("--out", tmp_path / "none" / "r.json")
    assert "is a folder" in told("--plot", tmp_path)
    assert "--quick run judges nothing" in told("--quick", "--compare", tmp_path / "r.json")
    assert "no such motion" in told("--motion", "none")
    (tmp_path / "r.json").write_text('{"schema_version": 7}')
    assert "'schema_version' is 7, expected 1" in told("--compare", tmp_path / "r.json")
    (tmp_path / "r.json").write_text(json.dumps(synthetic()))
    assert "the runs are unlike: environment cpu was 'Toy'" in told(
        "--compare", tmp_path / "r.json"
    )


def test_words_instead_of_numbers_are_a_usage_error(flags: list[str], capsys: Capture) -> None:
    with pytest.raises(SystemExit) as caught:
        gas_rt("bench", "--steps", "four", *flags)
    assert caught.value.code == 2
    assert "expected whole numbers, got 'four'" in capsys.readouterr().err


# ---- exit status: measuring is replaced, since a busy machine measures what it likes -------------


@pytest.fixture
def measured(monkeypatch: pytest.MonkeyPatch) -> dict[str, Any]:
    """The report that the verb will believe to have measured."""
    document = synthetic()
    monkeypatch.setattr(bench, "measured", lambda *_: copy.deepcopy(document))
    return document


@pytest.fixture
def slow_flags(diffusion_folder: Path, avatar_path: Path) -> list[str]:
    return [*model_flags(diffusion_folder), "--avatar", str(avatar_path), "--steps", "3"]


def test_promises_kept(measured: dict[str, Any], slow_flags: list[str], capsys: Capture) -> None:
    assert gas_rt("bench", *slow_flags) == 0
    out, err = capsys.readouterr()
    assert "steady rate: 34.000 (at least 30 fps): passed" in out
    assert err == ""


def test_a_promise_missed(measured: dict[str, Any], slow_flags: list[str], capsys: Capture) -> None:
    measured["runs"][0]["fps"] = 29.0
    assert gas_rt("bench", "--json", *slow_flags) == 3
    out, err = capsys.readouterr()
    assert "promise: steady rate: 29 (at least 30 fps): missed" in err
    promises = json.loads(out)["bench"]["promises"]
    assert [p["status"] for p in promises].count("missed") == 1


def test_too_noisy(measured: dict[str, Any], slow_flags: list[str], capsys: Capture) -> None:
    problem = "round 1: other processes took 30% of the processors"
    measured["bench"]["noise"] = [f"live: {problem}"]
    for run in measured["runs"]:
        run["noise"] = {"spread": 0.02, "problems": [problem]}
    assert gas_rt("bench", "--json", *slow_flags) == 0  # kept in spite of that
    out, err = capsys.readouterr()
    assert "too noisy to count: live: round 1" in err
    assert {p["status"] for p in json.loads(out)["bench"]["promises"]} == {"passed"}
    for run in measured["runs"]:
        run |= {"fps": 1.0, "age_ms": {**run["age_ms"], "p95": 1e4}}
    assert gas_rt("bench", "--json", *slow_flags) == 3
    out, err = capsys.readouterr()
    found = {p["name"]: p["status"] for p in json.loads(out)["bench"]["promises"]}
    assert found["steady rate"] == found["age of pose, p95"] == "too noisy"


def test_noise_in_another_case_is_told_and_disturbs_no_promise(
    measured: dict[str, Any], slow_flags: list[str], capsys: Capture
) -> None:
    measured["bench"]["noise"] = ["live 2 steps: round 1: other processes took 30%"]
    assert gas_rt("bench", "--json", *slow_flags) == 0
    out, err = capsys.readouterr()
    assert "too noisy to count: live 2 steps" in err
    assert {p["status"] for p in json.loads(out)["bench"]["promises"]} == {"passed"}


def old_report(like: dict[str, Any], path: Path, backend: BackendReport, **change: Any) -> Path:
    """A report of this very machine and model, as --compare wants it; `like` gets its runs too."""
    for run in like["runs"]:
        run |= {"steps": 3, "backend": asdict(backend)}
    model = {"bundle": "toy", "threads": 2}
    old = {**copy.deepcopy(like), "environment": environment(), "model": model}
    old["runs"][0] |= change
    path.write_text(json.dumps(old))
    return path


def test_compare(
    measured: dict[str, Any],
    slow_flags: list[str],
    diffusion_model: Model,
    tmp_path: Path,
    capsys: Capture,
) -> None:
    old = old_report(measured, tmp_path / "old.json", diffusion_model.backend)
    assert gas_rt("bench", "--json", "--compare", old, *slow_flags) == 0
    comparison = json.loads(capsys.readouterr().out)["comparison"]
    assert len(comparison["changes"]) > 10
    assert not any(change["regressed"] for change in comparison["changes"])

    old = old_report(measured, tmp_path / "old.json", diffusion_model.backend, fps=40.0)
    assert gas_rt("bench", "--json", "--compare", old, *slow_flags) == 3
    out, err = capsys.readouterr()
    assert "fps 40 → 34 fps, -15.0% (less by 10% is tolerated)" in err
    assert sum(c["regressed"] for c in json.loads(out)["comparison"]["changes"]) == 1

    said = refused(capsys, "bench", "--compare", old, "--resolutions", "64", *slow_flags)
    assert "no run like saturated diagonal 3 steps 64 px openvino" in said


def test_other_bounds_other_verdicts(
    measured: dict[str, Any], slow_flags: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    harder = (Promise("rate", "saturated", ("fps",), "at least", 60.0, "fps"),)
    monkeypatch.setattr("gas_rt.bench.scenario.PROMISES", harder)
    assert gas_rt("bench", *slow_flags) == 3


def test_a_start_that_fails_is_one_clear_error(tmp_path: Path) -> None:
    settings = cold_start.StartSettings(
        model=str(tmp_path / "none"),
        backend="openvino",
        precision="fp32",
        threads=1,
        avatar="none",
        policy="field",
        steps=None,
        side_px=48,
    )
    with pytest.raises(BackendError, match=r"the process that measures a start failed: .*none"):
        cold_start.measure_starts(settings, "toy", runs=1)
