"""The condition networks: the release's names and shapes, and signals that pass through."""

from __future__ import annotations

import pytest
import torch

from reference.diffusion.conditions import NerfNet, PoseNet
from reference.diffusion.config import PRESETS, ConditionConfig


def shapes(module: torch.nn.Module) -> dict[str, tuple[int, ...]]:
    return {k: tuple(v.shape) for k, v in module.state_dict().items()}


def convolutions(*sizes: tuple[int, int, int]) -> dict[str, tuple[int, ...]]:
    """State dict of the stack: (in, out, kernel) at every second place."""
    found: dict[str, tuple[int, ...]] = {}
    for index, (a, b, k) in enumerate(sizes):
        found[f"conv_layers.{2 * index}.weight"] = (b, a, k, k)
        found[f"conv_layers.{2 * index}.bias"] = (b,)
    return found


PROJECTION = {"final_proj.weight": (320, 128, 1, 1), "final_proj.bias": (320,), "scale": (1,)}


def test_nerf_net_is_the_releases() -> None:
    net = NerfNet(ConditionConfig(), latent_channels=4, out_channels=320)
    sizes = [(4, 4, 3), (4, 16, 3), (16, 32, 3), (32, 64, 3), (64, 128, 3)]
    assert shapes(net) == convolutions(*sizes) | PROJECTION
    assert net.scale.tolist() == [2.0]


def test_pose_net_is_the_releases() -> None:
    net = PoseNet(ConditionConfig(), out_channels=320)
    sizes = [(3, 3, 3), (3, 16, 4), (16, 16, 3), (16, 32, 4), (32, 32, 3), (32, 64, 4)]
    assert shapes(net) == convolutions(*sizes, (64, 64, 3), (64, 128, 3)) | PROJECTION
    assert net.scale.tolist() == [2.0]


@pytest.mark.parametrize("depth", [1, 5])
def test_signals_keep_their_size_through_any_number_of_layers(depth: int) -> None:
    torch.manual_seed(0)
    config = ConditionConfig(nerf_widths=(64,) * depth)
    net = NerfNet(config, latent_channels=16, out_channels=64)
    x = torch.randn(8, 16, 16, 16)
    out = net(x)
    varies = (out - out.mean((0, 2, 3), keepdim=True)).std()
    assert 0.15 < varies < 2.5  # the library's initial weights: 0.003 after five layers
    out.square().mean().backward()
    first, last = net.conv_layers[0].weight.grad, net.final_proj.weight.grad
    assert first.norm() > 0.1 * last.norm()


def test_the_scale_multiplies_all_of_it() -> None:
    net = NerfNet(PRESETS["tiny"].conditions, latent_channels=4, out_channels=32)
    torch.nn.init.normal_(net.final_proj.weight)
    torch.nn.init.normal_(net.final_proj.bias)
    x = torch.randn(1, 4, 4, 4)
    before = net(x)
    with torch.no_grad():
        net.scale.fill_(1.0)
    torch.testing.assert_close(net(x), before / 2)


def test_wrong_inputs_are_named() -> None:
    config = PRESETS["tiny"].conditions
    with pytest.raises(ValueError, match=r"NerfNet: expected \[F, 4, H, W\]"):
        NerfNet(config, latent_channels=4, out_channels=32)(torch.zeros(1, 2, 4, 4, 4))
    with pytest.raises(ValueError, match=r"PoseNet: expected \[F, 3, H, W\]"):
        PoseNet(config, out_channels=32)(torch.zeros(1, 4, 32, 32))
