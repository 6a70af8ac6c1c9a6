"""The small autoencoder: shapes, training, resuming."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch

from reference.autoencoder import Autoencoder, AutoencoderConfig
from reference.autoencoder.training import PRESETS, Pictures, train


@pytest.fixture(scope="module")
def shards(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("shards")
    rng = np.random.default_rng(0)
    for split, people in (("train", 3), ("val", 1)):
        mask = np.zeros((people, 32, 32), np.uint8)
        mask[:, 4:28, 10:22] = 255
        colour = rng.integers(0, 255, (people, 1, 1, 3)).astype(np.uint8)
        rgb = colour * (mask[..., None] // 255)
        np.savez(
            folder / f"{split}-00000.npz",
            ref_rgb=rgb,
            ref_mask=mask,
            tgt_rgb=rgb[:, None].repeat(2, 1),
            tgt_mask=mask[:, None].repeat(2, 1),
        )
    return folder


def test_shapes_and_scale() -> None:
    model = Autoencoder(AutoencoderConfig(latent_channels=16)).eval()
    with torch.no_grad():
        latent = model.encode(torch.zeros(2, 3, 128, 64))
        assert latent.shape == (2, 16, 16, 8)
        assert model.decode(latent).shape == (2, 3, 128, 64)


def test_statistics_are_undone_by_decode() -> None:
    torch.manual_seed(0)
    model = Autoencoder(PRESETS["tiny"][0]).eval()
    x = torch.rand(1, 3, 16, 16)
    with torch.no_grad():
        plain = model.decode(model.encode(x))
        model.latent_mean.fill_(0.3)
        model.latent_std.fill_(2.0)
        torch.testing.assert_close(model.decode(model.encode(x)), plain, atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize("shape", [(1, 3, 12, 16), (1, 4, 16, 16), (3, 16, 16), (1, 3, 0, 16)])
def test_wrong_pictures_are_named(shape: tuple[int, ...]) -> None:
    with pytest.raises(ValueError, match="multiples of 8"):
        Autoencoder(PRESETS["tiny"][0]).encode(torch.zeros(shape))


def test_all_pictures_of_a_shard_are_used(shards: Path) -> None:
    assert len(Pictures(shards, split="train")) == 3 * (1 + 2)
    assert len(Pictures(shards, split="train", limit=4)) == 4


def test_training_learns_and_resumes_to_the_same_weights(shards: Path, tmp_path: Path) -> None:
    model_config, config = PRESETS["tiny"]
    whole = train(model_config, config, data=shards, out=tmp_path / "whole", validate_every=4)
    train(model_config, config, data=shards, out=tmp_path / "cut", stop_at=3, validate_every=0)
    resumed = train(model_config, config, data=shards, out=tmp_path / "cut", validate_every=0)
    assert resumed.step == whole.step == config.steps
    for name, value in whole.mean.state_dict().items():
        torch.testing.assert_close(resumed.mean.state_dict()[name], value, rtol=0, atol=0)
    assert "box_db" in (tmp_path / "whole" / "curve.jsonl").read_text()


def test_a_checkpoint_of_another_config_is_refused(shards: Path, tmp_path: Path) -> None:
    from dataclasses import replace

    model_config, config = PRESETS["tiny"]
    train(model_config, config, data=shards, out=tmp_path, stop_at=1, validate_every=0)
    with pytest.raises(ValueError, match="another configuration"):
        train(model_config, replace(config, lr=1.0), data=shards, out=tmp_path, validate_every=0)


def test_missing_shards_say_how_to_make_them(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match=r"reference\.people\.shards"):
        Pictures(tmp_path, split="train")
