"""A synthetic person: body shape, clothed mesh, texture; and what it looks like in a pose."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from gas_rt import kernels
from gas_rt.body import BodyModel, ShapedBody
from gas_rt.core import Pose
from reference.people.canvas import Canvas, canvas_for
from reference.people.drape import draped_garments, hung
from reference.people.hair import hair_offsets
from reference.people.hands import hand_offsets
from reference.people.look import Look, draw_look
from reference.people.loose import SLOTS, STRIP_SHARE, LooseMesh, slot_shape
from reference.people.occlusion import Proxy
from reference.people.relief import cloth_offsets
from reference.people.seeds import generator
from reference.people.shape import draw_betas
from reference.people.texture import paint_body
from reference.people.tresses import hanging_hair

F32 = NDArray[np.float32]
I32 = NDArray[np.int32]

__all__ = ["Mesh", "Person", "PersonState", "Skinned"]

ATLAS = 512


@dataclass(frozen=True, eq=False)
class Mesh:
    """Topology shared by all poses: the body's faces first, then the loose meshes'.

    `proxy` is the coarse mesh by which light and shadow are computed.
    """

    faces: I32
    uv: F32
    uv_faces: I32
    body_faces: int
    proxy: Proxy


@dataclass(frozen=True, eq=False)
class Skinned:
    """A person in one pose before secondary motion.

    Body vertices [V,3] and joints [24,3]; per loose mesh its vertices [n,3] and its guides'
    particles [rows, columns, 3] (of a rigid part, its vertices again).
    """

    pose: Pose
    vertices: F32
    joints: F32
    sheets: tuple[F32, ...]
    guides: tuple[F32, ...]


@dataclass(frozen=True, eq=False)
class PersonState:
    """A person in one pose: vertices [V,3] and unit normals [V,3], metres, world."""

    pose: Pose
    vertices: F32
    normals: F32


@dataclass(frozen=True, eq=False)
class Person:
    """Everything about an identity that no pose changes.

    Attributes
    ----------
    betas : [10] body shape.
    clothed : the shaped body at rest with cloth and hair standing off the skin.
    loose : meshes that hang free.
    texture : [h, w, 3] linear colour.
    """

    seed: int
    body: BodyModel
    betas: F32
    look: Look
    clothed: ShapedBody
    loose: tuple[LooseMesh, ...]
    mesh: Mesh
    texture: F32

    @classmethod
    def from_seed(cls, seed: int, body: BodyModel, *, atlas: int = ATLAS) -> Person:
        """The person of a seed; the same on every machine and in every process."""
        canvas = canvas_for(body, atlas)
        look = draw_look(seed)
        betas = draw_betas(seed)
        shaped = body.shape(betas)
        offsets = cloth_offsets(look.outfit, canvas, generator(seed, "folds"))
        offsets += hand_offsets(shaped, canvas.vertices, generator(seed, "hands"))
        offsets += hair_offsets(look.hair, canvas, generator(seed, "hair relief"))
        clothed = replace(shaped, vertices=shaped.vertices + offsets)
        rng = generator(seed, "loose")
        loose = (
            *draped_garments(look.outfit, canvas, clothed, rng),
            *hanging_hair(look.hair, canvas, clothed, rng),
        )
        colours = paint_body(look, canvas, seed)
        texture = canvas.assemble(colours, _strip(loose, atlas))
        return cls(seed, body, betas, look, clothed, loose, _assemble(canvas, loose), texture)

    def skinned(self, pose: Pose) -> Skinned:
        """Everything where the bones carry it."""
        posed = self.body.pose(self.clothed, pose)

        def carried(rest: F32, ids: I32, weights: F32) -> F32:
            flat = kernels.skin(
                rest.reshape(-1, 3), posed.transforms, ids.reshape(-1, 4), weights.reshape(-1, 4)
            )
            return flat.reshape(rest.shape)

        sheets = tuple(carried(p.rest, p.bone_ids, p.bone_weights) for p in self.loose)
        guides = tuple(
            sheet if g is None else hung(g, carried(g.rest, g.bone_ids, g.bone_weights), posed)
            for sheet, g in zip(sheets, (part.guides for part in self.loose), strict=True)
        )
        return Skinned(pose, posed.vertices, posed.joints, sheets, guides)

    def state(self, pose: Pose, vertices: F32, sheets: list[F32]) -> PersonState:
        """Put body and loose meshes together."""
        everything = np.concatenate([vertices, *sheets]).astype(np.float32)
        normals = kernels.vertex_normals(everything, self.mesh.faces)
        return PersonState(pose, everything, normals)


def _assemble(canvas: Canvas, loose: tuple[LooseMesh, ...]) -> Mesh:
    body = canvas.body
    faces, uv_faces, uv = [body.faces], [body.uv_faces], [canvas.body_uv()]
    vertices, corners = len(body.template), len(uv[0])
    proxy = canvas.proxy
    height = slot_shape(canvas.size)[0]
    inset = np.array([1.5 / (canvas.size / 2), 1.5 / height], np.float32)
    for part in loose:
        faces.append(part.faces + np.int32(vertices))
        proxy = proxy.extended(len(part.rest), faces[-1])
        uv_faces.append(part.uv_faces + np.int32(corners))
        local = inset + part.uv * (1 - 2 * inset)
        u0, v0 = SLOTS[part.slot]
        u = u0 + local[:, 0] / 2
        v = 1 - STRIP_SHARE * (1 - v0 - local[:, 1] / 2)
        uv.append(np.stack([u, v], 1).astype(np.float32))
        vertices += len(part.rest)
        corners += len(part.uv)
    return Mesh(
        faces=np.ascontiguousarray(np.concatenate(faces), np.int32),
        uv=np.ascontiguousarray(np.concatenate(uv), np.float32),
        uv_faces=np.ascontiguousarray(np.concatenate(uv_faces), np.int32),
        body_faces=len(body.faces),
        proxy=proxy,
    )


def _strip(loose: tuple[LooseMesh, ...], atlas: int) -> F32:
    """The loose meshes' textures, linear, in their slots."""
    height, width = slot_shape(atlas)
    strip = np.zeros((2 * height, 2 * width, 3), np.float32)
    for part in loose:
        u0, v0 = SLOTS[part.slot]
        row, column = round(v0 * 2) * height, round(u0 * 2) * width
        strip[row : row + height, column : column + width] = part.picture**2
    return strip
