"""Stage 2 in PyTorch: which conditions, which frames, which guidance; every policy alike."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch

from gas_rt.diffusion import SIGMA_MIN
from gas_rt.errors import InputError
from reference.autoencoder import Autoencoder, AutoencoderConfig
from reference.diffusion import Denoiser, picture
from reference.diffusion.clips import encode
from reference.diffusion.config import PRESETS
from reference.diffusion.picture import PictureDecoder
from reference.diffusion.student import start_as
from reference.diffusion.windows import WindowConfig
from reference.evaluate import stage2

WINDOWS = WindowConfig(parity_frames=4, context=1, live_sigmas=(10.0, 1.0))


@pytest.fixture(scope="module")
def autoencoder() -> Autoencoder:
    torch.manual_seed(1)
    config = AutoencoderConfig(4, (8, 8, 8), (8, 8, 8), blocks=1)
    return Autoencoder(config).eval().requires_grad_(False)


@pytest.fixture
def generator(autoencoder, body):
    """Makes generators with an untrained model; the field shows the truth, a little darker."""

    def make(policy: str = "diagonal", **changes) -> stage2.Generator:
        torch.manual_seed(0)
        model = Denoiser(PRESETS["tiny"]).eval().requires_grad_(False)
        # Untrained, the conditions' last layers are zero: then no mistake in them would show.
        for net in (model.nerf_net, model.pose_net):
            torch.nn.init.normal_(net.final_proj.weight, std=0.3)
        return replace(
            stage2.Generator(
                model=model,
                decoder=PictureDecoder(autoencoder, model.config),
                body=body,
                field=darker,
                windows=WINDOWS,
                policy=policy,
                sigmas=stage2.levels(WINDOWS, 2, policy=policy),
                strength=stage2.Strength(),
            ),
            **changes,
        )

    return make


def darker(case):
    """A field that shows each of the case's frames at 0.9 of its brightness."""
    known = {
        (id(p), id(c)): k for k, (p, c) in enumerate(zip(case.poses, case.cameras, strict=True))
    }

    def render(pose, camera):
        rgb = case.rgb[known[id(pose), id(camera)]] if (id(pose), id(camera)) in known else None
        return (case.photo.rgb if rgb is None else rgb).astype(np.float32) * np.float32(0.9 / 255)

    return render


@pytest.mark.parametrize("task", ["view", "pose"])
@pytest.mark.parametrize("policy", stage2.POLICIES)
def test_frames_are_finite_and_depend_on_the_noise_alone(generator, square, policy, task):
    case = square(task, frames=6)
    one, same = generator(policy)(case), generator(policy)(case)
    assert one.pictures.shape == case.rgb.shape
    assert np.isfinite(one.pictures).all()
    assert 0 <= one.pictures.min() <= one.pictures.max() <= 1
    assert np.array_equal(one.pictures, same.pictures)
    assert not np.array_equal(one.pictures, generator(policy, seed=1)(case).pictures)


@pytest.mark.parametrize("nerf", [True, False])
@pytest.mark.parametrize("policy", stage2.POLICIES)
def test_a_model_that_adds_nothing_shows_the_field(generator, square, monkeypatch, policy, nerf):
    for name in ("x0", "guided_x0"):
        monkeypatch.setattr(Denoiser, name, lambda self, x, *_, **__: torch.zeros_like(x))
    # The detail that is drawn once more has a test of its own.
    monkeypatch.setattr(picture, "DETAIL", 0.0)
    case = square("pose", frames=6)
    # To the very end: at σ = 0.002 a trace of the noise would be left.
    changes = {"sigmas": (10.0, 1.0, 0.0)} | ({} if nerf else {"field": None})
    shown = generator(policy, **changes)(case)
    given = np.rint(case.rgb * (0.9 * nerf)).astype(np.uint8)
    assert np.array_equal(shown.renders, given.astype(np.float32) / 255)
    assert np.allclose(shown.pictures, shown.renders, atol=1e-4)


def test_parity_needs_the_clip_and_live_policies_do_not(generator, square):
    case = square("pose", frames=6)
    poses = {p: generator(p)(case).first_frame_poses for p in stage2.POLICIES}
    assert poses == {"parity": 6, "diagonal": 2, "sequential": 4}


@pytest.mark.parametrize("policy", ["diagonal", "sequential"])
def test_the_anchor_is_the_photo_seen_by_its_own_camera(generator, square, monkeypatch, policy):
    case = square("view", frames=5)
    made = generator(policy)
    seen = []
    real = Denoiser.guided_x0

    def spy(self, x, sigma, **told):
        seen.append((x[0], sigma[0], told))
        return real(self, x, sigma, **told)

    monkeypatch.setattr(Denoiser, "guided_x0", spy)
    made(case)
    photo = torch.from_numpy(encode(made.decoder.autoencoder, case.photo.rgb[None])).float()
    render = np.rint(case.photo.rgb * 0.9).astype(np.uint8)[None]
    render = torch.from_numpy(encode(made.decoder.autoencoder, render)).float()
    x, sigma, told = seen[-1]
    assert torch.allclose(x[0], made.model.centre(photo, render)[0], atol=1e-5)
    assert sigma[0].item() == pytest.approx(SIGMA_MIN)
    assert torch.equal(told["reference"], photo)
    assert told["switcher"][0].tolist() == [[0.0, 1.0]] * x.shape[0]


@pytest.mark.parametrize("policy", stage2.POLICIES)
def test_guidance_is_constant_in_motions_and_grows_round_the_person(
    generator, square, monkeypatch, policy
):
    found: dict[str, set[float]] = {}

    def spy(self, x, sigma, *, guidance, **_):
        found.setdefault(task, set()).update(round(g, 3) for g in guidance.flatten().tolist())
        return torch.zeros_like(x)

    monkeypatch.setattr(Denoiser, "guided_x0", spy)
    for task in ("pose", "view"):
        generator(policy, strength=stage2.Strength(1.5, 3.0))(square(task))
    assert found["pose"] - {1.0} == {1.5}  # 1: an anchor's, which is not stepped
    # 0, 59, 120 and 60 degrees from the photo
    assert found["view"] == {1.0, round(1 + 2 * 59 / 180, 3), round(7 / 3, 3), round(5 / 3, 3)}


@pytest.mark.parametrize("policy", stage2.POLICIES)
def test_without_guidance_there_is_one_branch(generator, square, monkeypatch, policy):
    def never(*_, **__):
        raise AssertionError("the guided branch ran")

    monkeypatch.setattr(Denoiser, "guided_x0", never)
    generator(policy, strength=stage2.Strength(1.0, 1.0))(square("view"))


def test_a_frame_that_comes_again_is_rendered_once(generator, square):
    case = square("pose", frames=3)
    again = replace(
        case,
        poses=case.poses * 2,
        cameras=case.cameras * 2,
        rgb=np.concatenate([case.rgb] * 2),
        mask=np.concatenate([case.mask] * 2),
    )
    rendered = []

    def counted(pose, camera):
        rendered.append(pose)
        return np.full((16, 16, 3), 0.1 * len(rendered), np.float32)

    told = generator().conditions(again, counted)
    assert len(rendered) == 4  # the photo's and three
    assert torch.equal(told.nerf[1:4], told.nerf[4:])
    assert torch.equal(told.normals[1:4], told.normals[4:])
    assert len(told.render) == 7


def test_the_ceiling_is_the_autoencoders_round_trip(autoencoder, square):
    case = square("pose", frames=stage2.DECODE_BATCH + 2)
    shown = stage2.round_trip(autoencoder)(case)
    latents = torch.from_numpy(encode(autoencoder, case.rgb[-1:])).float()
    decoded = autoencoder.decode(latents)[0].permute(1, 2, 0).numpy()
    assert shown.pictures.shape == case.rgb.shape
    np.testing.assert_allclose(shown.pictures[-1], (np.clip(decoded, -1, 1) + 1) / 2, atol=1e-5)


def test_levels_are_those_of_training_or_lie_between_them():
    assert stage2.levels(WINDOWS, 2, policy="diagonal") == pytest.approx((10.0, 1.0, SIGMA_MIN))
    assert stage2.levels(WINDOWS, 2, policy="parity") == (10.0, 1.0, 0.0)
    more = stage2.levels(WINDOWS, 5, policy="sequential")
    assert more[0] == pytest.approx(10)
    assert more[-2:] == pytest.approx((1.0, SIGMA_MIN))
    assert np.all(np.diff(more) < 0)
    assert len(more) == 6


@pytest.mark.parametrize("policy", stage2.POLICIES)
@pytest.mark.parametrize(("steps", "poses"), [(2, 2), (1, 2)])
def test_a_student_fills_the_same_window_in_fewer_steps(generator, square, policy, steps, poses):
    """Two frames in flight: two levels of one frame each, or one level of two."""
    made = generator(policy)
    student = start_as(made.model)
    torch.nn.init.normal_(student.told_embedding.linear_2.weight, std=0.5)
    sigmas = stage2.levels(made.windows, steps, policy=policy, few=[[10.0, 1.0], [9.0]])
    assert len(sigmas) == steps + 1
    case, told = square("pose", frames=6), []
    student.told_embedding.register_forward_hook(lambda _, given, __: told.append(given[0].shape))
    shown = replace(made, model=student.eval(), sigmas=sigmas)(case)
    assert np.isfinite(shown.pictures).all()
    assert told
    if policy == "diagonal":
        assert shown.first_frame_poses == poses
        assert {shape[1] for shape in told} == {made.windows.live_frames}


def test_a_student_has_no_other_steps():
    with pytest.raises(InputError, match="was trained for 1, 2, got 4"):
        stage2.levels(WindowConfig(), 4, policy="diagonal", few=[[10.0, 1.0], [9.0]])
