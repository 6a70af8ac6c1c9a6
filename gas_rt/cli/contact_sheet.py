"""The demo's sheet: what stage 1 and stage 2 make of a person beside the truth."""

from __future__ import annotations

import argparse
import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from gas_rt.cli.common import bar
from gas_rt.errors import FileError

if TYPE_CHECKING:
    from gas_rt.avatar import Avatar
    from gas_rt.core import U8, Request, Task
    from gas_rt.model import Model

__all__ = ["Truth", "contact_sheet", "read_truth"]

CLIPS: tuple[Task, ...] = ("view", "pose")  # of the ground truth: an orbit and a motion
ROWS_PER_CLIP = 4
TRUTH_FPS = 25.0


@dataclass(frozen=True)
class Truth:
    """One clip of the ground truth: the pictures, and the pose and camera of each."""

    task: Task
    pictures: tuple[Path, ...]
    requests: tuple[Request, ...]


def contact_sheet(
    args: argparse.Namespace, model: Model, avatar: Avatar, person: Path, *, policy: str
) -> U8:
    """Rows of views and of a motion.

    Columns are the reference, the ground truth, the field, normals, and the output of `policy`;
    if that is the field, they are what it was baked from and what is left of that.
    """
    from gas_rt.photo import read_photo
    from gas_rt.video import sheet

    rows = []
    for clip in read_truth(person):
        count = len(clip.requests)
        shown = min(ROWS_PER_CLIP, count)
        # The middles of equal parts: an orbit's first view is the photo's own.
        chosen = [int((k + 0.5) * count / shown) for k in range(shown)]
        made = _output(args, model, avatar, clip, policy=policy) if policy != "field" else None
        for k, cells in zip(chosen, _field_cells(model, avatar, clip, chosen), strict=True):
            exact, baked, normals = cells
            truth = read_photo(clip.pictures[k]).rgb
            field = (exact, baked, normals) if made is None else (baked, normals, made[k])
            rows.append((_caption(clip, k, avatar), (avatar.rgb, truth, *field)))
    columns = ("teacher", "baked", "normals")
    if policy != "field":
        columns = ("field", "normals", f"output ({policy})")
    return sheet(("reference", "ground truth", *columns), rows)


def _field_cells(
    model: Model, avatar: Avatar, clip: Truth, chosen: Sequence[int]
) -> Iterator[tuple[U8, U8, U8]]:
    """Per chosen frame: the teacher's picture, the baked field's, the normal map."""
    from gas_rt.field.render import as_bytes
    from gas_rt.kernels import render_normals

    exact = model.performer(avatar, mode="exact")
    baked = model.performer(avatar, mode="baked")
    for k in chosen:
        pose, camera = clip.requests[k].pose, clip.requests[k].camera
        body = baked.pose(pose).body
        normals, _ = render_normals(body.vertices, body.faces, camera)
        pictures = (exact.picture(pose, camera).rgb, baked.picture(pose, camera).rgb)
        yield *pictures, as_bytes(normals)


def _output(
    args: argparse.Namespace, model: Model, avatar: Avatar, clip: Truth, *, policy: str
) -> list[U8]:
    """Every frame of the clip, streamed: a frame depends on those before it."""
    stream = model.stream(
        avatar,
        clip.requests,
        policy=policy,
        steps=args.steps,
        seed=args.seed,
        task=clip.task,
        fps=TRUTH_FPS,
    )
    frames = []
    with stream, bar(args, f"sheet, {clip.task}", total=len(clip.requests)) as progress:
        for frame in stream:
            frames.append(frame.rgb)
            progress(len(frames) / len(clip.requests), "")
    return frames


def _caption(clip: Truth, frame: int, avatar: Avatar) -> str:
    if clip.task == "view":
        looks = (clip.requests[frame].camera.rotation[2], avatar.camera.rotation[2])
        heading, start = (math.atan2(float(look[0]), float(look[2])) for look in looks)
        return f"view {math.degrees(heading - start) % 360:.0f}°"
    return f"pose {frame / TRUTH_FPS:.2f} s"


def read_truth(person: Path) -> list[Truth]:
    """The clips of truth/ that hold pictures."""
    from gas_rt.files import read_npz

    path = person / "truth" / "cameras.npz"
    arrays = read_npz(path)
    found = [clip for task in CLIPS if (clip := _clip(path, arrays, task)).requests]
    if not found:
        raise FileError(f"{path}: describes no picture; write the folder again")
    return found


def _clip(path: Path, arrays: Mapping[str, Any], task: Task) -> Truth:
    from PIL import Image

    from gas_rt.core import Camera, Pose, Request

    names = [f"{task}_{part}" for part in ("rotations", "translation", "intrinsics", "R", "t")]
    if missing := [name for name in names if name not in arrays]:
        raise FileError(f"{path}: lacks {', '.join(missing)}; write the folder again")
    pictures, requests = [], []
    for k, (rotations, translation, intrinsics, rotation, offset) in enumerate(
        zip(*(arrays[name] for name in names), strict=False)
    ):
        picture = path.parent / f"{task}_{k:03d}.png"
        if not picture.is_file():
            raise FileError(f"{picture}: is missing; write the folder again")
        with Image.open(picture) as image:
            width, height = image.size
        camera = Camera(intrinsics, rotation, offset, width, height)
        pictures.append(picture)
        requests.append(Request(Pose(rotations, translation), camera, task=task))
    return Truth(task, tuple(pictures), tuple(requests))
