"""A training that is killed again and again ends with the weights of one that was not."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from killed_run import MOMENTS, ROOT, STAGES, STEPS

from reference.diffusion.clips import write_clips
from reference.training import _forget
from tests.reference.diffusion.conftest import CHANNELS, SIDE, toy_clip

SCRIPT = Path(__file__).with_name("killed_run.py")
# A process that is forked must not have threads, and sums must be added in the same order.
ALONE = {"OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1", "MKL_NUM_THREADS": "1"}


@pytest.fixture(scope="module")
def trained(shards: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with every stage's whole training and the one in parts, and how they ended."""
    clips, out = tmp_path_factory.mktemp("clips"), tmp_path_factory.mktemp("trained")
    made = [toy_clip(k, "view" if k % 2 else "pose") for k in range(4)]
    black = np.zeros((CHANNELS, SIDE, SIDE), np.float16)
    write_clips(clips / "train-00000.npz", made, black_latent=black)
    told = [sys.executable, str(SCRIPT), str(shards), str(clips), str(out)]
    environment = os.environ | ALONE | {"PYTHONPATH": str(ROOT)}
    done = subprocess.run(
        told, cwd=ROOT, check=False, capture_output=True, text=True, env=environment
    )
    assert done.returncode == 0, done.stderr
    (out / "stderr.txt").write_text(done.stderr)
    return out


@pytest.mark.timeout(900)  # 80 s of processor time, which a machine that is shared gives slowly
@pytest.mark.parametrize("stage", STAGES)
def test_kills_change_nothing(stage: str, trained: Path) -> None:
    ends = json.loads((trained / "ends.json").read_text())[stage]
    told = (trained / "stderr.txt").read_text()
    assert {ends[name] for name, _ in MOMENTS} == {-signal.SIGKILL}, (ends, told)
    assert ends["somewhere"] in (-signal.SIGKILL, 0), (ends, told)  # 0: faster than the kill
    assert ends["whole"] == ends["parts"] == 0, (ends, told)
    whole, parts = trained / stage / "whole", trained / stage / "parts"
    one, two = (torch.load(d / "checkpoint.pt", weights_only=True) for d in (whole, parts))
    assert one["step"] == two["step"] == STEPS
    for part in ("model", "mean"):
        assert one[part].keys() == two[part].keys()
        for name, value in one[part].items():
            assert torch.equal(two[part][name], value), (part, name)
    moments = zip(
        one["optimiser"]["state"].values(), two["optimiser"]["state"].values(), strict=True
    )
    for a, b in moments:
        assert all(torch.equal(a[name], b[name]) for name in ("exp_avg", "exp_avg_sq", "step"))
    rows = [json.loads(line) for line in (parts / "curve.jsonl").read_text().splitlines()]
    assert [row["step"] for row in rows] == [STEPS]


def test_a_curve_loses_what_a_kill_undid(tmp_path: Path) -> None:
    curve = tmp_path / "curve.jsonl"
    curve.write_text('{"step": 1}\n{"step": 2}\n{"step": 3}\n{"ste')
    _forget(curve, after=2)
    assert curve.read_text() == '{"step": 1}\n{"step": 2}\n'
    _forget(tmp_path / "none.jsonl", after=1)
    assert not (tmp_path / "none.jsonl").exists()
