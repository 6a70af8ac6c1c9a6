"""The verbs: results, --json, exit status, and one clear line for bad input."""

from __future__ import annotations

import json
import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any

import av
import numpy as np
import pytest
from PIL import Image

from gas_rt import Avatar, Camera, load
from gas_rt.cli import main
from gas_rt.cli.contact_sheet import read_truth
from gas_rt.engine import BACKENDS
from gas_rt.engine.gpu import Gpus
from gas_rt.errors import FileError
from tests.toy_bundle import manifest_of, rewrite
from tests.toy_person import NO_BAKE, ToyPerson, person_files

Capture = pytest.CaptureFixture[str]


@pytest.fixture(scope="module")
def files(person: ToyPerson, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return person_files(tmp_path_factory.mktemp("person"), person)


@pytest.fixture(scope="module")
def avatar_file(avatar: Avatar, tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("avatar") / "a.avatar"
    avatar.save(path)
    return path


@pytest.fixture
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("gas_rt.model.BakeConfig", lambda: NO_BAKE)


def gas_rt(*arguments: object) -> int:
    return main([str(a) for a in arguments])


def refused(capsys: Capture, *arguments: object) -> str:
    """The one line a bad call prints."""
    assert gas_rt(*arguments) == 1
    out, err = capsys.readouterr()
    assert out == ""
    lines = err.strip().splitlines()
    assert len(lines) == 1, err
    assert lines[0].startswith("gas-rt: error: ")
    assert "Traceback" not in err
    return lines[0]


def model_flags(folder: Path) -> list[str]:
    return [
        *("--model", str(folder), "--threads", "2"),
        *("--backend", "openvino", "--precision", "fp32"),
    ]


def film_frames(path: Path) -> list[np.ndarray]:
    with av.open(str(path)) as film:
        return [f.to_ndarray(format="rgb24") for f in film.decode(video=0)]


# ---- enroll ---------------------------------------------------------------------------------


@pytest.mark.usefixtures("quick")
def test_enroll_then_render(toy_folder: Path, files: Path, tmp_path: Path, capsys: Capture) -> None:
    out = tmp_path / "p.avatar"
    flags = model_flags(toy_folder)
    assert (
        gas_rt("enroll", files / "photo.png", "--body", files / "fit.npz", "-o", out, *flags) == 0
    )
    assert "p.avatar" in capsys.readouterr().out
    film = tmp_path / "o.mp4"
    motion = files / "motion.npz"
    call = ("render", out, "--motion", motion, "-o", film, "--size", 64, "--json", *flags)
    assert gas_rt(*call) == 0
    captured = capsys.readouterr()
    report = json.loads(captured.out)
    assert captured.err == ""
    assert report["command"][:2] == ["gas-rt", "render"]
    assert report["runs"][0]["frames"] == 20
    assert report["runs"][0]["resolution"] == [64, 64]
    frames = film_frames(film)
    assert len(frames) == 20
    # Somebody is in every picture and nobody is cut off: the border stays dark.
    for frame in frames:
        assert frame.mean() > 1
        assert max(frame[:1].mean(), frame[-1:].mean(), frame[:, :1].mean()) < 12


def test_enroll_refuses(toy_folder: Path, files: Path, tmp_path: Path, capsys: Capture) -> None:
    flags = model_flags(toy_folder)
    photo, fit, out = files / "photo.png", files / "fit.npz", tmp_path / "a.avatar"
    (tmp_path / "text.png").write_text("hello")
    Image.new("L", (64, 64), 255).save(tmp_path / "small.png")
    assert "not a PNG" in refused(
        capsys, "enroll", tmp_path / "text.png", "--body", fit, "-o", out, *flags
    )
    assert "mask: is 64×64, the photo 128×128" in refused(
        capsys, "enroll", photo, "--body", fit, "--mask", tmp_path / "small.png", "-o", out, *flags
    )
    assert "not an .npz archive" in refused(
        capsys, "enroll", photo, "--body", photo, "-o", out, *flags
    )
    assert "does not exist; create it first" in refused(
        capsys, "enroll", photo, "--body", fit, "-o", tmp_path / "none" / "a", *flags
    )
    assert not out.exists()


def test_a_bundle_with_a_changed_byte(
    toy_folder: Path, files: Path, tmp_path: Path, capsys: Capture
) -> None:
    folder = shutil.copytree(toy_folder, tmp_path / "toy")
    content = bytearray((folder / "nerf_field.onnx").read_bytes())
    content[100] ^= 1
    (folder / "nerf_field.onnx").write_bytes(content)
    line = refused(
        capsys,
        *("enroll", files / "photo.png", "--body", files / "fit.npz"),
        *("-o", tmp_path / "a", "--model", folder),
    )
    assert "nerf_field.onnx was changed" in line


# ---- render ---------------------------------------------------------------------------------


def test_render_an_orbit(
    toy_folder: Path, avatar_file: Path, tmp_path: Path, capsys: Capture
) -> None:
    film, report = tmp_path / "o.mp4", tmp_path / "r.json"
    flags = model_flags(toy_folder)
    call = ("--orbit", "-o", film, "--size", 48, "--frames", 8, "--mode", "baked", *flags)
    assert gas_rt("render", avatar_file, *call, "--report", report) == 0
    assert "8 frames, 48×48" in capsys.readouterr().out
    assert len(film_frames(film)) == 8
    assert json.loads(report.read_text())["runs"][0]["task"] == "view"


@pytest.fixture(scope="module")
def diffusion_file(diffusion_avatar: Avatar, tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("avatar") / "d.avatar"
    diffusion_avatar.save(path)
    return path


@pytest.mark.parametrize(
    ("flags", "policy", "steps"),
    [
        ([], "diagonal", 3),
        (["--policy", "sequential", "--steps", 1, "--seed", 7], "sequential", 1),
        (["--policy", "parity", "--steps", 2], "parity", 2),
        (["--policy", "field"], "field", 0),
    ],
)
def test_render_with_a_window_policy(
    diffusion_folder: Path,
    diffusion_file: Path,
    tmp_path: Path,
    capsys: Capture,
    flags: list[object],
    policy: str,
    steps: int,
) -> None:
    film = tmp_path / "o.mp4"
    call = ("--orbit", "-o", film, "--size", 64, "--frames", 7, "--json", *flags)
    assert gas_rt("render", diffusion_file, *call, *model_flags(diffusion_folder)) == 0
    (run,) = json.loads(capsys.readouterr().out)["runs"]
    assert (run["policy"], run["steps"], run["frames"]) == (policy, steps, 7)
    assert run["resolution"] == [64, 64]
    assert run["level"] == {
        "full": 7 * (policy != "field"),
        "fewer_steps": 0,
        "field": 7 * (policy == "field"),
        "held": 0,
    }
    assert ("denoise 1" in run["stages_ms"]) == (policy != "field")
    assert len(film_frames(film)) == 7


@pytest.mark.parametrize("policy", ["field", "diagonal", "sequential", "parity"])
def test_render_one_frame(
    diffusion_folder: Path, diffusion_file: Path, tmp_path: Path, capsys: Capture, policy: str
) -> None:
    film = tmp_path / "o.mp4"
    call = ("--orbit", "-o", film, "--frames", 1, "--size", 64, "--policy", policy)
    assert gas_rt("render", diffusion_file, *call, *model_flags(diffusion_folder)) == 0
    captured = capsys.readouterr()
    assert "o.mp4: 1 frames, 64×64, 0.0 fps" in captured.out
    assert captured.err == ""
    assert len(film_frames(film)) == 1


@pytest.mark.parametrize("policy", ["field", "diagonal"])
def test_render_warns_of_an_untrained_camera(
    diffusion_folder: Path,
    diffusion_avatar: Avatar,
    tmp_path: Path,
    capsys: Capture,
    policy: str,
) -> None:
    near = diffusion_avatar.camera
    far = Camera(near.intrinsics, near.rotation, near.translation * 8, near.width, near.height)
    replace(diffusion_avatar, camera=far).save(tmp_path / "far.avatar")
    call = ("--orbit", "-o", tmp_path / "o.mp4", "--frames", 2, "--policy", policy, "--json")
    assert gas_rt("render", tmp_path / "far.avatar", *call, *model_flags(diffusion_folder)) == 0
    captured = capsys.readouterr()
    assert json.loads(captured.out)["runs"][0]["frames"] == 2
    lines = captured.err.strip().splitlines()
    assert lines
    for line in lines:
        assert line.startswith("gas-rt: warning: ")
        assert "the model was trained on" in line


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        (["--policy", "magic"], "policy 'magic': bundle toy 0.0.1 supports field, diagonal"),
        (["--steps", "9"], "steps: policy 'diagonal' of this bundle takes 1, 3, got 9"),
        (["--seed", "-1"], "seed: expected a whole number of at least 0"),
    ],
)
def test_bad_policy_flags(
    diffusion_folder: Path,
    diffusion_file: Path,
    tmp_path: Path,
    capsys: Capture,
    flags: list[str],
    message: str,
) -> None:
    base = ("--orbit", "-o", tmp_path / "o.mp4", *model_flags(diffusion_folder))
    assert message in refused(capsys, "render", diffusion_file, *base, *flags)


def short_motion(tmp_path: Path, **change: Any) -> Path:
    arrays: dict[str, Any] = {
        "poses": np.zeros((4, 72), np.float32),
        "trans": np.zeros((4, 3), np.float32),
        "mocap_framerate": np.float64(25),
    }
    np.savez(tmp_path / "m.npz", **{**arrays, **change})
    return tmp_path / "m.npz"


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"poses": np.zeros((4, 70), np.float32)}, "70 values per frame"),
        ({"poses": np.zeros((0, 72), np.float32), "trans": np.zeros((0, 3))}, "empty"),
        ({"poses": np.full((4, 72), np.nan, np.float32)}, "NaN"),
        ({"mocap_framerate": np.float64(0)}, "mocap_framerate"),
    ],
)
def test_a_bad_motion(
    toy_folder: Path,
    avatar_file: Path,
    tmp_path: Path,
    capsys: Capture,
    change: dict[str, Any],
    message: str,
) -> None:
    motion = short_motion(tmp_path, **change)
    film = tmp_path / "o.mp4"
    line = refused(
        capsys, "render", avatar_file, "--motion", motion, "-o", film, *model_flags(toy_folder)
    )
    assert message in line
    assert not film.exists()


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        (["--frames", "0"], "--frames: expected at least 1, got 0"),
        (["--size", "0"], "--size: expected at least 16, got 0"),
        (["--policy", "diagonal"], "policy 'diagonal': bundle toy 0.0.1 supports field"),
        (["--mode", "pretty"], "mode: expected one of"),
        (["--fps", "-3"], "fps: expected a rate"),
        (["--backend", "abacus"], "backend 'abacus': unknown"),
        (["--precision", "int1"], "precision 'int1': unknown"),
        (["--threads", "0"], "threads: expected 1..1024"),
    ],
)
def test_bad_render_flags(
    toy_folder: Path,
    avatar_file: Path,
    tmp_path: Path,
    capsys: Capture,
    flags: list[str],
    message: str,
) -> None:
    base = ("--orbit", "-o", tmp_path / "o.mp4", *model_flags(toy_folder))
    assert message in refused(capsys, "render", avatar_file, *base, *flags)


def test_render_refuses_damaged_and_foreign_avatars(
    toy_folder: Path, avatar_file: Path, tmp_path: Path, capsys: Capture
) -> None:
    def attempt(path: Path, folder: Path = toy_folder) -> str:
        flags = ("--orbit", "-o", tmp_path / "o.mp4", *model_flags(folder))
        return refused(capsys, "render", path, *flags)

    assert "No such file" in attempt(tmp_path / "none.avatar")
    (tmp_path / "cut.avatar").write_bytes(avatar_file.read_bytes()[:-100])
    assert "truncated" in attempt(tmp_path / "cut.avatar")
    (tmp_path / "photo.avatar").write_bytes(b"\x89PNG\r\n\x1a\n" * 20)
    assert "not a gas-rt avatar" in attempt(tmp_path / "photo.avatar")
    other = shutil.copytree(toy_folder, tmp_path / "other")
    manifest = manifest_of(other)
    manifest["version"] = "0.0.2"
    rewrite(other, manifest)
    assert "was enrolled with bundle toy 0.0.1" in attempt(avatar_file, other)


# ---- demo -----------------------------------------------------------------------------------


SHEET_HEAD, SHEET_SIDE, CELL = 22, 74, 196  # of `gas_rt.video.sheet`, px


@pytest.fixture
def small_demo(monkeypatch: pytest.MonkeyPatch, quick: None) -> None:
    """A demo of few and small frames."""
    for name, value in {
        "FILM_SIDE": 48,
        "FPS": 200.0,
        "ORBIT_FRAMES": 6,
        "MOTION_FRAMES": 6,
        "SPEED_FRAMES": 4,
        "FIELD_SIDES": (32,),
    }.items():
        monkeypatch.setattr(f"gas_rt.cli.demo.{name}", value)


def with_demo(bundle: Path, files: Path, folder: Path) -> Path:
    """A copy of a bundle that has a demo person."""
    shutil.copytree(bundle, folder)
    shutil.copytree(files, folder / "demo")
    rewrite(folder, manifest_of(folder))
    return folder


def sheet_cells(path: Path) -> np.ndarray:
    """[rows, columns, 192, 192, 3]"""
    with Image.open(path) as sheet:
        cells = np.asarray(sheet)[SHEET_HEAD:, SHEET_SIDE:]
    rows, columns = cells.shape[0] // CELL, cells.shape[1] // CELL
    assert cells.shape[:2] == (rows * CELL, columns * CELL)
    cells = cells.reshape(rows, CELL, columns, CELL, 3).swapaxes(1, 2)
    return cells[:, :, :192, :192]


@pytest.mark.usefixtures("small_demo")
def test_demo_writes_film_sheet_and_report(
    toy_folder: Path, files: Path, tmp_path: Path, capsys: Capture
) -> None:
    folder, out = with_demo(toy_folder, files, tmp_path / "toy"), tmp_path / "out"
    assert gas_rt("demo", "--out", out, "--json", *model_flags(folder)) == 0
    report = json.loads(capsys.readouterr().out)
    assert report == json.loads((out / "report.json").read_text())
    names = [run["name"] for run in report["runs"]]
    assert names == ["orbit", "motion", "throughput field 32"]
    assert all(run["dropped"] == 0 for run in report["runs"])
    assert report["enroll_s"] > 0
    assert len(film_frames(out / "demo.mp4")) == 12
    cells = sheet_cells(out / "contact_sheet.png")
    assert cells.shape[:2] == (8, 5)  # four views and four poses
    assert all(cell.any() for cell in cells.reshape(-1, *cells.shape[2:]))


@pytest.mark.usefixtures("small_demo")
def test_the_demo_shows_what_stage_2_makes(
    diffusion_folder: Path, files: Path, tmp_path: Path, capsys: Capture
) -> None:
    folder, out = with_demo(diffusion_folder, files, tmp_path / "toy"), tmp_path / "out"
    flags = ("--steps", 3, "--seed", 3, "--json", *model_flags(folder))
    assert gas_rt("demo", "--out", out, *flags) == 0
    runs = {run["name"]: run for run in json.loads(capsys.readouterr().out)["runs"]}
    assert list(runs) == ["orbit", "motion", "throughput diagonal 128", "throughput field 32"]
    for name in ("orbit", "motion", "throughput diagonal 128"):
        assert (runs[name]["policy"], runs[name]["steps"]) == ("diagonal", 3)
        assert runs[name]["level"]["full"] == runs[name]["frames"]
    assert (runs["throughput field 32"]["policy"], runs["throughput field 32"]["steps"]) == (
        "field",
        0,
    )
    frames = film_frames(out / "demo.mp4")
    assert {frame.shape for frame in frames} == {(48, 48, 3)}
    assert len(frames) == 12
    cells = sheet_cells(out / "contact_sheet.png")
    assert cells.shape[:2] == (8, 5)

    avatar = Avatar.open(out / "demo.avatar")
    with load(folder, "openvino", threads=2, precision="fp32") as model:
        for first_row, clip in ((0, 0), (4, 1)):
            truth = read_truth(folder / "demo")[clip]
            stream = model.stream(avatar, truth.requests, task=truth.task, seed=3)
            made = [frame.rgb for frame in stream]
            assert len(made) == 4
            for row, expected in enumerate(made, start=first_row):
                scaled = Image.fromarray(expected).resize((192, 192), Image.Resampling.LANCZOS)
                assert np.array_equal(cells[row, 4], np.asarray(scaled))


@pytest.mark.usefixtures("small_demo")
def test_the_demo_by_the_field_of_a_bundle_with_stage_2(
    diffusion_folder: Path, files: Path, tmp_path: Path, capsys: Capture
) -> None:
    folder, out = with_demo(diffusion_folder, files, tmp_path / "toy"), tmp_path / "out"
    flags = ("--policy", "field", "--json", *model_flags(folder))
    assert gas_rt("demo", "--out", out, *flags) == 0
    runs = json.loads(capsys.readouterr().out)["runs"]
    assert {run["policy"] for run in runs} == {"field"}


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        (["--policy", "sideways"], "policy 'sideways'"),
        (["--steps", "7"], "7"),
        (["--policy", "parity", "--steps", "1"], "parity"),
        (["--seed", "-1"], "--seed: expected 0 to 2^64−1, got -1"),
        (["--seed", str(2**64)], "--seed: expected 0 to 2^64−1"),
        (["--motion", "none.npz"], "none.npz: no such motion"),
    ],
)
def test_the_demo_refuses_before_it_enrols(
    diffusion_folder: Path,
    files: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: Capture,
    flags: list[str],
    message: str,
) -> None:
    monkeypatch.delattr("gas_rt.model.Model.enroll")
    folder = with_demo(diffusion_folder, files, tmp_path / "toy")
    line = refused(capsys, "demo", "--out", tmp_path, *flags, *model_flags(folder))
    assert message in line


def test_demo_without_a_person(toy_folder: Path, tmp_path: Path, capsys: Capture) -> None:
    line = refused(capsys, "demo", "--out", tmp_path / "out", *model_flags(toy_folder))
    assert "has no file 'demo/photo.png'" in line


# ---- inspect and doctor -----------------------------------------------------------------------


def test_inspect_tells_what_each_file_is(
    toy_folder: Path, files: Path, avatar_file: Path, tmp_path: Path, capsys: Capture
) -> None:
    def kind(path: Path) -> dict[str, Any]:
        assert gas_rt("inspect", path, "--json") == 0
        found: dict[str, Any] = json.loads(capsys.readouterr().out)
        return found

    assert kind(toy_folder)["kind"] == kind(toy_folder / "bundle.json")["kind"] == "bundle"
    assert kind(toy_folder)["shell_radius_m"] == [0.06, 0.25]
    assert kind(avatar_file)["kind"] == "avatar"
    assert kind(avatar_file)["shell_radius_m"] == 0.06
    assert kind(toy_folder / "body.npz")["vertices"] == 920
    assert kind(files / "fit.npz")["picture"] == [128, 128]
    motion = kind(files / "motion.npz")
    assert (motion["kind"], motion["frames"], motion["fps"]) == ("motion", 20, 25.0)
    assert gas_rt("inspect", avatar_file) == 0
    assert "avatar" in capsys.readouterr().out


def test_inspect_tells_of_stage_2(
    diffusion_folder: Path, diffusion_file: Path, capsys: Capture
) -> None:
    assert gas_rt("inspect", diffusion_folder, "--json") == 0
    found = json.loads(capsys.readouterr().out)
    assert found["policies"] == ["field", "diagonal", "sequential", "parity"]
    assert found["default"] == {"policy": "diagonal", "steps": 3}
    assert found["sigmas"]["diagonal"] == {"3 steps": [40.0, 6.0, 0.35, 0.002]}
    assert found["sigmas"]["parity"]["2 steps"] == [20.0, 0.5, 0.0]
    assert found["profiles"]["live"]["frames"] == 5
    assert found["guidance"] == {"pose": 1.5, "view_behind": 2.0}
    assert gas_rt("inspect", diffusion_folder) == 0
    assert "sigmas diagonal    3 steps 40.0 6.0 0.35 0.002" in capsys.readouterr().out
    assert gas_rt("inspect", diffusion_file, "--json") == 0
    assert json.loads(capsys.readouterr().out)["latent"] == [4, 8, 8]


def test_inspect_refuses(tmp_path: Path, capsys: Capture) -> None:
    assert "no such file" in refused(capsys, "inspect", tmp_path / "none")
    (tmp_path / "x.npz").write_text("hello")
    assert "not an .npz archive" in refused(capsys, "inspect", tmp_path / "x.npz")
    np.savez(tmp_path / "y.npz", a=np.zeros(3))
    assert "neither a body" in refused(capsys, "inspect", tmp_path / "y.npz")
    (tmp_path / "z.txt").write_text("hello")
    assert "not a gas-rt avatar" in refused(capsys, "inspect", tmp_path / "z.txt")
    assert "neither a shipped bundle" in refused(capsys, "inspect", tmp_path)


def test_doctor_tells_of_this_machine(
    toy_folder: Path, monkeypatch: pytest.MonkeyPatch, capsys: Capture
) -> None:
    monkeypatch.setattr("gas_rt.engine.bundle.HOMES", (toy_folder.parent,))
    assert gas_rt("doctor", "--json") == 0
    found = json.loads(capsys.readouterr().out)
    assert found["missing"] == []
    assert found["bundles"][0]["name"] == "toy"
    assert isinstance(found["machine"]["openvino"]["bf16"], bool)
    assert found["machine"]["kernel_isa"]
    assert set(found["backends"]) == set(BACKENDS) - {"auto"}
    assert found["backends"]["openvino"]["usable"]
    assert gas_rt("doctor") == 0
    assert "nothing is missing" in capsys.readouterr().out


def test_doctor_says_what_each_backend_lacks(
    toy_folder: Path, monkeypatch: pytest.MonkeyPatch, capsys: Capture
) -> None:
    monkeypatch.setattr("gas_rt.engine.bundle.HOMES", (toy_folder.parent,))
    monkeypatch.setattr(
        "gas_rt.engine.availability.find_gpus", lambda: Gpus(problem="no NVIDIA driver")
    )
    assert gas_rt("doctor", "--json") == 0  # none of that is needed
    found = json.loads(capsys.readouterr().out)["backends"]["tensorrt"]
    assert not found["usable"]
    assert found["missing"][0]["what"] == "an NVIDIA GPU: no NVIDIA driver"
    assert "no plan has been built" in found["notes"][0]
    assert gas_rt("doctor") == 0
    lines = capsys.readouterr().out.splitlines()
    assert any(
        line.startswith("backend      openvino: can run on cpu (openvino ") for line in lines
    )
    assert "backend      tensorrt: cannot run here" in "\n".join(lines)
    assert "  tensorrt lacks an NVIDIA GPU: no NVIDIA driver; install one with its driver" in lines


def test_strict_and_an_unknown_backend(
    toy_folder: Path, files: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: Capture
) -> None:
    call = ("enroll", files / "photo.png", "--body", files / "fit.npz", "-o", tmp_path / "a")
    flags = ("--model", toy_folder, "--backend")
    assert "'abacus': unknown; choose one of auto, openvino, onnxruntime" in refused(
        capsys, *call, *flags, "abacus"
    )
    gpus = Gpus(("NVIDIA L4 (8.9)",), (13, 2))
    monkeypatch.setattr("gas_rt.engine.choose.find_gpus", lambda: gpus)
    monkeypatch.setattr("gas_rt.engine.availability.find_gpus", lambda: gpus)
    monkeypatch.setattr("gas_rt.engine.availability.installed_tensorrt", lambda: None)
    line = refused(capsys, *call, *flags, "auto", "--strict")
    assert (
        "backend tensorrt: lacks Python package tensorrt; run 'pip install tensorrt-cu13'" in line
    )
    assert "since 'strict' allows no fallback" in line


def test_doctor_says_how_to_add_what_is_missing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: Capture
) -> None:
    monkeypatch.setattr("gas_rt.engine.bundle.HOMES", (tmp_path,))
    monkeypatch.setitem(
        __import__("gas_rt.cli.doctor").cli.doctor.NEEDED, "no_such_module", "thing"
    )
    assert gas_rt("doctor", "--json") == 1
    missing = json.loads(capsys.readouterr().out)["missing"]
    assert {"what": "Python package thing", "remedy": "run 'pip install thing'"} in missing
    assert any("bundle" in m["what"] for m in missing)


# ---- the frame around the verbs -----------------------------------------------------------------


@pytest.mark.parametrize(
    "arguments", [[], ["fly"], ["enroll"], ["render", "a"], ["render", "a", "--frames", "x"]]
)
def test_usage_errors_exit_with_2(arguments: list[str], capsys: Capture) -> None:
    with pytest.raises(SystemExit) as info:
        main(arguments)
    assert info.value.code == 2
    assert "usage:" in capsys.readouterr().err


def test_help_and_version(capsys: Capture) -> None:
    for flag in ("--help", "--version"):
        with pytest.raises(SystemExit) as info:
            main([flag])
        assert info.value.code == 0
    out = capsys.readouterr().out
    for verb in ("demo", "enroll", "render", "inspect", "doctor"):
        assert verb in out


@pytest.mark.parametrize(
    ("error", "message"),
    [
        (OSError(28, "No space left on device", "o.mp4"), "o.mp4: No space left on device"),
        (PermissionError(13, "Permission denied"), "Permission denied"),
        (MemoryError(), "out of memory"),
        (FileError("a\nb\x1b[2Jc: gone"), "a b?[2Jc: gone"),
    ],
)
def test_what_the_machine_refuses_is_one_line_too(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: Capture,
    error: Exception,
    message: str,
) -> None:
    def fail(path: Path) -> None:
        raise error

    monkeypatch.setattr("gas_rt.cli.inspect.describe", fail)
    assert message in refused(capsys, "inspect", tmp_path)


def test_a_fit_with_a_missing_key_or_nan(
    toy_folder: Path, files: Path, tmp_path: Path, capsys: Capture
) -> None:
    with np.load(files / "fit.npz") as arrays:
        fit = {name: arrays[name].copy() for name in arrays.files}
    call = ("enroll", files / "photo.png", "-o", tmp_path / "a", *model_flags(toy_folder), "--body")
    np.savez(tmp_path / "f.npz", **{k: v for k, v in fit.items() if k != "translation"})
    assert "translation missing" in refused(capsys, *call, tmp_path / "f.npz")
    fit["betas"][3] = np.nan
    np.savez(tmp_path / "f.npz", **fit)
    assert "betas: 1 of 10 values are NaN" in refused(capsys, *call, tmp_path / "f.npz")


def test_a_bvh_bomb(toy_folder: Path, avatar_file: Path, tmp_path: Path, capsys: Capture) -> None:
    joints = "".join(f"JOINT j{i}\n{{\nOFFSET 0 0 0\n" for i in range(9000))
    (tmp_path / "m.bvh").write_text("HIERARCHY\nROOT r\n{\nOFFSET 0 0 0\n" + joints)
    flags = ("--motion", tmp_path / "m.bvh", "-o", tmp_path / "o.mp4", *model_flags(toy_folder))
    assert "nested deeper than 64" in refused(capsys, "render", avatar_file, *flags)


def test_errors_with_json_are_one_document(tmp_path: Path, capsys: Capture) -> None:
    assert gas_rt("inspect", tmp_path / "none", "--json") == 1
    document = json.loads(capsys.readouterr().out)
    assert document["error"]["type"] == "FileError"


def test_a_broken_bvh_is_named(tmp_path: Path, capsys: Capture) -> None:
    (tmp_path / "m.bvh").write_text("not a skeleton")
    assert "m.bvh" in refused(capsys, "inspect", tmp_path / "m.bvh")
