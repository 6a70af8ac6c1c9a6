"""What is there, what is missing and the command that adds it, on machines made up for it."""

from __future__ import annotations

import ctypes
import importlib.util
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from gas_rt.engine import availability, gpu
from gas_rt.engine.availability import backend_status
from gas_rt.engine.gpu import Gpus, find_gpus, nvinfer_of_onnxruntime

GPU = Gpus(("NVIDIA L4 (8.9)",), (13, 2))
OLD_DRIVER = Gpus(("NVIDIA T4 (7.5)",), (12, 8))
NO_GPU = Gpus(problem="no NVIDIA driver is installed")


class Machine:
    """A machine by what is installed on it."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, folder: Path) -> None:
        self.modules = {"openvino", "onnxruntime"}
        self.gpus = NO_GPU
        self.tensorrt: str | None = None
        self.onnxruntime: tuple[str, str] | None = ("onnxruntime", "1.32.0")
        self.providers: dict[str, Path] = {}
        self.bf16 = True
        self._folder = folder
        for name, value in {
            "find_gpus": lambda: self.gpus,
            "installed_tensorrt": lambda: self.tensorrt,
            "onnxruntime_package": lambda: self.onnxruntime,
            "providers_of_onnxruntime": lambda: self.providers,
            "cpu_has_bf16": lambda: self.bf16,
        }.items():
            monkeypatch.setattr(availability, name, value)
        monkeypatch.setattr(
            importlib.util, "find_spec", lambda name: object() if name in self.modules else None
        )

    def with_gpu_build(self, nvinfer: int = 10) -> None:
        """onnxruntime-gpu, whose TensorRT provider links a version of libnvinfer."""
        self.onnxruntime = ("onnxruntime-gpu", "1.31.1")
        for name in ("cuda", "tensorrt"):
            self.providers[name] = self._folder / f"libonnxruntime_providers_{name}.so"
            self.providers[name].write_bytes(
                b"\x7fELF\0libcudart.so.13\0" + b"libnvinfer.so.%d\0" % nvinfer
            )


@pytest.fixture
def machine(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Machine:
    return Machine(monkeypatch, tmp_path)


def missing(name: str) -> list[tuple[str, str]]:
    return [(m.what, m.remedy) for m in backend_status(name).missing]


def test_a_laptop_without_a_gpu(machine: Machine) -> None:
    assert backend_status("openvino").usable
    assert backend_status("onnxruntime").usable
    assert backend_status("onnxruntime").versions == {"onnxruntime": "1.32.0"}
    for name in ("onnxruntime-cuda", "onnxruntime-tensorrt", "tensorrt"):
        first = missing(name)[0]
        assert first == (
            "an NVIDIA GPU: no NVIDIA driver is installed",
            "install one with its driver",
        )
    machine.modules.clear()
    assert missing("openvino") == [("Python package openvino", "run 'pip install openvino'")]
    assert missing("onnxruntime")[0][1] == "run 'pip install onnxruntime'"


def test_a_processor_without_bf16_is_told(machine: Machine) -> None:
    assert backend_status("openvino").notes == ()
    machine.bf16 = False
    assert "no bf16 instructions" in backend_status("openvino").notes[0]
    assert backend_status("openvino").usable


def test_a_gpu_without_libraries(machine: Machine) -> None:
    machine.gpus = GPU
    assert missing("tensorrt") == [
        ("Python package tensorrt", "run 'pip install tensorrt-cu13'"),
        ("Python package cupy", "run 'pip install cupy-cuda13x'"),
    ]
    ((what, remedy),) = missing("onnxruntime-cuda")
    assert what == "ONNX Runtime's cuda provider"
    assert "'pip uninstall onnxruntime', then 'pip install onnxruntime-gpu[cuda,cudnn]'" in remedy


def test_an_old_driver_gets_what_it_runs(machine: Machine) -> None:
    machine.gpus = OLD_DRIVER
    assert [remedy for _, remedy in missing("tensorrt")] == [
        "run 'pip install tensorrt-cu12==10.16.1.11'",
        "run 'pip install cupy-cuda12x'",
    ]
    machine.modules |= {"tensorrt", "cupy"}
    machine.tensorrt = "11.4.0.106"
    ((what, remedy),) = missing("tensorrt")
    assert "a driver for CUDA 13, which TensorRT 11.4.0.106 needs (this one runs CUDA 12.8)" in what
    assert "tensorrt-cu12==10.16.1.11" in remedy
    machine.tensorrt = "10.16.1.11"
    assert backend_status("tensorrt").usable


@pytest.mark.parametrize("version", ["10.16.1.11", "11.4.0.106"])
def test_a_gpu_with_everything(machine: Machine, version: str) -> None:
    machine.gpus, machine.tensorrt = GPU, version
    machine.modules |= {"tensorrt", "cupy"}
    status = backend_status("tensorrt")
    assert status.usable
    assert "no plan has been built" in status.notes[0]
    assert status.versions == {"tensorrt": version}
    machine.with_gpu_build()
    assert backend_status("onnxruntime-cuda").usable


@pytest.mark.parametrize("version", ["10.7.0", "9.3.0", "12.0.0"])
def test_another_tensorrt(machine: Machine, version: str) -> None:
    machine.gpus, machine.tensorrt = GPU, version
    machine.modules |= {"tensorrt", "cupy"}
    assert missing("tensorrt")[0][0] == f"TensorRT 10.16 or 11 (found {version})"


def test_two_libnvinfers_do_not_share_an_environment(machine: Machine) -> None:
    machine.gpus, machine.tensorrt = GPU, "11.4.0.106"
    machine.modules |= {"tensorrt", "cupy"}
    machine.with_gpu_build(nvinfer=10)
    ((what, remedy),) = missing("onnxruntime-tensorrt")
    assert "libnvinfer.so.10" in what
    assert "TensorRT 11.4.0.106 with libnvinfer.so.11; one environment cannot serve both" in what
    assert "'pip install tensorrt-cu12==10.16.1.11' in an environment without TensorRT 11" in remedy
    assert "use backend 'tensorrt' in this one" in remedy
    assert backend_status("tensorrt").usable

    machine.tensorrt = None
    ((what, _),) = missing("onnxruntime-tensorrt")
    assert what == "libnvinfer.so.10, which ONNX Runtime's TensorRT provider links"
    machine.tensorrt = "10.16.1.11"
    assert backend_status("onnxruntime-tensorrt").usable


def test_which_libnvinfer_a_library_links(tmp_path: Path) -> None:
    library = tmp_path / "provider.so"
    library.write_bytes(b"\x7fELF" + bytes(100) + b"libnvinfer_plugin.so.9\0libnvinfer.so.11\0")
    assert nvinfer_of_onnxruntime(library) == 11
    library.write_bytes(b"\x7fELF" + bytes(100))
    assert nvinfer_of_onnxruntime(library) is None


# ---- the driver ---------------------------------------------------------------------------------


class Driver:
    """libcuda with some GPUs; arguments as ctypes gives them."""

    def __init__(self, *names: bytes, status: int = 0) -> None:
        self._names, self._status = names, status

    def cuInit(self, flags: int) -> int:  # noqa: N802
        return self._status

    def cuDriverGetVersion(self, version: Any) -> int:  # noqa: N802
        version._obj.value = 13020
        return 0

    def cuDeviceGetCount(self, count: Any) -> int:  # noqa: N802
        count._obj.value = len(self._names)
        return 0

    def cuDeviceGet(self, device: Any, index: int) -> int:  # noqa: N802
        device._obj.value = index
        return 0

    def cuDeviceGetName(self, text: Any, size: int, device: Any) -> int:  # noqa: N802
        text.value = self._names[device.value]
        return 0

    def cuDeviceGetAttribute(self, value: Any, attribute: int, device: Any) -> int:  # noqa: N802
        value._obj.value = {75: 8, 76: 9}[attribute]
        return 0


@pytest.fixture(autouse=True)
def fresh() -> Iterator[None]:
    find_gpus.cache_clear()
    yield
    find_gpus.cache_clear()


def test_the_driver_names_its_gpus() -> None:
    found = find_gpus(lambda name: Driver(b"NVIDIA L4", b"NVIDIA T4"))
    assert found == Gpus(("NVIDIA L4 (8.9)", "NVIDIA T4 (8.9)"), (13, 2))


@pytest.mark.parametrize(
    ("load", "problem"),
    [
        (
            lambda name: Driver(status=100),
            "the NVIDIA driver finds no GPU it can use (cuInit gives 100)",
        ),
        (lambda name: Driver(), "the NVIDIA driver is there, but no GPU"),
        (lambda name: ctypes.CDLL("no-such-library.so"), "no NVIDIA driver is installed"),
    ],
)
def test_a_driver_without_gpus(load: Callable[[str], Any], problem: str) -> None:
    found = find_gpus(load)
    assert (found.names, found.problem) == ((), problem)


def test_packages_by_any_name(monkeypatch: pytest.MonkeyPatch) -> None:
    installed = {"tensorrt-cu12-bindings": "10.16.1.11", "onnxruntime-gpu": "1.31.1"}

    def version(name: str) -> str:
        if name not in installed:
            raise gpu.metadata.PackageNotFoundError(name)
        return installed[name]

    monkeypatch.setattr(gpu.metadata, "version", version)
    assert gpu.installed_tensorrt() == "10.16.1.11"
    assert gpu.onnxruntime_package() == ("onnxruntime-gpu", "1.31.1")
    installed.clear()
    assert gpu.installed_tensorrt() is None
    assert gpu.onnxruntime_package() is None


def test_the_cpu_build_has_no_gpu_providers() -> None:
    assert gpu.providers_of_onnxruntime() == {}
