"""The backend: graphs to plans in the store, plans to graphs on the GPU."""

from __future__ import annotations

import threading
import warnings
from collections.abc import Callable
from dataclasses import replace
from functools import partial
from typing import Any

from gas_rt.core import BackendReport
from gas_rt.engine.machine import gpu_machine
from gas_rt.engine.plan_key import PlanKey, plan_key
from gas_rt.engine.plan_store import Plan, PlanStore
from gas_rt.engine.precision import require_precision
from gas_rt.engine.protocol import Graph, GraphSpec, Precision
from gas_rt.engine.tensorrt.api import PlanUnreadableError, open_tensorrt
from gas_rt.engine.tensorrt.build import BUILD_FLAGS, UnkeptSteps, build_plan, unpack
from gas_rt.engine.tensorrt.device import open_device
from gas_rt.engine.tensorrt.graph import TensorRtGraph
from gas_rt.engine.tensorrt.refit import open_plan
from gas_rt.errors import GasRtWarning, PlanError

__all__ = ["TensorRtEngine"]


class TensorRtEngine:
    """Builds what its store lacks, and runs it on the current GPU.

    No plan has been built with it yet; see the package's documentation.

    Parameters
    ----------
    store : where plans are kept; without one every start builds anew, which takes minutes.
    cuda_graphs : whether launches are recorded once and replayed.
    strict : whether a graph that cannot be recorded is an error, and not a warning.
    """

    def __init__(
        self,
        *,
        precision: Precision = "auto",
        requested: str,
        strict: bool = False,
        store: PlanStore | None = None,
        cuda_graphs: bool = True,
    ) -> None:
        self._trt = open_tensorrt()
        self._device = open_device()
        self._store = store
        self._precision = precision
        self._strict = strict
        self._cuda_graphs = cuda_graphs
        self._graphs: list[TensorRtGraph] = []
        self._machine = gpu_machine(**self._device.facts(), tensorrt=self._trt.version)
        self._runtime = self._trt.make("Runtime")
        device = f"cuda, {self._machine['gpu']}"
        asked = "as exported" if precision == "auto" else precision
        plans = "off" if store is None else store.status
        self.report = BackendReport(requested, "tensorrt", device, asked, plans=plans)

    def load(
        self,
        spec: GraphSpec,
        *,
        progress: Callable[[float, str], None] | None = None,
        cancel: threading.Event | None = None,
    ) -> Graph:
        """A graph from its stored plan, which is built first if there is none.

        Raises BackendError where TensorRT or CUDA refuse, and BuildCancelledError once `cancel` is
        set. A plan that the store refuses is never read: it is built anew with a warning, or is a
        PlanError if strict. One that TensorRT cannot read leaves the store.
        """
        precision = require_precision(spec, self._precision, backend="TensorRT")
        make = partial(build_plan, self._trt, spec, precision=precision)
        if self._store is None:
            return self._graph(spec, make(UnkeptSteps(progress, cancel)))
        key = self.plan_key(spec, precision=precision)
        plan = self._find(key)
        if plan is None:
            plan = self._store.build(key, make, progress=progress, cancel=cancel)
        try:
            return self._graph(spec, plan.read())
        except PlanUnreadableError:
            self._store.discard(key)
            raise

    def _find(self, key: PlanKey) -> Plan | None:
        """A kept plan; of one that the store refuses, None and a warning, or an error if strict."""
        assert self._store is not None
        try:
            return self._store.find(key)
        except PlanError as error:
            if self._strict:
                raise
            warnings.warn(f"{error}; built anew", GasRtWarning, stacklevel=3)
            return None

    def _graph(self, spec: GraphSpec, packed: bytes) -> TensorRtGraph:
        """A graph of a plan as `build_plan` packed it."""
        facts, blob = unpack(packed, where=f"graph {spec.name}")
        with self._device.turn(f"graph {spec.name}"):
            engine: Any = open_plan(self._trt, self._runtime, blob, spec)
            graph = TensorRtGraph(
                self._trt,
                engine,
                spec,
                device=self._device,
                report=replace(self.report, precision=facts["precision"], notes=()),
                cuda_graphs=self._cuda_graphs,
                strict=self._strict,
            )
            self._graphs.append(graph)
        return graph

    def plan_key(self, spec: GraphSpec, *, precision: str) -> PlanKey:
        """What the plan of a graph depends on."""
        return plan_key(
            spec,
            backend="tensorrt",
            precision=precision,
            flags=BUILD_FLAGS,
            machine=self._machine,
        )

    def close(self) -> None:
        """Wait for what is queued, then free graphs, engines and memory. May be repeated."""
        self._device.close()
        while self._graphs:
            self._graphs.pop().close()
        self._runtime = None
