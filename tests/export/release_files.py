"""Small random checkpoints in the authors' layout, by the libraries' own writers."""

from __future__ import annotations

from pathlib import Path

import torch
from diffusers import (
    AutoencoderKLTemporalDecoder,
    EulerDiscreteScheduler,
    UNetSpatioTemporalConditionModel,
)
from transformers import CLIPVisionConfig, CLIPVisionModelWithProjection

from reference.diffusion.conditions import NerfNet, PoseNet
from reference.diffusion.config import ConditionConfig, UNetConfig
from reference.diffusion.image_encoder import CLIP_MEAN, CLIP_STD
from reference.diffusion.unet import VideoUNet
from tests.export.tiny_models import randomised

UNET = UNetConfig(
    widths=(32, 64),
    attention=(True, False),
    heads=(1, 2),
    layers=1,
    embedding_channels=16,
    id_channels=16,
)


def svd_scheduler() -> EulerDiscreteScheduler:
    """SVD's, as its checkout configures it."""
    return EulerDiscreteScheduler(
        beta_end=0.012,
        beta_schedule="scaled_linear",
        beta_start=0.00085,
        interpolation_type="linear",
        prediction_type="v_prediction",
        sigma_max=700.0,
        sigma_min=0.002,
        steps_offset=1,
        timestep_spacing="leading",
        timestep_type="continuous",
        use_karras_sigmas=True,
    )


def write_release(folder: Path) -> tuple[Path, Path]:
    """The folders `SVD` and `GAS`."""
    svd, gas = folder / "svd", folder / "gas"
    gas.mkdir(parents=True)
    torch.manual_seed(3)
    UNetSpatioTemporalConditionModel(
        block_out_channels=UNET.widths,
        down_block_types=("CrossAttnDownBlockSpatioTemporal", "DownBlockSpatioTemporal"),
        up_block_types=("UpBlockSpatioTemporal", "CrossAttnUpBlockSpatioTemporal"),
        addition_time_embed_dim=UNET.id_channels,
        projection_class_embeddings_input_dim=3 * UNET.id_channels,
        layers_per_block=1,
        cross_attention_dim=UNET.embedding_channels,
        num_attention_heads=UNET.heads,
    ).save_pretrained(svd / "unet")
    vae = AutoencoderKLTemporalDecoder(
        block_out_channels=(32, 32, 32, 32),
        down_block_types=("DownEncoderBlock2D",) * 4,
        layers_per_block=2,
        latent_channels=4,
        scaling_factor=0.18215,
    )
    randomised(vae).save_pretrained(svd / "vae")
    clip = CLIPVisionModelWithProjection(
        CLIPVisionConfig(
            hidden_size=32,
            intermediate_size=64,
            num_hidden_layers=2,
            num_attention_heads=2,
            image_size=224,
            patch_size=56,
            projection_dim=UNET.embedding_channels,
            hidden_act="gelu",
        )
    )
    randomised(clip).save_pretrained(svd / "image_encoder")
    svd_scheduler().save_pretrained(svd / "scheduler")
    extractor = svd / "feature_extractor"
    extractor.mkdir()
    (extractor / "preprocessor_config.json").write_text(
        f'{{"image_mean": {list(CLIP_MEAN)}, "image_std": {list(CLIP_STD)}, "crop_size": 224}}'
    )
    conditions = ConditionConfig()
    nets = {
        "unet": VideoUNet(UNET),
        "pose_net": PoseNet(conditions, out_channels=UNET.widths[0]),
        "nerf_net": NerfNet(conditions, latent_channels=4, out_channels=UNET.widths[0]),
    }
    for name, net in nets.items():
        torch.save(randomised(net).state_dict(), gas / f"{name}.pth")
    return svd, gas
