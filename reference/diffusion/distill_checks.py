"""What a student reaches, beside its teacher: validation while it trains."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise

import numpy as np
import torch
from torch import Tensor, nn

from gas_rt.diffusion import karras_sigmas
from reference.diffusion import edm
from reference.diffusion.clips import Clips
from reference.diffusion.denoiser import Denoiser
from reference.diffusion.distill import (
    Layout,
    Lesson,
    StudentTraining,
    conditions_of,
    lesson,
    noisy,
    target,
)
from reference.diffusion.student import Student
from reference.diffusion.training import VALIDATION_SEED

__all__ = ["Examination", "spectral_db"]

WINDOWS = 6
TEACHER_STEPS = 25  # the released sampler's
GUIDANCE = 2.0  # the paper's constant, if it is within what the student is trained for


class Examination:
    """Figures of a student on fixed windows; the teacher's answers are computed once.

    ``teacher_db`` is the person-weighted error of the latents that the teacher generates with
    guidance in 25 steps, in dB below 1, ``teacher_spectral_db`` their spectral error. Per number of
    steps K, the student's from the same noise are ``sK_db`` and ``sK_spectral_db``;
    ``sK_teacher_db`` is its distance from the teacher's latents, ``sK_tick_db`` from what the
    teacher would have it predict in one call of a rolling window.
    """

    def __init__(
        self, teacher: Denoiser, clips: Clips, config: StudentTraining, *, windows: int = WINDOWS
    ) -> None:
        self._teacher, self._clips, self._config = teacher, clips, config
        self._windows = windows
        self._place = next(teacher.parameters()).device
        low, high = config.guidance
        self._strength = min(max(GUIDANCE, low), high)
        self._shown: list[tuple[Lesson, Tensor]] | None = None
        self._ticks: dict[int, list[tuple[Lesson, Tensor]]] = {}

    @torch.no_grad()
    def __call__(self, model: nn.Module) -> dict[str, float]:
        """The figures of a student."""
        assert isinstance(model, Student)
        was, figures = model.training, Figures(model)
        model.eval()
        for asked, reached in self._references():
            figures.add("teacher", asked, reached)
            for levels in self._config.sigmas:
                found = sampled(model, asked, [*levels, edm.SIGMA_CLEAN])
                name = f"s{len(levels)}"
                figures.add(name, asked, found)
                figures.add(f"{name}_teacher", asked, found, truth=reached)
        for levels in self._config.sigmas:
            for asked, wanted in self._rolling(levels):
                told = {"guidance": asked.guidance, "sigma_next": asked.sigma_next}
                known = conditions_of(model, asked.batch)
                found = model.x0(noisy(asked.batch), asked.batch.sigma, **told, **known)
                figures.add(f"s{len(levels)}_tick", asked, found, truth=wanted)
        model.train(was)
        return figures.means()

    def _references(self) -> list[tuple[Lesson, Tensor]]:
        """Clips' windows from pure noise, and what the teacher generates of them."""
        if self._shown is None:
            top = max(levels[0] for levels in self._config.sigmas)
            spaced = karras_sigmas(TEACHER_STEPS + 1, sigma_min=edm.SIGMA_CLEAN, sigma_max=top)
            levels = spaced[:-1]
            asked = [self._lesson(k, "parity", (top,)) for k in range(self._windows)]
            self._shown = [(a, sampled(self._teacher, a, levels)) for a in asked]
        return self._shown

    def _rolling(self, levels: Sequence[float]) -> list[tuple[Lesson, Tensor]]:
        """Rolling windows, and what the teacher would have predicted in their step."""
        if len(levels) not in self._ticks:
            asked = [self._lesson(k, "rolling", levels) for k in range(self._windows)]
            substeps = self._config.substeps // len(levels)
            self._ticks[len(levels)] = [
                (a, target(self._teacher, a, noisy(a.batch), substeps=substeps)) for a in asked
            ]
        return self._ticks[len(levels)]

    def _lesson(self, index: int, layout: Layout, levels: Sequence[float]) -> Lesson:
        values = vars(self._config) | {
            "guidance": (self._strength, self._strength),
            "jitter": 0.0,
            "drop_nerf": 0.0,
            "own_context": 0.0,
        }
        config = StudentTraining(**values)
        rng = np.random.default_rng((VALIDATION_SEED, index))
        model = self._teacher.config
        asked = lesson(self._clips, model, config, rng, levels=levels, layouts=[layout])
        batch = asked.batch.to(self._place)
        return Lesson(batch, asked.sigma_next.to(self._place), asked.guidance.to(self._place))


class Figures:
    """Sums of errors by name, of generated latents [B, F, C, h, w]."""

    def __init__(self, model: Denoiser) -> None:
        self._model = model
        self._squared: dict[str, list[float]] = {}
        self._spectral: dict[str, list[float]] = {}

    def add(self, name: str, asked: Lesson, found: Tensor, truth: Tensor | None = None) -> None:
        """What one window adds; against the clip unless a `truth` is given."""
        batch = asked.batch
        shown, wanted = (
            self._model.latents(value, batch.nerf)
            for value in (found, batch.x0 if truth is None else truth)
        )
        weight = (batch.weight / batch.weight.mean())[:, :, None]
        error = float(((shown - wanted) ** 2 * weight).mean())
        self._squared.setdefault(name, []).append(error)
        if truth is None:
            self._spectral.setdefault(name, []).append(spectral_db(shown, wanted))

    def means(self) -> dict[str, float]:
        """All figures in dB."""
        tiny = float(np.finfo(np.float32).tiny)  # a student may equal its teacher
        rows = {
            f"{k}_db": -10 * float(np.log10(max(np.mean(v), tiny)))
            for k, v in self._squared.items()
        }
        return rows | {f"{k}_spectral_db": float(np.mean(v)) for k, v in self._spectral.items()}


def sampled(model: Denoiser, asked: Lesson, levels: Sequence[float]) -> Tensor:
    """What a guided model generates of a window along falling levels, from its noise."""
    batch = asked.batch
    known = conditions_of(model, batch) | {"guidance": asked.guidance}
    x = batch.noise * (levels[0] ** 2 + 1) ** 0.5
    for sigma, sigma_next in pairwise(torch.full_like(batch.sigma, v) for v in levels):
        told = {"sigma_next": sigma_next} if model.told else {}
        x = edm.euler(x, model.guided_x0(x, sigma, **known, **told), sigma, sigma_next)
    return x


def spectral_db(found: Tensor, truth: Tensor) -> float:
    """Mean over frequencies of |10 log10| of the ratio of power spectra; [..., h, w].

    Spectra are means over channels and frames, gathered in rings of one cycle per width.
    """
    powers = []
    for value in (found, truth):
        spectrum = torch.fft.fft2(value.double(), norm="ortho").abs() ** 2
        powers.append(spectrum.flatten(0, -3).mean(0))
    height, width = truth.shape[-2:]
    rows, columns = (torch.fft.fftfreq(n, device=truth.device).abs() for n in (height, width))
    ring = (torch.hypot(rows[:, None], columns) * min(height, width)).round().long().flatten()
    sums = [torch.zeros(int(ring.max()) + 1).to(p).index_add(0, ring, p.flatten()) for p in powers]
    ratio = (sums[0][1:] / sums[1][1:]).clamp_min(1e-12)  # without the mean
    return float((10 * torch.log10(ratio)).abs().mean())
