"""What the film verbs show: a circle of cameras, or a motion with a camera that keeps up."""

from __future__ import annotations

import math
from collections.abc import Sequence
from fnmatch import fnmatch
from pathlib import Path
from typing import TYPE_CHECKING, Literal, get_args

from gas_rt.errors import FileError

if TYPE_CHECKING:
    from gas_rt.core import Camera, Pose, Request
    from gas_rt.engine import Bundle
    from gas_rt.performer import Performer

__all__ = [
    "CAMERA_MODES",
    "CameraMode",
    "find_motion",
    "heading_deg",
    "motion_requests",
    "orbit_requests",
    "walked",
]

CameraMode = Literal["locked", "follow", "fixed"]
CAMERA_MODES: tuple[CameraMode, ...] = get_args(CameraMode)

FOCAL = 1.4  # of the picture's side: 39 degrees, a portrait lens
FILL = 0.88
FRAMED_POSES = 40  # of a motion, to find how far to stand: bodies move little between them
FRAMED_STRIDE = 7  # of the vertices


def find_motion(bundle: Bundle, text: str) -> Path:
    """The file of a motion: a path, or the name of one that came with the bundle."""
    shipped = {Path(name).stem: name for name in bundle.files if fnmatch(name, "motions/*.npz")}
    if text in shipped and not Path(text).exists():
        return bundle.path(shipped[text])
    if not Path(text).exists():
        names = f"; shipped motions: {', '.join(sorted(shipped))}" if shipped else ""
        raise FileError(f"{text}: no such motion; give an AMASS .npz or a .bvh{names}")
    return Path(text)


def orbit_requests(performer: Performer, side_px: int, frames: int) -> list[Request]:
    """The photo's pose from `frames` cameras on a circle that begins at the photo's."""
    from gas_rt.cameras import orbit
    from gas_rt.core import Request

    avatar = performer.avatar
    start = avatar.camera.resized(width=side_px, height=side_px)
    vertices = performer.pose(avatar.pose).body.vertices
    cameras = orbit(start, frames, centre=(vertices.min(0) + vertices.max(0)) / 2)
    return [Request(avatar.pose, camera, task="view") for camera in cameras]


def motion_requests(
    performer: Performer,
    path: str | Path,
    side_px: int,
    *,
    fps: float,
    frames: int | None,
    camera: CameraMode = "locked",
) -> list[Request]:
    """The first `frames` of a motion, resampled to `fps`."""
    from gas_rt.body import Motion

    motion = Motion.load(path).resampled(fps)
    return walked(performer, list(motion)[:frames], side_px, fps=fps, camera=camera)


def walked(
    performer: Performer,
    poses: Sequence[Pose],
    side_px: int,
    *,
    fps: float = 25.0,
    camera: CameraMode = "locked",
) -> list[Request]:
    """Requests for `poses` by one camera that looks the first of them in the face.

    ``locked`` keeps the body over one spot, ``follow`` walks beside it, and both frame the body;
    ``fixed`` stands still and frames all of the walk.
    """
    from gas_rt.core import Request
    from gas_rt.walks import FollowCamera, root_locked

    if camera == "fixed":
        still = _framed(performer, poses, poses[0], side_px)
        return [Request(pose, still, task="pose") for pose in poses]
    locked = [root_locked(pose) for pose in poses]
    near = _framed(performer, locked, poses[0], side_px)
    if camera == "locked":
        return [Request(pose, near, task="pose") for pose in locked]
    follow = FollowCamera(near, locked[0].translation)
    times_ns = [round(k * 1e9 / fps) for k in range(len(poses))]
    return [
        Request(pose, follow.at(pose.translation, now_ns), task="pose")
        for pose, now_ns in zip(poses, times_ns, strict=True)
    ]


def _framed(performer: Performer, poses: Sequence[Pose], first: Pose, side_px: int) -> Camera:
    """A camera for all of `poses`, with a portrait lens if the model was trained on one."""
    import numpy as np

    from gas_rt.cameras import framing_camera

    low, high = performer.camera_ranges.get("focal_over_side", (FOCAL, FOCAL))
    shown = poses[:: max(1, len(poses) // FRAMED_POSES)]
    cloud = [performer.pose(pose).body.vertices[::FRAMED_STRIDE] for pose in shown]
    return framing_camera(
        np.concatenate(cloud),
        side_px=side_px,
        azimuth_deg=heading_deg(first),
        focal_over_side=min(max(FOCAL, low), high),
        fill=FILL,
    )


def heading_deg(pose: Pose) -> float:
    """Which way the body faces: 0 along +z, growing towards +x."""
    from gas_rt.kernels import rodrigues

    forward = rodrigues(pose.rotations[:1])[0, :, 2]
    return math.degrees(math.atan2(float(forward[0]), float(forward[2])))
