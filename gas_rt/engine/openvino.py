"""OpenVINO on the CPU: bf16 where the processor has it in hardware, else fp32.

Compiled graphs are kept in the plan store as OpenVINO exports them. OpenVINO itself would take a
blob with a changed byte, so the store's checks come first.
"""

from __future__ import annotations

import io
import threading
import warnings
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from gas_rt.core import BackendReport
from gas_rt.engine.machine import cpu_machine
from gas_rt.engine.plan_key import PlanKey, plan_key
from gas_rt.engine.plan_store import BuildSteps, Plan, PlanStore
from gas_rt.engine.precision import (
    exported_precision,
    quantised_or_asked,
    require_precision,
)
from gas_rt.engine.protocol import Graph, GraphSpec, Precision, TensorSpec, checked_inputs
from gas_rt.errors import BackendError, GasRtWarning, PlanError

if TYPE_CHECKING:
    import openvino

__all__ = ["OpenVinoEngine", "OpenVinoGraph"]

OUR_NAMES = {"f32": "fp32", "bf16": "bf16", "f16": "fp16"}


class OpenVinoGraph:
    """One compiled graph."""

    def __init__(
        self, spec: GraphSpec, compiled: openvino.CompiledModel, report: BackendReport
    ) -> None:
        self.spec = spec
        self.report = report
        self._request = compiled.create_infer_request()
        self._running = threading.Lock()
        # A port answers to several names where the compiler merged a no-op into it.
        self._ports = {name: port for port in compiled.inputs for name in port.get_names()}
        self._outputs = {name: port for port in compiled.outputs for name in port.get_names()}
        for kind, have, want in (
            ("input", self._ports, spec.inputs),
            ("output", self._outputs, spec.outputs),
        ):
            if missing := sorted(set(want) - set(have)):
                raise BackendError(
                    f"graph {spec.name}: the ONNX file has no {kind} {missing[0]!r}, it has "
                    f"{sorted(have)}; export the bundle again"
                )
            for name, tensor in want.items():
                _check_shape(f"graph {spec.name}, {kind} {name!r}", have[name], tensor)

    def run(self, inputs: Mapping[str, NDArray[Any]]) -> dict[str, NDArray[Any]]:
        """Run once; outputs are the caller's own."""
        given = {
            self._ports[name]: array
            for name, array in checked_inputs(self.spec, inputs).items()
            if name in self._ports  # the compiler removes an input that nothing reads
        }
        with self._running:
            try:
                results = self._request.infer(given, share_inputs=True)
            except RuntimeError as error:
                raise BackendError(f"graph {self.spec.name}: OpenVINO failed: {error}") from error
            return {name: np.array(results[self._outputs[name]]) for name in self.spec.outputs}


def _check_shape(where: str, port: openvino.ConstOutput, said: TensorSpec) -> None:
    """Raise if a port cannot have the shape that bundle.json gives it."""
    import openvino

    shape = port.get_partial_shape()
    if not shape.compatible(openvino.PartialShape(list(said.shape))):
        raise BackendError(
            f"{where}: the ONNX file has shape {shape}, bundle.json says {list(said.shape)}; "
            "export the bundle again"
        )


class OpenVinoEngine:
    """Compiles graphs for the CPU with a budget of threads, or takes them from a plan store."""

    def __init__(
        self,
        *,
        threads: int,
        precision: Precision = "auto",
        wide: bool = False,
        requested: str,
        store: PlanStore | None = None,
    ) -> None:
        """`wide` computes in fp32 what `precision` leaves open."""
        import openvino

        self._core = openvino.Core()
        capable = "BF16" in self._core.get_property("CPU", "OPTIMIZATION_CAPABILITIES")
        if precision == "bf16" and not capable:
            raise BackendError(
                "precision bf16: this processor has no bf16 instructions, and emulating them is "
                "slower than fp32; use precision 'auto' or 'fp32'"
            )
        if precision == "fp16":
            raise BackendError(
                "precision fp16: OpenVINO computes in bf16 or fp32 on a processor; use precision "
                "'auto', or a GPU's backend"
            )
        use_bf16 = capable and precision != "fp32" and not wide
        self._config: dict[str, Any] = {
            "PERFORMANCE_HINT": "LATENCY",
            "NUM_STREAMS": 1,
            "INFERENCE_NUM_THREADS": threads,
            "INFERENCE_PRECISION_HINT": "bf16" if use_bf16 else "f32",
            # Pinned threads would sit on the cores our own kernels' threads use.
            "ENABLE_CPU_PINNING": False,
        }
        self._requested = requested
        self._wanted = precision
        self._precision = "bf16" if use_bf16 else "fp32"
        self._store = store
        self._machine = {} if store is None else openvino_machine(self._core)
        self.report = self._report(self._precision)

    def load(self, spec: GraphSpec) -> Graph:
        """Take a graph from the store, or read and compile it.

        A plan that the store refuses is never read; `GasRtWarning` says why, and the graph is
        compiled from the bundle.
        """
        if self._store is None:
            return self._graph(spec, self._compile(spec))
        key = self.plan_key(spec)
        try:
            if found := self._store.find(key):
                return self._graph(spec, self._import(found))
        except PlanError as error:
            warnings.warn(f"{error}; compiled anew", GasRtWarning, stacklevel=2)
        compiled: list[openvino.CompiledModel] = []

        def make(steps: BuildSteps) -> bytes:
            steps.tell(0.0, f"compiling {spec.name}")
            compiled.append(self._compile(spec))
            steps.tell(0.8, f"exporting {spec.name}")
            return _export(spec, compiled[0])

        plan = self._store.build(key, make)
        # Another process may have built it while this one waited.
        return self._graph(spec, compiled[0] if compiled else self._import(plan))

    def plan_key(self, spec: GraphSpec) -> PlanKey:
        """What a compiled graph of this engine depends on."""
        return plan_key(
            spec,
            backend="openvino",
            precision=self._precision,
            flags={name: str(value) for name, value in self._config.items()},
            machine=self._machine,
        )

    def close(self) -> None:
        """Graphs free themselves; the engine holds no more than OpenVINO's core."""

    def _compile(self, spec: GraphSpec) -> openvino.CompiledModel:
        try:
            model = self._core.read_model(str(spec.path))
            return self._core.compile_model(model, "CPU", self._config)
        except RuntimeError as error:
            raise BackendError(
                f"graph {spec.name}: OpenVINO cannot compile {spec.path.name}: {error}"
            ) from error

    def _import(self, plan: Plan) -> openvino.CompiledModel:
        """A plan as a compiled model; one that OpenVINO cannot read leaves the store."""
        try:
            return self._core.import_model(plan.read(), "CPU", self._config)
        except RuntimeError as error:
            assert self._store is not None
            self._store.discard(plan.key)
            raise PlanError(
                f"graph {plan.key.graph}: OpenVINO cannot read its plan "
                f"({' '.join(str(error).split())}); removed",
                field="contents",
            ) from error

    def _graph(self, spec: GraphSpec, compiled: openvino.CompiledModel) -> OpenVinoGraph:
        if quantised_or_asked(spec, self._wanted):
            require_precision(spec, self._wanted, backend="OpenVINO")
        hint = str(compiled.get_property("INFERENCE_PRECISION_HINT").get_type_name())
        # Quantised layers run in int8 whatever the hint is, which is for the rest.
        int8 = exported_precision(spec) == "int8"
        return OpenVinoGraph(
            spec, compiled, self._report("int8" if int8 else OUR_NAMES.get(hint, hint))
        )

    def _report(self, precision: str) -> BackendReport:
        plans = "off" if self._store is None else self._store.status
        return BackendReport(self._requested, "openvino", "cpu", precision, plans=plans)


def openvino_machine(core: openvino.Core) -> dict[str, str]:
    """The machine's fields of an OpenVINO plan."""
    import openvino

    # OpenVINO's own view of the processor counts too: it can be told to see less than there is.
    capabilities = core.get_property("CPU", "OPTIMIZATION_CAPABILITIES")
    return {
        **cpu_machine(),
        "openvino": openvino.get_version(),
        "capabilities": " ".join(sorted(str(c) for c in capabilities)),
    }


def _export(spec: GraphSpec, compiled: openvino.CompiledModel) -> bytes:
    stream = io.BytesIO()
    try:
        compiled.export_model(stream)
    except RuntimeError as error:
        raise BackendError(f"graph {spec.name}: OpenVINO cannot export it: {error}") from error
    return stream.getvalue()
