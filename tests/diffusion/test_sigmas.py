"""Noise levels against the EDM paper's equations and against diffusers' scheduler."""

from __future__ import annotations

import math
import warnings
from typing import Any

import numpy as np
import pytest

from gas_rt.diffusion import (
    SIGMA_MAX,
    SIGMA_MIN,
    coefficients,
    denoised,
    euler_step,
    explicit_sigmas,
    initial_std,
    karras_sigmas,
)
from gas_rt.errors import GasRtError, InputError


def edm_sigma(i: int, n: int, *, low: float, high: float, rho: float) -> float:
    """EDM, eq. 5, as printed."""
    return float((high ** (1 / rho) + i / (n - 1) * (low ** (1 / rho) - high ** (1 / rho))) ** rho)


@pytest.mark.parametrize("steps", [2, 4, 25])
def test_karras_is_equation_5_followed_by_0(steps: int) -> None:
    expected = [edm_sigma(i, steps, low=0.002, high=700, rho=7) for i in range(steps)] + [0.0]
    np.testing.assert_allclose(karras_sigmas(steps), expected, rtol=1e-6)


@pytest.mark.parametrize("steps", [1, 4, 25])
def test_clean_schedules_end_at_sigma_min_and_spend_no_step_on_zero(steps: int) -> None:
    found = karras_sigmas(steps, last="clean")
    expected = [edm_sigma(i, steps + 1, low=0.002, high=700, rho=7) for i in range(steps + 1)]
    np.testing.assert_allclose(found, expected, rtol=1e-6)
    assert found[0] == 700.0
    assert found[-1] == np.float32(SIGMA_MIN)


def test_golden_run_of_diffusers() -> None:
    """EulerDiscreteScheduler of diffusers 0.42.1 as configured below, recorded once."""
    sigmas = karras_sigmas(4)
    np.testing.assert_allclose(sigmas, [700.0, 70.54084, 2.2691164, 0.002, 0.0], rtol=1e-6)
    np.testing.assert_allclose(
        karras_sigmas(25)[1:25:5],
        [545.72925, 134.85445, 23.467512, 2.2691164, 0.066399075],
        rtol=1e-6,
    )
    c = coefficients(sigmas[:-1])
    np.testing.assert_allclose(
        c.c_noise, [1.63777006, 1.06404793, 0.204847634, -1.55365205], rtol=1e-6
    )
    x = np.full((1, 1, 1, 1), initial_std(700.0), np.float32)
    assert float(x[0, 0, 0, 0]) == pytest.approx(700.00073, rel=1e-6)
    expected = [70.09253, 2.5102615, -0.50417304, -0.50217104]
    for k, (v, value) in enumerate(zip([0.5, -0.25, 1.0, -1.0], expected, strict=True)):
        x0 = denoised(x, np.full_like(x, v), sigma=sigmas[k : k + 1])
        x = euler_step(x, x0, sigma=sigmas[k : k + 1], sigma_next=sigmas[k + 1 : k + 2])
        assert float(x[0, 0, 0, 0]) == pytest.approx(value, rel=1e-5, abs=1e-4)


def test_one_step_goes_from_the_top_to_the_end() -> None:
    assert karras_sigmas(1) == (700.0, 0.0)


@pytest.mark.parametrize("sigma", [SIGMA_MIN, 0.1, 1.0, 13.0, SIGMA_MAX])
def test_coefficients_are_the_release_s(sigma: float) -> None:
    c = coefficients(np.array([sigma], np.float32))
    for value in (c.c_in, c.c_skip, c.c_out, c.c_noise):
        assert value.dtype == np.float32
    s = float(np.float32(sigma))
    assert c.c_in[0] == pytest.approx(1 / math.sqrt(s * s + 1), rel=1e-6)
    assert c.c_skip[0] == pytest.approx(1 / (s * s + 1), rel=1e-6)
    assert c.c_out[0] == pytest.approx(-s / math.sqrt(s * s + 1), rel=1e-6)
    assert c.c_noise[0] == pytest.approx(0.25 * math.log(s), rel=1e-6)


@pytest.mark.parametrize("sigma", [SIGMA_MIN, 1.0, SIGMA_MAX])
def test_denoised_undoes_v(sigma: float) -> None:
    """x0 = x/(σ²+1) − v·σ/√(σ²+1), solved for v, gives back the latent that was noised."""
    rng = np.random.default_rng(0)
    clean, noise = rng.normal(size=(2, 3, 2, 4, 4))
    x = clean + sigma * noise
    v = (x / (sigma**2 + 1) - clean) * math.sqrt(sigma**2 + 1) / sigma
    found = denoised(x.astype(np.float32), v.astype(np.float32), sigma=[sigma] * 3)
    np.testing.assert_allclose(found, clean, atol=2e-4)


def test_euler_is_the_papers_step_with_a_level_per_frame() -> None:
    rng = np.random.default_rng(1)
    sigma = np.array([700.0, 80.0, 1.0, 0.01], np.float32)
    sigma_next = np.array([300.0, 0.0, 0.9, 0.002], np.float32)
    x0 = rng.normal(size=(4, 2, 3, 3)).astype(np.float32)
    x = (x0 + sigma[:, None, None, None] * rng.normal(size=x0.shape)).astype(np.float32)
    found = euler_step(x, x0, sigma=sigma, sigma_next=sigma_next)
    for f in range(4):
        slope = (x[f].astype(np.float64) - x0[f]) / float(sigma[f])
        expected = x[f] + (float(sigma_next[f]) - float(sigma[f])) * slope
        np.testing.assert_allclose(found[f], expected, rtol=1e-5, atol=1e-5)
    np.testing.assert_array_equal(found[1], x0[1])
    assert found.dtype == np.float32


def test_a_step_to_the_same_level_leaves_the_latent() -> None:
    x = np.full((1, 1, 1, 1), 3.0, np.float32)
    found = euler_step(x, np.zeros_like(x), sigma=[0.002], sigma_next=[0.002])
    np.testing.assert_array_equal(found, x)


def test_initial_std_is_that_of_noised_unit_data() -> None:
    assert initial_std(700.0) == pytest.approx(700.0, rel=2e-6)
    assert initial_std(1.0) == pytest.approx(math.sqrt(2))


@pytest.fixture(scope="module")
def diffusers_euler() -> Any:
    """SVD's scheduler, configured as Stable Video Diffusion ships it."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        module = pytest.importorskip(
            "diffusers.schedulers.scheduling_euler_discrete", reason="diffusers is not installed"
        )
    return module.EulerDiscreteScheduler(
        num_train_timesteps=1000,
        beta_start=0.00085,
        beta_end=0.012,
        beta_schedule="scaled_linear",
        prediction_type="v_prediction",
        interpolation_type="linear",
        use_karras_sigmas=True,
        sigma_min=0.002,
        sigma_max=700.0,
        timestep_spacing="leading",
        timestep_type="continuous",
        steps_offset=1,
    )


@pytest.mark.slow  # importing diffusers takes seconds; the golden run above is its short form
@pytest.mark.filterwarnings("ignore:__array__ implementation:DeprecationWarning")
@pytest.mark.parametrize("steps", [4, 25])
def test_a_whole_run_equals_diffusers(diffusers_euler: Any, steps: int) -> None:
    import torch

    diffusers_euler.set_timesteps(steps)
    sigmas = karras_sigmas(steps)
    np.testing.assert_allclose(diffusers_euler.sigmas.numpy(), sigmas, rtol=1e-6)
    np.testing.assert_allclose(
        diffusers_euler.timesteps.numpy(), coefficients(sigmas[:-1]).c_noise, rtol=1e-5
    )
    assert float(diffusers_euler.init_noise_sigma) == pytest.approx(initial_std(sigmas[0]))
    rng = np.random.default_rng(2)
    x = (rng.normal(size=(1, 2, 4, 4)) * initial_std(sigmas[0])).astype(np.float32)
    theirs = torch.from_numpy(x.copy())
    for k, t in enumerate(diffusers_euler.timesteps):
        v = rng.normal(size=x.shape).astype(np.float32)
        scaled = diffusers_euler.scale_model_input(theirs, t)
        ours = x * coefficients([sigmas[k]]).c_in
        np.testing.assert_allclose(ours, scaled.numpy(), rtol=2e-4, atol=1e-5)
        theirs = diffusers_euler.step(torch.from_numpy(v), t, theirs).prev_sample
        x0 = denoised(x, v, sigma=[sigmas[k]])
        x = euler_step(x, x0, sigma=[sigmas[k]], sigma_next=[sigmas[k + 1]])
        np.testing.assert_allclose(x, theirs.numpy(), rtol=2e-4, atol=2e-4)


@pytest.mark.parametrize(
    ("values", "words"),
    [
        ([3.0], "got 1"),
        ([], "got 0"),
        ([1.0, 2.0], "level 1 is 2 after 1"),
        ([2.0, 1.0, 1.0], "drop repeats"),
        ([2.0, 0.0, 0.0], "above 0"),
        ([2.0, -1.0], "above 0"),
        ([math.nan, 1.0], "NaN"),
        ([1e300, 1.0], "fit fp32"),
        (["a", "b"], "expected numbers"),
        (2.0, "got 1"),
    ],
)
@pytest.mark.filterwarnings("ignore:overflow encountered in cast")
def test_lists_that_are_no_schedule(values: Any, words: str) -> None:
    with pytest.raises(InputError, match=words):
        explicit_sigmas(values)


def test_explicit_lists_are_exact_fp32() -> None:
    found = explicit_sigmas([20, 2.1, 0.002])
    assert found == (20.0, float(np.float32(2.1)), float(np.float32(0.002)))


@pytest.mark.parametrize("steps", [0, -1, 2.5, True, 100_000])
def test_step_counts_that_are_none(steps: Any) -> None:
    with pytest.raises(InputError, match="steps must be"):
        karras_sigmas(steps)


def test_other_bad_input() -> None:
    with pytest.raises(InputError, match="sigma_min"):
        karras_sigmas(4, sigma_min=5, sigma_max=1)
    with pytest.raises(InputError, match="'zero' or 'clean'"):
        karras_sigmas(4, last="one")  # type: ignore[arg-type]
    with pytest.raises(InputError, match="above 0"):
        coefficients([0.0])
    x = np.zeros((1, 1, 1, 1), np.float32)
    with pytest.raises(GasRtError, match="sigma must be"):
        euler_step(x, x, sigma=[0.0], sigma_next=[0.0])
    with pytest.raises(GasRtError, match="negative"):
        euler_step(x, x, sigma=[1.0], sigma_next=[-1.0])
