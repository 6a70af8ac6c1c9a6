"""Videos: a hand-held camera, a person who moves or holds still as well as people can, fits that
were estimated. What a `Clip` of kind "video" gives as poses, cameras and betas is not what its
pictures show.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from gas_rt.body import BodyModel
from gas_rt.cameras import turned
from gas_rt.core import Camera, Pose
from reference.people.animate import animate
from reference.people.camera import draw_lens, framed
from reference.people.fits import FitNoise, Fits, estimated, estimated_shape
from reference.people.motions import MOTIONS, motion
from reference.people.person import Person, PersonState
from reference.people.sampling import (
    FPS,
    Clip,
    Shot,
    draw_elevation,
    filmed,
    reference_state,
)
from reference.people.seeds import generator

F32 = NDArray[np.float32]

__all__ = [
    "Take",
    "estimated_shot",
    "estimated_take",
    "motion_take",
    "turning_take",
    "video_clip",
]

FILL = 0.94
"""Of the frame that a held camera would fill: the rest is for its shaking."""

SWAY_DEG = 1.2
"""How far joints of a person who holds still drift."""


@dataclass(frozen=True, eq=False)
class Take:
    """What happened in front of a camera: states [T], cameras [T], seconds [T]."""

    states: Sequence[PersonState]
    cameras: Sequence[Camera]
    times_s: Sequence[float]

    def at(self, frames: Sequence[int]) -> Take:
        """Some of its frames."""
        states, cameras, times = (
            [values[k] for k in frames] for values in (self.states, self.cameras, self.times_s)
        )
        return Take(states, cameras, times)


def video_clip(
    seed: int,
    body: BodyModel,
    *,
    task: Literal["view", "pose"],
    noise: FitNoise,
    frames: int,
    stride: int = 1,
    size: int = 128,
    name: str | None = None,
    person: Person | None = None,
) -> Clip:
    """A person who moves before a hand-held camera ("pose"), or one it is carried around ("view").

    The photo is another picture of the same person, with a fit of its own and the same betas.
    """
    person = person or Person.from_seed(seed, body)
    reference, state = reference_state(person, generator(seed, "reference"), size)
    rng = generator(seed, f"{task} video")
    if task == "view":
        take = turning_take(person, state.pose, reference.camera, rng, frames=frames)
    else:
        take = motion_take(person, rng, frames=frames, stride=stride, size=size, name=name)
    fit_rng = generator(seed, f"{task} video's fits")
    betas = estimated_shape(person.betas, noise, fit_rng)
    shown = filmed(person, task, take.states, take.cameras, reference)
    fits = estimated_take(person, take, noise, fit_rng, betas=betas)
    return replace(
        shown,
        kind="video",
        poses=fits.poses,
        cameras=fits.cameras,
        betas=betas,
        reference=estimated_shot(body, reference, noise, fit_rng, betas=betas),
    )


def estimated_take(
    person: Person, take: Take, noise: FitNoise, rng: np.random.Generator, *, betas: F32
) -> Fits:
    """What is found in a take."""
    poses = tuple(state.pose for state in take.states)
    true = Fits(person.betas, poses, tuple(take.cameras))
    return estimated(person.body, true, take.times_s, noise, rng, betas=betas)


def estimated_shot(
    body: BodyModel, shot: Shot, noise: FitNoise, rng: np.random.Generator, *, betas: F32
) -> Shot:
    """A picture with pose and camera as they are found in it."""
    fits = estimated(
        body, Fits(shot.betas, (shot.pose,), (shot.camera,)), [0.0], noise, rng, betas=betas
    )
    return replace(shot, betas=betas, pose=fits.poses[0], camera=fits.cameras[0])


def motion_take(
    person: Person,
    rng: np.random.Generator,
    *,
    frames: int,
    stride: int = 1,
    size: int = 128,
    name: str | None = None,
) -> Take:
    """A motion of 25 fps, every stride-th frame of it, before a camera that is held by hand."""
    name = name or str(rng.choice(MOTIONS))
    poses = motion(name, frames=(frames - 1) * stride + 1, fps=FPS, rng=rng)
    states = animate(person, poses, FPS)[::stride]
    lens = draw_lens(rng)
    camera = framed(
        [state.vertices for state in states],
        azimuth=float(rng.normal(0, 0.6)),
        elevation=draw_elevation(rng),
        lens=replace(lens, fill=lens.fill * FILL),
        size=size,
    )
    times = [k * stride / FPS for k in range(frames)]
    step = float(rng.normal(0, np.radians(6)))  # per second, as one walks while filming
    angles = [step * time for time in times]
    return Take(states, _held(camera, angles, times, person.clothed.joints[0], rng), times)


def turning_take(
    person: Person, pose: Pose, camera: Camera, rng: np.random.Generator, *, frames: int
) -> Take:
    """A person who stands, and a camera that is carried around it from `camera` on."""
    times = [k / FPS for k in range(frames)]
    drift = np.radians(SWAY_DEG) * _smooth(rng, times, (24, 3))
    drift -= drift[0]
    poses = [Pose((pose.rotations + d).astype(np.float32), pose.translation) for d in drift]
    states = animate(person, poses, FPS)
    arc = float(rng.choice([-1, 1]) * rng.uniform(np.radians(60), 2 * np.pi))
    angles = [arc * k / max(frames - 1, 1) for k in range(frames)]
    held = _held(camera, angles, times, person.clothed.joints[0], rng)
    return Take(states, held, times)


def _held(
    camera: Camera,
    angles: Sequence[float],
    times_s: Sequence[float],
    about: F32,
    rng: np.random.Generator,
) -> list[Camera]:
    """Cameras turned about `about` by the angles, each shaken a little, nearer, farther, aslant."""
    shake = _smooth(rng, times_s, (4,))
    cameras = []
    for angle, (right, down, nearer, roll) in zip(angles, shake, strict=True):
        moved = turned(camera, angle, centre=about)
        depth = float(moved.rotation[2] @ about + moved.translation[2])
        frame_m = depth * moved.width / float(moved.intrinsics[0, 0])
        c, s = np.cos(0.012 * roll), np.sin(0.012 * roll)
        rolled = np.array([[c, -s, 0], [s, c, 0], [0, 0, 1]], np.float32)
        offset = np.array([0.008 * frame_m * right, 0.008 * frame_m * down, 0.012 * depth * nearer])
        # Rolled about the middle of the person, not about the eye's distant axis.
        translation = rolled @ moved.translation + offset.astype(np.float32)
        cameras.append(replace(moved, rotation=rolled @ moved.rotation, translation=translation))
    return cameras


def _smooth(
    rng: np.random.Generator, times_s: Sequence[float], shape: tuple[int, ...]
) -> NDArray[np.float64]:
    """Slow wandering of about unit size: a few sines of random phase. [T, *shape]."""
    times = np.asarray(times_s)[:, *(None,) * len(shape)]
    out = np.zeros((len(times_s), *shape))
    for frequency_hz in (0.25, 0.6, 1.3):
        phase = rng.uniform(0, 2 * np.pi, shape)
        out += rng.normal(0, 0.8, shape) * np.sin(2 * np.pi * frequency_hz * times + phase)
    return out
