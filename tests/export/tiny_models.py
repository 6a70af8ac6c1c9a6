"""Models that are small enough to export in a test, with weights that all matter."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import torch

from export.bundle import export_bundle
from export.diffusion import Stage2
from gas_rt.body import BodyModel
from reference.autoencoder import Autoencoder
from reference.autoencoder.training import PRESETS as AUTOENCODERS
from reference.diffusion.config import PRESETS as DENOISERS
from reference.diffusion.denoiser import Denoiser
from reference.nerf import PRESETS, HumanNerf
from reference.nerf.checkpoint import mesh_of

BODY = Path(__file__).parents[2] / "engines" / "gas-mini" / "body.npz"
POINTS = 256
RANGES = {"focal_over_side": [1.0, 20.0]}
FACTS = {"checkpoint": "x.pt", "sha256": "0" * 64, "weights": 1, "step": 0, "train": {"lr": 0.1}}


def randomised(model: torch.nn.Module) -> torch.nn.Module:
    """Let every weight take part: blocks start as identities, condition networks at zero."""
    for name, weight in model.named_parameters():
        if weight.ndim > 1:
            torch.nn.init.normal_(weight, std=weight[0].numel() ** -0.5)
        else:
            torch.nn.init.normal_(weight, mean=float("norm" in name), std=0.1)
    return model.eval().requires_grad_(False)


def tiny_nerf() -> HumanNerf:
    torch.manual_seed(0)
    model = HumanNerf(PRESETS["tiny"][0], mesh_of(BodyModel.open(BODY)))
    for parameter in model.parameters():
        torch.nn.init.normal_(parameter, std=0.1)
    return model.eval().requires_grad_(False)


def tiny_stage2(**changed) -> Stage2:
    torch.manual_seed(1)
    config = dataclasses.replace(DENOISERS["tiny"], **changed)
    autoencoder = randomised(Autoencoder(AUTOENCODERS["tiny"][0]))
    autoencoder.latent_mean.normal_()
    autoencoder.latent_std.uniform_(0.5, 2)
    autoencoder.decoder.layers[-2].weight.mul_(5)  # contrast, or every picture is much like grey
    return Stage2(
        randomised(Denoiser(config)),
        autoencoder,
        context=0,
        chunk=1,
        live_sigmas=(10.0,),
        parity_frames=3,
    )


def export(out: Path, stage2: Stage2 | None = None, **changed) -> dict:
    parts = ("stage1",) if stage2 is None else ("stage1", "autoencoder", "unet")
    arguments = {
        "body_path": BODY,
        "provenance": dict.fromkeys(parts, FACTS),
        "camera_ranges": RANGES,
        "points": POINTS,
    }
    return export_bundle(tiny_nerf(), stage2=stage2, out=out, **arguments | changed)
