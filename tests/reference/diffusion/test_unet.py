"""The UNet: diffusers' weights give diffusers' output, and frames have lives of their own."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import pytest
import torch
from diffusers import UNetSpatioTemporalConditionModel
from torch import Tensor, nn

from reference.diffusion.config import PRESETS, UNetConfig
from reference.diffusion.unet import VideoUNet, start_simple

TINY = PRESETS["tiny"].unet


def inputs(
    config: UNetConfig = TINY, *, batch: int = 1, frames: int = 3, side: int = 4
) -> dict[str, Tensor]:
    generator = torch.Generator().manual_seed(frames)

    def normal(*shape: int) -> Tensor:
        return torch.randn(shape, generator=generator)

    return {
        "sample": normal(batch, frames, 2 * config.latent_channels, side, side),
        "noise_level": normal(batch, frames),
        "embedding": normal(batch, 1, config.embedding_channels),
        "added_ids": torch.tensor([6.0, 127.0, 0.0]).expand(batch, frames, 3),
        "switcher": torch.eye(2)[torch.arange(frames) % 2].expand(batch, frames, 2),
        "condition": normal(batch, frames, config.widths[0], side, side),
    }


@pytest.fixture(scope="module")
def unet() -> VideoUNet:
    torch.manual_seed(0)
    return VideoUNet(TINY).eval().requires_grad_(False)


@torch.no_grad()
def test_diffusers_weights_give_diffusers_output() -> None:
    torch.manual_seed(0)
    theirs = UNetSpatioTemporalConditionModel(
        in_channels=8,
        out_channels=4,
        block_out_channels=(32, 64),
        down_block_types=("CrossAttnDownBlockSpatioTemporal", "DownBlockSpatioTemporal"),
        up_block_types=("UpBlockSpatioTemporal", "CrossAttnUpBlockSpatioTemporal"),
        addition_time_embed_dim=16,
        projection_class_embeddings_input_dim=48,
        layers_per_block=2,
        cross_attention_dim=16,
        num_attention_heads=(1, 2),
    ).eval()
    config = UNetConfig(
        widths=(32, 64),
        attention=(True, False),
        heads=(1, 2),
        embedding_channels=16,
        id_channels=16,
    )
    ours = VideoUNet(config).eval()
    odd = ours.load_state_dict(theirs.state_dict(), strict=False)
    assert odd.unexpected_keys == []
    assert all(key.startswith("class_embedding.") for key in odd.missing_keys)

    given = inputs(config, batch=2, frames=3)
    level = torch.tensor([0.3, -1.1])
    expected = theirs(
        given["sample"], level, given["embedding"], given["added_ids"][:, 0], return_dict=False
    )[0]
    del given["switcher"], given["condition"]
    found = ours(**given | {"noise_level": level[:, None].expand(-1, 3)})
    torch.testing.assert_close(found, expected, atol=1e-5, rtol=0)


@pytest.mark.parametrize("frames", [1, 8, 20])
def test_any_number_of_frames_and_any_divisible_size(unet: VideoUNet, frames: int) -> None:
    given = inputs(frames=frames, side=2)
    given["sample"] = given["sample"].repeat(1, 1, 1, 2, 3)
    given["condition"] = given["condition"].repeat(1, 1, 1, 2, 3)
    assert unet(**given).shape == (1, frames, TINY.latent_channels, 4, 6)


def _bump(name: str) -> Callable[[dict[str, Tensor]], None]:
    def change(given: dict[str, Tensor]) -> None:
        value = given[name].clone()
        value[:, 1] = value[:, 1].flip(-1) if name == "switcher" else value[:, 1] + 0.5
        given[name] = value

    return change


@pytest.mark.parametrize("name", ["noise_level", "added_ids", "switcher"])
def test_what_is_per_frame_acts_on_that_frames_time_embedding_alone(
    unet: VideoUNet, name: str
) -> None:
    seen: list[Tensor] = []
    handle = (
        unet.down_blocks[0]
        .resnets[0]
        .spatial_res_block.register_forward_pre_hook(lambda _, args: seen.append(args[1]))
    )
    given = inputs(frames=3)
    first = unet(**given)
    _bump(name)(given)
    second = unet(**given)
    handle.remove()
    changed = (seen[0] - seen[1]).abs().amax(dim=-1)
    assert (changed > 0).tolist() == [False, True, False]
    assert (first - second)[:, 1].abs().max() > 1e-5


def test_condition_is_added_after_the_first_convolution(unet: VideoUNet) -> None:
    given = inputs()
    seen: list[Tensor] = []

    def keep(_: nn.Module, args: tuple, kwargs: dict) -> None:
        seen.append(kwargs["hidden_states"])

    handle = unet.down_blocks[0].register_forward_pre_hook(keep, with_kwargs=True)
    unet(**given)
    unet(**given | {"condition": torch.zeros_like(given["condition"])})
    unet(**given | {"condition": None})
    handle.remove()
    plain = unet.conv_in(given["sample"].flatten(0, 1))
    torch.testing.assert_close(seen[0], plain + given["condition"].flatten(0, 1))
    torch.testing.assert_close(seen[1], plain)
    torch.testing.assert_close(seen[2], plain)


def test_the_token_matters_and_belongs_to_its_own_clip(unet: VideoUNet) -> None:
    given = inputs(batch=2)
    first = unet(**given)
    token = given["embedding"].clone()
    token[1] += 1
    second = unet(**given | {"embedding": token})
    torch.testing.assert_close(second[0], first[0])
    assert (second[1] - first[1]).abs().max() > 1e-5


def test_groups_and_feed_forward_are_the_configs(unet: VideoUNet) -> None:
    norms = [m for m in unet.modules() if isinstance(m, nn.GroupNorm)]
    assert {m.num_groups for m in norms} == {8}
    block = unet.mid_block.attentions[0].temporal_transformer_blocks[0]
    for layer in (block.ff, block.ff_in):
        assert layer.net[-1].in_features == 2 * layer.net[-1].out_features


def test_a_simple_start_is_zero_and_every_branch_leaves_it() -> None:
    unet = VideoUNet(TINY)
    start_simple(unet)
    given = inputs()
    assert unet(**given).abs().max() == 0
    before = {name: p.clone() for name, p in unet.named_parameters()}
    optimiser = torch.optim.Adam(unet.parameters(), lr=1e-3)
    for _ in range(6):  # the output leaves zero first, then what ends a branch, then the branch
        optimiser.zero_grad()
        (unet(**given) - 1).square().mean().backward()
        optimiser.step()
    unused = ("attn2.to_q", "attn2.to_k", "norm2")  # of one token, see SingleTokenAttention
    still = [n for n, p in unet.named_parameters() if torch.equal(p, before[n])]
    assert all(any(name in n for name in unused) for n in still), still


def parameters(unet: nn.Module) -> int:
    return sum(p.numel() for p in unet.parameters())


def test_full_size_is_svds_and_the_switchers_mlp() -> None:
    with torch.device("meta"):
        theirs = UNetSpatioTemporalConditionModel(num_attention_heads=(5, 10, 20, 20))
        ours = VideoUNet(PRESETS["full"].unet)
    expected = {k: tuple(v.shape) for k, v in theirs.state_dict().items()}
    found = {k: tuple(v.shape) for k, v in ours.state_dict().items()}
    assert found == expected | {
        "class_embedding.linear_1.weight": (1280, 512),
        "class_embedding.linear_1.bias": (1280,),
        "class_embedding.linear_2.weight": (1280, 1280),
        "class_embedding.linear_2.bias": (1280,),
    }
    assert parameters(theirs) == 1_524_623_082
    assert parameters(ours) == 1_526_919_402


def test_mini_fits_its_budget() -> None:
    with torch.device("meta"):
        assert 8e6 < parameters(VideoUNet(PRESETS["mini"].unet)) < 9e6


@pytest.mark.parametrize(
    ("name", "shape", "message"),
    [
        ("sample", (1, 3, 4, 4, 4), r"expected \[B, F, 8, h, w\]"),
        ("sample", (1, 3, 8, 5, 4), "divide by 2"),
        ("sample", (1, 0, 8, 4, 4), "0 frames"),
        ("noise_level", (1,), r"noise_level: expected \[1, 3\]"),
        ("embedding", (1, 2, 16), "embedding"),
        ("added_ids", (1, 3), "added_ids"),
        ("switcher", (1, 3, 3), "switcher"),
        ("condition", (1, 3, 32, 2, 2), "condition"),
    ],
)
def test_bad_shapes_are_named(
    unet: VideoUNet, name: str, shape: tuple[int, ...], message: str
) -> None:
    with pytest.raises(ValueError, match=message):
        unet(**inputs() | {name: torch.zeros(shape)})


@pytest.mark.parametrize("change", [{"heads": (1,)}, {"widths": (32, 48)}, {"heads": (1, 3)}])
def test_impossible_configs_are_refused(change: dict) -> None:
    with pytest.raises(ValueError, match="UNetConfig"):
        replace(TINY, **change)
