"""The authors' files: a diffusers SVD folder, and GAS's three state dicts beside it.

Nothing of them is unpickled but tensors, and no weight is read before its name and shape have been
compared with what the models here are made of.
"""

from __future__ import annotations

import json
import pickle
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from export.bundle_json import file_entry
from export.streamed import Source, constant_buffers
from gas_rt.errors import FileError
from reference.autoencoder.svd import SvdAutoencoder
from reference.diffusion.config import DiffusionConfig, ImageEncoderConfig, UNetConfig
from reference.diffusion.denoiser import Denoiser
from reference.diffusion.image_encoder import CLIP_MEAN, CLIP_SIDE, CLIP_STD

__all__ = ["Models", "Release", "models_of", "open_files"]

GAS_FILES = ("unet", "pose_net", "nerf_net")
# transformers once stored these, which are 0, 1, 2 …
IGNORED = ("vision_model.embeddings.position_ids",)
LISTED_MAX = 20  # of each kind of tensor that does not fit
CROSS = "CrossAttn"


@dataclass(frozen=True, eq=False)
class Models:
    """The modules the files are for, on the meta device.

    clip : transformers' CLIPVisionModelWithProjection.
    """

    denoiser: Denoiser
    autoencoder: SvdAutoencoder
    clip: nn.Module

    @property
    def modules(self) -> dict[str, nn.Module]:
        """By the name under which a bundle stores their weights."""
        return {
            "diffusion": self.denoiser,
            "autoencoder": self.autoencoder,
            "image_encoder": self.clip,
        }


@dataclass(frozen=True, eq=False)
class Release:
    """What the files hold.

    Attributes
    ----------
    sources : by the name a bundle stores it under, every weight.
    sigma_min, sigma_max : of the scheduler's Karras levels.
    facts : by part, file name, size, SHA-256 and how many weights: for bundle.json.
    """

    models: Models
    sources: Mapping[str, Source]
    sigma_min: float
    sigma_max: float
    facts: Mapping[str, Any]


def open_files(svd: Path, gas: Path) -> Release:
    """Read the layout `SVD` (unet, vae, image_encoder, feature_extractor, scheduler) and `GAS`.

    Raises `FileError` where a file is missing or says what this code does not do, and one that
    lists every tensor that is missing, unexpected or of another shape.
    """
    scheduler = _scheduler(svd / "scheduler" / "scheduler_config.json")
    _check_extractor(svd / "feature_extractor" / "preprocessor_config.json")
    models = models_of(svd)
    files = {f"diffusion.{name}": gas / f"{name}.pth" for name in GAS_FILES}
    files["autoencoder.vae"] = _weights(svd / "vae", "diffusion_pytorch_model")
    files["image_encoder"] = _weights(svd / "image_encoder", "model")
    found: dict[str, Source] = {}
    facts = {}
    for part, path in files.items():
        tensors = _tensors(path)
        kept = {name: source for name, source in tensors.items() if name not in IGNORED}
        found |= {f"{part}.{name}": source for name, source in kept.items()}
        count = sum(torch.Size(source.shape).numel() for source in kept.values())
        facts[part] = {"file": path.name, **file_entry(path), "weights": count}
    wanted = {
        f"{part}.{name}": tuple(value.shape)
        for part, module in models.modules.items()
        for name, value in module.state_dict().items()
    }
    _compare(wanted, found, files)
    return Release(models, found, *scheduler, facts)


def models_of(svd: Path) -> Models:
    """The modules that the configurations of an SVD folder describe."""
    from transformers import CLIPVisionConfig, CLIPVisionModelWithProjection

    unet = _unet(svd / "unet" / "config.json")
    vae_path, clip_path = svd / "vae" / "config.json", svd / "image_encoder" / "config.json"
    vae = _config(vae_path, _class_name="AutoencoderKLTemporalDecoder")
    clip_config = CLIPVisionConfig.from_dict(_config(clip_path))
    with torch.device("meta"):
        autoencoder = SvdAutoencoder(vae)
        values = autoencoder.config
        config = DiffusionConfig(
            unet=unet,
            image_encoder=ImageEncoderConfig(kind="clip"),
            latent_scale=values.scaling_factor,
        )
        denoiser = Denoiser(config)
        # The plain way of attention: what others are fused from when a plan is built.
        clip = CLIPVisionModelWithProjection._from_config(
            clip_config, attn_implementation="eager", dtype=torch.float32
        )
    for name, have, want, where in (
        ("latent_channels", values.latent_channels, unet.latent_channels, vae_path),
        ("projection_dim", clip_config.projection_dim, unet.embedding_channels, clip_path),
        ("image_size", clip_config.image_size, CLIP_SIDE, clip_path),
    ):
        if have != want:
            raise FileError(f"{where}: {name} is {have}, the UNet takes {want}; wrong folder?")
    modules = (denoiser, autoencoder, constant_buffers(clip))
    return Models(*(module.eval().requires_grad_(False) for module in modules))


def _unet(path: Path) -> UNetConfig:
    values = _config(
        path,
        _class_name="UNetSpatioTemporalConditionModel",
        transformer_layers_per_block=1,
    )
    down, up = values["down_block_types"], values["up_block_types"]
    known = {f"{cross}{way}BlockSpatioTemporal" for cross in ("", CROSS) for way in ("Down", "Up")}
    attention = tuple(name.startswith(CROSS) for name in down)
    if not known.issuperset([*down, *up]) or attention[::-1] != tuple(
        name.startswith(CROSS) for name in up
    ):
        raise FileError(
            f"{path}: blocks {down} and {up} are not a spatio-temporal UNet that mirrors itself; "
            "give an SVD checkout"
        )
    widths, heads = tuple(values["block_out_channels"]), values["num_attention_heads"]
    layers = values["layers_per_block"]
    if not isinstance(layers, int):
        raise FileError(f"{path}: layers_per_block is {layers}, expected one number")
    ids = values["addition_time_embed_dim"]
    for name, want in (
        ("in_channels", 2 * values["out_channels"]),
        ("projection_class_embeddings_input_dim", 3 * ids),
    ):
        if values[name] != want:
            raise FileError(f"{path}: {name} is {values[name]}, expected {want}")
    return UNetConfig(
        latent_channels=values["out_channels"],
        widths=widths,
        attention=attention,
        heads=tuple(heads) if isinstance(heads, list) else (heads,) * len(widths),
        layers=layers,
        embedding_channels=values["cross_attention_dim"],
        id_channels=ids,
    )


def _scheduler(path: Path) -> tuple[float, float]:
    values = _config(
        path,
        _class_name="EulerDiscreteScheduler",
        prediction_type="v_prediction",
        use_karras_sigmas=True,
        timestep_type="continuous",
    )
    return values["sigma_min"], values["sigma_max"]


def _check_extractor(path: Path) -> None:
    values = _config(path)
    for name, want in (("image_mean", CLIP_MEAN), ("image_std", CLIP_STD)):
        if max(abs(a - b) for a, b in zip(values[name], want, strict=True)) > 1e-6:
            raise FileError(f"{path}: {name} is {values[name]}, expected CLIP's {list(want)}")


def _config(path: Path, **expected: Any) -> dict[str, Any]:
    """A configuration, which must say what is expected of it; KeyErrors are named too."""
    if not path.is_file():
        raise FileError(f"{path}: no such file; give a diffusers checkout of SVD-XT 1.1")
    try:
        values = json.loads(path.read_bytes())
    except ValueError as error:
        raise FileError(f"{path}: is not JSON ({error}); download it again") from error
    if not isinstance(values, dict):
        raise FileError(f"{path}: holds {type(values).__name__}, expected an object")
    for name, want in expected.items():
        if values.get(name, want if name.startswith("transformer_") else None) != want:
            raise FileError(
                f"{path}: {name} is {values.get(name)!r}, the release has {want!r}; give a "
                "diffusers checkout of SVD-XT 1.1"
            )
    return _Named(path, values)


class _Named(dict[str, Any]):
    """A configuration that says which file lacks a value."""

    def __init__(self, path: Path, values: Mapping[str, Any]) -> None:
        super().__init__(values)
        self.path = path

    def __missing__(self, key: str) -> Any:
        raise FileError(f"{self.path}: does not say {key}; give a diffusers checkout of SVD-XT 1.1")


def _weights(folder: Path, stem: str) -> Path:
    """The weights' file of a folder: in full precision, or else in half."""
    for suffix in ("", ".fp16"):
        if (path := folder / f"{stem}{suffix}.safetensors").is_file():
            return path
    raise FileError(
        f"{folder}: has no {stem}.safetensors; download the checkout's weights (they may be "
        "links that were not followed)"
    )


def _tensors(path: Path) -> dict[str, Source]:
    """Every tensor of a file, unread."""
    if not path.is_file():
        raise FileError(f"{path}: no such file; put the release's checkpoints there")
    try:
        return _safetensors(path) if path.suffix == ".safetensors" else _state_dict(path)
    except FileError:
        raise
    except (pickle.UnpicklingError, RuntimeError, ValueError, EOFError, OSError) as error:
        first = str(error).strip().splitlines()[0]
        raise FileError(
            f"{path}: cannot be read as plain tensors ({first}); give the release's own file"
        ) from error


def _safetensors(path: Path) -> dict[str, Source]:
    from safetensors import SafetensorError, safe_open

    try:
        opened = safe_open(path, framework="pt")
    except SafetensorError as error:
        raise FileError(f"{path}: is damaged ({error}); download it again") from error
    names = list(opened.keys())
    return {
        name: Source(
            tuple(opened.get_slice(name).get_shape()), lambda name=name: opened.get_tensor(name)
        )
        for name in names
    }


def _state_dict(path: Path) -> dict[str, Source]:
    # Mapped, so that a weight takes memory while it is converted and no longer.
    state = torch.load(path, weights_only=True, map_location="cpu", mmap=True)
    odd = [
        str(name)
        for name, value in (state.items() if isinstance(state, dict) else [("the file", state)])
        if not isinstance(value, Tensor)
        or not isinstance(name, str)
        or not value.is_floating_point()
    ]
    if odd:
        raise FileError(
            f"{path}: is no plain state dict: {', '.join(odd[:LISTED_MAX])} is no tensor of "
            "floats; give the release's own file"
        )
    return {name: Source(tuple(v.shape), lambda v=v: v) for name, v in state.items()}


def _compare(
    wanted: Mapping[str, tuple[int, ...]], found: Mapping[str, Source], files: Mapping[str, Path]
) -> None:
    """Raise one error that lists every tensor that is not what the models need."""
    problems = {
        "missing": sorted(wanted.keys() - found.keys()),
        "unexpected": sorted(found.keys() - wanted.keys()),
        "of another shape": sorted(
            name for name in wanted.keys() & found.keys() if wanted[name] != found[name].shape
        ),
    }
    shapes = {
        name: f" (is {list(found[name].shape)}, not {list(wanted[name])})"
        for name in problems["of another shape"]
    }
    told = []
    for kind, names in problems.items():
        every = [_named(name, files) + shapes.get(name, "") for name in names]
        told += [f"{len(names)} {kind}: {_listed(every)}"] if names else []
    if told:
        raise FileError(
            "the weights do not fit the models: " + "; ".join(told) + ". Nothing was written; "
            "are all files of one release, and is the SVD folder the one it was trained from?"
        )


def _named(name: str, files: Mapping[str, Path]) -> str:
    """A weight as its file calls it."""
    part = max((part for part in files if name.startswith(f"{part}.")), key=len)
    path = files[part]
    return f"{path.parent.name}/{path.name} {name.removeprefix(f'{part}.')}"


def _listed(every: list[str]) -> str:
    more = f" and {len(every) - LISTED_MAX} more" if len(every) > LISTED_MAX else ""
    return ", ".join(every[:LISTED_MAX]) + more
