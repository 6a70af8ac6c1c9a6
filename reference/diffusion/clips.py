"""Clip shards: what stage 2 is trained on, one ``.npz`` of a few dozen clips.

Schema 2, N clips of L frames, pictures H × W, latents [C, h, w] with h = H/8, w = W/8:

======================== ================== ====================================================
key                      dtype, shape       what
======================== ================== ====================================================
schema                   i64 []             2
seed                     i64 [N]            the person's seed
task                     u8 [N]             0 pose (one camera), 1 view (one pose)
fps                      f32 [N]            frames per second of the motion or orbit
video                    u8 [N]             1 for a video, whose camera shakes and whose poses,
                                            cameras and betas are estimates; 0 for an exact scan
fit_noise                f32 [N]            level of the estimates' errors, 0 of a scan
azimuth                  f32 [N, L]         radians in [0, π] between the camera of the frame and
                                            of the picture, for the guidance of views
reference_rgb            u8 [N, H, W, 3]    the masked picture, black background
reference_latent         f16 [N, C, h, w]   of that picture
reference_nerf_latent    f16 [N, C, h, w]   of the field's render in the picture's pose and camera
reference_normals        u8 [N, H, W, 3]    normal map there
reference_person         u8 [N, h, w]       share of each latent pixel the person covers, × 255
target_latents           f16 [N, L, C, h, w] of the ground truth
nerf_latents             f16 [N, L, C, h, w] of the field's renders
normals                  u8 [N, L, H, W, 3] normal maps
person                   u8 [N, L, h, w]    as above
black_latent             f16 [C, h, w]      of a black picture: the render of a dropped NeRF
======================== ================== ====================================================

All latents are the autoencoder's normalised ones. Normal maps are the release's [0, 1] × 255.
Files are ``train-%05d.npz`` and ``val-%05d.npz``. Schema 1 lacks `video` and `fit_noise`: its clips
are exact scans.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch
from numpy.typing import NDArray

from gas_rt.files import read_npz, write_npz
from reference.autoencoder import Autoencoder
from reference.devices import place_of

__all__ = [
    "KINDS",
    "TASKS",
    "Clip",
    "Clips",
    "Pictures",
    "black_latent",
    "encode",
    "make_clip",
    "read_clips",
    "same_latents",
    "write_clips",
]

SCHEMA = 2
TASKS = ("pose", "view")  # index = the 1 of the switcher's one-hot
KINDS = ("scan", "video")  # index = `video`
DOWNSAMPLING = 8
ENCODE_BATCH = 16
# Two processes round a latent's last bit apart where their processors differ; two autoencoders
# differ by far more.
SAME_LATENT = 0.02

U8 = NDArray[np.uint8]
F16 = NDArray[np.float16]
F32 = NDArray[np.float32]


@dataclass(frozen=True)
class Clip:
    """One clip; arrays as in the schema, without the leading N."""

    seed: int
    task: Literal["pose", "view"]
    fps: float
    azimuth: F32
    reference_rgb: U8
    reference_latent: F16
    reference_nerf_latent: F16
    reference_normals: U8
    reference_person: U8
    target_latents: F16
    nerf_latents: F16
    normals: U8
    person: U8
    video: bool = False
    fit_noise: float = 0.0


@dataclass(frozen=True)
class Pictures:
    """What a clip shows, the reference before its L frames: `rgb`, `renders` (the field's) and
    `normals` [1 + L, H, W, 3], `mask` [1 + L, H, W]."""

    rgb: U8
    mask: U8
    renders: U8
    normals: U8

    def mirrored(self) -> Pictures:
        """Left and right exchanged."""
        flipped = Pictures(
            *(np.ascontiguousarray(getattr(self, f.name)[:, :, ::-1]) for f in fields(self))
        )
        x = flipped.normals[..., 0]
        shown = flipped.normals.any(-1)
        x[shown] = 255 - x[shown]  # it points the other way; the background stays black
        return flipped


SCALARS = ("seed", "task", "fps", "video", "fit_noise")
ARRAYS = tuple(f.name for f in fields(Clip) if f.name not in SCALARS)


def black_latent(autoencoder: Autoencoder, *, height: int, width: int) -> F16:
    """[C, height/8, width/8] of a black picture; also the autoencoder's signature."""
    return encode(autoencoder, np.zeros((1, height, width, 3), np.uint8))[0]


def same_latents(one: F16, other: F16) -> bool:
    """Whether two latents of one picture are of the same autoencoder."""
    return one.shape == other.shape and bool(np.abs(one - other).max() <= SAME_LATENT)


def write_clips(path: Path, clips: Sequence[Clip], *, black_latent: F16) -> None:
    """Write a shard; clips must agree in length and size."""
    if not clips:
        raise ValueError(f"{path}: no clips to write; a shard holds at least one")
    arrays: dict[str, NDArray[Any]] = {
        "schema": np.array(SCHEMA, np.int64),
        "seed": np.array([c.seed for c in clips], np.int64),
        "task": np.array([TASKS.index(c.task) for c in clips], np.uint8),
        "fps": np.array([c.fps for c in clips], np.float32),
        "video": np.array([c.video for c in clips], np.uint8),
        "fit_noise": np.array([c.fit_noise for c in clips], np.float32),
        "black_latent": np.asarray(black_latent, np.float16),
    }
    for name in ARRAYS:
        shapes = {getattr(c, name).shape for c in clips}
        if len(shapes) > 1:
            raise ValueError(f"{path}: clips differ in {name}: {sorted(shapes)}; sort them first")
        arrays[name] = np.stack([getattr(c, name) for c in clips])
    check(path, arrays)
    write_npz(path, arrays)


def read_clips(path: Path) -> dict[str, NDArray[Any]]:
    """The arrays of a shard, checked."""
    arrays = read_npz(path)
    schema, seed = arrays.get("schema"), arrays.get("seed")
    if seed is not None and schema is not None and schema.shape == () and int(schema) == 1:
        scans = {"video": np.zeros(seed.shape, np.uint8), "fit_noise": np.zeros(seed.shape, "f4")}
        if not scans.keys() & arrays.keys():
            arrays |= {"schema": np.array(SCHEMA, np.int64), **scans}
    check(path, arrays)
    return arrays


def check(path: Path, arrays: dict[str, NDArray[Any]]) -> None:
    """Names, dtypes and shapes of the schema, and finite latents."""
    expected = {"schema", "black_latent", *SCALARS, *ARRAYS}
    if set(arrays) != expected:
        odd = sorted(set(arrays) ^ expected)
        raise ValueError(f"{path}: no clip shard, missing or unknown keys {odd}; write it again")
    if arrays["schema"].shape != () or int(arrays["schema"]) != SCHEMA:
        raise ValueError(f"{path}: schema {arrays['schema']}, this code reads {SCHEMA}")
    if arrays["target_latents"].ndim != 5:
        raise ValueError(
            f"{path}: target_latents: expected [N, L, C, h, w], "
            f"found {list(arrays['target_latents'].shape)}"
        )
    n, length, c, h, w = arrays["target_latents"].shape
    picture = (h * DOWNSAMPLING, w * DOWNSAMPLING, 3)
    layout: dict[str, tuple[type, tuple[int, ...]]] = {
        "seed": (np.int64, (n,)),
        "task": (np.uint8, (n,)),
        "fps": (np.float32, (n,)),
        "video": (np.uint8, (n,)),
        "fit_noise": (np.float32, (n,)),
        "azimuth": (np.float32, (n, length)),
        "reference_rgb": (np.uint8, (n, *picture)),
        "reference_latent": (np.float16, (n, c, h, w)),
        "reference_nerf_latent": (np.float16, (n, c, h, w)),
        "reference_normals": (np.uint8, (n, *picture)),
        "reference_person": (np.uint8, (n, h, w)),
        "target_latents": (np.float16, (n, length, c, h, w)),
        "nerf_latents": (np.float16, (n, length, c, h, w)),
        "normals": (np.uint8, (n, length, *picture)),
        "person": (np.uint8, (n, length, h, w)),
        "black_latent": (np.float16, (c, h, w)),
    }
    for name, (dtype, shape) in layout.items():
        value = arrays[name]
        if value.dtype != dtype or value.shape != shape:
            raise ValueError(
                f"{path}: {name}: expected {np.dtype(dtype)} {list(shape)}, "
                f"found {value.dtype} {list(value.shape)}"
            )
        if value.dtype.kind == "f" and not np.isfinite(value).all():
            raise ValueError(f"{path}: {name} holds values that are not finite; encode it again")
    for name, known in (("task", TASKS), ("video", KINDS)):
        if arrays[name].max(initial=0) >= len(known):
            raise ValueError(f"{path}: {name}: expected 0 or 1, found {arrays[name].max()}")


class Clips:
    """Every clip of a split that is of `tasks` and `kinds`, in memory; at most `limit`.

    A 128² clip takes 66 KB per frame, nearly all of it normal maps. One of fewer frames than
    `length` is played forth and back up to it: more people for the same time of filming.
    """

    def __init__(
        self,
        folder: Path,
        *,
        split: str,
        limit: int | None = None,
        length: int | None = None,
        tasks: Collection[str] = TASKS,
        kinds: Collection[str] = KINDS,
    ) -> None:
        paths = sorted(folder.glob(f"{split}-*.npz"))
        if not paths:
            raise FileNotFoundError(
                f"{folder}: no {split}-*.npz found; write clip shards with "
                "`python -m reference.diffusion.build`"
            )
        shards: list[dict[str, NDArray[Any]]] = []
        chosen: list[NDArray[np.bool_]] = []
        for path in paths:
            shards.append(read_clips(path))
            if shards[-1]["target_latents"].shape[1:] != shards[0]["target_latents"].shape[1:]:
                raise ValueError(f"{path}: its clips differ in size from {paths[0].name}'s")
            of_task = _of(shards[-1]["task"], TASKS, tasks)
            chosen.append(of_task & _of(shards[-1]["video"], KINDS, kinds))
            if limit is not None and sum(c.sum() for c in chosen) >= limit:
                break
        self.left_out = sum(int((~c).sum()) for c in chosen)
        if not any(c.any() for c in chosen):
            raise ValueError(
                f"{folder}: none of its {self.left_out} {split} clips is of task "
                f"{' or '.join(tasks)} and kind {' or '.join(kinds)}; build some"
            )
        self.black_latent: F16 = shards[0]["black_latent"]
        parts = list(zip(shards, chosen, strict=True))
        self.arrays = {
            name: np.concatenate([s[name] if c.all() else s[name][c] for s, c in parts])[:limit]
            for name in (*SCALARS, *ARRAYS)
        }
        self.of_task = {
            task: np.flatnonzero(self.arrays["task"] == i)
            for i, task in enumerate(TASKS)
            if (self.arrays["task"] == i).any()
        }
        filmed = np.arange(self.arrays["azimuth"].shape[1])
        there_and_back = np.concatenate([filmed, filmed[::-1]])
        self._played = np.resize(there_and_back, max(length or 0, len(filmed)))

    def __len__(self) -> int:
        return len(self.arrays["seed"])

    @property
    def length(self) -> int:
        """Frames per clip, as it is played."""
        return len(self._played)

    def azimuth(self, clip: int, indices: NDArray[np.int64]) -> NDArray[np.float32]:
        """Of the cameras of the named frames of a clip, from 0 at the photo's to π behind."""
        found: NDArray[np.float32] = self.arrays["azimuth"][clip, self._played[indices]]
        return found

    def frames(self, clip: int, indices: NDArray[np.int64]) -> dict[str, NDArray[Any]]:
        """The named frames of a clip; −1 is its anchor, the picture itself."""
        anchors = {
            "target_latents": "reference_latent",
            "nerf_latents": "reference_nerf_latent",
            "normals": "reference_normals",
            "person": "reference_person",
        }
        found = {}
        for name, anchor in anchors.items():
            found[name] = self.arrays[name][clip, self._played[indices]]
            found[name][indices < 0] = self.arrays[anchor][clip]
        return found


def _of(
    values: NDArray[np.uint8], known: Sequence[str], wanted: Collection[str]
) -> NDArray[np.bool_]:
    """[N], which clips have a wanted task or kind."""
    return np.isin(values, [known.index(value) for value in wanted])


def make_clip(
    autoencoder: Autoencoder,
    *,
    seed: int,
    task: Literal["pose", "view"],
    fps: float,
    azimuth: F32,
    pictures: Pictures,
) -> Clip:
    """A clip from pictures; azimuth [L]."""
    truth, nerf = (encode(autoencoder, rgb) for rgb in (pictures.rgb, pictures.renders))
    person = _cover(pictures.mask)
    return Clip(
        seed=seed,
        task=task,
        fps=fps,
        azimuth=np.asarray(azimuth, np.float32),
        reference_rgb=pictures.rgb[0],
        reference_latent=truth[0],
        reference_nerf_latent=nerf[0],
        reference_normals=pictures.normals[0],
        reference_person=person[0],
        target_latents=truth[1:],
        nerf_latents=nerf[1:],
        normals=pictures.normals[1:],
        person=person[1:],
    )


@torch.no_grad()
def encode(autoencoder: Autoencoder, rgb: U8) -> F16:
    """[N, H, W, 3] → normalised latents [N, C, h, w]."""
    parts, place = [], place_of(autoencoder)
    for start in range(0, len(rgb), ENCODE_BATCH):
        x = torch.from_numpy(rgb[start : start + ENCODE_BATCH]).to(place).permute(0, 3, 1, 2)
        parts.append(autoencoder.encode(x.float() / 127.5 - 1).cpu().numpy())
    return np.concatenate(parts).astype(np.float16)


def _cover(mask: U8) -> U8:
    """[N, H, W] → mean per latent pixel [N, h, w]."""
    n, height, width = mask.shape
    k = DOWNSAMPLING
    blocks = mask.reshape(n, height // k, k, width // k, k)
    return np.rint(blocks.mean(axis=(2, 4))).astype(np.uint8)
