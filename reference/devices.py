"""What a device can do, and moving batches to it."""

from __future__ import annotations

import os
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Any, TypeVar

import torch
from torch import Tensor, nn

__all__ = ["computes_half", "feeders", "moved", "place_of", "prepared", "usual"]

T = TypeVar("T")
HALF_IN_HARDWARE = ("avx512_bf16", "amx_bf16", "bf16")  # the last is ARM's
AHEAD = 2  # batches that wait per thread that makes them


def usual() -> str:
    """A GPU where there is one."""
    return "cuda" if torch.cuda.is_available() else "cpu"


def place_of(module: nn.Module) -> torch.device:
    """Where a module's weights are."""
    return next(module.parameters()).device


def feeders(device: torch.device) -> int:
    """Threads that prepare batches: beside a GPU half the cores; the others draw people."""
    return 1 if device.type == "cpu" else max(1, (os.cpu_count() or 2) // 2)


def computes_half(device: torch.device) -> bool:
    """Whether bfloat16 is computed in, and not converted to float32 and back at every layer."""
    if device.type == "cuda":
        return torch.cuda.is_bf16_supported(including_emulation=False)
    if device.type == "cpu":
        found = torch.cpu.get_capabilities()  # without the names of other architectures
        return any(found.get(name, False) for name in HALF_IN_HARDWARE)
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


def prepared(make: Callable[[int], T], steps: Iterable[int], *, workers: int = 1) -> Iterator[T]:
    """``make(step)`` of every step, in order, made ahead of use by threads.

    What is made must follow from the step alone. Native code and copies run beside Python, so a
    few threads feed a GPU that one would starve.
    """
    waiting: deque[Future[T]] = deque()
    pool = ThreadPoolExecutor(workers, thread_name_prefix="batches")
    try:
        for step in steps:
            waiting.append(pool.submit(make, step))
            if len(waiting) > AHEAD * workers:
                yield waiting.popleft().result()
        while waiting:
            yield waiting.popleft().result()
    finally:
        pool.shutdown(cancel_futures=True)
