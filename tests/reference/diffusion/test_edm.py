"""Preconditioning and schedule, held against diffusers' scheduler with SVD's settings."""

from __future__ import annotations

import pytest
import torch
from diffusers import EulerDiscreteScheduler

from reference.diffusion import edm

SHAPE = (2, 4, 3, 3)

# The scheduler turns a torch tensor into a NumPy 2 array in a way that torch does not implement.
pytestmark = pytest.mark.filterwarnings("ignore:__array__ implementation:DeprecationWarning")


@pytest.fixture
def scheduler() -> EulerDiscreteScheduler:
    made = EulerDiscreteScheduler(
        prediction_type="v_prediction",
        use_karras_sigmas=True,
        sigma_min=0.002,
        sigma_max=700.0,
        timestep_type="continuous",
        timestep_spacing="leading",
        beta_start=0.00085,
        beta_end=0.012,
        beta_schedule="scaled_linear",
    )
    made.set_timesteps(25)
    return made


def test_the_schedule_is_svds(scheduler: EulerDiscreteScheduler) -> None:
    sigmas = edm.karras_sigmas(25)
    torch.testing.assert_close(sigmas, scheduler.sigmas.float(), rtol=1e-5, atol=0)
    torch.testing.assert_close(
        edm.c_noise(sigmas[:-1]), scheduler.timesteps.float(), rtol=1e-4, atol=1e-5
    )


@pytest.mark.parametrize("index", [0, 10, 24])
def test_scaling_and_step_are_the_schedulers(scheduler: EulerDiscreteScheduler, index: int) -> None:
    torch.manual_seed(index)
    sigmas = edm.karras_sigmas(25)
    sigma, following = (sigmas[i].expand(2) for i in (index, index + 1))
    x, v = torch.randn(SHAPE) * (sigma[0] ** 2 + 1).sqrt(), torch.randn(SHAPE)
    scaled = scheduler.scale_model_input(x, scheduler.timesteps[index])
    torch.testing.assert_close(x * edm.per_frame(edm.c_in(sigma), x), scaled)
    expected = scheduler.step(v, scheduler.timesteps[index], x, return_dict=False)[0]
    x0 = edm.x0_from_velocity(x, v, sigma)
    scale = float(sigma[0])
    torch.testing.assert_close(
        edm.euler(x, x0, sigma, following), expected, rtol=1e-4, atol=1e-5 + 1e-6 * scale
    )


def test_the_true_velocity_gives_back_the_clean_latents() -> None:
    torch.manual_seed(0)
    x0, noise, sigma = torch.randn(SHAPE), torch.randn(SHAPE), torch.tensor([0.05, 20.0])
    x = x0 + edm.per_frame(sigma, x0) * noise
    v = edm.velocity(x0, noise, sigma)
    torch.testing.assert_close(edm.x0_from_velocity(x, v, sigma), x0, rtol=1e-3, atol=1e-3)


def test_the_weighted_error_of_x0_is_the_error_of_v() -> None:
    torch.manual_seed(0)
    x, v, error, sigma = *torch.randn(3, *SHAPE), torch.tensor([0.3, 5.0])
    off = edm.x0_from_velocity(x, v + error, sigma) - edm.x0_from_velocity(x, v, sigma)
    weight = edm.per_frame(edm.loss_weight(sigma), off)
    torch.testing.assert_close(weight * off**2, error**2, rtol=1e-3, atol=1e-4)


def test_levels_are_each_frames_own() -> None:
    torch.manual_seed(0)
    x, x0 = torch.randn(2, *SHAPE)
    sigma, following = torch.tensor([4.0, 1.0]), torch.tensor([1.0, 1.0])
    stepped = edm.euler(x, x0, sigma, following)
    torch.testing.assert_close(stepped[0], x0[0] + (x - x0)[0] / 4)
    torch.testing.assert_close(stepped[1], x[1])


def test_the_last_step_ends_at_the_prediction() -> None:
    x, x0 = torch.randn(2, *SHAPE)
    torch.testing.assert_close(edm.euler(x, x0, torch.ones(2), torch.zeros(2)), x0)


def test_guidance_is_per_frame() -> None:
    unconditional, conditional = torch.zeros(SHAPE), torch.ones(SHAPE)
    found = edm.guide(unconditional, conditional, torch.tensor([1.0, 2.0]))
    assert found[0].unique().tolist() == [1.0]
    assert found[1].unique().tolist() == [2.0]


def test_one_level_for_frames_of_their_own_is_an_error() -> None:
    with pytest.raises(ValueError, match=r"sigma: expected \[2\]"):
        edm.x0_from_velocity(torch.zeros(SHAPE), torch.zeros(SHAPE), torch.ones(1))


def test_a_schedule_has_steps() -> None:
    with pytest.raises(ValueError, match="at least 1"):
        edm.karras_sigmas(0)
    assert edm.karras_sigmas(1).tolist() == [pytest.approx(700.0), 0.0]
