"""SVD's spatio-temporal UNet with noise level, added ids and modality per frame.

The blocks, and with them the names and shapes of the state dict, are diffusers'; what differs
from its `UNetSpatioTemporalConditionModel` is how the time embedding is made. diffusers repeats
one embedding for all frames just before the blocks, which take one per frame: no weight changes.
"""

from __future__ import annotations

import torch
from diffusers.models.attention import FeedForward
from diffusers.models.attention_processor import Attention
from diffusers.models.embeddings import TimestepEmbedding, Timesteps
from diffusers.models.unets.unet_3d_blocks import (
    UNetMidBlockSpatioTemporal,
    get_down_block,
    get_up_block,
)
from torch import Tensor, nn

from reference.diffusion.config import UNetConfig

__all__ = ["ADDED_IDS", "SWITCHER", "VideoUNet", "start_simple"]

ADDED_IDS = 3  # fps − 1, motion bucket, noise augmentation
SWITCHER = 2  # one-hot: pose = [1, 0], view = [0, 1]
EPS = 1e-5


class SingleTokenAttention:
    """Cross-attention to one token: its softmax is 1 whatever the query, so only values count.

    Queries and keys keep their weights in the state dict and are never computed.
    """

    def __call__(
        self,
        attn: Attention,
        hidden_states: Tensor,
        encoder_hidden_states: Tensor | None = None,
        attention_mask: Tensor | None = None,
        temb: Tensor | None = None,
    ) -> Tensor:
        assert encoder_hidden_states is not None, "cross-attention without a token"
        assert encoder_hidden_states.shape[1] == 1, "more than one token"
        value = attn.to_out[0](attn.to_v(encoder_hidden_states))  # [N, 1, C]
        return value.expand(hidden_states.shape)


class VideoUNet(nn.Module):
    """v-prediction of a window of frames."""

    def __init__(self, config: UNetConfig) -> None:
        super().__init__()
        self.config = config
        widths, time_width = config.widths, 4 * config.widths[0]
        self.conv_in = nn.Conv2d(2 * config.latent_channels, widths[0], 3, padding=1)
        self.time_proj = Timesteps(widths[0], True, downscale_freq_shift=0)
        self.time_embedding = TimestepEmbedding(widths[0], time_width)
        self.add_time_proj = Timesteps(config.id_channels, True, downscale_freq_shift=0)
        self.add_embedding = TimestepEmbedding(ADDED_IDS * config.id_channels, time_width)
        self.class_proj = Timesteps(config.id_channels, True, downscale_freq_shift=0)
        self.class_embedding = TimestepEmbedding(SWITCHER * config.id_channels, time_width)
        self.down_blocks = _down_blocks(config)
        self.mid_block = UNetMidBlockSpatioTemporal(
            widths[-1],
            temb_channels=time_width,
            cross_attention_dim=config.embedding_channels,
            num_attention_heads=config.heads[-1],
        )
        self.up_blocks = _up_blocks(config)
        self.conv_norm_out = nn.GroupNorm(config.groups, widths[0], eps=EPS)
        self.conv_act = nn.SiLU()
        self.conv_out = nn.Conv2d(widths[0], config.latent_channels, 3, padding=1)
        _adapt(self, config)

    def forward(
        self,
        sample: Tensor,
        noise_level: Tensor,
        embedding: Tensor,
        added_ids: Tensor,
        switcher: Tensor | None = None,
        condition: Tensor | None = None,
        told: Tensor | None = None,
    ) -> Tensor:
        """Predict v.

        Parameters
        ----------
        sample : [B, F, 2C, h, w], scaled noisy latents, then the reference latent.
        noise_level : [B, F], c_noise = ln(σ)/4 of each frame.
        embedding : [B, 1, D], the picture's token.
        added_ids : [B, F, 3].
        switcher : [B, F, 2] one-hot of the modality; None leaves its term out, as plain SVD does.
        condition : [B, F, C0, h, w], added after the first convolution.
        told : [B, F, T], added to the time embedding.

        Returns [B, F, C, h, w].
        """
        self._check(sample, noise_level, embedding, added_ids, switcher, condition)
        batch, frames = sample.shape[:2]
        temb = self._time_embedding(noise_level, added_ids, switcher, sample.dtype)  # [B·F, T]
        if told is not None:
            temb = temb + told.reshape(temb.shape)
        token = embedding.repeat_interleave(frames, dim=0)  # [B·F, 1, D]
        # 0 everywhere: frames of one video, so the temporal layers are mixed in.
        images = torch.zeros(batch, frames, dtype=sample.dtype, device=sample.device)

        x = self.conv_in(sample.flatten(0, 1))
        if condition is not None:
            x = x + condition.flatten(0, 1)
        skips: tuple[Tensor, ...] = (x,)
        for block in self.down_blocks:
            context = {"encoder_hidden_states": token} if _attends(block) else {}
            x, more = block(hidden_states=x, temb=temb, image_only_indicator=images, **context)
            skips += more
        x = self.mid_block(
            hidden_states=x, temb=temb, encoder_hidden_states=token, image_only_indicator=images
        )
        for block in self.up_blocks:
            count = len(block.resnets)
            skips, own = skips[:-count], skips[-count:]
            context = {"encoder_hidden_states": token} if _attends(block) else {}
            x = block(
                hidden_states=x,
                res_hidden_states_tuple=own,
                temb=temb,
                image_only_indicator=images,
                **context,
            )
        x = self.conv_out(self.conv_act(self.conv_norm_out(x)))
        return x.unflatten(0, (batch, frames))

    def _time_embedding(
        self, noise_level: Tensor, added_ids: Tensor, switcher: Tensor | None, dtype: torch.dtype
    ) -> Tensor:
        """[B·F, T]."""
        count = noise_level.numel()
        # The sinusoids are computed in fp32; the MLPs may run in half precision.
        time = self.time_proj(noise_level.flatten()).to(dtype)
        ids = self.add_time_proj(added_ids.flatten()).reshape(count, -1).to(dtype)
        temb = self.time_embedding(time) + self.add_embedding(ids)
        if switcher is not None:
            classes = self.class_proj(switcher.flatten()).reshape(count, -1).to(dtype)
            temb = temb + self.class_embedding(classes)
        return temb

    def _check(
        self,
        sample: Tensor,
        noise_level: Tensor,
        embedding: Tensor,
        added_ids: Tensor,
        switcher: Tensor | None,
        condition: Tensor | None,
    ) -> None:
        config = self.config
        if sample.ndim != 5 or sample.shape[2] != 2 * config.latent_channels:
            raise ValueError(
                f"sample: expected [B, F, {2 * config.latent_channels}, h, w], found "
                f"{list(sample.shape)}; noisy and reference latents are concatenated on channels"
            )
        batch, frames, _, height, width = sample.shape
        if frames == 0 or height % config.downsampling or width % config.downsampling:
            raise ValueError(
                f"sample: found {frames} frames of {height}×{width}; at least one frame is needed "
                f"and both sides must divide by {config.downsampling}"
            )
        expected = {
            "noise_level": (noise_level, (batch, frames)),
            "embedding": (embedding, (batch, 1, config.embedding_channels)),
            "added_ids": (added_ids, (batch, frames, ADDED_IDS)),
            "switcher": (switcher, (batch, frames, SWITCHER)),
            "condition": (condition, (batch, frames, config.widths[0], height, width)),
        }
        for name, (value, shape) in expected.items():
            if value is not None and tuple(value.shape) != shape:
                raise ValueError(
                    f"{name}: expected {list(shape)} beside this sample, found {list(value.shape)}"
                )


def start_simple(unet: VideoUNet) -> None:
    """Zero what ends a residual branch, and the output, before a training from nothing.

    As Dhariwal and Nichol (2021) did. Without it the first thousand steps unlearn random branches.
    """
    ends = ("conv2", "proj_out", "to_out.0", "ff.net.2", "ff_in.net.2")
    for name, module in unet.named_modules():
        if name == "conv_out" or name.endswith(ends):
            nn.init.zeros_(module.weight)
            nn.init.zeros_(module.bias)


def _attends(block: nn.Module) -> bool:
    return bool(getattr(block, "has_cross_attention", False))


def _down_blocks(config: UNetConfig) -> nn.ModuleList:
    blocks, previous = nn.ModuleList(), config.widths[0]
    for level, width in enumerate(config.widths):
        cross = "CrossAttn" if config.attention[level] else ""
        blocks.append(
            get_down_block(
                f"{cross}DownBlockSpatioTemporal",
                num_layers=config.layers,
                in_channels=previous,
                out_channels=width,
                temb_channels=4 * config.widths[0],
                add_downsample=level < len(config.widths) - 1,
                resnet_eps=EPS,
                resnet_act_fn="silu",
                cross_attention_dim=config.embedding_channels,
                num_attention_heads=config.heads[level],
            )
        )
        previous = width
    return blocks


def _up_blocks(config: UNetConfig) -> nn.ModuleList:
    blocks, previous = nn.ModuleList(), config.widths[-1]
    for index, level in enumerate(reversed(range(len(config.widths)))):
        cross = "CrossAttn" if config.attention[level] else ""
        blocks.append(
            get_up_block(
                f"{cross}UpBlockSpatioTemporal",
                num_layers=config.layers + 1,
                in_channels=config.widths[max(level - 1, 0)],
                out_channels=config.widths[level],
                prev_output_channel=previous,
                temb_channels=4 * config.widths[0],
                add_upsample=level > 0,
                resnet_eps=EPS,
                resnet_act_fn="silu",
                resolution_idx=index,
                cross_attention_dim=config.embedding_channels,
                num_attention_heads=config.heads[level],
            )
        )
        previous = config.widths[level]
    return blocks


def _adapt(unet: VideoUNet, config: UNetConfig) -> None:
    """What the library's constructors fix at SVD's values."""
    for module in list(unet.modules()):
        if isinstance(module, nn.GroupNorm):
            module.num_groups = config.groups
        for name, child in list(module.named_children()):
            if isinstance(child, FeedForward) and config.feed_forward != 4:
                width = child.net[-1].out_features
                ours = FeedForward(width, mult=config.feed_forward, activation_fn="geglu")
                setattr(module, name, ours)
            if name == "attn2":
                child.set_processor(SingleTokenAttention())
