"""The hash-grid field in torch, as its user would write it."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from gas_rt.kernels import HashField
from gas_rt.kernels.hash_field import COLOUR_PADDED, GEOMETRY, HIDDEN

__all__ = ["TorchField", "loss"]

PRIMES = (1, 2654435761, 805459861)
CORNERS = [[c >> axis & 1 for axis in range(3)] for c in range(8)]


class TorchField(nn.Module):
    """The parameters of a `HashField`, in layers without biases."""

    def __init__(self, field: HashField) -> None:
        super().__init__()
        self.config = field.config
        self.density_scale = field.density_scale
        self.register_buffer("lo", tensor(field.lo))
        self.register_buffer("extent", tensor(field.hi - field.lo))
        self.register_buffer("bits", torch.tensor(CORNERS))  # [8, 3]
        table = tensor(field.table).reshape(-1, field.config.features)
        sizes = field.config.sizes.tolist()
        self.levels = nn.ParameterList([nn.Parameter(t.clone()) for t in table.split(sizes)])
        split = HIDDEN * field.config.n_padded
        density, colour = tensor(field.density_mlp), tensor(field.colour_mlp)
        used = field.config.n_features  # the padding is zero
        w0 = density[:split].reshape(HIDDEN, -1)[:, :used]
        w1 = density[split:].reshape(GEOMETRY, HIDDEN)
        w2 = colour[: HIDDEN * COLOUR_PADDED].reshape(HIDDEN, COLOUR_PADDED)
        w3 = colour[HIDDEN * COLOUR_PADDED :].reshape(-1, HIDDEN)[:3]
        inputs = GEOMETRY + 3
        self.density0, self.density1 = layer(w0), layer(w1)
        # The inputs that are constantly 1 are a bias.
        self.colour0 = layer(w2[:, :inputs], bias=w2[:, inputs:].sum(1))
        self.colour1 = layer(w3)

    def encode(self, x: Tensor) -> Tensor:
        """Canonical points [N, 3] → features [N, levels * features]."""
        unit = ((x - self.lo) / self.extent).clamp(0, 1)
        features = []
        for level, table in enumerate(self.levels):
            position = unit * float(self.config.scales[level]) + 0.5
            whole = position.floor()
            fraction = (position - whole)[:, None]  # [N, 1, 3]
            vertex = whole.long()[:, None] + self.bits  # [N, 8, 3]
            if self.config.hashed[level]:
                x_, y, z = (vertex[..., axis] * PRIMES[axis] for axis in range(3))
                # The table's size is a power of two, so the low 32 bits decide.
                index = (x_ ^ y ^ z) & (len(table) - 1)
            else:
                side = int(self.config.resolutions[level])
                index = vertex[..., 0] + side * (vertex[..., 1] + side * vertex[..., 2])
                index = index % len(table)
            weight = torch.where(self.bits == 1, fraction, 1 - fraction).prod(2)  # [N, 8]
            entries = F.embedding(index, table)  # [N, 8, features]
            features.append((entries * weight[..., None]).sum(1))
        return torch.cat(features, 1)

    def logits(self, x: Tensor, d: Tensor) -> tuple[Tensor, Tensor]:
        """Density's logit [N] and colour [N, 3] at points x [N, 3] seen along d [N, 3]."""
        geometry = self.density1(F.relu(self.density0(self.encode(x))))
        hidden = F.relu(self.colour0(torch.cat([geometry, d], 1)))
        return geometry[:, 0], torch.sigmoid(self.colour1(hidden))

    def forward(self, x: Tensor, d: Tensor) -> tuple[Tensor, Tensor]:
        """Density [N] in 1/m and colour [N, 3]."""
        logit, rgb = self.logits(x, d)
        return self.density_scale * F.softplus(logit), rgb


def loss(
    field: TorchField, x: Tensor, d: Tensor, sigma: Tensor, rgb: Tensor, *, colour_weight: float
) -> Tensor:
    """The loss of `gas_rt.kernels.FieldTrainer`."""
    logit, colour = field.logits(x, d)
    alpha = 1 - torch.exp(-sigma / field.density_scale)
    error = ((colour - rgb) ** 2).sum(1)
    return (F.softplus(logit) - alpha * logit + colour_weight * alpha * error).mean()


def layer(weight: Tensor, *, bias: Tensor | None = None) -> nn.Linear:
    """A linear layer with this weight [out, in]."""
    made = nn.Linear(weight.shape[1], weight.shape[0], bias=bias is not None)
    with torch.no_grad():
        made.weight.copy_(weight)
        if bias is not None:
            made.bias.copy_(bias)
    return made


def tensor(array: np.ndarray[Any, Any]) -> Tensor:
    """A copy as a tensor: the array may be read-only."""
    return torch.from_numpy(np.array(array, np.float32))
