"""``gas-rt demo``: enrol the bundled person, then an orbit and a motion, live.

Writes demo.mp4, contact_sheet.png and report.json.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from gas_rt.cli.common import (
    add_json_flag,
    add_model_flags,
    add_policy_flags,
    add_trace_flag,
    bar,
    check_folder_of,
    emit,
    open_model,
)
from gas_rt.cli.contact_sheet import contact_sheet
from gas_rt.cli.requests import find_motion, motion_requests, orbit_requests
from gas_rt.errors import FileError, InputError

if TYPE_CHECKING:
    from gas_rt.avatar import Avatar
    from gas_rt.core import Request
    from gas_rt.model import Model
    from gas_rt.performer import Performer
    from gas_rt.video import VideoWriter

__all__ = ["add_parser"]

FPS = 25.0
FILM_SIDE = 256
ORBIT_FRAMES = 80
MOTION_FRAMES = 100
MOTION = "dance"
SPEED_FRAMES = 60
FIELD_SIDES = (128, 256)  # that the field's rate is measured at


def add_parser(verbs: Any) -> None:
    """Add the verb's flags."""
    parser = verbs.add_parser("demo", help="show the bundled person, live", description=__doc__)
    parser.add_argument("--out", default="out", metavar="DIR", help="(%(default)s)")
    parser.add_argument(
        "--person", metavar="DIR", help="folder with photo, mask, fit, motion and truth"
    )
    parser.add_argument(
        "--motion", metavar="M", help="a file, or a bundled one by name (default: dance)"
    )
    add_policy_flags(parser)
    add_trace_flag(parser)
    add_model_flags(parser)
    add_json_flag(parser)
    parser.set_defaults(run=run)


def run(args: argparse.Namespace) -> int:
    """Make film, sheet and report."""
    from gas_rt.stream.report import report, write_report
    from gas_rt.stream.tracing import write_trace
    from gas_rt.video import VideoWriter, write_png

    out = Path(args.out)
    try:
        out.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise InputError(f"--out: {out} cannot be made: {error.strerror}") from error
    if args.trace is not None:
        check_folder_of(args.trace, flag="--trace")
    args.tracers = []  # by run, filled as they are played
    started = time.perf_counter()
    with open_model(args) as model:
        policy = _checked_policy(args, model)
        person = person_folder(model, args.person)
        chosen_motion(model, args.motion, person)  # minutes before it is played
        avatar, enroll_s = _enrolled(args, model, person)
        avatar.save(out / "demo.avatar")
        performer = model.performer(avatar)
        with VideoWriter(out / "demo.mp4", fps=FPS) as video:
            runs = _live(args, model, performer, person, video)
        runs += _speed(args, model, performer, person, policy=policy)
        if args.trace is not None:
            write_trace(args.trace, args.tracers)
        picture = contact_sheet(args, model, avatar, person, policy=policy)
        write_png(out / "contact_sheet.png", picture)
        document = report(
            args.command_line,
            runs,
            enroll_s=round(enroll_s, 3),
            seconds=round(time.perf_counter() - started, 3),
            model=model.info(),
        )
        write_report(out / "report.json", document)
    lines = [f"enrolled in {enroll_s:.1f} s"]
    lines += [
        f"{r['name']}: {r['frames']} frames by {r['policy']}, {r['resolution'][0]}², "
        f"{r['fps'] or 0:.1f} fps, first frame after {r['first_frame_ms']:.0f} ms, "
        f"age p50 {r['age_ms']['p50']:.1f} ms, dropped {r['dropped']}"
        for r in runs
    ]
    lines += [f"wrote {out / name}" for name in ("demo.mp4", "contact_sheet.png", "report.json")]
    emit(args, document, "\n".join(lines))
    return 0


def _checked_policy(args: argparse.Namespace, model: Model) -> str:
    """What makes the frames; a flag that cannot be is found before enrolment."""
    from gas_rt.diffusion import SEED_MAX

    policy: str = args.policy or model.default_policy
    known = model.steps(policy)
    if not 0 <= args.seed <= SEED_MAX:
        raise InputError(f"--seed: expected 0 to 2^64−1, got {args.seed}")
    diffusion = model.parts.bundle.config.diffusion
    if known and args.steps is not None and diffusion is not None:
        diffusion.schedule(policy, steps=args.steps)
    return policy


def person_folder(model: Model, folder: str | None) -> Path:
    """The folder with the demo's person: the bundle's unless one is given."""
    if folder is None:
        return model.parts.bundle.path("demo/photo.png").parent
    path = Path(folder)
    if not (path / "photo.png").is_file():
        raise FileError(f"--person: {path} holds no photo.png; make one with reference.people")
    return path


def chosen_motion(model: Model, motion: str | None, person: Path) -> Path:
    """The motion that was asked for, else the bundle's, else the person's own short one."""
    bundle = model.parts.bundle
    if motion is None and f"motions/{MOTION}.npz" not in bundle.files:
        return person / "motion.npz"
    return find_motion(bundle, motion or MOTION)


def _enrolled(args: argparse.Namespace, model: Model, person: Path) -> tuple[Avatar, float]:
    start = time.perf_counter()
    with bar(args, "enroll") as progress:
        avatar = model.enroll(
            person / "photo.png", person / "fit.npz", person / "mask.png", progress=progress
        )
    return avatar, time.perf_counter() - start


def _live(
    args: argparse.Namespace,
    model: Model,
    performer: Performer,
    person: Path,
    video: VideoWriter,
) -> list[dict[str, Any]]:
    """An orbit and a motion pushed at the film's rate, as a camera or a tracker would."""
    motion = chosen_motion(model, args.motion, person)
    parts: tuple[tuple[str, Sequence[Request]], ...] = (
        ("orbit", orbit_requests(performer, FILM_SIDE, ORBIT_FRAMES)),
        (
            "motion",
            motion_requests(performer, motion, FILM_SIDE, fps=FPS, frames=MOTION_FRAMES),
        ),
    )
    return [
        _played(args, model, performer, name, requests, live=True, video=video)
        for name, requests in parts
    ]


def _speed(
    args: argparse.Namespace, model: Model, performer: Performer, person: Path, *, policy: str
) -> list[dict[str, Any]]:
    """The motion as fast as it goes: by the film's policy, and by the field, which has any size."""
    motion = chosen_motion(model, args.motion, person)
    sides = [(side, "field") for side in FIELD_SIDES]
    if policy != "field":
        sides.insert(0, (model.resolution, policy))
    return [
        _played(
            args,
            model,
            performer,
            f"throughput {made_by} {side}",
            motion_requests(performer, motion, side, fps=FPS, frames=SPEED_FRAMES),
            live=False,
            policy=made_by,
        )
        for side, made_by in sides
    ]


def _played(
    args: argparse.Namespace,
    model: Model,
    performer: Performer,
    name: str,
    requests: Iterable[Request],
    *,
    live: bool,
    policy: str | None = None,
    video: VideoWriter | None = None,
) -> dict[str, Any]:
    """Play requests, by `policy` or what the flags ask for, and measure."""
    from gas_rt.stream.play import play, recorder_for

    requests = list(requests)
    task = requests[0].task or "pose"
    policy = policy or args.policy
    with model.session(
        performer.avatar,
        policy=policy,
        steps=None if policy == "field" else args.steps,
        seed=args.seed,
        task=task,
        fps=FPS,
        on_late="lossless",
        trace=args.trace is not None,
    ) as session:
        if session.trace is not None:
            args.tracers.append((name, session.trace))
        recorder = recorder_for(session, name)
        with bar(args, name, total=len(requests)) as progress:
            frames = play(session, requests, recorder=recorder, live=live)
            for done, frame in enumerate(frames, start=1):
                if video is not None:
                    video.write(frame.rgb)
                progress(done / len(requests), "")
        return recorder.row(dropped=session.stats().dropped)
