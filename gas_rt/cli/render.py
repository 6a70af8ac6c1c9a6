"""``gas-rt render``: an avatar in motion, or from all around, as a film."""

from __future__ import annotations

import argparse
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

from gas_rt.cli.common import (
    add_json_flag,
    add_model_flags,
    at_least,
    bar,
    check_folder_of,
    emit,
    open_model,
)

if TYPE_CHECKING:
    from gas_rt.core import Request
    from gas_rt.model import Performer

__all__ = ["add_parser"]

ORBIT_FRAMES = 80


def add_parser(verbs: Any) -> None:
    """Add the verb's flags."""
    parser = verbs.add_parser("render", help="render an avatar to a film", description=__doc__)
    parser.add_argument("avatar", metavar="A.avatar")
    what = parser.add_mutually_exclusive_group(required=True)
    what.add_argument("--motion", metavar="M.npz", help="AMASS .npz or .bvh")
    what.add_argument("--orbit", action="store_true", help="the photo's pose from all around")
    parser.add_argument("-o", "--output", required=True, metavar="OUT.mp4")
    parser.add_argument("--report", metavar="R.json", help="also write the report there")
    picture = parser.add_argument_group("picture")
    picture.add_argument("--policy", default="field", metavar="P", help="(%(default)s)")
    picture.add_argument("--mode", default="fast", metavar="M", help="fast, baked or exact")
    picture.add_argument("--size", type=int, metavar="PX", help="side (default: the model's)")
    picture.add_argument("--frames", type=int, metavar="N", help="default: the motion's, or 80")
    picture.add_argument("--fps", type=float, default=25.0, metavar="F", help="(%(default)s)")
    add_model_flags(parser)
    add_json_flag(parser)
    parser.set_defaults(run=run)


def run(args: argparse.Namespace) -> int:
    """Render and write the film."""
    from gas_rt.stream.play import play, recorder_for
    from gas_rt.stream.report import report, write_report
    from gas_rt.video import VideoWriter

    check_folder_of(args.output, flag="--output")
    if args.frames is not None:
        at_least(args.frames, 1, flag="--frames")
    if args.size is not None:
        at_least(args.size, 16, flag="--size")
    with open_model(args) as model:
        avatar = model.open_avatar(args.avatar)
        task = "view" if args.orbit else "pose"
        with model.session(
            avatar,
            policy=args.policy,
            task=task,
            fps=args.fps,
            on_late="lossless",
            mode=args.mode,
        ) as session:
            performer = model.performer(avatar, mode="fast")
            size = args.size or model.resolution
            if args.orbit:
                requests = list(orbit_requests(performer, size, args.frames or ORBIT_FRAMES))
            else:
                requests = motion_requests(
                    performer, args.motion, size, fps=args.fps, frames=args.frames
                )
            recorder = recorder_for(session, "render")
            with (
                VideoWriter(args.output, fps=args.fps) as video,
                bar(args, "render", total=len(requests)) as progress,
            ):
                for done, frame in enumerate(
                    play(session, requests, recorder=recorder, live=False), start=1
                ):
                    video.write(frame.rgb)
                    progress(done / len(requests), "")
            row = recorder.row(dropped=session.stats().dropped)
        document = report(args.command_line, [row], output=str(args.output), model=model.info())
    if args.report:
        write_report(args.report, document)
    emit(
        args,
        document,
        f"{args.output}: {row['frames']} frames, {row['resolution'][0]}×{row['resolution'][1]}, "
        f"{row['fps'] or 0:.1f} fps, age p50 {row['age_ms']['p50']:.1f} ms",
    )
    return 0


def orbit_requests(performer: Performer, size: int, frames: int) -> Iterator[Request]:
    """The photo's pose from `frames` cameras on a circle that begins at the photo's."""
    from gas_rt.cameras import orbit
    from gas_rt.core import Request

    avatar = performer.avatar
    start = avatar.camera.resized(width=size, height=size)
    vertices = performer.pose(avatar.pose).body.vertices
    centre = (vertices.min(0) + vertices.max(0)) / 2
    for camera in orbit(start, frames, centre=centre):
        yield Request(avatar.pose, camera, task="view")


def motion_requests(
    performer: Performer, path: str, size: int, *, fps: float, frames: int | None
) -> list[Request]:
    """A motion seen by a camera that keeps the person in the picture and follows the steps."""
    from gas_rt.body import Motion

    motion = Motion.load(path).resampled(fps)
    poses = motion.poses()[:frames]
    return followed(performer, poses, size)


def followed(performer: Performer, poses: Any, size: int) -> list[Request]:
    """Requests for `poses` from one camera that moves with the body's root."""
    import numpy as np

    from gas_rt.cameras import framing_camera, moved_with
    from gas_rt.core import Pose, Request

    ranges = performer.camera_ranges
    focal = sum(ranges.get("focal_over_side", (2.0, 2.0))) / 2
    fill = sum(ranges.get("fill", (0.8, 0.9))) / 2
    level = np.array([1, 0, 1], np.float32)  # the camera follows steps, not jumps
    # A sample of the motion is enough to frame it: a body moves little in a tenth of a second.
    still = [
        Pose(p.rotations, p.translation * (1 - level)) for p in poses[:: max(1, len(poses) // 40)]
    ]
    cloud = np.concatenate([performer.pose(p).body.vertices[::7] for p in still])
    camera = framing_camera(cloud, side_px=size, focal_over_side=focal, fill=fill)
    return [Request(p, moved_with(camera, p.translation * level), task="pose") for p in poses]
