"""What every training here shares: schedule, running mean of the weights, checkpoints, progress.

A run that finds a checkpoint in its folder continues from it, and the result does not depend on
where it was interrupted: batches are functions of (seed, step), and the checkpoint holds the
weights, their running mean, the optimiser and the step.
"""

from __future__ import annotations

import contextlib
import copy
import json
import math
import os
import sys
import time
from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

__all__ = ["Losses", "Run", "Schedule", "average", "begin_with", "compact", "fit", "learning_rate"]

# The loss of some part of a batch under a model, and the figures to report.
Losses = Callable[[nn.Module], tuple[Tensor, dict[str, float]]]
Gradients = tuple[Sequence[Tensor | None], dict[str, float]]


@dataclass(frozen=True)
class Schedule:
    """What every training configuration holds; each says what else it needs.

    Attributes
    ----------
    lr, lr_floor : peak of the learning rate, and the share of it that is left at the end.
    clip : largest norm of a gradient.
    ema : how much of the running mean of the weights a step keeps.
    """

    steps: int = 10_000
    lr: float = 1e-3
    lr_floor: float = 0.02
    warmup: int = 200
    weight_decay: float = 1e-4
    clip: float = 1.0
    ema: float = 0.998
    seed: int = 0


def learning_rate(step: int, config: Schedule) -> float:
    """Linear warm-up, then a cosine down to `lr_floor` of the peak."""
    if step < config.warmup:
        return config.lr * (step + 1) / config.warmup
    done = (step - config.warmup) / max(1, config.steps - config.warmup)
    cosine = 0.5 * (1 + math.cos(math.pi * min(1.0, done)))
    return config.lr * (config.lr_floor + (1 - config.lr_floor) * cosine)


class Run:
    """Weights, their running mean, the optimiser and the step.

    `identity` is stored with the weights, and a checkpoint of another identity is refused; only
    ``identity["train"]["steps"]`` may differ, so that a schedule can be lengthened. `notes` are
    stored too, for whoever exports the weights.
    """

    def __init__(
        self,
        model: nn.Module,
        config: Schedule,
        identity: dict[str, Any],
        *,
        notes: dict[str, Any] | None = None,
    ) -> None:
        self.model, self.config, self.step = model, config, 0
        self.identity, self.notes = identity, notes or {}
        self.mean = copy.deepcopy(model).requires_grad_(False)
        decay = [p for p in model.parameters() if p.ndim > 1]
        rest = [p for p in model.parameters() if p.ndim <= 1]
        groups = [
            {"params": decay, "weight_decay": config.weight_decay},
            {"params": rest, "weight_decay": 0.0},
        ]
        self.optimiser = torch.optim.AdamW(groups, lr=config.lr, betas=(0.9, 0.99), fused=True)
        self._pool = ThreadPoolExecutor(thread_name_prefix="gradients")

    def advance(self, parts: Sequence[Losses]) -> dict[str, float]:
        """One optimiser step on the mean of the losses that `parts` compute, one thread each.

        Several parts with a torch thread each meet once a step; torch's own threads meet at every
        operation, which costs more than it brings when they have to share the cores.
        """
        for group in self.optimiser.param_groups:
            group["lr"] = learning_rate(self.step, self.config)
        if len(parts) == 1:
            done = [self._gradients(parts[0])]
        else:
            done = list(self._pool.map(self._gradients_alone, parts))
        for parameter, *gradients in zip(
            self.model.parameters(), *(gradients for gradients, _ in done), strict=True
        ):
            # A parameter no part uses stays without a gradient, so that it does not decay either.
            used = [g for g in gradients if g is not None]
            parameter.grad = sum(used[1:], start=used[0]) / len(done) if used else None
        values = {k: sum(v[k] for _, v in done) / len(done) for k in done[0][1]}
        norm = float(nn.utils.clip_grad_norm_(self.model.parameters(), self.config.clip))
        if not math.isfinite(norm):
            raise FloatingPointError(
                f"step {self.step}: the gradient is {norm}; lower the learning rate and resume"
            )
        self.optimiser.step()
        self.step += 1
        self._follow()
        return values | {"grad": norm}

    def _gradients(self, losses: Losses) -> Gradients:
        loss, values = losses(self.model)
        weights = list(self.model.parameters())
        return torch.autograd.grad(loss, weights, allow_unused=True), values

    def _gradients_alone(self, losses: Losses) -> Gradients:
        torch.set_num_threads(1)  # of this worker thread
        return self._gradients(losses)

    def _follow(self) -> None:
        # Early on the mean follows quickly, so that it does not remember the initial weights.
        keep = min(self.config.ema, (1 + self.step) / (10 + self.step))
        pairs = zip(self.mean.parameters(), self.model.parameters(), strict=True)
        means, weights = zip(*((m.data, p.data) for m, p in pairs), strict=True)
        torch._foreach_lerp_(list(means), list(weights), 1 - keep)
        for mean, buffer in zip(self.mean.buffers(), self.model.buffers(), strict=True):
            mean.copy_(buffer)

    def save(self, path: Path) -> None:
        """Write the checkpoint; a kill while writing leaves the one before."""
        state = {
            **self.identity,
            **self.notes,
            "step": self.step,
            "model": self.model.state_dict(),
            "mean": self.mean.state_dict(),
            "optimiser": self.optimiser.state_dict(),
        }
        _put(state, path)

    def load(self, path: Path) -> None:
        """Continue from a checkpoint of the same identity."""
        state = torch.load(path, weights_only=True, map_location="cpu")
        found = {key: state.get(key) for key in self.identity}
        if isinstance(found.get("train"), dict):
            found["train"] = found["train"] | {"steps": self.config.steps}
        if found != self.identity:
            raise ValueError(
                f"{path}: was trained with another configuration; choose another --out"
            )
        self.model.load_state_dict(state["model"])
        self.mean.load_state_dict(state["mean"])
        self.optimiser.load_state_dict(state["optimiser"])
        self.step = int(state["step"])


def fit(
    run: Run,
    batches: Callable[[int, int], Iterable[Sequence[Losses]]],
    *,
    out: Path,
    stop_at: int | None = None,
    validate: Callable[[nn.Module], dict[str, float]] | None = None,
    validate_every: int = 500,
    report_every: int = 50,
    checkpoint_s: float = 150.0,
) -> Run:
    """Train to the end of the schedule, or to `stop_at`, continuing what `out` holds.

    `batches(start, stop)` yields, per step, the parts of its batch. The curve goes to
    ``out/curve.jsonl``, progress to stderr, checkpoints to ``out/checkpoint.pt``.
    """
    out.mkdir(parents=True, exist_ok=True)
    path = out / "checkpoint.pt"
    if path.exists():
        run.load(path)
        _forget(out / "curve.jsonl", after=run.step)
    stop = min(run.config.steps, stop_at or run.config.steps)
    recent: list[dict[str, float]] = []
    saved = since = time.monotonic()
    with (out / "curve.jsonl").open("a") as curve:
        for parts in batches(run.step, stop):
            recent.append(run.advance(parts))
            if run.step % report_every == 0 or run.step == stop:
                row: dict[str, Any] = {
                    k: sum(r[k] for r in recent) / len(recent) for k in recent[0]
                }
                row |= {"step": run.step, "steps_per_s": len(recent) / (time.monotonic() - since)}
                if validate and (run.step % validate_every == 0 or run.step == stop):
                    row |= validate(run.mean)
                curve.write(json.dumps(row) + "\n")
                curve.flush()
                print(_line(row, stop), file=sys.stderr, flush=True)
                recent, since = [], time.monotonic()
            if time.monotonic() - saved > checkpoint_s:
                run.save(path)
                saved = time.monotonic()
    run.save(path)
    return run


def _forget(curve: Path, *, after: int) -> None:
    """Drop rows of steps that a kill undid, and one it cut off in the middle."""
    if not curve.is_file():
        return
    kept = []
    for line in curve.read_text().splitlines():
        with contextlib.suppress(json.JSONDecodeError):
            if json.loads(line)["step"] <= after:
                kept.append(line + "\n")
    temporary = curve.with_suffix(".tmp")
    temporary.write_text("".join(kept))
    os.replace(temporary, curve)


def compact(checkpoint: Path, out: Path, *, half: bool = False) -> None:
    """Keep of a checkpoint what evaluation and export need: the averaged weights.

    `half` stores them in 16 bits, as a bundle does.

    The figures of its last step go with them, from the curve beside it. A run cannot be continued
    from the result.
    """
    state = torch.load(checkpoint, weights_only=True, map_location="cpu")
    if final := _figures(checkpoint.parent / "curve.jsonl", step=int(state["step"])):
        state["final"] = final
    _keep(state, out, half=half)


def average(checkpoints: Sequence[Path], out: Path, *, half: bool = False) -> None:
    """The mean of the averaged weights of runs that started from one another.

    Such runs lie in one valley, and what a short one forgets of the people before it the mean has
    kept (Wortsman et al. 2022, "Model soups"). What is told of the result is the last one's.
    """
    states = [torch.load(path, weights_only=True, map_location="cpu") for path in checkpoints]
    last = states[-1]
    for path, state in zip(checkpoints, states, strict=True):
        shapes = [{k: v.shape for k, v in s["mean"].items()} for s in (state, last)]
        if shapes[0] != shapes[1]:
            raise ValueError(f"{path}: is of another model than {checkpoints[-1]}; choose another")
    mean = {
        name: torch.stack([state["mean"][name].float() for state in states]).mean(0)
        if value.is_floating_point()
        else value
        for name, value in last["mean"].items()
    }
    _keep(last | {"mean": mean, "averaged": len(states)}, out, half=half)


def begin_with(model: nn.Module, earlier: nn.Module, path: Path) -> None:
    """Give a new model the weights of the checkpoint at `path`; both have a `config`."""
    if earlier.config != model.config:
        raise ValueError(f"{path}: is of another model configuration; choose another")
    model.load_state_dict(earlier.state_dict())


def _keep(state: dict[str, Any], out: Path, *, half: bool) -> None:
    """Write a state without what only going on needs."""
    kept = {key: value for key, value in state.items() if key not in ("model", "optimiser")}
    if half:
        mean = kept["mean"]
        kept["mean"] = {k: v.half() if v.is_floating_point() else v for k, v in mean.items()}
    _put(kept, out)


def _put(state: dict[str, Any], path: Path) -> None:
    temporary = path.with_suffix(".tmp")
    torch.save(state, temporary)
    os.replace(temporary, path)


def _figures(curve: Path, *, step: int) -> dict[str, float]:
    """What the curve says of the model at `step`, but for how fast it was trained."""
    rows = [json.loads(line) for line in curve.read_text().splitlines()] if curve.is_file() else []
    found = [row for row in rows if row["step"] == step]
    return {k: v for k, v in found[-1].items() if k != "steps_per_s"} if found else {}


def _line(row: dict[str, Any], stop: int) -> str:
    left = (stop - row["step"]) / row["steps_per_s"] / 60
    text = f"step {row['step']}/{stop}  loss {row['loss']:.4f}  {row['steps_per_s']:.1f}/s"
    text += f"  {left:.0f} min left"
    return text + "".join(f"  {k} {v:.2f}" for k, v in row.items() if k.endswith("_db"))
