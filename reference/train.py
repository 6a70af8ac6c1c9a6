"""Training: ``python -m reference.train stage1 --config mini --data SHARDS --out DIR``.

Progress goes to stderr, the curve to ``DIR/curve.jsonl``, checkpoints to ``DIR/checkpoint.pt``
(weights of the run and their running mean, optimiser, step). A run that finds a checkpoint
continues from it; the result does not depend on where it was interrupted.
"""

from __future__ import annotations

import argparse
import json
import math
import os
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from gas_rt.body import BodyModel
from reference.data import VIEW_KIND, Batch, Geometry, Sampler, Shards, batches, camera_ranges
from reference.metrics import SEEN_DEG, azimuth_deg, mask_box, psnr_db
from reference.nerf import PRESETS, CanonicalMesh, FieldConfig, HumanNerf, TrainConfig
from reference.nerf.checkpoint import mesh_of
from reference.nerf.config import to_dict
from reference.nerf.render import encode_photo, render_view
from reference.nerf.volume import composite

__all__ = ["Run", "losses", "main", "train", "validate"]

DEFAULT_BODY = Path("engines/gas-mini/body.npz")
VALIDATION_PEOPLE = 8


def learning_rate(step: int, config: TrainConfig) -> float:
    """Linear warm-up, then a cosine down to `lr_floor` of the peak."""
    if step < config.warmup:
        return config.lr * (step + 1) / config.warmup
    done = (step - config.warmup) / max(1, config.steps - config.warmup)
    cosine = 0.5 * (1 + math.cos(math.pi * min(1.0, done)))
    return config.lr * (config.lr_floor + (1 - config.lr_floor) * cosine)


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
    with torch.autocast("cpu", torch.bfloat16, enabled=config.bf16):
        rgb, alpha = predict(model, batch)
    error = rgb - batch.rgb
    squared = (error**2).mean()
    charbonnier = torch.sqrt(error**2 + 1e-4).mean()
    coverage = F.smooth_l1_loss(alpha, batch.alpha, beta=0.1)
    loss = charbonnier + 4 * squared + config.alpha_weight * coverage
    parts = {"loss": loss.item(), "mse": squared.item(), "alpha": coverage.item()}
    return loss, parts


def split(batch: Batch, parts: int) -> list[Batch]:
    """A batch's people in equal parts, one per worker.

    Workers with a thread each meet once a step; torch's own threads meet at every operation,
    which costs more than it brings when they have to share the cores.
    """
    count = len(batch.points) // parts
    assert count * parts == len(batch.points), "persons must divide by workers"
    ranges = [slice(k * count, (k + 1) * count) for k in range(parts)]
    return [Batch(*(value[rows] for value in batch)) for rows in ranges]


class Run:
    """Weights, their running mean, the optimiser and the step."""

    def __init__(self, field: FieldConfig, config: TrainConfig, mesh: CanonicalMesh) -> None:
        self.field, self.config, self.step = field, config, 0
        self.camera_ranges: dict[str, list[float]] = {}
        torch.manual_seed(config.seed)
        self.model = HumanNerf(field, mesh)
        self.mean = HumanNerf(field, mesh)
        self.mean.load_state_dict(self.model.state_dict())
        self.mean.requires_grad_(False)
        decay = [p for p in self.model.parameters() if p.ndim > 1]
        rest = [p for p in self.model.parameters() if p.ndim <= 1]
        groups = [
            {"params": decay, "weight_decay": config.weight_decay},
            {"params": rest, "weight_decay": 0.0},
        ]
        self._pool = ThreadPoolExecutor(config.workers, thread_name_prefix="gradients")
        self.optimiser = torch.optim.AdamW(groups, lr=config.lr, betas=(0.9, 0.99), fused=True)

    def advance(self, batch: Batch) -> dict[str, float]:
        """One optimiser step."""
        for group in self.optimiser.param_groups:
            group["lr"] = learning_rate(self.step, self.config)
        halves = list(self._pool.map(self._gradients, split(batch, self.config.workers)))
        for parameter, *gradients in zip(
            self.model.parameters(), *(gradients for gradients, _ in halves), strict=True
        ):
            parameter.grad = sum(gradients[1:], start=gradients[0]) / len(gradients)
        parts = {k: sum(p[k] for _, p in halves) / len(halves) for k in halves[0][1]}
        norm = torch.nn.utils.clip_grad_norm_(self.model.parameters(), self.config.clip)
        if not math.isfinite(norm):
            raise FloatingPointError(
                f"step {self.step}: the gradient is {norm}; lower the learning rate and resume"
            )
        self.optimiser.step()
        self.step += 1
        # Early on the mean follows quickly, so that it does not remember the initial weights.
        keep = min(self.config.ema, (1 + self.step) / (10 + self.step))
        pairs = zip(self.mean.parameters(), self.model.parameters(), strict=True)
        torch._foreach_lerp_(
            *map(list, zip(*((m.data, p.data) for m, p in pairs), strict=True)), 1 - keep
        )
        return parts | {"grad": float(norm)}

    def _gradients(self, batch: Batch) -> tuple[list[Tensor], dict[str, float]]:
        torch.set_num_threads(1)  # of this worker; see `split`
        loss, parts = losses(self.model, batch, self.config)
        return list(torch.autograd.grad(loss, list(self.model.parameters()))), parts

    def save(self, path: Path) -> None:
        """Write the checkpoint; a kill while writing leaves the one before."""
        state = {
            "field": to_dict(self.field),
            "train": to_dict(self.config),
            "step": self.step,
            "camera_ranges": self.camera_ranges,
            "model": self.model.state_dict(),
            "mean": self.mean.state_dict(),
            "optimiser": self.optimiser.state_dict(),
        }
        temporary = path.with_suffix(".tmp")
        torch.save(state, temporary)
        os.replace(temporary, path)

    def load(self, path: Path) -> None:
        """Continue from a checkpoint of the same configuration."""
        state = torch.load(path, weights_only=True)
        found = (state["field"], state["train"] | {"steps": self.config.steps})
        if found != (to_dict(self.field), to_dict(self.config)):
            raise ValueError(
                f"{path}: was trained with another configuration; choose another --out"
            )
        self.model.load_state_dict(state["model"])
        self.mean.load_state_dict(state["mean"])
        self.optimiser.load_state_dict(state["optimiser"])
        self.step = int(state["step"])


def validate(model: HumanNerf, geometry: Geometry, people: Shards) -> dict[str, float]:
    """Mean box PSNR of a few validation people: views near the photo's, and all views."""
    seen, every = [], []
    for index in range(len(people)):
        person = people[index]
        photo = geometry.photo(person.betas, person.photo)
        features = encode_photo(model, photo)
        shell = geometry.shell(person.betas, person.photo.pose)
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
    checkpoint_s: float = 150.0,
    validate_every: int = 500,
    stop_at: int | None = None,
) -> Run:
    """Train to `config.steps` (or stop early at `stop_at`), continuing what `out` holds."""
    out.mkdir(parents=True, exist_ok=True)
    run = Run(field, config, mesh_of(body))
    path = out / "checkpoint.pt"
    if path.exists():
        run.load(path)
    geometry = Geometry(body, field)
    people = Shards(data, split="train")
    sampler = Sampler(people, geometry, config)
    run.camera_ranges = camera_ranges(people)
    has_validation = any(data.glob("val-*.npz")) and validate_every > 0
    validation = Shards(data, split="val", limit=VALIDATION_PEOPLE) if has_validation else None
    stop = min(config.steps, stop_at or config.steps)
    recent: list[dict[str, float]] = []
    last_saved = since = time.monotonic()
    with (out / "curve.jsonl").open("a") as curve:
        for batch in batches(sampler, start=run.step, stop=stop):
            recent.append(run.advance(batch))
            if run.step % 50 == 0 or run.step == stop:
                row: dict[str, Any] = {
                    k: sum(r[k] for r in recent) / len(recent) for k in recent[0]
                }
                row |= {"step": run.step, "steps_per_s": len(recent) / (time.monotonic() - since)}
                if validation is not None and (run.step % validate_every == 0 or run.step == stop):
                    row |= validate(run.mean, geometry, validation)
                curve.write(json.dumps(row) + "\n")
                curve.flush()
                print(_line(row, stop), file=sys.stderr, flush=True)
                recent, since = [], time.monotonic()
            if time.monotonic() - last_saved > checkpoint_s:
                run.save(path)
                last_saved = time.monotonic()
    run.save(path)
    return run


def _line(row: dict[str, Any], stop: int) -> str:
    left = (stop - row["step"]) / row["steps_per_s"] / 60
    text = f"step {row['step']}/{stop}  loss {row['loss']:.4f}  {row['steps_per_s']:.1f}/s"
    text += f"  {left:.0f} min left"
    for name in ("seen_db", "all_db"):
        if name in row:
            text += f"  {name} {row[name]:.2f}"
    return text


def main(argv: list[str] | None = None) -> int:
    """The command line."""
    parser = argparse.ArgumentParser(prog="python -m reference.train", description=__doc__)
    stages = parser.add_subparsers(dest="stage", required=True)
    stage = stages.add_parser("stage1", help="the generalizable human NeRF")
    stage.add_argument("--config", choices=sorted(PRESETS), default="mini")
    stage.add_argument("--data", type=Path, required=True, help="folder of shards")
    stage.add_argument("--out", type=Path, required=True, help="checkpoints and curve")
    stage.add_argument("--body", type=Path, default=DEFAULT_BODY)
    stage.add_argument("--steps", type=int, help="length of the schedule")
    args = parser.parse_args(argv)
    torch.set_num_threads(1)  # see `split`
    field, config = PRESETS[args.config]
    if args.steps:
        config = replace(config, steps=args.steps)
    train(field, config, data=args.data, body=BodyModel.open(args.body), out=args.out)
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
