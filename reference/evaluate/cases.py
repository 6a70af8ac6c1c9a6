"""What a person is judged on: an orbit, a motion, and a motion that repeats."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from gas_rt.body import BodyModel, procedural_motion
from gas_rt.core import Camera, Pose, Task
from reference import people
from reference.data import Picture
from reference.people.camera import draw_lens, framed
from reference.people.sampling import FPS, draw_elevation, shoot
from reference.people.seeds import generator
from reference.people.surface import Surface

__all__ = ["PERIOD", "Case", "loop_case", "motion_case", "view_case"]

F32 = NDArray[np.float32]
U8 = NDArray[np.uint8]

PERIOD = 50  # frames of the motion that repeats: two seconds
LOOP = "walk"
SIZE = 128  # of the pictures


@dataclass(frozen=True, eq=False)
class Case:
    """One clip of one person, of N frames, with the photo that the person is known from.

    Attributes
    ----------
    rgb, mask : [N, H, W, 3] and [N, H, W], the truth, premultiplied over black.
    counted : the frames that are judged; an orbit begins with the photo's own view.
    surface : what the truth was drawn from, if it is known.
    """

    seed: int
    task: Task
    betas: F32
    photo: Picture
    poses: tuple[Pose, ...]
    cameras: tuple[Camera, ...]
    rgb: U8
    mask: U8
    counted: range
    surface: Surface | None = None

    def __len__(self) -> int:
        return len(self.poses)


def view_case(
    seed: int,
    body: BodyModel,
    *,
    frames: int,
    size: int = SIZE,
    noise: people.FitNoise | None = None,
) -> Case:
    """The orbit that begins at the photo's camera, in the release's steps.

    With `noise` a video instead: a camera carried around a person who stands, estimated fits.
    """
    if noise is None:
        clip = people.view_clip(seed, body, frames=frames, size=size)
    else:
        clip = people.video_clip(seed, body, task="view", noise=noise, frames=frames, size=size)
    return _case(seed, clip, counted=range(1, frames))


def motion_case(
    seed: int,
    body: BodyModel,
    *,
    frames: int,
    size: int = SIZE,
    noise: people.FitNoise | None = None,
) -> Case:
    """A motion drawn for the person, seen by one camera; with `noise` a video of it."""
    if noise is None:
        clip = people.pose_clip(seed, body, frames=frames, size=size)
    else:
        clip = people.video_clip(seed, body, task="pose", noise=noise, frames=frames, size=size)
    return _case(seed, clip, counted=range(frames))


def loop_case(seed: int, body: BodyModel, *, frames: int, size: int = SIZE) -> Case:
    """`frames` of a motion that repeats every `PERIOD` frames, cloth included."""
    person = people.Person.from_seed(seed, body)
    shot = people.reference_shot(person, generator(seed, "reference"), size=size)
    once = list(procedural_motion(LOOP, PERIOD, fps=FPS, seed=seed))
    # Cloth starts at rest: only from the second round on does every round look the same.
    states = people.animate(person, once * 2, FPS)[PERIOD:]
    rng = generator(seed, "steady clip")
    camera = framed(
        [state.vertices for state in states],
        azimuth=float(rng.normal(0, 0.5)),
        elevation=draw_elevation(rng),
        lens=draw_lens(rng),
        size=shot.camera.width,
    )
    shots = [shoot(person, state, camera) for state in states]
    order = np.arange(frames) % PERIOD
    return Case(
        seed=seed,
        task="pose",
        betas=person.betas,
        photo=Picture(shot.rgb, shot.mask, shot.pose, shot.camera),
        poses=tuple(shots[k].pose for k in order),
        cameras=(camera,) * frames,
        rgb=np.stack([s.rgb for s in shots])[order],
        mask=np.stack([s.mask for s in shots])[order],
        counted=range(frames),
        surface=Surface(
            person.mesh.faces, tuple(states[k].vertices for k in order), (camera,) * frames
        ),
    )


def _case(seed: int, clip: people.Clip, *, counted: range) -> Case:
    shot = clip.reference
    return Case(
        seed=seed,
        task="view" if clip.task == "view" else "pose",
        betas=clip.betas,
        photo=Picture(shot.rgb, shot.mask, shot.pose, shot.camera),
        poses=clip.poses,
        cameras=clip.cameras,
        rgb=clip.rgb,
        mask=clip.mask,
        counted=counted,
        surface=clip.surface,
    )
