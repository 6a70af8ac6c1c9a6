"""A plan's key: everything that makes two plans different makes two keys different."""

from __future__ import annotations

import os
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from gas_rt.engine import GraphSpec, TensorSpec
from gas_rt.engine.machine import cpu_machine, gpu_machine, nvidia_driver
from gas_rt.engine.plan_key import PlanKey, plan_key, sha256_of
from gas_rt.errors import BackendError
from tests.engine.plans import GPU


def a_graph(folder: Path, *, bias: float = 0.5) -> GraphSpec:
    """y = x·weights.bin + bias, with the weights outside the ONNX file."""
    folder.mkdir(exist_ok=True)
    weights = numpy_helper.from_array(np.eye(4, dtype=np.float32), "w")
    onnx.external_data_helper.set_external_data(weights, "weights.bin")
    (folder / "weights.bin").write_bytes(weights.raw_data)
    weights.ClearField("raw_data")
    graph = helper.make_graph(
        [
            helper.make_node("MatMul", ["x", "w"], ["xw"]),
            helper.make_node("Add", ["xw", "b"], ["y"]),
        ],
        "line",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, [2, 4])],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, [2, 4])],
        initializer=[weights, numpy_helper.from_array(np.float32([bias]), "b")],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=9)
    (folder / "line.onnx").write_bytes(model.SerializeToString())
    tensor = TensorSpec((2, 4), "float32")
    return GraphSpec("line", folder / "line.onnx", {"x": tensor}, {"y": tensor})


def flags_and_machine() -> dict[str, Any]:
    return {
        "backend": "tensorrt",
        "precision": "fp16",
        "flags": {"STRIP_PLAN": "1", "builder_optimization_level": "3"},
        "machine": dict(GPU),
    }


def test_the_key_names_every_thing_it_depends_on(tmp_path: Path) -> None:
    key = plan_key(a_graph(tmp_path), **flags_and_machine())
    assert key.fields() == {
        "graph": "line",
        "backend": "tensorrt",
        "precision": "fp16",
        "onnx": sha256_of(tmp_path / "line.onnx"),
        "weights.weights.bin": sha256_of(tmp_path / "weights.bin"),
        "profile.in.x": "float32[2, 4]",
        "profile.out.y": "float32[2, 4]",
        "flags.STRIP_PLAN": "1",
        "flags.builder_optimization_level": "3",
        **{f"machine.{name}": value for name, value in GPU.items()},
    }


def test_every_change_gives_another_key(tmp_path: Path) -> None:
    base = a_graph(tmp_path / "a")
    said = flags_and_machine()
    keys: dict[str, PlanKey] = {"base": plan_key(base, **said)}
    for name in GPU:
        changed = {**said, "machine": {**GPU, name: "other"}}
        keys[f"machine.{name}"] = plan_key(base, **changed)
    keys["precision"] = plan_key(base, **{**said, "precision": "int8"})
    keys["backend"] = plan_key(base, **{**said, "backend": "onnxruntime"})
    keys["flag"] = plan_key(base, **{**said, "flags": {**said["flags"], "STRIP_PLAN": "0"}})
    keys["fewer flags"] = plan_key(base, **{**said, "flags": {}})
    wide = {"x": TensorSpec((3, 4), "float32")}
    keys["profile"] = plan_key(replace(base, inputs=wide), **said)
    half = {"x": TensorSpec((2, 4), "float16")}
    keys["dtype"] = plan_key(replace(base, inputs=half), **said)
    keys["onnx"] = plan_key(a_graph(tmp_path / "b", bias=0.25), **said)
    retrained = a_graph(tmp_path / "c")
    (tmp_path / "c" / "weights.bin").write_bytes(bytes(64))
    keys["weights"] = plan_key(retrained, **said)
    assert len({key.digest for key in keys.values()}) == len(keys)
    # Where the files lie is no part of it.
    assert plan_key(a_graph(tmp_path / "d"), **said).digest == keys["base"].digest


def test_fields_cannot_be_moved_between_names(tmp_path: Path) -> None:
    spec, said = a_graph(tmp_path), flags_and_machine()
    one = plan_key(spec, **{**said, "flags": {"a": "1", "b": "2"}})
    for flags in ({"a": "2", "b": "1"}, {"a": "1;b=2"}, {"a": '1","flags.b":"2'}):
        assert plan_key(spec, **{**said, "flags": flags}).digest != one.digest


@pytest.mark.parametrize("value", ["", None])
def test_what_is_not_known_is_no_key(tmp_path: Path, value: Any) -> None:
    said = flags_and_machine()
    said["machine"]["driver"] = value
    with pytest.raises(BackendError, match=r"graph line: machine\.driver is"):
        plan_key(a_graph(tmp_path), **said)


def test_a_file_is_hashed_again_when_it_was_touched(tmp_path: Path) -> None:
    path = tmp_path / "weights"
    path.write_bytes(b"one")
    old = sha256_of(path)
    path.write_bytes(b"two")  # within a tick of the clock, with the same size
    assert sha256_of(path) != old
    os.utime(path, ns=(0, 0))  # as if it were old; its change time still tells
    two = sha256_of(path)
    path.write_bytes(b"six")
    os.utime(path, ns=(0, 0))
    assert sha256_of(path) != two


def test_weights_outside_the_folder_are_refused(tmp_path: Path) -> None:
    spec = a_graph(tmp_path / "bundle")
    weights = tmp_path / "bundle" / "weights.bin"
    weights.rename(tmp_path / "weights.bin")
    weights.symlink_to(tmp_path / "weights.bin")
    with pytest.raises(BackendError, match=r"weights in 'weights\.bin', which is no plain file"):
        plan_key(spec, **flags_and_machine())
    weights.unlink()
    with pytest.raises(BackendError, match="no plain file"):
        plan_key(spec, **flags_and_machine())


def test_this_machine(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    machine = cpu_machine()
    assert set(machine) == {"os", "cpu", "isa"}
    assert all(machine.values())
    info = tmp_path / "cpuinfo"
    info.write_text(
        "processor\t: 0\nmodel name\t: AMD EPYC\ncpu family\t: 26\nmodel\t\t: 2\nstepping\t: 1\n"
        "flags\t\t: fpu smep avx2 avx512_bf16 amx_bf16 rdtscp\n\nprocessor\t: 1\nflags: none\n"
    )
    monkeypatch.setattr("gas_rt.engine.machine.CPUINFO", info)
    known = cpu_machine()
    assert known["cpu"] == "AMD EPYC / 26 / 2 / 1"
    assert known["isa"] == "amx_bf16 avx2 avx512_bf16"
    monkeypatch.setattr("gas_rt.engine.machine.CPUINFO", tmp_path / "none")
    assert all(cpu_machine().values())


@pytest.mark.parametrize(
    "line",
    [
        "NVRM version: NVIDIA UNIX x86_64 Kernel Module  580.65.06  Sun Jul 27 07:07:58 UTC 2025",
        "NVRM version: NVIDIA UNIX Open Kernel Module for x86_64  580.65.06  Release Build  (x)",
    ],
)
def test_the_driver(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, line: str) -> None:
    version = tmp_path / "version"
    version.write_text(f"{line}\nGCC version:  gcc version 12.2.0 (Debian 12.2.0-14)\n")
    monkeypatch.setattr("gas_rt.engine.machine.NVIDIA_VERSION", version)
    assert nvidia_driver() == "580.65.06"
    machine = gpu_machine(gpu="NVIDIA H200", sm="9.0", cuda="13.0", tensorrt="11.4.0.106")
    assert machine["driver"] == "580.65.06"
    monkeypatch.setattr("gas_rt.engine.machine.NVIDIA_VERSION", tmp_path / "none")
    assert nvidia_driver() == ""
