"""A trained model's weights in a larger one that begins by computing the same.

Channels are repeated and what reads them shares its weights among the copies, unevenly, so that
they do not stay copies (Chen et al. 2016, Net2Net). A group of channels normalised together becomes
the same group with every channel repeated, whose mean and variance are the same.
"""

from __future__ import annotations

from dataclasses import replace
from fractions import Fraction

import torch
from torch import Tensor, nn

from reference.nerf.model import HumanNerf

__all__ = ["widen"]

LARGER = ("encoder_widths", "plane_widths", "deeper")  # what may differ
UNEVEN = 0.7  # of two copies' parts of a weight: each is at most this much off an even one


def widen(model: HumanNerf, earlier: HumanNerf, *, seed: int = 0) -> None:
    """Give `model` the function of `earlier`, whose layers are as wide or a whole factor narrower.

    `deeper` of their configurations may differ, and `encoder_widths` and `plane_widths`, all of
    either by one factor. Layers that only `model` has keep their initial weights, which add
    nothing.

    Raises
    ------
    ValueError : the configurations differ in something else, or a layer of `earlier` is wider, or
        narrower but not by a whole factor, or is normalised in other groups, or is not in `model`.
    """
    larger = {name: getattr(model.config, name) for name in LARGER}
    if replace(earlier.config, **larger) != model.config:
        raise ValueError(f"is of another model configuration, and not only in {', '.join(LARGER)}")
    for name in LARGER[:2]:
        # Decoders read layers of several widths side by side: one factor keeps them in order.
        pairs = zip(larger[name], getattr(earlier.config, name), strict=True)
        if len({Fraction(wide, narrow) for wide, narrow in pairs}) > 1:
            raise ValueError(f"has {name} that do not all grow by the same factor")
    source, state = earlier.state_dict(), model.state_dict()
    if strange := sorted(set(source) - set(state)):
        raise ValueError(f"has layers that the new model lacks: {strange[:3]}")
    for name, module in earlier.named_modules():
        if isinstance(module, nn.GroupNorm):
            groups = model.get_submodule(name).num_groups
            if groups != module.num_groups:
                raise ValueError(f"its {name} has {module.num_groups} groups, the new one {groups}")
    rng = torch.Generator().manual_seed(seed)
    for name, value in source.items():
        try:
            state[name] = _repeated(value, state[name].shape, rng)
        except ValueError as error:
            raise ValueError(f"its {name} of {error}") from None
    model.load_state_dict(state)


def _repeated(value: Tensor, shape: torch.Size, rng: torch.Generator) -> Tensor:
    """A parameter [out, in, ...] or [out] in a larger shape."""
    if any(a % b for a, b in zip(shape, value.shape, strict=True)):
        raise ValueError(
            f"{tuple(value.shape)} cannot be {tuple(shape)}; widen by whole factors alone"
        )
    times = [a // b for a, b in zip(shape, value.shape, strict=True)]
    out = value.repeat_interleave(times[0], 0) if value.dim() else value
    if value.dim() < 2 or times[1] == 1:
        return out
    parts = torch.rand((*out.shape, times[1]), generator=rng) * 2 - 1
    parts = 1 + UNEVEN * (parts - parts.mean(-1, keepdim=True))
    shared = out[..., None] * parts.to(out.dtype) / times[1]  # [out, in, ..., copies]
    return shared.movedim(-1, 2).flatten(1, 2)
