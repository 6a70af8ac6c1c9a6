"""What an SMPL-layout file must hold; every array is checked before the body is built from it."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from gas_rt.body.skeleton import JOINT_NAMES
from gas_rt.core import checked
from gas_rt.errors import FileError, ShapeError

__all__ = ["SHAPES_USED", "checked_arrays"]

SHAPES_USED = 10
MAX_VERTICES = 200_000
MAX_FACES = 400_000
# A nearest-vertex search costs the square of what shares a place; bodies have tens here, a finger
# of a fine scan a few hundred.
CROWD_CELL_M = 0.02
MAX_CROWD = 4_000
MAX_REACH_M = 100.0
# SMPL's skin weights are top-4 by construction; this much (of 1) may be lost to rounding.
_MAX_DROPPED_WEIGHT = 0.01
_NO_PARENT = (-1, 2**32 - 1, 2**31 - 1, 65535)
_REQUIRED = (
    *("v_template", "shapedirs", "posedirs", "J_regressor", "weights", "kintree_table", "f"),
)
_OPTIONAL = ("uv", "uv_faces")


def checked_arrays(name: str, arrays: dict[str, NDArray[Any]]) -> dict[str, Any]:
    """The keyword arguments of a `BodyModel`, or a `FileError` that names the bad array."""
    missing = [key for key in _REQUIRED if key not in arrays]
    if missing:
        raise FileError(
            f"{name}: not an SMPL-layout body: {', '.join(missing)} missing, found "
            f"{', '.join(sorted(arrays)) or 'nothing'}; use SMPL's .npz layout"
        )
    try:
        return _checked(name, arrays)
    except ShapeError as error:
        raise FileError(f"{name}: {error}") from error


def _checked(name: str, arrays: dict[str, NDArray[Any]]) -> dict[str, Any]:
    joints = len(JOINT_NAMES)
    template = checked(arrays["v_template"], "v_template", shape=(None, 3))
    vertices = len(template)
    _at_most(vertices, MAX_VERTICES, "v_template", "vertices")
    _not_crowded(template)
    shapes = arrays["shapedirs"]
    if shapes.ndim != 3 or shapes.shape[2] < 1:
        raise ShapeError(f"shapedirs: expected shape [{vertices}, 3, K], got {list(shapes.shape)}")
    shapes = shapes[:, :, :SHAPES_USED]
    faces = _faces(arrays["f"], "f", vertices)
    bone_ids, bone_weights = _top_four(
        checked(arrays["weights"], "weights", shape=(vertices, joints))
    )
    out: dict[str, Any] = {
        "template": template,
        "shapedirs": checked(shapes, "shapedirs", shape=(vertices, 3, shapes.shape[2])),
        "posedirs": checked(arrays["posedirs"], "posedirs", shape=(vertices, 3, 9 * (joints - 1))),
        "joint_regressor": checked(arrays["J_regressor"], "J_regressor", shape=(joints, vertices)),
        "parents": _parents(arrays["kintree_table"]),
        "faces": faces,
        "bone_ids": bone_ids,
        "bone_weights": bone_weights,
    }
    if "uv" in arrays and "uv_faces" in arrays:
        out["uv"] = checked(arrays["uv"], "uv", shape=(None, 2))
        out["uv_faces"] = _faces(arrays["uv_faces"], "uv_faces", len(out["uv"]))
        if len(out["uv_faces"]) != len(faces):
            raise ShapeError(
                f"uv_faces: expected one per face ({len(faces)}), got {len(out['uv_faces'])}"
            )
    known = {*_REQUIRED, *_OPTIONAL}
    out["extras"] = {key: value for key, value in arrays.items() if key not in known}
    return out


def _at_most(count: int, limit: int, name: str, what: str) -> None:
    if not 1 <= count <= limit:
        raise ShapeError(f"{name}: expected 1..{limit} {what}, got {count}")


def _not_crowded(template: NDArray[np.float32]) -> None:
    reach = float(np.abs(template).max())
    if reach > MAX_REACH_M:
        raise ShapeError(
            f"v_template: reaches {reach:.4g} m from its origin, expected at most {MAX_REACH_M:g}; "
            "convert it to metres"
        )
    cells = np.floor(template / CROWD_CELL_M).astype(np.int64)
    crowd = int(np.unique(cells, axis=0, return_counts=True)[1].max())
    if crowd > MAX_CROWD:
        raise ShapeError(
            f"v_template: {crowd} vertices share a cube of {CROWD_CELL_M * 100:g} cm, expected at "
            f"most {MAX_CROWD}; is it in metres?"
        )


def _faces(array: NDArray[Any], name: str, vertices: int) -> NDArray[np.int32]:
    wide = checked(array, name, shape=(None, 3), dtype=np.int64)
    _at_most(len(wide), MAX_FACES, name, "faces")
    if wide.min() < 0 or wide.max() >= vertices:
        bad = int(np.flatnonzero(((wide < 0) | (wide >= vertices)).any(1))[0])
        raise ShapeError(
            f"{name}: face {bad} is {wide[bad].tolist()}, but ids go from 0 to {vertices - 1}"
        )
    narrow: NDArray[np.int32] = wide.astype(np.int32)
    return narrow


def _parents(table: NDArray[Any]) -> NDArray[np.int32]:
    joints = len(JOINT_NAMES)
    wide = checked(table, "kintree_table", shape=(2, joints), dtype=np.int64)
    parents = wide[0].copy()
    if parents[0] not in _NO_PARENT:
        raise ShapeError(
            f"kintree_table: joint 0 must have no parent (2^32 - 1 or -1), got {parents[0]}"
        )
    parents[0] = -1
    if not np.array_equal(wide[1], np.arange(joints)):
        raise ShapeError(f"kintree_table: row 1 must be 0..{joints - 1}, got {wide[1].tolist()}")
    for joint in range(1, joints):
        if not 0 <= parents[joint] < joint:
            raise ShapeError(
                f"kintree_table: joint {joint} has parent {parents[joint]}; "
                f"expected 0..{joint - 1}, a parent comes before its child"
            )
    narrow: NDArray[np.int32] = parents.astype(np.int32)
    return narrow


def _top_four(weights: NDArray[Any]) -> tuple[NDArray[np.int32], NDArray[np.float32]]:
    if weights.min() < -1e-6:
        raise ShapeError(f"weights: must not be negative, found {weights.min():.3g}")
    total = weights.sum(1)
    worst = int(np.abs(total - 1).argmax())
    if abs(total[worst] - 1) > 1e-3:
        raise ShapeError(f"weights: vertex {worst} sums to {total[worst]:.4f}, expected 1")
    ids = np.argsort(-weights, axis=1, kind="stable")[:, :4]
    kept = np.take_along_axis(weights, ids, axis=1)
    dropped = total - kept.sum(1)
    if dropped.max() > _MAX_DROPPED_WEIGHT:
        raise ShapeError(
            f"weights: vertex {int(dropped.argmax())} follows more than four joints "
            f"({dropped.max():.3f} beyond the fourth); reduce it to four"
        )
    ids = np.where(kept > 0, ids, ids[:, :1])
    kept = np.maximum(kept, 0) / np.maximum(kept, 0).sum(1, keepdims=True)
    return ids.astype(np.int32), np.ascontiguousarray(kept, dtype=np.float32)
