"""What the film verbs show: a circle of cameras, or a motion with a camera that keeps up."""

from __future__ import annotations

import math
from collections.abc import Sequence
from fnmatch import fnmatch
from pathlib import Path
from typing import TYPE_CHECKING

from gas_rt.errors import FileError

if TYPE_CHECKING:
    from gas_rt.core import Pose, Request
    from gas_rt.engine import Bundle
    from gas_rt.performer import Performer

__all__ = ["find_motion", "followed", "heading_deg", "motion_requests", "orbit_requests"]

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
    performer: Performer, path: str | Path, side_px: int, *, fps: float, frames: int | None
) -> list[Request]:
    """The first `frames` of a motion, resampled to `fps`."""
    from gas_rt.body import Motion

    motion = Motion.load(path).resampled(fps)
    return followed(performer, list(motion)[:frames], side_px)


def followed(performer: Performer, poses: Sequence[Pose], side_px: int) -> list[Request]:
    """Requests for `poses` by one camera that moves along with the body's steps.

    It looks the first pose in the face and frames all of the motion, with a portrait lens if the
    model was trained on one.
    """
    import numpy as np

    from gas_rt.cameras import framing_camera, moved_with
    from gas_rt.core import Pose, Request

    low, high = performer.camera_ranges.get("focal_over_side", (FOCAL, FOCAL))
    steps = np.array([1, 0, 1], np.float32)  # the camera follows steps, not jumps
    shown = poses[:: max(1, len(poses) // FRAMED_POSES)]
    in_place = [Pose(p.rotations, p.translation * (1 - steps)) for p in shown]
    cloud = [performer.pose(p).body.vertices[::FRAMED_STRIDE] for p in in_place]
    camera = framing_camera(
        np.concatenate(cloud),
        side_px=side_px,
        azimuth_deg=heading_deg(poses[0]),
        focal_over_side=min(max(FOCAL, low), high),
        fill=FILL,
    )
    return [Request(p, moved_with(camera, p.translation * steps), task="pose") for p in poses]


def heading_deg(pose: Pose) -> float:
    """Which way the body faces: 0 along +z, growing towards +x."""
    from gas_rt.kernels import rodrigues

    forward = rodrigues(pose.rotations[:1])[0, :, 2]
    return math.degrees(math.atan2(float(forward[0]), float(forward[2])))
