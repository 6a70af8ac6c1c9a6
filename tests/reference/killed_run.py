"""Trains in processes that it kills: ``killed_run.py STAGE KILLS SEED SHARDS OUT [TEACHER]``.

Started by `test_killed.py`. One process imports and forks a trainer again and again, so that a kill
costs no import; it has no threads when it forks.
"""

from __future__ import annotations

import os
import random
import signal
import sys
import time
from dataclasses import replace
from pathlib import Path

import torch

ROOT = Path(__file__).parents[2]
STEPS = 12


def train(stage: str, data: Path, out: Path, teacher: Path | None) -> None:
    """A tiny training that saves after every step, to its end or wherever it is stopped."""
    torch.set_num_threads(1)
    how = {"data": data, "out": out, "validate_every": 0, "checkpoint_s": -1.0}
    if stage == "stage1":
        from gas_rt.body import BodyModel
        from reference.nerf import PRESETS
        from reference.nerf.training import train as run

        field, config = PRESETS["tiny"]
        body = BodyModel.open(ROOT / "engines" / "gas-mini" / "body.npz")
        run(field, replace(config, steps=STEPS), body=body, **how)
    elif stage == "autoencoder":
        from reference.autoencoder.training import PRESETS
        from reference.autoencoder.training import train as run

        model, coding = PRESETS["tiny"]
        run(model, replace(coding, steps=STEPS), **how)
    elif stage == "unet":
        from reference.diffusion.training import PRESETS
        from reference.diffusion.training import train as run

        unet, diffusion = PRESETS["tiny"]
        run(unet, replace(diffusion, steps=STEPS, opening_steps=4), **how)
    else:
        from reference.diffusion.distill import PRESETS
        from reference.diffusion.distill import train as run

        assert teacher is not None
        run(replace(PRESETS["tiny"], steps=STEPS), teacher=teacher, **how)


def killed(stage: str, kills: int, seed: int, data: Path, out: Path, teacher: Path | None) -> None:
    """Kill the trainer `kills` times, each time after some progress, then let it finish."""
    rng = random.Random(seed)
    for left in range(kills, -1, -1):
        before = _stamp(out)
        child = os.fork()
        if not child:
            code = 1
            try:
                train(stage, data, out, teacher)
                code = 0
            finally:
                os._exit(code)
        if not left:
            _, status = os.waitpid(child, 0)
            sys.exit(os.waitstatus_to_exitcode(status))
        while _stamp(out) == before:
            time.sleep(0.001)
        time.sleep(rng.uniform(0, 0.1))
        os.kill(child, signal.SIGKILL)
        _, status = os.waitpid(child, 0)
        sys.stdout.write(f"{os.waitstatus_to_exitcode(status)}\n")
        sys.stdout.flush()


def _stamp(out: Path) -> int:
    path = out / "checkpoint.pt"
    return path.stat().st_mtime_ns if path.exists() else 0


if __name__ == "__main__":
    stage, kills, seed, data, out, *teacher = sys.argv[1:]
    killed(
        stage,
        int(kills),
        int(seed),
        Path(data),
        Path(out),
        Path(teacher[0]) if teacher else None,
    )
