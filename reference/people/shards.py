"""``python -m reference.people.shards``: people for training, in files of 64 persons.

One reference and K targets per person; schema in `FIELDS`. Files appear atomically, finished ones
are skipped, so an interrupted run resumes. A person's arrays depend on its seed and the `Mixture`
alone: whether they are a scan's, whose poses and cameras are exact, or a video's.
"""

from __future__ import annotations

import argparse
import multiprocessing
import os
import sys
import time
from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import replace
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from gas_rt.body import BodyModel
from gas_rt.cameras import turned
from gas_rt.core import Camera
from gas_rt.errors import FileError, InputError
from reference.people import seeds
from reference.people.animate import animate
from reference.people.camera import draw_lens, framed
from reference.people.fits import FitNoise, estimated_shape
from reference.people.mixture import STAGE1, Mixture, add_mixture, mixture_of
from reference.people.motions import NAMED, motion
from reference.people.person import Person, PersonState
from reference.people.sampling import FPS, Shot, draw_elevation, reference_state, shoot
from reference.people.videos import estimated_shot, estimated_take, motion_take, turning_take

__all__ = ["FIELDS", "check_shard", "draw_person", "fields", "read", "stream", "write"]

Arrays = dict[str, NDArray[Any]]

SIZE = 128
TARGETS = 12
ORBITS = 7
PERSONS_PER_SHARD = 64
MOTION_FRAMES = 24
BODY = Path(__file__).parents[2] / "engines" / "gas-mini" / "body.npz"


def fields(size: int) -> dict[str, tuple[str, tuple[int, ...]]]:
    """`FIELDS` of pictures of another size."""
    return {
        "seeds": ("int64", ()),
        "betas": ("float32", (10,)),
        "ref_rgb": ("uint8", (size, size, 3)),
        "ref_mask": ("uint8", (size, size)),
        "ref_rotations": ("float32", (24, 3)),
        "ref_translation": ("float32", (3,)),
        "ref_K": ("float32", (3, 3)),
        "ref_R": ("float32", (3, 3)),
        "ref_t": ("float32", (3,)),
        "tgt_rgb": ("uint8", (TARGETS, size, size, 3)),
        "tgt_mask": ("uint8", (TARGETS, size, size)),
        "tgt_rotations": ("float32", (TARGETS, 24, 3)),
        "tgt_translation": ("float32", (TARGETS, 3)),
        "tgt_K": ("float32", (TARGETS, 3, 3)),
        "tgt_R": ("float32", (TARGETS, 3, 3)),
        "tgt_t": ("float32", (TARGETS, 3)),
        "tgt_kind": ("uint8", (TARGETS,)),
        "light": ("float32", (7,)),
        "video": ("uint8", ()),
        "fit_noise": ("float32", ()),
    }


FIELDS = fields(SIZE)
"""dtype and shape per person; a shard stacks them on a first axis.

Of a video, betas, rotations, translation, K, R and t are as estimated, and tgt_kind 0 is a person
who holds still while the camera moves; `fit_noise` is the mixture's level, 0 of a scan.
"""


@lru_cache(maxsize=1)
def _body(path: str) -> BodyModel:
    return BodyModel.open(path)


def draw_person(
    seed: int, body: BodyModel, mixture: Mixture = STAGE1, *, size: int = SIZE
) -> Arrays:
    """Reference and targets of one person, keyed as in `FIELDS`."""
    person = Person.from_seed(seed, body)
    reference, standing_state = reference_state(person, seeds.generator(seed, "reference"), size)
    video = mixture.kind_of(seed) == "video"
    if video:
        reference, shots = _video(person, reference, mixture.noise)
    else:
        shots = _scan(person, reference, standing_state)
    arrays: Arrays = {
        "seeds": np.array(seed, np.int64),
        "betas": reference.betas,
        "light": reference.light.as_array(),
        "tgt_kind": np.array([0] * ORBITS + [1] * (TARGETS - ORBITS), np.uint8),
        "video": np.array(video, np.uint8),
        "fit_noise": np.array(mixture.level_of(seed), np.float32),
    }
    for prefix, values in (("ref", [reference]), ("tgt", shots)):
        columns: Arrays = {
            "rgb": np.stack([s.rgb for s in values]),
            "mask": np.stack([s.mask for s in values]),
            "rotations": np.stack([s.pose.rotations for s in values]),
            "translation": np.stack([s.pose.translation for s in values]),
            "K": np.stack([s.camera.intrinsics for s in values]),
            "R": np.stack([s.camera.rotation for s in values]),
            "t": np.stack([s.camera.translation for s in values]),
        }
        for name, column in columns.items():
            arrays[f"{prefix}_{name}"] = column[0] if prefix == "ref" else column
    return arrays


def _scan(person: Person, reference: Shot, standing_state: PersonState) -> list[Shot]:
    """Views of the reference's pose from all around, then other poses."""
    rng = seeds.generator(person.seed, "targets")
    views = _orbit_cameras(person, standing_state, reference.camera, rng)
    shots = [shoot(person, standing_state, camera) for camera in views]
    azimuth = float(np.arctan2(-reference.camera.rotation[2, 0], -reference.camera.rotation[2, 2]))
    for state in _other_states(person, rng):
        near = rng.random() < 0.5
        away = rng.uniform(-np.pi / 4, np.pi / 4) if near else rng.uniform(-np.pi, np.pi)
        camera = framed(
            [state.vertices],
            azimuth=azimuth + float(away),
            elevation=draw_elevation(rng),
            lens=draw_lens(rng),
            size=reference.camera.width,
        )
        shots.append(shoot(person, state, camera))
    return shots


def _video(person: Person, reference: Shot, noise: FitNoise) -> tuple[Shot, list[Shot]]:
    """The reference and frames of two videos, around the person and of it moving, as estimated."""
    rng = seeds.generator(person.seed, "video targets")
    around = turning_take(person, reference.pose, reference.camera, rng, frames=ORBITS * 3)
    moving = motion_take(person, rng, frames=MOTION_FRAMES, size=reference.camera.width)
    chosen = np.sort(rng.choice(MOTION_FRAMES, TARGETS - ORBITS, replace=False))
    betas = estimated_shape(person.betas, noise, rng)
    shots = []
    for take in (around.at(range(1, ORBITS * 3, 3)), moving.at([int(k) for k in chosen])):
        fits = estimated_take(person, take, noise, rng, betas=betas)
        for state, camera, pose, believed in zip(
            take.states, take.cameras, fits.poses, fits.cameras, strict=True
        ):
            true = shoot(person, state, camera)
            shots.append(replace(true, pose=pose, camera=believed, betas=betas))
    return estimated_shot(person.body, reference, noise, rng, betas=betas), shots


def _orbit_cameras(
    person: Person, state: PersonState, camera: Camera, rng: np.random.Generator
) -> list[Camera]:
    """Cameras all around the reference pose; the first one looks at the back."""
    start = np.pi + float(rng.uniform(-1, 1)) * np.radians(15)
    forward = camera.rotation[2]
    azimuth = float(np.arctan2(-forward[0], -forward[2]))
    cameras = []
    for k in range(ORBITS):
        jitter = float(rng.uniform(-0.4, 0.4)) if k else 0.0
        angle = start + 2 * np.pi * (k + jitter) / ORBITS
        elevation, lens = float(rng.uniform(-0.09, 0.44)), draw_lens(rng)
        if k % 2 == 0:
            cameras.append(turned(camera, angle, centre=person.clothed.joints[0]))
        else:
            cameras.append(
                framed(
                    [state.vertices],
                    azimuth=azimuth + angle,
                    elevation=elevation,
                    lens=lens,
                    size=camera.width,
                )
            )
    return cameras


def _other_states(person: Person, rng: np.random.Generator) -> list[PersonState]:
    """States in other poses: two from a named motion, three from a random one."""
    states: list[PersonState] = []
    for name, count in ((str(rng.choice(NAMED)), 2), ("random", 3)):
        poses = motion(name, frames=MOTION_FRAMES, fps=FPS, rng=rng)
        chosen = np.sort(rng.choice(MOTION_FRAMES, count, replace=False))
        moved = animate(person, poses[: int(chosen[-1]) + 1], FPS)
        states += [moved[int(k)] for k in chosen]
    return states


def _draw(task: tuple[int, str, Mixture, int]) -> Arrays:
    seed, path, mixture, size = task
    return draw_person(seed, _body(path), mixture, size=size)


def stream(
    chosen: Iterable[int],
    *,
    mixture: Mixture = STAGE1,
    workers: int = 1,
    body: str | os.PathLike[str] = BODY,
    size: int = SIZE,
) -> Iterator[Arrays]:
    """The persons of the seeds, in order; `workers` processes work ahead."""
    tasks = ((seed, str(body), mixture, size) for seed in chosen)
    if workers <= 1:
        yield from map(_draw, tasks)
        return
    # Not forked: whoever calls may have threads, whose locks a fork would copy.
    server = multiprocessing.get_context("forkserver")
    with ProcessPoolExecutor(workers, mp_context=server) as pool:
        yield from pool.map(_draw, tasks, chunksize=4)


def read(path: str | os.PathLike[str], *, size: int = SIZE) -> Arrays:
    """A shard's arrays, checked against the `fields` of pictures of `size`."""
    with np.load(path, allow_pickle=False) as archive:
        arrays = {name: archive[name] for name in archive.files}
    for name, (dtype, shape) in fields(size).items():
        found = arrays.get(name)
        if found is None or found.dtype != dtype or found.shape[1:] != shape:
            what = "no such array" if found is None else f"{found.dtype} {list(found.shape)}"
            raise FileError(
                f"{path}: {name}: expected {dtype} [persons, {', '.join(map(str, shape))}], "
                f"found {what}; write the shard again"
            )
    return arrays


def write(path: Path, persons: Sequence[Arrays]) -> None:
    """Put a shard in place atomically."""
    stacked = {name: np.stack([person[name] for person in persons]) for name in FIELDS}
    temporary = path.with_suffix(f".{os.getpid()}.tmp")
    with temporary.open("wb") as file:
        np.savez_compressed(file, **stacked)
    temporary.replace(path)


def check_shard(path: Path, mixture: Mixture, *, size: int = SIZE) -> None:
    """Refuse a finished shard that another mixture made."""
    found = read(path, size=size)
    kinds = [mixture.kind_of(int(seed)) == "video" for seed in found["seeds"]]
    levels = np.float32([mixture.level_of(int(seed)) for seed in found["seeds"]])
    if not np.array_equal(found["video"], kinds) or not np.array_equal(found["fit_noise"], levels):
        raise FileError(
            f"{path}: holds {int(found['video'].sum())} videos with fits of level "
            f"{found['fit_noise'].max():g}, {sum(kinds)} of level {levels.max():g} were asked for; "
            "choose another --out, --videos or --fit-noise"
        )


def main(argv: list[str] | None = None) -> int:
    """Entry point."""
    parser = argparse.ArgumentParser(prog="python -m reference.people.shards", description=__doc__)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--split", choices=("train", "val", "test"), default="train")
    parser.add_argument("--persons", type=int, default=64)
    parser.add_argument("--skip", type=int, default=0, help="persons of the split to leave out")
    parser.add_argument("--body", type=Path, default=BODY)
    parser.add_argument("--workers", type=int, default=1)
    parser.add_argument("--size", type=int, default=SIZE, help="pixels on a side (%(default)s)")
    add_mixture(parser, STAGE1)
    arguments = parser.parse_args(argv)
    try:
        mixture = mixture_of(arguments)
    except InputError as error:
        parser.error(str(error))
    ranges = {"train": seeds.TRAIN, "val": seeds.VALIDATION, "test": seeds.TEST}
    everyone = ranges[arguments.split][arguments.skip : arguments.skip + arguments.persons]
    arguments.out.mkdir(parents=True, exist_ok=True)
    started = time.monotonic()
    for first in range(0, len(everyone), PERSONS_PER_SHARD):
        chosen = everyone[first : first + PERSONS_PER_SHARD]
        number = (arguments.skip + first) // PERSONS_PER_SHARD
        path = arguments.out / f"{arguments.split}-{number:05d}.npz"
        if path.exists():
            check_shard(path, mixture, size=arguments.size)
            continue
        people = stream(
            chosen,
            mixture=mixture,
            workers=arguments.workers,
            body=arguments.body,
            size=arguments.size,
        )
        write(path, list(people))
        done = first + len(chosen)
        print(
            f"{path.name}: {done}/{len(everyone)} persons, {time.monotonic() - started:.0f} s",
            file=sys.stderr,
            flush=True,
        )
    return 0


if __name__ == "__main__":
    sys.exit(main())
