"""Stage-2 models out of files: our own checkpoints and the release's."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch

from reference.checkpoint import read_checkpoint
from reference.diffusion.config import (
    PRESETS,
    ConditionConfig,
    DiffusionConfig,
    ImageEncoderConfig,
    UNetConfig,
)
from reference.diffusion.denoiser import Denoiser
from reference.diffusion.student import Student

__all__ = ["open_checkpoint", "open_release"]


def open_checkpoint(path: Path) -> tuple[Denoiser, dict[str, Any]]:
    """The averaged model of a training run, ready for evaluation, and how it was trained.

    A run of `distill` has a `Student`.
    """
    state = read_checkpoint(path, keys=("model_config", "train", "step", "mean"), stage="unet")
    values = state["model_config"]
    rooms = {
        "unet": UNetConfig,
        "conditions": ConditionConfig,
        "image_encoder": ImageEncoderConfig,
    }
    parts = {name: kind(**_tuples(values.pop(name))) for name, kind in rooms.items()}
    kind = Student if "teacher" in state else Denoiser
    model = kind(DiffusionConfig(**parts, **_tuples(values)))
    model.load_state_dict(state["mean"])
    told = ("step", "train", "started_from", "averaged", "ablation", "teacher")
    about = {name: state[name] for name in told if name in state}
    return model.eval().requires_grad_(False), about


def open_release(folder: Path, config: DiffusionConfig | None = None) -> Denoiser:
    """The authors' weights: `unet.pth`, `pose_net.pth` and `nerf_net.pth`, plain state dicts."""
    with torch.device("meta"):  # 6 GB that need not be allocated twice
        model = Denoiser(config or PRESETS["full"])
    for name in ("unet", "pose_net", "nerf_net"):
        path = folder / f"{name}.pth"
        if not path.is_file():
            raise FileNotFoundError(f"{path}: no such file; put the release's checkpoints there")
        state = torch.load(path, weights_only=True, map_location="cpu")
        model.get_submodule(name).load_state_dict(state, assign=True)
    return model.eval().requires_grad_(False)


def _tuples(values: dict[str, Any]) -> dict[str, Any]:
    return {k: tuple(v) if isinstance(v, list) else v for k, v in values.items()}
