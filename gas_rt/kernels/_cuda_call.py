"""What every CUDA kernel's face does first: the module, the stream, and arrays of any library."""

from __future__ import annotations

import ctypes
import functools
from dataclasses import dataclass
from types import ModuleType, TracebackType
from typing import Any, Protocol

import numpy as np

from gas_rt.errors import BackendError, InputError, ShapeError

__all__ = ["Call", "DeviceArray", "Stream", "module", "stream_pointer"]

# A handle, or an object of CuPy (.ptr), PyCUDA (.handle), torch (.cuda_stream) or cuda.core
# (__cuda_stream__).
Stream = Any

DEFAULT_STREAMS = {0: "the legacy default stream", 1: "the legacy default stream"}
DEFAULT_STREAMS[2] = "the per-thread default stream"
DLPACK_CUDA = {2, 13}  # device memory, managed memory
DLPACK_KINDS = {0: "i", 1: "u", 2: "f", 6: "b"}
MAX_POSES = 65535  # rows of a grid


@functools.cache
def module() -> ModuleType:
    """The compiled CUDA kernels, loaded on first use.

    Raises
    ------
    BackendError : they were not built, or there is no driver or no GPU to run them.
    """
    try:
        from gas_rt.kernels import _cuda
    except ImportError as error:
        raise BackendError(
            f"gas_rt.kernels.cuda: this installation has no CUDA kernels ({error}); install "
            "gas-rt with GAS_RT_CUDA=1 where nvcc is on the path, or use gas_rt.kernels on the CPU"
        ) from error
    try:
        count = _cuda.device_count()
    except RuntimeError as error:
        raise BackendError(
            f"gas_rt.kernels.cuda: no usable NVIDIA driver ({error}); install one for CUDA 13 or "
            "newer, or use gas_rt.kernels on the CPU"
        ) from error
    if count == 0:
        raise BackendError(
            "gas_rt.kernels.cuda: the NVIDIA driver shows no GPU; check nvidia-smi and "
            "CUDA_VISIBLE_DEVICES, or use gas_rt.kernels on the CPU"
        )
    loaded: ModuleType = _cuda
    return loaded


def stream_pointer(stream: Stream) -> int:
    """The handle of a stream that is not a default one.

    The default streams wait for each other and cannot be captured into a graph: work that is
    queued there by accident serialises the whole process.
    """
    handle: Any = stream
    if hasattr(stream, "__cuda_stream__"):
        protocol = stream.__cuda_stream__
        handle = (protocol() if callable(protocol) else protocol)[1]
    else:
        for name in ("ptr", "handle", "cuda_stream"):
            if hasattr(stream, name):
                handle = getattr(stream, name)
                break
    handle = getattr(handle, "value", handle)  # of a ctypes pointer
    if isinstance(handle, bool) or not isinstance(handle, int | np.integer) or handle < 0:
        raise InputError(
            f"stream: expected a CUDA stream of CuPy, PyCUDA, torch or cuda.core, or its handle, "
            f"got {stream!r}"
        )
    if int(handle) in DEFAULT_STREAMS:
        raise InputError(
            f"stream: expected a stream of its own, got {int(handle)}, "
            f"{DEFAULT_STREAMS[int(handle)]}; create one, as cupy.cuda.Stream(non_blocking=True)"
        )
    return int(handle)


class _DLDataType(ctypes.Structure):
    _fields_ = (("code", ctypes.c_uint8), ("bits", ctypes.c_uint8), ("lanes", ctypes.c_uint16))


class _DLTensor(ctypes.Structure):
    _fields_ = (
        ("data", ctypes.c_void_p),
        ("device_type", ctypes.c_int32),
        ("device_id", ctypes.c_int32),
        ("ndim", ctypes.c_int32),
        ("dtype", _DLDataType),
        ("shape", ctypes.POINTER(ctypes.c_int64)),
        ("strides", ctypes.POINTER(ctypes.c_int64)),
        ("byte_offset", ctypes.c_uint64),
    )


_capsule_pointer = ctypes.pythonapi.PyCapsule_GetPointer
_capsule_pointer.restype = ctypes.c_void_p
_capsule_pointer.argtypes = (ctypes.py_object, ctypes.c_char_p)


@dataclass(frozen=True)
class DeviceArray:
    """An array in a GPU's memory, as its owner describes it.

    pointer : address; 0 only if the array is empty. strides : bytes, or None for C order.
    producer : the stream its contents are ready on, where that is known and not waited for yet.
    keep : what must live while the array is used.
    """

    pointer: int
    shape: tuple[int, ...]
    dtype: np.dtype[Any]
    strides: tuple[int, ...] | None
    readonly: bool = False
    producer: int | None = None
    keep: Any = None

    @property
    def contiguous(self) -> bool:
        """Whether the elements lie in C order without gaps."""
        if self.strides is None or 0 in self.shape:
            return True
        step = self.dtype.itemsize
        for size, stride in zip(reversed(self.shape), reversed(self.strides), strict=True):
            if size != 1 and stride != step:
                return False
            step *= size
        return True


class _DLPackExporter(Protocol):
    def __dlpack__(self, *, stream: int) -> Any: ...


def _from_interface(interface: dict[str, Any], owner: Any) -> DeviceArray:
    pointer, readonly = interface["data"]
    strides = interface.get("strides")
    return DeviceArray(
        int(pointer or 0),
        tuple(interface["shape"]),
        np.dtype(interface["typestr"]),
        None if strides is None else tuple(strides),
        readonly=bool(readonly),
        producer=interface.get("stream"),
        keep=owner,
    )


def _from_dlpack(owner: _DLPackExporter, stream: int) -> DeviceArray:
    # Handed our stream, the exporter makes it wait for the contents.
    capsule = owner.__dlpack__(stream=stream)
    tensor = _DLTensor.from_address(_capsule_pointer(capsule, b"dltensor"))
    kind = DLPACK_KINDS.get(tensor.dtype.code)
    if kind is None or tensor.dtype.lanes != 1:
        raise ShapeError(f"expected numbers, got DLPack type code {tensor.dtype.code}")
    shape = tuple(tensor.shape[i] for i in range(tensor.ndim))
    dtype = np.dtype(f"{kind}{tensor.dtype.bits // 8}")
    strides = None
    if tensor.strides:
        strides = tuple(tensor.strides[i] * dtype.itemsize for i in range(tensor.ndim))
    pointer = (tensor.data or 0) + tensor.byte_offset
    return DeviceArray(pointer, shape, dtype, strides, keep=(owner, capsule))


def _describe(value: Any, stream: int) -> DeviceArray | None:
    """The array, or None if it is not one in a GPU's memory."""
    interface = getattr(value, "__cuda_array_interface__", None)
    if interface is not None:
        return _from_interface(interface, value)
    device = getattr(value, "__dlpack_device__", None)
    if device is None or device()[0] not in DLPACK_CUDA:
        return None
    return _from_dlpack(value, stream)


class Call:
    """One call of a kernel: checks its arrays, remembers their sizes, words its errors.

    Shapes are given with names for the lengths that must agree, as ``("B", "V", 3)``; the first
    array that has a length fixes it. Used as a context manager around the launch.
    """

    def __init__(self, name: str, stream: Stream) -> None:
        self.name = name
        self.stream = stream_pointer(stream)
        self.module = module()
        self.sizes: dict[str, int] = {}
        self._device = self.module.current_device()
        self._fixed_by: dict[str, str] = {}
        self._keep: list[Any] = []

    def __enter__(self) -> Call:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        if kind is RuntimeError:
            raise BackendError(
                f"{self.name}: the CUDA runtime refused the launch ({error}); if an earlier "
                "kernel of this process failed, the error is that kernel's"
            ) from error

    def read(
        self,
        name: str,
        value: Any,
        shape: tuple[int | str, ...],
        dtype: Any = np.float32,
        *,
        align: int | None = None,
    ) -> int:
        """The address of an input; `align` is in bytes, the dtype's own by default."""
        return self._checked(name, value, shape, np.dtype(dtype), align).pointer

    def write(
        self,
        name: str,
        value: Any,
        shape: tuple[int | str, ...],
        dtype: Any = np.float32,
        *,
        align: int | None = None,
    ) -> int:
        """The address of an output or workspace."""
        array = self._checked(name, value, shape, np.dtype(dtype), align)
        if array.readonly:
            raise ShapeError(f"{self.name}: {name}: expected an array to write to, got a read-only")
        return array.pointer

    def read_optional(
        self, name: str, value: Any, shape: tuple[int | str, ...], dtype: Any = np.float32
    ) -> int:
        """As `read`, 0 for None."""
        return 0 if value is None else self.read(name, value, shape, dtype)

    def write_optional(
        self, name: str, value: Any, shape: tuple[int | str, ...], dtype: Any = np.float32
    ) -> int:
        """As `write`, 0 for None."""
        return 0 if value is None else self.write(name, value, shape, dtype)

    def dtype_of(self, name: str, value: Any) -> np.dtype[Any]:
        """The dtype of an array that may have one of several."""
        return self._described(name, value).dtype

    def _described(self, name: str, value: Any) -> DeviceArray:
        where = f"{self.name}: {name}"
        try:
            array = _describe(value, self.stream)
        except (ShapeError, RuntimeError, BufferError) as error:  # a tensor that wants gradients
            raise ShapeError(f"{where}: its owner does not hand it out: {error}") from error
        if array is None:
            raise ShapeError(
                f"{where}: expected an array in GPU memory (with __cuda_array_interface__ or "
                f"DLPack), got {_kind_of(value)}; copy it to the GPU, as cupy.asarray does"
            )
        return array

    def _checked(
        self,
        name: str,
        value: Any,
        shape: tuple[int | str, ...],
        dtype: np.dtype[Any],
        align: int | None,
    ) -> DeviceArray:
        array, where = self._described(name, value), f"{self.name}: {name}"
        if array.dtype != dtype:
            raise ShapeError(f"{where}: expected dtype {dtype}, got {array.dtype}; convert it")
        self._match(where, name, array.shape, shape)
        if not array.contiguous:
            raise ShapeError(
                f"{where}: expected a C-contiguous array, got strides {array.strides} bytes for "
                f"shape {list(array.shape)}; copy it into C order"
            )
        if array.pointer and 0 not in array.shape:
            self._check_place(where, array, align or dtype.alignment)
        if array.producer is not None and array.producer != self.stream:
            self.module.wait_for(array.producer, self.stream)
        self._keep.append(array.keep)
        return array

    def _match(
        self, where: str, name: str, found: tuple[int, ...], wanted: tuple[int | str, ...]
    ) -> None:
        lengths = [self.sizes.get(w) if isinstance(w, str) else w for w in wanted]
        agree = len(found) == len(wanted) and all(
            want is None or want == have for want, have in zip(lengths, found, strict=True)
        )
        if not agree:
            known = ", ".join(
                f"{w} = {self.sizes[w]} as in {self._fixed_by[w]}"
                for w in wanted
                if isinstance(w, str) and w in self.sizes
            )
            text = (
                "[" + ", ".join(str(w) for w in wanted) + "]" + (f" with {known}" if known else "")
            )
            raise ShapeError(f"{where}: expected shape {text}, got {list(found)}")
        for want, have in zip(wanted, found, strict=True):
            if isinstance(want, str) and want not in self.sizes:
                self.sizes[want], self._fixed_by[want] = have, name
        if self.sizes.get("B", 0) > MAX_POSES:
            raise ShapeError(f"{where}: expected at most {MAX_POSES} poses, got {self.sizes['B']}")

    def _check_place(self, where: str, array: DeviceArray, align: int) -> None:
        device = self.module.device_of(array.pointer)
        if device < 0:
            raise ShapeError(
                f"{where}: expected GPU memory, got address {array.pointer:#x} of the host; copy "
                "the array to the GPU"
            )
        if device != self._device:
            raise ShapeError(
                f"{where}: expected an array on GPU {self._device}, the current one, got one on "
                f"GPU {device}; copy it, or make that GPU current"
            )
        if array.pointer % align:
            raise ShapeError(
                f"{where}: expected an address aligned to {align} bytes, got {array.pointer:#x}; "
                "copy the array"
            )


def _kind_of(value: Any) -> str:
    if isinstance(value, np.ndarray):
        return "a NumPy array in the host's memory"
    return f"{type(value).__module__}.{type(value).__qualname__}"
