"""The texture atlas of a body file: which texel shows which point of the rest body.

Computed once per body and size, shared by every person painted on it. The body's own UV layout
fills the upper part; a strip below holds the textures of loose meshes (skirts, coat tails, hair).
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache

import numpy as np
from numpy.typing import NDArray

from gas_rt import kernels
from gas_rt.body import BodyModel
from gas_rt.core import JOINT_COUNT, Camera
from reference.people.anatomy import Anatomy, measure
from reference.people.fields import Fields, ramp
from reference.people.noise import NoiseBank
from reference.people.occlusion import Proxy, bake_occlusion
from reference.people.smoothing import Neighbours, low_pass, relax

F32 = NDArray[np.float32]
I32 = NDArray[np.int32]

__all__ = ["STRIP", "Canvas", "canvas_for"]

STRIP = 0.5
"""Height of the strip of loose meshes, in units of the body's square atlas."""

GUTTER_TEXELS = 6
FOOT_JOINTS = (7, 8, 10, 11)


@dataclass(frozen=True, eq=False)
class Canvas:
    """A body, measured and unwrapped.

    Attributes
    ----------
    texels : Fields of the N covered texels; texel_index [N] is their flat position in the square.
    gutter_to, gutter_from : texels beside a chart, and the covered texel each copies.
    vertices : Fields of the body's vertices. In both fields the toes are merged, as a shoe has it.
    neighbours : the body's edges.
    proxy : the body's coarse mesh for light.
    noise, vertex_noise : the same fields at texels and at vertices.
    texel_occlusion [N] : 1 in the open, less in creases.
    """

    body: BodyModel
    size: int
    anatomy: Anatomy
    texels: Fields
    texel_index: NDArray[np.int64]
    gutter_to: NDArray[np.int64]
    gutter_from: NDArray[np.int64]
    vertices: Fields
    texel_occlusion: F32
    noise: NoiseBank
    vertex_noise: NoiseBank
    neighbours: Neighbours
    proxy: Proxy

    def assemble(self, colours: F32, strip: F32) -> F32:
        """colours [N,3] of the texels, strip [STRIP·size, size, 3] → texture [height, size, 3]."""
        square = np.zeros((self.size * self.size, 3), np.float32)
        square[self.texel_index] = colours
        square[self.gutter_to] = square[self.gutter_from]
        return np.concatenate([square.reshape(self.size, self.size, 3), strip])

    def body_uv(self) -> F32:
        """The body's UVs within the whole texture. [Vt,2], v down from the first row."""
        uv = np.array(self.body.uv, np.float32)
        uv[:, 1] /= 1 + STRIP
        return uv


@lru_cache(maxsize=4)
def canvas_for(body: BodyModel, size: int) -> Canvas:
    """The canvas of `body` at `size`² texels; cached, since every person shares it."""
    vertices, faces = body.template, body.faces
    anatomy = measure(vertices, body.shape([]).joints, _landmarks(body))
    normals = kernels.vertex_normals(vertices, faces)
    neighbours = Neighbours.of(faces, len(vertices))
    occlusion = bake_occlusion(vertices, faces, normals)
    index, corner, barycentric = _texels(body, size)
    weights = np.zeros((len(vertices), JOINT_COUNT), np.float32)
    np.add.at(weights, (np.arange(len(vertices))[:, None], body.bone_ids), body.bone_weights)

    painted = _without_toes(vertices, weights, neighbours, anatomy)

    def at_texels(values: F32) -> F32:
        return np.einsum("nk,nkc->nc", barycentric, values[corner])

    normal = at_texels(normals)
    normal /= np.linalg.norm(normal, axis=1, keepdims=True) + 1e-9
    ear = _part(body, "ear")
    texels = Fields(
        anatomy, at_texels(painted), normal, at_texels(weights), at_texels(ear[:, None])[:, 0]
    )
    gutter_to, gutter_from = _gutter(index, size)
    return Canvas(
        body=body,
        size=size,
        anatomy=anatomy,
        texels=texels,
        texel_index=index,
        gutter_to=gutter_to,
        gutter_from=gutter_from,
        vertices=Fields(anatomy, painted, normals, weights, ear),
        texel_occlusion=at_texels(occlusion[:, None])[:, 0],
        noise=NoiseBank.of(texels.position),
        vertex_noise=NoiseBank.of(painted),
        neighbours=neighbours,
        proxy=Proxy.of(vertices, faces, normals),
    )


def _landmarks(body: BodyModel) -> dict[str, F32]:
    """The body file's named points on the template."""
    names, ids = body.extras["landmark_names"], body.extras["landmarks"]
    return {str(name): body.template[i] for name, i in zip(names, ids, strict=True)}


def _without_toes(vertices: F32, weights: F32, neighbours: Neighbours, anatomy: Anatomy) -> F32:
    """The template with its toes merged, as shoes and their soles need it. [V,3]."""
    merged = low_pass(neighbours, relax(neighbours, vertices, 16), 20)
    forward = ramp(vertices[:, 2] - np.float32(anatomy.ball_z), 0.06)
    toes = forward * (weights[:, list(FOOT_JOINTS)].sum(1) > 0.5)
    painted = vertices + toes[:, None] * (merged - vertices)
    # Averaging draws the tip back and up: stretch the foot to its length, drop it to the floor.
    foot = (vertices[:, 1] < anatomy.ankle_y) & (vertices[:, 2] > anatomy.leg_z)
    reach = vertices[foot, 2].max() - anatomy.leg_z
    painted[foot, 2] -= anatomy.leg_z
    painted[foot, 2] *= reach / painted[foot, 2].max()
    painted[foot, 2] += anatomy.leg_z
    painted[:, 1] -= (painted[toes > 0.9, 1].min() - anatomy.floor_y) * toes
    return np.asarray(painted, np.float32)


def _part(body: BodyModel, name: str) -> F32:
    """1 at the vertices the body file labels `name`. [V]."""
    number = [str(part) for part in body.extras["part_names"]].index(name)
    return (body.extras["part"] == number).astype(np.float32)


def _texels(body: BodyModel, size: int) -> tuple[NDArray[np.int64], I32, F32]:
    """Covered texels of the square: flat index [N], body vertices [N,3], barycentric [N,3]."""
    uv = np.asarray(body.uv, np.float32)
    flat = np.concatenate([uv, np.ones((len(uv), 1), np.float32)], 1)
    # A unit plane seen by a camera of focal `size` is the texture itself.
    intrinsics = np.diag([size, size, 1.0]).astype(np.float32)
    eye = np.eye(3, dtype=np.float32)
    camera = Camera(intrinsics, eye, np.zeros(3, np.float32), size, size)
    raster = kernels.rasterize(np.ascontiguousarray(flat), body.uv_faces, camera)
    face = raster.face_id.ravel()
    index = np.flatnonzero(face >= 0)
    return index, body.faces[face[index]], raster.barycentric.reshape(-1, 3)[index]


def _gutter(index: NDArray[np.int64], size: int) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Uncovered texels near charts and the nearest covered one, by growing the charts."""
    source = np.full((size, size), -1, np.int64)
    source.ravel()[index] = index
    covered = source >= 0
    for _ in range(GUTTER_TEXELS):
        for axis, shift in ((0, 1), (0, -1), (1, 1), (1, -1)):
            moved = np.roll(source, shift, axis)
            source = np.where(source < 0, moved, source)
    target = np.flatnonzero((source >= 0) & ~covered)
    return target, source.ravel()[target]
