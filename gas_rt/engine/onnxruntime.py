"""ONNX Runtime: on the CPU in fp32, or on a GPU through its CUDA or TensorRT provider.

It takes a provider that cannot start for no error: it says so in a log and computes on the CPU. So
what a session got is compared with what was asked for, provider by provider and node by node.
"""

from __future__ import annotations

import threading
import warnings
from collections import Counter
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
from numpy.typing import NDArray

from gas_rt.core import BackendReport
from gas_rt.engine.precision import require_precision
from gas_rt.engine.protocol import Graph, GraphSpec, Precision, TensorSpec, checked_inputs
from gas_rt.errors import BackendError, GasRtWarning

if TYPE_CHECKING:
    import onnxruntime

__all__ = ["PROVIDER_OF_BACKEND", "OnnxRuntimeEngine", "OnnxRuntimeGraph", "Provider"]

Provider = Literal["cpu", "cuda", "tensorrt"]
PROVIDER_OF_BACKEND: dict[str, Provider] = {
    "onnxruntime": "cpu",
    "onnxruntime-cuda": "cuda",
    "onnxruntime-tensorrt": "tensorrt",
}
PROVIDERS: dict[str, str] = {
    "cpu": "CPUExecutionProvider",
    "cuda": "CUDAExecutionProvider",
    "tensorrt": "TensorrtExecutionProvider",
}
# What each is asked with; the CPU takes what nobody else can.
CHAINS: dict[str, tuple[str, ...]] = {
    "cpu": ("cpu",),
    "cuda": ("cuda", "cpu"),
    "tensorrt": ("tensorrt", "cuda", "cpu"),
}
OPTIONS: dict[str, dict[str, str]] = {
    "cpu": {},
    "cuda": {"use_tf32": "0"},  # else fp32 on a GPU has 10 bits of mantissa
    # Its own cache of engines is keyed by name and loads what it finds: off.
    "tensorrt": {"trt_engine_cache_enable": "0", "trt_timing_cache_enable": "0"},
}
SEVERITY_ERROR = 3


class OnnxRuntimeGraph:
    """One session."""

    def __init__(
        self, spec: GraphSpec, session: onnxruntime.InferenceSession, report: BackendReport
    ) -> None:
        self.spec = spec
        self.report = report
        self._session = session
        self._running = threading.Lock()
        for kind, have, want in (
            ("input", session.get_inputs(), spec.inputs),
            ("output", session.get_outputs(), spec.outputs),
        ):
            _check_tensors(spec, kind, have, want)

    def run(self, inputs: Mapping[str, NDArray[Any]]) -> dict[str, NDArray[Any]]:
        """Run once; outputs are the caller's own."""
        given = checked_inputs(self.spec, inputs)
        names = list(self.spec.outputs)
        with self._running:
            try:
                found = self._session.run(names, given)
            # Its exceptions have no base of their own.
            except Exception as error:
                raise BackendError(
                    f"graph {self.spec.name}: ONNX Runtime failed: {error}"
                ) from error
        return {name: np.asarray(value) for name, value in zip(names, found, strict=True)}


class OnnxRuntimeEngine:
    """Opens sessions on one provider with a budget of threads.

    Raises BackendError if the provider is not part of the installed ONNX Runtime. One that is and
    does not start, or leaves nodes to the CPU, is a warning and stands in the graph's report; with
    `strict` it is a BackendError.
    """

    def __init__(
        self,
        *,
        provider: Provider,
        threads: int,
        precision: Precision = "auto",
        requested: str,
        strict: bool = False,
    ) -> None:
        import onnxruntime

        # Recorded per graph; what is known before one is loaded is in the engine's report.
        self._provider = provider
        self._precision = precision
        self._requested = requested
        self._strict = strict
        self._options = onnxruntime.SessionOptions()
        self._options.intra_op_num_threads = threads
        self._options.inter_op_num_threads = 1
        self._options.log_severity_level = SEVERITY_ERROR
        self._options.add_session_config_entry("session.intra_op.allow_spinning", "0")
        self._options.add_session_config_entry("session.record_ep_graph_assignment_info", "1")
        available = onnxruntime.get_available_providers()
        if PROVIDERS[provider] not in available:
            raise BackendError(
                f"backend {requested}: the installed ONNX Runtime {onnxruntime.__version__} was "
                f"built without {PROVIDERS[provider]}, it has {', '.join(available)}; run 'pip "
                "uninstall onnxruntime' and 'pip install onnxruntime-gpu[cuda,cudnn]'"
            )
        asked = "as exported" if precision == "auto" else precision
        self.report = BackendReport(requested, "onnxruntime", _device(provider), asked)

    def load(self, spec: GraphSpec) -> Graph:
        """Open a session for a graph."""
        import onnxruntime

        precision = require_precision(spec, self._precision, backend="ONNX Runtime")
        chain = CHAINS[self._provider]
        try:
            session = onnxruntime.InferenceSession(
                str(spec.path),
                sess_options=self._options,
                providers=[(PROVIDERS[name], OPTIONS[name]) for name in chain],
                enable_fallback=0,  # it would go on with other providers, and print that it did
            )
        except Exception as error:
            raise BackendError(
                f"graph {spec.name}: ONNX Runtime cannot load {spec.path.name}: {error}"
            ) from error
        device, notes = self._placement(spec, session)
        return OnnxRuntimeGraph(
            spec,
            session,
            BackendReport(self._requested, "onnxruntime", device, precision, notes=notes),
        )

    def close(self) -> None:
        """Sessions free themselves."""

    def _placement(
        self, spec: GraphSpec, session: onnxruntime.InferenceSession
    ) -> tuple[str, tuple[str, ...]]:
        """Where the graph really runs, and what of that is not what was asked for."""
        asked = PROVIDERS[self._provider]
        got = session.get_providers()
        if asked not in got:
            names = {provider: name for name, provider in PROVIDERS.items()}
            return _device(names[got[0]]), self._fell_back(
                f"graph {spec.name}: {asked} did not start, ONNX Runtime took {', '.join(got)} "
                "instead; see 'gas-rt doctor' for what it needs"
            )
        nodes = _nodes_by_provider(session)
        elsewhere = {name: n for name, n in nodes.items() if name != asked}
        if self._provider == "cpu" or not elsewhere:
            return _device(self._provider), ()
        total = sum(nodes.values())
        places = ", ".join(f"{n} of {total} on {name}" for name, n in elsewhere.items())
        return _device(self._provider), self._fell_back(
            f"graph {spec.name}: {asked} does not run all nodes, {places}"
        )

    def _fell_back(self, what: str) -> tuple[str, ...]:
        if self._strict:
            raise BackendError(f"{what}. Refused, since 'strict' allows no fallback")
        warnings.warn(what, GasRtWarning, stacklevel=4)
        return (what,)


def _device(provider: str) -> str:
    return {"cpu": "cpu", "cuda": "cuda", "tensorrt": "cuda, tensorrt"}[provider]


def _nodes_by_provider(session: onnxruntime.InferenceSession) -> Counter[str]:
    """How many nodes each provider runs; empty where this ONNX Runtime cannot tell."""
    if not hasattr(session, "get_provider_graph_assignment_info"):  # before 1.24
        return Counter()
    nodes: Counter[str] = Counter()
    for part in session.get_provider_graph_assignment_info():
        nodes[part.ep_name] += len(part.get_nodes())
    return nodes


def _check_tensors(
    spec: GraphSpec, kind: str, have: list[Any], want: Mapping[str, TensorSpec]
) -> None:
    """Raise if the ONNX file is not what bundle.json says of it."""
    found = {tensor.name: tensor for tensor in have}
    for name, tensor in want.items():
        if name not in found:
            raise BackendError(
                f"graph {spec.name}: the ONNX file has no {kind} {name!r}, it has "
                f"{sorted(found)}; export the bundle again"
            )
        shape = found[name].shape  # names and None are axes of any length
        fits = len(shape) == len(tensor.shape) and all(
            not isinstance(a, int) or a == b for a, b in zip(shape, tensor.shape, strict=True)
        )
        if not fits:
            raise BackendError(
                f"graph {spec.name}, {kind} {name!r}: the ONNX file has shape {shape}, "
                f"bundle.json says {list(tensor.shape)}; export the bundle again"
            )
