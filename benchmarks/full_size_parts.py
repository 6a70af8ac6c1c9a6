"""The parts of `benchmarks.full_size`, one process each."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import torch
from torch import Tensor

from benchmarks.full_size import BUNDLE, ROOT
from export.convert_gas import convert as convert_gas
from export.convert_gas import gate
from export.lint import lint, operators
from export.onnx_files import places_in
from export.release import models_of, open_files
from export.release_graphs import Geometry, in_precision
from export.weight_file import Weight, write_weights
from reference.autoencoder.svd import SvdAutoencoder, decode_in_windows
from reference.diffusion.conditions import NerfNet, PoseNet
from reference.diffusion.config import ConditionConfig
from reference.diffusion.image_encoder import CLIP_MEAN, CLIP_STD

__all__ = ["convert", "decoder", "make", "step"]

Progress = Callable[[str], None]
STAGE1 = ROOT / "reference" / "checkpoints" / "stage1-mini.pt"
BODY = ROOT / "engines" / "gas-mini" / "body.npz"
CROSS_DOWN, CROSS_UP = "CrossAttnDownBlockSpatioTemporal", "CrossAttnUpBlockSpatioTemporal"
DOWN, UP = "DownBlockSpatioTemporal", "UpBlockSpatioTemporal"
FILLED_AT_ONCE = 1 << 24


def configs(*, small: bool) -> dict[str, dict[str, Any]]:
    """The checkout's configurations by folder: SVD-XT 1.1's geometry, or a small one."""
    widths, heads = ((32, 64), (1, 2)) if small else ((320, 640, 1280, 1280), (5, 10, 20, 20))
    crossing = len(widths) - 1
    embedding, ids = (16, 16) if small else (1024, 256)
    vae_widths = (32,) * 4 if small else (128, 256, 512, 512)
    clip = (32, 64, 2, 2, 56) if small else (1280, 5120, 32, 16, 14)
    return {
        "unet": {
            "_class_name": "UNetSpatioTemporalConditionModel",
            "in_channels": 8,
            "out_channels": 4,
            "block_out_channels": widths,
            "down_block_types": [CROSS_DOWN] * crossing + [DOWN],
            "up_block_types": [UP] + [CROSS_UP] * crossing,
            "addition_time_embed_dim": ids,
            "projection_class_embeddings_input_dim": 3 * ids,
            "layers_per_block": 1 if small else 2,
            "cross_attention_dim": embedding,
            "transformer_layers_per_block": 1,
            "num_attention_heads": heads,
        },
        "vae": {
            "_class_name": "AutoencoderKLTemporalDecoder",
            "in_channels": 3,
            "out_channels": 3,
            "block_out_channels": vae_widths,
            "down_block_types": ["DownEncoderBlock2D"] * 4,
            "layers_per_block": 2,
            "latent_channels": 4,
            "sample_size": 768,
            "scaling_factor": 0.18215,
            "force_upcast": True,
        },
        "image_encoder": {
            "hidden_size": clip[0],
            "intermediate_size": clip[1],
            "num_hidden_layers": clip[2],
            "num_attention_heads": clip[3],
            "patch_size": clip[4],
            "image_size": 224,
            "projection_dim": embedding,
            "hidden_act": "gelu",
        },
        "scheduler": {
            "_class_name": "EulerDiscreteScheduler",
            "prediction_type": "v_prediction",
            "use_karras_sigmas": True,
            "timestep_type": "continuous",
            "sigma_min": 0.002,
            "sigma_max": 700.0,
        },
        "feature_extractor": {"image_mean": CLIP_MEAN, "image_std": CLIP_STD, "crop_size": 224},
    }


def make(work: Path, *, small: bool, progress: Progress, **_: Any) -> dict[str, Any]:
    """Random weights in the authors' layout."""
    svd, gas = work / "svd", work / "gas"
    for name, values in configs(small=small).items():
        folder = svd / name
        folder.mkdir(parents=True, exist_ok=True)
        kind = {"feature_extractor": "preprocessor_config", "scheduler": "scheduler_config"}
        (folder / f"{kind.get(name, 'config')}.json").write_text(json.dumps(values))
    gas.mkdir(exist_ok=True)
    shapes = _shapes(svd)
    written = {}
    for part, stem in (("autoencoder.vae", "vae"), ("image_encoder", "image_encoder")):
        progress(f"random weights: {stem}")
        name = "diffusion_pytorch_model" if stem == "vae" else "model.fp16"
        path = svd / stem / f"{name}.safetensors"
        dtype = np.dtype(np.float32 if stem == "vae" else np.float16)
        write_weights(path, {key: _random(key, s, dtype) for key, s in shapes[part].items()})
        written[path.name] = path.stat().st_size
    for stem in ("unet", "pose_net", "nerf_net"):
        progress(f"random weights: {stem}.pth")
        path = gas / f"{stem}.pth"
        _save_state(path, shapes[f"diffusion.{stem}"])
        written[path.name] = path.stat().st_size
    return {"files": written}


def _shapes(svd: Path) -> dict[str, dict[str, tuple[int, ...]]]:
    """By part, the shape of every weight."""
    models = models_of(svd)
    unet = models.denoiser.config.unet
    conditions, first = ConditionConfig(), unet.widths[0]
    parts: dict[str, torch.nn.Module] = {
        "diffusion.unet": models.denoiser.unet,
        "diffusion.pose_net": PoseNet(conditions, out_channels=first),
        "diffusion.nerf_net": NerfNet(
            conditions, latent_channels=unet.latent_channels, out_channels=first
        ),
        "autoencoder.vae": models.autoencoder.vae,
        "image_encoder": models.clip,
    }
    return {
        part: {name: tuple(value.shape) for name, value in module.state_dict().items()}
        for part, module in parts.items()
    }


def _random(name: str, shape: tuple[int, ...], dtype: np.dtype[Any]) -> Weight:
    return Weight(
        shape, dtype, lambda: fill(torch.empty(shape), name).numpy().astype(dtype, copy=False)
    )


def fill(weight: Tensor, name: str) -> Tensor:
    """Values that keep a signal's size from layer to layer, from the weight's name."""
    seed = int.from_bytes(name.encode()[-8:], "little") % (1 << 62)
    generator = torch.Generator().manual_seed(seed)
    scale = weight[0].numel() ** -0.5 if weight.ndim > 1 else 0.1
    for block in weight.view(-1).split(FILLED_AT_ONCE):
        block.normal_(generator=generator).mul_(scale)
    if weight.ndim == 1 and "norm" in name and name.endswith("weight"):
        weight += 1
    return weight


def _save_state(path: Path, shapes: Mapping[str, tuple[int, ...]]) -> None:
    """A plain state dict in fp32, made in a mapped file so that it need not fit into memory."""
    scratch = path.with_suffix(".scratch")
    total = sum(torch.Size(shape).numel() for shape in shapes.values())
    values = torch.from_file(str(scratch), shared=True, size=total, dtype=torch.float32)
    state, at = {}, 0
    for name, shape in shapes.items():
        count = torch.Size(shape).numel()
        state[name] = fill(values[at : at + count].view(shape), name)
        at += count
    torch.save(state, path)
    del state, values
    scratch.unlink()


def _geometry(*, small: bool) -> Geometry:
    if not small:
        return Geometry()
    return Geometry(side_px=128, frames=3, overlap=1, decoder_frames=2, decoder_overlap=0, steps=2)


def convert(work: Path, *, small: bool, progress: Progress, **_: Any) -> dict[str, Any]:
    """The files to a bundle, ungated: what the machine cannot run is not run."""
    out = work / BUNDLE
    convert_gas(
        work / "svd",
        work / "gas",
        stage1=STAGE1,
        body=BODY,
        out=out,
        geometry=_geometry(small=small),
        runtimes=(),
        progress=progress,
    )
    graphs = {
        path.stem: onnx.load(path, load_external_data=False) for path in sorted(out.glob("*.onnx"))
    }
    found = {name: lint(graph) for name, graph in graphs.items()}
    if any(found.values()):
        raise ValueError(f"lint: {found}")
    return {
        "bytes": {path.name: path.stat().st_size for path in sorted(out.iterdir())},
        "nodes": {name: len(graph.graph.node) for name, graph in graphs.items()},
        "lint": "nothing found",
        "operators": sorted({name for graph in graphs.values() for name in operators(graph)}),
    }


def step(
    work: Path, *, small: bool, runtimes: list[str], progress: Progress, **_: Any
) -> dict[str, Any]:
    """One guided step of 4 frames of 256×256: the graph with the bundle's weights, and PyTorch."""
    out, geometry = work / BUNDLE, _geometry(small=small)
    release = open_files(work / "svd", work / "gas")
    in_precision(release.models, "fp16")
    frames, side = (2, 64) if small else (4, 256)
    found = gate(
        out,
        release,
        places_in(out / "weights.safetensors"),
        geometry,
        precision="fp16",
        side_px=side,
        frames=frames,
        only=(f"denoiser_{frames}",),
        runtimes=tuple(runtimes),
        lean=True,
        progress=progress,
    )
    return {"frames": frames, "side_px": side, "differences": found}


@torch.inference_mode()
def decoder(work: Path, *, small: bool, progress: Progress, **_: Any) -> dict[str, Any]:
    """How much decoding in windows differs from decoding a clip of 34 frames in one call.

    With these weights, which are random; at 64×64, since it is the number of frames that matters.
    """
    from safetensors.torch import load_file

    frames, side = (7, 4) if small else (34, 8)
    model = SvdAutoencoder(configs(small=small)["vae"])
    path = next((work / "svd" / "vae").glob("*.safetensors"))
    model.vae.load_state_dict(load_file(path))
    model.eval()
    latents = torch.randn(frames, 4, side, side, generator=torch.Generator().manual_seed(0))
    progress("decoding the clip in one call")
    whole = model.decode(latents)
    found = {}
    for length, overlap in ((4, 2), (3, 0)) if small else ((20, 6), (14, 6), (8, 4), (8, 0)):
        progress(f"decoding {length} frames at a time, {overlap} shared")
        windows = decode_in_windows(model.decode, latents, frames=length, overlap=overlap)
        error = (windows - whole).abs()
        found[f"{length}/{overlap}"] = {
            "max": float(f"{error.max() / whole.abs().max():.3g}"),
            "rms": float(f"{error.square().mean().sqrt() / whole.std():.3g}"),
        }
    return {"clip_frames": frames, "side_px": 8 * side, "relative_difference": found}
