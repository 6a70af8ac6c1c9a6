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
from collections.abc import Callable
from dataclasses import replace
from functools import partial
from pathlib import Path

import torch

ROOT = Path(__file__).parents[2]
STEPS = 8


def trainer(stage: str, data: Path, out: Path, teacher: Path | None) -> Callable[[], object]:
    """A tiny training that saves after every step; everything is imported when this returns."""
    torch.set_num_threads(1)
    how = {"data": data, "out": out, "validate_every": 0, "checkpoint_s": -1.0}
    if stage == "stage1":
        from gas_rt.body import BodyModel
        from reference.nerf import PRESETS
        from reference.nerf.training import train

        def stage1() -> object:
            field, config = PRESETS["tiny"]
            # Opened after the fork: kernels have threads of their own.
            body = BodyModel.open(ROOT / "engines" / "gas-mini" / "body.npz")
            return train(field, replace(config, steps=STEPS), body=body, **how)

        return stage1
    if stage == "autoencoder":
        from reference.autoencoder.training import PRESETS, train

        model, coding = PRESETS["tiny"]
        return partial(train, model, replace(coding, steps=STEPS), **how)
    if stage == "unet":
        from reference.diffusion.training import PRESETS, train

        unet, diffusion = PRESETS["tiny"]
        return partial(train, unet, replace(diffusion, steps=STEPS, opening_steps=3), **how)
    from reference.diffusion.distill import PRESETS, train

    return partial(train, replace(PRESETS["tiny"], steps=STEPS), teacher=teacher, **how)


def killed(stage: str, kills: int, seed: int, data: Path, out: Path, teacher: Path | None) -> None:
    """Kill the trainer `kills` times, each time after some progress, then let it finish."""
    rng, train = random.Random(seed), trainer(stage, data, out, teacher)
    for left in range(kills, -1, -1):
        before = _stamp(out)
        child = os.fork()
        if not child:
            code = 1
            try:
                train()
                code = 0
            finally:
                os._exit(code)
        if not left:
            _, status = os.waitpid(child, 0)
            sys.exit(os.waitstatus_to_exitcode(status))
        while _stamp(out) == before:
            time.sleep(0.005)
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
