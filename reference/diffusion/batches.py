"""What a step of stage 2's training sees: windows of clips, with noise and drop-outs."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, fields
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from reference.diffusion.clips import DOWNSAMPLING, Clips
from reference.diffusion.config import DiffusionConfig
from reference.diffusion.denoiser import centre
from reference.diffusion.windows import Window, WindowConfig, live, opening, parity
from reference.training import Schedule

if TYPE_CHECKING:
    from reference.diffusion.training import DiffusionTraining

__all__ = ["Batch", "ClipTraining", "collate", "draw", "draw_clip"]

BALANCE_FLOOR = 0.2  # of centred latents' mean square, which is about 0.7


@dataclass(frozen=True)
class ClipTraining(Schedule):
    """How windows are drawn from clips and shared out: of stage 2's training and its student's.

    Attributes
    ----------
    parity_batch, live_batch : windows per step of each kind; a step has one kind.
    workers : threads that share the windows of a step, evenly, whatever ``*_batch`` it is of.
    half : layers compute in bfloat16 on devices that do so in hardware; weights, their gradients
        and the loss stay in float32. Without it one step would take the time of ten.
    view_share : share of view clips where both tasks are there.
    played : clips of fewer frames are played forth and back up to so many.
    drop_reference : share of windows without embedding and reference latent: the unconditional
        branch of guidance.
    drop_nerf : share of windows whose field render is black.
    own_context : share of live steps whose context is what the model itself (a student's teacher)
        predicts from pure noise. Trained on the truth alone it would copy what it sees there, and
        in a stream, where context is its own work, pass errors on instead of looking at the
        conditions.
    crops : widths in latent pixels of the columns that windows are cut to, round the person, one
        drawn per step; what does not fit the latents is their whole width. A standing person
        leaves most columns black, and they cost as much as the others.
    balance : windows weigh less, the more the field leaves to generate, as in a mean of decibels.
        Else the few people whose backs nobody could guess are most of the gradient.
    person_weight : how much more an error on the person counts than one on the background.
    """

    windows: WindowConfig = field(default_factory=WindowConfig)
    parity_batch: int = 2
    live_batch: int = 6
    view_share: float = 0.5
    played: int = 24
    drop_reference: float = 0.15
    drop_nerf: float = 0.15
    own_context: float = 0.5
    crops: tuple[int, ...] = (8, 8, 12, 16)
    balance: bool = True
    person_weight: float = 3.0
    workers: int = 2
    half: bool = True

    def __post_init__(self) -> None:
        for name in (f.name for f in fields(self) if f.name.endswith("_batch")):
            if getattr(self, name) % self.workers:
                raise ValueError(
                    f"{type(self).__name__}: {name} = {getattr(self, name)} windows cannot be "
                    f"shared evenly by {self.workers} workers; choose a multiple"
                )


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
    config: ClipTraining,
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


def draw_clip(clips: Clips, config: ClipTraining, rng: np.random.Generator) -> int:
    """A clip of the task that the shares of tasks say."""
    view = rng.random() < config.view_share
    task = "view" if view else "pose"
    pool = clips.of_task.get(task, next(iter(clips.of_task.values())))
    return int(rng.choice(pool))
