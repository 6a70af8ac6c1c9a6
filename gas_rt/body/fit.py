"""A body fitted to a photo: shape, pose and the camera that took it."""

from __future__ import annotations

import os
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from gas_rt.core import JOINT_COUNT, Camera, Pose, checked
from gas_rt.errors import FileError, ShapeError
from gas_rt.files import read_npz, write_npz

__all__ = ["BodyFit"]

F32 = NDArray[np.float32]

BETAS = 10
_KEYS = ("betas", "rotations", "translation", "intrinsics", "R", "t", "width", "height")
_MAX_BYTES = 1 << 20


@dataclass(frozen=True, eq=False)
class BodyFit:
    """betas [10]; the pose in the photo; the photo's camera (its width and height in pixels)."""

    betas: F32
    pose: Pose
    camera: Camera

    def __post_init__(self) -> None:
        object.__setattr__(self, "betas", checked(self.betas, "BodyFit.betas", shape=(BETAS,)))

    @classmethod
    def load(cls, path: str | os.PathLike[str]) -> BodyFit:
        """Read ``FIT.npz``; raises `FileError` naming the key that is missing or wrong.

        Keys: betas [10], rotations [24, 3] axis-angle, translation [3], intrinsics [3, 3],
        R [3, 3] and t [3] world to camera (OpenCV), width, height.
        """
        arrays = read_npz(path, max_bytes=_MAX_BYTES)
        missing = [key for key in _KEYS if key not in arrays]
        if missing:
            raise FileError(
                f"{path}: not a body fit: {', '.join(missing)} missing, found "
                f"{', '.join(sorted(arrays)) or 'nothing'}; a fit holds {', '.join(_KEYS)}"
            )
        try:
            return cls._from(arrays)
        except ShapeError as error:
            raise FileError(f"{path}: {error}") from error

    @classmethod
    def _from(cls, arrays: dict[str, NDArray[Any]]) -> BodyFit:
        rotations = checked(arrays["rotations"], "rotations", shape=(JOINT_COUNT, 3))
        width, height = (_pixels(arrays[key], key) for key in ("width", "height"))
        return cls(
            checked(arrays["betas"], "betas", shape=(BETAS,)),
            Pose(rotations, checked(arrays["translation"], "translation", shape=(3,))),
            Camera(arrays["intrinsics"], arrays["R"], arrays["t"], width, height),
        )

    def save(self, path: str | os.PathLike[str]) -> None:
        """Write what `load` reads, atomically."""
        write_npz(
            path,
            {
                "betas": self.betas,
                "rotations": self.pose.rotations,
                "translation": self.pose.translation,
                "intrinsics": self.camera.intrinsics,
                "R": self.camera.rotation,
                "t": self.camera.translation,
                "width": np.array(self.camera.width, np.int32),
                "height": np.array(self.camera.height, np.int32),
            },
        )


def _pixels(array: NDArray[Any], name: str) -> int:
    if array.size != 1 or array.dtype.kind not in "iu":
        raise ShapeError(
            f"{name}: expected one integer (pixels), got {array.dtype} {list(array.shape)}"
        )
    return int(array.reshape(-1)[0])
