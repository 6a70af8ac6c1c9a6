"""The few-step student: ``python -m reference.train student --teacher UNET …``.

The student learns steps as the runtime takes them. A batch is a window of a shipped layout whose
frames stand at levels of a list of 4, 2 or 1 levels. From there the teacher goes, guided and in
many small steps, to where each frame's step ends. What the student must predict is the x0 that
takes it to the same place in one Euler step, as in progressive distillation (Salimans and Ho,
2022), but always from the one teacher: nothing is learned from what was learned, so errors do not
add up from 4 steps to 2 to 1, and targets do not move. Guidance is an input, as Meng et al. (2023)
distil it, and so is the level where a step ends (Kim et al., 2024: the "trajectory" of consistency
trajectory models).
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass, replace
from functools import partial
from itertools import pairwise
from pathlib import Path
from typing import Any, Literal, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from reference.devices import computes_half, feeders, moved, prepared
from reference.diffusion import edm
from reference.diffusion.batches import Batch, ClipTraining, collate, draw_clip
from reference.diffusion.checkpoint import open_checkpoint
from reference.diffusion.clips import KINDS, TASKS, Clips
from reference.diffusion.config import DiffusionConfig
from reference.diffusion.denoiser import Denoiser
from reference.diffusion.student import Student, start_as
from reference.diffusion.training import (
    LIVE_SIGMAS,
    VALIDATION_CLIPS,
    check_clips,
    plain,
    with_own_context,
)
from reference.diffusion.windows import ANCHOR, Window, WindowConfig, live, parity
from reference.training import Losses, Run, fit

__all__ = ["PRESETS", "Layout", "Lesson", "StudentTraining", "draw", "losses", "target", "train"]

RHO = 7.0  # of the teacher's levels between two of a list, Karras'
Layout = Literal["rolling", "sequential", "parity"]
F32 = NDArray[np.float32]


@dataclass(frozen=True)
class StudentTraining(ClipTraining):
    """How a student is trained.

    Attributes
    ----------
    windows : the teacher's: context, frames in flight, frames of a parity window.
    sigmas : a list of levels per number of steps, each where a step starts; the last ends clean.
        Every number of steps divides the frames in flight, which are then chunks of as many.
    shares : of the steps of training, on each list.
    jitter : standard deviation of the shift of a window's ln σ.
    substeps : the teacher's steps along a whole list, shared evenly by its levels.
    guidance : the range that a window's strongest guidance is drawn from; shipped is within it.
    rolling_share, parity_share : of windows whose levels roll, as in `diagonal`, and of those of
        `parity`; the others are `sequential`'s, whose frames in flight share a level.
    """

    sigmas: tuple[tuple[float, ...], ...] = ((40.0, 10.0, 3.0, 1.0), (40.0, 4.0), (40.0,))
    shares: tuple[float, ...] = (0.5, 0.3, 0.2)
    steps: int = 3_000
    lr: float = 3e-4
    warmup: int = 50
    jitter: float = 0.05
    substeps: int = 16
    guidance: tuple[float, float] = (1.0, 2.5)
    rolling_share: float = 0.5
    parity_share: float = 0.25
    drop_reference: float = 0.0  # it is told the guidance and has no unconditional branch
    drop_nerf: float = 0.05

    def __post_init__(self) -> None:
        super().__post_init__()
        flight, counts = self.windows.in_flight, [len(levels) for levels in self.sigmas]
        if len(self.shares) != len(counts) or len(set(counts)) != len(counts):
            raise ValueError(
                f"StudentTraining: sigmas has lists of {counts} levels and shares "
                f"{len(self.shares)} numbers; give each number of steps one list and one share"
            )
        for levels in self.sigmas:
            if not levels or flight % len(levels) or self.substeps % len(levels):
                raise ValueError(
                    f"StudentTraining: {len(levels)} steps divide neither the {flight} frames in "
                    f"flight nor {self.substeps} substeps evenly; choose numbers that do"
                )
            if any(a <= b for a, b in pairwise([*levels, edm.SIGMA_CLEAN])):
                raise ValueError(
                    f"StudentTraining: levels {levels} must fall, to {edm.SIGMA_CLEAN} at least"
                )
        if not 0 <= self.guidance[0] <= self.guidance[1]:
            raise ValueError(f"StudentTraining: guidance {self.guidance} is no range from 0 up")


PRESETS: dict[str, StudentTraining] = {
    "mini": StudentTraining(windows=WindowConfig(live_sigmas=LIVE_SIGMAS)),
    "mini-256": StudentTraining(
        windows=WindowConfig(live_sigmas=LIVE_SIGMAS), live_batch=4, crops=(16, 16, 24, 32)
    ),
    "tiny": StudentTraining(
        windows=WindowConfig(parity_frames=4, context=1, live_sigmas=(10.0, 1.0)),
        sigmas=((10.0, 1.0), (10.0,)),
        shares=(0.6, 0.4),
        steps=4,
        warmup=1,
        substeps=4,
        live_batch=2,
        parity_batch=1,
        crops=(2, 4),
        workers=1,
        half=False,
    ),
}


class Lesson(NamedTuple):
    """Windows at the start of a step, and what is asked of it."""

    batch: Batch
    sigma_next: Tensor  # [B, F]; σ itself on frames that are not stepped
    guidance: Tensor  # [B, F]

    def split(self, parts: int) -> list[Lesson]:
        """The windows in equal parts."""
        rest = zip(self.sigma_next.chunk(parts), self.guidance.chunk(parts), strict=True)
        return [Lesson(b, *pair) for b, pair in zip(self.batch.split(parts), rest, strict=True)]


def draw(
    clips: Clips, model: DiffusionConfig, config: StudentTraining, step: int
) -> tuple[Lesson, int]:
    """The batch of a step and how many small steps the teacher takes in it.

    Both are functions of (seed, step) alone.
    """
    rng = np.random.default_rng((config.seed, step))
    levels = config.sigmas[rng.choice(len(config.shares), p=_shares(config))]
    where = rng.random()
    layout: Layout = "parity" if where < config.parity_share else "sequential"
    if config.parity_share <= where < config.parity_share + config.rolling_share:
        layout = "rolling"
    count = config.parity_batch if layout == "parity" else config.live_batch
    width = int(rng.choice(config.crops))
    asked = [layout] * count
    return lesson(clips, model, config, rng, levels=levels, layouts=asked, width=width), (
        config.substeps // len(levels)
    )


def _shares(config: StudentTraining) -> NDArray[np.float64]:
    shares = np.array(config.shares, np.float64)
    return shares / shares.sum()


def lesson(
    clips: Clips,
    model: DiffusionConfig,
    config: StudentTraining,
    rng: np.random.Generator,
    *,
    levels: Sequence[float],
    layouts: Sequence[Layout],
    width: int | None = None,
) -> Lesson:
    """A window of each of `layouts`, all of one length."""
    made = [window(config, layout, levels, rng, length=clips.length) for layout in layouts]
    windows, ends = [w for w, _ in made], [end for _, end in made]
    chosen = [draw_clip(clips, config, rng) for _ in windows]
    guidance = [
        _guidance(clips, clip, w.frames, rng.uniform(*config.guidance))
        for clip, w in zip(chosen, windows, strict=True)
    ]
    batch = collate(clips, model, windows, config, rng, width=width, chosen=chosen)
    return Lesson(batch, torch.from_numpy(np.stack(ends)), torch.from_numpy(np.stack(guidance)))


def window(
    config: StudentTraining,
    layout: Layout,
    levels: Sequence[float],
    rng: np.random.Generator,
    *,
    length: int,
) -> tuple[Window, F32]:
    """A window at the start of a step of a list of levels, and each frame's σ at its end [F]."""
    shifted = np.array(levels) * np.exp(config.jitter * rng.standard_normal())
    ends = np.append(shifted[1:], edm.SIGMA_CLEAN)
    if layout == "rolling":  # oldest, and so cleanest, first
        chunk = config.windows.in_flight // len(levels)
        start, stop = (np.repeat(v[::-1], chunk) for v in (shifted, ends))
    else:
        level = rng.integers(len(levels))
        start, stop = shifted[level], ends[level]
    if layout == "parity":
        found = parity(config.windows, rng, length=length)
        stepped = np.ones(len(found.frames), bool)
    else:
        found = live(config.windows, rng, length=length)
        stepped = found.counts > 0
    sigma = found.sigma.copy()
    sigma[stepped] = start
    sigma_next = sigma.copy()
    sigma_next[stepped] = stop
    return Window(found.frames, sigma, found.counts, found.context), sigma_next


def _guidance(clips: Clips, clip: int, frames: NDArray[np.int64], strongest: float) -> F32:
    """[F]: of a motion the strongest, of views a function of their azimuth, of the anchor none."""
    told = np.full(len(frames), strongest)
    if TASKS[clips.arrays["task"][clip]] == "view":
        azimuth = clips.azimuth(clip, np.maximum(frames, 0))
        told = 1 + (strongest - 1) * azimuth / np.pi
    return np.where(frames == ANCHOR, 1.0, told).astype(np.float32)


def conditions_of(model: Denoiser, batch: Batch) -> dict[str, Tensor]:
    """What a model makes of a batch's conditions, the same for all steps."""
    return {
        "reference": batch.reference,
        "embedding": model.embed(batch.picture) * batch.keep[:, None],
        "condition": model.condition(batch.nerf, batch.normals),
        "switcher": batch.switcher,
    }


@torch.no_grad()
def target(teacher: Denoiser, asked: Lesson, x: Tensor, *, substeps: int) -> Tensor:
    """x0 [B, F, C, h, w] by which one Euler step ends where many of the guided teacher do."""
    start, stop = asked.batch.sigma, asked.sigma_next
    known = conditions_of(teacher, asked.batch)
    unguided = bool((asked.guidance == 1).all())
    moved_x = x
    for share, following in pairwise(torch.linspace(0, 1, substeps + 1).tolist()):
        sigma, sigma_next = (_between(start, stop, t) for t in (share, following))
        if unguided:
            x0 = teacher.x0(moved_x, sigma, **known)
        else:
            x0 = teacher.guided_x0(moved_x, sigma, guidance=asked.guidance, **known)
        moved_x = edm.euler(moved_x, x0, sigma, sigma_next)
    ratio = edm.per_frame(stop / start, x)
    still = ratio == 1  # the anchor and context, which no step moves
    reached = (moved_x - ratio * x) / (1 - ratio).masked_fill(still, 1)
    return torch.where(still, asked.batch.x0, reached)


def _between(start: Tensor, stop: Tensor, share: float) -> Tensor:
    """A level between two, evenly in σ^(1/ρ); exact at the ends, for frames that stay."""
    if share in (0.0, 1.0):
        return stop if share else start
    between = torch.lerp(start ** (1 / RHO), stop ** (1 / RHO), share) ** RHO
    return torch.where(start == stop, start, between)


def noisy(batch: Batch) -> Tensor:
    """x [B, F, C, h, w] of a batch at its levels."""
    return batch.x0 + edm.per_frame(batch.sigma, batch.x0) * batch.noise


def losses(
    model: Student, asked: Lesson, *, teacher: Denoiser, substeps: int, half: bool = False
) -> tuple[Tensor, dict[str, float]]:
    """Weighted squared error of v against the one that means the teacher's step."""
    with torch.autocast(asked.batch.x0.device.type, torch.bfloat16, enabled=half):
        if asked.batch.own.any():
            asked = asked._replace(batch=with_own_context(teacher, asked.batch))
        x, sigma = noisy(asked.batch), asked.batch.sigma
        x0 = target(teacher, asked, x, substeps=substeps)
        told = {"guidance": asked.guidance, "sigma_next": asked.sigma_next}
        found = model.velocity(x, sigma, **told, **conditions_of(model, asked.batch))
    s = edm.per_frame(sigma, x)
    wanted = (x / (s**2 + 1) - x0) * torch.sqrt(s**2 + 1) / s  # `edm.x0_from_velocity`, solved
    loss = ((found - wanted) ** 2 * asked.batch.weight[:, :, None]).mean()
    return loss, {"loss": loss.item()}


def train(
    config: StudentTraining,
    *,
    teacher: Path,
    data: Path,
    out: Path,
    device: str = "cpu",
    stop_at: int | None = None,
    validate_every: int = 500,
    checkpoint_s: float = 150.0,
) -> Run:
    """Train to the end of the schedule, continuing what `out` holds, as `training.train` does.

    `teacher` is a checkpoint of stage 2. Its windows are those of `config.windows`; see
    `for_teacher`.
    """
    from reference.diffusion.distill_checks import Examination

    place = torch.device(device)
    trained, about = open_checkpoint(teacher)
    if trained.told or not (trained.config.nerf and trained.config.switcher):
        raise ValueError(
            f"{teacher}: is a student or an ablation; give the full model of "
            "`python -m reference.train unet`"
        )
    if WindowConfig(**_tuples(about["train"]["windows"])) != config.windows:
        raise ValueError(
            f"{teacher}: was trained on other windows than the student would be; "
            "take its own, with `for_teacher`"
        )
    clips = Clips(data, split="train", length=config.played, tasks=TASKS, kinds=KINDS)
    check_clips(clips, trained.config, config, folder=data)
    held_out = None
    if any(data.glob("val-*.npz")) and validate_every:
        held_out = Clips(data, split="val", limit=VALIDATION_CLIPS, length=config.played)
    torch.manual_seed(config.seed)
    student = start_as(trained).to(place)
    student.requires_grad_(True).train()
    trained.to(place)
    half = config.half and computes_half(place)
    identity = {
        "model_config": plain(asdict(trained.config)),
        "train": plain(asdict(config)),
        "teacher": {"checkpoint": teacher.name, "sha256": _sha256(teacher), "step": about["step"]},
    }

    def batches(start: int, stop: int) -> Iterator[Sequence[Losses]]:
        make = partial(draw, clips, trained.config, config)
        for drawn, substeps in prepared(make, range(start, stop), workers=feeders(place)):
            asked: Lesson = moved(drawn, place)
            teach = partial(losses, teacher=trained, substeps=substeps, half=half)
            yield [partial(teach, asked=part) for part in asked.split(config.workers)]

    return fit(
        Run(student, config, identity),
        batches,
        out=out,
        stop_at=stop_at,
        validate=Examination(trained, held_out, config) if held_out else None,
        validate_every=validate_every,
        checkpoint_s=checkpoint_s,
    )


def for_teacher(config: StudentTraining, teacher: Path) -> StudentTraining:
    """The configuration with the windows that the teacher was trained on."""
    _, about = open_checkpoint(teacher)
    return replace(config, windows=WindowConfig(**_tuples(about["train"]["windows"])))


def _sha256(path: Path) -> str:
    with path.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()


def _tuples(values: dict[str, Any]) -> dict[str, Any]:
    return {k: tuple(v) if isinstance(v, list) else v for k, v in values.items()}
