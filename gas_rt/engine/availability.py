"""Which backends can run here, what the others lack, and the command that adds it."""

from __future__ import annotations

import importlib.util
from dataclasses import dataclass, field
from functools import cache
from importlib import metadata

from gas_rt.engine.gpu import (
    Gpus,
    find_gpus,
    installed_tensorrt,
    nvinfer_of_onnxruntime,
    onnxruntime_package,
    providers_of_onnxruntime,
)

__all__ = ["BACKENDS", "BackendStatus", "Missing", "backend_status", "cpu_has_bf16"]

BACKENDS = (
    "auto",
    "openvino",
    "onnxruntime",
    "onnxruntime-cuda",
    "onnxruntime-tensorrt",
    "tensorrt",
)
TENSORRT_10 = "10.16.1.11"  # the 10.x that is supported, and the last one there is
CUDA_OF_TENSORRT_11 = 13
NO_BF16 = "this processor has no bf16 instructions, so OpenVINO computes in fp32"


@dataclass(frozen=True)
class Missing:
    """Something a backend lacks, and what adds it."""

    what: str
    remedy: str

    def __str__(self) -> str:
        return f"{self.what}; {self.remedy}"


@dataclass(frozen=True)
class BackendStatus:
    """One backend on this machine; it can run if nothing is missing.

    Attributes
    ----------
    versions : of its libraries, by package.
    notes : what does not stop it and is worth knowing.
    """

    name: str
    device: str
    versions: dict[str, str] = field(default_factory=dict)
    missing: tuple[Missing, ...] = ()
    notes: tuple[str, ...] = ()

    @property
    def usable(self) -> bool:
        """Whether it can run here, as far as can be told without running it."""
        return not self.missing


def backend_status(name: str) -> BackendStatus:
    """What there is of a backend and what is missing; `name` is one of `BACKENDS` but auto."""
    return {
        "openvino": _openvino,
        "onnxruntime": _onnxruntime,
        "onnxruntime-cuda": _onnxruntime_cuda,
        "onnxruntime-tensorrt": _onnxruntime_tensorrt,
        "tensorrt": _tensorrt,
    }[name]()


@cache
def cpu_has_bf16() -> bool:
    """Whether OpenVINO computes in bf16 on this processor in hardware."""
    import openvino

    return "BF16" in openvino.Core().get_property("CPU", "OPTIMIZATION_CAPABILITIES")


def _openvino() -> BackendStatus:
    if importlib.util.find_spec("openvino") is None:
        lacks = Missing("Python package openvino", "run 'pip install openvino'")
        return BackendStatus("openvino", "cpu", missing=(lacks,))
    notes = () if cpu_has_bf16() else (NO_BF16,)
    return BackendStatus("openvino", "cpu", _versions("openvino"), notes=notes)


def _onnxruntime() -> BackendStatus:
    if importlib.util.find_spec("onnxruntime") is None:
        lacks = Missing("Python package onnxruntime", "run 'pip install onnxruntime'")
        return BackendStatus("onnxruntime", "cpu", missing=(lacks,))
    return BackendStatus("onnxruntime", "cpu", _onnxruntime_version())


def _onnxruntime_cuda() -> BackendStatus:
    missing = (*_lacking_gpu(find_gpus()), *_lacking_provider("cuda"))
    return BackendStatus("onnxruntime-cuda", "cuda", _onnxruntime_version(), missing)


def _onnxruntime_tensorrt() -> BackendStatus:
    missing = [*_lacking_gpu(find_gpus()), *_lacking_provider("tensorrt")]
    version = installed_tensorrt()
    library = providers_of_onnxruntime().get("tensorrt")
    wanted = nvinfer_of_onnxruntime(library) if library is not None else None
    if wanted is not None and (clash := _clash(wanted, version)):
        missing.append(clash)
    versions = _onnxruntime_version() | ({"tensorrt": version} if version else {})
    return BackendStatus("onnxruntime-tensorrt", "cuda", versions, tuple(missing))


def _clash(wanted: int, version: str | None) -> Missing | None:
    """ONNX Runtime's provider links one major version of libnvinfer and takes no other."""
    if version is None:
        what = f"libnvinfer.so.{wanted}, which ONNX Runtime's TensorRT provider links"
    elif int(version.split(".")[0]) != wanted:
        what = (
            f"libnvinfer.so.{wanted}: ONNX Runtime's TensorRT provider links that one, and this "
            f"environment has TensorRT {version} with libnvinfer.so.{version.split('.')[0]}; one "
            "environment cannot serve both"
        )
    else:
        return None
    package = f"tensorrt-cu12=={TENSORRT_10}" if wanted == 10 else f"tensorrt=={wanted}.*"
    remedy = f"run 'pip install {package}' in an environment without TensorRT 11"
    return Missing(what, f"{remedy}, or use backend 'tensorrt' in this one" if version else remedy)


def _tensorrt() -> BackendStatus:
    gpus, version = find_gpus(), installed_tensorrt()
    missing = list(_lacking_gpu(gpus))
    packages = _packages_for(gpus)
    if version is None or importlib.util.find_spec("tensorrt") is None:
        missing.append(Missing("Python package tensorrt", f"run 'pip install {packages[0]}'"))
    elif not _supported(version):
        missing.append(
            Missing(
                f"TensorRT 10.16 or 11 (found {version})",
                f"run 'pip install --upgrade {packages[0]}'",
            )
        )
    elif version.startswith("11.") and (0, 0) < gpus.cuda < (CUDA_OF_TENSORRT_11, 0):
        missing.append(
            Missing(
                f"a driver for CUDA 13, which TensorRT {version} needs (this one runs CUDA "
                f"{gpus.cuda[0]}.{gpus.cuda[1]})",
                f"update the NVIDIA driver, or run 'pip install {packages[0]}'",
            )
        )
    if importlib.util.find_spec("cupy") is None:
        missing.append(Missing("Python package cupy", f"run 'pip install {packages[1]}'"))
    return BackendStatus(
        "tensorrt",
        "cuda",
        {"tensorrt": version} if version else {},
        tuple(missing),
        ("no plan has been built with this backend yet; it is tested over stand-ins",),
    )


def _supported(version: str) -> bool:
    major, minor = (int(part) for part in version.split(".")[:2])
    return (major, minor) >= (10, 16) and major <= 11


def _packages_for(gpus: Gpus) -> tuple[str, str]:
    """What to install for the driver that is there: TensorRT and CuPy."""
    if (0, 0) < gpus.cuda < (CUDA_OF_TENSORRT_11, 0):
        return f"tensorrt-cu12=={TENSORRT_10}", "cupy-cuda12x"
    return "tensorrt-cu13", "cupy-cuda13x"


def _lacking_gpu(gpus: Gpus) -> tuple[Missing, ...]:
    if gpus.names:
        return ()
    return (Missing(f"an NVIDIA GPU: {gpus.problem}", "install one with its driver"),)


def _lacking_provider(name: str) -> tuple[Missing, ...]:
    if name in providers_of_onnxruntime():
        return ()
    package = onnxruntime_package()
    # The two packages hold the same modules: side by side, the files of one overwrite the other's.
    first = "'pip uninstall onnxruntime', then " if package and package[0] == "onnxruntime" else ""
    return (
        Missing(
            f"ONNX Runtime's {name} provider",
            f"run {first}'pip install onnxruntime-gpu[cuda,cudnn]'",
        ),
    )


def _onnxruntime_version() -> dict[str, str]:
    package = onnxruntime_package()
    return {} if package is None else {package[0]: package[1]}


def _versions(package: str) -> dict[str, str]:
    try:
        return {package: metadata.version(package)}
    except metadata.PackageNotFoundError:  # importable, but not installed: a source checkout
        return {}
