"""The release's sampler: windows, fusion, and the same frames as a naive loop."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import Tensor

from reference.diffusion import Denoiser, edm
from reference.diffusion.pipeline import fusion_weights, generate, sample, windows

SIGMAS = torch.tensor([20.0, 4.0, 1.0, 0.0])


def toy(x: Tensor, sigma: Tensor, frames: Tensor) -> Tensor:
    """Depends on the frame, its place in the window, its neighbours and the noise level."""
    place = torch.arange(len(x))[:, None, None, None] / 7
    mixed = 0.6 * x + 0.3 * x.roll(1, 0) + 0.1 * x.mean(0)
    s = sigma[:, None, None, None]
    return torch.tanh(mixed / (1 + s)) + 0.1 * place + 0.05 * frames[:, None, None, None]


def naive(noise: np.ndarray, tile: int, overlap: int) -> np.ndarray:
    """The release's loop, one frame at a time in float64."""
    n = len(noise)
    if n <= tile:
        plan = [list(range(n))]
    else:
        stride = tile - overlap
        plan = [[0, *range(i + 1, i + tile)] for i in range(0, n - tile + 1, stride)]
        if plan[-1][-1] != n - 1:
            plan.append([0, *range(n - tile + 1, n)])
    x = noise.astype(np.float64) * np.sqrt(float(SIGMAS[0]) ** 2 + 1)
    for sigma, following in zip(SIGMAS[:-1].tolist(), SIGMAS[1:].tolist(), strict=True):
        total, weight = np.zeros_like(x), np.zeros(n)
        for frames in plan:
            k = len(frames)
            found = toy(
                torch.from_numpy(x[frames]), torch.full((k,), sigma), torch.tensor(frames)
            ).numpy()
            for place, frame in enumerate(frames):
                w = (place + 0.5) * 2 / k
                w = min(w, 2 - w)
                total[frame] += w * found[place]
                weight[frame] += w
        for frame in range(n):
            x0 = total[frame] / weight[frame]
            slope = (x[frame] - x0) / sigma
            x[frame] += slope * (following - sigma)
    return x


@pytest.mark.parametrize("frames", [1, 3, 6, 7, 9, 10, 13, 17])
def test_same_frames_as_a_naive_loop(frames: int) -> None:
    torch.manual_seed(frames)
    noise = torch.randn(frames, 2, 3, 3)
    found = sample(toy, noise, sigmas=SIGMAS, tile=6, overlap=2)
    np.testing.assert_allclose(found.numpy(), naive(noise.numpy(), 6, 2), atol=1e-4)


def test_windows_of_the_release() -> None:
    assert [w.tolist() for w in windows(20)] == [list(range(20))]
    assert [w.tolist() for w in windows(34)] == [list(range(20)), [0, *range(15, 34)]]
    tail = windows(40)
    assert [w[1].item() for w in tail] == [1, 15, 21]
    assert all(len(w) == 20 and w[0] == 0 and len(w.unique()) == 20 for w in tail)


@pytest.mark.parametrize("frames", [*range(1, 60), 400])
def test_every_frame_is_in_a_window(frames: int) -> None:
    assert torch.cat(windows(frames)).unique().tolist() == list(range(frames))


def test_fusion_weights_are_a_triangle() -> None:
    assert fusion_weights(4).tolist() == [0.25, 0.75, 0.75, 0.25]
    assert (fusion_weights(20) > 0).all()
    assert fusion_weights(1).tolist() == [1.0]


def conditions(frames: int) -> dict[str, Tensor]:
    torch.manual_seed(0)
    return {
        "reference": torch.randn(1, 4, 4, 4),
        "embedding": torch.randn(1, 16),
        "nerf_latents": torch.randn(frames, 4, 4, 4),
        "normals": torch.rand(frames, 3, 32, 32),
        "switcher": torch.tensor([[0.0, 1.0]]).repeat(frames, 1),
        "guidance": torch.linspace(1, 2, frames),
        "noise": torch.randn(frames, 4, 4, 4),
    }


def test_generate_guides_each_frame_of_the_clip(denoiser: Denoiser) -> None:
    given = conditions(5)
    sigmas = torch.tensor([5.0, 0.0])
    found = generate(denoiser, **given, sigmas=sigmas, tile=8)
    x = given["noise"] * (26.0**0.5)
    sigma = torch.full((1, 5), 5.0)
    cond = denoiser.condition(given["nerf_latents"][None], given["normals"][None])
    shared = {"condition": cond, "switcher": given["switcher"][None]}
    picture = {name: given[name] for name in ("reference", "embedding")}
    without = {name: torch.zeros_like(value) for name, value in picture.items()}
    a, b = (denoiser.x0(x[None], sigma, **shared, **p) for p in (without, picture))
    z = edm.guide(a, b, given["guidance"][None])[0]
    expected = denoiser.latents(z, given["nerf_latents"])
    torch.testing.assert_close(found, expected, rtol=1e-4, atol=1e-4)


def test_guidance_of_one_takes_the_short_way_to_the_same(denoiser: Denoiser) -> None:
    given = conditions(3)
    sigmas = torch.tensor([5.0, 1.0, 0.0])
    given["guidance"] = torch.ones(3)
    short = generate(denoiser, **given, sigmas=sigmas)
    given["guidance"] = torch.full((3,), 1 + 1e-6)
    torch.testing.assert_close(
        generate(denoiser, **given, sigmas=sigmas), short, rtol=1e-3, atol=1e-3
    )


def test_bad_requests_are_named(denoiser: Denoiser) -> None:
    with pytest.raises(ValueError, match="at least 1"):
        windows(0)
    with pytest.raises(ValueError, match="overlap"):
        windows(30, tile=20, overlap=19)
    with pytest.raises(ValueError, match="falling"):
        sample(toy, torch.zeros(2, 1, 2, 2), sigmas=torch.tensor([1.0, 1.0]))
    given = conditions(3)
    given["normals"] = given["normals"][:2]
    with pytest.raises(ValueError, match="normals: expected 3 frames"):
        generate(denoiser, **given, sigmas=SIGMAS)
