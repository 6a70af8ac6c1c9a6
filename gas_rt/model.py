"""The model: a bundle that has been loaded; enrols people and streams their avatars."""

from __future__ import annotations

import threading
from collections.abc import AsyncIterable, Callable, Iterable, Mapping
from functools import partial
from pathlib import Path
from types import TracebackType
from typing import Any

from gas_rt.avatar import Avatar
from gas_rt.body import BodyFit
from gas_rt.cameras import camera_problems
from gas_rt.core import F32, BackendReport, Camera, OnLate, Pose, Request, Task
from gas_rt.engine import Precision, open_bundle, open_engine
from gas_rt.enrollment import ModelParts, Progress, enroll, teacher_for
from gas_rt.errors import InputError, SessionError
from gas_rt.field.bake import BakeConfig
from gas_rt.field.render import RenderMode, check_mode, render_baked, render_exact, to_uint8
from gas_rt.field.rig import PosedRig, Rig
from gas_rt.kernels import PosedShell
from gas_rt.photo import PictureLike
from gas_rt.settings import check_environment
from gas_rt.stream.field_stages import BodyStage, FieldStage
from gas_rt.stream.frames import FrameStream
from gas_rt.stream.report import available_cpus
from gas_rt.stream.session import Session, SessionConfig
from gas_rt.stream.stages import Picture, Stage

__all__ = ["Model", "Performer", "load"]

POLICIES = ("field",)  # that this gas-rt can run; a bundle says which of them it supports
THREADS_MAX = 1024


def load(
    name: str | Path = "gas-mini",
    backend: str = "auto",
    threads: int | None = None,
    *,
    precision: Precision = "auto",
) -> Model:
    """Load a bundle: a shipped one by name, or a folder. Every file of it is verified.

    Parameters
    ----------
    backend : ``auto`` or ``openvino``.
    threads : budget for kernels and backend together; by default the processors this process
        may run on.
    precision : ``auto`` computes the graphs in bf16 where the processor does so in hardware.
    """
    check_environment()
    count = available_cpus() if threads is None else threads
    if not isinstance(count, int) or isinstance(count, bool) or not 1 <= count <= THREADS_MAX:
        raise InputError(f"threads: expected 1..{THREADS_MAX}, got {threads!r}")
    engine = open_engine(backend, threads=count, precision=precision)
    return Model(ModelParts(open_bundle(name), engine, threads=count))


class Performer:
    """One avatar on one model: poses and renders single frames, with nothing in between."""

    def __init__(self, parts: ModelParts, avatar: Avatar, *, mode: RenderMode = "fast") -> None:
        avatar.check_bundle(parts.bundle)
        self._config = parts.bundle.config
        self._threads = parts.threads
        self.avatar = avatar
        self.rig = Rig(parts.body, avatar.betas, radius_m=self._config.shell_radius_m)
        self.mode = check_mode(mode)
        self.render = self._renderer(parts)

    def pose(self, pose: Pose) -> PosedRig:
        """The posed body and its shell."""
        return self.rig.pose(pose, threads=self._threads)

    def picture(self, pose: Pose, camera: Camera) -> Picture:
        """The frame a session would make of this pose and camera."""
        return Picture(*to_uint8(*self.render(self.pose(pose).shell, camera)), "field")

    @property
    def camera_ranges(self) -> Mapping[str, tuple[float, float]]:
        """By name, the lowest and highest value the model saw in training."""
        return self._config.camera_ranges

    def camera_problems(self, camera: Camera, pose: Pose) -> list[str]:
        """What about `camera` lies outside the bundle's ranges."""
        ranges = self._config.camera_ranges
        return camera_problems(camera, pose.translation, ranges=ranges, height_m=self.rig.height_m)

    def _renderer(self, parts: ModelParts) -> Callable[[PosedShell, Camera], tuple[F32, F32]]:
        avatar, samples = self.avatar, self._config.march_samples
        if self.mode == "exact":
            teacher = teacher_for(parts, avatar.features, avatar.betas, avatar.pose, avatar.camera)
            return partial(render_exact, teacher, samples=samples, threads=parts.threads)
        return partial(
            render_baked,
            avatar.field,
            mode=self.mode,
            samples=samples,
            occupancy=avatar.occupancy,
            threads=parts.threads,
        )


class Model:
    """A loaded bundle. Get one from `gas_rt.load`; close it, or use ``with``."""

    def __init__(self, parts: ModelParts) -> None:
        self._parts = parts
        self._sessions: set[Session] = set()
        self._lock = threading.Lock()
        self._closed = False

    @property
    def name(self) -> str:
        """The bundle's name and version."""
        return self._parts.bundle.label

    @property
    def parts(self) -> ModelParts:
        """Bundle, body and engine."""
        return self._parts

    @property
    def backend(self) -> BackendReport:
        """Which backend was asked for and which one runs."""
        return self._parts.engine.report

    @property
    def policies(self) -> tuple[str, ...]:
        """Window policies that both the bundle and this gas-rt support."""
        return tuple(p for p in self._parts.bundle.policies if p in POLICIES)

    @property
    def resolution(self) -> int:
        """Side in pixels of the pictures the model was trained on."""
        return self._parts.bundle.config.resolution

    def enroll(
        self,
        image: PictureLike,
        body_fit: BodyFit | str | Path,
        mask: PictureLike | None = None,
        *,
        progress: Progress | None = None,
        bake: BakeConfig | None = None,
    ) -> Avatar:
        """Make an avatar from one photo and the body fitted to it; takes seconds.

        Parameters
        ----------
        image : path, PIL image or uint8 [H, W, 3 or 4].
        body_fit : the body in the photo, or the path of its ``.npz``.
        mask : path, PIL image, or bool or uint8 [H, W]; by default the photo's alpha channel, or
            else every pixel that is not black.
        progress : is told the share done in [0, 1] and what is being done.
        """
        self._require_open()
        fit = body_fit if isinstance(body_fit, BodyFit) else BodyFit.load(body_fit)
        return enroll(self._parts, image, fit, mask, config=bake or BakeConfig(), progress=progress)

    def open_avatar(self, path: str | Path) -> Avatar:
        """Read an avatar file, refusing one of another bundle before its tensors are read."""
        return Avatar.open(path, bundle=self._parts.bundle)

    def performer(self, avatar: Avatar, *, mode: RenderMode = "fast") -> Performer:
        """Poses and renders single frames of an avatar, without a session."""
        self._require_open()
        return Performer(self._parts, avatar, mode=mode)

    def session(
        self,
        avatar: Avatar,
        *,
        policy: str = "field",
        task: Task = "pose",
        fps: float = 25.0,
        on_late: OnLate = "freshest",
        mode: RenderMode = "fast",
        pipelined: bool = True,
    ) -> Session:
        """Open a live session.

        Parameters
        ----------
        policy : what makes the frames; ``model.policies`` lists what there is.
        task : what requests show that don't say it: ``view`` or ``pose``.
        fps : the rate frames are wanted at.
        on_late : ``freshest``, ``lossless`` or ``paced``.
        mode : how the field is rendered: ``fast``, ``baked`` or ``exact``.
        pipelined : False runs all stages on one thread, to measure what overlap brings.
        """
        self._require_open()
        config = SessionConfig(
            policy=self._checked_policy(policy),
            task=task,
            fps=fps,
            on_late=on_late,
            pipelined=pipelined,
        )
        performer = self.performer(avatar, mode=mode)
        session = Session(
            self._stages(performer),
            config,
            backend=self.backend,
            camera_problems=performer.camera_problems,
            on_close=self._forget,
        )
        with self._lock:
            self._sessions.add(session)
        return session

    def stream(
        self,
        avatar: Avatar,
        requests: Iterable[Request] | AsyncIterable[Request],
        *,
        seed: int = 0,
        steps: int = 4,
        policy: str = "field",
        task: Task = "pose",
        fps: float = 25.0,
        on_late: OnLate = "lossless",
        mode: RenderMode = "fast",
    ) -> FrameStream:
        """Frames for requests, offline or live, as they are ready; ``for`` or ``async for``.

        `seed` and `steps` belong to diffusion policies; the field's picture depends on neither.
        """
        for name, value in (("seed", seed), ("steps", steps)):
            if not isinstance(value, int) or isinstance(value, bool) or value < (name == "steps"):
                raise InputError(f"{name}: expected a whole number, got {value!r}")
        session = self.session(
            avatar, policy=policy, task=task, fps=fps, on_late=on_late, mode=mode
        )
        try:
            return FrameStream(session, requests)
        except BaseException:
            session.close()
            raise

    def info(self) -> dict[str, Any]:
        """What is loaded, as plain values."""
        bundle = self._parts.bundle
        return {
            "bundle": bundle.name,
            "version": bundle.version,
            "fingerprint": bundle.fingerprint,
            "policies": list(self.policies),
            "resolution": self.resolution,
            "threads": self._parts.threads,
            "backend": vars(self.backend).copy(),
        }

    def close(self) -> None:
        """End every session and free the engine. May be repeated."""
        self._closed = True
        with self._lock:
            sessions = list(self._sessions)
        for session in sessions:
            session.close()
        self._parts.engine.close()

    def __enter__(self) -> Model:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.close()

    def _stages(self, performer: Performer) -> list[Stage]:
        threads = self._parts.threads
        return [BodyStage(performer.rig, threads=threads), FieldStage(performer.render)]

    def _checked_policy(self, policy: str) -> str:
        if policy not in self.policies:
            raise InputError(
                f"policy {policy!r}: bundle {self.name} supports "
                f"{', '.join(self.policies) or 'none that this gas-rt can run'}"
            )
        return policy

    def _require_open(self) -> None:
        if self._closed:
            raise SessionError("the model is closed; load it again")

    def _forget(self, session: Session) -> None:
        with self._lock:
            self._sessions.discard(session)
