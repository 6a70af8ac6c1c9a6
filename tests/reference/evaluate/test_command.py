"""The command line: what it accepts, and the document it prints."""

from __future__ import annotations

import json
from dataclasses import asdict

import numpy as np
import pytest
import torch
from small_people import ROOT

from reference.autoencoder import Autoencoder, AutoencoderConfig
from reference.diffusion import Denoiser
from reference.diffusion.ablations import ablated
from reference.diffusion.training import PRESETS
from reference.evaluate import __main__ as command
from reference.evaluate.cases import PERIOD
from reference.evaluate.shown import Shown
from reference.people import FitNoise

BUNDLE = str(ROOT / "engines" / "gas-mini")


@pytest.fixture
def squares(monkeypatch, square):
    """Grey squares in place of synthetic people, and their truth in place of a field."""

    def truth(case):
        return Shown(case.rgb.astype(np.float32) / 255, 0.1, 1, 1.0)

    monkeypatch.setattr(
        command, "view_case", lambda s, _, frames, size: square("view", frames=frames, seed=s)
    )
    for name in ("motion_case", "loop_case"):
        monkeypatch.setattr(
            command, name, lambda s, _, frames, size: square("pose", frames=frames, seed=s)
        )
    monkeypatch.setattr(command.fields, "shown_by", lambda _: truth)


def document(capsys, *arguments) -> dict:
    assert command.main([*arguments, "--bundle", BUNDLE, "--json"]) == 0
    return json.loads(capsys.readouterr().out)


def test_the_field_is_judged_on_orbits_and_motions(squares, capsys):
    found = document(capsys, "--seeds", "950000:950002", "--views", "4", "--motions", "1", "--rows")
    assert (found["stage"], found["policy"], found["renderer"]) == ("field", "field", "baked")
    assert found["seeds"] == [950_000, 950_002]
    assert found["motions"] == [1, 40]
    assert found["summary"]["view"]["seen"]["box_psnr_db"] == 60.0
    assert found["summary"]["motion"]["frames"] == 40
    assert len(found["rows"]) == 2 * 3 + 40
    assert found["first_frame"] == {"ms": 100.0, "poses": 1.0}
    assert found["command"].startswith("python -m reference.evaluate --seeds")
    assert found["backend"]["actual"] in ("openvino", "onnxruntime")  # by what the processor has


def test_videos_are_asked_for_by_kind(squares, monkeypatch, square, capsys):
    asked = []

    def view(seed, _, *, frames, size, noise=None):
        asked.append(noise)
        return square("view", frames=frames, seed=seed)

    monkeypatch.setattr(command, "view_case", view)
    usual = ["--seeds", "950000:950001", "--views", "2", "--motions", "0"]
    scans = document(capsys, *usual)
    videos = document(capsys, *usual, "--kind", "video", "--fit-noise", "0.5")
    assert asked == [None, FitNoise().scaled(0.5)]
    assert (scans["kind"], scans["fit_noise"]) == ("scan", 0.0)
    assert (videos["kind"], videos["fit_noise"]) == ("video", 0.5)


def test_steadiness_alone(squares, capsys):
    frames = str(3 * PERIOD)
    found = document(capsys, "--views", "0", "--motions", "0", "--steady", frames)
    assert "summary" not in found
    assert found["steady"]["change_db"] == 0.0


def plain(values):
    """Tuples as lists, as training writes them."""
    if isinstance(values, dict):
        return {k: plain(v) for k, v in values.items()}
    return [plain(v) for v in values] if isinstance(values, tuple) else values


@pytest.fixture
def checkpoints(tmp_path) -> list[str]:
    """Arguments that name compact checkpoints of untrained models."""
    model, train = PRESETS["tiny"]
    autoencoder = AutoencoderConfig(4, (8, 8, 8), (8, 8, 8), blocks=1)
    states = {
        "unet": {"model_config": model, "train": train, "mean": Denoiser(model)},
        "autoencoder": {"model_config": autoencoder, "mean": Autoencoder(autoencoder)},
    }
    for name, state in states.items():
        mean = state.pop("mean").state_dict()
        described = {key: plain(asdict(value)) for key, value in state.items()}
        torch.save({**described, "step": 7, "mean": mean}, tmp_path / f"{name}.pt")
    flags = {"unet": "checkpoint"}
    return [
        text
        for name in states
        for text in (f"--{flags.get(name, name)}", str(tmp_path / f"{name}.pt"))
    ]


def test_the_ceiling_needs_the_autoencoder_alone(squares, capsys):
    arguments = ("--stage", "ceiling", "--seeds", "950000:950001", "--views", "4", "--motions", "0")
    found = document(capsys, *arguments)
    assert (found["stage"], found["renderer"], found["policy"]) == (
        "ceiling",
        "torch",
        "round trip",
    )
    assert found["summary"]["view"]["all"]["frames"] == 3
    assert found["summary"]["view"]["all"]["box_psnr_db"] < 60  # it is not the truth itself


def test_an_ablation_says_what_it_is_and_is_given_no_field(
    monkeypatch, squares, capsys, checkpoints, tmp_path
):
    path = tmp_path / "unet.pt"
    state = torch.load(path, weights_only=True)
    model, _ = ablated("no-nerf", *PRESETS["tiny"])
    changed = {"ablation": "no-nerf", "model_config": plain(asdict(model))}
    torch.save({**state, **changed, "mean": Denoiser(model).state_dict()}, path)
    made = []

    def show(self, case):
        made.append(self)
        return Shown(case.rgb.astype(np.float32) / 255, 0.1, 2, 1.0)

    monkeypatch.setattr(command.stage2.Generator, "__call__", show)
    one = ("--seeds", "950000:950001", "--views", "4", "--motions", "0")
    found = document(capsys, "--stage", "full", "--policy", "parity", *one, *checkpoints)
    assert (found["stage"], found["ablation"]) == ("full", "no-nerf")
    assert found["shown_as"] == "normals only, as Animate Anyone and Champ condition"
    assert made[0].field is None


def test_distances_by_the_users_weights_are_in_the_document(monkeypatch, squares, capsys, tmp_path):
    monkeypatch.setattr(command, "open_lpips", lambda paths: lambda *_: float(len(paths)))
    monkeypatch.setattr(
        command, "open_detector", lambda _: lambda videos: videos.mean((1, 2, 3, 4))[:, None]
    )
    found = document(
        capsys,
        *("--seeds", "950000:950002", "--views", "17", "--motions", "1"),
        *("--lpips", "a.pt", "b.pt", "--fvd", "c.pt", "--clips", str(tmp_path / "kept")),
    )
    assert found["summary"]["view"]["seen"]["box_lpips"] == 2.0
    assert found["fvd"] == {part: {"distance": 0.0, "videos": 2} for part in ("view", "motion")}
    assert found["flicker"]["box"]["unexplained_levels"] == 0.0
    assert len(list((tmp_path / "kept").iterdir())) == 3


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--lpips", "/nowhere.pt"], "/nowhere.pt: no such file; give the state dict"),
        (["--fvd", "/nowhere.pt"], "/nowhere.pt: no such file; give the TorchScript"),
    ],
)
def test_weights_are_opened_before_anything_is_shown(capsys, arguments, message):
    assert command.main([*arguments, "--bundle", BUNDLE]) == 1
    assert capsys.readouterr().err.startswith(f"error: {message}")


@pytest.mark.parametrize(
    ("arguments", "steps"),
    [([], 2), (["--steps", "3"], 3), (["--sigmas", "9,3,2,1,0"], 4)],
)
def test_stage2_says_how_it_was_run(monkeypatch, squares, capsys, checkpoints, arguments, steps):
    made = []

    def show(self, case):
        made.append(self)
        return Shown(case.rgb.astype(np.float32) / 255, 0.1, 2, 1.0)

    monkeypatch.setattr(command.stage2.Generator, "__call__", show)
    found = document(
        capsys,
        *("--stage", "no-nerf", "--policy", "parity", "--guidance", "1.5,2.5"),
        *("--seeds", "950000:950001", "--views", "4"),
        *checkpoints,
        *arguments,
    )
    assert (found["stage"], found["policy"], found["renderer"]) == ("no-nerf", "parity", "torch")
    assert found["steps"] == steps
    assert len(found["sigmas"]) == steps + 1
    assert found["guidance"] == {"pose": 1.5, "view_behind": 2.5}
    assert found["trained_steps"] == 7
    assert found["backend"]["precision"] == "fp32"
    assert made[0].field is None
    assert made[0].windows == PRESETS["tiny"][1].windows


def test_an_autoencoder_of_another_size_is_named(checkpoints, capsys):
    known = str(ROOT / "reference" / "checkpoints" / "autoencoder-mini.pt")
    arguments = [*checkpoints, "--autoencoder", known, "--bundle", BUNDLE, "--stage", "no-nerf"]
    assert command.main(arguments) == 1
    message = capsys.readouterr().err
    assert "autoencoder-mini.pt: makes latents of 16 channels" in message
    assert "takes 4" in message


@pytest.mark.parametrize(
    "arguments",
    [
        ["--seeds", "5"],
        ["--seeds", "9:3"],
        ["--views", "1"],
        ["--views", "0", "--motions", "0"],
        ["--motions", "9"],
        ["--motion-frames", "0"],
        ["--steady", "75"],
        ["--steady", "100"],
        ["--renderer", "teacher"],
        ["--renderer", "torch"],
        ["--stage", "full", "--renderer", "baked"],
        ["--stage", "full", "--renderer", "torch"],
        ["--policy", "nearest"],
        ["--guidance", "strong"],
        ["--sigmas", "1,2"],
        ["--steps", "0"],
        ["--stage", "field", "--policy", "parity"],
        ["--stage", "full", "--guidance", "off"],
        ["--stage", "full", "--renderer", "runtime", "--checkpoint", "x"],
        ["--stage", "full", "--checkpoint", "x", "--steps", "2", "--sigmas", "9,1,0.5,0"],
        ["--stage", "ceiling", "--checkpoint", "x"],
        ["--stage", "ceiling", "--renderer", "runtime"],
        ["--stage", "ceiling", "--policy", "parity"],
        ["--stage", "ceiling", "--guidance", "off"],
        ["--fvd", "x", "--views", "16", "--motions", "1", "--motion-frames", "31"],
        ["--precision", "fp8"],
    ],
)
def test_bad_arguments_are_usage_errors(arguments, capsys):
    with pytest.raises(SystemExit) as error:
        command.main(arguments)
    assert error.value.code == 2
    assert "error:" in capsys.readouterr().err


@pytest.mark.parametrize(("arguments", "steps"), [([], 3), (["--steps", "2"], 2)])
def test_the_runtime_shows_stage_2_by_the_bundles_steps(
    monkeypatch, squares, capsys, diffusion_folder, arguments, steps
):
    made = []

    def show(self, case):
        made.append(self)
        return Shown(case.rgb.astype(np.float32) / 255, 0.1, 2, 1.0, levels={"full": 3, "field": 1})

    monkeypatch.setattr(command.Streamed, "__call__", show)
    common = ("--seeds", "950000:950001", "--views", "4", "--motions", "0", "--policy", "parity")
    given = [*common, *arguments, "--bundle", str(diffusion_folder), "--json"]
    assert command.main(["--stage", "full", *given]) == 0
    found = json.loads(capsys.readouterr().out)
    assert (found["renderer"], found["policy"], found["steps"]) == ("runtime", "parity", steps)
    assert found["level"] == {"full": 3, "field": 1}
    assert found["backend"]["actual"] in ("openvino", "onnxruntime")  # by what the processor has
    assert made[0].nerf
    assert command.main(["--stage", "no-nerf", *given]) == 0
    assert not made[1].nerf


def test_steps_that_the_bundle_lacks_are_named(diffusion_folder, capsys):
    arguments = ["--stage", "full", "--policy", "parity", "--steps", "7"]
    assert command.main([*arguments, "--bundle", str(diffusion_folder)]) == 1
    assert "parity takes 2, 3 steps" in capsys.readouterr().err


def test_a_bundle_without_stage_2_is_an_error(toy_folder, capsys):
    assert command.main(["--stage", "no-nerf", "--bundle", str(toy_folder)]) == 1
    assert "policy 'diagonal'" in capsys.readouterr().err


@pytest.mark.parametrize(
    "arguments",
    [
        ["--bundle", "/nowhere"],
        ["--renderer", "teacher", "--checkpoint", "/nowhere/checkpoint.pt"],
        ["--stage", "no-nerf", "--checkpoint", "/nowhere/checkpoint.pt"],
    ],
)
def test_missing_files_are_one_line_and_exit_1(arguments, capsys, monkeypatch):
    monkeypatch.chdir(ROOT)
    assert command.main(arguments) == 1
    message = capsys.readouterr().err
    assert message.startswith("error: ")
    assert "/nowhere" in message
    assert "Traceback" not in message
