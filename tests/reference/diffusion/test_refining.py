"""The refiner's training: where its pictures come from, that it learns, and that it resumes."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from reference.autoencoder import Autoencoder
from reference.autoencoder.training import PRESETS as AUTOENCODERS
from reference.diffusion import Denoiser
from reference.diffusion.clips import Pictures, pictures_path, read_pictures, write_pictures
from reference.diffusion.refining import PRESETS, open_refiner, take, train, validate
from tests.reference.diffusion.conftest import LENGTH, SIDE, toy_clip

REFINER, TRAIN = PRESETS["tiny"]
PIXELS = 8 * SIDE


@pytest.fixture(scope="module")
def autoencoder() -> Autoencoder:
    torch.manual_seed(0)
    return Autoencoder(AUTOENCODERS["tiny"][0]).eval().requires_grad_(False)


@pytest.fixture(scope="module")
def data(shards: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The toy shards, with pictures whose truth is the render, brighter by a constant."""
    folder = tmp_path_factory.mktemp("pictures")
    rng = np.random.default_rng(0)
    for name, seeds in (("train-00000", (0, 1)), ("val-00000", (9,))):
        path = folder / f"{name}.npz"
        path.write_bytes((shards / path.name).read_bytes())
        pictures = []
        for _ in seeds:
            renders = rng.integers(0, 128, (LENGTH, PIXELS, PIXELS, 3), dtype=np.uint8)
            mask = np.full(renders.shape[:-1], 255, np.uint8)
            pictures.append(Pictures(renders + np.uint8(100), renders, mask))
        write_pictures(path, [toy_clip(s, "pose") for s in seeds], pictures)
    return folder


def test_a_take_is_what_the_model_makes_of_the_clips(
    data: Path, denoiser: Denoiser, autoencoder: Autoencoder
) -> None:
    takes = take(denoiser, autoencoder, data, split="train", config=TRAIN)
    assert len(takes) == 2 * LENGTH
    assert takes.render.shape == takes.decoded.shape == (2 * LENGTH, 3, PIXELS, PIXELS)
    assert takes.rgb.shape == (2 * LENGTH, 3, PIXELS, PIXELS)
    assert (takes.decoded - takes.again).abs().max() > 0
    again = take(denoiser, autoencoder, data, split="train", config=TRAIN, limit=LENGTH)
    assert len(again) == LENGTH
    assert torch.equal(again.decoded, takes.decoded[:LENGTH])
    plain = Denoiser(replace(denoiser.config, residual_std=None))
    with pytest.raises(ValueError, match="takes no refiner"):
        take(plain, autoencoder, data, split="train", config=TRAIN)


def test_it_learns_and_resumes(
    data: Path, denoiser: Denoiser, autoencoder: Autoencoder, tmp_path: Path
) -> None:
    config = replace(TRAIN, steps=30, lr=1e-2)
    given = {"model": denoiser, "autoencoder": autoencoder, "data": data}
    whole = train(REFINER, config, out=tmp_path / "a", validate_every=30, **given)
    train(REFINER, config, out=tmp_path / "b", stop_at=7, validate_every=0, **given)
    parts = train(REFINER, config, out=tmp_path / "b", validate_every=0, **given)
    for one, two in zip(whole.mean.parameters(), parts.mean.parameters(), strict=True):
        assert torch.equal(one, two)
    takes = take(denoiser, autoencoder, data, split="val", config=config)
    refiner = open_refiner(tmp_path / "a" / "checkpoint.pt")
    found = validate(refiner, takes)
    assert found["refined_db"] > found["added_db"] + 1
    assert found["field_db"] == pytest.approx(20 * np.log10(255 / 100), abs=0.01)


def test_missing_and_foreign_pictures_are_named(data: Path, shards: Path, tmp_path: Path) -> None:
    seeds = np.array([0, 1])
    with pytest.raises(FileNotFoundError, match="--pictures"):
        read_pictures(shards / "train-00000.npz", seeds=seeds)
    with pytest.raises(ValueError, match="not the pictures of"):
        read_pictures(data / "train-00000.npz", seeds=seeds + 1)
    shard = tmp_path / "train-00000.npz"
    np.savez(pictures_path(shard), seed=seeds, rgb=1, renders=1, mask=1)
    with pytest.raises(ValueError, match="uint8"):
        read_pictures(shard, seeds=seeds)
