"""What an error of latents is in the picture.

The autoencoder's decoder makes much of some errors and little of others: of the small model's 16
channels one combination alone, brightness, carries half of what centred latents are in the picture
and a seventh of what they are as latents; and what neighbouring latents agree on counts more than
what they do not. So trainings measure errors by the decoder's derivative J: ``|J e|²``, where J
moves with the latent pixel.
"""

from __future__ import annotations

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from reference.autoencoder import Autoencoder
from reference.diffusion.clips import DOWNSAMPLING, Clips

__all__ = ["picture_error", "picture_stencil"]

REACH = 2  # latent pixels; errors farther apart do not meet in the picture
SAMPLES = 32  # places where the derivative is taken
STEP = 0.05  # of a latent, of unit variance
INSIDE = 0.5  # share of a latent pixel that the person covers
SEED = 1 << 41  # no training seed


@torch.no_grad()
def picture_stencil(autoencoder: Autoencoder, clips: Clips) -> Tensor:
    """[C, C, 5, 5]: the mean of JᵀJ over places on people, by how far two latent pixels are apart.

    It is scaled so that independent errors of unit variance measure 1 per channel.
    """
    rng = np.random.default_rng(SEED)
    channels, height, width = clips.black_latent.shape
    side = (2 * REACH + 1) * DOWNSAMPLING
    total = torch.zeros(channels, channels, 2 * REACH + 1, 2 * REACH + 1)
    for _ in range(SAMPLES):
        index = int(rng.integers(len(clips)))
        part = clips.frames(index, rng.integers(clips.length, size=1))
        inside = part["person"][0] >= INSIDE * 255
        places = np.argwhere(inside if inside.any() else np.ones((height, width), bool))
        row, column = places[rng.integers(len(places))]
        latents = torch.from_numpy(part["target_latents"][0].astype(np.float32))
        moved = latents.repeat(channels + 1, 1, 1, 1)
        moved[range(channels), range(channels), row, column] += STEP
        decoded = autoencoder.decode(moved)
        change = F.pad((decoded[:-1] - decoded[-1]) / STEP, 4 * [REACH * DOWNSAMPLING])
        top, left = row * DOWNSAMPLING, column * DOWNSAMPLING
        patch = change[:, :, top : top + side, left : left + side]
        # The derivative at a neighbour is this one, moved.
        padded = F.pad(patch, 4 * [REACH * DOWNSAMPLING])
        total += F.conv2d(padded, patch, stride=DOWNSAMPLING)
    # A place and its neighbour are each other's neighbours, in opposite directions.
    total = (total + total.flip(2, 3).transpose(0, 1)) / 2
    return total / total[:, :, REACH, REACH].diagonal().mean()


def picture_error(error: Tensor, weight: Tensor, stencil: Tensor) -> Tensor:
    """The mean of `weight` [B, F, h, w] times how large errors [B, F, C, h, w] are in the picture.

    A `picture_stencil` is cut off at its edge, so that it can make a very rough error slightly
    negative.
    """
    shown = (error * weight[:, :, None].sqrt()).flatten(0, 1)
    return (shown * F.conv2d(shown, stencil, padding=stencil.shape[-1] // 2)).mean()
