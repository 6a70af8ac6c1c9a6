"""Opening a backend: the one that is named, or the best that is there."""

from __future__ import annotations

import logging
import statistics
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import replace
from typing import TYPE_CHECKING, Any, get_args

import numpy as np
from numpy.typing import NDArray

from gas_rt.engine.availability import (
    BACKENDS,
    NO_BF16,
    BackendStatus,
    backend_status,
    cpu_has_bf16,
)
from gas_rt.engine.gpu import find_gpus
from gas_rt.engine.precision import (
    exported_precision,
    quantised_or_asked,
    require_precision,
)
from gas_rt.engine.protocol import Engine, Graph, GraphSpec, Precision
from gas_rt.errors import BackendError

if TYPE_CHECKING:
    from gas_rt.engine.plan_store import PlanStore

__all__ = ["measure", "open_engine"]

GPU_BACKENDS = ("tensorrt", "onnxruntime-cuda")  # in the order of preference
CPU_BACKENDS = ("openvino", "onnxruntime")
WARM_UPS, RUNS = 2, 5  # of each backend that is measured
log = logging.getLogger("gas_rt")


def open_engine(
    backend: str = "auto",
    *,
    threads: int,
    precision: Precision = "auto",
    strict: bool = False,
    store: PlanStore | None = None,
    denoiser: GraphSpec | None = None,
) -> Engine:
    """Open a backend.

    ``auto`` takes TensorRT or ONNX Runtime's CUDA provider where there is a GPU with the libraries,
    else OpenVINO in bf16 where the processor has it, else whichever of OpenVINO and ONNX Runtime is
    faster in fp32. What it passed over, measured and took is in the engine's report.

    Parameters
    ----------
    threads : of a backend on the processor.
    strict : refuse what else would be a fallback with a note: ``auto`` passing over a backend
        for this machine's hardware, a GPU's backend computing elsewhere or in another way.
    store : where OpenVINO and TensorRT keep what they compiled; None compiles at every start.
    denoiser : the graph that ``auto`` measures, and whose precision the report gives. Without it
        OpenVINO is taken unmeasured.

    Raises BackendError if the backend is unknown, lacks something, or `strict` refuses.
    """
    if backend not in BACKENDS:
        raise BackendError(f"backend {backend!r}: unknown; choose one of {', '.join(BACKENDS)}")
    if precision not in get_args(Precision):
        raise BackendError(
            f"precision {precision!r}: unknown; choose one of {', '.join(get_args(Precision))}"
        )
    opener = Opener(backend, threads, precision, strict, store, denoiser)
    return opener.best() if backend == "auto" else opener.named(backend)


class Opener:
    """What was asked for, and what was found out while trying."""

    def __init__(
        self,
        requested: str,
        threads: int,
        precision: Precision,
        strict: bool,
        store: PlanStore | None,
        denoiser: GraphSpec | None,
    ) -> None:
        self.requested = requested
        self.threads = threads
        self.precision = precision
        self.strict = strict
        self.store = store
        self.denoiser = denoiser
        self.notes: list[str] = []

    def named(self, backend: str) -> Engine:
        """Open one backend, or raise BackendError."""
        status = backend_status(backend)
        if status.missing:
            raise BackendError(_lacks(status))
        return self._noted(self._open(backend))

    def best(self) -> Engine:
        """Open what suits this machine."""
        if (gpus := find_gpus()).names:
            for backend in GPU_BACKENDS:
                if engine := self._tried(backend):
                    return self._noted(engine)
            log.warning("%s is there, but no backend for it: %s", gpus.names[0], self.notes[0])
        if self._runs_fp32_on_cpu() and (engine := self._measured()):
            return self._noted(engine)
        for backend in CPU_BACKENDS:
            if engine := self._tried(backend):
                return self._noted(engine)
        raise BackendError(f"backend auto: none can run: {'; '.join(self.notes)}")

    def _tried(self, backend: str) -> Engine | None:
        """An engine, or None with a note why not."""
        try:
            status = backend_status(backend)
            if status.missing:
                raise BackendError(_lacks(status))
            return self._open(backend)
        except BackendError as error:
            if self.strict:
                raise BackendError(
                    f"backend auto: {error}. Refused to go on with another, since 'strict' allows "
                    "no fallback; name the backend you want"
                ) from error
            self.notes.append(f"passed over {error}")
            return None

    def _runs_fp32_on_cpu(self) -> bool:
        """Whether OpenVINO, too, would compute in fp32, so that it has no head start."""
        if not backend_status("openvino").usable:
            return False
        if self.denoiser is not None and exported_precision(self.denoiser) != "fp32":
            return False  # ONNX Runtime's CPU has no bf16, and int8 and fp16 are slow on it
        return self.precision == "fp32" or (self.precision == "auto" and not cpu_has_bf16())

    def _measured(self) -> Engine | None:
        """The faster of the CPU's backends in fp32; None if there is nothing to choose."""
        if self.denoiser is None or not all(backend_status(b).usable for b in CPU_BACKENDS):
            return None
        engines = {name: self._open(name) for name in CPU_BACKENDS}
        graphs = {name: engine.load(self.denoiser) for name, engine in engines.items()}
        times = measure(graphs)
        taken = min(times, key=lambda name: times[name])
        found = ", ".join(f"{name} {ms:.1f} ms" for name, ms in times.items())
        self.notes.append(f"measured {self.denoiser.name} in fp32: {found}; took {taken}")
        for name, engine in engines.items():
            if name != taken:
                engine.close()
        return engines[taken]

    def _open(self, backend: str) -> Engine:
        requested = self.requested
        if backend == "openvino":
            from gas_rt.engine.openvino import OpenVinoEngine

            cpu = OpenVinoEngine(
                threads=self.threads,
                precision=self.precision,
                requested=requested,
                store=self.store,
            )
            if self.denoiser is not None and quantised_or_asked(self.denoiser, self.precision):
                found = require_precision(self.denoiser, self.precision, backend=backend)
                cpu.report = replace(cpu.report, precision=found)
            return cpu
        if backend == "tensorrt":
            from gas_rt.engine.tensorrt import TensorRtEngine

            engine: Engine = TensorRtEngine(
                precision=self.precision,
                requested=requested,
                strict=self.strict,
                store=self.store,
            )
        else:
            from gas_rt.engine.onnxruntime import PROVIDER_OF_BACKEND, OnnxRuntimeEngine

            engine = OnnxRuntimeEngine(
                provider=PROVIDER_OF_BACKEND[backend],
                threads=self.threads,
                precision=self.precision,
                requested=requested,
                strict=self.strict,
            )
        if self.denoiser is not None:
            # These run a graph as it was exported, so a wrong wish is told before work is done.
            found = require_precision(self.denoiser, self.precision, backend=backend)
            engine.report = replace(engine.report, precision=found)
        return engine

    def _noted(self, engine: Engine) -> Engine:
        """The engine with what was found out in its report."""
        if (
            engine.report.actual == "openvino"
            and engine.report.precision == "fp32"
            and self.precision == "auto"
        ):
            self.notes.append(NO_BF16)
        engine.report = replace(engine.report, notes=(*engine.report.notes, *self.notes))
        return engine


def measure(
    graphs: Mapping[str, Graph], *, clock_ns: Callable[[], int] = time.perf_counter_ns
) -> dict[str, float]:
    """By name, the median milliseconds of a run; graphs take turns, since machines drift."""
    times: dict[str, list[int]] = {name: [] for name in graphs}
    inputs = {name: dict(_random(graph.spec)) for name, graph in graphs.items()}
    for turn in range(WARM_UPS + RUNS):
        for name, graph in graphs.items():
            started = clock_ns()
            graph.run(inputs[name])
            if turn >= WARM_UPS:
                times[name].append(clock_ns() - started)
    return {name: statistics.median(values) / 1e6 for name, values in times.items()}


def _random(spec: GraphSpec) -> Iterator[tuple[str, NDArray[Any]]]:
    """Inputs above 0, as noise levels must be, so that values stay finite: others may be slower."""
    generator = np.random.default_rng(0)
    for name, tensor in spec.inputs.items():
        values = generator.uniform(0.5, 1.5, tensor.shape)
        yield name, values.astype(tensor.dtype)


def _lacks(status: BackendStatus) -> str:
    return f"backend {status.name}: lacks " + "; also ".join(str(m) for m in status.missing)
