"""Kernels called by many Python threads at once: the same bits, and the GIL is not held."""

from __future__ import annotations

import sys
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import numpy as np
import pytest
from field_cases import HI, LO, SMALL, camera, random_field, random_shell, sphere_samples
from geometry_cases import SMPL_PARENTS, bones, f32, frontal_camera, sphere

from gas_rt import kernels
from gas_rt.kernels._backend import native, native_camera

CALLERS = 6
RNG = np.random.default_rng(0)
VERTICES, FACES = sphere(16)
N = len(VERTICES)
IDS, WEIGHTS = bones(RNG, N, 24)
POSES, JOINTS = f32(RNG.normal(0, 0.3, (2, 24, 3))), f32(RNG.normal(0, 0.4, (24, 3)))
POSEDIRS = f32(RNG.normal(0, 0.01, (N, 3, 207)))
POINTS = f32(RNG.uniform(-0.3, 0.3, (3000, 3)))


class Things:
    """What the kernels are called on: a field, a shell, a trainer."""

    def __init__(self) -> None:
        self.field, self.shell = random_field(scale=0.3), random_shell()
        self.half = self.field.halved()
        self.trainer = kernels.FieldTrainer(SMALL, 0, lo=LO, hi=HI, threads=2)

    def body(self, threads: int) -> list[Any]:
        """Skinning, normals, raster."""
        transforms, joints = kernels.joint_transforms(POSES, JOINTS, SMPL_PARENTS)
        offsets = kernels.pose_offsets(POSES, POSEDIRS, threads=threads)
        posed = kernels.skin(VERTICES + offsets, transforms, IDS, WEIGHTS, threads=threads)
        zero = np.zeros_like(VERTICES)
        maps = kernels.inverse_maps(
            transforms[0], zero, transforms[1], zero, IDS, WEIGHTS, threads=threads
        )
        found = kernels.PosedShell(posed[0], maps, radius_m=0.05, threads=threads).query(POINTS)
        raster = kernels.rasterize(VERTICES, FACES, frontal_camera(40), threads=threads)
        shown = kernels.render_normals(VERTICES, FACES, frontal_camera(40), threads=threads)
        colour = kernels.sample_texture(raster, VERTICES[:, :2], FACES, VERTICES[None])
        return [joints, posed, maps, *found, raster.depth, *shown, colour]

    def views(self, threads: int) -> list[Any]:
        """Field and march."""
        view = camera(40, 33)
        out = [*kernels.field_forward(self.field, POINTS, POINTS, threads=threads)]
        out += [kernels.field_density(self.half, POINTS, threads=threads)]
        out += kernels.march(self.shell, self.half, view, half_resolution=True, threads=threads)
        packed = kernels.march_samples(self.shell, view, threads=threads)
        sigma, rgb = kernels.field_forward(self.field, packed.canonical, packed.canonical)
        return [*out, packed.canonical, *kernels.composite(packed, sigma, rgb, threads=threads)]

    def training(self, threads: int) -> list[Any]:
        """Gradients, which leave the trainer as it was."""
        return [np.float64(self.trainer.gradients(*sphere_samples(500, seed=1)).loss)]

    def all(self, threads: int) -> bytes:
        """The bits of everything."""
        results = self.body(threads) + self.views(threads) + self.training(threads)
        return b"".join(np.asarray(r).tobytes() for r in results)


@pytest.mark.parametrize("shared", [True, False], ids=["same objects", "objects of their own"])
def test_many_callers_get_the_bits_that_one_gets(shared: bool) -> None:
    want = Things().all(1)
    things = Things()  # not used before: what is made on first use is made by all of them
    start = threading.Barrier(CALLERS)

    def caller(number: int) -> list[bytes]:
        own = things if shared else Things()
        start.wait()
        return [own.all(1 + (number + turn) % 3) for turn in range(4)]

    with ThreadPoolExecutor(CALLERS) as pool:
        for results in pool.map(caller, range(CALLERS)):
            assert all(result == want for result in results)


RELEASING = [
    *("rodrigues", "joint_transforms", "pose_offsets", "skin", "inverse_maps", "vertex_normals"),
    "shape_offsets",
    *("rasterize", "interpolate", "sample_texture", "render_normals", "upsample"),
    *("Field.forward", "Field.density", "Trainer.run", "Trainer.read", "Shell", "Shell.query"),
    *("march", "composite", "SampleList", "SampleList.fill"),
]


def empty(*shape: int) -> Any:
    return np.empty(shape, np.float32)


def large_calls() -> dict[str, Callable[[], Any]]:
    """Every compiled function that does work, with enough of it that a thread can wake up.

    All arrays are made before: NumPy itself lets go of the GIL while it copies.
    """
    vertices, faces = sphere(80)
    n = len(vertices)
    ids, weights = bones(RNG, n, 24)
    transforms = f32(np.tile(np.eye(3, 4), (1, 24, 1, 1)))
    maps = f32(np.tile(np.eye(3, 4), (n, 1, 1)))
    view = native_camera(frontal_camera(256))
    size = (256, 256)
    face_id, depth = np.empty(size, np.int32), np.empty(size, np.float32)
    barycentric, colour = empty(2, *size, 3)
    mask = np.empty(size, np.bool_)
    half_colour, alpha, flat_alpha = empty(128, 128, 3), empty(*size), empty(256 * 256)
    native.rasterize(view, vertices, faces, 1, face_id, barycentric, depth)
    raster = (face_id, barycentric)
    texture = f32(RNG.random((64, 64, 3)))
    field, shell = random_field().compiled, random_shell().compiled
    trainer = native.Trainer(field)
    x = f32(RNG.uniform(-0.3, 0.3, (20_000, 3)))
    sigma, many = np.empty(len(x), np.float32), f32(RNG.normal(size=(200_000, 3)))
    posed, near = empty(1, n, 3), np.empty(len(x), np.int32)
    poses, uv = POSES[None, 0], np.ascontiguousarray(vertices[:, :2])
    one, weight = f32(np.abs(x[:, 0])), np.ones(len(x), np.float32)
    moved, matrices, out_maps, offset = (
        empty(len(x), 3),
        empty(len(many), 3, 3),
        empty(n, 3, 4),
        empty(1, N, 3),
    )
    far_camera = native_camera(camera(256, 256))
    found = native.SampleList(shell, far_camera, None, 48, 1)
    shape, shapedirs = f32(RNG.normal(size=10)), f32(RNG.normal(size=(len(x), 3, 10)))
    lists, flat_colour = [empty(found.count, 3) for _ in range(2)], empty(256 * 256, 3)
    delta, ray, nearest = (np.empty(found.count, t) for t in (np.float32, np.int32, np.int32))
    offsets = np.empty(256 * 256 + 1, np.int64)
    table, nets = empty(SMALL.n_params), empty(32 * SMALL.n_padded + 512 + 1536)
    third = np.arange(0, n, 3, dtype=np.int32)
    chain = np.arange(-1, len(many) - 1, dtype=np.int32)
    chained = empty(1, len(many), 3, 4), empty(1, len(many), 3)
    chain_poses = many[None]
    found.fill(shell, offsets, ray, delta, lists[0], lists[1], nearest)
    return {
        "rodrigues": lambda: native.rodrigues(many, matrices),
        "joint_transforms": lambda: native.joint_transforms(chain_poses, many, chain, *chained),
        "pose_offsets": lambda: native.pose_offsets(poses, POSEDIRS, 1, offset),
        "shape_offsets": lambda: native.shape_offsets(shape, shapedirs, moved),
        "skin": lambda: native.skin(vertices[None], transforms, ids, weights, 1, posed),
        "inverse_maps": lambda: native.inverse_maps(
            transforms[0], vertices, transforms[0], vertices, ids, weights, 1, out_maps
        ),
        "vertex_normals": lambda: native.vertex_normals(vertices[None], faces, 1, posed),
        "rasterize": lambda: native.rasterize(view, vertices, faces, 1, *raster, depth),
        "interpolate": lambda: native.interpolate(*raster, faces, vertices, 1, colour),
        "sample_texture": lambda: native.sample_texture_f32(*raster, uv, faces, texture, 1, colour),
        "render_normals": lambda: native.render_normals(view, vertices, faces, 1, colour, mask),
        "Field.forward": lambda: field.forward(x, x, 1, sigma, moved),
        "Field.density": lambda: field.density(x, 1, sigma),
        "Trainer.run": lambda: trainer.run(x, x, one, x, weight, 0.01, 5, -1, 0.9, 0.99, 1e-15, 1),
        "Trainer.read": lambda: trainer.read(False, table, nets),
        "Shell": lambda: native.Shell(vertices, maps, 0.05, third, 0.1, 1),
        "Shell.query": lambda: shell.query(x, 1, near, moved),
        "march": lambda: native.march(shell, field, far_camera, None, 1, 48, 0, 1, colour, alpha),
        "composite": lambda: native.composite(
            offsets, delta, delta, lists[0], 1, flat_colour, flat_alpha
        ),
        "SampleList": lambda: native.SampleList(shell, far_camera, None, 48, 1),
        "SampleList.fill": lambda: found.fill(shell, offsets, ray, delta, *lists, nearest),
        "upsample": lambda: native.upsample(half_colour, 1, colour),
    }


@pytest.fixture(scope="module")
def calls() -> Iterator[dict[str, Callable[[], Any]]]:
    made = large_calls()
    yield made
    made.clear()  # the extension reports what lives longer than it


@pytest.fixture
def rarely_switched() -> Iterator[None]:
    """Python lets go of the GIL only where a call releases it."""
    before = sys.getswitchinterval()
    sys.setswitchinterval(1000)
    yield
    sys.setswitchinterval(before)


@pytest.mark.usefixtures("rarely_switched")
@pytest.mark.parametrize("name", RELEASING)
def test_a_call_lets_other_threads_run(name: str, calls: dict[str, Callable[[], Any]]) -> None:
    assert sorted(calls) == sorted(RELEASING)
    ticks, stop = [0], []

    def tick() -> None:
        while not stop:
            ticks[0] += 1
            time.sleep(0)

    other = threading.Thread(target=tick)
    other.start()
    before, give_up = ticks[0], time.monotonic() + 5
    try:
        while ticks[0] == before and time.monotonic() < give_up:
            calls[name]()
        ran = ticks[0] > before
    finally:  # a call that fails fails the test, and does not leave it waiting for the other thread
        stop.append(True)
        other.join()
    assert ran
