"""Enrolment: a photo and its body fit become an avatar."""

from __future__ import annotations

import logging
import threading
import warnings
from collections.abc import Callable, Mapping

import numpy as np

from gas_rt.avatar import Avatar, BundleMark
from gas_rt.body import BodyFit, BodyModel
from gas_rt.body.person_shell import Anchors, ShellRange, person_radius_m, reach_m
from gas_rt.body.photo import inverse_affine, vertex_inputs
from gas_rt.core import F32, Camera, Pose, checked
from gas_rt.engine import Bundle, BundleConfig, Engine, Graph
from gas_rt.errors import BundleError, GasRtWarning
from gas_rt.field.bake import BakeConfig, CanonicalBody, bake
from gas_rt.field.teacher import FEATURES, PhotoGeometry, Teacher
from gas_rt.kernels import PosedShell
from gas_rt.photo import ModelPhoto, PictureLike, fit_to_model, read_photo

__all__ = ["ModelParts", "Progress", "enroll", "enrollment_graphs", "teacher_of"]

Progress = Callable[[float, str], None]
log = logging.getLogger("gas_rt")


class ModelParts:
    """What a loaded model consists of: bundle, body, engine, and graphs compiled when needed."""

    def __init__(self, bundle: Bundle, engine: Engine, *, threads: int) -> None:
        self.bundle = bundle
        self.engine = engine
        self.threads = threads
        self.body = BodyModel.open(bundle.path(bundle.body))
        count, expected = self.body.vertex_count, bundle.config.vertex_count
        if count != expected:
            raise BundleError(
                f"bundle {bundle.label}: its body has {count} vertices, its graphs take {expected}"
            )
        self._graphs: dict[str, Graph] = {}
        self._warm: set[str] = set()
        self._anchors: Anchors | None = None
        self._making = threading.Lock()

    def graph(self, name: str) -> Graph:
        """A compiled graph."""
        with self._making:
            if name not in self._graphs:
                self._graphs[name] = self.engine.load(self.bundle.graph(name))
            return self._graphs[name]

    def warm_graph(self, name: str) -> Graph:
        """A compiled graph that has run once, so that its first frame is not a slow one."""
        graph = self.graph(name)
        with self._making:
            if name not in self._warm:
                # Ones: a noise level is above 0.
                graph.run({k: np.ones(v.shape, v.dtype) for k, v in graph.spec.inputs.items()})
                self._warm.add(name)
        return graph

    def close(self) -> None:
        """Let go of the graphs, whose weights are most of a model's memory, and free the engine."""
        with self._making:
            self._graphs.clear()
            self._warm.clear()
            self._anchors = None
        self.engine.close()

    def anchors(self, radius_m: float) -> PosedShell:
        """What tells the nearest canonical vertex of a sample of a shell of this radius."""
        with self._making:
            if self._anchors is None:
                self._anchors = Anchors(self.body.canonical().vertices, threads=self.threads)
            anchors = self._anchors
        return anchors.around(radius_m)

    @property
    def shell_range(self) -> ShellRange:
        """The least and the largest radius of a person's shell."""
        config = self.bundle.config
        return ShellRange(config.shell_radius_m, config.shell_radius_max_m)

    def canonical_body(self, radius_m: float) -> CanonicalBody:
        """The body that fields are baked around, of a person with a shell of this radius."""
        canonical = self.body.canonical()
        reach = reach_m(self.body, radius_m, limits=self.shell_range)
        return CanonicalBody(canonical.vertices, canonical.normals, self.body.faces, reach)


def enrollment_graphs(config: BundleConfig) -> tuple[str, ...]:
    """Names of the graphs that enrolment runs."""
    encoders = () if config.diffusion is None else ("vae_encoder", "image_encoder")
    return ("nerf_encoder", "nerf_field", *encoders)


def enroll(
    parts: ModelParts,
    image: PictureLike,
    body_fit: BodyFit,
    mask: PictureLike | None = None,
    *,
    config: BakeConfig,
    progress: Progress | None = None,
) -> Avatar:
    """Make an avatar; see `gas_rt.Model.enroll`."""
    tell = progress or (lambda share, doing: None)
    tell(0.0, "reading the photo")
    bundle = parts.bundle.config
    photo = read_photo(image, mask)
    if photo.mask_source != "given":
        log.info("enroll: no mask was given; it is taken from the photo's %s", photo.mask_source)
    fitted = fit_to_model(photo, body_fit.camera, side_px=bundle.photo_side_px)
    radius_m = _radius_m(parts, fitted, body_fit)
    tell(0.02, "encoding the photo")
    features = _encode(parts, fitted, body_fit.betas, body_fit.pose)
    latent, embedding = _encode_reference(parts, fitted)
    body = parts.canonical_body(radius_m)
    field = bake(
        _teacher(parts, features, body_fit.betas, body_fit.pose, fitted.camera, radius_m=radius_m),
        body,
        anchor_shell=parts.anchors(radius_m),
        box=_box(body, bundle),
        config=config,
        threads=parts.threads,
        progress=lambda share, doing: tell(0.05 + 0.95 * share, doing),
    )
    tell(1.0, "done")
    return Avatar(
        bundle=BundleMark.of(parts.bundle),
        betas=body_fit.betas,
        pose=body_fit.pose,
        camera=fitted.camera,
        radius_m=radius_m,
        rgb=fitted.rgb,
        mask=fitted.mask,
        field=field.field,
        occupancy=field.occupancy,
        features=features,
        latent=latent,
        embedding=embedding,
    )


def _box(body: CanonicalBody, bundle: BundleConfig) -> tuple[F32, F32]:
    """The bundle's box, which is for the least radius, grown to what the vertices reach."""
    least, reach = np.float32(bundle.shell_radius_m), body.reach_m[:, None]
    lo = (body.vertices - reach).min(0) - (body.vertices.min(0) - least)
    hi = (body.vertices + reach).max(0) - (body.vertices.max(0) + least)
    return bundle.box_lo + lo, bundle.box_hi + hi


def teacher_of(parts: ModelParts, avatar: Avatar) -> Teacher:
    """The exact field of an avatar."""
    return _teacher(
        parts,
        avatar.features,
        avatar.betas,
        avatar.pose,
        avatar.camera,
        radius_m=avatar.radius_m,
    )


def _teacher(
    parts: ModelParts,
    features: Mapping[str, F32],
    betas: F32,
    pose: Pose,
    camera: Camera,
    *,
    radius_m: float,
) -> Teacher:
    """The exact field of a person whose photo was taken by `camera` in `pose`.

    `radius_m` is that of the person's shell.
    """
    posed = parts.body.pose(betas, pose)
    return Teacher(
        parts.graph("nerf_field").run,
        features,
        photo=PhotoGeometry(inverse_affine(parts.body.inverse_maps(posed)), camera),
        anchor_shell=parts.anchors(radius_m),
        points=parts.bundle.config.field_points,
    )


def _encode(parts: ModelParts, photo: ModelPhoto, betas: F32, pose: Pose) -> dict[str, F32]:
    """The encoder's outputs, rounded as the avatar file stores them.

    Rounding here makes a freshly enrolled avatar and the same one read from its file equal.
    """
    posed = parts.body.pose(betas, pose)
    uv, visible = vertex_inputs(
        posed.vertices, posed.normals, parts.body.faces, photo.camera, threads=parts.threads
    )
    out = parts.graph("nerf_encoder").run(
        {"image": photo.tensor, "vertex_uv": uv, "vertex_visible": visible}
    )
    return {name: out[name].astype(np.float16).astype(np.float32) for name in FEATURES}


def _radius_m(parts: ModelParts, photo: ModelPhoto, fit: BodyFit) -> float:
    """The radius of the person's shell."""
    limits = parts.shell_range
    radius_m = person_radius_m(
        photo.mask,
        parts.body,
        parts.body.pose(fit.betas, fit.pose),
        photo.camera,
        limits=limits,
        threads=parts.threads,
    )
    if radius_m == limits.most_m > limits.least_m:
        warnings.warn(
            "enroll: the mask reaches farther from the fitted body than clothes do: what is more "
            f"than {radius_m:g} m off hips and legs is cut off, and drawing takes longer than "
            "other people's; check that mask and fit are of this photo",
            GasRtWarning,
            stacklevel=3,
        )
    return radius_m


def _encode_reference(parts: ModelParts, photo: ModelPhoto) -> tuple[F32 | None, F32 | None]:
    """The masked photo as stage 2 reads it: latent [C, h, w], embedding [D]."""
    if parts.bundle.config.diffusion is None:
        return None, None
    picture = {"picture": photo.tensor[:, :3] * 2 - 1}  # [1, 3, S, S] in [-1, 1]
    latents = parts.graph("vae_encoder").run(picture)["latents"]
    embedding = parts.graph("image_encoder").run(picture)["embedding"]
    return (
        checked(latents[0], "the photo's latents", shape=(None, None, None)),
        checked(embedding[0], "the photo's embedding", shape=(None,)),
    )
