"""Training of stage 2 on clip shards: view and pose clips, both kinds of window, together."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass, field, replace
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from reference.devices import computes_half, feeders, moved, prepared
from reference.diffusion import edm
from reference.diffusion.checkpoint import open_checkpoint
from reference.diffusion.clips import DOWNSAMPLING, KINDS, TASKS, Clips
from reference.diffusion.config import PRESETS as MODELS
from reference.diffusion.config import DiffusionConfig
from reference.diffusion.denoiser import Denoiser, centre
from reference.diffusion.unet import start_simple
from reference.diffusion.windows import Window, WindowConfig, live, opening, parity
from reference.training import Losses, Run, Schedule, fit

__all__ = ["PRESETS", "Batch", "DiffusionTraining", "draw", "losses", "train", "validate"]

VALIDATION_WINDOWS = 24
BALANCE_FLOOR = 0.2  # of centred latents' mean square, which is about 0.7
VALIDATION_CLIPS = 64
VALIDATION_SEED = 1 << 40  # no training seed
# Of the few-step lists tried, the one whose pictures are nearest to the truth.
LIVE_SIGMAS = (40.0, 34.0, 28.0, 22.0)


@dataclass(frozen=True)
class DiffusionTraining(Schedule):
    """How stage 2 is trained.

    Attributes
    ----------
    opening_steps : steps that the run begins with on single frames of pure noise. What the
        conditions tell is learned there, from as many people as a step has frames.
    single_share : share of later steps that stay on single frames: windows alone unlearn half of
        what the opening taught.
    opening_batch, parity_batch, live_batch : windows per step of each kind; a step has one kind.
    workers : threads that share the windows of a step.
    half : layers compute in bfloat16 on devices that do so in hardware; weights, their gradients
        and the loss stay in float32. Without it one step would take the time of ten.
    live_share : share of the steps on windows whose windows are live.
    view_share : share of view clips where both tasks are there.
    played : clips of fewer frames are played forth and back up to so many.
    tasks, kinds : what clips are trained on; all but for ablations.
    drop_reference : share of windows without embedding and reference latent: the unconditional
        branch of guidance.
    drop_nerf : share of windows whose field render is black.
    own_context : share of live steps whose context is what the model itself predicts from pure
        noise. Trained on the truth alone it would copy what it sees there, and in a stream, where
        context is its own work, pass errors on instead of looking at the conditions.
    crops : widths in latent pixels of the columns that windows are cut to, round the person, one
        drawn per step; what does not fit the latents is their whole width. A standing person
        leaves most columns black, and they cost as much as the others.
    balance : windows weigh less, the more the field leaves to generate, as in a mean of decibels.
        Else the few people whose backs nobody could guess are most of the gradient.
    person_weight : how much more an error on the person counts than one on the background.
    """

    windows: WindowConfig = field(default_factory=WindowConfig)
    steps: int = 7_000
    lr: float = 1e-3
    warmup: int = 100
    opening_steps: int = 5_000
    single_share: float = 0.4
    opening_batch: int = 48
    parity_batch: int = 2
    live_batch: int = 6
    live_share: float = 0.6
    view_share: float = 0.5
    played: int = 24
    tasks: tuple[str, ...] = TASKS
    kinds: tuple[str, ...] = KINDS
    drop_reference: float = 0.15
    drop_nerf: float = 0.15
    own_context: float = 0.5
    crops: tuple[int, ...] = (8, 8, 12, 16)
    balance: bool = True
    person_weight: float = 3.0
    workers: int = 2
    half: bool = True

    def __post_init__(self) -> None:
        for name in ("opening_batch", "parity_batch", "live_batch"):
            if getattr(self, name) % self.workers:
                raise ValueError(
                    f"DiffusionTraining: {name} = {getattr(self, name)} windows cannot be shared "
                    f"evenly by {self.workers} workers; choose a multiple"
                )


PRESETS: dict[str, tuple[DiffusionConfig, DiffusionTraining]] = {
    "mini": (
        MODELS["mini"],
        DiffusionTraining(windows=WindowConfig(live_sigmas=LIVE_SIGMAS)),
    ),
    "mini-256": (
        MODELS["mini-256"],
        DiffusionTraining(
            windows=WindowConfig(live_sigmas=LIVE_SIGMAS),
            opening_batch=24,
            live_batch=4,
            crops=(16, 16, 24, 32),
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


class Batch(NamedTuple):
    """B windows of F frames; what is dropped is dropped already."""

    picture: Tensor  # [B, 3, H, W] in [-1, 1]
    reference: Tensor  # [B, C, h, w]
    x0: Tensor  # [B, F, C, h, w], scaled
    noise: Tensor  # [B, F, C, h, w]
    nerf: Tensor  # [B, F, C, h, w]
    normals: Tensor  # [B, F, 3, H, W] in [0, 1]
    switcher: Tensor  # [B, F, 2]
    sigma: Tensor  # [B, F]
    weight: Tensor  # [B, F, h, w] of mean 1, 0 on frames whose prediction is never used
    keep: Tensor  # [B], 0 where the reference is dropped
    own: Tensor  # [B, F], on frames to replace by the model's prediction the σ it starts from

    def split(self, parts: int) -> list[Batch]:
        """The windows in equal parts."""
        pieces = zip(*(value.chunk(parts) for value in self), strict=True)
        return [Batch(*piece) for piece in pieces]

    def to(self, device: torch.device) -> Batch:
        """The same on a device."""
        return Batch(*(value.to(device, non_blocking=True) for value in self))


def draw(clips: Clips, model: DiffusionConfig, config: DiffusionTraining, step: int) -> Batch:
    """The batch of a step, a function of (seed, step) alone."""
    rng = np.random.default_rng((config.seed, step))
    is_live = rng.random() < config.live_share
    kind, size = (live, config.live_batch) if is_live else (parity, config.parity_batch)
    if step < config.opening_steps or rng.random() < config.single_share:
        kind, size = opening, config.opening_batch
    windows = [kind(config.windows, rng, length=clips.length) for _ in range(size)]
    return collate(clips, model, windows, config, rng, width=int(rng.choice(config.crops)))


def collate(
    clips: Clips,
    model: DiffusionConfig,
    windows: list[Window],
    config: DiffusionTraining,
    rng: np.random.Generator,
    *,
    width: int | None = None,
    chosen: Sequence[int] | None = None,
) -> Batch:
    """Fill windows from clips, `chosen` or drawn by `rng`, with noise and drop-outs.

    Windows are cut to `width` columns.
    """
    chosen = [draw_clip(clips, config, rng) for _ in windows] if chosen is None else list(chosen)
    parts = [clips.frames(c, w.frames) for c, w in zip(chosen, windows, strict=True)]
    arrays = clips.arrays
    references = arrays["reference_latent"][chosen].astype(np.float32)
    black = np.broadcast_to(clips.black_latent, references.shape)
    if width is not None and width < references.shape[-1]:
        columns = [_columns(part["person"], width, rng) for part in parts]
        parts = [_cut(part, c) for part, c in zip(parts, columns, strict=True)]
        black = np.stack([b[..., c] for b, c in zip(black, columns, strict=True)])
        people = arrays["reference_person"][chosen]
        columns = [_columns(person, width, rng) for person in people]
        references = np.stack([r[..., c] for r, c in zip(references, columns, strict=True)])

    def stack(name: str) -> NDArray[np.float32]:
        return np.stack([p[name] for p in parts]).astype(np.float32)

    def drops(share: float) -> NDArray[np.bool_]:
        return rng.random(len(windows)) < share

    def chw(pictures: NDArray[np.float32]) -> Tensor:
        return torch.from_numpy(np.ascontiguousarray(np.moveaxis(pictures, -1, -3)))

    nerf = stack("nerf_latents")
    dropped, blind = drops(config.drop_reference), drops(config.drop_nerf)
    nerf[blind] = black[blind, None]
    x0 = centre(model, torch.from_numpy(stack("target_latents")), torch.from_numpy(nerf))
    references[dropped] = 0
    weight = 1 + config.person_weight * stack("person") / 255
    weight *= np.stack([w.counts for w in windows])[:, :, None, None]
    if model.residual_std is not None and config.balance:
        left = (x0.numpy() ** 2).mean(2)  # [B, F, h, w]
        left = (left * weight).mean((1, 2, 3)) / weight.mean((1, 2, 3))
        weight[~blind] /= (left[~blind] + BALANCE_FLOOR)[:, None, None, None]
    weight /= weight.mean()
    if model.residual_std is not None:
        # Without the field the whole person is to be generated: as much in units of its variance
        # as before, or the few such windows would be most of the loss.
        weight[blind] *= model.residual_std**2
    highest = config.windows.live_sigmas[0] if rng.random() < config.own_context else 0.0
    own = np.stack([w.context for w in windows]) * np.float32(highest)
    one_hot = np.eye(2, dtype=np.float32)[arrays["task"][chosen]]
    return Batch(
        picture=chw(arrays["reference_rgb"][chosen].astype(np.float32) / 127.5 - 1),
        reference=torch.from_numpy(references),
        x0=x0,
        noise=torch.from_numpy(rng.standard_normal(x0.shape, dtype=np.float32)),
        nerf=torch.from_numpy(nerf),
        normals=chw(stack("normals") / 255),
        switcher=torch.from_numpy(one_hot)[:, None].expand(-1, x0.shape[1], -1),
        sigma=torch.from_numpy(np.stack([w.sigma for w in windows])),
        weight=torch.from_numpy(weight),
        keep=torch.from_numpy(~dropped).float(),
        own=torch.from_numpy(own),
    )


def _columns(person: NDArray[np.uint8], width: int, rng: np.random.Generator) -> slice:
    """`width` columns of latents [..., h, w] with as much of the person in them as any, or so."""
    whole = person.shape[-1]
    covered = np.cumsum(np.concatenate([[0], person.reshape(-1, whole).sum(0, dtype=np.float64)]))
    inside = covered[width:] - covered[:-width]  # by the first column
    first = int(rng.choice(np.flatnonzero(inside >= 0.95 * inside.max())))
    return slice(first, first + width)


def _cut(part: dict[str, NDArray[Any]], columns: slice) -> dict[str, NDArray[Any]]:
    """The columns of a window's latents, and of its normal maps [F, H, W, 3]."""
    pixels = slice(columns.start * DOWNSAMPLING, columns.stop * DOWNSAMPLING)
    return {
        name: value[:, :, pixels] if name == "normals" else value[..., columns]
        for name, value in part.items()
    }


def draw_clip(clips: Clips, config: DiffusionTraining, rng: np.random.Generator) -> int:
    """A clip of the task that the shares of tasks say."""
    view = rng.random() < config.view_share
    task = "view" if view else "pose"
    pool = clips.of_task.get(task, next(iter(clips.of_task.values())))
    return int(rng.choice(pool))


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


def losses(model: Denoiser, batch: Batch, *, half: bool = False) -> tuple[Tensor, dict[str, float]]:
    """Weighted squared error of v, which is EDM's weighted error of x0."""
    with torch.autocast(batch.x0.device.type, torch.bfloat16, enabled=half):
        if batch.own.any():
            batch = with_own_context(model, batch)
        found = predict(model, batch)
    error = found - edm.velocity(batch.x0, batch.noise, batch.sigma)
    loss = (error**2 * batch.weight[:, :, None]).mean()
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
def validate(model: Denoiser, clips: Clips, config: DiffusionTraining) -> dict[str, float]:
    """Person-weighted error of the latents on fixed windows, in dB below 1.

    ``first_db`` is parity's first step, from pure noise: what the conditions alone tell.
    ``blind_db`` is ``live_db`` with the field's render black: how much the model relies on it.
    ``field_db`` and ``field_first_db`` are the errors of the field's own latents.
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
    squared = dict.fromkeys((*cases, "field", "field_first"), 0.0)
    for index in range(VALIDATION_WINDOWS):
        for name, (kind, case) in cases.items():
            rng = np.random.default_rng((VALIDATION_SEED, index))
            window = kind(case.windows, rng, length=clips.length)
            batch = collate(clips, model.config, [window], case, rng).to(device)
            v = predict(model, batch)
            x = batch.x0 + edm.per_frame(batch.sigma, batch.x0) * batch.noise
            found = model.latents(edm.x0_from_velocity(x, v, batch.sigma), batch.nerf)
            truth = model.latents(batch.x0, batch.nerf)
            weight = (batch.weight / batch.weight.mean())[:, :, None]
            squared[name] += float(((found - truth) ** 2 * weight).mean())
            if yardstick := {"live": "field", "first": "field_first"}.get(name):
                squared[yardstick] += float(((batch.nerf - truth) ** 2 * weight).mean())
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
    start: Path | None = None,
    stop_at: int | None = None,
    validate_every: int = 500,
    ablation: str | None = None,
    checkpoint_s: float = 150.0,
) -> Run:
    """Train to the end of the schedule, continuing what `out` holds.

    A resumed run equals an uninterrupted one on the same device. A new one begins with the
    averaged weights of the checkpoint `start`, if one is given. `ablation` is the name that the
    checkpoint keeps of a configuration of `ablations`. Validation sees clips of every task and
    kind, whatever is trained on.
    """
    clips = Clips(data, split="train", length=config.played, tasks=config.tasks, kinds=config.kinds)
    check_clips(clips, model_config, config, folder=data)
    held_out = None
    if any(data.glob("val-*.npz")) and validate_every:
        held_out = Clips(data, split="val", limit=VALIDATION_CLIPS, length=config.played)
    torch.manual_seed(config.seed)
    model = Denoiser(model_config).to(device)
    start_simple(model.unet)
    notes: dict[str, Any] = {} if ablation is None else {"ablation": ablation}
    if start is not None:
        earlier, about = open_checkpoint(start)
        if earlier.config != model_config:
            raise ValueError(f"{start}: is of another model configuration; choose another")
        model.load_state_dict(earlier.state_dict())
        notes["started_from"] = about
    half = config.half and computes_half(torch.device(device))
    identity = {"model_config": plain(asdict(model_config)), "train": plain(asdict(config))}

    def batches(start: int, stop: int) -> Iterator[Sequence[Losses]]:
        make = partial(draw, clips, model_config, config)
        for made in prepared(make, range(start, stop), workers=feeders(torch.device(device))):
            batch: Batch = moved(made, torch.device(device))
            yield [partial(losses, batch=part, half=half) for part in batch.split(config.workers)]

    return fit(
        Run(model, config, identity, notes=notes),
        batches,
        out=out,
        stop_at=stop_at,
        validate=(lambda m: validate(m, held_out, config)) if held_out else None,
        validate_every=validate_every,
        checkpoint_s=checkpoint_s,
    )


def check_clips(
    clips: Clips, model_config: DiffusionConfig, config: DiffusionTraining, *, folder: Path
) -> None:
    """Raise unless clips are long enough, of the model's latents, and what was asked for."""
    everything = set(config.tasks) == set(TASKS) and set(config.kinds) == set(KINDS)
    if not everything and not clips.left_out:
        raise ValueError(
            f"{folder}: all its clips are of task {' or '.join(config.tasks)} and kind "
            f"{' or '.join(config.kinds)}, so nothing would be left out; add others"
        )
    needed = max(config.windows.parity_frames, config.windows.live_frames)
    if clips.length < needed:
        raise ValueError(
            f"{folder}: clips hold {clips.length} frames, windows need {needed}; write longer clips"
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
