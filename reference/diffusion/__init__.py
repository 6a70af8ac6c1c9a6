"""Stage 2: video diffusion on the field's render, in PyTorch.

`unet` is SVD's UNet with noise level and modality per frame, `conditions` the two networks whose
sum is added after its first convolution, `denoiser` all of them together with preconditioning and
guidance, `pipeline` the offline sampler of the release, `training` and `clips` how the small
model learns.
"""

from __future__ import annotations

from reference.diffusion.config import PRESETS, DiffusionConfig, UNetConfig
from reference.diffusion.denoiser import Denoiser

__all__ = ["PRESETS", "Denoiser", "DiffusionConfig", "UNetConfig"]
