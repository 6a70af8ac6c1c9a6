"""The evaluation's bookkeeping: which frames count, on which side, and what is reported."""

from __future__ import annotations

import json
from types import SimpleNamespace

import numpy as np
import pytest
from PIL import Image
from small_people import ROOT, orbit_camera

import reference.people
from gas_rt.core import Pose
from reference import evaluate as evaluation

VIEWS = 4
AZIMUTHS = (0.0, np.radians(59.0), np.radians(120.0), np.radians(-60.0))


@pytest.fixture
def clip(monkeypatch):
    """A grey square seen by an orbit, in place of a synthetic person."""
    rgb = np.zeros((VIEWS, 32, 32, 3), np.uint8)
    mask = np.zeros((VIEWS, 32, 32), np.uint8)
    rgb[:, 8:24, 8:24], mask[:, 8:24, 8:24] = 128, 255
    pose = Pose.rest()
    cameras = tuple(orbit_camera(a) for a in AZIMUTHS)
    shot = SimpleNamespace(rgb=rgb[0], mask=mask[0], pose=pose, camera=cameras[0])
    clip = SimpleNamespace(
        rgb=rgb,
        mask=mask,
        poses=(pose,) * VIEWS,
        cameras=cameras,
        betas=np.zeros(10, np.float32),
        reference=shot,
    )
    monkeypatch.setattr(reference.people, "view_clip", lambda *_, **__: clip, raising=False)
    return clip


def enrol_with_error(error):
    """A renderer whose pictures are off by `error` inside the square."""

    def enrol(betas, photo):
        truth = photo.rgb.astype(np.float32) / 255
        return lambda pose, camera: truth + error * (truth > 0)

    return enrol


def test_frames_and_sides(clip, body, tmp_path):
    sheet = tmp_path / "sheet.png"
    rows = evaluation.evaluate(
        enrol_with_error(0.1), range(950_000, 950_002), views=VIEWS, body=body, sheet=sheet
    )
    assert [(r["seed"], r["frame"]) for r in rows[:3]] == [(950_000, k) for k in (1, 2, 3)]
    mean = evaluation.summary(rows)
    assert mean["all"]["frames"] == 6
    assert mean["seen"]["frames"] == 4
    assert mean["hidden"]["frames"] == 2
    # 16 × 16 pixels off by 0.1 in a box of 24 × 24 and a picture of 32 × 32.
    box = -10 * np.log10(0.01 * 256 / 576)
    assert mean["all"]["box_psnr_db"] == pytest.approx(box, abs=1e-3)
    assert mean["all"]["psnr_db"] == pytest.approx(-10 * np.log10(0.01 / 4), abs=1e-3)
    with Image.open(sheet) as picture:
        assert picture.height == 4 * 32


def test_json_document(clip, monkeypatch, capsys):
    monkeypatch.setattr(evaluation, "runtime", lambda *_: enrol_with_error(0.0))
    bundle = str(ROOT / "engines" / "gas-mini")
    arguments = ["--seeds", "950000:950001", "--views", str(VIEWS), "--bundle", bundle, "--json"]
    assert evaluation.main(arguments) == 0
    document = json.loads(capsys.readouterr().out)
    assert document["renderer"] == "baked"
    assert document["seeds"] == [950_000, 950_001]
    assert document["mean"]["seen"]["box_psnr_db"] == 60.0
    assert len(document["frames"]) == VIEWS - 1


@pytest.mark.parametrize(
    "arguments",
    [["--seeds", "5"], ["--seeds", "9:3"], ["--views", "1"], ["--renderer", "teacher"]],
)
def test_bad_arguments_are_usage_errors(arguments, capsys):
    with pytest.raises(SystemExit) as error:
        evaluation.main(arguments)
    assert error.value.code == 2
    assert "error:" in capsys.readouterr().err


@pytest.mark.parametrize(
    "arguments",
    [
        ["--bundle", "/nowhere"],
        ["--renderer", "teacher", "--checkpoint", "/nowhere/checkpoint.pt"],
    ],
)
def test_missing_files_are_one_line_and_exit_1(arguments, capsys, monkeypatch):
    monkeypatch.chdir(ROOT)
    assert evaluation.main(arguments) == 1
    message = capsys.readouterr().err
    assert message.startswith("error: ")
    assert "/nowhere" in message
    assert "Traceback" not in message
