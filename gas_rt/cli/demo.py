"""``gas-rt demo``: enrol the bundled person, then an orbit and a motion, live.

Writes demo.mp4, contact_sheet.png and report.json.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from gas_rt.cli.common import (
    add_json_flag,
    add_model_flags,
    add_policy_flags,
    bar,
    emit,
    open_model,
)
from gas_rt.cli.requests import find_motion, motion_requests, orbit_requests
from gas_rt.errors import FileError, InputError

if TYPE_CHECKING:
    from gas_rt.avatar import Avatar
    from gas_rt.core import Request
    from gas_rt.model import Model, Performer
    from gas_rt.video import VideoWriter

__all__ = ["add_parser"]

FPS = 25.0
FILM_SIDE = 256
ORBIT_FRAMES = 80
MOTION_FRAMES = 100
MOTION = "dance"
SPEED_FRAMES = 60
SPEED_SIDES = (128, 256)
SHEET_ROWS_MAX = 8
CLIPS = ("view", "pose")  # of the ground truth: an orbit and a motion


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
    add_model_flags(parser)
    add_json_flag(parser)
    parser.set_defaults(run=run)


def run(args: argparse.Namespace) -> int:
    """Make film, sheet and report."""
    from gas_rt.stream.report import report, write_report
    from gas_rt.video import VideoWriter, write_png

    out = Path(args.out)
    try:
        out.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise InputError(f"--out: {out} cannot be made: {error.strerror}") from error
    started = time.perf_counter()
    with open_model(args) as model:
        person = person_folder(model, args.person)
        avatar, enroll_s = _enrolled(args, model, person)
        avatar.save(out / "demo.avatar")
        performer = model.performer(avatar)
        with VideoWriter(out / "demo.mp4", fps=FPS) as video:
            runs = _live(args, model, performer, person, video)
        runs += _speed(args, model, performer, person)
        write_png(out / "contact_sheet.png", _contact_sheet(args, model, avatar, person))
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
        f"{r['name']}: {r['frames']} frames, {r['resolution'][0]}², {r['fps'] or 0:.1f} fps, "
        f"age p50 {r['age_ms']['p50']:.1f} ms, dropped {r['dropped']}"
        for r in runs
    ]
    lines += [f"wrote {out / name}" for name in ("demo.mp4", "contact_sheet.png", "report.json")]
    emit(args, document, "\n".join(lines))
    return 0


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
    args: argparse.Namespace, model: Model, performer: Performer, person: Path
) -> list[dict[str, Any]]:
    """The motion as fast as it goes, at the sides the project promises rates for."""
    motion = chosen_motion(model, args.motion, person)
    return [
        _played(
            args,
            model,
            performer,
            f"throughput {side}",
            motion_requests(performer, motion, side, fps=FPS, frames=SPEED_FRAMES),
            live=False,
        )
        for side in SPEED_SIDES
    ]


def _played(
    args: argparse.Namespace,
    model: Model,
    performer: Performer,
    name: str,
    requests: Iterable[Request],
    *,
    live: bool,
    video: VideoWriter | None = None,
) -> dict[str, Any]:
    from gas_rt.stream.play import play, recorder_for

    requests = list(requests)
    task = requests[0].task or "pose"
    with model.session(
        performer.avatar,
        policy=args.policy,
        steps=args.steps,
        seed=args.seed,
        task=task,
        fps=FPS,
        on_late="lossless",
    ) as session:
        recorder = recorder_for(session, name)
        with bar(args, name, total=len(requests)) as progress:
            frames = play(session, requests, recorder=recorder, live=live)
            for done, frame in enumerate(frames, start=1):
                if video is not None:
                    video.write(frame.rgb)
                progress(done / len(requests), "")
        return recorder.row(dropped=session.stats().dropped)


def _contact_sheet(args: argparse.Namespace, model: Model, avatar: Avatar, person: Path) -> Any:
    """Rows of truth frames: reference, ground truth, teacher, baked field, normals."""
    import numpy as np

    from gas_rt.kernels import render_normals
    from gas_rt.photo import read_photo
    from gas_rt.video import sheet

    truth = read_truth(person)
    spread = np.linspace(0, len(truth), min(SHEET_ROWS_MAX, len(truth)), endpoint=False)
    chosen = [truth[int(k)] for k in spread]
    exact = model.performer(avatar, mode="exact")
    baked = model.performer(avatar, mode="baked")
    rows = []
    with bar(args, "sheet", total=len(chosen)) as progress:
        for done, (picture, request) in enumerate(chosen, start=1):
            pose, camera = request.pose, request.camera
            body = exact.pose(pose).body
            normals, _ = render_normals(body.vertices, body.faces, camera)
            cells = (
                avatar.rgb,
                read_photo(picture).rgb,
                exact.picture(pose, camera).rgb,
                baked.picture(pose, camera).rgb,
                (normals * 255 + 0.5).astype(np.uint8),
            )
            rows.append((picture.stem, cells))
            progress(done / len(chosen), "")
    return sheet(("reference", "ground truth", "teacher", "baked", "normals"), rows)


def read_truth(person: Path) -> list[tuple[Path, Request]]:
    """The pictures of truth/, with the pose and camera each was taken with, clip by clip."""
    from gas_rt.files import read_npz

    path = person / "truth" / "cameras.npz"
    arrays = read_npz(path)
    found = [row for clip in CLIPS for row in _clip(path, arrays, clip)]
    if not found:
        raise FileError(f"{path}: describes no picture; write the folder again")
    return found


def _clip(path: Path, arrays: Mapping[str, Any], clip: str) -> list[tuple[Path, Request]]:
    from PIL import Image

    from gas_rt.core import Camera, Pose, Request

    names = [f"{clip}_{part}" for part in ("rotations", "translation", "intrinsics", "R", "t")]
    if missing := [name for name in names if name not in arrays]:
        raise FileError(f"{path}: lacks {', '.join(missing)}; write the folder again")
    rows = []
    for k, (rotations, translation, intrinsics, rotation, offset) in enumerate(
        zip(*(arrays[name] for name in names), strict=False)
    ):
        picture = path.parent / f"{clip}_{k:03d}.png"
        if not picture.is_file():
            raise FileError(f"{picture}: is missing; write the folder again")
        with Image.open(picture) as image:
            width, height = image.size
        camera = Camera(intrinsics, rotation, offset, width, height)
        rows.append((picture, Request(Pose(rotations, translation), camera)))
    return rows
