"""The whole model: guidance in one batch, what the branches lack, the exported step."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import onnxruntime
import pytest
import torch
from torch import Tensor

from export.onnx_files import Case, export_graph
from reference.diffusion import PRESETS, Denoiser, edm
from reference.diffusion.checkpoint import open_release
from reference.diffusion.denoiser import DenoiserStep
from tests.reference.diffusion.conftest import CHANNELS, SIDE

FRAMES = 3


def inputs() -> dict[str, Tensor]:
    """Of a guided step."""
    torch.manual_seed(1)
    latents = (FRAMES, CHANNELS, SIDE, SIDE)
    return {
        "x": torch.randn(latents),
        "sigma": torch.tensor([0.002, 0.5, 10.0]),
        "sigma_next": torch.tensor([0.002, 0.1, 0.5]),
        "reference": torch.randn(1, *latents[1:]),
        "embedding": torch.randn(1, 16),
        "condition": torch.randn(FRAMES, 32, SIDE, SIDE),
        "switcher": torch.tensor([[0.0, 1.0], [1.0, 0.0], [1.0, 0.0]]),
        "guidance": torch.tensor([1.0, 1.5, 2.0]),
    }


def branch(model: Denoiser, given: dict[str, Tensor], *, picture: bool) -> Tensor:
    keep = float(picture)
    return model.x0(
        given["x"][None],
        given["sigma"][None],
        reference=given["reference"] * keep,
        embedding=given["embedding"] * keep,
        condition=given["condition"][None],
        switcher=given["switcher"][None],
    )[0]


def test_guidance_combines_a_branch_with_and_one_without_the_picture(denoiser: Denoiser) -> None:
    given = inputs()
    with_, without = (branch(denoiser, given, picture=p) for p in (True, False))
    expected = without + given["guidance"][:, None, None, None] * (with_ - without)
    x_next, x0 = DenoiserStep(denoiser)(**given)
    torch.testing.assert_close(x0, expected, rtol=1e-4, atol=1e-4)
    torch.testing.assert_close(
        x_next, edm.euler(given["x"], x0, given["sigma"], given["sigma_next"])
    )
    torch.testing.assert_close(x0[0], with_[0], rtol=1e-4, atol=1e-4)  # guidance 1
    assert (with_ - without).abs().max() > 1e-3


def test_without_guidance_one_branch_runs(denoiser: Denoiser) -> None:
    given = inputs()
    del given["guidance"]
    _, x0 = DenoiserStep(denoiser, guided=False)(**given)
    torch.testing.assert_close(x0, branch(denoiser, given, picture=True))


def test_a_frame_that_stays_at_its_level_stays(denoiser: Denoiser) -> None:
    given = inputs()
    x_next, _ = DenoiserStep(denoiser)(**given)
    torch.testing.assert_close(x_next[0], given["x"][0])


def test_condition_is_the_sum_of_both_nets(denoiser: Denoiser) -> None:
    nerf, normals = torch.randn(1, 2, 4, 4, 4), torch.rand(1, 2, 3, 32, 32)
    found = denoiser.condition(nerf, normals)
    expected = denoiser.nerf_net(nerf[0]) + denoiser.pose_net(normals[0])
    torch.testing.assert_close(found[0], expected)


def test_scaling_stays_fp32_in_half_precision(denoiser: Denoiser) -> None:
    given = inputs()
    del given["guidance"], given["sigma_next"]
    given["sigma"] = torch.full((FRAMES,), 700.0)
    given["x"] *= 700
    plain = branch(denoiser, given, picture=True)
    try:
        half = branch(denoiser.bfloat16(), given, picture=True)
    finally:
        denoiser.float()
    assert half.dtype == torch.float32
    assert half.isfinite().all()
    assert (half - plain).abs().max() < 0.2 * plain.abs().max() + 0.2


def test_clip_models_take_embeddings_from_outside() -> None:
    with torch.device("meta"):
        model = Denoiser(PRESETS["full"])
    assert not any(key.startswith("image_encoder") for key in model.state_dict())
    with pytest.raises(ValueError, match="ClipImageEncoder"):
        model.embed(torch.zeros(1, 3, 32, 32))


def test_the_releases_files_load(denoiser: Denoiser, tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match=r"unet\.pth"):
        open_release(tmp_path, PRESETS["tiny"])
    for name in ("unet", "pose_net", "nerf_net"):
        torch.save(getattr(denoiser, name).state_dict(), tmp_path / f"{name}.pth")
    config = PRESETS["tiny"]
    model = open_release(tmp_path, config)
    given = inputs()
    torch.testing.assert_close(
        branch(model, given, picture=True), branch(denoiser, given, picture=True)
    )


def test_the_step_exports_with_per_frame_inputs(denoiser: Denoiser) -> None:
    given = inputs()
    step = DenoiserStep(denoiser)
    graph = export_graph(Case(step, given, DenoiserStep.OUTPUTS))
    session = onnxruntime.InferenceSession(
        graph.SerializeToString(), providers=["CPUExecutionProvider"]
    )
    # Other values than it was traced with: nothing of them may be baked in.
    given = {n: v.flip(0) if n in ("sigma", "guidance") else v for n, v in given.items()}
    found = session.run(None, {n: v.numpy() for n, v in given.items()})
    for ours, theirs in zip(step(**given), found, strict=True):
        np.testing.assert_allclose(theirs, ours.numpy(), atol=1e-4, rtol=1e-4)


def test_centred_latents_are_what_the_field_lacks() -> None:
    model = Denoiser(replace(PRESETS["tiny"], latent_scale=0.5, residual_std=0.25))
    torch.manual_seed(0)
    latents, nerf = torch.randn(2, 3, 4, 8, 8), torch.randn(2, 3, 4, 8, 8)
    z = model.centre(latents, nerf)
    torch.testing.assert_close(z, (latents - nerf) * 2)
    torch.testing.assert_close(model.latents(z, nerf), latents)
    assert torch.equal(model.latents(torch.zeros_like(z), nerf), nerf)


def test_released_latents_are_only_scaled() -> None:
    model = Denoiser(replace(PRESETS["tiny"], latent_scale=0.5, residual_std=None))
    latents, nerf = torch.ones(2, 4, 8, 8), torch.full((2, 4, 8, 8), 7.0)
    assert torch.equal(model.centre(latents, nerf), latents / 2)
    assert torch.equal(model.latents(latents / 2, nerf), latents)


@pytest.mark.parametrize(("residual_std", "size"), [(0.5, 1 / 40), (None, 1.0)])
def test_noise_enters_a_centred_model_no_larger_than_what_it_hides(
    residual_std: float | None, size: float
) -> None:
    model = Denoiser(replace(PRESETS["tiny"], residual_std=residual_std))
    seen: list[Tensor] = []
    model.unet.conv_in.register_forward_hook(lambda _, given, __: seen.append(given[0]))
    given = inputs() | {"sigma": torch.full((FRAMES,), 40.0)}
    given["x"] = 40 * given["x"]
    branch(model, given, picture=True)
    assert seen[0][:, :CHANNELS].std() == pytest.approx(size, rel=0.2)
    assert seen[0][:, CHANNELS:].std() == pytest.approx(1, rel=0.2)
