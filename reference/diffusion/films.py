"""Films: what a clip is made of before any model has seen it, one ``.npz`` per person.

Drawing people needs no model, so it can begin while stage 1 and the autoencoder are trained.
"""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from gas_rt.body import BodyModel
from gas_rt.core import Camera, Pose
from gas_rt.errors import FileError
from gas_rt.files import read_npz
from reference import people
from reference.people.mixture import Mixture
from reference.people.seeds import generator

__all__ = ["Film", "film_path", "read_film", "shoot_film", "stride_of", "task_of", "write_film"]

U8 = NDArray[np.uint8]
F32 = NDArray[np.float32]

RELEASE_ORBIT_SHARE = 0.4  # of view clips; the others draw step, direction and bobbing
STRIDES = (1, 1, 2, 3)  # a pose clip's, of 25 fps, drawn evenly
KEYS = ("task", "kind", "rgb", "mask", "betas", "rotations", "translation", "K", "R", "t")


@dataclass(frozen=True, eq=False)
class Film:
    """The photo before the L frames of a clip: rgb [1 + L, H, W, 3], mask [1 + L, H, W]."""

    task: str
    kind: str
    betas: F32
    rgb: U8
    mask: U8
    poses: tuple[Pose, ...]
    cameras: tuple[Camera, ...]

    @classmethod
    def of(cls, clip: people.Clip) -> Film:
        """What a clip of `people` shows."""
        shot = clip.reference
        return cls(
            clip.task,
            clip.kind,
            clip.betas,
            np.concatenate([shot.rgb[None], clip.rgb]),
            np.concatenate([shot.mask[None], clip.mask]),
            (shot.pose, *clip.poses),
            (shot.camera, *clip.cameras),
        )


def task_of(seed: int) -> str:
    """Pose and view clips alternate."""
    return ("pose", "view")[seed % 2]


def stride_of(seed: int) -> int:
    """Of every how many frames of a motion the seed's clip shows one."""
    return int(generator(seed, "stage 2 stride").choice(STRIDES))


def shoot_film(
    seed: int, body: BodyModel, *, frames: int, size: int, mixture: Mixture
) -> people.Clip:
    """The pictures of the seed's clip, as `people` draws them, and what is known of them."""
    task, stride = task_of(seed), stride_of(seed)
    if mixture.kind_of(seed) == "video":
        return people.video_clip(
            seed,
            body,
            task="view" if task == "view" else "pose",
            noise=mixture.noise,
            frames=frames,
            stride=stride,
            size=size,
        )
    if task == "view":
        rng = generator(seed, "stage 2 clip")
        variant = 0 if rng.random() < RELEASE_ORBIT_SHARE else 1
        return people.view_clip(seed, body, frames=frames, size=size, variant=variant)
    return people.pose_clip(seed, body, frames=frames, size=size, stride=stride)


def film_path(folder: Path, seed: int) -> Path:
    """Where a person's film is kept."""
    return folder / f"{seed:06d}.npz"


def write_film(path: Path, film: Film) -> None:
    """Put a film in place atomically; not compressed, since it is read once and removed."""
    arrays: dict[str, Any] = {
        "task": np.array(film.task),
        "kind": np.array(film.kind),
        "rgb": film.rgb,
        "mask": film.mask,
        "betas": film.betas,
        "rotations": np.stack([pose.rotations for pose in film.poses]),
        "translation": np.stack([pose.translation for pose in film.poses]),
        "K": np.stack([camera.intrinsics for camera in film.cameras]),
        "R": np.stack([camera.rotation for camera in film.cameras]),
        "t": np.stack([camera.translation for camera in film.cameras]),
    }
    temporary = path.with_suffix(f".{os.getpid()}.tmp")
    with temporary.open("wb") as file:
        np.savez(file, **arrays)
    temporary.replace(path)


def read_film(path: Path) -> Film:
    """A film that `write_film` wrote."""
    arrays = read_npz(path)
    if missing := set(KEYS) - set(arrays):
        raise FileError(f"{path}: no film, {sorted(missing)} missing; remove it, it is drawn again")
    rgb = arrays["rgb"]
    height, width = rgb.shape[1:3]
    poses: list[Pose] = []
    for rotations, translation in zip(arrays["rotations"], arrays["translation"], strict=True):
        same = poses and np.array_equal(rotations, poses[-1].rotations)
        if same and np.array_equal(translation, poses[-1].translation):
            poses.append(poses[-1])  # whoever stands still is posed once
        else:
            poses.append(Pose(rotations, translation))
    views = zip(arrays["K"], arrays["R"], arrays["t"], strict=True)
    cameras = tuple(Camera(*view, width, height) for view in views)
    return Film(
        str(arrays["task"]),
        str(arrays["kind"]),
        arrays["betas"],
        rgb,
        arrays["mask"],
        tuple(poses),
        cameras,
    )
