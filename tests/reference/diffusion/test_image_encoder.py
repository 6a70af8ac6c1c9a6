"""Both ways from a picture to its token."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from transformers import CLIPVisionConfig, CLIPVisionModelWithProjection

from reference.diffusion.config import PRESETS, ImageEncoderConfig
from reference.diffusion.image_encoder import ClipImageEncoder, ConvImageEncoder


def test_the_small_encoder_sees_the_picture() -> None:
    torch.manual_seed(0)
    encoder = ConvImageEncoder(PRESETS["tiny"].image_encoder, channels=16)
    pictures = torch.rand(2, 3, 32, 48) * 2 - 1
    tokens = encoder(pictures)
    assert tokens.shape == (2, 16)
    assert (tokens[0] - tokens[1]).abs().max() > 1e-3


def test_clip_comes_from_a_folder_and_is_frozen(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match="image_encoder"):
        ClipImageEncoder(tmp_path)
    config = CLIPVisionConfig(
        hidden_size=16,
        intermediate_size=16,
        num_hidden_layers=1,
        num_attention_heads=2,
        patch_size=56,
        projection_dim=8,
    )
    torch.manual_seed(0)
    CLIPVisionModelWithProjection(config).save_pretrained(tmp_path)
    encoder = ClipImageEncoder(tmp_path)
    assert not any(p.requires_grad for p in encoder.parameters())
    # A flat picture stays flat through the resampling, so its normalised value is known.
    grey = encoder(torch.zeros(1, 3, 64, 64))
    mean = torch.tensor([0.48145466, 0.4578275, 0.40821073])[:, None, None]
    std = torch.tensor([0.26862954, 0.26130258, 0.27577711])[:, None, None]
    expected = encoder.clip(((0.5 - mean) / std).expand(1, 3, 224, 224)).image_embeds
    assert grey.shape == (1, 8)
    torch.testing.assert_close(grey, expected, rtol=1e-3, atol=1e-4)


def test_wrong_pictures_and_kinds_are_named() -> None:
    encoder = ConvImageEncoder(PRESETS["tiny"].image_encoder, channels=16)
    with pytest.raises(ValueError, match=r"picture: expected \[B, 3, H, W\]"):
        encoder(torch.zeros(3, 32, 32))
    with pytest.raises(ValueError, match="'conv' or 'clip'"):
        ImageEncoderConfig(kind="vit")
