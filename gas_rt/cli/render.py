"""``gas-rt render``: an avatar in motion, or from all around, as a film."""

from __future__ import annotations

import argparse
from typing import Any

from gas_rt.cli.common import (
    add_json_flag,
    add_model_flags,
    add_policy_flags,
    add_trace_flag,
    at_least,
    bar,
    check_folder_of,
    emit,
    open_model,
)
from gas_rt.cli.replay import replay
from gas_rt.cli.requests import CAMERA_MODES, find_motion, motion_requests, orbit_requests

__all__ = ["add_parser"]

ORBIT_FRAMES = 80


def add_parser(verbs: Any) -> None:
    """Add the verb's flags."""
    parser = verbs.add_parser("render", help="render an avatar to a film", description=__doc__)
    parser.add_argument("avatar", metavar="A.avatar")
    what = parser.add_mutually_exclusive_group(required=True)
    what.add_argument(
        "--motion", metavar="M.npz", help="AMASS .npz, .bvh, or a bundled one by name"
    )
    what.add_argument("--orbit", action="store_true", help="the photo's pose from all around")
    what.add_argument(
        "--replay", metavar="R.gasrec", help="the frames of a recorded session, made again"
    )
    parser.add_argument("-o", "--output", required=True, metavar="OUT.mp4")
    parser.add_argument("--report", metavar="R.json", help="also write the report there")
    add_trace_flag(parser)
    parser.add_argument("--record", metavar="R.gasrec", help="write what --replay needs there")
    picture = parser.add_argument_group("picture")
    add_policy_flags(picture)
    picture.add_argument("--mode", default="fast", metavar="M", help="fast, baked or exact")
    picture.add_argument(
        "--camera",
        choices=CAMERA_MODES,
        default="locked",
        help="of a motion: the body locked over one spot, a camera that follows it, or one that "
        "stands still (%(default)s)",
    )
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
    if args.replay is not None:
        return replay(args)
    if args.frames is not None:
        at_least(args.frames, 1, flag="--frames")
    if args.size is not None:
        at_least(args.size, 16, flag="--size")
    with open_model(args) as model:
        avatar = model.open_avatar(args.avatar)
        with model.session(
            avatar,
            policy=args.policy,
            steps=args.steps,
            seed=args.seed,
            task="view" if args.orbit else "pose",
            fps=args.fps,
            on_late="lossless",
            mode=args.mode,
            trace=args.trace,
            record=args.record,
        ) as session:
            performer = model.performer(avatar, mode="fast")
            size = args.size or model.resolution
            if args.orbit:
                requests = orbit_requests(performer, size, args.frames or ORBIT_FRAMES)
            else:
                motion = find_motion(model.parts.bundle, args.motion)
                requests = motion_requests(
                    performer,
                    motion,
                    size,
                    fps=args.fps,
                    frames=args.frames,
                    camera=args.camera,
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
