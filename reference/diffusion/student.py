"""A denoiser that takes few steps and no second branch: `distill` makes one of a trained model.

It is told per frame how strongly the frame is guided and at which noise level the step ends. The
first replaces the branch without the picture, and leaves the guidance of views a function of the
angle. The second lets one model serve several numbers of steps: what a step must predict depends
on how far it goes, not on where it starts alone.
"""

from __future__ import annotations

import torch
from diffusers.models.embeddings import TimestepEmbedding, Timesteps
from torch import Tensor, nn

from reference.diffusion import edm
from reference.diffusion.config import DiffusionConfig
from reference.diffusion.denoiser import Denoiser

__all__ = ["Student", "start_as"]

TOLD = 2  # how far the guidance is above 1, and c_noise of the level where the step ends


class Student(Denoiser):
    """`Denoiser` with an embedding more, whose last layer starts at zero."""

    told = True

    def __init__(self, config: DiffusionConfig) -> None:
        super().__init__(config)
        unet = config.unet
        self.told_proj = Timesteps(unet.id_channels, True, downscale_freq_shift=0)
        self.told_embedding = TimestepEmbedding(TOLD * unet.id_channels, 4 * unet.widths[0])
        nn.init.zeros_(self.told_embedding.linear_2.weight)
        nn.init.zeros_(self.told_embedding.linear_2.bias)

    def velocity(  # type: ignore[override]  # it is told more
        self,
        x: Tensor,
        sigma: Tensor,
        *,
        guidance: Tensor,
        sigma_next: Tensor,
        **conditions: Tensor,
    ) -> Tensor:
        """v of a step from σ to σ_next under guidance, all [B, F]; else as `Denoiser.velocity`."""
        # A clip's last step ends at 0, whose logarithm is not finite; a stream's at "clean".
        ends = edm.c_noise(sigma_next.clamp_min(edm.SIGMA_CLEAN))
        values = torch.stack([guidance - 1, ends], -1)  # [B, F, 2]
        sinusoids = self.told_proj(values.flatten()).reshape(*sigma.shape, -1)
        embedded = self.told_embedding(sinusoids.to(self.unet.conv_in.weight.dtype))
        return super().velocity(x, sigma, told=embedded, **conditions)

    def guided_x0(  # type: ignore[override]
        self, x: Tensor, sigma: Tensor, *, guidance: Tensor, sigma_next: Tensor, **more: Tensor
    ) -> Tensor:
        """The clean latents that a step goes towards, in one branch."""
        return self.x0(x, sigma, guidance=guidance, sigma_next=sigma_next, **more)


def start_as(teacher: Denoiser) -> Student:
    """A student that says what its teacher says without guidance."""
    student = Student(teacher.config)
    state = student.state_dict() | teacher.state_dict()
    student.load_state_dict(state)
    return student
