"""Whom the benchmarks of sessions show: the bundled person or an avatar file, dancing."""

from __future__ import annotations

import tempfile
from pathlib import Path

import gas_rt
from gas_rt.body import procedural_motion
from gas_rt.cli.demo import person_folder
from gas_rt.cli.requests import motion_requests

__all__ = ["avatar_of", "dance"]

MOTION_FRAMES = 200
MOTION_FPS = 25.0


def avatar_of(model: gas_rt.Model, path: Path | None) -> gas_rt.Avatar:
    """The avatar of a file, or else the bundled person, enrolled now."""
    if path is not None:
        return model.open_avatar(path)
    person = person_folder(model, None)
    return model.enroll(person / "photo.png", person / "fit.npz", person / "mask.png")


def dance(model: gas_rt.Model, avatar: gas_rt.Avatar, side_px: int) -> list[gas_rt.Request]:
    """A new pose every frame; procedural, so that any bundle's avatar can be asked for it."""
    motion = procedural_motion("dance", MOTION_FRAMES, fps=MOTION_FPS, seed=0)
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder, "dance.npz")
        motion.save(path)
        return motion_requests(
            model.performer(avatar), path, side_px, fps=MOTION_FPS, frames=MOTION_FRAMES
        )
