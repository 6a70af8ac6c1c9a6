"""Baking the field, against the same fit in torch."""

from __future__ import annotations

import itertools
import time
from collections.abc import Iterator
from typing import Any

import numpy as np

from benchmarks.kernels.fields import flop_per_point, points_of
from benchmarks.kernels.people import Setting
from benchmarks.kernels.renders import psnr_db
from benchmarks.kernels.rows import Limit, Row
from benchmarks.kernels.skinning import require_torch
from benchmarks.kernels.timing import Call, interleave
from gas_rt.core import F32
from gas_rt.enrollment import teacher_of
from gas_rt.field.render import render_baked, render_exact
from gas_rt.kernels import FieldTrainer
from gas_rt.kernels.trainer import BETA1, BETA2, COLOUR_WEIGHT, EPSILON

__all__ = ["bake"]

RATIO, MAX_S, MIN_DB = 3.0, 15.0, 30.0
LR = 1e-2
LOSS_TOLERANCE = 1e-4
BATCHES = 8
PASSES = 3  # over the forward pass's work: forward, gradients of inputs, gradients of parameters


def bake(setting: Setting) -> Row:
    """Steps of the fit side by side; the whole of enrolment by itself."""
    torch = require_torch(setting.threads)
    parts, avatar = setting.model.parts, setting.avatar
    enrol_s = setting.enrolment[1]
    teacher = teacher_of(parts, avatar)
    size = setting.bake.batch
    x, d = points_of(setting, BATCHES * size)
    start = time.perf_counter()
    sigma, rgb = teacher.query(x, d)
    asking_s = (time.perf_counter() - start) / len(x) * setting.bake.pool
    batches = [
        tuple(a[k * size : (k + 1) * size] for a in (x, d, sigma, rgb)) for k in range(BATCHES)
    ]
    box = avatar.field.lo, avatar.field.hi
    trainer = FieldTrainer(setting.bake.grid, 0, lo=box[0], hi=box[1], threads=setting.threads)
    peer = TorchTrainer(torch, trainer)
    # Of the first step alone: from there on Adam turns rounding into steps of its own.
    losses = trainer.step(*batches[0], lr=LR), peer.step(*batches[0])
    losses_apart = abs(losses[0] - losses[1]) / losses[1]
    ours_turn, peer_turn = itertools.cycle(batches), itertools.cycle(batches)
    calls = {
        "ours": Call(lambda: trainer.step(*next(ours_turn), lr=LR), 10, warm_up=3),
        "peer": Call(lambda: peer.step(*next(peer_turn)), 1, warm_up=1),
    }
    took = interleave(calls, rounds=2 if setting.quick else 15)
    ours_ms = took["ours"].p50_ms
    quality = list(_against_teacher(setting, teacher))
    flop = PASSES * flop_per_point(setting.bake.grid) * size
    return Row(
        name="bake",
        against=f"the same step in torch {torch.__version__}: autograd and fused Adam",
        threads=setting.threads,
        speed=[
            Limit("times faster", took["peer"].p50_ms / ours_ms, RATIO),
            Limit("seconds to enrol", enrol_s, MAX_S, at_least=False),
            Limit("dB to the teacher, median view", float(np.median(quality)), MIN_DB),
        ],
        correct=[Limit("losses apart, relative", losses_apart, LOSS_TOLERANCE, at_least=False)],
        ours=took["ours"],
        peer=took["peer"],
        peak=setting.peaks.share_of_flops(flop, ours_ms, setting.threads),
        details={
            "points_per_step": size,
            "steps": setting.bake.steps,
            "fit_s": round(ours_ms * setting.bake.steps / 1000, 2),
            "fit_in_torch_s": round(took["peer"].p50_ms * setting.bake.steps / 1000, 2),
            "asking_the_teacher_s": round(asking_s, 2),
            "enrolment_s": round(enrol_s, 2),
            "views_db": [round(db, 2) for db in quality],
        },
    )


class TorchTrainer:
    """The trainer's step in torch, from the trainer's own start."""

    def __init__(self, torch: Any, trainer: FieldTrainer) -> None:
        from benchmarks.kernels.torch_field import TorchField, loss

        self._torch, self._loss = torch, loss
        self._field = TorchField(trainer.field())
        self._optimizer = torch.optim.Adam(
            self._field.parameters(), lr=LR, betas=(BETA1, BETA2), eps=EPSILON, fused=True
        )

    def step(self, *batch: F32) -> float:
        """One step of Adam; the loss before it."""
        given = [self._torch.from_numpy(a) for a in batch]
        self._optimizer.zero_grad(set_to_none=True)
        value = self._loss(self._field, *given, colour_weight=COLOUR_WEIGHT)
        value.backward()
        self._optimizer.step()
        return float(value.detach())


def _against_teacher(setting: Setting, teacher: Any) -> Iterator[float]:
    """dB of the baked field to the teacher over the person's pixels, view by view."""
    shell = setting.shell(threads=setting.threads)
    samples = setting.model.parts.bundle.config.march_samples
    for camera in setting.views(*((48, 1) if setting.quick else (256, 5))):
        exact = render_exact(teacher, shell, camera, samples=samples, threads=setting.threads)
        baked = render_baked(
            setting.avatar.field,
            shell,
            camera,
            mode="baked",
            samples=samples,
            occupancy=None,
            threads=setting.threads,
        )
        seen = (exact[1] > 0.01) | (baked[1] > 0.01)
        yield psnr_db(baked[0][seen], exact[0][seen])
