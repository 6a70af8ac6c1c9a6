"""Stage 2 in PyTorch, fp32: the offline sampler, and the runtime's policies on the same step."""

from __future__ import annotations

import time
from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from gas_rt import kernels
from gas_rt.body import BodyModel
from gas_rt.core import Camera, Window
from gas_rt.diffusion import (
    ANCHOR_INDEX,
    Anchor,
    Call,
    FinalFrame,
    FrameSpec,
    Schedule,
    WindowPolicy,
    explicit_sigmas,
    frame_noise,
    guidance_of,
    karras_sigmas,
    last_sigma,
    open_policy,
    switcher,
)
from gas_rt.errors import InputError
from reference.autoencoder import Autoencoder
from reference.diffusion.clips import encode
from reference.diffusion.config import context_gain
from reference.diffusion.denoiser import Denoiser, DenoiserStep
from reference.diffusion.picture import PictureDecoder
from reference.diffusion.pipeline import generate
from reference.diffusion.windows import WindowConfig
from reference.evaluate.cases import Case
from reference.evaluate.fields import Enrol, Render
from reference.evaluate.shown import Show, Shown

__all__ = ["POLICIES", "Generator", "Strength", "levels", "round_trip"]

F32 = NDArray[np.float32]
U8 = NDArray[np.uint8]
Finished = tuple[int, NDArray[np.int64], Tensor]  # poses so far, frames, what was generated
POLICIES = ("parity", "diagonal", "sequential")
SEQUENTIAL_CHUNK = 4  # new frames per window, at the live profile's 8 slots
DECODE_BATCH = 16


@dataclass(frozen=True)
class Strength:
    """Guidance: of motions, and of views from behind; views from the photo's side have 1."""

    pose: float = 2.0
    view_behind: float = 2.0

    def of(self, case: Case, camera: Camera) -> float:
        """The guidance of one frame."""
        photo = case.photo.camera
        return guidance_of(case.task, camera, photo, pose=self.pose, view_behind=self.view_behind)


def levels(
    windows: WindowConfig,
    steps: int,
    *,
    policy: str,
    few: Collection[Sequence[float]] | None = None,
) -> tuple[float, ...]:
    """[steps + 1] noise levels: those the model was trained on, else Karras' between their ends.

    They end as a bundle's do: at 0 in `parity`, else where finished frames serve as context. A
    student was trained on the lists `few` alone.
    """
    trained, end = windows.live_sigmas, last_sigma(policy)
    if few is not None:
        known = {len(listed): listed for listed in few}
        if steps not in known:
            raise InputError(
                f"steps: the student was trained for {', '.join(map(str, sorted(known)))}, got "
                f"{steps}"
            )
        return explicit_sigmas([*known[steps], end])
    if steps == len(trained):
        return explicit_sigmas([*trained, end])
    spaced = karras_sigmas(steps, sigma_min=trained[-1], sigma_max=trained[0])
    return explicit_sigmas([*spaced[:-1], end])


@dataclass(frozen=True, eq=False)
class Conditions:
    """What stage 2 is told of a clip: of the photo first, then of its N frames."""

    render: U8  # [1 + N, H, W, 3]
    nerf: Tensor  # [1 + N, C, h, w] unscaled
    normals: Tensor  # [1 + N, 3, H, W] in [0, 1]
    reference: Tensor  # [1, C, h, w] unscaled
    embedding: Tensor  # [1, D]


@dataclass(frozen=True, eq=False)
class Generator:
    """Shows cases by stage 2, given renders of `field`; without a field, of nothing.

    Attributes
    ----------
    windows : how the model was trained: context and frames per level of the live policies.
    sigmas : [steps + 1] falling noise levels.
    """

    model: Denoiser
    decoder: PictureDecoder
    body: BodyModel
    field: Enrol | None
    windows: WindowConfig
    policy: str
    sigmas: tuple[float, ...]
    strength: Strength
    seed: int = 0

    @torch.no_grad()
    def __call__(self, case: Case) -> Shown:
        """Generate every frame of a case."""
        render = None if self.field is None else self.field(case)
        begin = time.perf_counter()
        told = self.conditions(case, render)
        pictures = np.zeros(case.rgb.shape, np.float32)
        first_s, first_poses = 0.0, 0
        stream = self._offline if self.policy == "parity" else self._live
        for poses, index, generated in stream(case, told):
            pictures[index] = self._decoded(generated, index, told)
            if not first_poses:
                first_s, first_poses = time.perf_counter() - begin, poses
        return Shown(
            pictures,
            first_s,
            first_poses,
            time.perf_counter() - begin,
            told.render[1:].astype(np.float32) / 255,
        )

    def conditions(self, case: Case, render: Render | None) -> Conditions:
        """Renders, normal maps and latents of the photo's pose and camera and of every frame."""
        poses = (case.photo.pose, *case.poses)
        cameras = (case.photo.camera, *case.cameras)
        rows: dict[tuple[int, int], int] = {}
        renders, normals = [], []
        for pose, camera in zip(poses, cameras, strict=True):
            if (id(pose), id(camera)) in rows:
                continue
            rows[id(pose), id(camera)] = len(renders)
            vertices = self.body.pose(case.betas, pose).vertices
            normals.append(kernels.render_normals(vertices, self.body.faces, camera)[0])
            picture = np.zeros_like(normals[-1]) if render is None else render(pose, camera)
            renders.append(np.rint(np.clip(picture, 0, 1) * 255).astype(np.uint8))
        order = [rows[id(p), id(c)] for p, c in zip(poses, cameras, strict=True)]
        pictures = np.stack(renders)
        photo = torch.from_numpy(case.photo.rgb).permute(2, 0, 1)[None].float() / 127.5 - 1
        return Conditions(
            pictures[order],
            self._latents(pictures)[order],
            torch.from_numpy(np.stack(normals)).permute(0, 3, 1, 2).float()[order],
            self._latents(case.photo.rgb[None]),
            self.model.embed(photo),
        )

    def _latents(self, pictures: U8) -> Tensor:
        return torch.from_numpy(encode(self.decoder.autoencoder, pictures)).float()

    def _decoded(self, generated: Tensor, index: NDArray[np.int64], told: Conditions) -> F32:
        """[n, C, h, w] of frames `index` → [n, H, W, 3] in [0, 1]."""
        render = torch.from_numpy(told.render[index + 1]).permute(0, 3, 1, 2).float() / 127.5 - 1
        given = zip(
            *(v.split(DECODE_BATCH) for v in (generated, told.nerf[index + 1], render)),
            strict=True,
        )
        decoded = torch.cat([self.decoder(*part) for part in given])
        return ((decoded + 1) / 2).permute(0, 2, 3, 1).numpy()

    def _offline(self, case: Case, told: Conditions) -> Iterator[Finished]:
        """All frames at once, when the clip has ended."""
        shape = tuple(told.nerf.shape[1:])
        noise = [frame_noise(self.seed, k, shape=shape) for k in range(len(case))]
        guidance = [self.strength.of(case, camera) for camera in case.cameras]
        latents = generate(
            self.model,
            reference=told.reference,
            embedding=told.embedding,
            nerf_latents=told.nerf[1:],
            normals=told.normals[1:],
            switcher=torch.from_numpy(switcher([case.task] * len(case))),
            guidance=torch.tensor(guidance),
            noise=torch.from_numpy(np.stack(noise)),
            sigmas=torch.tensor(self.sigmas),
        )
        yield len(case), np.arange(len(case)), self.model.centre(latents, told.nerf[1:])

    def _live(
        self, case: Case, told: Conditions
    ) -> Iterator[tuple[int, NDArray[np.int64], Tensor]]:
        """(poses so far, frames, their latents) as the policy finishes them."""
        condition = self.model.condition(told.nerf[None], told.normals[None])[0]
        policy = self._policy(case, told)
        for k, camera in enumerate(case.cameras):
            policy.admit(FrameSpec(k, k + 1, case.task, self.seed, self.strength.of(case, camera)))
            if k + 1 == len(case):
                policy.end()
            finals = list(self._advance(policy, told, condition))
            if finals:
                index = np.array([final.frame.index for final in finals])
                yield k + 1, index, torch.from_numpy(np.stack([f.latent for f in finals]))

    def _policy(self, case: Case, told: Conditions) -> WindowPolicy:
        clean = self.model.centre(told.reference, told.nerf[:1])[0]
        # Never stepped, so never guided.
        frame = FrameSpec(ANCHOR_INDEX, 0, case.task, self.seed, guidance=1.0)
        steps = len(self.sigmas) - 1
        chunk = SEQUENTIAL_CHUNK if self.policy == "sequential" else self.windows.chunk
        if self.policy == "diagonal" and self.model.told:
            chunk = max(1, self.windows.in_flight // steps)
        window = Window(anchor=1, context=self.windows.context, chunk=chunk, steps=steps)
        return open_policy(
            self.policy,
            Schedule(window, self.sigmas),
            latent_shape=tuple(clean.shape),  # type: ignore[arg-type]
            anchor=Anchor(frame, clean.numpy()),
            context_gain=context_gain(self.model.config),
        )

    def _advance(
        self, policy: WindowPolicy, told: Conditions, condition: Tensor
    ) -> Iterator[FinalFrame]:
        """Run every call that the policy is ready for; handles are rows of the conditions."""
        while (call := policy.next_call()) is not None:
            yield from policy.complete(call, *self._step(call, told, condition))

    def _step(self, call: Call, told: Conditions, condition: Tensor) -> tuple[F32, F32]:
        guided = self.model.told or bool((call.guidance != 1).any())
        x_next, x0 = DenoiserStep(self.model, guided=guided)(
            torch.tensor(call.x),
            torch.from_numpy(call.sigma),
            torch.from_numpy(call.sigma_next),
            told.reference,
            told.embedding,
            condition[list(call.handles)],
            torch.from_numpy(call.switcher),
            torch.from_numpy(call.guidance) if guided else None,
        )
        return x_next.numpy(), x0.numpy()


def round_trip(autoencoder: Autoencoder) -> Show:
    """The truth as the autoencoder keeps it: the ceiling of what decoded latents can show."""

    @torch.no_grad()
    def show(case: Case) -> Shown:
        begin = time.perf_counter()
        latents = torch.from_numpy(encode(autoencoder, case.rgb)).float()
        decoded = torch.cat([autoencoder.decode(part) for part in latents.split(DECODE_BATCH)])
        pictures = ((decoded.clamp(-1, 1) + 1) / 2).permute(0, 2, 3, 1).numpy()
        seconds = time.perf_counter() - begin
        return Shown(pictures, seconds, len(case), seconds)

    return show
