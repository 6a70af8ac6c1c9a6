"""A clip of a person with the conditions stage 2 will get: the field's renders and normal maps.

A clip follows from its seed, its lengths and the mixture of scans and videos alone, whoever films
it and in whatever order.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from gas_rt import kernels
from gas_rt.body import BodyModel
from gas_rt.core import Camera, Pose
from reference import people
from reference.autoencoder import Autoencoder
from reference.autoencoder.checkpoint import open_checkpoint as open_autoencoder
from reference.data import Geometry, Picture
from reference.diffusion.clips import Clip, Pictures, black_latent, make_clip
from reference.diffusion.films import Film, shoot_film, stride_of
from reference.metrics import azimuth_deg
from reference.nerf.checkpoint import mesh_of
from reference.nerf.checkpoint import open_checkpoint as open_stage1
from reference.nerf.model import HumanNerf
from reference.nerf.render import encode_photo, filled_space, render_view
from reference.people.mixture import STAGE2, Mixture
from reference.people.sampling import FPS

__all__ = ["Studio"]

U8 = NDArray[np.uint8]

EARLY_STOP = 1e-3  # of the light: a quarter of a grey level


@dataclass(frozen=True)
class Studio:
    """The models that turn a seed into a clip."""

    body: BodyModel
    stage1: HumanNerf
    autoencoder: Autoencoder
    geometry: Geometry

    @classmethod
    def open(cls, *, stage1: Path, autoencoder: Path, body: Path, device: str = "cpu") -> Studio:
        """Load everything; one thread. Renders and encodes run on the device."""
        model = BodyModel.open(body)
        nerf, _ = open_stage1(stage1, mesh_of(model))
        coder = open_autoencoder(autoencoder).to(device)
        return cls(model, nerf.to(device), coder, Geometry(model, nerf.config))

    @property
    def size(self) -> int:
        """Side of the pictures: what stage 1 takes."""
        return self.stage1.config.resolution

    def black_latent(self) -> NDArray[np.float16]:
        """[C, h, w], as `clips.black_latent`."""
        return black_latent(self.autoencoder, height=self.size, width=self.size)

    def film(self, seed: int, *, frames: int, mixture: Mixture = STAGE2) -> people.Clip:
        """The pictures of the seed's clip, as `people` draws them, and what is known of them."""
        return shoot_film(seed, self.body, frames=frames, size=self.size, mixture=mixture)

    def clips(
        self,
        seed: int,
        *,
        frames: int,
        twin: bool = False,
        mixture: Mixture = STAGE2,
        film: Film | None = None,
    ) -> list[Clip]:
        """Film a person, unless a `film` of it is given, render the conditions, encode.

        With `twin` a clip of the person's mirror image follows: another person for a tenth of the
        work.
        """
        if film is None:
            film = Film.of(self.film(seed, frames=frames, mixture=mixture))
        photo = Picture(film.rgb[0], film.mask[0], film.poses[0], film.cameras[0])
        azimuth = [np.radians(azimuth_deg(photo.camera, view)) for view in film.cameras[1:]]
        pictures = Pictures(
            rgb=film.rgb,
            mask=film.mask,
            renders=self.renders(film.betas, photo, film.poses, film.cameras),
            normals=self.normals(film.betas, film.poses, film.cameras),
        )
        sides = [pictures, pictures.mirrored()] if twin else [pictures]
        made = (
            make_clip(
                self.autoencoder,
                seed=seed,
                task="view" if film.task == "view" else "pose",
                fps=FPS / (stride_of(seed) if film.task == "pose" else 1),
                azimuth=np.array(azimuth, np.float32),
                pictures=side,
            )
            for side in sides
        )
        video, level = film.kind == "video", mixture.level_of(seed)
        return [replace(clip, video=video, fit_noise=level) for clip in made]

    def renders(
        self,
        betas: NDArray[np.float32],
        shot: people.Shot | Picture,
        poses: tuple[Pose, ...],
        cameras: tuple[Camera, ...],
    ) -> U8:
        """[N, H, W, 3]: what stage 1 makes of the shot in other poses, from other cameras."""
        photo = self.geometry.photo(betas, Picture(shot.rgb, shot.mask, shot.pose, shot.camera))
        person = encode_photo(self.stage1, photo)
        filled = filled_space(self.stage1, person, self.geometry, photo)
        pictures, shell, standing = [], None, None
        for pose, camera in zip(poses, cameras, strict=True):
            if shell is None or pose is not standing:
                shell = self.geometry.shell(betas, pose, radius_m=photo.radius_m)
                standing = pose
            rgb, _ = render_view(
                self.stage1,
                person,
                self.geometry,
                photo,
                shell,
                camera,
                early_stop=EARLY_STOP,
                filled=filled,
            )
            pictures.append(_bytes(rgb))
        return np.stack(pictures)

    def normals(
        self, betas: NDArray[np.float32], poses: tuple[Pose, ...], cameras: tuple[Camera, ...]
    ) -> U8:
        """[N, H, W, 3]: normal maps of the fitted body, which wears nothing."""
        vertices, standing, pictures = None, None, []
        for pose, camera in zip(poses, cameras, strict=True):
            if vertices is None or pose is not standing:
                vertices, standing = self.body.pose(betas, pose).vertices, pose
            pictures.append(_bytes(kernels.render_normals(vertices, self.body.faces, camera)[0]))
        return np.stack(pictures)


def _bytes(picture: NDArray[np.float32]) -> U8:
    return np.rint(np.clip(picture, 0, 1) * 255).astype(np.uint8)
