"""CuPy as the TensorRT backend uses it, on the CPU: queued work runs when it is waited for.

Signatures are those of CuPy 14.2. Work on a stream is only queued, so what is read without waiting
is stale; memory that was freed is gone, so a recorded graph that still points to it fails.
"""

from __future__ import annotations

import itertools
import threading
import types
import weakref
from collections.abc import Callable
from typing import Any

import numpy as np

__all__ = ["FakeGpu"]

Work = Callable[[], None]


PROPERTIES = [
    {"name": b"Fake GPU", "major": 8, "minor": 9},
    {"name": b"Other GPU", "major": 9, "minor": 0},
]


class Current(threading.local):
    """Which GPU is a thread's current one."""

    number: int | None = 0


class CUDARuntimeError(RuntimeError):
    """As cupy_backends.cuda.api.runtime raises it."""


class OutOfMemoryError(MemoryError):
    """As cupy.cuda.memory raises it."""


class FakeGpu:
    """Memory by address, streams by handle, and the module ``cupy`` on top.

    Attributes
    ----------
    faults : what shall fail: "no gpu", "no cuda", "memory", "capture", "copy", "sync".
    copies : names of the copies that ran: "in" and "out".
    """

    def __init__(self) -> None:
        self.faults: set[str] = set()
        self.copies: list[str] = []
        self.allocated: list[int] = []
        self.launches = 0
        self.memory: dict[int, np.ndarray] = {}
        self.streams: dict[int, Any] = {}
        self.current = Current()
        self.home: int | None = None  # the GPU that all memory is on
        self._addresses = itertools.count(1 << 20, 1 << 20)
        self.cupy = self._module()
        self.cupyx = types.SimpleNamespace(empty_pinned=np.empty)

    def take(self, array: np.ndarray, owner: Any) -> int:
        """An address for memory that lives as long as its owner."""
        if "memory" in self.faults:
            raise OutOfMemoryError("Out of memory allocating 1 bytes")
        self.home = self.current.number if self.home is None else self.home
        assert self.current.number == self.home, "memory is taken on another GPU"
        address = next(self._addresses)
        self.memory[address] = array
        weakref.finalize(owner, self.memory.pop, address, None)
        return address

    def at(self, address: int) -> np.ndarray:
        """What lies there; an error of CUDA's if it was freed."""
        if address not in self.memory:
            raise CUDARuntimeError("cudaErrorIllegalAddress: an illegal memory access")
        return self.memory[address]

    def _module(self) -> Any:
        gpu = self

        class Array:
            def __init__(self, shape: tuple[int, ...], dtype: Any) -> None:
                self.values = np.zeros(shape, dtype)
                self.shape, self.dtype = self.values.shape, self.values.dtype
                self.data = types.SimpleNamespace(ptr=gpu.take(self.values, self))

            def set(self, arr: np.ndarray, stream: Any = None) -> None:
                if "copy" in gpu.faults:
                    raise CUDARuntimeError("cudaErrorInvalidValue: invalid argument")
                assert arr.shape == self.shape
                assert arr.dtype == self.dtype
                values = self.values

                def copy() -> None:
                    gpu.copies.append("in")
                    values[...] = arr

                stream.queue(copy)

            def get(
                self,
                stream: Any = None,
                order: str = "C",
                out: np.ndarray | None = None,
                blocking: bool = True,
            ) -> np.ndarray:
                values, found = self.values, np.empty_like(self.values) if out is None else out

                def copy() -> None:
                    gpu.copies.append("out")
                    found[...] = values

                stream.queue(copy)
                if blocking:
                    stream.synchronize()
                return found

        class Event:
            def __init__(self, stream: Stream) -> None:
                self._stream, self._last = stream, stream.queued

            def synchronize(self) -> None:
                self._stream.run_until(self._last)

        class Stream:
            def __init__(
                self,
                null: bool = False,
                non_blocking: bool = False,
                ptds: bool = False,
                priority: int | None = None,
            ) -> None:
                assert non_blocking, "a blocking stream waits for the default one"
                self.ptr = len(gpu.streams) + 1
                self.waiting: list[Work] = []
                self.done: list[Work] = []
                self.recorded: list[Work] | None = None
                self._working = threading.RLock()
                gpu.streams[self.ptr] = self

            def __enter__(self) -> Any:
                return self

            def __exit__(self, *exc: object) -> None:
                pass

            @property
            def queued(self) -> int:
                with self._working:
                    return len(self.done) + len(self.waiting)

            def queue(self, work: Work) -> None:
                if gpu.home is not None and gpu.current.number != gpu.home:
                    raise CUDARuntimeError("cudaErrorInvalidResourceHandle: another GPU's stream")
                if self.recorded is not None:
                    self.recorded.append(work)
                else:
                    self.waiting.append(work)

            def run_until(self, last: int) -> None:
                if "sync" in gpu.faults:
                    raise CUDARuntimeError("cudaErrorLaunchFailure: unspecified launch failure")
                with self._working:  # whoever waits does the work
                    while self.waiting and len(self.done) < last:
                        work = self.waiting.pop(0)
                        work()
                        self.done.append(work)

            def synchronize(self) -> None:
                if self.recorded is not None:
                    raise CUDARuntimeError("cudaErrorStreamCaptureUnsupported")
                self.run_until(self.queued)

            def record(self, event: Any = None) -> Any:
                return Event(self)

            def begin_capture(self, mode: int | None = None) -> None:
                assert self.recorded is None
                self.recorded = []

            def end_capture(self) -> Any:
                recorded, self.recorded = self.recorded, None
                if "capture" in gpu.faults:
                    raise CUDARuntimeError("cudaErrorStreamCaptureInvalidated")
                return Graph(recorded or [])

        class Graph:
            def __init__(self, work: list[Work]) -> None:
                self._work = work

            def launch(self, stream: Any = None) -> None:
                gpu.launches += 1
                for work in self._work:
                    stream.queue(work)

        class MemoryPointer:
            def __init__(self, size: int) -> None:
                gpu.allocated.append(size)
                self.ptr = gpu.take(np.zeros(size, np.uint8), self)

        class Device:
            def __init__(self, device: int | None = None) -> None:
                self._device = device

            def __enter__(self) -> Any:
                gpu.current.number, self._before = self._device, gpu.current.number
                return self

            def __exit__(self, *exc: object) -> None:
                gpu.current.number = self._before

        def count() -> int:
            if "no cuda" in gpu.faults:
                raise CUDARuntimeError("cudaErrorInsufficientDriver")
            return 0 if "no gpu" in gpu.faults else 1

        runtime = types.SimpleNamespace(
            streamCaptureModeThreadLocal=1,
            getDeviceCount=count,
            getDevice=lambda: gpu.current.number,
            getDeviceProperties=lambda device: PROPERTIES[device],
            driverGetVersion=lambda: 13020,
            runtimeGetVersion=lambda: 13020,
        )
        cuda = types.SimpleNamespace(
            runtime=runtime, Stream=Stream, Device=Device, alloc=MemoryPointer
        )
        return types.SimpleNamespace(cuda=cuda, zeros=Array)
