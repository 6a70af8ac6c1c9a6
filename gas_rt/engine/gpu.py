"""What NVIDIA hardware and libraries this machine has, without importing any of them.

Backends and ``gas-rt doctor`` ask here before they import gigabytes of libraries, and can say what
is missing where nothing is there.
"""

from __future__ import annotations

import ctypes
import importlib.util
import mmap
import re
from collections.abc import Callable
from dataclasses import dataclass
from functools import cache
from importlib import metadata
from pathlib import Path
from typing import Any

__all__ = [
    "Gpus",
    "find_gpus",
    "installed_tensorrt",
    "nvinfer_of_onnxruntime",
    "onnxruntime_package",
    "providers_of_onnxruntime",
]

DRIVER = "libcuda.so.1"
# CUdevice_attribute, from cuda.h
MAJOR, MINOR = 75, 76
TENSORRT_PACKAGES = (
    "tensorrt",
    "tensorrt-cu13",
    "tensorrt-cu12",
    "tensorrt-cu13-bindings",
    "tensorrt-cu12-bindings",
)
ONNXRUNTIME_PACKAGES = ("onnxruntime-gpu", "onnxruntime")


@dataclass(frozen=True)
class Gpus:
    """What the NVIDIA driver tells.

    Attributes
    ----------
    names : of the GPUs, with their compute capability, such as "NVIDIA L4 (8.9)".
    cuda : the newest CUDA version that the driver runs, as (major, minor).
    problem : why there is none; empty if there is one.
    """

    names: tuple[str, ...] = ()
    cuda: tuple[int, int] = (0, 0)
    problem: str = ""


@cache
def find_gpus(load: Callable[[str], Any] = ctypes.CDLL) -> Gpus:
    """Ask the NVIDIA driver for its GPUs; makes no context on them."""
    try:
        driver = load(DRIVER)
    except OSError:
        return Gpus(problem="no NVIDIA driver is installed")
    if status := driver.cuInit(0):
        return Gpus(problem=f"the NVIDIA driver finds no GPU it can use (cuInit gives {status})")
    version, count = ctypes.c_int(), ctypes.c_int()
    driver.cuDriverGetVersion(ctypes.byref(version))
    driver.cuDeviceGetCount(ctypes.byref(count))
    cuda = (version.value // 1000, version.value % 1000 // 10)
    if count.value == 0:
        return Gpus(cuda=cuda, problem="the NVIDIA driver is there, but no GPU")
    return Gpus(tuple(_name(driver, k) for k in range(count.value)), cuda)


def _name(driver: Any, index: int) -> str:
    device, text = ctypes.c_int(), ctypes.create_string_buffer(256)
    driver.cuDeviceGet(ctypes.byref(device), index)
    driver.cuDeviceGetName(text, len(text), device)
    capability = []
    for attribute in (MAJOR, MINOR):
        value = ctypes.c_int()
        driver.cuDeviceGetAttribute(ctypes.byref(value), attribute, device)
        capability.append(value.value)
    return f"{text.value.decode(errors='replace')} ({capability[0]}.{capability[1]})"


def installed_tensorrt() -> str | None:
    """The version of TensorRT's Python package, or None."""
    for package in TENSORRT_PACKAGES:
        try:
            return metadata.version(package)
        except metadata.PackageNotFoundError:
            continue
    return None


def onnxruntime_package() -> tuple[str, str] | None:
    """Name and version of the package that ONNX Runtime came with, or None."""
    for package in ONNXRUNTIME_PACKAGES:
        try:
            return package, metadata.version(package)
        except metadata.PackageNotFoundError:
            continue
    return None


def providers_of_onnxruntime() -> dict[str, Path]:
    """The libraries of ONNX Runtime's GPU providers that are installed: "cuda", "tensorrt"."""
    spec = importlib.util.find_spec("onnxruntime")
    if spec is None or spec.origin is None:
        return {}
    folder = Path(spec.origin).parent / "capi"
    found = {name: folder / f"libonnxruntime_providers_{name}.so" for name in ("cuda", "tensorrt")}
    return {name: path for name, path in found.items() if path.is_file()}


def nvinfer_of_onnxruntime(library: Path) -> int | None:
    """The major version of the libnvinfer that a TensorRT provider's library links."""
    with library.open("rb") as stream, mmap.mmap(stream.fileno(), 0, access=mmap.ACCESS_READ) as m:
        found = re.search(rb"libnvinfer\.so\.(\d+)\0", m)
        return int(found[1]) if found else None
