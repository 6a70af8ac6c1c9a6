"""The nearest vertex and the way to canonical space, against trees and brute force."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from benchmarks.kernels.people import Setting, smpl_size
from benchmarks.kernels.rows import Limit, Row, Skipped
from benchmarks.kernels.skinning import require_torch
from benchmarks.kernels.timing import Call, interleave
from gas_rt.body import BodyModel, PosedBody, procedural_motion
from gas_rt.cameras import framing_camera, orbit
from gas_rt.core import F32, Camera
from gas_rt.kernels import PosedShell, twins
from gas_rt.kernels.twins.march import lattice

__all__ = ["lbs_inverse_cdist", "lbs_inverse_kdtree"]

RATIO_KDTREE, RATIO_CDIST = 25.0, 500.0
SAME = 1e-6  # relative difference of two distances that count as equal
CANONICAL_TOLERANCE_M = 1e-4
# As the release marches: 5 cm, 48 samples a ray, a lens of 10,000 pixels at 512.
RADIUS_M, SAMPLES, FOCAL_OVER_SIDE, FILL = 0.05, 48, 10_000 / 512, 0.88
CHUNK = 1 << 14  # rows whose maps stay in the cache
CDIST_ROWS = 1 << 11  # of torch's distance matrix at a time; 56 MB, the fastest of 2^9 to 2^14

I32 = NDArray[np.int32]


class Scene:
    """A posed SMPL-size body, its way back, and cameras around it."""

    def __init__(self, setting: Setting, *, side_px: int, views: int) -> None:
        self.threads = setting.threads
        self.model = BodyModel.from_arrays(smpl_size(setting.body))
        self.posed: PosedBody = self.model.pose(
            np.zeros(10, np.float32), procedural_motion("dance", 40).pose(17)
        )
        self.vertices = self.posed.vertices
        self.model.canonical()  # a constant, made at first use
        camera = framing_camera(
            self.vertices,
            side_px=side_px,
            elevation_deg=0.0,
            focal_over_side=FOCAL_OVER_SIDE,
            fill=FILL,
        )
        centre = (self.vertices.min(0) + self.vertices.max(0)) / 2
        self.cameras = orbit(camera, views, centre=centre)

    def shell(self) -> PosedShell:
        """Everything our kernels build for a pose."""
        maps = self.model.inverse_maps(self.posed, threads=self.threads)
        return PosedShell(self.vertices, maps, radius_m=RADIUS_M, threads=self.threads)

    def maps_numpy(self) -> F32:
        """The same maps in NumPy, for the competitor."""
        canonical, posed = self.model.canonical(), self.posed
        return twins.inverse_maps(
            posed.transforms,
            posed.pose_offsets + posed.shaped.offsets,
            canonical.transforms,
            canonical.pose_offsets,
            self.model.bone_ids,
            self.model.bone_weights,
            threads=self.threads,
        )


def lbs_inverse_kdtree(setting: Setting) -> Row:
    """Twenty views of one pose: everything built for the pose, then every sample in the shell."""
    tree_class = _kd_tree()
    scene = Scene(setting, side_px=64 if setting.quick else 512, views=2 if setting.quick else 20)
    shell = scene.shell()
    views = [samples_in(shell, camera) for camera in scene.cameras]
    count = sum(len(points) for points in views)

    def ours() -> list[tuple[I32, F32]]:
        built = scene.shell()
        return [built.query(points) for points in views]

    def peer() -> list[tuple[I32, F32]]:
        maps, tree = scene.maps_numpy(), tree_class(scene.vertices)
        found = []
        for points in views:
            _, vertex_id = tree.query(points, distance_upper_bound=RADIUS_M * 1.0001, workers=-1)
            found.append((vertex_id, affine(maps, vertex_id, points)))
        return found

    calls = {
        "ours": Call(ours, per_round=3),
        "peer": Call(peer, warm_up=0 if not setting.quick else 1),
        "build": Call(scene.shell, per_round=5),
    }
    took = interleave(calls, rounds=1 if setting.quick else 3)
    differ, apart_m = 0, 0.0
    for points, (a, canonical), (b, want) in zip(views, ours(), peer(), strict=True):
        differ += farther(scene.vertices, points, a, b)
        same = a == b
        apart_m = max(apart_m, float(np.abs(canonical - want)[same].max(initial=0)))
    ours_ms = took["ours"].p50_ms
    return Row(
        name="lbs_inverse_kdtree",
        against="SciPy cKDTree (workers=-1, bounded by the radius) and NumPy affine maps",
        threads=setting.threads,
        speed=[Limit("times faster", took["peer"].p50_ms / ours_ms, RATIO_KDTREE)],
        correct=[
            Limit("samples with another vertex", differ, 0, at_least=False),
            Limit("metres apart at most", apart_m, CANONICAL_TOLERANCE_M, at_least=False),
        ],
        ours=took["ours"],
        peer=took["peer"],
        # What has to be read and written: a point, a vertex's number and a canonical point.
        peak=setting.peaks.share_of_reading(28.0 * count, ours_ms, setting.threads),
        details={
            "views": len(views),
            "samples": count,
            "radius_m": RADIUS_M,
            "build_ms": took["build"].as_dict(),
            "ns_per_sample_and_core": round(ours_ms * 1e6 / count * setting.threads, 2),
        },
    )


def lbs_inverse_cdist(setting: Setting) -> Row:
    """Samples of a built shell, against all distances to all vertices."""
    torch = require_torch(setting.threads)
    tree_class = _kd_tree()
    scene = Scene(setting, side_px=64 if setting.quick else 512, views=1)
    shell, maps = scene.shell(), scene.maps_numpy()
    points = samples_in(shell, scene.cameras[0])[: 2048 if setting.quick else 1 << 16]
    v, p, m = (torch.from_numpy(a) for a in (scene.vertices, points, maps))

    def peer() -> tuple[Any, Any]:
        found = []
        with torch.inference_mode():
            for rows in p.split(CDIST_ROWS):
                nearest = torch.cdist(rows, v).argmin(1)
                moved = m.index_select(0, nearest)
                canonical = torch.baddbmm(moved[:, :, 3:], moved[:, :, :3], rows[:, :, None])
                found.append((nearest, canonical[:, :, 0]))
        return torch.cat([n for n, _ in found]), torch.cat([c for _, c in found])

    calls = {
        "ours": Call(lambda: shell.query(points), per_round=20, warm_up=5),
        "build": Call(scene.shell, per_round=5),
        "peer": Call(peer),
    }
    took = interleave(calls, rounds=1 if setting.quick else 7)
    exact = tree_class(scene.vertices.astype(np.float64)).query(points.astype(np.float64))[1]
    ours_ms, build_ms = took["ours"].p50_ms, took["build"].p50_ms
    by_torch = peer()[0].numpy()
    return Row(
        name="lbs_inverse_cdist",
        against=f"torch {torch.__version__} cdist and argmin, {CDIST_ROWS} rows at a time",
        threads=setting.threads,
        speed=[Limit("times faster", took["peer"].p50_ms / ours_ms, RATIO_CDIST)],
        correct=[
            Limit(
                "samples with another vertex than in double precision",
                farther(scene.vertices, points, shell.query(points)[0], exact),
                0,
                at_least=False,
            )
        ],
        ours=took["ours"],
        peer=took["peer"],
        peak=setting.peaks.share_of_reading(28.0 * len(points), ours_ms, setting.threads),
        details={
            "samples": len(points),
            "build_ms": took["build"].as_dict(),
            "ratio_with_build": round(took["peer"].p50_ms / (ours_ms + build_ms), 1),
            "ns_per_sample_and_core": round(ours_ms * 1e6 / len(points) * setting.threads, 2),
            "cdist_samples_with_another_vertex": farther(scene.vertices, points, by_torch, exact),
        },
    )


def samples_in(shell: PosedShell, camera: Camera) -> F32:
    """The lattice points [N, 3] of a view that lie in the shell, ray after ray."""
    hit, start, step, _ = lattice(shell, camera, samples=SAMPLES, pixels=None)
    k = np.arange(SAMPLES, dtype=np.float32)[:, None]
    found = []
    for rays in np.array_split(np.flatnonzero(hit), max(1, len(hit) // CHUNK)):
        points = (start[rays, None] + step[rays, None] * k).reshape(-1, 3)
        found.append(points[shell.query(points)[0] >= 0])
    return np.concatenate(found)


def affine(maps: F32, vertex_id: NDArray[Any], points: F32) -> F32:
    """Each point [N, 3] by its vertex's map, a cacheful at a time."""
    out = np.empty_like(points)
    for begin in range(0, len(points), CHUNK):
        rows = slice(begin, begin + CHUNK)
        moved = maps[vertex_id[rows]]
        np.einsum("nij,nj->ni", moved[:, :, :3], points[rows], out=out[rows])
        out[rows] += moved[:, :, 3]
    return out


def farther(vertices: F32, points: F32, a: NDArray[Any], b: NDArray[Any]) -> int:
    """Points whose vertices a and b differ and are not equally near."""
    rows = np.flatnonzero(a != b)
    p, v = points[rows].astype(np.float64), vertices.astype(np.float64)
    if (a[rows] < 0).any():
        return len(rows)
    first, second = (np.linalg.norm(p - v[ids[rows]], axis=1) for ids in (a, b))
    return int((np.abs(first - second) >= SAME * second).sum())


def _kd_tree() -> Any:
    try:
        from scipy.spatial import cKDTree
    except ImportError as error:
        raise Skipped(f"SciPy is not installed ({error}); see requirements/dev.txt") from error
    return cKDTree
