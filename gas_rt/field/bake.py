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
from gas_rt.kernels.trainer import STEP_M

__all__ = ["BakeConfig", "Baked", "CanonicalBody", "bake", "shell_points"]

I32 = NDArray[np.int32]
Progress = Callable[[float, str], None]


@dataclass(frozen=True)
class BakeConfig:
    """How a field is baked.

    Attributes
    ----------
    grid : sizes of the hash grid; its finest cells, a centimetre wide, are as fine as the march's
        samples (both coarser for wide clothes), and finer ones cost more in collisions.
    pool : canonical points the teacher is asked about.
    batch : points per step; steps : of Adam.
    edge_share : share of the points drawn where others found the teacher to be neither empty nor
        opaque: around the surface that pictures show, wherever cloth has it.
    edge_sigma_m : spread about the points that found it.
    near_share : share of the others drawn close to the body; the rest fills the shell evenly.
    near_sigma_m : spread of those points about the body's surface.
    facing_share : share of viewing directions that look at the body from outside.
    cells : of the occupancy, per axis.
    """

    grid: HashGridConfig = field(
        default_factory=lambda: HashGridConfig(per_level_scale=1.4, log2_table=16)
    )
    pool: int = 1_000_000
    batch: int = 1 << 15
    steps: int = 600
    edge_share: float = 0.6
    edge_sigma_m: float = 0.007
    near_share: float = 0.5
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
    """Fit a hash grid to the teacher; deterministic in `config.seed` and the teacher's answers.

    The number of threads makes no difference beyond that.

    `progress` is told the share done in [0, 1] and what is being done.
    """
    rng = np.random.default_rng(config.seed)
    tell = progress or (lambda share, doing: None)
    pool = _asked(teacher, body, config, rng, tell)
    trainer = FieldTrainer(config.grid, config.seed, lo=box[0], hi=box[1], threads=threads)
    for step, batch in enumerate(_batches(config.pool, config, rng)):
        rate = learning_rate(step, config.steps)
        trainer.step(*(values[batch] for values in pool), lr=rate)
        done = (step + 1) / config.steps
        tell(TEACHER_SHARE + TRAINING_SHARE * done, "baking the field")
    tell(TEACHER_SHARE + TRAINING_SHARE, "finding the empty space")
    field = _as_stored(trainer.field())
    return Baked(
        field, occupancy(field, resolution=config.cells, shell=anchor_shell, threads=threads)
    )


TEACHER_SHARE, TRAINING_SHARE = 0.25, 0.65  # of a bake's time, for the progress bar
MOST_AROUND = 1000  # points drawn around one on the surface, where few were found


def _asked(
    teacher: Teacher,
    body: CanonicalBody,
    config: BakeConfig,
    rng: np.random.Generator,
    tell: Progress,
) -> tuple[F32, F32, F32, F32]:
    """The pool: points [N, 3], directions [N, 3], the teacher's density [N] and colour [N, 3]."""
    at_edges = round(config.edge_share * config.pool)
    x, d = shell_points(body, config.pool - at_edges, config=config, rng=rng)
    done = 0

    def ask(points: F32, directions: F32) -> tuple[F32, F32]:
        nonlocal done
        sigma, rgb = np.empty(len(points), np.float32), np.empty((len(points), 3), np.float32)
        chunk = max(1, config.pool // 32)
        for begin in range(0, len(points), chunk):
            rows = slice(begin, begin + chunk)
            sigma[rows], rgb[rows] = teacher.query(points[rows], directions[rows])
            done += len(sigma[rows])
            tell(TEACHER_SHARE * done / config.pool, "asking the model")
        return sigma, rgb

    sigma, rgb = ask(x, d)
    opacity = 1 - np.exp(-sigma.astype(np.float64) * STEP_M)
    # Weights and a running sum, not a threshold: an answer that differs in its last bits moves the
    # choice by as little.
    passed = np.cumsum(4 * opacity * (1 - opacity))  # 1 each for points on the surface
    few = min(at_edges, int(MOST_AROUND * passed[-1]) if len(passed) else 0)
    found = np.searchsorted(passed, rng.random(few) * (passed[-1] if few else 0.0))
    around = x[found] + rng.normal(0, config.edge_sigma_m, (few, 3)).astype(np.float32)
    left = shell_points(body, at_edges - few, config=config, rng=rng)
    more = tuple(np.concatenate(two) for two in zip((around, d[found]), left, strict=True))
    answers = ask(*more)
    return (
        np.concatenate([x, more[0]]),
        np.concatenate([d, more[1]]),
        np.concatenate([sigma, answers[0]]),
        np.concatenate([rgb, answers[1]]),
    )


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
