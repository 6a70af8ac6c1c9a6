"""Which stages make the frames of a policy, and what a request must be for them."""

from __future__ import annotations

from collections.abc import Callable, Hashable
from dataclasses import dataclass

import numpy as np

from gas_rt.avatar import Avatar
from gas_rt.core import F32, OnLate, Request, Task
from gas_rt.diffusion import (
    ANCHOR_INDEX,
    Anchor,
    FrameSpec,
    WindowPolicy,
    guidance_of,
    open_policy,
)
from gas_rt.engine import BundleConfig, DiffusionConfig, Graph
from gas_rt.engine.rungs import calls_per_frame, flight_of
from gas_rt.errors import InputError
from gas_rt.field.rig import Rig
from gas_rt.stream.conditioning import Conditioner, Conditioning, ConditionStage, Render
from gas_rt.stream.decoding import DecodeStage, WindowDecodeStage
from gas_rt.stream.denoising import DenoiseStage, Steps, WindowDenoiser
from gas_rt.stream.field_stages import BodyStage, FieldStage
from gas_rt.stream.ladder import Ladder, LadderConfig, Rung, RungSource, SharedLadder
from gas_rt.stream.stages import Stage
from gas_rt.stream.turns import Turns

__all__ = [
    "CLIP_FRAMES_MAX",
    "DEFAULT_SPLIT",
    "DiffusionRun",
    "diffusion_check",
    "diffusion_stages",
    "field_stages",
    "frames_at_once",
    "open_ladder",
]

# `parity` holds a clip until its end, some 0.2 MB a frame in gas-mini: 0.8 GB, or 160 s at 25 fps.
CLIP_FRAMES_MAX = 4096
# Two cores: what feeds the denoiser keeps up with it on one thread.
DEFAULT_SPLIT = "body+condition|denoise|decode"


@dataclass(frozen=True)
class DiffusionRun:
    """What a session asks of stage 2.

    Attributes
    ----------
    policy, steps : one of the bundle's window policies, and of its step counts.
    task : of requests that don't say it.
    seed : with a frame's index, what its noise is made from.
    noise_period : frames this far apart share their noise; 20 is the release, None never.
    """

    policy: str
    steps: int
    task: Task = "pose"
    seed: int = 0
    noise_period: int | None = None


def field_stages(
    rig: Rig, render: Render, *, threads: int, skip_below_rad: float = 0.0
) -> list[Stage]:
    """The stages whose picture is the field's render."""
    return [BodyStage(rig, threads=threads, skip_below_rad=skip_below_rad), FieldStage(render)]


def diffusion_stages(
    avatar: Avatar,
    rig: Rig,
    render: Render,
    *,
    config: BundleConfig,
    graph: Callable[[str], Graph],
    run: DiffusionRun,
    threads: int,
    ladder: RungSource | None = None,
    turns: Turns | None = None,
    skip_below_rad: float = 0.0,
) -> list[Stage]:
    """The stages of a diffusion policy: what feeds the denoiser, the denoiser, the decoder.

    Every graph is loaded, and the anchor conditioned, before this returns.

    Parameters
    ----------
    render : the field's render at the model's resolution; another one (a black one, say) shows
        what stage 2 makes without the field.
    graph : loads a graph of the bundle by name.
    ladder : the session's, if late frames are to be answered by it; see `open_ladder`. A replay's
        says what was decided.
    turns : who of the model's sessions runs the denoiser; None if there is one session.
    skip_below_rad : as of `BodyStage`.
    """
    diffusion = config.diffusion
    if diffusion is None:
        raise InputError(
            f"policy {run.policy!r}: the bundle has no stage 2; use policy 'field' or load another"
        )
    if avatar.latent is None or avatar.embedding is None:
        raise InputError(
            "avatar: holds no latent and embedding of its photo; enroll the photo again"
        )
    conditioner = Conditioner(
        graph("conditioner"), render, side_px=config.resolution, threads=threads
    )
    policy, pinned = _opened(
        diffusion, avatar, rig=rig, conditioner=conditioner, run=run, threads=threads
    )
    profile = diffusion.policies[run.policy].profile
    unguided = graph(profile.unguided)
    guided = graph(profile.guided) if diffusion.guidance.used and not profile.distilled else None
    denoiser = WindowDenoiser(
        unguided=unguided,
        guided=unguided if profile.distilled else guided,
        reference=avatar.latent[None],
        embedding=avatar.embedding[None],
    )
    scales = diffusion.guidance

    def guidance(task: Task, request: Request) -> float:
        return guidance_of(
            task,
            request.camera,
            avatar.camera,
            pose=scales.pose,
            view_behind=scales.view_behind,
        )

    denoise = DenoiseStage(
        policy,
        denoiser,
        pinned=pinned,
        guidance_of=guidance,
        task=run.task,
        seed=run.seed,
        steps=_steps(diffusion, run),
        ladder=ladder,
        turns=turns,
    )
    feed: list[Stage] = [
        BodyStage(rig, threads=threads, skip_below_rad=skip_below_rad),
        ConditionStage(conditioner),
    ]
    decoder, frames = graph("vae_decoder"), diffusion.decoder_frames
    if frames == 1:
        return [*feed, denoise, DecodeStage(decoder)]
    decode = WindowDecodeStage(decoder, frames=frames, overlap=diffusion.decoder_overlap)
    return [*feed, denoise, decode]


def _steps(diffusion: DiffusionConfig, run: DiffusionRun) -> Steps | None:
    """The schedules that requests and the ladder may change to; a clip has one."""
    if run.policy == "parity":
        return None
    schedules = {n: diffusion.schedule(run.policy, steps=n) for n in diffusion.steps(run.policy)}
    return Steps(run.steps, schedules, _rungs(diffusion, run))


def _rungs(diffusion: DiffusionConfig, run: DiffusionRun) -> tuple[int, ...]:
    """Numbers of steps from the run's downwards, each of which costs less per frame."""
    rungs, cost = [run.steps], _calls(diffusion, run.policy, run.steps)
    for steps in reversed(diffusion.steps(run.policy)):
        less = _calls(diffusion, run.policy, steps)
        if steps < run.steps and less < cost:
            rungs.append(steps)
            cost = less
    return tuple(rungs)


def _calls(diffusion: DiffusionConfig, policy: str, steps: int) -> float:
    return calls_per_frame(policy, diffusion.schedule(policy, steps=steps).window)


def open_ladder(
    diffusion: DiffusionConfig | None,
    run: DiffusionRun,
    *,
    period_ns: int,
    config: LadderConfig,
) -> SharedLadder:
    """A session's ladder; of one that shows the field (`diffusion` None) it has no rungs."""
    rungs = []
    for steps in _rungs(diffusion, run) if diffusion is not None else ():
        assert diffusion is not None
        window = diffusion.schedule(run.policy, steps=steps).window
        held = flight_of(run.policy, window) - 1
        rungs.append(Rung(calls_per_frame(run.policy, window), burst=window.chunk, held=held))
    return SharedLadder(Ladder(rungs, period_ns=period_ns, config=config))


def _opened(
    diffusion: DiffusionConfig,
    avatar: Avatar,
    *,
    rig: Rig,
    conditioner: Conditioner,
    run: DiffusionRun,
    threads: int,
) -> tuple[WindowPolicy, dict[Hashable, F32]]:
    """The policy, and what it reads beside the requests' frames: a live one's anchor."""
    schedule = diffusion.schedule(run.policy, steps=run.steps)
    anchor: Anchor | None = None
    pinned: dict[Hashable, F32] = {}
    if run.policy != "parity" and schedule.window.anchor:
        at_photo, _ = conditioner(rig.pose(avatar.pose, threads=threads), avatar.camera)
        # Never stepped, so never guided.
        frame = FrameSpec(ANCHOR_INDEX, ANCHOR_INDEX, run.task, run.seed, guidance=1.0)
        anchor = Anchor(frame, _generated(diffusion, avatar, at_photo))
        pinned[frame.handle] = at_photo.condition
    policy = open_policy(
        run.policy,
        schedule,
        latent_shape=diffusion.latent_shape,
        anchor=anchor,
        noise_period=run.noise_period,
        context_gain=diffusion.context_gain,
    )
    return policy, pinned


def _generated(diffusion: DiffusionConfig, avatar: Avatar, at_photo: Conditioning) -> F32:
    """[C, h, w]: the photo's latent as stage 2 would generate it at the photo's pose and camera."""
    assert avatar.latent is not None
    if diffusion.residual_std is None:
        return avatar.latent * np.float32(diffusion.latent_scale)
    assert at_photo.base is not None
    scale = diffusion.latent_scale / diffusion.residual_std
    return (avatar.latent - at_photo.base) * np.float32(scale)


def frames_at_once(diffusion: DiffusionConfig, run: DiffusionRun) -> int:
    """How many frames are made together; `parity` gives them out as they are taken."""
    if run.policy == "parity":
        return 1
    found = 1
    for steps in diffusion.steps(run.policy):
        window = diffusion.schedule(run.policy, steps=steps).window
        bare = run.policy == "sequential" and not window.anchor  # begins with a whole window
        together = window.context + window.chunk if bare else window.chunk
        found = max(found, together, diffusion.decoder_frames)
    return found


def diffusion_check(
    policy: str, *, on_late: OnLate, steps: tuple[int, ...]
) -> Callable[[Request, int], None]:
    """What raises unless a request, with so many in flight before it, suits a diffusion policy.

    `steps` : numbers of steps that a request may ask for.
    """
    if policy == "parity" and on_late != "lossless":
        raise InputError(
            f"policy 'parity': needs the whole clip, on_late {on_late!r} drops poses; use "
            "'lossless', or a live policy"
        )

    def check(request: Request, in_flight: int) -> None:
        camera = request.camera
        if camera.width != camera.height:
            raise InputError(
                f"camera: is {camera.width}×{camera.height}, policy {policy!r} makes square "
                "pictures; give a square camera, or use policy 'field'"
            )
        if request.steps is not None and request.steps not in steps:
            raise InputError(
                f"steps: a frame of policy {policy!r} in this session takes "
                f"{', '.join(map(str, steps))}, got {request.steps!r}"
            )
        if policy == "parity" and in_flight >= CLIP_FRAMES_MAX:
            raise InputError(
                f"policy 'parity': holds the clip until its end, at most {CLIP_FRAMES_MAX} "
                "frames; finish() and begin another clip, or use policy 'sequential'"
            )

    return check
