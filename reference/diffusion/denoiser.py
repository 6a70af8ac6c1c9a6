"""All of stage 2 in one module: conditions, preconditioning, guidance, one step.

Shapes: B clips, F frames of a window, latents [C, h, w], pictures [3, 8h, 8w].
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from reference.diffusion import edm
from reference.diffusion.conditions import NerfNet, PoseNet
from reference.diffusion.config import DiffusionConfig
from reference.diffusion.image_encoder import ConvImageEncoder
from reference.diffusion.unet import VideoUNet

__all__ = ["Denoiser", "DenoiserStep", "centre"]


class Denoiser(nn.Module):
    """The UNet with the networks that feed it.

    With the "clip" image encoder there is no `image_encoder` here: it is frozen, so embeddings
    come from outside. `told` is whether steps are told their guidance and where they end, as a
    `student.Student` is, in place of a second branch.
    """

    told = False

    def __init__(self, config: DiffusionConfig) -> None:
        super().__init__()
        self.config = config
        unet, conditions = config.unet, config.conditions
        self.unet = VideoUNet(unet)
        self.nerf_net = NerfNet(
            conditions, latent_channels=unet.latent_channels, out_channels=unet.widths[0]
        )
        self.pose_net = PoseNet(conditions, out_channels=unet.widths[0])
        self.image_encoder: ConvImageEncoder | None = None
        if config.image_encoder.kind == "conv":
            self.image_encoder = ConvImageEncoder(
                config.image_encoder, channels=unet.embedding_channels
            )

    def embed(self, picture: Tensor) -> Tensor:
        """[B, 3, H, W] in [-1, 1] → the token [B, D]."""
        if self.image_encoder is None:
            raise ValueError(
                "this model embeds pictures with CLIP, which is no part of it; "
                "use image_encoder.ClipImageEncoder and pass its embedding"
            )
        return self.image_encoder(picture)

    def condition(self, nerf_latents: Tensor, normals: Tensor) -> Tensor:
        """[B, F, C, h, w] unscaled and [B, F, 3, 8h, 8w] in [0, 1] → [B, F, C0, h, w]."""
        total = self.pose_net(normals.flatten(0, 1))
        if self.config.nerf:
            total = self.nerf_net(nerf_latents.flatten(0, 1)) + total
        return total.unflatten(0, nerf_latents.shape[:2])

    def centre(self, latents: Tensor, nerf_latents: Tensor) -> Tensor:
        """What the model generates of latents [..., C, h, w], given those of the field's render.

        Both are unscaled. A dropped NeRF's are those of a black picture.
        """
        return centre(self.config, latents, nerf_latents)

    def latents(self, generated: Tensor, nerf_latents: Tensor) -> Tensor:
        """The unscaled latents of what the model generated; undoes `centre`."""
        if self.config.residual_std is None:
            return generated / self.config.latent_scale
        return generated * (self.config.residual_std / self.config.latent_scale) + nerf_latents

    def velocity(
        self,
        x: Tensor,
        sigma: Tensor,
        *,
        reference: Tensor,
        embedding: Tensor,
        condition: Tensor,
        switcher: Tensor,
        told: Tensor | None = None,
    ) -> Tensor:
        """v of noisy latents x [B, F, C, h, w] at σ [B, F].

        `reference` [B, C, h, w] and `embedding` [B, D] are the clip's, `condition`
        [B, F, C0, h, w] and `switcher` [B, F, 2] the frames', and so is `told` [B, F, T], which
        a student adds to their time embeddings. Scaling is fp32 whatever the UNet's precision:
        700² overflows fp16.
        """
        batch, frames = x.shape[:2]
        # Centred latents are a correction of what the conditions tell. Noise of 40 times their size
        # would enter as large as the conditions; c_in² x, all that x tells of x0, enters as small.
        c_in = edm.c_in(sigma) if self.config.residual_std is None else edm.c_in(sigma) ** 2
        scaled = x * edm.per_frame(c_in, x)
        repeated = reference[:, None].expand(-1, frames, -1, -1, -1)
        modality = switcher if self.config.switcher else torch.zeros_like(switcher)
        ids = x.new_tensor(self.config.added_ids).expand(batch, frames, -1)
        dtype = self.unet.conv_in.weight.dtype
        v = self.unet(
            torch.cat([scaled, repeated], dim=2).to(dtype),
            edm.c_noise(sigma),
            embedding[:, None].to(dtype),
            ids,
            modality,
            condition.to(dtype),
            told,
        )
        return v.float()

    def x0(self, x: Tensor, sigma: Tensor, **conditions: Tensor) -> Tensor:
        """The clean latents, without guidance; arguments as of `velocity`."""
        return edm.x0_from_velocity(x, self.velocity(x, sigma, **conditions), sigma)

    def guided_x0(
        self,
        x: Tensor,
        sigma: Tensor,
        *,
        guidance: Tensor,
        reference: Tensor,
        embedding: Tensor,
        condition: Tensor,
        switcher: Tensor,
    ) -> Tensor:
        """The clean latents under guidance [B, F]; both branches run as one batch.

        The unconditional branch, first, lacks the picture only: embedding and reference latent
        are zero, NeRF, pose and modality stay.
        """
        both = self.x0(
            torch.cat([x, x]),
            torch.cat([sigma, sigma]),
            reference=torch.cat([torch.zeros_like(reference), reference]),
            embedding=torch.cat([torch.zeros_like(embedding), embedding]),
            condition=torch.cat([condition, condition]),
            switcher=torch.cat([switcher, switcher]),
        )
        unconditional, conditional = both.chunk(2)
        return edm.guide(unconditional, conditional, guidance)


def centre(config: DiffusionConfig, latents: Tensor, nerf_latents: Tensor) -> Tensor:
    """See `Denoiser.centre`."""
    if config.residual_std is None:
        return latents * config.latent_scale
    return (latents - nerf_latents) * (config.latent_scale / config.residual_std)


class DenoiserStep(nn.Module):
    """The graph of one denoising step of one window, as a bundle holds it.

    With ``guided=False`` the second branch is left out, and with it the input `guidance`. A student
    has no second branch and takes `guidance` always.
    """

    INPUTS = ("x", "sigma", "sigma_next", "reference", "embedding", "condition", "switcher")
    OUTPUTS = ("x_next", "x0")

    def __init__(self, model: Denoiser, *, guided: bool = True) -> None:
        super().__init__()
        self.model, self.guided = model, guided or model.told

    def forward(
        self,
        x: Tensor,  # [F, C, h, w]
        sigma: Tensor,  # [F]
        sigma_next: Tensor,  # [F]
        reference: Tensor,  # [1, C, h, w]
        embedding: Tensor,  # [1, D]
        condition: Tensor,  # [F, C0, h, w]
        switcher: Tensor,  # [F, 2]
        guidance: Tensor | None = None,  # [F]
    ) -> tuple[Tensor, Tensor]:
        """x_next and x0, both [F, C, h, w]."""
        assert self.guided == (guidance is not None), "guidance goes with the guided graph only"
        conditions = {
            "reference": reference,
            "embedding": embedding,
            "condition": condition[None],
            "switcher": switcher[None],
        }
        if guidance is None:
            x0 = self.model.x0(x[None], sigma[None], **conditions)[0]
        else:
            conditions["guidance"] = guidance[None]
            if self.model.told:
                conditions["sigma_next"] = sigma_next[None]
            x0 = self.model.guided_x0(x[None], sigma[None], **conditions)[0]
        return edm.euler(x, x0, sigma, sigma_next), x0
