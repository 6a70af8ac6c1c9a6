"""`parity` equals the release's loop, written a second time from its description.

The second implementation shares no code with ours: diffusers' UNet and scheduler, the condition
networks layer by layer, guidance in two calls, the network's v fused over windows.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest
import torch
from diffusers import UNetSpatioTemporalConditionModel
from diffusers.models.embeddings import TimestepEmbedding, get_timestep_embedding
from torch import Tensor, nn

from reference.diffusion import edm
from reference.diffusion.checkpoint import open_release
from reference.diffusion.config import DiffusionConfig, ImageEncoderConfig
from reference.diffusion.pipeline import generate
from tests.export.release_files import UNET, svd_scheduler, write_release

SCALING = 0.18215
STEPS = 25
TILE, OVERLAP = 20, 6
VIEW, POSE = (0.0, 1.0), (1.0, 0.0)
TOLERANCE = 1e-4


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    return write_release(tmp_path_factory.mktemp("release"))


@dataclass
class TheirUNet:
    """diffusers' UNet with what the release adds: a modality, and a condition."""

    unet: UNetSpatioTemporalConditionModel
    class_embedding: TimestepEmbedding
    condition: Tensor | None = None  # [F, C0, h, w]
    modality: Tensor | None = None  # [1, T]

    @classmethod
    def open(cls, svd: Path, gas: Path) -> TheirUNet:
        state = torch.load(gas / "unet.pth", weights_only=True)
        own = {k: state.pop(k) for k in list(state) if k.startswith("class_embedding.")}
        unet = UNetSpatioTemporalConditionModel.from_config(
            UNetSpatioTemporalConditionModel.load_config(svd / "unet")
        )
        unet.load_state_dict(state)
        width = unet.config.addition_time_embed_dim
        embedding = TimestepEmbedding(2 * width, 4 * unet.config.block_out_channels[0])
        embedding.load_state_dict({k.partition(".")[2]: v for k, v in own.items()})
        theirs = cls(unet.eval(), embedding)
        unet.conv_in.register_forward_hook(lambda _, __, out: out + theirs.condition)
        unet.add_embedding.register_forward_hook(lambda _, __, out: out + theirs.modality)
        return theirs

    def __call__(self, x: Tensor, t: Tensor, token: Tensor, *, condition: Tensor) -> Tensor:
        """v [F, C, h, w] of [F, 2C, h, w] at a scheduler's time, given one CLIP token [1, 1, D]."""
        self.condition = condition
        ids = torch.tensor([[6.0, 127.0, 0.0]])
        return self.unet(x[None], t, token, added_time_ids=ids, return_dict=False)[0][0]

    def choose(self, one_hot: tuple[float, float]) -> None:
        """Set the modality."""
        width = self.unet.config.addition_time_embed_dim
        waves = get_timestep_embedding(
            torch.tensor(one_hot), width, flip_sin_to_cos=True, downscale_freq_shift=0
        )
        self.modality = self.class_embedding(waves.reshape(1, -1))


def condition_net(path: Path, layers: list[nn.Conv2d]) -> nn.Module:
    """Convolutions with SiLU behind each, a 1×1 projection, a scale; from a plain state dict."""
    state = torch.load(path, weights_only=True)
    projection = nn.Conv2d(128, len(state["final_proj.bias"]), 1)
    every = [*layers, projection]
    names = [*(f"conv_layers.{2 * k}" for k in range(len(layers))), "final_proj"]
    for layer, name in zip(every, names, strict=True):
        layer.load_state_dict({k: state.pop(f"{name}.{k}") for k in ("weight", "bias")})
    scale = state.pop("scale")
    assert not state
    with torch.no_grad():
        projection.weight *= scale
        projection.bias *= scale
    return nn.Sequential(*(m for layer in layers for m in (layer, nn.SiLU())), projection)


def their_conditions(gas: Path, nerf_latents: Tensor, normals: Tensor) -> Tensor:
    widths = (4, 4, 16, 32, 64, 128)
    nerf = [nn.Conv2d(a, b, 3, padding=1) for a, b in pairwise(widths)]
    pose = [
        nn.Conv2d(3, 3, 3, padding=1),
        nn.Conv2d(3, 16, 4, stride=2, padding=1),
        nn.Conv2d(16, 16, 3, padding=1),
        nn.Conv2d(16, 32, 4, stride=2, padding=1),
        nn.Conv2d(32, 32, 3, padding=1),
        nn.Conv2d(32, 64, 4, stride=2, padding=1),
        nn.Conv2d(64, 64, 3, padding=1),
        nn.Conv2d(64, 128, 3, padding=1),
    ]
    found = condition_net(gas / "nerf_net.pth", nerf)(nerf_latents)
    return found + condition_net(gas / "pose_net.pth", pose)(normals)


@torch.no_grad()
def released(
    svd: Path,
    gas: Path,
    given: Mapping[str, Tensor],
    *,
    modality: tuple[float, float],
    guidance: Tensor,
    steps: int = STEPS,
) -> Tensor:
    """Clean latents [N, C, h, w], unscaled."""
    unet = TheirUNet.open(svd, gas)
    unet.choose(modality)
    count = len(given["nerf_latents"])
    condition = their_conditions(gas, given["nerf_latents"], given["normals"])
    windows = [[0, *range(i + 1, i + TILE)] for i in range(0, count - TILE + 1, TILE - OVERLAP)]
    if windows[-1][-1] < count - 1:
        windows.append([0, *range(count - TILE + 1, count)])
    weight = [min((k + 0.5) * 2 / TILE, 2 - (k + 0.5) * 2 / TILE) for k in range(TILE)]
    scheduler = svd_scheduler()
    scheduler.set_timesteps(steps)
    latents = given["tile"].repeat(2, 1, 1, 1)[:count] * scheduler.init_noise_sigma
    token, image = given["embedding"][None], given["reference"].expand(TILE, -1, -1, -1)
    for t in scheduler.timesteps:
        scaled = scheduler.scale_model_input(latents, t)
        summed, total = torch.zeros_like(latents), torch.zeros(count)
        for window in windows:
            parts = []
            for keep in (0.0, 1.0):  # the unconditional branch first
                x = torch.cat([scaled[window], image * keep], dim=1)
                parts.append(unet(x, t, token * keep, condition=condition[window]))
            for place, frame in enumerate(window):
                plain, full = parts[0][place], parts[1][place]
                v = plain + guidance[frame] * (full - plain)
                summed[frame] += weight[place] * v
                total[frame] += weight[place]
        v = summed / total[:, None, None, None]
        latents = scheduler.step(v, t, latents, return_dict=False)[0]
    return latents / SCALING


def random_inputs(frames: int) -> dict[str, Tensor]:
    generator = torch.Generator().manual_seed(frames)

    def normal(*shape: int) -> Tensor:
        return torch.randn(shape, generator=generator)

    return {
        "tile": normal(TILE, 4, 4, 4),
        "reference": normal(1, 4, 4, 4),
        "embedding": normal(1, UNET.embedding_channels),
        "nerf_latents": normal(frames, 4, 4, 4),
        "normals": torch.rand(frames, 3, 32, 32, generator=generator),
    }


def triangle() -> Tensor:
    """The release's guidance of a clip of 20 views."""
    return torch.cat([torch.linspace(1, 2, 11), torch.linspace(2, 1, 11)[1:10]])


# diffusers' scheduler hands torch tensors to NumPy the old way.
@pytest.mark.filterwarnings("ignore:__array__ implementation:DeprecationWarning")
@pytest.mark.parametrize(
    ("frames", "modality", "guidance"),
    [
        (20, VIEW, triangle()),  # what was released
        (27, POSE, torch.full((27,), 2.0)),  # a second window, which ends with the clip
    ],
)
def test_parity_is_the_releases_loop(
    files: tuple[Path, Path], frames: int, modality: tuple[float, float], guidance: Tensor
) -> None:
    svd, gas = files
    given = random_inputs(frames)
    expected = released(svd, gas, given, modality=modality, guidance=guidance)
    config = DiffusionConfig(
        unet=UNET, image_encoder=ImageEncoderConfig(kind="clip"), latent_scale=SCALING
    )
    found = generate(
        open_release(gas, config),
        **{k: given[k] for k in ("reference", "embedding", "nerf_latents", "normals")},
        switcher=torch.tensor([modality]).repeat(frames, 1),
        guidance=guidance,
        noise=given["tile"].repeat(2, 1, 1, 1)[:frames],
        sigmas=edm.karras_sigmas(STEPS),
        tile=TILE,
        overlap=OVERLAP,
    )
    error = (found - expected).abs().max() / expected.abs().max()
    assert error <= TOLERANCE


@pytest.mark.filterwarnings("ignore:__array__ implementation:DeprecationWarning")
def test_every_condition_counts_in_the_second_implementation(files: tuple[Path, Path]) -> None:
    """Else the comparison would not see an error in one."""
    svd, gas = files
    given = random_inputs(TILE)

    def run(steps: int = 2, **changed: Any) -> Tensor:
        arguments = {"modality": VIEW, "guidance": triangle()} | changed
        tensors = given | {k: arguments.pop(k) for k in given.keys() & arguments.keys()}
        return released(svd, gas, tensors, steps=steps, **arguments)

    plain = run()
    others = {
        "modality": POSE,
        "guidance": torch.full((TILE,), 2.0),
        **{name: 5 * value.flip(0, -1) for name, value in given.items()},
    }
    for name, value in others.items():
        moved = (run(**{name: value}) - plain).abs().max() / plain.abs().max()
        assert moved > 10 * TOLERANCE, name
