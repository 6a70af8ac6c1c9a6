"""Shots and clips of people, as the models see them: references, orbits, motions.

Everything is a function of the person's seed; nothing depends on who asks first.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from gas_rt.body import BodyModel
from gas_rt.cameras import turned
from gas_rt.core import Camera, Pose
from reference.people.animate import animate, settle
from reference.people.camera import Lens, draw_lens, framed
from reference.people.light import Light, draw_light
from reference.people.mixture import Kind
from reference.people.motions import MOTIONS, motion
from reference.people.person import Person, PersonState
from reference.people.poses import standing
from reference.people.render import render
from reference.people.seeds import generator
from reference.people.surface import Surface

F32 = NDArray[np.float32]
U8 = NDArray[np.uint8]

__all__ = [
    "Clip",
    "Shot",
    "draw_elevation",
    "filmed",
    "light_of",
    "pose_clip",
    "reference_shot",
    "reference_state",
    "shoot",
    "view_clip",
]

FPS = 25.0
ORBIT_FRAMES = 20
REFERENCE_AZIMUTH = np.radians(30)
ELEVATION = (np.radians(-5), np.radians(20))


@dataclass(frozen=True, eq=False)
class Shot:
    """One picture: rgb [H,W,3] and mask [H,W] uint8, premultiplied over black."""

    pose: Pose
    camera: Camera
    rgb: U8
    mask: U8
    betas: F32
    light: Light


@dataclass(frozen=True, eq=False)
class Clip:
    """A sequence: rgb [T,H,W,3], mask [T,H,W] uint8; `reference` is the same person's photo.
    `surface` is what its pictures were drawn from.

    task : "view" (one pose, a camera path) or "pose" (one camera, a motion).
    kind : "scan", whose poses, cameras and betas are what was filmed, or "video", where they are
        estimates and the camera shakes.
    """

    task: str
    poses: tuple[Pose, ...]
    cameras: tuple[Camera, ...]
    rgb: U8
    mask: U8
    surface: Surface
    betas: F32
    light: Light
    reference: Shot
    kind: Kind = "scan"


def light_of(seed: int) -> Light:
    """The light of an identity's world: the same for its reference and all its clips."""
    return draw_light(generator(seed, "light"))


def draw_elevation(rng: np.random.Generator) -> float:
    """Mostly level with the person, as photographs are."""
    low, high = ELEVATION
    return float(np.clip(rng.normal(np.radians(5), np.radians(6)), low, high))


def reference_camera(
    state: PersonState, rng: np.random.Generator, *, size: int, lens: Lens | None = None
) -> Camera:
    """A camera within 30° of the front that the person fills."""
    azimuth = float(rng.uniform(-REFERENCE_AZIMUTH, REFERENCE_AZIMUTH))
    lens = lens or draw_lens(rng)
    return framed(
        [state.vertices], azimuth=azimuth, elevation=draw_elevation(rng), lens=lens, size=size
    )


def reference_shot(person: Person, rng: np.random.Generator, *, size: int = 128) -> Shot:
    """The photo: a natural standing pose seen from about the front."""
    return reference_state(person, rng, size)[0]


def reference_state(
    person: Person, rng: np.random.Generator, size: int
) -> tuple[Shot, PersonState]:
    """The reference shot and the settled state it shows."""
    state = settle(person, standing(rng))
    return shoot(person, state, reference_camera(state, rng, size=size)), state


def shoot(person: Person, state: PersonState, camera: Camera) -> Shot:
    """One picture of a state."""
    light = light_of(person.seed)
    rgb, mask = render(person, state, camera, light=light)
    return Shot(state.pose, camera, rgb, mask, person.betas, light)


def filmed(
    person: Person,
    task: str,
    states: Sequence[PersonState],
    cameras: Sequence[Camera],
    reference: Shot,
) -> Clip:
    """A scan of the states, one per camera."""
    shots = [shoot(person, s, c) for s, c in zip(states, cameras, strict=True)]
    return Clip(
        task=task,
        poses=tuple(s.pose for s in shots),
        cameras=tuple(cameras),
        rgb=np.stack([s.rgb for s in shots]),
        mask=np.stack([s.mask for s in shots]),
        surface=Surface(person.mesh.faces, tuple(s.vertices for s in states), tuple(cameras)),
        betas=person.betas,
        light=reference.light,
        reference=reference,
    )


def _person(seed: int, body: BodyModel, person: Person | None) -> Person:
    return Person.from_seed(seed, body) if person is None else person


def view_clip(
    seed: int,
    body: BodyModel,
    *,
    frames: int = ORBIT_FRAMES,
    size: int = 128,
    variant: int = 0,
    person: Person | None = None,
) -> Clip:
    """One pose seen along a camera path that starts at the reference camera.

    Variant 0 is the release's orbit, 18° steps about the vertical axis through the pelvis; others
    draw step, direction and bobbing.
    """
    person = _person(seed, body, person)
    reference, state = reference_state(person, generator(seed, "reference"), size)
    rng = generator(seed, f"view clip {variant}")
    step, bob = np.radians(360 / ORBIT_FRAMES), 0.0
    if variant > 0:
        step = float(rng.choice([-1, 1]) * np.radians(rng.uniform(4, 24)))
        bob = float(rng.uniform(0, np.radians(8)))
    about = person.clothed.joints[0]
    lens = Lens(float(reference.camera.intrinsics[0, 0]) / size, 0.90)
    forward = reference.camera.rotation[2]
    azimuth, elevation = np.arctan2(-forward[0], -forward[2]), np.arcsin(-forward[1])
    if variant == 0:
        cameras = [turned(reference.camera, k * step, centre=about) for k in range(frames)]
    else:
        cameras = [
            framed(
                [state.vertices],
                azimuth=azimuth + k * step,
                elevation=elevation + bob * np.sin(k * 0.6),
                lens=lens,
                size=size,
            )
            for k in range(frames)
        ]
    return filmed(person, "view", [state] * frames, cameras, reference)


def pose_clip(
    seed: int,
    body: BodyModel,
    *,
    frames: int = ORBIT_FRAMES,
    stride: int = 1,
    size: int = 128,
    variant: int = 0,
    name: str | None = None,
    person: Person | None = None,
) -> Clip:
    """A motion seen by one camera that keeps the person in the frame from first to last.

    `stride` shows every stride-th frame of a 25 fps motion; the cloth moves through all of them.
    """
    person = _person(seed, body, person)
    reference, _ = reference_state(person, generator(seed, "reference"), size)
    rng = generator(seed, f"pose clip {variant}")
    name = name or str(rng.choice(MOTIONS))
    poses = motion(name, frames=(frames - 1) * stride + 1, fps=FPS, rng=rng)
    states = animate(person, poses, FPS)[::stride]
    azimuth = float(rng.uniform(-np.pi, np.pi) if rng.random() < 0.3 else rng.normal(0, 0.5))
    points = [state.vertices for state in states]
    camera = framed(
        points, azimuth=azimuth, elevation=draw_elevation(rng), lens=draw_lens(rng), size=size
    )
    return filmed(person, "pose", states, [camera] * frames, reference)
