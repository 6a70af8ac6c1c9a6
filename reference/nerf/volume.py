"""Volume rendering of packed samples, differentiable."""

from __future__ import annotations

import torch
from torch import Tensor

__all__ = ["composite"]


def composite(
    ray: Tensor, delta: Tensor, sigma: Tensor, rgb: Tensor, *, rays: int
) -> tuple[Tensor, Tensor]:
    """Colour and coverage of each ray over black.

    ray [N] ascending ray numbers, front to back within a ray; delta [N] metres; sigma [N] ≥ 0 in
    1/m; rgb [N,3] → rgb [rays,3] premultiplied by coverage, alpha [rays]. Rays without samples
    are black.
    """
    ray = ray.long()
    tau = sigma * delta
    # One running sum over all rays, less what had summed up when the ray began. In double: over
    # 10^5 samples float32 would lose the thin ones.
    total = torch.cumsum(tau.double(), 0)
    before = total - tau.double()
    count = torch.bincount(ray, minlength=rays)
    first = torch.cumsum(count, 0) - count
    start = before[first.clamp(max=max(len(tau) - 1, 0))] if len(tau) else before.new_zeros(rays)
    transmittance = torch.exp(-(before - start[ray])).to(tau.dtype)
    weight = transmittance * -torch.expm1(-tau)
    out = torch.zeros(rays, 4, dtype=rgb.dtype, device=rgb.device)
    packed = torch.cat([rgb, torch.ones_like(rgb[:, :1])], 1) * weight[:, None]
    out = out.index_add(0, ray, packed)
    return out[:, :3], out[:, 3]
