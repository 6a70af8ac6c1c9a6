"""What a bundle says of where its weights come from, read from the checkpoints themselves."""

from __future__ import annotations

import hashlib
from pathlib import Path
from typing import Any

from torch import Tensor

from reference.checkpoint import read_checkpoint

__all__ = ["checkpoint_facts"]

WEIGHTS = ("mean", "model", "optimiser")


def checkpoint_facts(path: Path, *, stage: str) -> dict[str, Any]:
    """Everything a checkpoint holds but its weights; of those, how many there are."""
    state = read_checkpoint(path, keys=("step", "train", "mean"), stage=stage)
    count = sum(value.numel() for value in state["mean"].values() if isinstance(value, Tensor))
    return {
        "checkpoint": path.name,
        "sha256": hashlib.sha256(path.read_bytes()).hexdigest(),
        "weights": count,
        **{key: _plain(value) for key, value in state.items() if key not in WEIGHTS},
    }


def _plain(value: Any) -> Any:
    if isinstance(value, dict):
        return {str(key): _plain(item) for key, item in value.items()}
    return [_plain(item) for item in value] if isinstance(value, tuple | list) else value
