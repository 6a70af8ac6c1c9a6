"""The runtime itself: cases pushed through a session of a bundle, as fast as it takes them."""

from __future__ import annotations

import time
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from gas_rt.avatar import Avatar
from gas_rt.core import Camera, Request, Task
from gas_rt.kernels import PosedShell
from gas_rt.stream.assembly import DiffusionRun, diffusion_stages, frames_at_once
from gas_rt.stream.config import SessionConfig
from gas_rt.stream.play import play, recorder_for
from gas_rt.stream.session import Session
from reference.evaluate.cases import Case
from reference.evaluate.fields import Avatars
from reference.evaluate.shown import Shown

__all__ = ["Streamed"]

F32 = NDArray[np.float32]
FPS = 25.0


@dataclass(frozen=True, eq=False)
class Streamed:
    """Shows cases as a lossless session's frames.

    Attributes
    ----------
    policy, steps : as of ``model.session``, but resolved; the field has 0 steps.
    nerf : False gives stage 2 black in place of the field's renders.
    half_field, skip_below_rad : savings of ``model.session``, to see what they cost.
    """

    avatars: Avatars
    policy: str
    steps: int
    seed: int = 0
    nerf: bool = True
    half_field: bool = False
    skip_below_rad: float = 0.0

    def __call__(self, case: Case) -> Shown:
        """Every frame of a case, from a session of its own."""
        pairs = zip(case.poses, case.cameras, strict=True)
        requests = [Request(pose, camera, task=case.task) for pose, camera in pairs]
        pictures = np.zeros(case.rgb.shape, np.float32)
        given, first_s, first_poses = 0, 0.0, 0

        def counted() -> Iterator[Request]:
            nonlocal given
            for request in requests:
                given += 1
                yield request

        with self._session(self.avatars.of(case), case.task) as session:
            recorder = recorder_for(session, case.task)
            begin = time.perf_counter()
            for frame in play(session, counted(), recorder=recorder, live=False):
                pictures[frame.index] = frame.rgb.astype(np.float32) / 255
                if not first_poses:
                    first_s, first_poses = time.perf_counter() - begin, given
            seconds = time.perf_counter() - begin
        return Shown(pictures, first_s, first_poses, seconds, levels=dict(recorder.levels))

    def _session(self, avatar: Avatar, task: Task) -> Session:
        model = self.avatars.model
        if self.nerf:
            steps = self.steps or None
            return model.session(
                avatar,
                policy=self.policy,
                steps=steps,
                seed=self.seed,
                task=task,
                fps=FPS,
                on_late="lossless",
                half_field=self.half_field,
                skip_below_rad=self.skip_below_rad,
            )
        parts, bundled = model.parts, model.parts.bundle.config
        assert bundled.diffusion is not None
        run = DiffusionRun(self.policy, self.steps, task, self.seed)
        stages = diffusion_stages(
            avatar,
            model.performer(avatar).rig,
            _nothing,
            config=bundled,
            graph=parts.warm_graph,
            run=run,
            threads=parts.threads,
        )
        config = SessionConfig(
            policy=self.policy,
            steps=self.steps,
            seed=self.seed,
            task=task,
            fps=FPS,
            on_late="lossless",
            burst=frames_at_once(bundled.diffusion, run),
        )
        return Session(stages, config, backend=model.backend)


def _nothing(_: PosedShell, camera: Camera) -> tuple[F32, F32]:
    """No field: black, and covering nothing."""
    shape = (camera.height, camera.width)
    return np.zeros((*shape, 3), np.float32), np.zeros(shape, np.float32)
