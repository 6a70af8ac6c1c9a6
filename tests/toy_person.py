"""Someone to enrol: the toy body photographed by its normal map, on a toy bundle."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
from PIL import Image

from gas_rt.body import BodyFit, Motion
from gas_rt.cameras import framing_camera, orbit
from gas_rt.core import Camera, Pose, Request
from gas_rt.field.bake import BakeConfig
from gas_rt.files import write_npz
from gas_rt.kernels import HashGridConfig, render_normals
from tests.toy_body import toy_body
from tests.toy_bundle import SIDE, write_bundle

# Enough to see that a bake works, in about a second.
QUICK_BAKE = BakeConfig(
    grid=HashGridConfig(levels=6, log2_table=13), pool=40_000, batch=4096, steps=90, cells=48
)
# For tests that look at the teacher and not at the bake.
NO_BAKE = BakeConfig(grid=HashGridConfig(levels=2, log2_table=8), pool=64, steps=1, cells=8)
MARGIN_M = 0.02
RADIUS_M = 0.06


@dataclass(frozen=True, eq=False)
class ToyPerson:
    """Photo [S, S, 3], mask [S, S] and the fit of the body in it."""

    rgb: np.ndarray
    mask: np.ndarray
    fit: BodyFit

    @property
    def camera(self) -> Camera:
        return self.fit.camera

    @property
    def pose(self) -> Pose:
        return self.fit.pose

    def requests(self, frames: int, *, side: int = 48) -> list[Request]:
        """The photo's pose from all around."""
        start = self.camera.resized(width=side, height=side)
        return [Request(self.pose, camera, task="view") for camera in orbit(start, frames)]


def toy_bundle_folder(folder: Path) -> Path:
    """A complete bundle around the toy body."""
    body = toy_body()
    folder.mkdir(parents=True, exist_ok=True)
    body.save(folder / "body.npz")
    reach = RADIUS_M + MARGIN_M
    vertices = body.canonical().vertices
    return write_bundle(
        folder,
        body=(folder / "body.npz").read_bytes(),
        vertices=body.vertex_count,
        box_m=((vertices.min(0) - reach).tolist(), (vertices.max(0) + reach).tolist()),
        radius_m=RADIUS_M,
    )


def toy_person() -> ToyPerson:
    """The person, arms half lowered, seen from the front."""
    body = toy_body()
    rotations = np.zeros((24, 3), np.float32)
    rotations[16, 2], rotations[17, 2] = -0.8, 0.8
    pose = Pose(rotations)
    betas = np.zeros(10, np.float32)
    betas[0] = 0.5
    posed = body.pose(betas, pose)
    camera = framing_camera(posed.vertices, side_px=SIDE, fill=0.9)
    normals, mask = render_normals(posed.vertices, body.faces, camera)
    rgb = (normals * 255).astype(np.uint8)
    return ToyPerson(rgb, mask, BodyFit(betas, pose, camera))


def toy_motion(frames: int = 20, fps: float = 25.0) -> Motion:
    """Arms going up while the body walks along x."""
    rotations = np.zeros((frames, 24, 3), np.float32)
    share = np.linspace(0, 1, frames, dtype=np.float32)
    rotations[:, 16, 2], rotations[:, 17, 2] = share - 1, 1 - share
    translations = np.zeros((frames, 3), np.float32)
    translations[:, 0] = share
    return Motion(rotations, translations, fps)


def person_files(folder: Path, person: ToyPerson) -> Path:
    """The folder a demo reads: photo, mask, fit, motion and truth."""
    folder.mkdir(parents=True, exist_ok=True)
    Image.fromarray(person.rgb).save(folder / "photo.png")
    Image.fromarray(person.mask).convert("L").save(folder / "mask.png")
    person.fit.save(folder / "fit.npz")
    toy_motion().save(folder / "motion.npz")
    truth = folder / "truth"
    truth.mkdir(exist_ok=True)
    arrays = {}
    for clip in ("view", "pose"):
        requests = person.requests(4, side=64)
        for k in range(len(requests)):
            Image.fromarray(person.rgb).resize((64, 64)).save(truth / f"{clip}_{k:03d}.png")
        cameras = [request.camera for request in requests]
        arrays[f"{clip}_rotations"] = np.stack([r.pose.rotations for r in requests])
        arrays[f"{clip}_translation"] = np.stack([r.pose.translation for r in requests])
        arrays[f"{clip}_intrinsics"] = np.stack([c.intrinsics for c in cameras])
        arrays[f"{clip}_R"] = np.stack([c.rotation for c in cameras])
        arrays[f"{clip}_t"] = np.stack([c.translation for c in cameras])
    write_npz(truth / "cameras.npz", arrays)
    return folder
