"""A bundle's `parity` against PyTorch's, on pictures that need no person."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import numpy as np
import pytest

from export import __main__ as commands
from export import compare as comparing
from gas_rt.engine import open_bundle
from tests.export.tiny_models import tiny_stage2

FRAMES = 6  # three windows of 3 that share 1


def conditions(**changed) -> comparing.Conditions:
    rng = np.random.default_rng(0)
    given = comparing.Conditions(
        task="pose",
        photo=rng.random((3, 32, 32), np.float32),
        renders=rng.random((FRAMES, 3, 32, 32), np.float32),
        normals=rng.random((FRAMES, 3, 32, 32), np.float32),
        guidance=np.linspace(1, 2, FRAMES, dtype=np.float32),
        truth=rng.random((FRAMES, 3, 32, 32), np.float32),
        mask=np.ones((FRAMES, 32, 32), bool),
    )
    return dataclasses.replace(given, **changed)


@pytest.mark.parametrize("guided", [True, False])
def test_the_bundle_makes_pytorchs_pictures(bundle, guided):
    opened = open_bundle(bundle)
    given = conditions() if guided else conditions(guidance=np.ones(FRAMES, np.float32))
    schedule = opened.config.diffusion.schedule("parity", steps=8)
    report = comparing.compare(
        opened, tiny_stage2(), given, schedule=schedule, precision="fp32", threads=1
    )
    assert report["ok"]
    assert report["frames"] == FRAMES
    assert report["psnr_db_lowest"] > 45  # the loss of fp16 weights; without it some 100 dB
    assert abs(report["loss_db"]) < 0.01


def test_other_weights_are_told_apart(bundle):
    opened = open_bundle(bundle)
    stage = tiny_stage2()
    stage.denoiser.unet.conv_out.weight.neg_()
    schedule = opened.config.diffusion.schedule("parity", steps=1)
    report = comparing.compare(
        opened, stage, conditions(), schedule=schedule, precision="fp32", threads=1
    )
    assert not report["ok"]
    assert "MISSED" in comparing.summary(
        {"bundle": opened.label, "task": "pose", "steps": 1, **report}
    )


def test_the_command_fails_with_3_where_the_bar_is_missed(monkeypatch, capsys):
    monkeypatch.setattr(comparing, "run", lambda *_, **__: {"ok": False})
    arguments = ["compare", "B", "A.pt", "U.pt", "--json"]
    assert commands.main(arguments) == 3
    assert capsys.readouterr().out == '{"ok": false}\n'


def test_user_errors_end_with_1_and_no_traceback(bundle, capsys):
    missing = Path("no-such.pt")
    assert commands.main(["compare", str(bundle), str(missing), str(missing)]) == 1
    assert capsys.readouterr().err.startswith("error: no-such.pt: no such file")
    arguments = ["compare", str(bundle), "a.pt", "u.pt", "--frames", "2"]
    assert commands.main(arguments) == 1
    assert "frames: at least one window of 3, got 2" in capsys.readouterr().err
