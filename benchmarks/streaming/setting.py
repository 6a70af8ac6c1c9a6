"""Models, an avatar and poses, which every row shares, and sessions that take turns."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

import gas_rt
from benchmarks.people import avatar_of, dance
from benchmarks.reporting import tell
from benchmarks.streaming.brake import Brake, BrakedEngine
from gas_rt.bench.drive import Clocks, Recording, drive_saturated
from gas_rt.bench.rounds import back_and_forth
from gas_rt.engine import open_bundle, open_engine
from gas_rt.engine.machine import available_cpus
from gas_rt.enrollment import ModelParts
from gas_rt.stream.closing import Closing

__all__ = ["Setting", "Times", "still_with_noise"]

TREMBLES = 200  # different poses of somebody who stands still
RATE_SHARE = 0.8  # of what a session sustains, that rows with a margin ask for
FPS_MAX = 25.0


@dataclass(frozen=True)
class Times:
    """How long the rows take.

    Attributes
    ----------
    rounds, round_s : turns of each competitor, and seconds of measuring in one.
    overload_s : of poses at three times the rate.
    calm_s, trouble_s, after_s : before, during and after a consumer's stop or an engine's trouble.
    """

    rounds: int = 5
    round_s: float = 6.0
    overload_s: float = 60.0
    calm_s: float = 10.0
    trouble_s: float = 5.0
    after_s: float = 20.0


QUICK = Times(rounds=2, round_s=0.2, overload_s=0.6, calm_s=0.3, trouble_s=0.3, after_s=0.5)


@dataclass
class Setting(Closing):
    """What is measured; owns the models.

    Attributes
    ----------
    policy, steps : of the sessions; by default the model's.
    first_stage : what a pose's time in the first stage consists of, as in `Frame.timings`.
    quick : speed is not judged.
    """

    model_name: str
    backend: str
    precision: Any
    quick: bool
    avatar_path: Path | None = None
    policy: str | None = None
    steps: int | None = None
    side_px: int | None = None
    clocks: Clocks = field(default_factory=Clocks)

    def __post_init__(self) -> None:
        self.cores = available_cpus()
        self.times = QUICK if self.quick else Times()
        self.brake = Brake()
        self._stack = ExitStack()
        self._models: dict[int, gas_rt.Model] = {}
        self._sustained: float | None = None
        model = self.model(self.cores)
        self.policy = self.policy or model.default_policy
        diffusion = model.parts.bundle.config.diffusion
        if self.policy != "field" and diffusion is not None:
            self.steps = self.steps or diffusion.usual_steps(self.policy)
            self.warm_up = diffusion.schedule(self.policy, steps=self.steps).window.length
            self.first_stage = ("body", "field", "normals", "condition")
        else:
            self.steps, self.warm_up = None, 4
            self.first_stage = ("body",)
        self.avatar = avatar_of(model, self.avatar_path)
        self.poses = dance(model, self.avatar, self.side_px or model.resolution)

    def model(self, threads: int) -> gas_rt.Model:
        """The model with a budget of threads, its engine behind the brake.

        What ``auto`` chose for the first one, the others are told.
        """
        if threads not in self._models:
            bundle = open_bundle(self.model_name)
            engine = open_engine(
                self.backend,
                threads=threads,
                precision=self.precision,
                denoiser=bundle.denoiser,
            )
            self.backend, self.precision = engine.report.actual, engine.report.precision
            parts = ModelParts(bundle, BrakedEngine(engine, self.brake), threads=threads)
            self._models[threads] = self._stack.enter_context(gas_rt.Model(parts))
        return self._models[threads]

    def session(self, *, threads: int | None = None, **more: Any) -> gas_rt.Session:
        """Open a session of the policy and steps that are measured."""
        return self.model(threads or self.cores).session(
            self.avatar, policy=self.policy, steps=self.steps, **more
        )

    def requests(self) -> Iterator[gas_rt.Request]:
        """Poses without end."""
        return back_and_forth(self.poses)

    def in_turns(
        self,
        openers: Mapping[str, Callable[[], gas_rt.Session]],
        requests: Callable[[], Iterator[gas_rt.Request]] | None = None,
    ) -> dict[str, list[Recording]]:
        """Saturated sessions by name, each in every round, in an order that turns round."""
        found: dict[str, list[Recording]] = {name: [] for name in openers}
        for number in range(self.times.rounds):
            names = list(openers) if number % 2 == 0 else list(reversed(openers))
            for name in names:
                tell(f"  round {number + 1} of {self.times.rounds}: {name}")
                with openers[name]() as session:
                    found[name].append(
                        drive_saturated(
                            session,
                            (requests or self.requests)(),
                            warm_up=self.warm_up,
                            measured_ns=round(self.times.round_s * 1e9),
                            clocks=self.clocks,
                        )
                    )
        return found

    @property
    def sustained_fps(self) -> float:
        """The rate at which this machine makes frames now; measured once."""
        if self._sustained is None:
            tell("  the rate that is sustained")
            with self.session(on_late="lossless") as session:
                found = drive_saturated(
                    session,
                    self.requests(),
                    warm_up=self.warm_up,
                    measured_ns=round(self.times.round_s * 1e9),
                    clocks=self.clocks,
                )
            assert found.fps is not None
            self._sustained = found.fps
        return self._sustained

    @property
    def fps(self) -> float:
        """A rate that leaves a margin, 25 at most."""
        return min(FPS_MAX, RATE_SHARE * self.sustained_fps)

    def close(self) -> None:
        """Free the models."""
        self._stack.close()


def still_with_noise(requests: list[gas_rt.Request], noise_rad: float) -> Iterator[gas_rt.Request]:
    """The first pose over and over, each joint off by what a tracker trembles."""
    first, rng = requests[0], np.random.default_rng(0)
    poses = []
    for _ in range(TREMBLES):
        off = rng.uniform(-noise_rad, noise_rad, first.pose.rotations.shape).astype(np.float32)
        pose = gas_rt.Pose(first.pose.rotations + off, first.pose.translation)
        poses.append(gas_rt.Request(pose, first.camera, task=first.task))
    return itertools.cycle(poses)
