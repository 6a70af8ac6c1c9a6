"""The GPU as all graphs of an engine share it: one stream, one block of scratch memory."""

from __future__ import annotations

import importlib
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from gas_rt.errors import BackendError

__all__ = ["Arena", "Device", "open_device"]


class Arena:
    """Scratch memory for every execution context of an engine.

    One block as large as the largest graph needs, in place of one per graph: work on one stream
    never overlaps, so no two graphs use it at once.
    """

    def __init__(self, cupy: Any, stream: Any) -> None:
        self._cupy = cupy
        self._stream = stream
        self._block: Any = None
        self.bytes = 0
        self.moves = 0  # how often it got another address, which contexts must then be told

    @property
    def address(self) -> int:
        """Where it is now."""
        return int(self._block.ptr)

    def reserve(self, size: int) -> None:
        """Be at least of `size` bytes."""
        if self._block is not None and size <= self.bytes:
            return
        self._stream.synchronize()  # graphs in flight use the block that goes
        self._block = None
        with self._stream:
            self._block = self._cupy.cuda.alloc(max(size, 1))
        self.bytes = size
        self.moves += 1

    def free(self) -> None:
        """Give the block back."""
        self._block = None


class Device:
    """CuPy on the current GPU, with the stream and the arena of one engine.

    `turn` is held while work is queued, so that the launches of two threads do not mix.
    """

    def __init__(self, cupy: Any, pinned: Any) -> None:
        self.cupy = cupy
        self.pinned = pinned
        self._gpu = cupy.cuda.runtime.getDevice()
        self.stream = cupy.cuda.Stream(non_blocking=True)
        self.arena = Arena(cupy, self.stream)
        self.closed = False
        self._turn = threading.RLock()

    @contextmanager
    def turn(self, doing: str) -> Iterator[None]:
        """Queue work; CUDA's errors become BackendErrors that name `doing`."""
        with self._turn:
            if self.closed:
                raise BackendError(f"{doing}: the engine is closed; load the model again")
            try:
                # CUDA's current GPU is each thread's own; a session's threads start with the first.
                with self.cupy.cuda.Device(self._gpu):
                    yield
            except BackendError:
                raise
            except MemoryError as error:
                raise BackendError(
                    f"{doing}: the GPU's memory is full ({error}); close other programs on it, or "
                    "take a smaller model"
                ) from error
            except RuntimeError as error:  # CUDA's, as CuPy raises them
                raise BackendError(f"{doing}: CUDA failed: {error}") from error

    def facts(self) -> dict[str, str]:
        """What plans depend on: GPU, compute capability, CUDA of runtime and driver."""
        runtime = self.cupy.cuda.runtime
        with self.turn("backend tensorrt"):
            properties = runtime.getDeviceProperties(self._gpu)
            return {
                "gpu": properties["name"].decode(),
                "sm": f"{properties['major']}.{properties['minor']}",
                "cuda": f"{runtime.runtimeGetVersion()}, driver for {runtime.driverGetVersion()}",
            }

    def close(self) -> None:
        """Wait for what is queued and free the arena. May be repeated."""
        with self._turn:
            if not self.closed:
                self.closed = True
                self.stream.synchronize()
                self.arena.free()


def open_device() -> Device:
    """Import CuPy and open the current GPU; BackendError if either cannot be had."""
    try:
        cupy = importlib.import_module("cupy")
        pinned = importlib.import_module("cupyx").empty_pinned
    except (ImportError, OSError) as error:
        raise BackendError(
            f"backend tensorrt: Python package cupy cannot be imported ({error}); see 'gas-rt "
            "doctor' for the command that installs it"
        ) from error
    try:
        if cupy.cuda.runtime.getDeviceCount() == 0:
            raise BackendError("backend tensorrt: no GPU is visible; see 'gas-rt doctor'")
        return Device(cupy, pinned)
    except RuntimeError as error:
        if isinstance(error, BackendError):
            raise
        raise BackendError(
            f"backend tensorrt: CUDA does not start: {error}; see 'gas-rt doctor'"
        ) from error
