"""LPIPS against the published package, on weights that both compute from a formula."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch

from gas_rt.errors import FileError
from reference.evaluate.lpips import ALEXNET, SMALLEST, VGG16, Network, open_lpips


def filled(shape: tuple[int, ...], k: int, gain: float, mean: float = 0.0) -> torch.Tensor:
    """Weights that need no generator: a sine, from whose phase tensors differ."""
    values = mean + gain * np.sin(np.arange(np.prod(shape)) * 0.37 + k)
    return torch.from_numpy(values.reshape(shape).astype(np.float32))


def weights(network: Network) -> dict[str, torch.Tensor]:
    """The state dict of lpips.LPIPS, its tensors numbered in order."""
    state: dict[str, torch.Tensor] = {
        "scaling_layer.shift": torch.tensor([-0.030, -0.088, -0.188])[None, :, None, None],
        "scaling_layer.scale": torch.tensor([0.458, 0.448, 0.450])[None, :, None, None],
    }
    inputs, part = 3, 1
    for layer in network.layers:
        shape = (layer.channels, inputs, layer.kernel, layer.kernel)
        name, gain = f"net.slice{part}.{layer.index}", (6 / np.prod(shape[1:])) ** 0.5
        state[f"{name}.weight"] = filled(shape, len(state) - 2, gain)
        state[f"{name}.bias"] = filled(shape[:1], len(state) - 2, 0.1)
        inputs, part = layer.channels, part + layer.tapped
    tapped = [layer.channels for layer in network.layers if layer.tapped]
    for k, channels in enumerate(tapped):
        value = filled((1, channels, 1, 1), len(state) - 2, 0.5, mean=0.5)
        state[f"lin{k}.model.1.weight"] = value
    for k in range(len(tapped)):
        state[f"lins.{k}.model.1.weight"] = state[f"lin{k}.model.1.weight"]
    return state


@pytest.fixture(scope="module")
def alexnet(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("lpips") / "alex.pt"
    torch.save(weights(ALEXNET), path)
    return path


def waves(height: int, width: int) -> np.ndarray:
    y, x = np.mgrid[:height, :width].astype(np.float64)
    waves = np.stack([np.sin(x / 3 + y / 7), np.cos(x * y / 40), np.sin((x - y) / 5)], 2)
    return ((0.5 + 0.5 * waves) * [1, 0.8, 0.6]).astype(np.float32)


def shifted(height: int = 64, width: int = 48) -> tuple[np.ndarray, np.ndarray]:
    truth = waves(height, width)
    return np.roll(truth, 2, 1), truth


# Computed once with lpips 0.1.4 on the same weights.
@pytest.mark.parametrize(
    ("network", "size", "expected"),
    [(ALEXNET, (64, 48), 0.681762), (ALEXNET, (128, 128), 0.522505), (VGG16, (64, 48), 0.603771)],
)
def test_it_is_the_published_packages(tmp_path, network, size, expected):
    torch.save(weights(network), tmp_path / "weights.pt")
    lpips = open_lpips([tmp_path / "weights.pt"])
    assert lpips.network is network
    assert lpips(*shifted(*size)) == pytest.approx(expected, abs=1e-5)


def test_two_files_are_as_good_as_one(alexnet, tmp_path):
    state = torch.load(alexnet, weights_only=True)
    network = {"classifier.1.weight": torch.zeros(2)}
    for name, value in state.items():
        if name.startswith("net."):
            network["features." + name.split(".", 2)[2]] = value
    layers = {k: v for k, v in state.items() if k.startswith("lin") and not k.startswith("lins")}
    torch.save(network, tmp_path / "alexnet.pth")
    torch.save(layers, tmp_path / "layers.pth")
    apart = open_lpips([tmp_path / "alexnet.pth", tmp_path / "layers.pth"])
    assert apart(*shifted()) == open_lpips([alexnet])(*shifted())
    with pytest.raises(FileError, match="AlexNet's lin0 is missing; give the state dict"):
        open_lpips([tmp_path / "alexnet.pth"])


def test_it_is_symmetric_and_falls_with_the_error(alexnet):
    lpips, (_, truth) = open_lpips([alexnet]), shifted()
    noise = np.random.default_rng(0).normal(size=truth.shape)
    noisy = [np.clip(truth + s * noise, 0, 1).astype(np.float32) for s in (0.02, 0.1)]
    values = [lpips(picture, truth) for picture in noisy]
    assert 0 < values[0] < values[1]
    assert lpips(truth, noisy[1]) == pytest.approx(values[1], rel=1e-5)
    assert lpips(truth, truth) == 0


def test_narrow_boxes_are_filled_up_with_black(alexnet):
    lpips, (picture, truth) = open_lpips([alexnet]), shifted(40, 12)
    wide = [np.zeros((40, SMALLEST, 3), np.float32) for _ in range(2)]
    wide[0][:, :12], wide[1][:, :12] = picture, truth
    assert lpips(picture, truth) == lpips(*wide) > 0


def test_pictures_of_two_sizes_are_an_error(alexnet):
    with pytest.raises(ValueError, match=r"one size, found \[64, 48, 3\] and \[63, 48, 3\]"):
        open_lpips([alexnet])(waves(64, 48), waves(63, 48))


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"net.slice1.0.weight": None}, "no weights of AlexNet or VGG-16 found"),
        ({"net.slice1.0.weight": torch.zeros(64, 3, 7, 7)}, "no weights of AlexNet or VGG-16"),
        ({"net.slice3.6.bias": None}, r"AlexNet's features\.6\.bias is missing"),
        (
            {"net.slice2.3.weight": torch.zeros(64, 64, 3, 3)},
            r"expected finite .* \[192, 64, 5, 5\]",
        ),
        ({"net.slice4.8.bias": torch.full((256,), torch.nan)}, "expected finite values"),
        (
            {"lin1.model.1.weight": torch.zeros(1, 128, 1, 1), "lins.1.model.1.weight": None},
            r"lin1: expected finite values \[1, 192, 1, 1\] for AlexNet, found \[1, 128, 1, 1\]",
        ),
    ],
)
def test_weights_of_something_else_are_named(alexnet, tmp_path, change, message):
    state = torch.load(alexnet, weights_only=True) | change
    torch.save({k: v for k, v in state.items() if v is not None}, tmp_path / "x.pt")
    with pytest.raises(FileError, match=message):
        open_lpips([tmp_path / "x.pt"])


class Trap:
    """Unpickling it would run code."""

    def __reduce__(self) -> tuple:
        return print, ("unpickled",)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (None, "no such file"),
        (b"junk", "no file of weights"),
        (b"", "no file of weights"),
        (Trap(), "no file of weights"),
        ([torch.zeros(1)], "expected a state dict, found list"),
        ({"note": "no tensor"}, "no weights of AlexNet or VGG-16 found"),
    ],
)
def test_files_of_something_else_are_named(tmp_path, capsys, content, message):
    path = tmp_path / "x.pt"
    if isinstance(content, bytes):
        path.write_bytes(content)
    elif content is not None:
        torch.save(content, path)
    with pytest.raises(FileError, match=f"x.pt: {message}"):
        open_lpips([path])
    assert "unpickled" not in capsys.readouterr().out
