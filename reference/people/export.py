"""One person as files: a photo with its fit, a motion, and the true pictures of both clips."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from gas_rt.body import BodyFit, BodyModel, Motion
from gas_rt.files import write_npz
from reference.people.person import Person
from reference.people.sampling import FPS, Clip, Shot, pose_clip, view_clip

__all__ = ["write_person"]


def write_person(
    seed: int,
    body: BodyModel,
    folder: Path,
    *,
    frames: int,
    size: int,
    motion: str | None,
    progress: Callable[[str], None],
) -> None:
    """Write photo.png, mask.png, fit.npz, motion.npz and truth/ into `folder`."""
    progress("making the person")
    person = Person.from_seed(seed, body)
    progress("rendering the view clip")
    view = view_clip(seed, body, frames=frames, size=size, person=person)
    progress("rendering the pose clip")
    pose = pose_clip(seed, body, frames=frames, size=size, name=motion, person=person)
    truth = folder / "truth"
    truth.mkdir(parents=True, exist_ok=True)
    _write_photo(folder, view.reference)
    motion_of(pose).save(folder / "motion.npz")
    _write_clip(truth, "view", view)
    _write_clip(truth, "pose", pose)
    write_npz(truth / "cameras.npz", _cameras("view", view) | _cameras("pose", pose))
    progress(f"wrote {folder}")


def _write_photo(folder: Path, shot: Shot) -> None:
    _write_png(folder / "photo.png", shot.rgb)
    _write_png(folder / "mask.png", shot.mask)
    BodyFit(shot.betas, shot.pose, shot.camera).save(folder / "fit.npz")


def motion_of(clip: Clip) -> Motion:
    """A clip's poses as a motion file has them."""
    return Motion(
        np.stack([p.rotations for p in clip.poses]),
        np.stack([p.translation for p in clip.poses]),
        FPS,
    )


def _write_clip(folder: Path, name: str, clip: Clip) -> None:
    for k, picture in enumerate(clip.rgb):
        _write_png(folder / f"{name}_{k:03d}.png", picture)


def _cameras(name: str, clip: Clip) -> dict[str, NDArray[Any]]:
    """Cameras and poses of a clip under prefixed names."""
    return {
        f"{name}_intrinsics": np.stack([c.intrinsics for c in clip.cameras]),
        f"{name}_R": np.stack([c.rotation for c in clip.cameras]),
        f"{name}_t": np.stack([c.translation for c in clip.cameras]),
        f"{name}_rotations": np.stack([p.rotations for p in clip.poses]),
        f"{name}_translation": np.stack([p.translation for p in clip.poses]),
    }


def _write_png(path: Path, picture: NDArray[np.uint8]) -> None:
    """Atomically."""
    temporary = path.with_name(f"{path.name}.{os.getpid()}.tmp")
    with temporary.open("wb") as file:
        Image.fromarray(picture).save(file, format="png")
    temporary.replace(path)
