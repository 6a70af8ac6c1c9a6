"""Training of stage 1 on shards of synthetic people."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from gas_rt.body import BodyModel
from reference.data import VIEW_KIND, Batch, Geometry, Sampler, Shards, batches, camera_ranges
from reference.devices import computes_half, feeders, moved
from reference.metrics import SEEN_DEG, azimuth_deg, mask_box, psnr_db
from reference.nerf import FieldConfig, HumanNerf, TrainConfig
from reference.nerf.checkpoint import mesh_of, open_checkpoint
from reference.nerf.config import to_dict
from reference.nerf.render import encode_photo, render_view
from reference.nerf.volume import composite
from reference.nerf.widen import widen
from reference.training import Losses, Run, fit

__all__ = ["losses", "train", "validate"]

VALIDATION_PEOPLE = 8


def predict(model: HumanNerf, batch: Batch) -> tuple[Tensor, Tensor]:
    """rgb [B,rays,3] premultiplied, alpha [B,rays] of a batch's rays."""
    people = model.encode(batch.image, batch.vertex_uv, batch.vertex_visible)
    features = [
        model.field.gather(
            p.x_can, p.uv, p.vertex_id, people.planes[i], people.image[i : i + 1], people.vertex[i]
        )
        for i, p in enumerate(batch.points)
    ]
    x_can = torch.cat([p.x_can for p in batch.points])
    d_can = torch.cat([p.d_can for p in batch.points])
    sigma, rgb = model.field.decode(x_can, d_can, torch.cat(features))
    rays = batch.alpha.shape[1]
    ray = torch.cat([p.ray + i * rays for i, p in enumerate(batch.points)])
    delta = torch.cat([p.delta for p in batch.points])
    colour, alpha = composite(ray, delta, sigma, rgb, rays=batch.alpha.numel())
    return colour.reshape(batch.rgb.shape), alpha.reshape(batch.alpha.shape)


def losses(model: HumanNerf, batch: Batch, config: TrainConfig) -> tuple[Tensor, dict[str, float]]:
    """The loss and its parts."""
    half = config.bf16 and computes_half(batch.rgb.device)
    with torch.autocast(batch.rgb.device.type, torch.bfloat16, enabled=half):
        rgb, alpha = predict(model, batch)
    error = rgb - batch.rgb
    squared = (error**2).mean()
    charbonnier = torch.sqrt(error**2 + 1e-4).mean()
    coverage = F.smooth_l1_loss(alpha, batch.alpha, beta=0.1)
    loss = charbonnier + 4 * squared + config.alpha_weight * coverage
    parts = {"loss": loss.item(), "mse": squared.item(), "alpha": coverage.item()}
    return loss, parts


def split(batch: Batch, parts: int) -> list[Batch]:
    """A batch's people in equal parts, one per worker."""
    count = len(batch.points) // parts
    assert count * parts == len(batch.points), "persons must divide by workers"
    ranges = [slice(k * count, (k + 1) * count) for k in range(parts)]
    return [Batch(*(value[rows] for value in batch)) for rows in ranges]


def validate(model: HumanNerf, geometry: Geometry, people: Shards) -> dict[str, float]:
    """Mean box PSNR of a few validation people: views near the photo's, and all views."""
    seen, every = [], []
    for index in range(len(people)):
        person = people[index]
        photo = geometry.photo(person.betas, person.photo)
        features = encode_photo(model, photo)
        shell = geometry.shell(person.betas, person.photo.pose, radius_m=photo.radius_m)
        for target, kind in zip(person.targets, person.kinds, strict=True):
            if kind != VIEW_KIND:
                continue
            rgb, _ = render_view(model, features, geometry, photo, shell, target.camera)
            box = mask_box(target.mask)
            every.append(psnr_db(rgb[box], target.rgb[box].astype(np.float32) / 255))
            if azimuth_deg(person.photo.camera, target.camera) <= SEEN_DEG:
                seen.append(every[-1])
    return {"seen_db": float(np.mean(seen)), "all_db": float(np.mean(every))}


def train(
    field: FieldConfig,
    config: TrainConfig,
    *,
    data: Path,
    body: BodyModel,
    out: Path,
    device: str = "cpu",
    start: Path | None = None,
    checkpoint_s: float = 150.0,
    validate_every: int = 500,
    stop_at: int | None = None,
) -> Run:
    """Train to `config.steps` (or stop early at `stop_at`), continuing what `out` holds.

    A new run begins with the averaged weights of the checkpoint `start`, if one is given; a model
    with wider layers or more of them begins with what that one computes (`widen`).
    """
    place = torch.device(device)
    torch.manual_seed(config.seed)
    geometry = Geometry(body, field)
    people = Shards(data, split="train")
    sampler = Sampler(people, geometry, config, keep=place.type != "cpu")
    validation = None
    if any(data.glob("val-*.npz")) and validate_every > 0:
        validation = Shards(data, split="val", limit=VALIDATION_PEOPLE)
    mesh = mesh_of(body)
    model = HumanNerf(field, mesh).to(place)
    notes: dict[str, Any] = {"camera_ranges": camera_ranges(people, body)}
    if start is not None:
        earlier, about = open_checkpoint(start, mesh)
        try:
            widen(model, earlier)
        except ValueError as error:
            raise ValueError(f"{start}: {error}; choose another") from None
        notes["started_from"] = about
    run = Run(model, config, {"field": to_dict(field), "train": to_dict(config)}, notes=notes)

    def parts(start: int, stop: int) -> Iterator[Sequence[Losses]]:
        for batch in batches(sampler, start=start, stop=stop, workers=feeders(place)):
            parts = split(moved(batch, place), config.workers)
            yield [partial(losses, batch=part, config=config) for part in parts]

    return fit(
        run,
        parts,
        out=out,
        stop_at=stop_at,
        validate=(lambda m: validate(m, geometry, validation)) if validation else None,
        validate_every=validate_every,
        checkpoint_s=checkpoint_s,
    )
