"""Tiny models and clips, made once."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import torch

from reference.diffusion import PRESETS, Denoiser
from reference.diffusion.clips import Clip, write_clips

LENGTH, CHANNELS, SIDE = 6, 4, 4  # of toy clips: frames, latent channels, latent side


@pytest.fixture(scope="session", autouse=True)
def _one_thread() -> Iterator[None]:
    """Tiny tensors gain nothing from a pool of threads."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.fixture(scope="session")
def denoiser() -> Denoiser:
    """A tiny model in which every condition has an effect."""
    torch.manual_seed(0)
    model = Denoiser(PRESETS["tiny"]).eval().requires_grad_(False)
    for net in (model.nerf_net, model.pose_net):
        torch.nn.init.normal_(net.final_proj.weight, std=0.1)
    return model


def toy_clip(seed: int, task: str) -> Clip:
    """Noise of the right shapes."""
    rng = np.random.default_rng(seed)

    def latents(*shape: int) -> np.ndarray:
        return rng.standard_normal((*shape, CHANNELS, SIDE, SIDE)).astype(np.float16)

    def pictures(*shape: int) -> np.ndarray:
        return rng.integers(0, 256, (*shape, 8 * SIDE, 8 * SIDE, 3), dtype=np.uint8)

    return Clip(
        seed=seed,
        task=task,  # type: ignore[arg-type]
        fps=25.0,
        azimuth=np.linspace(0, np.pi, LENGTH).astype(np.float32),
        reference_rgb=pictures(),
        reference_latent=latents(),
        reference_nerf_latent=latents(),
        reference_normals=pictures(),
        reference_person=np.full((SIDE, SIDE), 255, np.uint8),
        target_latents=latents(LENGTH),
        nerf_latents=latents(LENGTH),
        normals=pictures(LENGTH),
        person=rng.integers(0, 256, (LENGTH, SIDE, SIDE), dtype=np.uint8),
    )


@pytest.fixture(scope="session")
def shards(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """As of an autoencoder whose black is 0."""
    folder = tmp_path_factory.mktemp("clips")
    write_toys(folder, black=np.zeros((CHANNELS, SIDE, SIDE), np.float16))
    return folder


def write_toys(folder: Path, *, black: np.ndarray) -> None:
    """Two training shards and one for validation."""
    for name, seeds in (("train-00000", (0, 1)), ("train-00001", (2, 3)), ("val-00000", (9,))):
        clips = [toy_clip(s, "view" if s % 2 else "pose") for s in seeds]
        write_clips(folder / f"{name}.npz", clips, black_latent=black)
