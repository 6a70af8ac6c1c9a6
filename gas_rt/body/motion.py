"""Motions: sequences of poses at a frame rate, read from and written to AMASS ``.npz``."""

from __future__ import annotations

import math
import os
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from gas_rt.body.rotations import compose, slerp
from gas_rt.core import JOINT_COUNT, Pose, checked
from gas_rt.errors import FileError, InputError, ShapeError
from gas_rt.files import npz_names, read_npz, write_npz

__all__ = ["MAX_FRAMES", "REST_PELVIS", "Motion"]

F32 = NDArray[np.float32]
UpAxis = Literal["auto", "y", "z"]

MAX_FRAMES = 1_000_000
MAX_FPS = 10_000.0
_MAX_BYTES = 1 << 31
# Where SMPL's template keeps its pelvis. The global orientation turns about it, so turning the
# world moves the translation by it. It differs by millimetres between shapes and bodies.
REST_PELVIS = (0.0, -0.22, 0.025)

_FPS_KEYS = ("mocap_framerate", "mocap_frame_rate", "mocap_fps", "fps", "framerate")
_POSE_KEYS = ({"poses"}, {"root_orient", "pose_body"})
# AMASS files also hold markers and, in the SMPL-X release, pickled dictionaries: left alone.
_KEYS = frozenset().union(*_POSE_KEYS, _FPS_KEYS, ("trans", "up_axis"))
_BODY_JOINTS = 22  # SMPL-H and SMPL-X agree with SMPL up to the wrists
_WIDTHS = {72: "SMPL", 66: "SMPL without hands", 156: "SMPL-H", 165: "SMPL-X"}


@dataclass(frozen=True, eq=False)
class Motion:
    """rotations [T, 24, 3] axis-angle, translations [T, 3] metres, at `fps`; y is up."""

    rotations: F32
    translations: F32
    fps: float

    def __post_init__(self) -> None:
        rotations = checked(self.rotations, "Motion.rotations", shape=(None, JOINT_COUNT, 3))
        if not 1 <= len(rotations) <= MAX_FRAMES:
            raise ShapeError(
                f"Motion.rotations: expected 1..{MAX_FRAMES} frames, got {len(rotations)}"
            )
        translations = checked(self.translations, "Motion.translations", shape=(len(rotations), 3))
        if not 0 < self.fps <= MAX_FPS:
            raise ShapeError(f"Motion.fps: expected 0..{MAX_FPS:g} frames/s, got {self.fps}")
        object.__setattr__(self, "rotations", rotations)
        object.__setattr__(self, "translations", translations)
        object.__setattr__(self, "fps", float(self.fps))

    def __len__(self) -> int:
        return len(self.rotations)

    def __iter__(self) -> Iterator[Pose]:
        return (self.pose(i) for i in range(len(self)))

    def pose(self, index: int) -> Pose:
        """The pose of one frame."""
        return Pose(self.rotations[index], self.translations[index])

    @property
    def duration_s(self) -> float:
        """From the first frame to the end of the last."""
        return len(self) / self.fps

    @classmethod
    def load(
        cls, path: str | os.PathLike[str], *, up: UpAxis = "auto", fps: float | None = None
    ) -> Motion:
        """Read an AMASS ``.npz`` (any spelling) or a ``.bvh``.

        Parameters
        ----------
        up : the file's up axis. "auto" takes what the file says (``up_axis``), else z for the
            156 and 165 values per frame of AMASS, y for 72 and 66 values and for BVH.
        fps : overrides the file's frame rate.
        """
        if Path(path).suffix.lower() == ".bvh":
            from gas_rt.body.bvh import read_bvh

            motion = read_bvh(path)
            motion = motion if fps is None else cls(motion.rotations, motion.translations, fps)
            return motion.turned_y_up() if up == "z" else motion
        arrays = read_npz(path, keys=_KEYS, max_bytes=_MAX_BYTES)
        if not any(names <= arrays.keys() for names in _POSE_KEYS):
            raise FileError(
                f"{path}: poses: missing, found {', '.join(npz_names(path)) or 'nothing'}; "
                "a motion holds poses, trans and mocap_framerate"
            )
        try:
            return _from_amass(arrays, up=up, fps=fps)
        except ShapeError as error:
            raise FileError(f"{path}: {error}") from error

    def save(self, path: str | os.PathLike[str]) -> None:
        """Write an AMASS ``.npz``, atomically; it says that y is up."""
        write_npz(
            path,
            {
                "poses": self.rotations.reshape(len(self), -1),
                "trans": self.translations,
                "betas": np.zeros(10, np.float32),
                "gender": np.array("neutral"),
                "mocap_framerate": np.array(self.fps),
                "up_axis": np.array("y"),
            },
        )

    def resampled(self, fps: float) -> Motion:
        """The motion at another frame rate: rotations by slerp, translations linearly."""
        if not 0 < fps <= MAX_FPS:
            raise InputError(f"fps: expected 0..{MAX_FPS:g} frames/s, got {fps}")
        last_s = (len(self) - 1) / self.fps
        count = math.floor(last_s * fps + 1e-6) + 1
        if count > MAX_FRAMES:
            raise InputError(f"fps: {fps:g} makes {count} frames, at most {MAX_FRAMES}; use less")
        position = np.minimum(np.arange(count) * (self.fps / fps), len(self) - 1)
        before = np.minimum(position.astype(np.int64), max(len(self) - 2, 0))
        after = np.minimum(before + 1, len(self) - 1)
        part = position - before
        rotations = slerp(
            self.rotations[before],
            self.rotations[after],
            np.broadcast_to(part[:, None], (count, JOINT_COUNT)),
        )
        mix = part[:, None]
        translations = (1 - mix) * self.translations[before] + mix * self.translations[after]
        return Motion(rotations.astype(np.float32), translations.astype(np.float32), fps)

    def turned_y_up(self) -> Motion:
        """The same motion with its z axis turned to y."""
        quarter = np.array([-np.pi / 2, 0.0, 0.0])
        rotations = self.rotations.copy()
        rotations[:, 0] = compose(np.broadcast_to(quarter, (len(self), 3)), rotations[:, 0])
        pelvis = self.translations + np.array(REST_PELVIS)
        turned = np.stack([pelvis[:, 0], pelvis[:, 2], -pelvis[:, 1]], axis=1)
        return Motion(rotations, (turned - REST_PELVIS).astype(np.float32), self.fps)


def _from_amass(arrays: dict[str, NDArray[Any]], *, up: UpAxis, fps: float | None) -> Motion:
    poses = _poses(arrays)
    frames, width = poses.shape
    if frames == 0:
        raise ShapeError("poses: the motion is empty (0 frames)")
    if frames > MAX_FRAMES:
        raise ShapeError(f"poses: {frames} frames, at most {MAX_FRAMES} are read")
    if width not in _WIDTHS:
        known = ", ".join(f"{w} ({name})" for w, name in _WIDTHS.items())
        raise ShapeError(f"poses: {width} values per frame; expected {known}")
    joints = JOINT_COUNT if width == 72 else _BODY_JOINTS
    rotations = np.zeros((frames, JOINT_COUNT, 3), np.float32)
    # SMPL-H and SMPL-X go on with fingers, which SMPL's two hand joints can't follow.
    rotations[:, :joints] = poses[:, : 3 * joints].reshape(frames, joints, 3)
    if "trans" in arrays:
        translations = checked(arrays["trans"], "trans", shape=(frames, 3))
    else:
        translations = np.zeros((frames, 3), np.float32)
    motion = Motion(rotations, translations, _fps(arrays) if fps is None else fps)
    said = _up_axis(arrays)
    if up == "auto":
        up = said or ("z" if width in (156, 165) else "y")
    return motion.turned_y_up() if up == "z" else motion


def _poses(arrays: dict[str, NDArray[Any]]) -> NDArray[Any]:
    if "poses" in arrays:
        return checked(arrays["poses"], "poses", shape=(None, None))
    root = checked(arrays["root_orient"], "root_orient", shape=(None, 3))
    body = checked(arrays["pose_body"], "pose_body", shape=(len(root), 63))
    return np.concatenate([root, body], axis=1)


def _fps(arrays: dict[str, NDArray[Any]]) -> float:
    for key in _FPS_KEYS:
        if key in arrays:
            value = arrays[key]
            if value.size != 1 or value.dtype.kind not in "fiu":
                raise ShapeError(
                    f"{key}: expected one number, got {value.dtype} {list(value.shape)}"
                )
            rate = float(value.reshape(-1)[0])
            if not 0 < rate <= MAX_FPS:
                raise ShapeError(f"{key}: expected 0..{MAX_FPS:g} frames/s, got {rate}")
            return rate
    raise ShapeError(f"the frame rate is missing (one of {', '.join(_FPS_KEYS)}); pass fps")


def _up_axis(arrays: dict[str, NDArray[Any]]) -> Literal["y", "z"] | None:
    if "up_axis" not in arrays:
        return None
    said = str(arrays["up_axis"].reshape(-1)[0]) if arrays["up_axis"].size == 1 else "?"
    if said == "y":
        return "y"
    if said == "z":
        return "z"
    raise ShapeError(f"up_axis: expected 'y' or 'z', got {said!r}")
