"""The gate before a bundle is installed: runtimes compute what PyTorch computes."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from torch import Tensor

from export.onnx_files import Case

__all__ = ["TOLERANCE", "check_graphs", "differences"]

# Of an output's largest magnitude, in fp32 with the weights as stored: fp32 sums in another order.
TOLERANCE = 1e-4
THREADS = 2
Arrays = dict[str, NDArray[Any]]


def check_graphs(folder: Path, cases: Mapping[str, Case]) -> dict[str, float]:
    """By graph and runtime, the largest difference from PyTorch over all outputs.

    Raises ValueError if one exceeds `TOLERANCE` or is not finite.
    """
    worst: dict[str, float] = {}
    bad: list[str] = []
    for name, case in cases.items():
        expected = case.expected()
        for runtime, errors in differences(folder / f"{name}.onnx", case.inputs, expected).items():
            worst[f"{name}/{runtime}"] = max(errors.values())
            bad += [
                f"{name}.{output} by {error:.2g} in {runtime}"
                for output, error in errors.items()
                if not error <= TOLERANCE
            ]
    if bad:
        raise ValueError(
            f"outputs differ from PyTorch's, relative to their range: {', '.join(bad)}; at most "
            f"{TOLERANCE} is allowed (inf: NaN or infinity). Nothing was installed; find the "
            "operator that differs"
        )
    return worst


def differences(
    path: Path,
    inputs: Mapping[str, Tensor],
    outputs: Mapping[str, Tensor],
    *,
    runtimes: Collection[str] = ("onnxruntime", "openvino"),
    optimised: bool = True,
) -> dict[str, dict[str, float]]:
    """By runtime and output, the largest error over the output's range, in fp32.

    Without `optimised` ONNX Runtime leaves the graph as it is.
    """
    arrays = {name: value.numpy() for name, value in inputs.items()}
    wanted = {name: value.numpy() for name, value in outputs.items()}
    run = {"onnxruntime": _onnxruntime, "openvino": _openvino}
    found = {runtime: run[runtime](path, arrays, list(wanted), optimised) for runtime in runtimes}
    return {
        runtime: {name: _error(values[name], wanted[name]) for name in wanted}
        for runtime, values in found.items()
    }


def _onnxruntime(path: Path, inputs: Arrays, outputs: list[str], optimised: bool) -> Arrays:
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = THREADS
    options.add_session_config_entry("session.intra_op.allow_spinning", "0")  # others work too
    if not optimised:
        levels = onnxruntime.GraphOptimizationLevel
        options.graph_optimization_level = levels.ORT_DISABLE_ALL
    options.log_severity_level = 3  # it warns of every fp16 operator it computes in fp32
    session = onnxruntime.InferenceSession(
        path, sess_options=options, providers=["CPUExecutionProvider"]
    )
    known = {entry.name for entry in session.get_inputs()}
    if lost := set(inputs) - known:
        raise ValueError(
            f"graph {path.stem}: tracing dropped the inputs {sorted(lost)}, which nothing reads; "
            "give weights that use them"
        )
    return dict(zip(outputs, session.run(outputs, inputs), strict=True))


def _openvino(path: Path, inputs: Arrays, outputs: list[str], _: bool) -> Arrays:
    import openvino

    hint = {"INFERENCE_PRECISION_HINT": "f32", "INFERENCE_NUM_THREADS": THREADS}
    result = openvino.Core().compile_model(path, "CPU", hint)(inputs)
    return {name: np.array(result[name]) for name in outputs}


def _error(found: NDArray[Any], wanted: NDArray[Any]) -> float:
    """Relative to the output's largest magnitude; infinite where a value is not finite."""
    if not (np.isfinite(found).all() and np.isfinite(wanted).all()):
        return float("inf")
    return float(np.abs(found - wanted).max() / max(np.abs(wanted).max(), 1e-6))
