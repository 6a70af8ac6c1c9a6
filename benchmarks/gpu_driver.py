"""As much of the CUDA driver as the GPU benchmark needs: memory, streams, graphs, events.

Through ctypes, so that a machine with a driver needs no other Python package.
"""

from __future__ import annotations

import ctypes
from collections.abc import Callable
from ctypes import byref, c_char_p, c_float, c_int, c_size_t, c_uint, c_uint64, c_void_p
from types import TracebackType
from typing import Any

import numpy as np

NON_BLOCKING = 1
RELAXED_CAPTURE = 2
CAPABILITY_MAJOR, CAPABILITY_MINOR = 75, 76


class DeviceMemory:
    """An array in GPU memory, as other libraries describe theirs."""

    def __init__(self, gpu: Gpu, shape: tuple[int, ...], dtype: Any) -> None:
        self.shape, self.dtype = tuple(shape), np.dtype(dtype)
        self.size_bytes = int(np.prod(self.shape)) * self.dtype.itemsize
        self.pointer = gpu.allocate(self.size_bytes)

    @property
    def __cuda_array_interface__(self) -> dict[str, Any]:
        return {
            "version": 3,
            "shape": self.shape,
            "typestr": self.dtype.str,
            "data": (self.pointer, False),
            "strides": None,
            "stream": None,  # every copy here is waited for
        }


class Gpu:
    """The first GPU, one stream on it, and what was allocated; a context manager."""

    def __init__(self) -> None:
        self._cuda = ctypes.CDLL("libcuda.so.1")
        self._allocated: list[int] = []
        self._do("cuInit", 0)
        device = c_int()
        self._do("cuDeviceGet", byref(device), 0)
        self._device = device
        context = c_void_p()
        self._do("cuDevicePrimaryCtxRetain", byref(context), device)
        self._do("cuCtxSetCurrent", context)
        stream = c_void_p()
        self._do("cuStreamCreate", byref(stream), c_uint(NON_BLOCKING))
        self.stream = int(stream.value or 0)

    def __enter__(self) -> Gpu:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()

    def close(self) -> None:
        """Free everything; the process is done with the GPU."""
        self.free()
        self._cuda.cuStreamDestroy_v2(c_void_p(self.stream))
        self._cuda.cuDevicePrimaryCtxRelease_v2(self._device)

    def free(self) -> None:
        """Free all arrays."""
        for pointer in self._allocated:
            self._cuda.cuMemFree_v2(c_uint64(pointer))
        self._allocated.clear()

    def _do(self, name: str, *arguments: Any) -> None:
        error = getattr(self._cuda, name)(*arguments)
        if error != 0:
            text = c_char_p()
            self._cuda.cuGetErrorString(error, byref(text))
            raise RuntimeError(f"{name}: {(text.value or b'unknown error').decode()} ({error})")

    def describe(self) -> dict[str, Any]:
        """Name, compute capability, the driver's CUDA version, and memory."""
        name = ctypes.create_string_buffer(256)
        self._do("cuDeviceGetName", name, 256, self._device)
        major, minor, version, size = c_int(), c_int(), c_int(), c_size_t()
        self._do("cuDeviceGetAttribute", byref(major), CAPABILITY_MAJOR, self._device)
        self._do("cuDeviceGetAttribute", byref(minor), CAPABILITY_MINOR, self._device)
        self._do("cuDriverGetVersion", byref(version))
        self._do("cuDeviceTotalMem_v2", byref(size), self._device)
        return {
            "name": name.value.decode(),
            "compute_capability": f"{major.value}.{minor.value}",
            "driver_cuda": f"{version.value // 1000}.{version.value % 1000 // 10}",
            "memory_gib": round(size.value / 2**30, 1),
        }

    def allocate(self, size_bytes: int) -> int:
        """An address of that much memory, filled with 0xff: NaN until it is written."""
        pointer = c_uint64()
        self._do("cuMemAlloc_v2", byref(pointer), c_size_t(max(size_bytes, 16)))
        self._do("cuMemsetD8_v2", pointer, ctypes.c_ubyte(0xFF), c_size_t(max(size_bytes, 16)))
        self.wait()
        self._allocated.append(int(pointer.value))
        return int(pointer.value)

    def empty(self, shape: tuple[int, ...], dtype: Any) -> DeviceMemory:
        """An array that holds nothing yet."""
        return DeviceMemory(self, shape, dtype)

    def upload(self, array: np.ndarray[Any, Any]) -> DeviceMemory:
        """A copy on the GPU."""
        source = np.ascontiguousarray(array)
        copy = DeviceMemory(self, source.shape, source.dtype)
        address = c_void_p(source.ctypes.data)
        self._do("cuMemcpyHtoD_v2", c_uint64(copy.pointer), address, c_size_t(source.nbytes))
        self.wait()
        return copy

    def download(self, array: DeviceMemory) -> np.ndarray[Any, Any]:
        """A copy on the host."""
        self.wait()
        copy = np.empty(array.shape, array.dtype)
        address = c_void_p(copy.ctypes.data)
        self._do("cuMemcpyDtoH_v2", address, c_uint64(array.pointer), c_size_t(copy.nbytes))
        return copy

    def wait(self) -> None:
        """Until all queued work is done."""
        self._do("cuCtxSynchronize")

    def copy_bytes_per_s(self, size_bytes: int = 1 << 30) -> float:
        """What a copy on the GPU reaches, reading and writing counted."""
        source, target = self.empty((size_bytes,), np.uint8), self.empty((size_bytes,), np.uint8)

        def copy() -> None:
            self._do(
                "cuMemcpyDtoDAsync_v2",
                c_uint64(target.pointer),
                c_uint64(source.pointer),
                c_size_t(size_bytes),
                c_void_p(self.stream),
            )

        copied_s = float(np.median(self.times_ms(copy, repeats=20))) / 1e3
        self.free()
        return 2 * size_bytes / copied_s

    def times_ms(self, run: Callable[[], None], *, repeats: int, warm_up: int = 5) -> list[float]:
        """How long what `run` queues on the stream takes, launch by launch.

        It is captured once into a graph, so that the host's part is not timed; a kernel that
        synchronised or allocated could not be captured.
        """
        stream, graph, ready = c_void_p(self.stream), c_void_p(), c_void_p()
        self._do("cuStreamBeginCapture_v2", stream, c_int(RELAXED_CAPTURE))
        try:
            run()
        finally:
            self._do("cuStreamEndCapture", stream, byref(graph))
        self._do("cuGraphInstantiateWithFlags", byref(ready), graph, c_uint64(0))
        start, stop, elapsed = c_void_p(), c_void_p(), c_float()
        self._do("cuEventCreate", byref(start), c_uint(0))
        self._do("cuEventCreate", byref(stop), c_uint(0))
        times = []
        for i in range(warm_up + repeats):
            self._do("cuEventRecord", start, stream)
            self._do("cuGraphLaunch", ready, stream)
            self._do("cuEventRecord", stop, stream)
            self._do("cuEventSynchronize", stop)
            self._do("cuEventElapsedTime", byref(elapsed), start, stop)
            if i >= warm_up:
                times.append(elapsed.value)
        for event in (start, stop):
            self._do("cuEventDestroy_v2", event)
        self._do("cuGraphExecDestroy", ready)
        self._do("cuGraphDestroy", graph)
        return times
