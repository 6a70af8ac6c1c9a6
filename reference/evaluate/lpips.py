"""LPIPS, the learned perceptual distance, on weights that the user supplies.

Zhang, Isola, Efros, Shechtman and Wang 2018, "The unreasonable effectiveness of deep features as a
perceptual metric": features of a network trained to classify pictures, each pixel's scaled to unit
length, squared differences weighted per channel, averaged over pixels and summed over layers.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional as F

from gas_rt.errors import FileError

__all__ = ["Lpips", "open_lpips"]

F32 = NDArray[np.float32]
ADVICE = (
    "give the state dict of lpips.LPIPS, or torchvision's AlexNet or VGG-16 and the layer weights "
    "of the lpips package as two files"
)
# The published weights expect pictures in [-1, 1] less `SHIFT` over `SCALE`.
SHIFT, SCALE = (-0.030, -0.088, -0.188), (0.458, 0.448, 0.450)
SMALLEST = 32  # pixels: below it AlexNet has no pixel left at its last layer
TINY = 1e-10
CONVOLUTION = re.compile(r"(?:features|net\.slice\d)\.(\d+)\.(weight|bias)")
LAYER = re.compile(r"lins?\.?(\d)\.model\.1\.weight")


class Conv(NamedTuple):
    """A convolution, followed by a ReLU: `index` in torchvision's ``features``, and its shape."""

    index: int
    channels: int
    kernel: int
    padding: int
    stride: int = 1
    pooled: bool = False  # whether it sees pooled features
    tapped: bool = False  # whether its features are compared


@dataclass(frozen=True)
class Network:
    """The convolutions of a classifier, and the width of its pools, of stride 2."""

    name: str
    pool: int
    layers: tuple[Conv, ...]


ALEXNET = Network(
    "AlexNet",
    3,
    (
        Conv(0, 64, 11, 2, stride=4, tapped=True),
        Conv(3, 192, 5, 2, pooled=True, tapped=True),
        Conv(6, 384, 3, 1, pooled=True, tapped=True),
        Conv(8, 256, 3, 1, tapped=True),
        Conv(10, 256, 3, 1, tapped=True),
    ),
)
VGG16 = Network(
    "VGG-16",
    2,
    (
        Conv(0, 64, 3, 1),
        Conv(2, 64, 3, 1, tapped=True),
        Conv(5, 128, 3, 1, pooled=True),
        Conv(7, 128, 3, 1, tapped=True),
        Conv(10, 256, 3, 1, pooled=True),
        Conv(12, 256, 3, 1),
        Conv(14, 256, 3, 1, tapped=True),
        Conv(17, 512, 3, 1, pooled=True),
        Conv(19, 512, 3, 1),
        Conv(21, 512, 3, 1, tapped=True),
        Conv(24, 512, 3, 1, pooled=True),
        Conv(26, 512, 3, 1),
        Conv(28, 512, 3, 1, tapped=True),
    ),
)


@dataclass(frozen=True, eq=False)
class Lpips:
    """The distance of a picture from the truth, [H, W, 3] in [0, 1] both: 0 is equal.

    Sides below 32 pixels are filled up with black in both.

    Attributes
    ----------
    convolutions : per layer of `network` weight and bias.
    weights : per tapped layer [1, channels, 1, 1].
    """

    network: Network
    convolutions: tuple[tuple[Tensor, Tensor], ...]
    weights: tuple[Tensor, ...]

    @torch.no_grad()
    def __call__(self, picture: F32, truth: F32) -> float:
        if picture.shape != truth.shape or picture.ndim != 3 or picture.shape[2] != 3:
            raise ValueError(
                "lpips: expected two pictures [H, W, 3] of one size, found "
                f"{list(picture.shape)} and {list(truth.shape)}"
            )
        both = torch.from_numpy(np.stack([picture, truth]).astype(np.float32)).permute(0, 3, 1, 2)
        height, width = (max(0, SMALLEST - side) for side in picture.shape[:2])
        both = F.pad(both, (0, width, 0, height))
        shift, scale = (both.new_tensor(v)[:, None, None] for v in (SHIFT, SCALE))
        total = 0.0
        tapped = self._features((2 * both - 1 - shift) / scale)
        for features, weight in zip(tapped, self.weights, strict=True):
            unit = features / (features.norm(dim=1, keepdim=True) + TINY)
            difference = (unit[:1] - unit[1:]) ** 2
            total += float((difference * weight).sum(1).mean())
        return total

    def _features(self, x: Tensor) -> list[Tensor]:
        found = []
        for layer, (weight, bias) in zip(self.network.layers, self.convolutions, strict=True):
            if layer.pooled:
                x = F.max_pool2d(x, self.network.pool, 2)
            x = F.relu(F.conv2d(x, weight, bias, layer.stride, layer.padding))
            if layer.tapped:
                found.append(x)
        return found


def open_lpips(paths: Sequence[Path]) -> Lpips:
    """Read the weights: one file with everything, or the network's and the layers' in two.

    Raises
    ------
    FileError
        A file cannot be read, or weights are missing or of the wrong shape.
    """
    names = " and ".join(str(path) for path in paths)
    found: dict[str, Tensor] = {}
    for path in paths:
        found |= _weights(path)
    kernel = found["features.0.weight"].shape[-1] if "features.0.weight" in found else 0
    network = {11: ALEXNET, 3: VGG16}.get(kernel)
    if network is None:
        raise FileError(f"{names}: no weights of AlexNet or VGG-16 found; {ADVICE}")

    def taken(name: str, *shape: int) -> Tensor:
        value = found.get(name)
        if value is None:
            raise FileError(f"{names}: {network.name}'s {name} is missing; {ADVICE}")
        if tuple(value.shape) != shape or not value.isfinite().all():
            raise FileError(
                f"{names}: {name}: expected finite values {list(shape)} for {network.name}, found "
                f"{list(value.shape)}; {ADVICE}"
            )
        return value.float()

    convolutions, inputs = [], 3
    for layer in network.layers:
        name, kernel = f"features.{layer.index}", layer.kernel
        weight = taken(f"{name}.weight", layer.channels, inputs, kernel, kernel)
        convolutions.append((weight, taken(f"{name}.bias", layer.channels)))
        inputs = layer.channels
    tapped = [layer for layer in network.layers if layer.tapped]
    weights = [taken(f"lin{k}", 1, layer.channels, 1, 1) for k, layer in enumerate(tapped)]
    return Lpips(network, tuple(convolutions), tuple(weights))


def _weights(path: Path) -> dict[str, Tensor]:
    """The tensors that matter of a state dict, by the names ``features.3.bias`` and ``lin2``."""
    if not path.is_file():
        raise FileError(f"{path}: no such file; {ADVICE}")
    try:
        state = torch.load(path, weights_only=True, map_location="cpu")
    except Exception as error:  # the formats' readers raise anything, and all of it means this
        raise FileError(f"{path}: no file of weights ({type(error).__name__}); {ADVICE}") from error
    if not isinstance(state, dict):
        raise FileError(f"{path}: expected a state dict, found {type(state).__name__}; {ADVICE}")
    found = {}
    for name, value in state.items():
        if not isinstance(value, Tensor):
            continue
        if match := CONVOLUTION.fullmatch(name):
            found[f"features.{match[1]}.{match[2]}"] = value
        elif match := LAYER.fullmatch(name):
            found[f"lin{match[1]}"] = value
    return found
