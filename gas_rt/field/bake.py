"""Baking: a hash grid learns the teacher's field in the shell around the canonical body."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from gas_rt.core import F32
from gas_rt.field.teacher import Teacher
from gas_rt.kernels import (
    FieldTrainer,
    HashField,
    HashGridConfig,
    Occupancy,
    PosedShell,
    learning_rate,
    occupancy,
)

__all__ = ["BakeConfig", "Baked", "CanonicalBody", "bake", "shell_points"]

I32 = NDArray[np.int32]
Progress = Callable[[float, str], None]


@dataclass(frozen=True)
class BakeConfig:
    """How a field is baked.

    Attributes
    ----------
    grid : sizes of the hash grid; its finest cells, a centimetre wide, are as fine as the march's
        samples (both coarser for wide clothes), and finer ones cost 1.5 dB in collisions.
    pool : canonical points the teacher is asked about.
    batch : points per step; steps : of Adam.
    near_share : share of the points drawn close to the body, where the surface of skin and cloth
        lies; the rest fills the shell evenly.
    near_sigma_m : spread of those points about the body's surface.
    facing_share : share of viewing directions that look at the body from outside.
    cells : of the occupancy, per axis.
    """

    grid: HashGridConfig = field(default_factory=lambda: HashGridConfig(per_level_scale=1.4))
    pool: int = 1_000_000
    batch: int = 1 << 15
    steps: int = 600
    near_share: float = 0.7
    near_sigma_m: float = 0.02
    facing_share: float = 0.85
    cells: int = 128
    seed: int = 0


@dataclass(frozen=True, eq=False)
class CanonicalBody:
    """The body in canonical space: vertices [V, 3], unit normals [V, 3], faces [F, 3].

    reach_m [V] is how far from a vertex there may be something, metres.
    """

    vertices: F32
    normals: F32
    faces: I32
    reach_m: F32


@dataclass(frozen=True, eq=False)
class Baked:
    """A baked field, and which of its cells hold anything."""

    field: HashField
    occupancy: Occupancy


def bake(
    teacher: Teacher,
    body: CanonicalBody,
    *,
    anchor_shell: PosedShell,
    box: tuple[F32, F32],
    config: BakeConfig,
    threads: int,
    progress: Progress | None = None,
) -> Baked:
    """Fit a hash grid to the teacher; deterministic in `config.seed` for any number of threads.

    `progress` is told the share done in [0, 1] and what is being done.
    """
    rng = np.random.default_rng(config.seed)
    tell = progress or (lambda share, doing: None)
    x, d = shell_points(body, config.pool, config=config, rng=rng)
    sigma, rgb = np.empty(len(x), np.float32), np.empty((len(x), 3), np.float32)
    chunk = max(1, config.pool // 32)
    for begin in range(0, len(x), chunk):
        rows = slice(begin, begin + chunk)
        sigma[rows], rgb[rows] = teacher.query(x[rows], d[rows])
        tell(TEACHER_SHARE * min(1.0, (begin + chunk) / len(x)), "asking the model")
    trainer = FieldTrainer(config.grid, config.seed, lo=box[0], hi=box[1], threads=threads)
    for step, batch in enumerate(_batches(len(x), config, rng)):
        rate = learning_rate(step, config.steps)
        trainer.step(x[batch], d[batch], sigma[batch], rgb[batch], lr=rate)
        done = (step + 1) / config.steps
        tell(TEACHER_SHARE + TRAINING_SHARE * done, "baking the field")
    tell(TEACHER_SHARE + TRAINING_SHARE, "finding the empty space")
    field = _as_stored(trainer.field())
    return Baked(
        field, occupancy(field, resolution=config.cells, shell=anchor_shell, threads=threads)
    )


TEACHER_SHARE, TRAINING_SHARE = 0.25, 0.65  # of a bake's time, for the progress bar


def _as_stored(field: HashField) -> HashField:
    """The field after the rounding an avatar file gives it, so that both render alike."""
    return HashField.from_arrays(field.config, field.halved().arrays())


def shell_points(
    body: CanonicalBody,
    count: int,
    *,
    config: BakeConfig,
    rng: np.random.Generator,
) -> tuple[F32, F32]:
    """Points [N, 3] in the shell of the canonical body and unit viewing directions [N, 3].

    Points start half at vertices, which are dense where detail is, and half evenly on the surface.
    """
    vertices, faces = body.vertices, body.faces
    corners = vertices[faces]  # [F, 3, 3]
    area = np.linalg.norm(
        np.cross(corners[:, 1] - corners[:, 0], corners[:, 2] - corners[:, 0]), axis=1
    ).astype(np.float64)
    chosen = rng.choice(len(faces), count, p=area / area.sum())
    weights = rng.dirichlet((1.0, 1.0, 1.0), count).astype(np.float32)
    # A vertex is a face's corner with all the weight on it.
    at_vertex = rng.random(count) < 0.5
    weights[at_vertex] = np.eye(3, dtype=np.float32)[rng.integers(0, 3, int(at_vertex.sum()))]
    chosen[at_vertex] = rng.integers(0, len(faces), int(at_vertex.sum()))
    start = np.einsum("nk,nkc->nc", weights, corners[chosen])
    normal = np.einsum("nk,nkc->nc", weights, body.normals[faces[chosen]])
    normal /= np.maximum(np.linalg.norm(normal, axis=1, keepdims=True), 1e-6)

    near = rng.random(count) < config.near_share
    reach = np.einsum("nk,nk->n", weights, body.reach_m[faces[chosen]])
    height = np.where(
        near,
        np.clip(rng.normal(0, config.near_sigma_m, count), -reach, reach),
        rng.uniform(-1, 1, count) * reach,
    )
    sideways = rng.normal(0, 0.25, (count, 3)) * (reach * ~near)[:, None]
    points = start + normal * height[:, None] + sideways

    direction = rng.normal(size=(count, 3))
    direction /= np.maximum(np.linalg.norm(direction, axis=1, keepdims=True), 1e-6)
    # Mirrored where it looks along the normal: a surface is seen from outside.
    along = (direction * normal).sum(1, keepdims=True)
    flip = (rng.random((count, 1)) < config.facing_share) & (along > 0)
    direction = np.where(flip, direction - 2 * along * normal, direction)
    return (
        np.ascontiguousarray(points, np.float32),
        np.ascontiguousarray(direction, np.float32),
    )


def _batches(
    count: int, config: BakeConfig, rng: np.random.Generator
) -> Iterator[NDArray[np.int64]]:
    """`config.steps` index batches; every point is used once before any is used again."""
    size = min(config.batch, count)
    per_pass = max(1, count // size)
    for passed in range(math.ceil(config.steps / per_pass)):
        order = rng.permutation(count)
        for k in range(min(per_pass, config.steps - passed * per_pass)):
            yield order[k * size : (k + 1) * size]
