"""``gas-rt render --replay``: the frames of a recorded session, made again and compared."""

from __future__ import annotations

import argparse
import time

from gas_rt.cli.common import bar, emit, open_model
from gas_rt.errors import InputError

__all__ = ["replay"]

DIFFERENT = 3  # the exit status where a frame is not what it was
# What a recording says itself; with their defaults, to tell that one was given.
FLAGS = {
    "policy": None,
    "steps": None,
    "seed": 0,
    "mode": "fast",
    "size": None,
    "frames": None,
    "camera": "locked",
    "trace": None,
    "record": None,
}


def replay(args: argparse.Namespace) -> int:
    """Write the film of a recording; status 3 if its frames are not those recorded."""
    from gas_rt.stream.recording import Recording
    from gas_rt.stream.report import RunRecorder, report, write_report
    from gas_rt.video import VideoWriter

    for flag, default in FLAGS.items():
        if getattr(args, flag) != default:
            raise InputError(
                f"--{flag}: not with --replay, a recording says all of it; leave it out"
            )
    recording = Recording.open(args.replay)
    said = recording.session
    with (
        open_model(args) as model,
        model.replay(model.open_avatar(args.avatar), recording) as frames,
    ):
        run = RunRecorder("replay", said.policy, said.task, said.steps, said.fps, model.backend)
        run.pushed(time.monotonic_ns())
        with (
            VideoWriter(args.output, fps=said.fps) as video,
            bar(args, "replay", total=len(frames)) as progress,
        ):
            for done, frame in enumerate(frames, start=1):
                run.polled(frame, time.monotonic_ns())
                video.write(frame.rgb)
                progress(done / len(frames), "")
        counts = {
            "frames": len(frames),
            "identical": len(frames.identical),
            "differing": frames.differing,
        }
        rows = [run.row(dropped=0)]
        document = report(
            args.command_line, rows, output=str(args.output), model=model.info(), replay=counts
        )
    if args.report:
        write_report(args.report, document)
    text = f"{args.output}: {len(frames)} frames, {len(frames.identical)} identical to the bit"
    if frames.differing:
        text += f"; frame {frames.differing[0]} is the first that differs"
    emit(args, document, text)
    return DIFFERENT if frames.differing else 0
