"""Whom the kernels are measured on: a body of SMPL's size, and the bundled person's avatar."""

from __future__ import annotations

import functools
import time
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

import gas_rt
from benchmarks.kernels.machine import Peaks
from gas_rt.body import BodyFit, BodyModel
from gas_rt.body.person_shell import person_shell
from gas_rt.cameras import orbit
from gas_rt.core import Camera
from gas_rt.field.bake import BakeConfig
from gas_rt.kernels import HashGridConfig, PosedShell

__all__ = ["Setting", "smpl_size"]

SMPL_VERTICES = 6890
# Enough to have something to render, in a second.
QUICK_BAKE = BakeConfig(
    grid=HashGridConfig(levels=6, log2_table=12), pool=1 << 15, batch=4096, steps=30, cells=32
)


@dataclass(frozen=True, eq=False)
class Setting:
    """What all rows share; what only some need is made when it is first used."""

    peaks: Peaks
    threads: int
    quick: bool

    @functools.cached_property
    def model(self) -> gas_rt.Model:
        """The shipped bundle."""
        return gas_rt.load("gas-mini", threads=self.threads)

    @property
    def bake(self) -> BakeConfig:
        """How the person's field is baked."""
        return QUICK_BAKE if self.quick else BakeConfig()

    @functools.cached_property
    def enrolment(self) -> tuple[gas_rt.Avatar, float]:
        """The bundled person, and the seconds enrolment took; graphs were compiled before."""
        folder = self.model.parts.bundle.path("demo/photo.png").parent
        photo = folder / "photo.png", BodyFit.load(folder / "fit.npz"), folder / "mask.png"
        self.model.enroll(*photo, bake=QUICK_BAKE)
        start = time.perf_counter()
        avatar = self.model.enroll(*photo, bake=self.bake)
        return avatar, time.perf_counter() - start

    @property
    def avatar(self) -> gas_rt.Avatar:
        """The bundled person."""
        return self.enrolment[0]

    def close(self) -> None:
        """Let go of the model, if one was loaded."""
        if "model" in self.__dict__:
            self.model.close()

    @functools.cached_property
    def body(self) -> BodyModel:
        """The bundled body."""
        return self.model.parts.body

    def shell(self, *, threads: int) -> PosedShell:
        """The person's shell in the photo's pose."""
        posed = self.body.pose(self.avatar.betas, self.avatar.pose, threads=threads)
        limits = self.model.parts.shell_range
        return person_shell(self.body, posed, self.avatar.radius_m, limits=limits, threads=threads)

    def views(self, side_px: int, count: int) -> list[Camera]:
        """`count` cameras around the person, beginning at the photo's."""
        posed = self.body.pose(self.avatar.betas, self.avatar.pose)
        centre = (posed.vertices.min(0) + posed.vertices.max(0)) / 2
        start = self.avatar.camera.resized(width=side_px, height=side_px)
        return orbit(start, count, centre=centre)


def smpl_size(body: BodyModel) -> dict[str, NDArray[Any]]:
    """The arrays of a body with SMPL's 6,890 vertices, under SMPL's keys.

    The bundled body has fewer: a vertex is set into the middle of as many of its largest faces as
    it lacks, and moves as the face's first corner does. SMPL's own arrays are not free.
    """
    missing = SMPL_VERTICES - body.vertex_count
    corners = body.template[body.faces]
    area = np.linalg.norm(
        np.cross(corners[:, 1] - corners[:, 0], corners[:, 2] - corners[:, 0]), axis=1
    )
    split = np.argsort(-area, kind="stable")[:missing]
    old = body.faces[split]  # [missing, 3]
    new = np.arange(body.vertex_count, SMPL_VERTICES, dtype=np.int32)[:, None]
    parts = [np.concatenate([old[:, [i, (i + 1) % 3]], new], 1) for i in range(3)]
    weights = np.zeros((body.vertex_count, 24), np.float32)
    np.add.at(weights, (np.arange(len(weights))[:, None], body.bone_ids), body.bone_weights)
    tree = np.stack([body.parents.astype(np.int64) % 2**32, np.arange(len(body.parents))])
    return {
        "v_template": np.concatenate([body.template, corners[split].mean(1)]),
        "shapedirs": np.concatenate([body.shapedirs, body.shapedirs[old[:, 0]]]),
        "posedirs": np.concatenate([body.posedirs, body.posedirs[old[:, 0]]]),
        "J_regressor": np.pad(body.joint_regressor, ((0, 0), (0, missing))),
        "weights": np.concatenate([weights, weights[old[:, 0]]]),
        "kintree_table": tree.astype(np.uint32),
        "f": np.concatenate([np.delete(body.faces, split, axis=0), *parts]).astype(np.uint32),
    }
