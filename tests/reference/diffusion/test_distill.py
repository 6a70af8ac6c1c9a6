"""The few-step student: what it is told, what it is asked, and that it learns it."""

from __future__ import annotations

import json
from dataclasses import replace
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest
import torch

from reference.diffusion import edm
from reference.diffusion.checkpoint import open_checkpoint
from reference.diffusion.clips import Clips
from reference.diffusion.denoiser import Denoiser, DenoiserStep
from reference.diffusion.distill import (
    PRESETS,
    StudentTraining,
    conditions_of,
    draw,
    for_teacher,
    lesson,
    losses,
    noisy,
    target,
    train,
    window,
)
from reference.diffusion.distill_checks import sampled, spectral_db
from reference.diffusion.pipeline import generate
from reference.diffusion.student import Student, start_as
from reference.diffusion.training import PRESETS as TEACHERS
from reference.diffusion.training import train as train_teacher
from reference.diffusion.windows import ANCHOR
from reference.train import main

MODEL, TEACHING = TEACHERS["tiny"]
CONFIG = PRESETS["tiny"]


@pytest.fixture(scope="module")
def teacher(shards: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("teacher")
    train_teacher(MODEL, TEACHING, data=shards, out=out, validate_every=0)
    return out / "checkpoint.pt"


def told_something(model: Student) -> Student:
    torch.manual_seed(5)
    torch.nn.init.normal_(model.told_embedding.linear_2.weight, std=0.5)
    return model.eval().requires_grad_(False)


def asked(shards: Path, config: StudentTraining = CONFIG, seed: int = 0, **more):
    clips = Clips(shards, split="train")
    options = {"levels": config.sigmas[0], "layouts": ["rolling"] * 2} | more
    return lesson(clips, MODEL, config, np.random.default_rng(seed), **options)


def test_a_student_starts_as_its_teacher_without_guidance(denoiser: Denoiser, shards: Path) -> None:
    student = start_as(denoiser).eval()
    step = asked(shards)
    x, sigma, known = noisy(step.batch), step.batch.sigma, conditions_of(denoiser, step.batch)
    for guidance in (1.0, 2.5):
        told = {
            "guidance": torch.full_like(sigma, guidance),
            "sigma_next": torch.zeros_like(sigma),
        }
        torch.testing.assert_close(
            student.x0(x, sigma, **told, **known), denoiser.x0(x, sigma, **known)
        )


def test_guidance_and_the_end_of_a_step_are_told_per_frame(
    denoiser: Denoiser, shards: Path
) -> None:
    student = told_something(start_as(denoiser))
    step = asked(shards)
    x, sigma, known = noisy(step.batch), step.batch.sigma, conditions_of(student, step.batch)
    told = {"guidance": torch.ones_like(sigma), "sigma_next": sigma / 2}
    before = student.unet
    embedded: list[torch.Tensor] = []

    def keep(module: torch.nn.Module, given: tuple, out: torch.Tensor) -> None:
        embedded.append(out)

    handle = student.told_embedding.register_forward_hook(keep)
    plain = student.x0(x, sigma, **told, **known)
    for name in told:
        other = told | {name: told[name].clone()}
        other[name][:, -1] *= 1.7
        assert not torch.equal(student.x0(x, sigma, **other, **known), plain), name
    handle.remove()
    assert student.unet is before
    for changed in embedded[1:]:
        same = (changed == embedded[0]).flatten(2).all(-1)
        assert same[:, :-1].all()
        assert not same[:, -1].any()


def test_windows_are_the_shipped_layouts() -> None:
    config = StudentTraining(jitter=0.0)
    rng = np.random.default_rng(0)
    for levels in config.sigmas:
        steps, chunk = len(levels), 4 // len(levels)
        made, ends = window(config, "rolling", levels, rng, length=24)
        assert len(made.frames) == 8
        flight = np.repeat(np.float32(levels[::-1]), chunk)
        np.testing.assert_allclose(made.sigma[4:], flight)
        following = np.repeat(np.float32([*levels[1:], edm.SIGMA_CLEAN])[::-1], chunk)
        np.testing.assert_allclose(ends[4:], following)
        np.testing.assert_array_equal(ends[:4], made.sigma[:4])  # pinned frames stay
        assert (made.sigma[:4] <= 0.2).all()
        seen = set()
        for _ in range(40):
            made, ends = window(config, "sequential", levels, rng, length=24)
            assert len(set(made.sigma[4:])) == len(set(ends[4:])) == 1
            seen.add(float(made.sigma[-1]))
        assert len(seen) == steps
        made, ends = window(config, "parity", levels, rng, length=24)
        assert len(made.frames) == 20
        assert (ends < made.sigma).all()


def test_batches_depend_on_seed_and_step_alone_and_have_every_layout(shards: Path) -> None:
    clips = Clips(shards, split="train")
    lengths = set()
    for step in range(12):
        (first, substeps), (again, _) = (draw(clips, MODEL, CONFIG, step) for _ in range(2))
        for a, b in zip(first.batch, again.batch, strict=True):
            assert torch.equal(a, b)
        assert torch.equal(first.guidance, again.guidance)
        assert torch.equal(first.sigma_next, again.sigma_next)
        assert (first.batch.keep == 1).all()  # the branch without a picture is the guidance's
        moving = first.sigma_next < first.batch.sigma
        assert torch.equal(moving, first.batch.weight.amax((2, 3)) > 0)
        lengths.add((len(set(first.batch.sigma[0][moving[0]].tolist())), substeps))
    assert lengths == {(2, 2), (1, 2), (1, 4)}


def test_guidance_of_views_is_a_function_of_the_angle(shards: Path) -> None:
    clips = Clips(shards, split="train")
    config = replace(CONFIG, guidance=(2.0, 2.0))
    triangle = 1 + np.linspace(0, 1, clips.length)  # the toy clips' azimuth is even
    for share, wanted in ((1.0, triangle), (0.0, np.full(clips.length, 2.0))):
        one = replace(config, view_share=share)
        rng = np.random.default_rng(3)
        found = lesson(clips, MODEL, one, rng, levels=(10.0, 1.0), layouts=["rolling"] * 4)
        again = np.random.default_rng(3)
        frames = [window(one, "rolling", (10.0, 1.0), again, length=clips.length) for _ in range(4)]
        for row, (made, _) in zip(found.guidance.numpy(), frames, strict=True):
            expected = np.where(made.frames == ANCHOR, 1.0, wanted[np.maximum(made.frames, 0)])
            np.testing.assert_allclose(row, expected, rtol=1e-6)


def test_the_target_is_where_the_guided_teacher_goes(denoiser: Denoiser, shards: Path) -> None:
    step = asked(shards)
    step = step._replace(guidance=torch.full_like(step.guidance, 2.0))
    x, sigma = noisy(step.batch), step.batch.sigma
    wanted = target(denoiser, step, x, substeps=3)
    stopped = edm.euler(x, wanted, sigma, step.sigma_next)
    known, at = conditions_of(denoiser, step.batch), x
    levels = [
        torch.where(
            sigma == step.sigma_next,
            sigma,
            torch.lerp(sigma ** (1 / 7), step.sigma_next ** (1 / 7), k / 3) ** 7,
        )
        for k in range(4)
    ]
    for a, b in pairwise(levels):
        x0 = denoiser.guided_x0(at, a, guidance=step.guidance, **known)
        at = edm.euler(at, x0, a, b)
    moving = sigma != step.sigma_next
    torch.testing.assert_close(stopped[moving], at[moving], rtol=1e-3, atol=1e-3)
    torch.testing.assert_close(stopped[~moving], x[~moving])
    one = target(denoiser, step, x, substeps=1)
    x0 = denoiser.guided_x0(x, sigma, guidance=step.guidance, **known)
    torch.testing.assert_close(one[moving], x0[moving], rtol=1e-3, atol=1e-3)


def test_a_student_that_predicts_the_target_has_no_loss(
    denoiser: Denoiser, shards: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    step = asked(shards, replace(CONFIG, own_context=0.0))
    student = start_as(denoiser)
    alone = {"teacher": denoiser, "substeps": 1}
    unguided = step._replace(guidance=torch.ones_like(step.guidance))
    assert losses(student, unguided, **alone)[1]["loss"] < 1e-6
    guided = step._replace(guidance=torch.full_like(step.guidance, 2.5))
    assert losses(student, guided, **alone)[1]["loss"] > 1e-4


def test_it_learns_guidance_and_steps(denoiser: Denoiser, shards: Path) -> None:
    """A few dozen steps on fixed lessons: nearer to the teacher's steps than where it began."""
    torch.manual_seed(0)
    student = start_as(denoiser).requires_grad_(True)
    lessons = [asked(shards, seed=k, layouts=["rolling"] * 4) for k in range(2)]
    optimiser = torch.optim.Adam(student.parameters(), lr=2e-3)
    curve = []
    for k in range(40):
        loss, _ = losses(student, lessons[k % 2], teacher=denoiser, substeps=4)
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
        curve.append(float(loss.detach()))
    assert np.mean(curve[-4:]) < 0.5 * np.mean(curve[:4])
    assert student.told_embedding.linear_2.weight.abs().max() > 0


def test_training_resumes_to_the_same_weights_and_tells_how_it_does(
    shards: Path, teacher: Path, tmp_path: Path
) -> None:
    options = {"teacher": teacher, "data": shards}
    whole = train(CONFIG, out=tmp_path / "whole", validate_every=4, **options)
    train(CONFIG, out=tmp_path / "cut", stop_at=2, validate_every=0, **options)
    resumed = train(CONFIG, out=tmp_path / "cut", validate_every=0, **options)
    assert resumed.step == whole.step == CONFIG.steps
    for name, value in whole.mean.state_dict().items():
        assert torch.equal(resumed.mean.state_dict()[name], value), name
    row = json.loads((tmp_path / "whole" / "curve.jsonl").read_text().splitlines()[-1])
    for steps in (2, 1):
        for figure in ("db", "teacher_db", "tick_db", "spectral_db"):
            assert np.isfinite(row[f"s{steps}_{figure}"]), (steps, figure)
    assert {"teacher_db", "teacher_spectral_db"} <= set(row)

    model, about = open_checkpoint(tmp_path / "cut" / "checkpoint.pt")
    assert isinstance(model, Student)
    assert about["teacher"]["step"] == TEACHING.steps
    assert about["train"]["sigmas"] == [[10.0, 1.0], [10.0]]
    with pytest.raises(ValueError, match="another configuration"):
        train(replace(CONFIG, lr=1.0), out=tmp_path / "cut", **options)
    own = tmp_path / "cut" / "checkpoint.pt"
    with pytest.raises(ValueError, match="is a student"):
        train(CONFIG, out=tmp_path / "x", teacher=own, data=shards)


def test_the_command_takes_lists_of_levels(shards: Path, teacher: Path, tmp_path: Path) -> None:
    places = ["--data", str(shards), "--out", str(tmp_path), "--teacher", str(teacher)]
    lists = ["--sigmas", "8,2", "--sigmas", "9"]
    assert main(["student", "--config", "tiny", "--steps", "1", *places, *lists]) == 0
    _, about = open_checkpoint(tmp_path / "checkpoint.pt")
    assert about["train"]["sigmas"] == [[8.0, 2.0], [9.0]]
    with pytest.raises(SystemExit):
        main(["student", *places, "--sigmas", "high,low"])


def test_a_students_windows_are_its_teachers(shards: Path, teacher: Path, tmp_path: Path) -> None:
    other = replace(CONFIG, windows=replace(CONFIG.windows, context=2))
    with pytest.raises(ValueError, match="other windows"):
        train(other, teacher=teacher, data=shards, out=tmp_path)
    assert for_teacher(other, teacher) == CONFIG


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"sigmas": ((40.0, 10.0, 3.0),), "shares": (1.0,)}, "3 steps divide neither the 4"),
        ({"sigmas": ((40.0,), (30.0,)), "shares": (1.0, 1.0)}, "one list and one share"),
        ({"sigmas": ((4.0, 10.0),), "shares": (1.0,)}, "must fall"),
        ({"guidance": (2.0, 1.0)}, "is no range"),
        ({"live_batch": 3}, "cannot be shared"),
        ({"substeps": 6}, "substeps evenly"),
    ],
)
def test_impossible_students_are_refused(change: dict, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        StudentTraining(**change)


def test_a_clip_is_generated_by_few_told_steps(denoiser: Denoiser) -> None:
    """The offline sampler tells each step where it ends; one window is `sampled`'s recurrence."""
    student = told_something(start_as(denoiser))
    rng = torch.Generator().manual_seed(0)
    shape, frames = (4, 4, 4), 4
    noise = torch.randn(frames, *shape, generator=rng)
    nerf = torch.randn(frames, *shape, generator=rng)
    normals = torch.rand(frames, 3, 32, 32, generator=rng)
    switcher = torch.tensor([[0.0, 1.0]]).repeat(frames, 1)
    guidance = torch.linspace(1, 2, frames)
    reference, embedding = torch.randn(1, *shape, generator=rng), torch.randn(1, 16, generator=rng)
    found = generate(
        student,
        reference=reference,
        embedding=embedding,
        nerf_latents=nerf,
        normals=normals,
        switcher=switcher,
        guidance=guidance,
        noise=noise,
        sigmas=torch.tensor([10.0, 1.0, 0.0]),
        tile=4,
        overlap=1,
    )
    step = DenoiserStep(student, guided=False)
    assert step.guided
    condition = student.condition(nerf[None], normals[None])[0]
    x = noise * 101**0.5
    for sigma, sigma_next in ((10.0, 1.0), (1.0, 0.0)):
        pair = torch.full((frames,), sigma), torch.full((frames,), sigma_next)
        x, _ = step(x, *pair, reference, embedding, condition, switcher, guidance)
    torch.testing.assert_close(found, student.latents(x, nerf))


def test_spectral_error_sees_blur_and_not_place() -> None:
    torch.manual_seed(0)
    truth = torch.randn(2, 4, 16, 16)
    assert spectral_db(truth, truth) == 0
    assert spectral_db(truth.roll(3, -1), truth) == pytest.approx(0, abs=1e-5)
    assert spectral_db(truth * 2, truth) == pytest.approx(20 * np.log10(2), abs=1e-5)
    blurred = (truth + truth.roll(1, -1)) / 2
    assert spectral_db(blurred, truth) > 1


def test_sampling_a_teacher_and_a_student_start_alike(denoiser: Denoiser, shards: Path) -> None:
    step = asked(shards, layouts=["parity"], levels=(10.0,))
    step = step._replace(guidance=torch.ones_like(step.guidance))
    levels = [10.0, 1.0, edm.SIGMA_CLEAN]
    with torch.no_grad():
        torch.testing.assert_close(
            sampled(start_as(denoiser), step, levels), sampled(denoiser, step, levels)
        )
