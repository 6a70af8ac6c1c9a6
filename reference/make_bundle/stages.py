"""The steps from nothing to checkpoints; each is skipped if done, continued if half done."""

from __future__ import annotations

import json
import math
import shutil
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, TypeVar

import torch

from gas_rt.body import BodyModel
from reference.diffusion.build import PEOPLE_PER_SHARD, Plan, build
from reference.diffusion.studio import Studio
from reference.make_bundle.filming import Filming, discard
from reference.make_bundle.ledger import Ledger
from reference.make_bundle.recipe import SHARES, Recipe
from reference.people import seeds
from reference.people.mixture import STAGE1, STAGE2
from reference.people.shards import PERSONS_PER_SHARD, check_shard, draw_person, stream, write
from reference.training import Run, Schedule, compact

__all__ = ["Making", "Options"]

# Steps that tell a training's rate. A GPU's first ones load its code; of these the latter half,
# which is a row of the curve by itself, counts.
TRIAL, GPU_TRIAL = 16, 100
MARGIN = 0.9  # of the time that a step has, since rates vary
S = TypeVar("S", bound=Schedule)


@dataclass(frozen=True)
class Options:
    """How a bundle is made; `budget_s` None takes as long as the recipe takes."""

    out: Path
    body: Path
    device: str = "cpu"
    workers: int = 1
    budget_s: float | None = None
    checkpoint_s: float = 120.0


class Making:
    """A recipe on its way to a bundle in ``out/bundle``."""

    def __init__(self, recipe: Recipe, options: Options, ledger: Ledger) -> None:
        self.recipe, self.options, self.ledger = recipe, options, ledger
        self.out = options.out
        self.body = BodyModel.open(options.body)

    def trained(self, name: str) -> Path:
        """The averaged weights that a training leaves."""
        return self.out / "checkpoints" / f"{name}.pt"

    def run(self) -> None:
        """Every training, with people filmed beside those that leave the processor alone."""
        with self._step("people"):
            self.people()
        with ExitStack() as beside:
            if self.options.device != "cpu" and not (self.out / "clips").exists():
                beside.enter_context(self._filming())
            with self._step("autoencoder"):
                self.autoencoder()
            with self._step("stage1"):
                self.stage1()
        with self._step("clips"):
            self.clips()
        with self._step("unet"):
            self.unet()
        with self._step("student"):
            self.student()

    @contextmanager
    def _step(self, name: str) -> Iterator[None]:
        report(f"{name}: {self.ledger.wall_s.get(name, 0):.0f} s spent before")
        with self.ledger.timed(name):
            yield
        report(f"{name}: done after {self.ledger.wall_s[name]:.0f} s")

    # ---- sizes --------------------------------------------------------------------------------

    def _seconds(self, step: str) -> float | None:
        """What a step may take."""
        budget_s = self.options.budget_s
        return None if budget_s is None else MARGIN * self.ledger.left_s(budget_s, SHARES, step)

    def _affordable(
        self, step: str, most: int, cost_s: Callable[[], float], *, done: int = 0
    ) -> int:
        """How many of something a step can pay for on all workers, beside those that are done."""
        seconds = self._seconds(step)
        if seconds is None:
            return most
        return max(1, min(most, done + int(seconds * self.options.workers / cost_s())))

    def _steps(self, name: str, config: S, train: Callable[[S, Path, int], Run]) -> S:
        """The configuration with as many steps as its share of the budget has time for."""

        def decide() -> int:
            seconds = self._seconds(name)
            if seconds is None:
                return config.steps
            rate = self._rate(name, config, train)
            return max(2 * config.warmup, min(config.steps, int(seconds * rate)))

        return _shortened(config, self.ledger.once(f"{name}_steps", decide))

    def _rate(self, name: str, config: S, train: Callable[[S, Path, int], Run]) -> float:
        """Steps per second, on the first steps of a run that is thrown away."""
        scratch = self.out / ".rate" / name
        shutil.rmtree(scratch, ignore_errors=True)
        count = TRIAL if self.options.device == "cpu" else GPU_TRIAL
        train(_shortened(replace(config, warmup=1), count), scratch, count)
        rows = (scratch / "curve.jsonl").read_text().splitlines()
        shutil.rmtree(scratch)
        return float(json.loads(rows[-1])["steps_per_s"])

    # ---- steps --------------------------------------------------------------------------------

    def people(self) -> None:
        """Shards of people for the autoencoder and stage 1."""

        def cost_s() -> float:
            began = time.process_time()
            draw_person(seeds.VALIDATION[0], self.body, STAGE1, size=self.recipe.size)
            return time.process_time() - began

        most = self.recipe.persons
        count = self.ledger.once("persons", lambda: self._affordable("people", most, cost_s))
        for split, chosen in (
            ("train", seeds.TRAIN[:count]),
            ("val", seeds.VALIDATION[: self.recipe.val_persons]),
        ):
            self._shards(split, chosen)

    def _shards(self, split: str, chosen: range) -> None:
        folder, size = self.out / "people", self.recipe.size
        folder.mkdir(parents=True, exist_ok=True)
        missing: list[tuple[Path, range]] = []
        for first in range(0, len(chosen), PERSONS_PER_SHARD):
            path = folder / f"{split}-{first // PERSONS_PER_SHARD:05d}.npz"
            if path.exists():
                check_shard(path, STAGE1, size=size)
            else:
                missing.append((path, chosen[first : first + PERSONS_PER_SHARD]))
        drawn = stream(
            [seed for _, part in missing for seed in part],
            mixture=STAGE1,
            workers=self.options.workers,
            body=self.options.body,
            size=size,
        )
        for path, part in missing:
            write(path, [next(drawn) for _ in part])
            report(f"people: {path.name}")

    def autoencoder(self) -> None:
        """The picture autoencoder."""
        from reference.autoencoder.training import train

        def go(config: Any, out: Path, stop_at: int | None) -> Run:
            places = {"data": self.out / "people", "out": out, "stop_at": stop_at}
            return train(self.recipe.autoencoder, config, **places, **self._how(stop_at))

        self._train("autoencoder", self.recipe.coding, go)

    def stage1(self) -> None:
        """The field."""
        from reference.nerf.training import train

        def go(config: Any, out: Path, stop_at: int | None) -> Run:
            places = {"data": self.out / "people", "out": out, "stop_at": stop_at}
            how = self._how(stop_at)
            return train(self.recipe.field, config, body=self.body, **places, **how)

        self._train("stage1", self.recipe.stage1, go)

    def unet(self) -> None:
        """Stage 2."""
        from reference.diffusion.training import train

        def go(config: Any, out: Path, stop_at: int | None) -> Run:
            places = {"data": self.out / "clips", "out": out, "stop_at": stop_at}
            coder, how = self.trained("autoencoder"), self._how(stop_at)
            return train(self.recipe.model, config, autoencoder=coder, **places, **how)

        self._train("unet", self.recipe.unet, go)

    def student(self) -> None:
        """Stage 2 in few steps."""
        from reference.diffusion.distill import train

        def go(config: Any, out: Path, stop_at: int | None) -> Run:
            places = {"data": self.out / "clips", "out": out, "stop_at": stop_at}
            return train(config, teacher=self.trained("unet"), **places, **self._how(stop_at))

        self._train("student", self.recipe.student, go)

    def _how(self, stop_at: int | None) -> dict[str, Any]:
        """Of every training; rates are measured without validation."""
        return {
            "device": self.options.device,
            "checkpoint_s": self.options.checkpoint_s,
            "validate_every": 500 if stop_at is None else 0,
        }

    def _train(self, name: str, config: S, train: Callable[[S, Path, int | None], Run]) -> None:
        if self.trained(name).exists():
            return
        if self.options.device == "cpu":
            torch.set_num_threads(1 if getattr(config, "workers", 0) else self.options.workers)
        train(self._steps(name, config, train), self.out / name, None)
        self.trained(name).parent.mkdir(exist_ok=True)
        compact(self.out / name / "checkpoint.pt", self.trained(name))

    def _filming(self) -> Filming:
        recipe = self.recipe
        return Filming(
            self.out / "films",
            seeds.TRAIN[: recipe.clips],
            body=self.options.body,
            frames=recipe.frames,
            size=recipe.size,
            mixture=STAGE2,
            workers=self.options.workers,
        )

    def clips(self) -> None:
        """Clips of people, with the field's renders, for stage 2."""
        recipe, films = self.recipe, self.out / "films"
        filmed = len(list(films.glob("*.npz"))) if films.exists() else 0
        models = {"stage1": self.trained("stage1"), "autoencoder": self.trained("autoencoder")}

        def cost_s() -> float:
            studio = Studio.open(**models, body=self.options.body, device=self.options.device)
            options = {"frames": recipe.frames, "twin": recipe.twins}
            studio.clips(seeds.VALIDATION[0], **options)  # what is made once per process
            began = time.monotonic()
            studio.clips(seeds.VALIDATION[1], **options)
            return time.monotonic() - began

        most = recipe.clips
        count = self.ledger.once(
            "clips", lambda: _whole(self._affordable("clips", most, cost_s, done=filmed // 2), most)
        )
        for split, chosen in (
            ("val", seeds.VALIDATION[: recipe.val_clips]),
            ("train", seeds.TRAIN[:count]),
        ):
            plan = Plan(
                split=split,
                chosen=chosen,
                frames=recipe.frames,
                twins=recipe.twins,
                out=self.out / "clips",
                body=self.options.body,
                workers=self.options.workers,
                device=self.options.device,
                films=films if filmed else None,
                **models,
            )
            plan.out.mkdir(parents=True, exist_ok=True)
            build(plan, channels=recipe.model.unet.latent_channels)
        discard(films)


def _shortened(config: S, steps: int) -> S:
    """The configuration at another length; what is a share of it keeps its share."""
    changes: dict[str, Any] = {"steps": steps}
    opening = getattr(config, "opening_steps", None)
    if opening is not None:
        changes["opening_steps"] = math.floor(opening * steps / config.steps)
    return replace(config, **changes)


def _whole(count: int, most: int) -> int:
    """Whole files, if there is more than one."""
    return count if count in (most, 1) else max(1, count // PEOPLE_PER_SHARD) * PEOPLE_PER_SHARD


def report(text: str) -> None:
    """A line of progress."""
    print(text, file=sys.stderr, flush=True)
