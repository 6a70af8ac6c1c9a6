"""What ``auto`` takes on machines made up for it, what it says of that, and what strict refuses."""

from __future__ import annotations

import logging
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest

from gas_rt.core import BackendReport
from gas_rt.engine import GraphSpec, choose, open_engine, rivals
from gas_rt.engine.availability import BackendStatus, Missing
from gas_rt.engine.gpu import Gpus
from gas_rt.engine.plan_store import PlanStore
from gas_rt.engine.precision import METADATA_KEY, RECIPE_KEY, require_precision
from gas_rt.engine.rivals import RUNS, WARM_UPS, measure
from gas_rt.errors import BackendError
from tests.engine.tensorrt_world import write_step

LAST = {"openvino in fp32": 0.5}  # takes half of the time
LACKS = Missing("Python package thing", "run 'pip install thing'")


class Machine:
    """Backends that can be had, and which of them fail when opened."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.usable = {"openvino", "onnxruntime"}
        self.failing: set[str] = set()
        self.bf16 = True
        self.gpus = Gpus(problem="none")
        self.speed_ms = {"openvino": 3.0, "onnxruntime": 2.0, "openvino in bf16": 1.0}
        self.opened: list[str] = []
        self.closed: list[str] = []
        self.now_ns = 0
        monkeypatch.setattr(choose, "find_gpus", lambda: self.gpus)
        monkeypatch.setattr(choose, "cpu_has_bf16", lambda: self.bf16)
        monkeypatch.setattr(choose, "backend_status", self._status)
        # As a method of an opener, which comes first.
        monkeypatch.setattr(
            choose.Opener,
            "_open",
            lambda opener, name, *, rival=None: self._open(
                name, opener.precision if rival is None else rival.precision
            ),
        )
        monkeypatch.setattr(
            choose, "measure", lambda graphs: measure(graphs, clock_ns=lambda: self.now_ns)
        )

    def _status(self, name: str) -> BackendStatus:
        return BackendStatus(name, "cpu", missing=() if name in self.usable else (LACKS,))

    def _open(self, name: str, precision: str) -> Engine:
        if name in self.failing:
            raise BackendError(f"backend {name}: CUDA does not start")
        bf16 = name == "openvino" and self.bf16 and precision != "fp32"
        self.opened.append(f"{name} in bf16" if bf16 else name)
        return Engine(self, name, "bf16" if bf16 else "fp32")


class Engine:
    def __init__(self, machine: Machine, name: str, precision: str) -> None:
        self._machine = machine
        self._name = f"{name} in bf16" if precision == "bf16" else name
        self.report = BackendReport("auto", name, "cpu", precision)

    def load(self, spec: GraphSpec) -> Graph:
        return Graph(self._machine, self._name, spec)

    def close(self) -> None:
        self._machine.closed.append(self._name)


class Graph:
    """Takes as long as the machine says."""

    def __init__(self, machine: Machine, name: str, spec: GraphSpec) -> None:
        self._machine, self._name, self.spec = machine, name, spec
        self.report = BackendReport("auto", name, "cpu", "fp32")
        self.inputs: list[dict[str, np.ndarray]] = []

    def run(self, inputs: Any) -> dict[str, np.ndarray]:
        self.inputs.append(inputs)
        first = len(self.inputs) <= WARM_UPS  # slow, and no part of the measurement
        self._machine.now_ns += int(self._machine.speed_ms[self._name] * 1e6) * (50 if first else 1)
        return {}


@pytest.fixture
def machine(monkeypatch: pytest.MonkeyPatch) -> Machine:
    return Machine(monkeypatch)


@pytest.fixture
def step(tmp_path: Path) -> GraphSpec:
    return write_step(tmp_path / "bundle")


@pytest.mark.parametrize(
    ("times_ms", "precision"), [((1.0, 3.0), "bf16"), ((4.0, 3.0), "fp32"), ((3.0, 2.9), "bf16")]
)
def test_bf16_is_measured_beside_fp32(
    machine: Machine, step: GraphSpec, times_ms: tuple[float, float], precision: str
) -> None:
    """Some processors have bf16 and are slower with it; noise decides no near tie."""
    names = ("openvino in bf16", "openvino")
    machine.speed_ms = dict(zip(names, times_ms, strict=True))
    report = open_engine(threads=1, denoiser=step, strict=True).report
    assert (report.actual, report.precision) == ("openvino", precision)
    bf16, fp32 = (f"{ms:.1f} ms" for ms in times_ms)
    assert report.notes == (
        f"measured, step: openvino in bf16 {bf16}, openvino in fp32 {fp32}; "
        f"took openvino in {precision}",
    )
    assert machine.opened == list(names)
    assert machine.closed == [names[precision == "bf16"]]


def test_what_was_measured_is_remembered(
    machine: Machine, step: GraphSpec, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / "state"))
    store = PlanStore.open(tmp_path / "plans")
    first = open_engine(threads=1, denoiser=step, store=store).report
    assert machine.opened == ["openvino in bf16", "openvino"]
    machine.opened, machine.speed_ms["openvino in bf16"] = [], 9.0
    again = open_engine(threads=1, denoiser=step, store=store).report
    assert machine.opened == ["openvino in bf16"]
    assert (again.actual, again.precision) == (first.actual, first.precision)
    assert again.notes == (first.notes[0].replace("measured,", "measured before,"),)
    # What would change the times is measured anew.
    other = open_engine(threads=2, denoiser=step, store=store).report
    assert other.notes[0].startswith("measured,")
    assert (other.actual, other.precision) == ("openvino", "fp32")
    monkeypatch.setattr(rivals, "available_cpus", lambda: 99)
    assert (
        open_engine(threads=2, denoiser=step, store=store).report.notes[0].startswith("measured,")
    )


def test_a_rival_that_fails_is_passed_over(machine: Machine, step: GraphSpec) -> None:
    machine.bf16 = False
    machine.failing = {"onnxruntime"}
    report = open_engine(threads=1, denoiser=step).report
    assert report.actual == "openvino"
    assert report.notes[0] == "measured nothing: backend onnxruntime: CUDA does not start"
    with pytest.raises(BackendError, match="does not start"):
        open_engine(threads=1, denoiser=step, strict=True)


def test_quantised_graphs_load_in_whatever_auto_took(
    step: GraphSpec, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A recipe may narrow no layer of the denoiser and some of another graph."""
    monkeypatch.setattr(choose, "find_gpus", lambda: Gpus(problem="hidden"))
    monkeypatch.setattr(choose, "cpu_has_bf16", lambda: True)
    monkeypatch.setattr(choose, "measure", lambda graphs: dict.fromkeys(graphs, 1.0) | LAST)
    engine = open_engine(threads=1, denoiser=step)
    assert (engine.report.actual, engine.report.precision) == ("openvino", "fp32")
    other = write_step(tmp_path / "other", precision="int8")
    assert engine.load(other).report.precision == "int8"
    with pytest.raises(BackendError, match="precision fp32"):
        open_engine("openvino", threads=1, precision="fp32").load(other)


def test_bf16_that_is_asked_for_is_not_measured(machine: Machine, step: GraphSpec) -> None:
    report = open_engine(threads=1, denoiser=step, precision="bf16").report
    assert (report.actual, report.precision, report.notes) == ("openvino", "bf16", ())


@pytest.mark.parametrize(
    ("fast", "slow"), [("openvino", "onnxruntime"), ("onnxruntime", "openvino")]
)
@pytest.mark.parametrize("how", ["no bf16", "fp32"])
def test_fp32_is_measured(
    machine: Machine, step: GraphSpec, fast: str, slow: str, how: str
) -> None:
    machine.bf16 = how == "fp32"
    machine.speed_ms = {fast: 2.0, slow: 3.0}
    precision: Any = "fp32" if how == "fp32" else "auto"
    report = open_engine(threads=1, denoiser=step, precision=precision, strict=True).report
    assert report.actual == fast
    assert machine.closed == [slow]
    assert report.notes[0].startswith("measured, step: ")
    assert f"{fast} in fp32 2.0 ms" in report.notes[0]
    assert f"{slow} in fp32 3.0 ms" in report.notes[0]
    assert f"took {fast}" in report.notes[0]


def test_without_a_denoiser_or_a_rival_nothing_is_measured(
    machine: Machine, step: GraphSpec
) -> None:
    machine.bf16 = False
    report = open_engine(threads=1).report
    assert report.actual == "openvino"
    assert "no bf16 instructions" in report.notes[0]
    machine.usable = {"openvino"}
    report = open_engine(threads=1, denoiser=step).report
    assert report.actual == "openvino"
    assert machine.opened == ["openvino", "openvino"]


@pytest.mark.parametrize("precision", ["int8", "bf16", "fp16"])
def test_a_narrow_graph_is_openvinos(machine: Machine, tmp_path: Path, precision: str) -> None:
    """ONNX Runtime's CPU lacks bf16 and is slow in the others, so nothing is measured."""
    machine.bf16 = False
    spec = write_step(tmp_path / "bundle", precision=precision)
    assert open_engine(threads=1, denoiser=spec).report.actual == "openvino"
    assert machine.opened == ["openvino"]


def test_a_gpu_comes_first(machine: Machine, step: GraphSpec) -> None:
    machine.gpus = Gpus(("NVIDIA L4 (8.9)",), (13, 2))
    machine.usable |= {"tensorrt", "onnxruntime-cuda"}
    report = open_engine(threads=1, denoiser=step, strict=True).report
    assert (report.actual, report.notes) == ("tensorrt", ())
    machine.usable -= {"tensorrt"}
    report = open_engine(threads=1, denoiser=step).report
    assert report.actual == "onnxruntime-cuda"
    assert report.notes == (
        "passed over backend tensorrt: lacks Python package thing; run 'pip install thing'",
    )
    with pytest.raises(BackendError, match=r"lacks Python package thing.*'strict' allows no"):
        open_engine(threads=1, denoiser=step, strict=True)


def test_a_gpu_that_cannot_be_used_is_told(
    machine: Machine, step: GraphSpec, caplog: pytest.LogCaptureFixture
) -> None:
    machine.gpus = Gpus(("NVIDIA L4 (8.9)",), (13, 2))
    machine.usable |= {"tensorrt"}
    machine.failing = {"tensorrt"}
    with caplog.at_level(logging.WARNING, "gas_rt"):
        report = open_engine(threads=1, denoiser=step).report
    assert report.actual == "openvino"
    assert "passed over backend tensorrt: CUDA does not start" in report.notes[0]
    assert "passed over backend onnxruntime-cuda: lacks" in report.notes[1]
    assert "NVIDIA L4 (8.9) is there, but no backend for it" in caplog.text
    with pytest.raises(BackendError, match=r"CUDA does not start\. Refused to go on with another"):
        open_engine(threads=1, denoiser=step, strict=True)


def test_a_machine_with_nothing(machine: Machine) -> None:
    machine.usable = set()
    with pytest.raises(BackendError, match=r"backend auto: none can run: .*pip install thing"):
        open_engine(threads=1)
    machine.usable = {"onnxruntime"}
    report = open_engine(threads=1).report
    assert report.actual == "onnxruntime"
    assert "passed over backend openvino" in report.notes[0]


def test_a_named_backend_is_never_another(machine: Machine) -> None:
    with pytest.raises(BackendError, match="backend tensorrt: lacks Python package thing; run"):
        open_engine("tensorrt", threads=1)
    machine.usable |= {"tensorrt"}
    machine.failing = {"tensorrt"}
    with pytest.raises(BackendError, match="backend tensorrt: CUDA does not start"):
        open_engine("tensorrt", threads=1)
    assert machine.opened == []


def test_measuring_takes_turns_and_leaves_out_the_first_runs(
    machine: Machine, step: GraphSpec
) -> None:
    graphs = {name: Graph(machine, name, step) for name in ("openvino", "onnxruntime")}
    order: list[str] = []
    for name, graph in graphs.items():
        graph.run = _noting(order, name, graph.run)  # type: ignore[method-assign]
    clock: Callable[[], int] = lambda: machine.now_ns  # noqa: E731
    assert measure(graphs, clock_ns=clock) == {"openvino": 3.0, "onnxruntime": 2.0}
    assert order == ["openvino", "onnxruntime"] * (WARM_UPS + RUNS)
    for array in graphs["openvino"].inputs[0].values():
        assert (array > 0).all()
        assert array.dtype == np.float32


def _noting(order: list[str], name: str, run: Any) -> Any:
    def noted(inputs: Any) -> Any:
        order.append(name)
        return run(inputs)

    return noted


def test_a_real_measurement_on_this_machine(
    step: GraphSpec, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(choose, "find_gpus", lambda: Gpus(problem="hidden"))
    engine = open_engine(threads=1, precision="fp32", denoiser=step)
    assert engine.report.actual in ("openvino", "onnxruntime")
    assert engine.report.precision == "fp32"
    (note,) = engine.report.notes
    assert note.endswith(f"took {engine.report.actual} in fp32")
    engine.close()


@pytest.mark.parametrize("backend", ["auto", "openvino"])
def test_what_no_processor_computes_in(
    step: GraphSpec, monkeypatch: pytest.MonkeyPatch, backend: str
) -> None:
    monkeypatch.setattr(choose, "find_gpus", lambda: Gpus(problem="hidden"))
    with pytest.raises(BackendError, match="precision fp16: OpenVINO computes in bf16 or fp32"):
        open_engine(backend, threads=1, precision="fp16", denoiser=step)
    with pytest.raises(BackendError, match=r"step\.onnx computes in fp32; export"):
        open_engine(backend, threads=1, precision="int8", denoiser=step)
    if backend == "openvino":
        with pytest.raises(BackendError, match=r"step\.onnx computes in fp32; export"):
            open_engine(backend, threads=1, precision="int8").load(step)


@pytest.mark.parametrize("backend", ["openvino", "onnxruntime"])
def test_int8_is_not_taken_for_fp32(tmp_path: Path, backend: str) -> None:
    spec = write_step(tmp_path / "bundle", precision="int8")
    assert open_engine(backend, threads=1, denoiser=spec).report.precision == "int8"
    for precision in ("fp32", "bf16"):
        if backend == "openvino" and precision == "bf16":
            continue  # refused before, where the processor has none
        with pytest.raises(BackendError, match="computes in int8"):
            open_engine(backend, threads=1, precision=precision, denoiser=spec)


def note(spec: GraphSpec, precision: str, recipe: str) -> None:
    model = onnx.load(spec.path, load_external_data=False)
    onnx.helper.set_model_props(model, {METADATA_KEY: precision, RECIPE_KEY: recipe})
    spec.path.write_bytes(model.SerializeToString())


def test_a_graph_that_a_recipe_left_in_fp32_is_no_reason_to_refuse_it(tmp_path: Path) -> None:
    spec = write_step(tmp_path / "bundle")
    note(spec, "fp32", "int8")
    assert require_precision(spec, "int8", backend="any") == "fp32"
    with pytest.raises(BackendError, match="computes in fp32"):
        require_precision(spec, "bf16", backend="any")
    note(spec, "fp32", "int3")
    with pytest.raises(BackendError, match="exported in precision 'int3'"):
        require_precision(spec, "auto", backend="any")
