"""Opening the files that training writes, with errors that name what is wrong."""

from __future__ import annotations

import zipfile
from collections.abc import Collection
from pathlib import Path
from typing import Any

import torch

from gas_rt.errors import FileError

__all__ = ["read_checkpoint"]


def read_checkpoint(path: Path, *, keys: Collection[str], stage: str) -> dict[str, Any]:
    """The contents of a checkpoint that ``python -m reference.train STAGE`` wrote."""
    advice = f"give the checkpoint.pt of `python -m reference.train {stage}`"
    if not path.is_file():
        raise FileError(f"{path}: no such file; {advice}")
    if not zipfile.is_zipfile(path):
        raise FileError(f"{path}: not a checkpoint, or truncated; {advice}")
    state = torch.load(path, weights_only=True, map_location="cpu")
    if missing := set(keys) - set(state):
        raise FileError(f"{path}: no checkpoint of {stage}, {sorted(missing)} missing; {advice}")
    return state
