"""The model: a bundle that has been loaded; enrols people and streams their avatars."""

from __future__ import annotations

import threading
import warnings
from collections.abc import AsyncIterable, Iterable
from contextlib import ExitStack
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from gas_rt.avatar import Avatar
from gas_rt.body import BodyFit
from gas_rt.core import BackendReport, OnLate, Request, Task
from gas_rt.diffusion import SEED_MAX
from gas_rt.engine import DiffusionConfig, PlanStore, Precision, open_bundle, open_engine
from gas_rt.engine.machine import available_cpus
from gas_rt.enrollment import ModelParts, Progress, enroll
from gas_rt.errors import GasRtWarning, InputError, PlanError, SessionError
from gas_rt.field.bake import BakeConfig
from gas_rt.field.render import RenderMode, check_mode
from gas_rt.performer import Performer
from gas_rt.photo import PictureLike
from gas_rt.settings import check_environment, plan_settings
from gas_rt.stream.assembly import (
    DEFAULT_SPLIT,
    DiffusionRun,
    diffusion_check,
    diffusion_stages,
    field_stages,
    frames_at_once,
    open_ladder,
)
from gas_rt.stream.closing import Closing
from gas_rt.stream.config import SessionConfig
from gas_rt.stream.decoding import field_picture
from gas_rt.stream.frames import FrameStream
from gas_rt.stream.ladder import LadderConfig, RungSource, ScriptedLadder
from gas_rt.stream.pacing import period_of
from gas_rt.stream.recording import Recording, SessionMark
from gas_rt.stream.replay import Replay
from gas_rt.stream.session import Session, Takeover
from gas_rt.stream.stages import Stage
from gas_rt.stream.starvation import Starvation
from gas_rt.stream.turns import Turns
from gas_rt.stream.watched import RecordLike, TraceLike, Watched
from gas_rt.warming import graphs_of, warm_up

__all__ = ["Model", "load"]

FIELD = "field"  # the policy without stage 2, which every bundle can have
THREADS_MAX = 1024


def load(
    name: str | Path = "gas-mini",
    backend: str = "auto",
    threads: int | None = None,
    *,
    precision: Precision = "auto",
    strict: bool = False,
    plans: str | Path | None = None,
) -> Model:
    """Load a bundle: a shipped one by name, or a folder. Every file of it is verified.

    Parameters
    ----------
    backend : ``auto``, ``openvino``, ``onnxruntime``, ``onnxruntime-cuda``,
        ``onnxruntime-tensorrt`` or ``tensorrt``. ``auto`` takes what is fastest here; what it
        took and why is in `Model.backend`.
    threads : budget for kernels and backend together; by default the processors this process
        may run on.
    precision : ``auto`` computes the graphs in bf16 where the processor has it and is not faster
        in fp32; a GPU, and ONNX Runtime, compute in the precision that a bundle was exported in.
    strict : refuse (BackendError) what would else be a fallback that is noted and warned of.
    plans : the folder compiled graphs are kept in for the next start, or ``off``; by default
        GAS_RT_PLANS says so, or else it is the user's cache folder. Where that one can't be used,
        every start compiles anew and ``model.backend.plans`` says why.
    """
    check_environment()
    count = available_cpus() if threads is None else threads
    if not isinstance(count, int) or isinstance(count, bool) or not 1 <= count <= THREADS_MAX:
        raise InputError(f"threads: expected 1..{THREADS_MAX}, got {threads!r}")
    store = _plan_store(plans)
    bundle = open_bundle(name)
    engine = open_engine(
        backend,
        threads=count,
        precision=precision,
        strict=strict,
        store=None if isinstance(store, str) else store,
        denoiser=bundle.denoiser,
    )
    return Model(ModelParts(bundle, engine, threads=count), plans=store)


def _plan_store(plans: str | Path | None) -> PlanStore | str:
    """The plan store, or why there is none.

    A folder that was asked for and may not be trusted is an error. All else that is wrong with a
    store costs compiling at every start, and is said.
    """
    settings = plan_settings(plans)
    if not settings.on:
        return "off"
    try:
        return PlanStore.open(settings.folder, cap_bytes=settings.cap_bytes)
    except PlanError as error:
        if settings.folder is not None and error.field != "unavailable":
            raise
        warnings.warn(
            f"no plan store, graphs are compiled at every start: {error} "
            "(GAS_RT_PLANS names another folder, or 'off')",
            GasRtWarning,
            stacklevel=3,
        )
        return f"none: {error}"


class Model(Closing):
    """A loaded bundle. Get one from `gas_rt.load`; close it, or use ``with``."""

    def __init__(self, parts: ModelParts, *, plans: PlanStore | str = "off") -> None:
        self._parts = parts
        self._plans = plans
        self._sessions: set[Session] = set()
        self._turns = Turns()  # of the sessions on the denoiser
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
        report = self._parts.engine.report
        if isinstance(self._plans, str):
            return replace(report, plans=self._plans)
        if report.plans == "off":  # the backend keeps none
            return report
        return replace(report, plans=self._plans.status)  # as it is now, not when it was opened

    @property
    def policies(self) -> tuple[str, ...]:
        """What can make a session's frames: ``field``, and window policies of the bundle."""
        diffusion = self._parts.bundle.config.diffusion
        known = {FIELD, *(diffusion.policies if diffusion else ())}
        return tuple(p for p in self._parts.bundle.policies if p in known)

    @property
    def default_policy(self) -> str:
        """What a session uses that names no policy."""
        diffusion = self._parts.bundle.config.diffusion
        return diffusion.default_policy if diffusion else FIELD

    def steps(self, policy: str | None = None) -> tuple[int, ...]:
        """The numbers of denoising steps a policy can take, fewest first; none for the field.

        Those below the bundle's own are rungs of the ladder; see docs/streaming.md.
        """
        policy = self._checked_policy(policy)
        diffusion = self._parts.bundle.config.diffusion
        return () if diffusion is None or policy == FIELD else diffusion.steps(policy)

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
            else every pixel that is not black. How far it reaches from the fitted body decides
            how far off hips and legs the avatar has anything (`Avatar.radius_m`).
        progress : is told the share done in [0, 1] and what is being done.
        """
        self._require_open()
        fit = body_fit if isinstance(body_fit, BodyFit) else BodyFit.load(body_fit)
        return enroll(self._parts, image, fit, mask, config=bake or BakeConfig(), progress=progress)

    def open_avatar(self, path: str | Path) -> Avatar:
        """Read an avatar file, refusing one of another bundle before its tensors are read."""
        return Avatar.open(path, bundle=self._parts.bundle)

    def warm_up(
        self,
        policies: Iterable[str] | None = None,
        *,
        enroll: bool = False,
        progress: Progress | None = None,
        cancel: threading.Event | None = None,
    ) -> None:
        """Load the graphs that sessions of `policies` need, so that opening one takes no time.

        Takes seconds on a processor, minutes on a GPU whose graphs were never compiled there.

        Parameters
        ----------
        policies : by default the model's own.
        enroll : load what enrolment needs too.
        progress : is told the share done in [0, 1] and what is being done.
        cancel : an event that ends the warm-up from another thread, before the next graph (with
            TensorRT also within one): `BuildCancelledError`. The model stays usable, and what is
            loaded by then stays loaded.
        """
        self._require_open()
        wanted = [self._checked_policy(p) for p in policies or [self.default_policy]]
        self._warm(wanted, enroll=enroll, progress=progress, cancel=cancel)

    def performer(self, avatar: Avatar, *, mode: RenderMode = "fast") -> Performer:
        """Poses and renders single frames of an avatar, without a session."""
        self._require_open()
        return Performer(self._parts, avatar, mode=mode)

    def session(
        self,
        avatar: Avatar,
        *,
        policy: str | None = None,
        steps: int | None = None,
        seed: int = 0,
        task: Task = "pose",
        fps: float = 25.0,
        on_late: OnLate = "freshest",
        mode: RenderMode = "fast",
        half_field: bool = False,
        skip_below_rad: float = 0.0,
        ladder: bool | LadderConfig | None = None,
        max_age_ms: float | None = None,
        resample: bool = False,
        starvation: bool | Starvation = False,
        pipelined: bool = True,
        split: str | None = None,
        noise_period: int | None = None,
        trace: TraceLike = None,
        record: RecordLike = None,
        progress: Progress | None = None,
        cancel: threading.Event | None = None,
    ) -> Session:
        """Open a live session. Its graphs are compiled, and have run once, when this returns.

        Parameters
        ----------
        policy : what makes the frames; ``model.policies`` lists what there is, the bundle names
            one for when none is given. ``parity`` needs the whole clip and so ``lossless``.
        steps : of denoising per frame, one of ``model.steps(policy)``; by default the bundle's.
        seed : what the noise of a frame is made from, together with its index.
        task : what requests show that don't say it: ``view`` or ``pose``.
        fps : the rate frames are wanted at.
        on_late : ``freshest``, ``lossless`` or ``paced``.
        mode : how the field is rendered: ``fast``, ``baked`` or ``exact``.
        half_field : renders the field at half the resolution and upsamples it.
        skip_below_rad : a pose in which no joint turned by more counts as the one before.
        ladder : how late frames are answered: by fewer steps, the field, a held frame, and back
            up; True or None for its defaults, False waits for each frame. Never on in
            ``lossless``, whose frames do not depend on timing.
        max_age_ms : poses and frames older than this are dropped.
        resample : makes frames at `fps` from poses of any rate, interpolated between two of them;
            costs the age of one pose interval. Not in ``lossless``.
        starvation : what the avatar does when poses stop, which needs `resample`: True holds,
            breathes and comes back smoothly; False, the default, makes no frames.
        pipelined : False runs all stages on one thread, to measure what overlap brings.
        split : which stages share a thread, as ``body+condition|denoise|decode``, the default of
            a diffusion policy; the field's stages are ``body|field``.
        noise_period : frames this far apart share their noise; 20 is the release's habit.
        trace : True records what happens when, in ``session.trace``; a path also writes it there
            as the session closes, for Perfetto.
        record : a path writes there, as the session closes, what was decided in it, from which
            `replay` makes the same frames; True keeps that in ``session.record`` alone.
        progress, cancel : of loading what is not loaded yet, as of `warm_up`.

        The field takes no steps and no noise: it has the same picture whatever they are.
        """
        self._require_open()
        if not 0 <= skip_below_rad <= np.pi:
            raise InputError(f"skip_below_rad: expected 0 to pi, got {skip_below_rad!r}")
        run = self._run(policy, steps, task=task, seed=seed, noise_period=noise_period)
        diffusion = self._parts.bundle.config.diffusion if run.policy != FIELD else None
        config = SessionConfig(
            policy=run.policy,
            steps=run.steps,
            seed=run.seed,
            task=task,
            fps=fps,
            on_late=on_late,
            pipelined=pipelined,
            split=DEFAULT_SPLIT if split is None and diffusion else split,
            burst=frames_at_once(diffusion, run) if diffusion else 1,
            ladder=_ladder_config(ladder, on_late=on_late),
            max_age_ms=max_age_ms,
            resample=resample,
            starvation=Starvation() if starvation is True else starvation or None,
        )
        check = None
        if diffusion:
            steps_of = diffusion.steps(run.policy) if run.policy != "parity" else (run.steps,)
            check = diffusion_check(run.policy, on_late=on_late, steps=steps_of)
        shared = None
        if config.ladder is not None:
            shared = open_ladder(diffusion, run, period_ns=period_of(fps), config=config.ladder)

        def performed(performer: Performer) -> Takeover:
            stages = self._stages(performer, run, shared, skip_below_rad=skip_below_rad)
            return Takeover(stages, performer.camera_problems)

        def takeover(avatar: Avatar) -> Takeover:
            return performed(Performer(self._parts, avatar, mode=mode, half_field=half_field))

        def closing(session: Session) -> None:
            self._forget(session)
            watched.write(name=run.policy)

        performer = Performer(self._parts, avatar, mode=mode, half_field=half_field)
        self._warm([run.policy], progress=progress, cancel=cancel)
        mark = partial(self._mark, performer, run, fps=config.fps, skip_below_rad=skip_below_rad)
        watched = Watched(trace, record, mark=mark)
        made = performed(performer)
        session = Session(
            made.stages,
            config,
            backend=self.backend,
            camera_problems=made.camera_problems,
            check_request=check,
            on_close=closing,
            ladder=shared,
            field_of=field_picture,
            takeover=takeover,
            watchers=watched.watchers,
        )
        with self._lock:
            closed = self._closed
            if not closed:
                self._sessions.add(session)
        if closed:  # by another thread, while this one loaded
            session.close()
            self._require_open()
        return session

    def stream(
        self,
        avatar: Avatar,
        requests: Iterable[Request] | AsyncIterable[Request],
        *,
        seed: int = 0,
        steps: int | None = None,
        policy: str | None = None,
        task: Task = "pose",
        fps: float = 25.0,
        on_late: OnLate = "lossless",
        mode: RenderMode = "fast",
        half_field: bool = False,
        skip_below_rad: float = 0.0,
        ladder: bool | LadderConfig | None = None,
        max_age_ms: float | None = None,
        resample: bool = False,
        starvation: bool | Starvation = False,
        noise_period: int | None = None,
    ) -> FrameStream:
        """Frames for requests, offline or live, as they are ready; ``for`` or ``async for``.

        Arguments are those of `session`.
        """
        session = self.session(
            avatar,
            policy=policy,
            steps=steps,
            seed=seed,
            task=task,
            fps=fps,
            on_late=on_late,
            mode=mode,
            half_field=half_field,
            skip_below_rad=skip_below_rad,
            ladder=ladder,
            max_age_ms=max_age_ms,
            resample=resample,
            starvation=starvation,
            noise_period=noise_period,
        )
        try:
            return FrameStream(session, requests)
        except BaseException:
            session.close()
            raise

    def replay(self, avatar: Avatar, recording: Recording | str | Path) -> Replay:
        """The frames that a recorded session handed out, made again.

        On the machine, and with the backend and the threads, that it was recorded on, they are
        the same to the bit; `Replay.differing` tells where they are not. `GasRtWarning` says
        what is not as it was. Raises `FileError` for a recording of another bundle or avatar.
        """
        self._require_open()
        if not isinstance(recording, Recording):
            recording = Recording.open(recording)
        recording.check(self._parts.bundle, avatar)
        said = recording.session
        run = self._run(
            said.policy,
            said.steps or None,
            task=said.task,
            seed=said.seed,
            noise_period=said.noise_period,
        )
        diffusion = self._parts.bundle.config.diffusion if run.policy != FIELD else None
        ladder = None
        if diffusion is not None:
            field = 0  # of a clip, which has no ladder
            if run.policy != "parity":
                period_ns = period_of(said.fps)
                field = open_ladder(
                    diffusion, run, period_ns=period_ns, config=LadderConfig()
                ).field
                ladder = ScriptedLadder({a.index: a.rung for a in recording.admitted}, field=field)
            _check_steps(recording, diffusion, run, field=field)
        performer = Performer(
            self._parts, avatar, mode=check_mode(said.mode), half_field=said.half_field
        )
        skip = said.skip_below_rad
        said.warn_of_differences(self._mark(performer, run, fps=said.fps, skip_below_rad=skip))
        return Replay(recording, self._stages(performer, run, ladder, skip_below_rad=skip))

    def info(self) -> dict[str, Any]:
        """What is loaded, as plain values."""
        bundle = self._parts.bundle
        return {
            "bundle": bundle.name,
            "version": bundle.version,
            "fingerprint": bundle.fingerprint,
            "policies": list(self.policies),
            "default_policy": self.default_policy,
            "resolution": self.resolution,
            "threads": self._parts.threads,
            "backend": vars(self.backend).copy(),
        }

    def close(self) -> None:
        """End every session and free the engine. May be repeated."""
        with ExitStack() as closing:  # one that cannot write its trace keeps no other open
            closing.callback(self._parts.close)
            with self._lock:
                self._closed = True
                for session in self._sessions:
                    closing.callback(session.close)

    def _stages(
        self,
        performer: Performer,
        run: DiffusionRun,
        ladder: RungSource | None,
        *,
        skip_below_rad: float,
    ) -> list[Stage]:
        parts = self._parts
        if run.policy == FIELD:
            return field_stages(
                performer.rig,
                performer.render,
                threads=parts.threads,
                skip_below_rad=skip_below_rad,
            )
        return diffusion_stages(
            performer.avatar,
            performer.rig,
            performer.render,
            config=parts.bundle.config,
            graph=parts.warm_graph,
            run=run,
            threads=parts.threads,
            ladder=ladder,
            turns=self._turns,
            skip_below_rad=skip_below_rad,
        )

    def _warm(
        self,
        policies: Iterable[str],
        *,
        enroll: bool = False,
        progress: Progress | None,
        cancel: threading.Event | None,
    ) -> None:
        graphs = graphs_of(self._parts.bundle.config, policies, enroll=enroll)
        store = None if isinstance(self._plans, str) else self._plans
        warm_up(self._parts, graphs, store=store, progress=progress, cancel=cancel)

    def _mark(
        self, performer: Performer, run: DiffusionRun, *, fps: float, skip_below_rad: float
    ) -> SessionMark:
        return SessionMark.of(
            self._parts.bundle,
            performer.avatar,
            run,
            mode=performer.mode,
            half_field=performer.half_field,
            skip_below_rad=skip_below_rad,
            fps=fps,
            threads=self._parts.threads,
            backend=self._parts.engine.report,
        )

    def _run(
        self,
        policy: str | None,
        steps: int | None,
        *,
        task: Task,
        seed: int,
        noise_period: int | None,
    ) -> DiffusionRun:
        """What a session asks for, checked; the field asks for no steps."""
        policy = self._checked_policy(policy)
        limits = (
            ("steps", 1 if steps is None else steps, 1, ""),
            ("seed", seed, 0, " and at most 2^64−1"),
            ("noise_period", 1 if noise_period is None else noise_period, 1, ""),
        )
        for name, value, low, end in limits:
            whole = isinstance(value, int) and not isinstance(value, bool)
            if not whole or value < low or (name == "seed" and value > SEED_MAX):
                raise InputError(
                    f"{name}: expected a whole number of at least {low}{end}, got {value!r}"
                )
        diffusion = self._parts.bundle.config.diffusion
        if policy == FIELD or diffusion is None:
            return DiffusionRun(policy, 0, task, seed, noise_period)
        steps = diffusion.usual_steps(policy) if steps is None else steps
        diffusion.schedule(policy, steps=steps)
        return DiffusionRun(policy, steps, task, seed, noise_period)

    def _checked_policy(self, policy: str | None) -> str:
        policy = self.default_policy if policy is None else policy
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


def _check_steps(
    recording: Recording, diffusion: DiffusionConfig, run: DiffusionRun, *, field: int
) -> None:
    """Raise unless the policy has the steps and the rungs that frames were made by."""
    have = {run.steps} if run.policy == "parity" else set(diffusion.steps(run.policy))
    for row in recording.admitted:
        steps = row.request.steps
        if steps is not None and steps not in have:
            raise InputError(
                f"recording: frame {row.index} has {steps} steps, policy {run.policy!r} takes "
                f"{', '.join(map(str, sorted(have)))}; record the session again"
            )
        if row.rung > field:
            raise InputError(
                f"recording: frame {row.index} is on rung {row.rung}, the ladder of policy "
                f"{run.policy!r} ends with {field}; record the session again"
            )


def _ladder_config(ladder: bool | LadderConfig | None, *, on_late: OnLate) -> LadderConfig | None:
    """The ladder of a session: on by default, but where every frame is waited for."""
    if isinstance(ladder, LadderConfig):
        return ladder
    if ladder not in (None, True, False):
        raise InputError(f"ladder: expected True, False or a gas_rt.LadderConfig, got {ladder!r}")
    if ladder is None:
        return None if on_late == "lossless" else LadderConfig()
    return LadderConfig() if ladder else None
