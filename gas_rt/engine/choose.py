"""Opening a backend: the one that is named, or the best that is there."""

from __future__ import annotations

import logging
from dataclasses import replace
from typing import TYPE_CHECKING, get_args

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
from gas_rt.engine.protocol import Engine, GraphSpec, Precision
from gas_rt.engine.rivals import Rival, fastest, measure, remembered
from gas_rt.errors import BackendError

if TYPE_CHECKING:
    from gas_rt.engine.plan_store import PlanStore

__all__ = ["open_engine"]

GPU_BACKENDS = ("tensorrt", "onnxruntime-cuda")  # in the order of preference
CPU_BACKENDS = ("openvino", "onnxruntime")
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
    else OpenVINO in bf16 or fp32, whichever is faster where the processor has bf16, else whichever
    of OpenVINO and ONNX Runtime is faster in fp32. What it passed over, measured and took is in the
    engine's report.

    Parameters
    ----------
    threads : of a backend on the processor.
    strict : refuse what else would be a fallback with a note: ``auto`` passing over a backend
        for this machine's hardware, a GPU's backend computing elsewhere or in another way.
    store : where OpenVINO and TensorRT keep what they compiled, and what ``auto`` measured; None
        compiles and measures at every start.
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
        try:
            engine = self._fastest()
        except BackendError as error:
            if self.strict:
                raise
            self.notes.append(f"measured nothing: {error}")
        else:
            if engine is not None:
                return self._noted(engine)
        for backend in CPU_BACKENDS:
            if found := self._tried(backend):
                return self._noted(found)
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

    def _rivals(self) -> list[Rival]:
        """Ways to compute on the processor either of which may be the faster."""
        if self.denoiser is None or exported_precision(self.denoiser) != "fp32":
            return []  # ONNX Runtime's CPU has no bf16, and int8 and fp16 are slow on it
        if not backend_status("openvino").usable or self.precision not in ("auto", "fp32"):
            return []
        wide = Rival("openvino", "fp32")
        if self.precision == "auto" and cpu_has_bf16():
            return [Rival("openvino", "bf16"), wide]
        return [wide, Rival("onnxruntime", "fp32")] if backend_status("onnxruntime").usable else []

    def _fastest(self) -> Engine | None:
        """The fastest way to compute on the processor; None if there is nothing to choose."""
        rivals, denoiser = self._rivals(), self.denoiser
        if denoiser is None or not rivals:
            return None
        opened: dict[Rival, Engine] = {}

        def times_ms() -> dict[str, float]:
            opened.update({rival: self._open(rival.backend, rival=rival) for rival in rivals})
            return measure({str(rival): engine.load(denoiser) for rival, engine in opened.items()})

        times, before = remembered(
            self.store,
            denoiser,
            rivals=[str(rival) for rival in rivals],
            threads=self.threads,
            measured=times_ms,
        )
        taken = fastest(rivals, times)
        found = ", ".join(f"{name} {ms:.1f} ms" for name, ms in times.items())
        when = "measured before" if before else "measured"
        self.notes.append(f"{when}, {denoiser.name}: {found}; took {taken}")
        engine = opened[taken] if opened else self._open(taken.backend, rival=taken)
        for rival, other in opened.items():
            if rival != taken:
                other.close()
        return engine

    def _open(self, backend: str, *, rival: Rival | None = None) -> Engine:
        requested = self.requested
        if backend == "openvino":
            from gas_rt.engine.openvino import OpenVinoEngine

            cpu = OpenVinoEngine(
                threads=self.threads,
                precision=self.precision,
                wide=rival is not None and rival.precision == "fp32",
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
            and not cpu_has_bf16()
        ):
            self.notes.append(NO_BF16)
        engine.report = replace(engine.report, notes=(*engine.report.notes, *self.notes))
        return engine


def _lacks(status: BackendStatus) -> str:
    return f"backend {status.name}: lacks " + "; also ".join(str(m) for m in status.missing)
