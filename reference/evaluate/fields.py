"""Stage 1 alone: the PyTorch teacher, and the runtime's exact and baked fields."""

from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from gas_rt.avatar import Avatar
from gas_rt.body import BodyFit, BodyModel
from gas_rt.core import Camera, Pose
from gas_rt.errors import FileError
from gas_rt.field.render import RenderMode
from gas_rt.model import Model
from reference.data import Geometry
from reference.evaluate.cases import Case
from reference.evaluate.shown import Show, Shown
from reference.nerf.checkpoint import mesh_of, open_checkpoint
from reference.nerf.render import encode_photo, render_view

__all__ = ["Avatars", "Enrol", "Render", "runtime", "shown_by", "teacher"]

F32 = NDArray[np.float32]

# (pose, camera) → rgb [H,W,3] in [0, 1], premultiplied over black, of one person
Render = Callable[[Pose, Camera], F32]
# case → its person's Render
Enrol = Callable[[Case], Render]


class Avatars:
    """Avatars of the people of cases, kept in `folder` if there is one.

    The last one stays in memory: cases of a person come in a row.
    """

    def __init__(self, model: Model, folder: Path | None = None) -> None:
        self.model, self._folder = model, folder
        self._last: tuple[int, Avatar] | None = None

    def of(self, case: Case) -> Avatar:
        """Enrolled now, or before."""
        if self._last is None or self._last[0] != case.seed:
            self._last = case.seed, self._found(case)
        return self._last[1]

    def _found(self, case: Case) -> Avatar:
        photo = case.photo
        fit = BodyFit(case.betas, photo.pose, photo.camera)
        if self._folder is None:
            return self.model.enroll(photo.rgb, fit, photo.mask)
        # An avatar belongs to the bundle that made it.
        mark = self.model.parts.bundle.fingerprint[:12]
        path = self._folder / f"{case.seed}-{mark}.avatar"
        try:
            return self.model.open_avatar(path)
        except FileError:  # not there yet, or of another format
            self._folder.mkdir(parents=True, exist_ok=True)
            avatar = self.model.enroll(photo.rgb, fit, photo.mask)
            avatar.save(path)
            return avatar


def teacher(checkpoint: Path, body: BodyModel) -> Enrol:
    """The PyTorch model of a training checkpoint."""
    model, _ = open_checkpoint(checkpoint, mesh_of(body))
    geometry = Geometry(body, model.config, threads=torch.get_num_threads())

    def enrol(case: Case) -> Render:
        seen = geometry.photo(case.betas, case.photo)
        person = encode_photo(model, seen)
        shells: dict[bytes, Any] = {}

        def render(pose: Pose, camera: Camera) -> F32:
            key = pose.rotations.tobytes() + pose.translation.tobytes()
            if key not in shells:
                shells.clear()
                shells[key] = geometry.shell(case.betas, pose, radius_m=seen.radius_m)
            return render_view(model, person, geometry, seen, shells[key], camera)[0]

        return render

    return enrol


def runtime(avatars: Avatars, mode: RenderMode) -> Enrol:
    """The runtime: a bundle's graphs, ``exact`` or through the baked field."""

    def enrol(case: Case) -> Render:
        performer = avatars.model.performer(avatars.of(case), mode=mode)

        def render(pose: Pose, camera: Camera) -> F32:
            return performer.picture(pose, camera).rgb.astype(np.float32) / 255

        return render

    return enrol


def shown_by(enrol: Enrol) -> Show:
    """The field's renders, frame by frame."""

    def show(case: Case) -> Shown:
        render = enrol(case)
        pictures: list[F32] = []
        begin = time.perf_counter()
        first_s = 0.0
        for pose, camera in zip(case.poses, case.cameras, strict=True):
            pictures.append(np.clip(render(pose, camera), 0, 1))
            first_s = first_s or time.perf_counter() - begin
        return Shown(np.stack(pictures), first_s, 1, time.perf_counter() - begin)

    return show
