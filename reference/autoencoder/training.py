"""Training of the autoencoder on crops of synthetic people."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from reference.autoencoder.model import Autoencoder, AutoencoderConfig
from reference.devices import computes_half, feeders, moved, place_of, prepared
from reference.metrics import mask_box, psnr_db
from reference.training import Losses, Run, Schedule, fit

__all__ = ["PRESETS", "AutoencoderTraining", "losses", "train", "validate"]

U8 = NDArray[np.uint8]
VALIDATION_PICTURES = 64
STATISTICS_MOMENTUM = 0.01


@dataclass(frozen=True)
class AutoencoderTraining(Schedule):
    """How the autoencoder is trained.

    Attributes
    ----------
    crop : side of the square crops, a multiple of 8; they are drawn around people.
    person_weight : how much more an error on the person counts than one on the background.
    gradient_weight : weight of the difference of neighbouring pixels, which keeps edges and
        prints that a mean absolute error would smear.
    """

    steps: int = 20_000
    lr: float = 1.5e-3
    batch: int = 16
    crop: int = 64
    person_weight: float = 4.0
    gradient_weight: float = 0.5
    bf16: bool = True


PRESETS: dict[str, tuple[AutoencoderConfig, AutoencoderTraining]] = {
    "mini": (AutoencoderConfig(), AutoencoderTraining()),
    "mini-256": (AutoencoderConfig(), AutoencoderTraining(crop=96, batch=8)),
    "tiny": (
        AutoencoderConfig(
            latent_channels=4, encoder_widths=(8, 8, 16), decoder_widths=(8, 8, 16), blocks=1
        ),
        AutoencoderTraining(steps=8, batch=2, crop=16, warmup=2, bf16=False),
    ),
}


class Pictures:
    """Every picture of a split's shards, kept compressed by nothing but uint8."""

    def __init__(self, folder: Path, *, split: str, limit: int | None = None) -> None:
        files = sorted(folder.glob(f"{split}-*.npz"))
        if not files:
            raise FileNotFoundError(
                f"{folder}: no {split}-*.npz found; "
                "write some with `python -m reference.people.shards`"
            )
        rgb: list[U8] = []
        mask: list[U8] = []
        for path in files:
            with np.load(path, allow_pickle=False) as shard:
                rgb += [shard["ref_rgb"], shard["tgt_rgb"].reshape(-1, *shard["ref_rgb"].shape[1:])]
                mask += [
                    shard["ref_mask"],
                    shard["tgt_mask"].reshape(-1, *shard["ref_mask"].shape[1:]),
                ]
            if limit is not None and sum(map(len, rgb)) >= limit:
                break
        self.rgb = np.concatenate(rgb)[:limit]  # [N, H, W, 3]
        self.mask = np.concatenate(mask)[:limit]  # [N, H, W]

    def __len__(self) -> int:
        return len(self.rgb)


def crops(pictures: Pictures, config: AutoencoderTraining, step: int) -> tuple[Tensor, Tensor]:
    """The crops of one step: [B, 3, crop, crop] in [-1, 1], and the person's share [B, 1, …]."""
    rng = np.random.default_rng((config.seed, step))
    rgb, mask = [], []
    for index in rng.integers(len(pictures), size=config.batch):
        picture, cover = pictures.rgb[index], pictures.mask[index]
        rows, columns = np.nonzero(cover)
        centre = rng.integers(len(rows)) if len(rows) else 0
        middle = (rows[centre], columns[centre]) if len(rows) else (0, 0)
        top, left = (
            int(np.clip(m - rng.integers(config.crop), 0, n - config.crop))
            for m, n in zip(middle, cover.shape, strict=True)
        )
        cut = np.s_[top : top + config.crop, left : left + config.crop]
        flip = -1 if rng.random() < 0.5 else 1
        rgb.append(picture[cut][:, ::flip])
        mask.append(cover[cut][:, ::flip])
    x = torch.from_numpy(np.stack(rgb)).permute(0, 3, 1, 2).float() / 127.5 - 1
    m = torch.from_numpy(np.stack(mask))[:, None].float() / 255
    return x.contiguous(memory_format=torch.channels_last), m


def losses(
    model: Autoencoder, x: Tensor, person: Tensor, *, config: AutoencoderTraining, step: int
) -> tuple[Tensor, dict[str, float]]:
    """Reconstruction loss through a noisy latent; updates the latent statistics."""
    generator = torch.Generator().manual_seed(config.seed * 1_000_003 + step)
    device = x.device
    half = config.bf16 and computes_half(device)
    with torch.autocast(device.type, torch.bfloat16, enabled=half):
        code = model.encoder(x)
    code = code.float()
    _track_statistics(model, code.detach())
    drawn = torch.randn(code.shape, generator=generator)  # on the processor: one noise for all
    noise = moved(drawn, device) * model.config.latent_noise
    with torch.autocast(device.type, torch.bfloat16, enabled=half):
        y = model.decoder(code + noise * model.latent_std)
    error = y.float() - x
    weight = 1 + config.person_weight * person
    weight = weight / weight.mean()
    absolute = (error.abs() * weight).mean()
    squared = (error**2 * weight).mean()
    edges = error.diff(dim=2).abs().mean() + error.diff(dim=3).abs().mean()
    loss = absolute + squared + config.gradient_weight * edges
    return loss, {"loss": loss.item(), "mse": squared.item()}


@torch.no_grad()
def _track_statistics(model: Autoencoder, code: Tensor) -> None:
    mean = code.mean(dim=(0, 2, 3), keepdim=True)
    std = code.std(dim=(0, 2, 3), keepdim=True).clamp_min(1e-4)
    model.latent_mean.lerp_(mean, STATISTICS_MOMENTUM)
    model.latent_std.lerp_(std, STATISTICS_MOMENTUM)


@torch.no_grad()
def validate(model: nn.Module, pictures: Pictures) -> dict[str, float]:
    """Mean PSNR of the round trip, in the person's box and on the whole picture."""
    x = torch.from_numpy(pictures.rgb).permute(0, 3, 1, 2).float() / 127.5 - 1
    place = place_of(model)
    parts = [model.decode(model.encode(part.to(place))) for part in x.split(16)]  # type: ignore[operator]
    found = ((torch.cat(parts).clamp(-1, 1) + 1) / 2).permute(0, 2, 3, 1).cpu().numpy()
    truth = pictures.rgb.astype(np.float32) / 255
    boxes = [mask_box(mask) for mask in pictures.mask]
    box = [psnr_db(f[b], t[b]) for f, t, b in zip(found, truth, boxes, strict=True)]
    whole = [psnr_db(f, t) for f, t in zip(found, truth, strict=True)]
    return {"box_db": float(np.mean(box)), "whole_db": float(np.mean(whole))}


def train(
    model_config: AutoencoderConfig,
    config: AutoencoderTraining,
    *,
    data: Path,
    out: Path,
    device: str = "cpu",
    stop_at: int | None = None,
    validate_every: int = 500,
    checkpoint_s: float = 150.0,
) -> Run:
    """Train to the end of the schedule, continuing what `out` holds."""
    place = torch.device(device)
    torch.manual_seed(config.seed)
    model = Autoencoder(model_config).to(place, memory_format=torch.channels_last)
    # Through JSON-like lists, because the checkpoint is read with weights_only.
    identity = {
        "model_config": {
            k: list(v) if isinstance(v, tuple) else v for k, v in asdict(model_config).items()
        },
        "train": asdict(config),
    }
    pictures = Pictures(data, split="train")
    held_out = None
    if any(data.glob("val-*.npz")) and validate_every:
        held_out = Pictures(data, split="val", limit=VALIDATION_PICTURES)

    def batches(start: int, stop: int) -> Iterator[Sequence[Losses]]:
        cut = partial(crops, pictures, config)
        made = prepared(cut, range(start, stop), workers=feeders(place))
        for step, crop in enumerate(made, start):
            x, person = moved(crop, place)
            yield [partial(losses, x=x, person=person, config=config, step=step)]

    return fit(
        Run(model, config, identity),
        batches,
        out=out,
        stop_at=stop_at,
        validate=(lambda m: validate(m, held_out)) if held_out else None,
        validate_every=validate_every,
        checkpoint_s=checkpoint_s,
    )
