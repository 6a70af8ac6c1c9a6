"""Rows of what is in a graph, or done once, against doing it outside, or again."""

from __future__ import annotations

import copy

import numpy as np
import torch
from diffusers.models.attention_processor import AttnProcessor
from torch import nn

from benchmarks.engines.setting import Arrays, Setting, UNetGraph, inputs_of, tensors_of
from benchmarks.kernels.rows import Limit, Row
from export.diffusion import step_case
from export.onnx_files import Case
from gas_rt.core import F32
from gas_rt.engine import Graph, GraphSpec
from reference.diffusion.denoiser import DenoiserStep

__all__ = ["attn_folded", "conditioner_cached", "denoiser_fused", "unfused"]

# Two runs of one and the same graph differ by this share of their medians.
NOISE = 0.03
AGREES = 1e-4
BACKEND = "openvino fp32"  # of the backends that are everywhere, the one that is installed


def denoiser_fused(setting: Setting) -> Row:
    """One guided step as one graph, against the UNet alone with the rest in NumPy."""
    models = setting.models()
    fused = setting.graph(BACKEND, _guided(setting))
    given = inputs_of(fused.spec)
    with torch.inference_mode():
        unet = _unet_case(UNetGraph(models.denoiser), given)
        alone = setting.graph(BACKEND, setting.exported("unet", unet))
    squared = models.denoiser.config.residual_std is not None
    times = setting.measured(
        {
            "fused": lambda: fused.run(given),
            "unfused": lambda: unfused(alone, given, squared=squared),
        }
    )
    apart = _apart(unfused(alone, given, squared=squared), fused.run(given))
    ours, peer = times["fused"], times["unfused"]
    return Row(
        name="denoiser_fused",
        against="UNet-only graph, scaling, guidance and Euler in NumPy",
        threads=setting.threads,
        speed=[Limit("times faster", peer.p50_ms / ours.p50_ms, 1 - NOISE)],
        correct=[Limit("relative difference", apart, AGREES, at_least=False)],
        ours=ours,
        peer=peer,
        details={"graph": fused.spec.name, "backend": BACKEND},
    )


def _guided(setting: Setting) -> GraphSpec:
    diffusion = setting.bundle.config.diffusion
    assert diffusion is not None
    profile = diffusion.policies[diffusion.default_policy].profile
    return setting.bundle.graph(profile.guided)


def _unet_case(module: nn.Module, given: Arrays) -> Case:
    """The UNet with both branches as one batch, as the fused graph has them."""
    sample, level, embedding, condition, switcher = _unet_inputs(given, squared=True)
    named = {
        "sample": sample,
        "noise_level": level,
        "embedding": embedding,
        "condition": condition,
        "switcher": switcher,
    }
    return Case(module, tensors_of(named), ("v",))


def _unet_inputs(given: Arrays, *, squared: bool) -> tuple[F32, F32, F32, F32, F32]:
    sigma = given["sigma"]
    c_in = 1 / np.sqrt(sigma**2 + 1)
    scaled = given["x"] * (c_in**2 if squared else c_in)[:, None, None, None]
    frames = len(scaled)
    reference = np.repeat(given["reference"], frames, axis=0)
    sample = np.stack(
        [
            np.concatenate([scaled, np.zeros_like(reference)], axis=1),
            np.concatenate([scaled, reference], axis=1),
        ]
    )
    embedding = np.concatenate([np.zeros_like(given["embedding"]), given["embedding"]])
    level = np.stack([0.25 * np.log(sigma)] * 2)
    condition = np.stack([given["condition"]] * 2)
    switcher = np.stack([given["switcher"]] * 2)
    return sample, level, embedding, condition, switcher


def unfused(unet: Graph, given: Arrays, *, squared: bool) -> Arrays:
    """One guided step around the UNet's graph; `squared`: x enters times c_in²."""
    names = ("sample", "noise_level", "embedding", "condition", "switcher")
    inputs = dict(zip(names, _unet_inputs(given, squared=squared), strict=True))
    v = unet.run(inputs)["v"]
    x, s = given["x"], given["sigma"][:, None, None, None]
    x0 = x / (s**2 + 1) - v * s / np.sqrt(s**2 + 1)
    guided = x0[0] + given["guidance"][:, None, None, None] * (x0[1] - x0[0])
    ratio = given["sigma_next"][:, None, None, None] / s
    return {"x_next": guided + ratio * (x - guided), "x0": guided}


def attn_folded(setting: Setting) -> Row:
    """Cross-attention to one token as the bias that it is, against computing its softmax."""
    models = setting.models()
    folded = setting.graph(BACKEND, _guided(setting))
    frames = folded.spec.inputs["x"].shape[0]
    denoiser = copy.deepcopy(models.denoiser)
    for name, module in denoiser.unet.named_modules():
        if name.endswith("attn2"):
            module.set_processor(AttnProcessor())
    made = step_case(
        denoiser,
        frames,
        guided=True,
        side_px=setting.bundle.config.resolution,
        generator=torch.Generator().manual_seed(0),
    )
    given = {name: value.numpy() for name, value in made.inputs.items()}
    case = Case(DenoiserStep(denoiser, guided=True), made.inputs, DenoiserStep.OUTPUTS)
    with torch.inference_mode():
        plain = setting.graph(BACKEND, setting.exported("denoiser_unfolded", case))
    times = setting.measured(
        {"folded": lambda: folded.run(given), "unfolded": lambda: plain.run(given)}
    )
    ours, peer = times["folded"], times["unfolded"]
    return Row(
        name="attn_folded",
        against="cross-attention with queries, keys and softmax",
        threads=setting.threads,
        speed=[Limit("times faster", peer.p50_ms / ours.p50_ms, 1 - NOISE)],
        correct=[
            Limit(
                "relative difference",
                _apart(plain.run(given), folded.run(given)),
                AGREES,
                at_least=False,
            )
        ],
        ours=ours,
        peer=peer,
        details={"graph": folded.spec.name, "backend": BACKEND},
    )


def conditioner_cached(setting: Setting) -> Row:
    """A new frame of a live stream whose condition is computed once, or at each of its steps."""
    diffusion = setting.bundle.config.diffusion
    assert diffusion is not None
    assert setting.bundle.denoiser is not None
    steps = diffusion.default_steps
    conditioner = setting.graph(BACKEND, setting.bundle.graph("conditioner"))
    denoiser = setting.graph(BACKEND, setting.bundle.denoiser)
    shown, stepped = inputs_of(conditioner.spec), inputs_of(denoiser.spec)

    def frame(times: int) -> None:
        for _ in range(times):
            conditioner.run(shown)
        denoiser.run(stepped)

    found = setting.measured({"once": lambda: frame(1), "each": lambda: frame(steps)})
    ours, peer = found["once"], found["each"]
    return Row(
        name="conditioner_cached",
        against=f"conditioned anew at each of {steps} steps",
        threads=setting.threads,
        speed=[Limit("times faster", peer.p50_ms / ours.p50_ms, 1.0)],
        ours=ours,
        peer=peer,
        details={"backend": BACKEND, "steps": steps},
    )


def _apart(found: Arrays, wanted: Arrays) -> float:
    """The worst output's largest difference over its largest value."""
    return max(
        float(np.abs(found[name] - wanted[name]).max() / max(np.abs(wanted[name]).max(), 1e-6))
        for name in wanted
    )
