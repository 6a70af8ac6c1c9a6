"""A training that is killed again and again ends with the weights of one that was not."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from killed_run import ROOT, STEPS, trainer

from reference.diffusion.clips import write_clips
from reference.training import _forget
from tests.reference.diffusion.conftest import CHANNELS, SIDE, toy_clip

KILLS = 2
SCRIPT = Path(__file__).with_name("killed_run.py")


@pytest.fixture(scope="module")
def clips(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("clips")
    made = [toy_clip(k, "view" if k % 2 else "pose") for k in range(4)]
    black = np.zeros((CHANNELS, SIDE, SIDE), np.float16)
    write_clips(folder / "train-00000.npz", made, black_latent=black)
    return folder


@pytest.fixture(scope="module")
def teacher(clips: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("teacher")
    trainer("unet", clips, out, None)()
    return out / "checkpoint.pt"


@pytest.mark.timeout(1200)  # seconds on a free machine, many minutes on one that is shared
@pytest.mark.parametrize("stage", ["stage1", "autoencoder", "unet", "student"])
def test_kills_change_nothing(
    stage: str, shards: Path, clips: Path, tmp_path: Path, request: pytest.FixtureRequest
) -> None:
    data = shards if stage in ("stage1", "autoencoder") else clips
    own = request.getfixturevalue("teacher") if stage == "student" else None
    whole, parts = tmp_path / "whole", tmp_path / "parts"
    trainer(stage, data, whole, own)()
    told = [stage, KILLS, len(stage), data, parts, *([own] if own else [])]
    found = subprocess.run(
        [sys.executable, str(SCRIPT), *map(str, told)],
        cwd=ROOT,
        check=True,
        capture_output=True,
        text=True,
        # One thread: a process that is forked must not have others.
        env={"PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1"},
    )
    ends = [int(line) for line in found.stdout.split()]
    assert ends.count(-signal.SIGKILL) >= 1, ends
    one, two = (torch.load(d / "checkpoint.pt", weights_only=True) for d in (whole, parts))
    assert one["step"] == two["step"] == STEPS
    for part in ("model", "mean"):
        for name, value in one[part].items():
            assert torch.equal(two[part][name], value), (part, name)
    moments = zip(
        one["optimiser"]["state"].values(), two["optimiser"]["state"].values(), strict=True
    )
    assert all(torch.equal(a["exp_avg"], b["exp_avg"]) for a, b in moments)
    steps = [json.loads(line)["step"] for line in (parts / "curve.jsonl").read_text().splitlines()]
    assert steps == sorted(set(steps))


def test_a_curve_loses_what_a_kill_undid(tmp_path: Path) -> None:
    curve = tmp_path / "curve.jsonl"
    curve.write_text('{"step": 1}\n{"step": 2}\n{"step": 3}\n{"ste')
    _forget(curve, after=2)
    assert curve.read_text() == '{"step": 1}\n{"step": 2}\n'
    _forget(tmp_path / "none.jsonl", after=1)
    assert not (tmp_path / "none.jsonl").exists()
