"""Trains in processes that are killed: ``killed_run.py SHARDS CLIPS OUT``.

Started by `test_killed.py`. One process imports torch and forks every training, so that a kill
costs no import; it has no threads when it forks.
"""

from __future__ import annotations

import json
import os
import random
import signal
import sys
import time
import traceback
from collections.abc import Callable
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parents[2]
STAGES = ("stage1", "autoencoder", "unet", "student")
STEPS = 6
# Moments and which of them is the last, in the order of the attempts: half a checkpoint is
# written, weights are ahead of their mean, a whole checkpoint has not got its name.
MOMENTS = (("saving", 1), ("stepping", 3), ("naming", 1))
PATIENCE_S = 0.1  # until a kill at any moment, which a few steps take


def trainer(stage: str, data: Path, out: Path, teacher: Path) -> Callable[[], object]:
    """A tiny training that saves after every step; everything is imported when this returns."""
    how: dict[str, Any] = {"data": data, "out": out, "validate_every": 0, "checkpoint_s": -1.0}
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


def die_at(moment: str, last: int) -> None:
    """Let this process kill itself at a moment's `last` time."""
    import torch

    from reference.training import Run

    met = 0

    def meet(before: Callable[[], object] = lambda: None) -> None:
        nonlocal met
        met += 1
        if met == last:
            before()
            os.kill(os.getpid(), signal.SIGKILL)

    save, rename, follow = torch.save, os.replace, Run._follow

    def saving(state: Any, path: Path) -> None:
        save(state, path)
        meet(lambda: os.truncate(path, path.stat().st_size // 2))

    def naming(source: Path, target: Path) -> None:
        if target.name == "checkpoint.pt":
            meet()
        rename(source, target)

    def stepping(run: Run) -> None:
        meet()
        follow(run)

    if moment == "saving":
        torch.save = saving
    elif moment == "naming":
        os.replace = naming
    else:
        Run._follow = stepping


def doomed(train: Callable[[], object], *, moment: str, last: int) -> None:
    """Train until this process kills itself."""
    die_at(moment, last)
    train()


def forked(work: Callable[[], object]) -> int:
    """The process that does the work."""
    child = os.fork()
    if child:
        return child
    code = 1
    try:
        work()
        code = 0
    except Exception:
        traceback.print_exc()
    finally:
        os._exit(code)  # a fork must not go on with what its parent was doing


def ended(child: int) -> int:
    """Its exit status, or minus the signal that ended it."""
    return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])


def killed_somewhere(child: int, out: Path, rng: random.Random) -> int:
    """Kill a training a random time after it has saved; it may have ended before that."""
    before = _stamp(out)
    while _stamp(out) == before:
        done, status = os.waitpid(child, os.WNOHANG)
        if done:
            return os.waitstatus_to_exitcode(status)
        time.sleep(0.005)
    time.sleep(rng.uniform(0, PATIENCE_S))
    os.kill(child, signal.SIGKILL)  # not yet waited for, so the number is still its own
    return ended(child)


def _stamp(out: Path) -> int:
    path = out / "checkpoint.pt"
    return path.stat().st_mtime_ns if path.exists() else 0


def main(shards: Path, clips: Path, out: Path) -> None:
    """Train every stage, undisturbed and killed; how processes ended goes to ``ends.json``."""
    import torch

    torch.set_num_threads(1)
    ends: dict[str, dict[str, int]] = {}
    for seed, stage in enumerate(STAGES):
        data = shards if stage in ("stage1", "autoencoder") else clips
        teacher = out / "unet" / "whole" / "checkpoint.pt"
        parts = out / stage / "parts"
        train = trainer(stage, data, parts, teacher)
        found = ends[stage] = {
            "whole": ended(forked(trainer(stage, data, out / stage / "whole", teacher)))
        }
        for moment, last in MOMENTS:
            found[moment] = ended(forked(partial(doomed, train, moment=moment, last=last)))
        found["somewhere"] = killed_somewhere(forked(train), parts, random.Random(seed))
        found["parts"] = ended(forked(train))
    (out / "ends.json").write_text(json.dumps(ends))


if __name__ == "__main__":
    main(*map(Path, sys.argv[1:]))
