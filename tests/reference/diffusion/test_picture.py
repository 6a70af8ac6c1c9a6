from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch
from scipy.ndimage import gaussian_filter, uniform_filter
from torch import Tensor

from reference.autoencoder import Autoencoder, AutoencoderConfig
from reference.diffusion import PRESETS
from reference.diffusion.picture import DETAIL, LARGEST, SMALLEST, PictureDecoder, drawn_share

SIDE = 16
TINY = AutoencoderConfig(
    latent_channels=4, encoder_widths=(8, 8, 8), decoder_widths=(8, 8, 8), blocks=1
)
CENTRED = replace(PRESETS["tiny"], residual_std=0.25)


@pytest.fixture
def autoencoder() -> Autoencoder:
    torch.manual_seed(0)
    return Autoencoder(TINY).eval().requires_grad_(False)


@pytest.fixture
def render() -> Tensor:
    return torch.rand(2, 3, SIDE, SIDE, generator=torch.Generator().manual_seed(1)) * 2 - 1


def sharpened(picture: Tensor) -> Tensor:
    """By SciPy's blur; black beyond the edges."""
    light = picture.double().numpy() + 1
    blurred = gaussian_filter(light, (0, 0, 0.6, 0.6), mode="constant", radius=(0, 0, 1, 1))
    shown = light + DETAIL * (light - blurred) - 1
    return torch.from_numpy(np.clip(shown, -1, 1)).float()


def test_nothing_generated_shows_the_render_with_its_detail(
    autoencoder: Autoencoder, render: Tensor
) -> None:
    base = autoencoder.encode(render)
    found = PictureDecoder(autoencoder, CENTRED)(torch.zeros_like(base), base, render)
    torch.testing.assert_close(found, sharpened(render), rtol=0, atol=1e-5)
    assert (found - render).abs().max() > 0.02


def test_black_stays_black(autoencoder: Autoencoder) -> None:
    black = torch.full((1, 3, SIDE, SIDE), -1.0)
    base = autoencoder.encode(black)
    found = PictureDecoder(autoencoder, CENTRED)(torch.zeros_like(base), base, black)
    torch.testing.assert_close(found, black, rtol=0, atol=1e-5)


def test_what_is_generated_is_added_as_the_autoencoder_shows_it(
    autoencoder: Autoencoder, render: Tensor
) -> None:
    base, other = autoencoder.encode(render), autoencoder.encode(render.flip(3))
    found = PictureDecoder(autoencoder, CENTRED)((other - base) / 0.25, base, render)
    change = (autoencoder.decode(other) - autoencoder.decode(base)).double().numpy()
    power = (change**2).mean(1, keepdims=True)
    power = uniform_filter(power, (0, 0, 17, 17), mode="constant")
    share = 0.45 + 0.6 * power / (power + 0.16**2)
    expected = render + torch.from_numpy(share * change).float()
    torch.testing.assert_close(found, sharpened(expected), rtol=0, atol=1e-4)


def test_small_changes_are_drawn_less() -> None:
    shares = []
    for size in (0.0, 1e-3, 0.05, 0.16, 0.5, 2.0):
        change = size * torch.tensor([1.0, -1.0]).repeat(3, 64, 32)[None]
        shares.append(float(drawn_share(change)[0, 0, 32, 32]))
    assert shares == sorted(shares)
    assert shares[0] == pytest.approx(SMALLEST)
    assert shares[1] == pytest.approx(SMALLEST, abs=1e-4)
    assert shares[3] == pytest.approx((SMALLEST + LARGEST) / 2)
    assert LARGEST - 0.01 < shares[-1] < LARGEST


def test_released_latents_are_decoded_as_they_are(autoencoder: Autoencoder, render: Tensor) -> None:
    config = replace(PRESETS["tiny"], residual_std=None, latent_scale=0.5)
    latents = autoencoder.encode(render)
    found = PictureDecoder(autoencoder, config)(latents * 0.5)
    torch.testing.assert_close(found, autoencoder.decode(latents).clamp(-1, 1))


def test_centred_latents_need_the_render(autoencoder: Autoencoder, render: Tensor) -> None:
    with pytest.raises(ValueError, match="beside the field's render"):
        PictureDecoder(autoencoder, CENTRED)(autoencoder.encode(render))
