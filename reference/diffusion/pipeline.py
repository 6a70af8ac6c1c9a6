"""The release's offline sampler, ``parity``: the quality yardstick of every live policy.

Every window of a clip is denoised at every step and their predictions are blended, so no frame is
final before the whole clip is.
"""

from __future__ import annotations

from collections.abc import Callable
from itertools import pairwise

import torch
from torch import Tensor

from gas_rt.diffusion import parity
from reference.diffusion import edm
from reference.diffusion.denoiser import Denoiser

__all__ = ["fusion_weights", "generate", "sample", "windows"]

TILE = 20
OVERLAP = 6

WindowDenoiser = Callable[[Tensor, Tensor, Tensor], Tensor]
"""(x [n, C, h, w], sigma [n], clip frames [n]) → x0 [n, C, h, w]"""


def windows(frames: int, *, tile: int = TILE, overlap: int = OVERLAP) -> list[Tensor]:
    """The frames of each window: frame 0, the anchor of them all, then ``tile − 1`` in a row.

    A clip of at most `tile` frames is one window; a last window ends with the clip.
    """
    if frames < 1:
        raise ValueError(f"frames: expected at least 1, found {frames}")
    if not 0 <= overlap < tile - 1:
        raise ValueError(
            f"overlap: expected 0 ≤ overlap < tile − 1 = {tile - 1}, so that every window brings "
            f"new frames; found {overlap}"
        )
    return [torch.tensor(span) for span in parity.spans(frames, tile=tile, stride=tile - overlap)]


def fusion_weights(count: int) -> Tensor:
    """[count], a triangle that is highest in the middle of a window."""
    return torch.from_numpy(parity.fusion_weights(count))


@torch.no_grad()
def sample(
    denoise: WindowDenoiser,
    noise: Tensor,
    *,
    sigmas: Tensor,
    tile: int = TILE,
    overlap: int = OVERLAP,
    progress: Callable[[int], None] | None = None,
) -> Tensor:
    """Clean latents [N, C, h, w] from unit noise [N, C, h, w] along falling `sigmas` [S + 1]."""
    if sigmas.ndim != 1 or len(sigmas) < 2 or bool((sigmas.diff() >= 0).any()):
        raise ValueError(f"sigmas: expected a falling list, found {sigmas.tolist()}")
    plan = windows(len(noise), tile=tile, overlap=overlap)
    weights = fusion_weights(len(plan[0]))[:, None, None, None]
    total = noise.new_zeros(len(noise), 1, 1, 1)
    for frames in plan:
        total.index_add_(0, frames, weights)
    x = noise * torch.sqrt(sigmas[0] ** 2 + 1)
    for step, (sigma, following) in enumerate(pairwise(sigmas)):
        summed = torch.zeros_like(x)
        for frames in plan:
            x0 = denoise(x[frames], sigma.expand(len(frames)), frames)
            summed.index_add_(0, frames, weights * x0)
        x = edm.euler(x, summed / total, sigma.expand(len(x)), following.expand(len(x)))
        if progress is not None:
            progress(step)
    return x


@torch.no_grad()
def generate(
    model: Denoiser,
    *,
    reference: Tensor,
    embedding: Tensor,
    nerf_latents: Tensor,
    normals: Tensor,
    switcher: Tensor,
    guidance: Tensor,
    noise: Tensor,
    sigmas: Tensor,
    tile: int = TILE,
    overlap: int = OVERLAP,
) -> Tensor:
    """Latents of a clip of N frames, ready for the decoder (scaling undone).

    Parameters
    ----------
    reference, embedding : [1, C, h, w] unscaled and [1, D], the picture's.
    nerf_latents, normals : [N, C, h, w] unscaled and [N, 3, 8h, 8w] in [0, 1].
    switcher, guidance : [N, 2] and [N].
    noise : [N, C, h, w]; a period of 20 frames is the release's.
    """
    count = len(noise)
    named = {
        "nerf_latents": nerf_latents,
        "normals": normals,
        "switcher": switcher,
        "guidance": guidance,
    }
    for name, value in named.items():
        if len(value) != count:
            raise ValueError(
                f"{name}: expected {count} frames, as many as noise, found {len(value)}"
            )
    condition = model.condition(nerf_latents[None], normals[None])[0]  # once, for every step
    unguided = bool((guidance == 1).all()) and not model.told
    following = dict(pairwise(sigmas.tolist()))

    def denoise(x: Tensor, sigma: Tensor, frames: Tensor) -> Tensor:
        conditions = {
            "reference": reference,
            "embedding": embedding,
            "condition": condition[None, frames],
            "switcher": switcher[None, frames],
        }
        if unguided:
            return model.x0(x[None], sigma[None], **conditions)[0]
        strength = guidance[None, frames]
        if model.told:
            conditions["sigma_next"] = torch.full_like(sigma, following[float(sigma[0])])[None]
        return model.guided_x0(x[None], sigma[None], guidance=strength, **conditions)[0]

    generated = sample(denoise, noise, sigmas=sigmas, tile=tile, overlap=overlap)
    return model.latents(generated, nerf_latents)
