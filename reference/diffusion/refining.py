"""Training of the refiner: pictures of a trained UNet's clips against the truth.

The clips should be of people the UNet was not trained on, whom it shows as well as anyone else.
"""

from __future__ import annotations

import sys
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from gas_rt.diffusion import SIGMA_MIN, explicit_sigmas, switcher
from reference.autoencoder import Autoencoder
from reference.checkpoint import read_checkpoint
from reference.diffusion.clips import TASKS, read_clips, read_pictures
from reference.diffusion.denoiser import Denoiser
from reference.diffusion.picture import Refiner, RefinerConfig
from reference.diffusion.pipeline import generate
from reference.metrics import mask_box, psnr_db
from reference.training import Losses, Run, Schedule, fit

__all__ = [
    "PRESETS",
    "RefinerTraining",
    "Takes",
    "losses",
    "open_refiner",
    "take",
    "train",
    "validate",
]

U8 = NDArray[np.uint8]
DECODE_BATCH = 24
GRID = 8
VALIDATION_FRAMES = 96
NOISE_SEED = 1 << 41  # no training seed


@dataclass(frozen=True)
class RefinerTraining(Schedule):
    """How the refiner is trained; `crop`, the weights and `batch` are as of the autoencoder.

    Attributes
    ----------
    stride : of a clip's frames every so many are taken, as one window: more people for the time.
    sigmas : where the steps of the UNet start.
    """

    steps: int = 3000
    lr: float = 1e-3
    warmup: int = 50
    batch: int = 16
    crop: int = 64
    person_weight: float = 4.0
    gradient_weight: float = 0.5
    stride: int = 3
    sigmas: tuple[float, ...] = (40.0, 10.0, 3.0, 1.0)


PRESETS: dict[str, tuple[RefinerConfig, RefinerTraining]] = {
    "mini": (RefinerConfig(), RefinerTraining()),
    "tiny": (
        RefinerConfig(widths=(8, 16)),
        RefinerTraining(steps=4, batch=2, crop=16, warmup=1, stride=1, sigmas=(10.0, 1.0)),
    ),
}


@dataclass(frozen=True, eq=False)
class Takes:
    """N frames as the refiner gets them, and as they should be.

    `render`, `decoded` and `again` (the render through the autoencoder) f16 [N, 3, H, W] in
    [-1, 1]; `rgb` u8 [N, 3, H, W]; `mask` u8 [N, H, W].
    """

    render: Tensor
    decoded: Tensor
    again: Tensor
    rgb: U8
    mask: U8

    def __len__(self) -> int:
        return len(self.rgb)


class Crops(NamedTuple):
    """[B, 3, S, S] each, and the person's share [B, 1, S, S]."""

    render: Tensor
    decoded: Tensor
    again: Tensor
    truth: Tensor
    person: Tensor


@torch.no_grad()
def take(
    model: Denoiser,
    autoencoder: Autoencoder,
    folder: Path,
    *,
    split: str,
    config: RefinerTraining,
    limit: int | None = None,
) -> Takes:
    """What a trained UNet makes of every clip whose pictures were kept, by ``parity``."""
    shards = sorted(p for p in folder.glob(f"{split}-*.npz"))
    if not shards:
        raise FileNotFoundError(
            f"{folder}: no {split}-*.npz found; write clip shards with "
            "`python -m reference.diffusion.build --pictures`"
        )
    if model.config.residual_std is None:
        raise ValueError("this UNet's latents are not centred on the field's; it takes no refiner")
    parts: dict[str, list[NDArray]] = {name: [] for name in Takes.__dataclass_fields__}
    frames = 0
    for shard in shards:
        clips = read_clips(shard)
        pictures = read_pictures(shard, seeds=clips["seed"])
        for index, seed in enumerate(clips["seed"].tolist()):
            taken = np.s_[index, seed % config.stride :: config.stride]
            render = _tensor(pictures.renders[taken])
            base = torch.from_numpy(clips["nerf_latents"][taken].astype(np.float32))
            latents = _generated(model, clips, index, seed, config)
            decoded, again = (_decode(autoencoder, value) for value in (latents, base))
            parts["render"].append(render.half().numpy())
            parts["decoded"].append(decoded.half().numpy())
            parts["again"].append(again.half().numpy())
            parts["rgb"].append(np.moveaxis(pictures.rgb[taken], -1, 1))
            parts["mask"].append(pictures.mask[taken])
            frames += len(base)
        print(f"{shard.name}: {frames} frames taken", file=sys.stderr, flush=True)
        if limit is not None and frames >= limit:
            break
    arrays = {name: np.concatenate(values)[:limit] for name, values in parts.items()}
    tensors = {name: torch.from_numpy(arrays.pop(name)) for name in ("render", "decoded", "again")}
    return Takes(**tensors, **arrays)


def _generated(
    model: Denoiser, clips: dict[str, NDArray], index: int, seed: int, config: RefinerTraining
) -> Tensor:
    """Unscaled latents [L, C, h, w] of the frames taken of a clip, without guidance."""

    def tensor(name: str) -> Tensor:
        return torch.from_numpy(clips[name][index].astype(np.float32))

    taken = slice(seed % config.stride, None, config.stride)
    nerf = tensor("nerf_latents")[taken]
    picture = tensor("reference_rgb").permute(2, 0, 1) / 127.5 - 1
    count = len(nerf)
    generator = torch.Generator().manual_seed(NOISE_SEED + seed)
    return generate(
        model,
        reference=tensor("reference_latent")[None],
        embedding=model.embed(picture[None]),
        nerf_latents=nerf,
        normals=tensor("normals")[taken].permute(0, 3, 1, 2) / 255,
        switcher=torch.from_numpy(switcher([TASKS[int(clips["task"][index])]] * count)),
        guidance=torch.ones(count),
        noise=torch.randn(nerf.shape, generator=generator),
        sigmas=torch.tensor(explicit_sigmas([*config.sigmas, SIGMA_MIN])),
    )


def _decode(autoencoder: Autoencoder, latents: Tensor) -> Tensor:
    return torch.cat([autoencoder.decode(part) for part in latents.split(DECODE_BATCH)])


def _tensor(pictures: U8) -> Tensor:
    """[N, H, W, 3] → [N, 3, H, W] in [-1, 1]."""
    return torch.from_numpy(pictures).permute(0, 3, 1, 2).float() / 127.5 - 1


def crops(takes: Takes, config: RefinerTraining, step: int) -> Crops:
    """The crops of a step, drawn around people."""
    rng = np.random.default_rng((config.seed, step))
    cut: list[list[Tensor]] = []
    for index in rng.integers(len(takes), size=config.batch):
        mask = takes.mask[index]
        rows, columns = np.nonzero(mask)
        chosen = rng.integers(len(rows)) if len(rows) else 0
        middle = (rows[chosen], columns[chosen]) if len(rows) else (0, 0)
        # Corners where the refiner's blocks of pixels lie.
        top, left = (
            GRID * (int(np.clip(m - rng.integers(config.crop), 0, n - config.crop)) // GRID)
            for m, n in zip(middle, mask.shape, strict=True)
        )
        window = np.s_[..., top : top + config.crop, left : left + config.crop]
        truth = torch.from_numpy(takes.rgb[index][window]).float() / 127.5 - 1
        given = [v[index][window].float() for v in (takes.render, takes.decoded, takes.again)]
        person = torch.from_numpy(mask[window])[None].float() / 255
        values = [*given, truth, person]
        cut.append([v.flip(-1) for v in values] if rng.random() < 0.5 else values)
    return Crops(*(torch.stack(column) for column in zip(*cut, strict=True)))


def losses(
    model: Refiner, batch: Crops, *, config: RefinerTraining
) -> tuple[Tensor, dict[str, float]]:
    """Absolute, squared and edge error, as of the autoencoder."""
    error = model(batch.render, batch.decoded, batch.again) - batch.truth
    weight = 1 + config.person_weight * batch.person
    weight = weight / weight.mean()
    squared = (error**2 * weight).mean()
    edges = error.diff(dim=2).abs().mean() + error.diff(dim=3).abs().mean()
    loss = (error.abs() * weight).mean() + squared + config.gradient_weight * edges
    return loss, {"loss": loss.item(), "mse": squared.item()}


@torch.no_grad()
def validate(model: Refiner, takes: Takes) -> dict[str, float]:
    """Mean PSNR in the person's box: refined, merely added, the field alone."""
    box: dict[str, list[float]] = {"refined": [], "added": [], "field": []}
    for index in range(len(takes)):
        render, decoded, again = (
            v[index : index + 1].float() for v in (takes.render, takes.decoded, takes.again)
        )
        where = mask_box(takes.mask[index])
        truth = takes.rgb[index][(slice(None), *where)].astype(np.float32) / 255
        shown = {
            "refined": model(render, decoded, again),
            "added": render + decoded - again,
            "field": render,
        }
        for name, picture in shown.items():
            found = ((picture[0].clamp(-1, 1) + 1) / 2)[(slice(None), *where)].numpy()
            box[name].append(psnr_db(found, truth))
    return {f"{name}_db": float(np.mean(values)) for name, values in box.items()}


def train(
    model_config: RefinerConfig,
    config: RefinerTraining,
    *,
    model: Denoiser,
    autoencoder: Autoencoder,
    data: Path,
    out: Path,
    stop_at: int | None = None,
    validate_every: int = 500,
) -> Run:
    """Train to the end of the schedule, continuing what `out` holds."""
    takes = take(model, autoencoder, data, split="train", config=config)
    held_out = None
    if validate_every and any(data.glob("pictures-val-*.npz")):
        held_out = take(
            model, autoencoder, data, split="val", config=config, limit=VALIDATION_FRAMES
        )
    torch.manual_seed(config.seed)
    settings = asdict(config) | {"sigmas": list(config.sigmas)}
    shape = asdict(model_config) | {"widths": list(model_config.widths)}
    identity = {"refiner_config": shape, "train": settings}

    def batches(start: int, stop: int) -> Iterator[Sequence[Losses]]:
        for step in range(start, stop):
            yield [partial(losses, batch=crops(takes, config, step), config=config)]

    return fit(
        Run(Refiner(model_config), config, identity),
        batches,
        out=out,
        stop_at=stop_at,
        validate=(lambda m: validate(m, held_out)) if held_out else None,
        validate_every=validate_every,
    )


def open_refiner(path: Path) -> Refiner:
    """The averaged refiner of a training run, ready for evaluation."""
    state = read_checkpoint(path, keys=("refiner_config", "mean"), stage="refiner")
    shape = state["refiner_config"]
    model = Refiner(RefinerConfig(**shape | {"widths": tuple(shape["widths"])}))
    model.load_state_dict(state["mean"])
    return model.eval().requires_grad_(False)
