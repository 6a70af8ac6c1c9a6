"""Outputs of a written graph beside PyTorch's: by how much they differ, and on what."""

from __future__ import annotations

import io
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import onnx
from numpy.typing import NDArray

from export.precision.typed import NARROW, rounded
from gas_rt.core import BackendReport
from gas_rt.engine import Graph, GraphSpec
from gas_rt.engine.precision import exported_precision
from gas_rt.engine.protocol import checked_inputs

__all__ = ["AsWritten", "OutputError", "Session", "errors_of", "openvino_outputs", "relative_error"]

Arrays = Mapping[str, NDArray[Any]]


@dataclass(frozen=True)
class OutputError:
    """An output's difference from PyTorch's over all samples.

    Attributes
    ----------
    largest, relative : the largest difference, as it is and over the largest wanted value.
    rms : root mean square of the difference over that of what was wanted.
    cosine : between the two, as vectors; 1 is the same direction.
    finite : no NaN and no infinity; without it the others are NaN.
    """

    largest: float
    relative: float
    rms: float
    cosine: float
    finite: bool

    @classmethod
    def between(cls, found: NDArray[Any], wanted: NDArray[Any]) -> OutputError:
        """Of two arrays of one shape."""
        if not (np.isfinite(found).all() and np.isfinite(wanted).all()):
            return cls(*[float("nan")] * 4, finite=False)
        a, b = found.astype(np.float64).ravel(), wanted.astype(np.float64).ravel()
        largest = float(np.abs(a - b).max())
        return cls(
            largest,
            largest / max(float(np.abs(b).max()), 1e-6),
            float(np.linalg.norm(a - b) / max(np.linalg.norm(b), 1e-6)),
            float(a @ b / max(np.linalg.norm(a) * np.linalg.norm(b), 1e-12)),
            finite=True,
        )

    def as_dict(self) -> dict[str, Any]:
        """For bundle.json and reports, to three digits; a cosine by what it lacks of 1."""
        values = {k: v for k, v in asdict(self).items() if k not in ("cosine", "finite")}
        told: dict[str, Any] = {name: float(f"{value:.3g}") for name, value in values.items()}
        return {**told, "cosine": round(self.cosine, 6), "finite": self.finite}


def errors_of(
    graph: Graph, samples: Sequence[Arrays], wanted: Sequence[Arrays]
) -> dict[str, OutputError]:
    """By output, over all samples together."""
    found = [graph.run(sample) for sample in samples]
    return {
        name: OutputError.between(
            np.stack([f[name] for f in found]), np.stack([w[name] for w in wanted])
        )
        for name in graph.spec.outputs
    }


def relative_error(errors: Mapping[str, OutputError]) -> float:
    """The worst output's rms; infinite if one is not finite."""
    return max(error.rms if error.finite else float("inf") for error in errors.values())


class Session:
    """ONNX Runtime on the CPU, its optimiser off: what is written is what is computed."""

    def __init__(self, model: onnx.ModelProto | Path, *, threads: int) -> None:
        import onnxruntime

        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = threads
        options.add_session_config_entry("session.intra_op.allow_spinning", "0")
        options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_DISABLE_ALL
        options.log_severity_level = 3  # it warns of every fp16 operator it computes in fp32
        given = model if isinstance(model, Path) else model.SerializeToString()
        self._session = onnxruntime.InferenceSession(
            given, sess_options=options, providers=["CPUExecutionProvider"]
        )
        self._names = [value.name for value in self._session.get_outputs()]

    def run(self, inputs: Arrays) -> dict[str, NDArray[Any]]:
        """Outputs by name."""
        values = self._session.run(self._names, dict(inputs))
        return dict(zip(self._names, values, strict=True))


def openvino_outputs(
    model: onnx.ModelProto, inputs: Arrays, *, threads: int
) -> dict[str, NDArray[Any]]:
    """What OpenVINO makes of a graph here: in fp32, but for what the graph quantises."""
    import openvino

    core = openvino.Core()
    read = core.read_model(io.BytesIO(model.SerializeToString()))
    config = {"INFERENCE_PRECISION_HINT": "f32", "INFERENCE_NUM_THREADS": threads}
    # It cannot be asked for an input that nothing reads.
    given = {k: v for k, v in inputs.items() if any(k in p.get_names() for p in read.inputs)}
    result = core.compile_model(read, "CPU", config)(given)
    return {value.name: np.array(result[value.name]) for value in model.graph.output}


class AsWritten:
    """An Engine that computes what graphs say, on any processor.

    fp16 and bf16 are rounded to after every node, computed in fp32 between; int8 is quantised and
    brought back, and summed in fp32.
    """

    def __init__(self, *, threads: int) -> None:
        self.report = BackendReport("as written", "onnxruntime", "cpu", "as exported")
        self._threads = threads

    def load(self, spec: GraphSpec) -> Graph:
        """A session of the graph."""
        precision = exported_precision(spec)
        model = onnx.load(spec.path)
        if precision in NARROW:
            model = rounded(model)
        report = BackendReport("as written", "onnxruntime", "cpu", precision)
        return _AsWrittenGraph(spec, Session(model, threads=self._threads), report)

    def close(self) -> None:
        """Sessions free themselves."""


class _AsWrittenGraph:
    def __init__(self, spec: GraphSpec, session: Session, report: BackendReport) -> None:
        self.spec, self.report = spec, report
        self._session = session

    def run(self, inputs: Arrays) -> dict[str, NDArray[Any]]:
        found = self._session.run(checked_inputs(self.spec, dict(inputs)))
        return {name: found[name] for name in self.spec.outputs}
