"""How latents' errors are measured in the picture."""

from __future__ import annotations

import json
from dataclasses import asdict, replace
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from reference.autoencoder import Autoencoder
from reference.autoencoder.training import PRESETS as AUTOENCODERS
from reference.diffusion.batches import draw
from reference.diffusion.clips import Clips, black_latent
from reference.diffusion.denoiser import Denoiser
from reference.diffusion.picture_error import REACH, picture_error, picture_stencil
from reference.diffusion.training import PRESETS, losses, train
from tests.reference.diffusion.conftest import SIDE, write_toys

MODEL, CONFIG = PRESETS["tiny"]


class Linear(nn.Module):
    """A decoder that is linear and the same everywhere: transposed convolution."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.layer = nn.ConvTranspose2d(channels, 3, 24, stride=8, padding=8, bias=False)

    def decode(self, latents: Tensor) -> Tensor:
        return self.layer(latents)


def test_a_linear_decoder_is_measured_exactly(shards: Path) -> None:
    clips = Clips(shards, split="train")
    channels, height, width = clips.black_latent.shape
    decoder = Linear(channels)
    stencil = picture_stencil(decoder, clips)  # type: ignore[arg-type]
    assert stencil.shape == (channels, channels, 2 * REACH + 1, 2 * REACH + 1)
    torch.testing.assert_close(stencil, stencil.flip(2, 3).transpose(0, 1))
    generator = torch.Generator().manual_seed(1)
    one = torch.ones(1, 3, height, width)
    ratios = []
    for _ in range(4):
        error = torch.zeros(1, 3, channels, height + 4, width + 4)  # nothing beyond the edges
        error[..., 2:-2, 2:-2] = torch.randn(1, 3, channels, height, width, generator=generator)
        weight = torch.nn.functional.pad(one, (2, 2, 2, 2))
        shown = float((decoder.decode(error[0]).detach() ** 2).sum())
        ratios.append(float(picture_error(error, weight, stencil)) * error.numel() / shown)
    np.testing.assert_allclose(ratios, ratios[0], rtol=0.01)


def test_what_the_decoder_ignores_does_not_count(shards: Path) -> None:
    clips = Clips(shards, split="train")
    decoder = Linear(clips.black_latent.shape[0])
    with torch.no_grad():
        decoder.layer.weight[1] = 0
    stencil = picture_stencil(decoder, clips)  # type: ignore[arg-type]
    error = torch.zeros(1, 1, *clips.black_latent.shape)
    error[:, :, 1] = 1
    weight = torch.ones(1, 1, *clips.black_latent.shape[1:])
    assert abs(float(picture_error(error, weight, stencil))) < 1e-6
    error[:, :, 0] = 1
    assert float(picture_error(error, weight, stencil)) > 0.01


def test_independent_errors_measure_one(shards: Path) -> None:
    clips = Clips(shards, split="train")
    stencil = picture_stencil(Autoencoder(AUTOENCODERS["tiny"][0]), clips)
    error = torch.randn(
        1, 4000, *clips.black_latent.shape, generator=torch.Generator().manual_seed(0)
    )
    weight = torch.ones(1, 4000, *clips.black_latent.shape[1:])
    assert float(picture_error(error, weight, stencil)) == pytest.approx(1, abs=0.02)
    assert float(picture_error(error, 3 * weight, stencil)) == pytest.approx(3, abs=0.06)


def test_a_share_of_the_loss(shards: Path) -> None:
    clips = Clips(shards, split="train")
    torch.manual_seed(0)
    model = Denoiser(MODEL)
    stencil = picture_stencil(Autoencoder(AUTOENCODERS["tiny"][0]), clips)
    batch = draw(clips, MODEL, CONFIG, 0)
    found = [
        losses(model, batch, stencil=stencil, picture_share=share)[1]["loss"]
        for share in (0.0, 0.25, 1.0)
    ]
    assert found[0] == pytest.approx(losses(model, batch)[1]["loss"])
    assert found[1] == pytest.approx(0.75 * found[0] + 0.25 * found[2])
    assert found[2] != pytest.approx(found[0], rel=1e-3)


def test_training_measures_in_the_picture(shards: Path, tmp_path: Path) -> None:
    config = replace(CONFIG, picture_share=0.5)
    with pytest.raises(ValueError, match="name the checkpoint of the autoencoder"):
        train(MODEL, config, data=shards, out=tmp_path / "run")
    torch.manual_seed(0)
    model, coder = Autoencoder(AUTOENCODERS["tiny"][0]), tmp_path / "autoencoder.pt"
    torch.save({"model_config": asdict(model.config), "mean": model.state_dict()}, coder)
    with pytest.raises(ValueError, match="did not encode the clips of"):
        train(MODEL, config, data=shards, autoencoder=coder, out=tmp_path / "run")
    clips = tmp_path / "clips"
    clips.mkdir()
    write_toys(clips, black=black_latent(model, height=8 * SIDE, width=8 * SIDE))
    options = {"data": clips, "autoencoder": coder}
    whole = train(MODEL, config, out=tmp_path / "whole", validate_every=4, **options)
    train(MODEL, config, out=tmp_path / "cut", stop_at=2, validate_every=0, **options)
    resumed = train(MODEL, config, out=tmp_path / "cut", validate_every=0, **options)
    for name, value in whole.mean.state_dict().items():
        assert torch.equal(resumed.mean.state_dict()[name], value), name
    row = json.loads((tmp_path / "whole" / "curve.jsonl").read_text().splitlines()[-1])
    assert np.isfinite([row["shown_db"], row["field_shown_db"]]).all()
