"""The policies once more, as plain loops over a clip that is wholly known. Written from gas.md."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from itertools import pairwise

import numpy as np

from gas_rt.core import F32
from gas_rt.diffusion import Anchor, FrameSpec, Schedule, frame_noise
from tests.diffusion.toys import SHAPE, Denoiser

CLEAN = 0.002


Shape = tuple[int, int, int]


def start(frame: FrameSpec, sigma: float, shape: Shape = SHAPE) -> F32:
    return noise(frame, shape) * np.float32(np.sqrt(sigma**2 + 1))


def noise(frame: FrameSpec, shape: Shape = SHAPE) -> F32:
    return frame_noise(frame.seed, frame.index, shape=shape)


def held(frame: FrameSpec, later: int) -> FrameSpec:
    return replace(frame, index=frame.index + later)


def call(
    denoiser: Denoiser, slots: Sequence[tuple[FrameSpec, F32, float, float]]
) -> tuple[F32, F32]:
    frames, x, sigma, sigma_next = zip(*slots, strict=True)
    return denoiser(
        np.stack(x), np.array(sigma, np.float32), np.array(sigma_next, np.float32), frames
    )


def parity(
    frames: Sequence[FrameSpec],
    sigmas: Sequence[float],
    denoiser: Denoiser,
    *,
    tile: int,
    overlap: int,
    shape: Shape = SHAPE,
) -> dict[int, F32]:
    count = len(frames)
    if count <= tile:
        windows = [[min(k, count - 1) for k in range(tile)]]
    else:
        windows = [
            [0] + [i + k for k in range(1, tile)]
            for i in range(0, count - tile + 1, tile - overlap)
        ]
        if windows[-1][-1] != count - 1:
            windows.append([0] + [count - tile + k for k in range(1, tile)])
    x = [start(frame, sigmas[0], shape).astype(np.float64) for frame in frames]
    for sigma, sigma_next in pairwise(sigmas):
        total = [np.zeros(shape) for _ in frames]
        weights = [0.0] * count
        for window in windows:
            slots = [(frames[i], x[i].astype(np.float32), sigma, sigma_next) for i in window]
            _, x0 = call(denoiser, slots)
            used = set()
            for k, i in enumerate(window):
                if i in used:
                    continue  # a copy of the last frame
                used.add(i)
                w = (k + 0.5) * 2 / tile
                total[i] += min(w, 2 - w) * x0[k]
                weights[i] += min(w, 2 - w)
        for i in range(count):
            fused = total[i] / weights[i]
            x[i] = x[i] + (sigma_next - sigma) * (x[i] - fused) / sigma
    return {frame.index: x[i].astype(np.float32) for i, frame in enumerate(frames)}


def sequential(
    frames: Sequence[FrameSpec],
    schedule: Schedule,
    denoiser: Denoiser,
    *,
    anchor: Anchor | None,
    renoise: bool = False,
    shape: Shape = SHAPE,
) -> dict[int, F32]:
    w, sigmas = schedule.window, schedule.sigmas
    final: list[tuple[FrameSpec, F32]] = []
    at = 0
    while at < len(frames):
        bare = anchor is None and not final
        size = w.anchor + w.context + w.chunk if bare else w.chunk
        group = list(frames[at : at + size])
        real = len(group)
        group += [held(group[-1], k + 1) for k in range(size - real)]
        x = [start(frame, sigmas[0], shape) for frame in group]
        pinned: list[tuple[FrameSpec, F32]] = []
        if not bare:
            task = group[0].task
            first = final[0] if anchor is None else (anchor.frame, anchor.latent)
            if w.anchor:
                pinned.append((replace(first[0], task=task), first[1]))
            missing = max(0, w.context - len(final))
            for d in range(missing):
                pinned.append((replace(first[0], task=task, index=d - missing - 1), first[1]))
            pinned += final[max(0, len(final) - w.context) :]
        for sigma, sigma_next in pairwise(sigmas):
            slots = [
                (f, z + np.float32(sigma) * noise(f, shape), sigma, sigma_next)
                if renoise
                else (f, z, CLEAN, CLEAN)
                for f, z in pinned
            ]
            slots += [(f, z, sigma, sigma_next) for f, z in zip(group, x, strict=True)]
            x_next, _ = call(denoiser, slots)
            x = list(x_next[len(pinned) :])
        final += list(zip(group, x, strict=True))[:real]
        at += real
    return {frame.index: latent for frame, latent in final}


def diagonal(
    frames: Sequence[FrameSpec],
    schedule: Schedule,
    denoiser: Denoiser,
    *,
    anchor: Anchor | None,
    shape: Shape = SHAPE,
) -> dict[int, F32]:
    w, sigmas = schedule.window, schedule.sigmas
    chunks = -(-len(frames) // w.chunk)
    ticks = chunks + w.steps - 1
    line = list(frames) + [held(frames[-1], k + 1) for k in range(ticks * w.chunk - len(frames))]
    x = [start(frame, sigmas[0], shape) for frame in line]
    for tick in range(ticks):
        low, high = (tick - w.steps + 1) * w.chunk, (tick + 1) * w.chunk
        task = line[max(0, low)].task
        slots = []
        if anchor is not None:
            slots.append((replace(anchor.frame, task=task), anchor.latent, CLEAN, CLEAN))
        for i in range(low - w.context, high):
            level = tick - i // w.chunk
            flies = i >= low
            if i >= 0:
                pair = (sigmas[level], sigmas[level + 1]) if flies else (CLEAN, CLEAN)
                slots.append((line[i], x[i], *pair))
            elif anchor is not None:
                stand_in = replace(anchor.frame, task=task, index=i - 1)
                if flies:
                    noisy = anchor.latent + np.float32(sigmas[level]) * noise(stand_in, shape)
                    slots.append((stand_in, noisy, sigmas[level], sigmas[level + 1]))
                else:
                    slots.append((stand_in, anchor.latent, CLEAN, CLEAN))
            elif tick < w.steps:  # nothing is clean yet
                slots.append((line[0], x[0], sigmas[tick], sigmas[tick + 1]))
            else:
                slots.append((line[0], x[0], CLEAN, CLEAN))
        x_next, _ = call(denoiser, slots)
        for i in range(max(0, low), high):
            x[i] = x_next[len(slots) - (high - i)]
    return {frame.index: x[i] for i, frame in enumerate(frames)}
