"""Training of stage 2 on clip shards: view and pose clips, both kinds of window, together."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from reference.autoencoder.checkpoint import open_checkpoint as open_autoencoder
from reference.devices import computes_half, feeders, moved, prepared
from reference.diffusion import edm
from reference.diffusion.batches import Batch, ClipTraining, collate, draw
from reference.diffusion.checkpoint import open_checkpoint
from reference.diffusion.clips import (
    DOWNSAMPLING,
    KINDS,
    TASKS,
    Clips,
    black_latent,
    same_latents,
)
from reference.diffusion.config import PRESETS as MODELS
from reference.diffusion.config import DiffusionConfig
from reference.diffusion.denoiser import Denoiser
from reference.diffusion.picture_error import picture_error, picture_stencil
from reference.diffusion.unet import start_simple
from reference.diffusion.windows import WindowConfig, live, parity
from reference.training import Losses, Run, begin_with, fit

__all__ = ["PRESETS", "Batch", "DiffusionTraining", "draw", "losses", "train", "validate"]

VALIDATION_WINDOWS = 24
VALIDATION_CLIPS = 64
VALIDATION_SEED = 1 << 40  # no training seed
# Of the few-step lists tried, the one whose pictures are nearest to the truth.
LIVE_SIGMAS = (40.0, 34.0, 28.0, 22.0)


@dataclass(frozen=True)
class DiffusionTraining(ClipTraining):
    """How stage 2 is trained.

    Attributes
    ----------
    opening_steps : steps that the run begins with on single frames of pure noise. What the
        conditions tell is learned there, from as many people as a step has frames.
    single_share : share of later steps that stay on single frames: windows alone unlearn half of
        what the opening taught.
    opening_batch : windows of single frames per step.
    live_share : share of the steps on windows whose windows are live.
    tasks, kinds : what clips are trained on; all but for ablations.
    picture_share : of the loss, what errors are in the picture; the rest is what they are as
        latents, which keeps fine detail in sight. Gradients of it are about 2.5 times as large.
    """

    steps: int = 7_000
    warmup: int = 100
    opening_steps: int = 5_000
    single_share: float = 0.4
    opening_batch: int = 48
    live_share: float = 0.6
    tasks: tuple[str, ...] = TASKS
    kinds: tuple[str, ...] = KINDS
    picture_share: float = 0.0


PRESETS: dict[str, tuple[DiffusionConfig, DiffusionTraining]] = {
    "mini": (
        MODELS["mini"],
        DiffusionTraining(
            windows=WindowConfig(live_sigmas=LIVE_SIGMAS), picture_share=0.8, clip=2.5
        ),
    ),
    "mini-256": (
        MODELS["mini-256"],
        DiffusionTraining(
            windows=WindowConfig(live_sigmas=LIVE_SIGMAS),
            opening_batch=24,
            live_batch=4,
            crops=(16, 16, 24, 32),
            picture_share=0.8,
            clip=2.5,
        ),
    ),
    "tiny": (
        MODELS["tiny"],
        DiffusionTraining(
            windows=WindowConfig(parity_frames=4, context=1, live_sigmas=(10.0, 1.0)),
            steps=4,
            half=False,
            opening_steps=1,
            opening_batch=2,
            parity_batch=1,
            live_batch=2,
            crops=(2, 4),
            workers=1,
            live_share=0.5,
            warmup=2,
        ),
    ),
}


def predict(model: Denoiser, batch: Batch, *, sigma: Tensor | None = None) -> Tensor:
    """v [B, F, C, h, w] of a batch's noisy latents, at its own σ or another [B, F]."""
    sigma = batch.sigma if sigma is None else sigma
    return model.velocity(
        batch.x0 + edm.per_frame(sigma, batch.x0) * batch.noise,
        sigma,
        reference=batch.reference,
        embedding=model.embed(batch.picture) * batch.keep[:, None],
        condition=model.condition(batch.nerf, batch.normals),
        switcher=batch.switcher,
    )


def losses(
    model: Denoiser,
    batch: Batch,
    *,
    half: bool = False,
    stencil: Tensor | None = None,
    picture_share: float = 1.0,
) -> tuple[Tensor, dict[str, float]]:
    """Weighted squared error of v, which is EDM's weighted error of x0.

    With a `stencil` a share of it is what errors are in the picture, see `picture_error`.
    """
    with torch.autocast(batch.x0.device.type, torch.bfloat16, enabled=half):
        if batch.own.any():
            batch = with_own_context(model, batch)
        found = predict(model, batch)
    error = found - edm.velocity(batch.x0, batch.noise, batch.sigma)
    loss = (error**2 * batch.weight[:, :, None]).mean()
    if stencil is not None:
        shown = picture_error(error, batch.weight, stencil)
        loss = torch.lerp(loss, shown, picture_share)
    return loss, {"loss": loss.item()}


@torch.no_grad()
def with_own_context(model: Denoiser, batch: Batch) -> Batch:
    """The batch with the frames of `own` as the model sees them from pure noise and the anchor."""
    anchor = batch.sigma <= edm.SIGMA_CLEAN * (1 + 1e-6)
    sigma = torch.where(anchor, batch.sigma, batch.own.max())
    x = batch.x0 + edm.per_frame(sigma, batch.x0) * batch.noise
    found = edm.x0_from_velocity(x, predict(model, batch, sigma=sigma), sigma)
    own = edm.per_frame(batch.own, batch.x0).bool()
    return batch._replace(x0=torch.where(own, found, batch.x0))


@torch.no_grad()
def validate(
    model: Denoiser, clips: Clips, config: DiffusionTraining, stencil: Tensor | None = None
) -> dict[str, float]:
    """Person-weighted error of the latents on fixed windows, in dB below 1.

    ``first_db`` is parity's first step, from pure noise: what the conditions alone tell.
    ``blind_db`` is ``live_db`` with the field's render black: how much the model relies on it.
    ``field_db`` and ``field_first_db`` are the errors of the field's own latents. With a `stencil`
    ``shown_db`` and ``field_shown_db`` are what errors of live windows are in the picture.
    """
    device = next(model.parameters()).device
    never = replace(config, drop_reference=0.0, drop_nerf=0.0, own_context=0.0)
    pure = replace(config.windows, live_sigmas=config.windows.live_sigmas[:1], live_jitter=0.0)
    first = replace(pure, parity_live_share=1.0)
    cases = {
        "first": (parity, replace(never, windows=first)),
        "parity": (parity, never),
        "live": (live, never),
        "blind": (live, replace(never, drop_nerf=1.0)),
    }
    shown = () if stencil is None else ("shown", "field_shown")
    squared = dict.fromkeys((*cases, "field", "field_first", *shown), 0.0)
    for index in range(VALIDATION_WINDOWS):
        for name, (kind, case) in cases.items():
            rng = np.random.default_rng((VALIDATION_SEED, index))
            window = kind(case.windows, rng, length=clips.length)
            batch = collate(clips, model.config, [window], case, rng).to(device)
            v = predict(model, batch)
            x = batch.x0 + edm.per_frame(batch.sigma, batch.x0) * batch.noise
            found = model.latents(edm.x0_from_velocity(x, v, batch.sigma), batch.nerf)
            truth = model.latents(batch.x0, batch.nerf)
            weight = batch.weight / batch.weight.mean()
            error, field_error = found - truth, batch.nerf - truth
            squared[name] += float((error**2 * weight[:, :, None]).mean())
            if yardstick := {"live": "field", "first": "field_first"}.get(name):
                squared[yardstick] += float((field_error**2 * weight[:, :, None]).mean())
            if stencil is not None and name == "live":
                squared["shown"] += float(picture_error(error, weight, stencil))
                squared["field_shown"] += float(picture_error(field_error, weight, stencil))
    return {
        f"{name}_db": -10 * float(np.log10(total / VALIDATION_WINDOWS))
        for name, total in squared.items()
    }


def train(
    model_config: DiffusionConfig,
    config: DiffusionTraining,
    *,
    data: Path,
    out: Path,
    device: str = "cpu",
    autoencoder: Path | None = None,
    start: Path | None = None,
    stop_at: int | None = None,
    validate_every: int = 500,
    ablation: str | None = None,
    checkpoint_s: float = 150.0,
) -> Run:
    """Train to the end of the schedule, continuing what `out` holds.

    A resumed run equals an uninterrupted one on the same device. A new one begins with the
    averaged weights of the checkpoint `start`, if one is given. `autoencoder` is the checkpoint
    that encoded the clips, needed for errors that count as in the picture. `ablation` is the name
    that the checkpoint keeps of a configuration of `ablations`. Validation sees clips of every
    task and kind, whatever is trained on.
    """
    clips = Clips(data, split="train", length=config.played, tasks=config.tasks, kinds=config.kinds)
    everything = set(config.tasks) == set(TASKS) and set(config.kinds) == set(KINDS)
    if not everything and not clips.left_out:
        raise ValueError(
            f"{data}: all its clips are of task {' or '.join(config.tasks)} and kind "
            f"{' or '.join(config.kinds)}, so nothing would be left out; add others"
        )
    check_clips(clips, model_config, config, folder=data)
    held_out = None
    if any(data.glob("val-*.npz")) and validate_every:
        held_out = Clips(data, split="val", limit=VALIDATION_CLIPS, length=config.played)
    stencil = None
    if config.picture_share > 0:
        if autoencoder is None:
            raise ValueError(
                f"picture_share is {config.picture_share}: name the checkpoint of the autoencoder "
                "that encoded the clips, or set it to 0"
            )
        stencil = stencil_of(autoencoder, clips, folder=data).to(device)
    torch.manual_seed(config.seed)
    model = Denoiser(model_config).to(device)
    start_simple(model.unet)
    notes: dict[str, Any] = {} if ablation is None else {"ablation": ablation}
    if start is not None:
        earlier, about = open_checkpoint(start)
        begin_with(model, earlier, start)
        notes["started_from"] = about
    half = config.half and computes_half(torch.device(device))
    identity = {"model_config": plain(asdict(model_config)), "train": plain(asdict(config))}

    def batches(start: int, stop: int) -> Iterator[Sequence[Losses]]:
        make = partial(draw, clips, model_config, config)
        for made in prepared(make, range(start, stop), workers=feeders(torch.device(device))):
            batch: Batch = moved(made, torch.device(device))
            how = {"half": half, "stencil": stencil, "picture_share": config.picture_share}
            yield [partial(losses, batch=part, **how) for part in batch.split(config.workers)]

    return fit(
        Run(model, config, identity, notes=notes),
        batches,
        out=out,
        stop_at=stop_at,
        validate=(lambda m: validate(m, held_out, config, stencil)) if held_out else None,
        validate_every=validate_every,
        checkpoint_s=checkpoint_s,
    )


def stencil_of(checkpoint: Path, clips: Clips, *, folder: Path) -> Tensor:
    """The `picture_stencil` of the autoencoder that encoded the clips; raises if it is another."""
    autoencoder = open_autoencoder(checkpoint)
    height, width = (DOWNSAMPLING * side for side in clips.black_latent.shape[1:])
    black = black_latent(autoencoder, height=height, width=width)
    if not same_latents(black, clips.black_latent):
        raise ValueError(
            f"{checkpoint}: did not encode the clips of {folder}, a black picture has other "
            "latents; name the checkpoint that did"
        )
    return picture_stencil(autoencoder, clips)


def check_clips(
    clips: Clips, model_config: DiffusionConfig, config: ClipTraining, *, folder: Path
) -> None:
    """Raise unless clips are long enough and of the model's latents."""
    needed = max(config.windows.parity_frames, config.windows.live_frames)
    if clips.length < needed:
        raise ValueError(
            f"{folder}: clips play {clips.length} frames, windows need {needed}; write longer "
            "clips or set `played` higher"
        )
    channels, wanted = clips.black_latent.shape[0], model_config.unet.latent_channels
    if channels != wanted:
        raise ValueError(
            f"{folder}: latents of {channels} channels, the model has {wanted}; "
            "encode the clips with the autoencoder of the same preset"
        )


def plain(values: Any) -> Any:
    """Tuples as lists, because checkpoints are read with weights_only and compared."""
    if isinstance(values, dict):
        return {k: plain(v) for k, v in values.items()}
    return [plain(v) for v in values] if isinstance(values, tuple | list) else values
