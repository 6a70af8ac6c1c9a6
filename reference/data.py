"""Shards of synthetic people to training batches.

Which people, pictures and rays a step sees follows from (seed, step) and the list of shards
alone, so a run that was killed continues as if it had not been.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray

from gas_rt.body import BodyModel
from gas_rt.body.person_shell import Anchors, ShellRange, person_radius_m, person_shell
from gas_rt.body.photo import carry_to_photo, inverse_affine, vertex_inputs
from gas_rt.core import Camera, Pose
from gas_rt.kernels import PosedShell, march_samples
from reference.devices import prepared
from reference.metrics import mask_box
from reference.nerf.config import FieldConfig, TrainConfig

__all__ = [
    "VIEW_KIND",
    "Batch",
    "Geometry",
    "Person",
    "PhotoGeometry",
    "Picture",
    "PointSet",
    "Sampler",
    "Shards",
    "batches",
]

F32 = NDArray[np.float32]
U8 = NDArray[np.uint8]
VIEW_KIND = 0  # tgt_kind of a target in the photo's own pose


@dataclass(frozen=True, eq=False)
class Picture:
    """One rendered picture and what it shows."""

    rgb: U8  # [H,W,3], premultiplied over black
    mask: U8  # [H,W] coverage
    pose: Pose
    camera: Camera


@dataclass(frozen=True, eq=False)
class Person:
    """One synthetic person: the photo and the pictures to predict."""

    seed: int
    betas: F32
    photo: Picture
    targets: tuple[Picture, ...]
    kinds: U8


class Shards:
    """The people of a folder of shards, in the order of the files' names.

    Shards are read when first needed and stay in memory, about 0.9 MB per person.
    """

    def __init__(self, folder: Path, *, split: str, limit: int | None = None) -> None:
        self.files = sorted(folder.glob(f"{split}-*.npz"))
        if not self.files:
            raise FileNotFoundError(
                f"{folder}: no {split}-*.npz found; write some with "
                "`python -m reference.people.shards`"
            )
        self._loaded: dict[int, dict[str, NDArray]] = {}
        self._index: list[tuple[int, int]] = []
        for number, path in enumerate(self.files):
            with np.load(path, allow_pickle=False) as shard:
                self._index += [(number, row) for row in range(len(shard["seeds"]))]
        if limit is not None:
            self._index = self._index[:limit]

    def __len__(self) -> int:
        return len(self._index)

    def __getitem__(self, index: int) -> Person:
        number, row = self._index[index]
        if number not in self._loaded:
            with np.load(self.files[number], allow_pickle=False) as shard:
                self._loaded[number] = {name: shard[name] for name in shard.files}
        shard = self._loaded[number]

        def picture(prefix: str, at: tuple[int, ...]) -> Picture:
            rgb = shard[f"{prefix}_rgb"][at]
            names = ("K", "R", "t")
            intrinsics, rotation, translation = (shard[f"{prefix}_{n}"][at] for n in names)
            return Picture(
                rgb,
                shard[f"{prefix}_mask"][at],
                Pose(shard[f"{prefix}_rotations"][at], shard[f"{prefix}_translation"][at]),
                Camera(intrinsics, rotation, translation, rgb.shape[1], rgb.shape[0]),
            )

        targets = tuple(picture("tgt", (row, k)) for k in range(shard["tgt_rgb"].shape[1]))
        return Person(
            int(shard["seeds"][row]),
            shard["betas"][row],
            picture("ref", (row,)),
            targets,
            shard["tgt_kind"][row],
        )


def camera_ranges(people: Shards, body: BodyModel, *, limit: int = 256) -> dict[str, list[float]]:
    """Lowest and highest focal length, elevation and size in the picture, as the bundle has them.

    Over the first `limit` people: what the model has seen of cameras.
    """
    seen: dict[str, list[float]] = {}
    for index in range(min(limit, len(people))):
        person = people[index]
        shaped = body.shape(person.betas)
        height_m = float(np.ptp(shaped.vertices[:, 1]))
        for picture in (person.photo, *person.targets):
            camera = picture.camera
            pelvis = shaped.joints[0] + picture.pose.translation
            eye = -camera.rotation.T @ camera.translation - pelvis
            depth_m = camera.rotation[2] @ pelvis + camera.translation[2]
            focal = camera.intrinsics[0, 0] / camera.width
            values = {
                "focal_over_side": focal,
                "elevation_deg": np.degrees(np.arctan2(eye[1], np.hypot(eye[0], eye[2]))),
                "fill": focal * height_m / depth_m,
            }
            for name, value in values.items():
                seen.setdefault(name, []).append(float(value))
    return {name: [round(min(v), 3), round(max(v), 3)] for name, v in seen.items()}


class PointSet(NamedTuple):
    """Packed in-shell samples of one picture's rays; N samples."""

    ray: torch.Tensor  # [N] ascending
    delta: torch.Tensor  # [N] metres
    x_can: torch.Tensor  # [N,3]
    d_can: torch.Tensor  # [N,3] unit
    uv: torch.Tensor  # [N,2] in the photo
    vertex_id: torch.Tensor  # [N] int64


class Batch(NamedTuple):
    """B people with one target each."""

    image: torch.Tensor  # [B,4,R,R]
    vertex_uv: torch.Tensor  # [B,V,2]
    vertex_visible: torch.Tensor  # [B,V,1]
    points: list[PointSet]
    rgb: torch.Tensor  # [B,rays,3]
    alpha: torch.Tensor  # [B,rays]


@dataclass(frozen=True, eq=False)
class PhotoGeometry:
    """The photo's side of a person, computed once."""

    image: F32  # [4,R,R]
    vertex_uv: F32  # [V,2]
    vertex_visible: F32  # [V,1]
    maps: F32  # [V,3,4] canonical → photo pose
    camera: Camera
    radius_m: float  # of the person's shell


class Geometry:
    """Everything that needs the body: vertex inputs of photos, samples of target pictures."""

    def __init__(self, body: BodyModel, config: FieldConfig, *, threads: int = 1) -> None:
        self.body = body
        self.config = config
        self.threads = threads
        self.limits = ShellRange(config.shell_radius_m, config.shell_radius_max_m)
        self.anchors = Anchors(body.canonical().vertices, threads=threads)

    def photo(self, betas: F32, photo: Picture, *, radius_m: float | None = None) -> PhotoGeometry:
        """What the encoder needs of a photo; `radius_m` of the person's shell, if it is known."""
        posed = self.body.pose(betas, photo.pose)
        uv, visible = vertex_inputs(
            posed.vertices, posed.normals, self.body.faces, photo.camera, threads=self.threads
        )
        image = np.concatenate([photo.rgb, photo.mask[..., None]], 2).transpose(2, 0, 1)
        maps = self.body.inverse_maps(posed)
        if radius_m is None:
            radius_m = person_radius_m(
                photo.mask,
                self.body,
                posed,
                photo.camera,
                limits=self.limits,
                threads=self.threads,
            )
        return PhotoGeometry(
            image.astype(np.float32) / 255,
            uv,
            visible,
            inverse_affine(maps),
            photo.camera,
            radius_m,
        )

    def shell(self, betas: F32, pose: Pose, *, radius_m: float) -> PosedShell:
        """The samples' support around the posed body."""
        posed = self.body.pose(betas, pose)
        return person_shell(self.body, posed, radius_m, limits=self.limits, threads=self.threads)

    def points(self, x_can: F32, photo: PhotoGeometry) -> PointSet:
        """Points [N,3] of canonical space as samples of no length, seen from the front.

        Those too far from the canonical body are left out: `ray` numbers the ones that are there.
        """
        nearest, _ = self.anchors.around(photo.radius_m).query(x_can)
        kept = np.flatnonzero(nearest >= 0)
        front = np.tile(np.array([0, 0, -1], np.float32), (len(kept), 1))
        length = np.zeros(len(kept), np.float32)
        return _point_set(kept, length, x_can[kept], front, nearest[kept], photo)

    def samples(
        self,
        shell: PosedShell,
        camera: Camera,
        photo: PhotoGeometry,
        *,
        pixels: NDArray[np.int32] | None = None,
    ) -> PointSet:
        """In-shell samples of the camera's rays; of `pixels` [R,2], column and row, if given."""
        packed = march_samples(
            shell, camera, samples=self.config.samples, pixels=pixels, threads=self.threads
        )
        x_can, anchor = packed.canonical, packed.vertex_id
        nearest, _ = self.anchors.around(photo.radius_m).query(x_can)
        vertex_id = np.where(nearest >= 0, nearest, anchor)
        return _point_set(
            packed.ray, packed.delta, x_can, packed.direction_canonical, vertex_id, photo
        )


def _point_set(
    ray: NDArray[np.integer],
    delta: F32,
    x_can: F32,
    d_can: F32,
    vertex_id: NDArray[np.int32],
    photo: PhotoGeometry,
) -> PointSet:
    """Samples as tensors, each with its place in the photo."""
    uv = carry_to_photo(x_can, vertex_id, photo.maps, photo.camera)
    return PointSet(
        torch.from_numpy(ray.astype(np.int64)),
        torch.from_numpy(delta),
        torch.from_numpy(x_can),
        torch.from_numpy(d_can),
        torch.from_numpy(uv),
        torch.from_numpy(vertex_id.astype(np.int64)),
    )


def choose_pixels(mask: U8, rng: np.random.Generator, config: TrainConfig) -> NDArray[np.int32]:
    """Columns and rows [rays,2] of distinct pixels, most of them on or next to the person."""
    box = np.zeros(mask.shape, bool)
    box[mask_box(mask)] = True
    near = np.zeros(mask.shape, bool)
    rows, columns = np.nonzero(mask)
    for dy in (-2, 0, 2):
        for dx in (-2, 0, 2):
            near[
                np.clip(rows + dy, 0, mask.shape[0] - 1),
                np.clip(columns + dx, 0, mask.shape[1] - 1),
            ] = True
    # Exponential races: the smallest keys are a weighted sample without replacement.
    weight = np.where(near, config.person_share / max(near.sum(), 1), 0.0)
    weight += np.where(box, (1 - config.person_share) / box.sum(), 0.0)
    key = rng.exponential(size=mask.shape) / np.maximum(weight, 1e-30)
    count = min(config.rays, int((weight > 0).sum()))
    chosen = np.argpartition(key.ravel(), count - 1)[:count]
    rows, columns = np.divmod(np.sort(chosen), mask.shape[1])
    return np.stack([columns, rows], 1).astype(np.int32)


class Sampler:
    """Batches by step number.

    With `keep` the photo's side of every person seen stays in memory, 1.2 MB each: half of the work
    that a batch is, and a GPU waits for it.
    """

    def __init__(
        self, shards: Shards, geometry: Geometry, config: TrainConfig, *, keep: bool = False
    ) -> None:
        self.shards, self.geometry, self.config = shards, geometry, config
        self._photos: dict[int, PhotoGeometry] | None = {} if keep else None
        self._radii: dict[int, float] = {}  # kept always: finding one takes as long as a raster

    def _photo(self, index: int, person: Person) -> PhotoGeometry:
        if self._photos is None:
            radius_m = self._radii.get(index)
            photo = self.geometry.photo(person.betas, person.photo, radius_m=radius_m)
            self._radii[index] = photo.radius_m
            return photo
        if index not in self._photos:  # two threads may find the same; both are right
            self._photos[index] = self.geometry.photo(person.betas, person.photo)
        return self._photos[index]

    def order(self, step: int) -> NDArray[np.int64]:
        """The people of a step: a fresh permutation per pass over the shards."""
        size, count = len(self.shards), self.config.persons
        places = np.arange(step * count, (step + 1) * count)
        passes = {
            int(p): np.random.default_rng([self.config.seed, 1, int(p)]).permutation(size)
            for p in np.unique(places // size)
        }
        return np.array([passes[int(p // size)][p % size] for p in places])

    def batch(self, step: int) -> Batch:
        """The batch of one step."""
        rng = np.random.default_rng([self.config.seed, 2, step])
        photos, points, colours, alphas = [], [], [], []
        for index in self.order(step):
            person = self.shards[int(index)]
            same_pose = person.kinds == VIEW_KIND
            wanted = same_pose if rng.random() < self.config.view_share else ~same_pose
            choices = np.flatnonzero(wanted if wanted.any() else same_pose)
            target = person.targets[int(rng.choice(choices))]
            photo = self._photo(int(index), person)
            pixels = choose_pixels(target.mask, rng, self.config)
            shell = self.geometry.shell(person.betas, target.pose, radius_m=photo.radius_m)
            photos.append(photo)
            points.append(self.geometry.samples(shell, target.camera, photo, pixels=pixels))
            colours.append(_padded(target.rgb[pixels[:, 1], pixels[:, 0]], self.config.rays))
            alphas.append(
                _padded(target.mask[pixels[:, 1], pixels[:, 0], None], self.config.rays)[:, 0]
            )
        return Batch(
            torch.from_numpy(np.stack([p.image for p in photos])),
            torch.from_numpy(np.stack([p.vertex_uv for p in photos])),
            torch.from_numpy(np.stack([p.vertex_visible for p in photos])),
            points,
            torch.from_numpy(np.stack(colours)).float() / 255,
            torch.from_numpy(np.stack(alphas)).float() / 255,
        )


def _padded(values: U8, rows: int) -> U8:
    """Zero rows appended: an empty ray over black, which every model predicts."""
    return np.pad(values, ((0, rows - len(values)), (0, 0)))


def batches(sampler: Sampler, *, start: int, stop: int, workers: int = 1) -> Iterator[Batch]:
    """Batches of steps start..stop−1, prepared ahead of use by `workers` threads."""
    yield from prepared(sampler.batch, range(start, stop), workers=workers)
