"""Toy denoisers, frames and a driver for the policies' tests."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence

import numpy as np

from gas_rt.core import F32, Task, Window
from gas_rt.diffusion import (
    ANCHOR_INDEX,
    Anchor,
    Call,
    FrameSpec,
    Schedule,
    WindowPolicy,
    explicit_sigmas,
    karras_sigmas,
)

SHAPE = (2, 2, 3)  # latent: channels, height, width
SEED = 7

# x [F, C, h, w], sigma [F], sigma_next [F], frames → x_next, x0
Denoiser = Callable[[F32, F32, F32, Sequence[FrameSpec]], tuple[F32, F32]]


def per_frame(x: F32, sigma: F32, sigma_next: F32, frames: Sequence[FrameSpec]) -> tuple[F32, F32]:
    """The exact denoiser of a unit-variance latent about each frame's condition."""
    level = sigma[:, None, None, None]
    aim = np.array([frame.handle for frame in frames], np.float32)[:, None, None, None]
    x0 = (x + aim * level**2) / (level**2 + 1)
    return stepped(x, x0, sigma, sigma_next), x0


def mixing(x: F32, sigma: F32, sigma_next: F32, frames: Sequence[FrameSpec]) -> tuple[F32, F32]:
    """Every frame's answer depends on every slot: latent, place, level, guidance, task."""
    level = sigma[:, None, None, None]
    aim = np.array([frame.handle for frame in frames], np.float32)[:, None, None, None]
    task = np.array([1.0 if frame.task == "view" else -1.0 for frame in frames], np.float32)
    guidance = np.array([frame.guidance for frame in frames], np.float32)
    place = (1 + 0.1 * np.arange(len(frames), dtype=np.float32))[:, None, None, None]
    seen = x / np.sqrt(level**2 + 1)
    told = (task * guidance)[:, None, None, None]
    mean = (place * np.tanh(seen + aim + 0.1 * np.log(level) + told)).mean(0, keepdims=True)
    x0 = (0.4 * np.tanh(seen + aim) + 0.6 * mean * place).astype(np.float32)
    return stepped(x, x0, sigma, sigma_next), x0


def stepped(x: F32, x0: F32, sigma: F32, sigma_next: F32) -> F32:
    """EDM's Euler step as the paper writes it: x + (σ_next − σ)·dx/dσ."""
    slope = (x.astype(np.float64) - x0) / sigma[:, None, None, None]
    ahead = (sigma_next.astype(np.float64) - sigma)[:, None, None, None]
    return np.asarray(x + ahead * slope, np.float32)


def clip(
    count: int, *, tasks: Sequence[Task] = ("pose",), stride: int = 1, first: int = 0
) -> list[FrameSpec]:
    """`count` frames with conditions and guidance of their own."""
    return [
        FrameSpec(
            index=first + k * stride,
            handle=float(np.cos(0.7 * (first + k * stride))),
            task=tasks[k % len(tasks)],
            seed=SEED,
            guidance=1.0 + (k % 5) / 4,
        )
        for k in range(count)
    ]


def toy_anchor() -> Anchor:
    rng = np.random.default_rng(3)
    frame = FrameSpec(ANCHOR_INDEX, 0.3, "view", SEED, 1.0)
    return Anchor(frame, rng.normal(size=SHAPE).astype(np.float32))


def schedule(
    *, context: int, chunk: int, steps: int, anchor: int = 1, top: float = 700.0
) -> Schedule:
    sigmas = karras_sigmas(steps, sigma_max=top, last="clean")
    return Schedule(Window(anchor=anchor, context=context, chunk=chunk, steps=steps), sigmas)


def few_steps(*sigmas: float, context: int = 3, chunk: int = 1, anchor: int = 1) -> Schedule:
    window = Window(anchor=anchor, context=context, chunk=chunk, steps=len(sigmas) - 1)
    return Schedule(window, explicit_sigmas(sigmas))


def answer(call: Call, denoiser: Denoiser) -> tuple[F32, F32]:
    return denoiser(call.x, call.sigma, call.sigma_next, call.frames)


def drive(
    policy: WindowPolicy,
    frames: Iterable[FrameSpec],
    denoiser: Denoiser,
    *,
    calls_between: Sequence[int] = (),
    changes: dict[int, Schedule] | None = None,
    watch: Callable[[Call], None] | None = None,
) -> dict[int, F32]:
    """Final latents by index, when `calls_between[k]` calls may run after frame k arrives.

    `changes`: schedule to switch to before the k-th frame.
    """
    finals: dict[int, F32] = {}
    order: list[int] = []

    def run(limit: int | None) -> None:
        while limit is None or limit > 0:
            call = policy.next_call()
            if call is None:
                return
            assert set(call.handles) <= {frame.handle for frame in policy.readable}
            if watch is not None:
                watch(call)
            for final in policy.complete(call, *answer(call, denoiser)):
                finals[final.frame.index] = final.latent
                order.append(final.frame.index)
            limit = None if limit is None else limit - 1

    admitted = []
    for k, frame in enumerate(frames):
        if changes and k in changes:
            policy.change_schedule(changes[k])
        policy.admit(frame)
        admitted.append(frame.index)
        run(calls_between[k] if k < len(calls_between) else 0)
    policy.end()
    run(None)
    assert policy.done
    assert order == admitted, "a frame was lost, repeated or out of order"
    return finals


def assert_same(found: dict[int, F32], expected: dict[int, F32], *, atol: float = 0.0) -> None:
    assert list(found) == list(expected)
    for index, latent in expected.items():
        np.testing.assert_allclose(
            found[index], latent, rtol=0, atol=atol, err_msg=f"frame {index}"
        )
