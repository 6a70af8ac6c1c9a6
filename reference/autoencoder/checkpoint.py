"""Trained autoencoders out of their checkpoints."""

from __future__ import annotations

from pathlib import Path

from reference.autoencoder.model import Autoencoder, AutoencoderConfig
from reference.checkpoint import read_checkpoint

__all__ = ["open_checkpoint"]


def open_checkpoint(path: Path) -> Autoencoder:
    """The averaged model of a training run, ready for evaluation."""
    # A checkpoint of the UNet has the same keys, so its configuration decides.
    state = read_checkpoint(path, keys=("model_config", "mean"), stage="autoencoder")
    values = state["model_config"]
    if "encoder_widths" not in values:
        raise ValueError(
            f"{path}: is of another model than the autoencoder; "
            "give the checkpoint.pt of `python -m reference.train autoencoder`"
        )
    config = {k: tuple(v) if isinstance(v, list) else v for k, v in values.items()}
    model = Autoencoder(AutoencoderConfig(**config))
    model.load_state_dict(state["mean"])
    return model.eval().requires_grad_(False)
