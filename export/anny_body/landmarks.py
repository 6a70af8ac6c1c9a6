"""Named vertices and a part label per vertex, found on Anny's full mesh in the T-pose."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from export.anny_body.source import F64, I64, AnnyMesh
from gas_rt.body.skeleton import JOINT_NAMES

__all__ = ["PART_NAMES", "find_landmarks", "part_labels"]

PART_NAMES = (
    *("torso", "neck", "scalp", "face", "ear", "eyelid", "lip", "eye", "eye_socket", "mouth"),
    *("upper_arm", "forearm", "hand", "thigh", "shin", "foot"),
)


def find_landmarks(mesh: AnnyMesh, vertices: F64) -> dict[str, int]:
    """Vertex ids on the full mesh; ``left_`` is the subject's left (+x)."""
    ids = np.arange(len(vertices))
    x, y, z = vertices.T
    left = x > 1e-4
    middle = np.abs(x) < 1e-4
    seg = mesh.segments
    found: dict[str, int] = {}

    def pick(mask: NDArray[np.bool_], score: F64) -> int:
        return int(ids[mask][np.argmax(score[mask])])

    found["left_eye"] = pick(seg["eye"] & left, z)
    found["crown"] = pick(middle & seg["head"], y)
    eye_y = y[found["left_eye"]]
    lips = seg["lips"] & ~seg["mouth"]
    lip_y = y[lips].mean()
    skin = middle & seg["head"] & ~seg["mouth"]
    found["nose_tip"] = pick(skin & (y < eye_y) & (y > lip_y), z)
    found["left_mouth_corner"] = pick(lips & left & _touches(mesh, seg["mouth"]), x)
    # The foremost point of the midline in the middle of what lies below the lips.
    low = y[lips].min()
    chin_floor = low - 0.75 * (y[found["nose_tip"]] - low)
    found["chin"] = pick(skin & (y < low - 0.012) & (y > chin_floor), z)
    ear = seg["ears"] & left & seg["head"]
    found["left_ear_tip"] = pick(ear, y + 0.5 * x)
    found["left_ear_lobe"] = pick(ear, -y)
    hand, foot = seg["hand"] & left, seg["foot"] & left
    found["left_middle_fingertip"] = pick(hand, x)
    found["left_toe_tip"] = pick(foot, z)
    found["left_heel"] = pick(foot & (y < y[foot].min() + 0.04), -z)
    found["navel"] = pick(
        middle & ~seg["head"] & (z > 0), -np.abs(y - _height_at(mesh, vertices, "spine03"))
    )
    for name, vertex in list(found.items()):
        if name.startswith("left_"):
            found["right_" + name[5:]] = int(mesh.mirror[vertex])
    return found


def _height_at(mesh: AnnyMesh, vertices: F64, bone: str) -> float:
    weight = mesh.bone_weights[:, mesh.bone_labels.index(bone)]
    return float((weight * vertices[:, 1]).sum() / weight.sum())


def _touches(mesh: AnnyMesh, mask: NDArray[np.bool_]) -> NDArray[np.bool_]:
    """Vertices that share a face with the masked ones."""
    out = np.zeros(len(mask), bool)
    out[mesh.faces[mask[mesh.faces].any(1)]] = True
    return out


def part_labels(mesh: AnnyMesh, weights: F64, vertices: F64) -> NDArray[np.uint8]:
    """[V] indices into `PART_NAMES`; later rules win."""
    seg = mesh.segments
    strongest = weights.argmax(1)
    label = np.full(len(weights), PART_NAMES.index("torso"), np.uint8)

    def joints(*names: str) -> NDArray[np.bool_]:
        wanted: I64 = np.array([i for i, n in enumerate(JOINT_NAMES) if n.endswith(names)])
        return np.isin(strongest, wanted)

    head = joints("head") | seg["head"]
    rules = (
        ("neck", joints("neck") & ~seg["head"]),
        ("thigh", joints("hip")),
        ("shin", joints("knee")),
        ("foot", seg["foot"] & joints("ankle", "foot")),
        ("upper_arm", joints("shoulder")),
        ("forearm", joints("elbow")),
        ("hand", seg["hand"] & joints("wrist", "hand")),
        ("scalp", head & joints("head")),
        ("neck", head & joints("neck")),
        ("face", head & seg["face"]),
        ("ear", seg["ears"] & (np.abs(vertices[:, 0]) > 0.06)),
        ("eyelid", seg["eyelids"]),
        ("lip", seg["lips"]),
        ("eye_socket", seg["eye_socket"]),
        ("mouth", seg["mouth"]),
        ("eye", seg["eye"]),
    )
    for name, mask in rules:
        label[mask] = PART_NAMES.index(name)
    return label
