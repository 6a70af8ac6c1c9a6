"""What a device can do, and moving batches to it."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Any

import torch
from torch import Tensor

__all__ = ["computes_half", "moved", "usual"]


def usual() -> str:
    """A GPU where there is one."""
    return "cuda" if torch.cuda.is_available() else "cpu"


def computes_half(device: torch.device) -> bool:
    """Whether bfloat16 is computed in, and not converted to float32 and back at every layer."""
    if device.type == "cuda":
        return torch.cuda.is_bf16_supported(including_emulation=False)
    if device.type == "cpu":
        # The only names that torch has for this.
        return torch.cpu._is_avx512_bf16_supported() or torch.cpu._is_amx_tile_supported()
    return False


def moved(value: Any, device: torch.device) -> Any:
    """Tensors, and tuples and lists of them, on a device; to a GPU without waiting for the copy.

    Pages that are not pinned would be copied twice, and the second copy would wait.
    """
    if isinstance(value, Tensor):
        if device.type == "cuda" and value.device.type == "cpu":
            value = value.pin_memory()
        return value.to(device, non_blocking=True)
    if isinstance(value, tuple) and hasattr(value, "_fields"):
        return type(value)(*(moved(part, device) for part in value))
    if isinstance(value, tuple | list):
        return type(value)(moved(part, device) for part in value)
    return value


def ahead(batches: Iterable[Any], device: torch.device) -> Iterator[Any]:
    """Batches on a device, each on its way there while the one before is worked on."""
    waiting: list[Any] = []
    for batch in batches:
        waiting.append(moved(batch, device))
        if len(waiting) > 1:
            yield waiting.pop(0)
    yield from waiting
