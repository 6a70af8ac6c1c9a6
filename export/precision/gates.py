"""What a bundle has to pass before it is installed, gate by gate.

lint → parity with PyTorch per output → pictures of a stream → layers' types. Each gate says which
output failed it and by how much; the caller installs nothing then.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import onnx

from export.errors import GateError
from export.lint import lint
from export.precision.audit import layer_types, runtime_types, wide_tail
from export.precision.measure import AsWritten, OutputError
from gas_rt.engine import Engine, open_engine
from gas_rt.engine.availability import cpu_has_bf16

__all__ = [
    "BARS",
    "Bar",
    "audit_gate",
    "engines_for",
    "lint_gate",
    "parity_gate",
    "stream_gate",
]


@dataclass(frozen=True)
class Bar:
    """What an output may differ from PyTorch's: at most `relative`, at least `cosine`."""

    relative: float
    cosine: float


BARS = {
    "fp32": Bar(1e-4, 0.999999),
    "fp16": Bar(2e-2, 0.9999),
    "bf16": Bar(1e-1, 0.999),
    # Guidance multiplies the error of x0; what shows of it is judged on pictures.
    "int8": Bar(3e-1, 0.98),
}


def engines_for(precision: str, *, threads: int) -> dict[str, Engine]:
    """By name, what computes a bundle's graphs in `precision` here.

    ONNX Runtime computes what the files say, OpenVINO what a user of this machine gets. Its plugin
    for processors computes files in fp16 and bf16 in fp32 where the processor has no such types.
    """
    if precision == "fp32":
        return {
            "onnxruntime": open_engine("onnxruntime", threads=threads, precision="fp32"),
            "openvino": open_engine("openvino", threads=threads, precision="fp32"),
        }
    engines: dict[str, Engine] = {"as written": AsWritten(threads=threads)}
    if precision == "int8":
        engines["openvino"] = open_engine("openvino", threads=threads)
    elif precision == "bf16" and cpu_has_bf16():
        engines["openvino"] = open_engine("openvino", threads=threads, precision="bf16")
    return engines


def lint_gate(graphs: Mapping[str, onnx.ModelProto]) -> None:
    """Only what TensorRT's parser and OpenVINO read."""
    found = [f"{name}: {what}" for name, graph in graphs.items() for what in lint(graph)]
    if found:
        raise GateError("lint", found)


def parity_gate(
    errors: Mapping[str, Mapping[str, Mapping[str, OutputError]]],
    precisions: Mapping[str, Mapping[str, str]],
) -> None:
    """`errors` by graph, engine and output; `precisions` by graph and engine: what it computes in.

    A graph that a recipe left in fp32 may still be run in bf16.
    """
    wrong = []
    for graph, by_engine in errors.items():
        for engine, outputs in by_engine.items():
            kind = precisions[graph][engine]
            bar = BARS[kind]
            for output, error in outputs.items():
                where = f"{graph}.{output} in {engine}"
                if not error.finite:
                    wrong.append(f"{where} has NaN or infinity")
                elif error.relative > bar.relative:
                    wrong.append(
                        f"{where} differs by {error.relative:.2g} of its range, at most "
                        f"{bar.relative:g} in {kind}"
                    )
                elif error.cosine < bar.cosine:
                    wrong.append(
                        f"{where} has cosine {error.cosine:.5f} to PyTorch's, at least "
                        f"{bar.cosine:g} in {kind}"
                    )
    if wrong:
        raise GateError("parity", wrong)


def stream_gate(reports: Mapping[str, Mapping[str, Any]]) -> None:
    """`reports` by engine, of `export.compare.judged`."""
    wrong = []
    for engine, report in reports.items():
        if not report["psnr_db"] >= report["required_db"]:
            wrong.append(
                f"pictures in {engine} are {report['psnr_db']:.2f} dB from PyTorch's over "
                f"{report['frames']} frames, at least {report['required_db']:g} are required"
            )
        if not report["loss_db"] <= report["loss_db_max"]:
            wrong.append(
                f"pictures in {engine} lose {report['loss_db']:.3f} dB to the truth in the "
                f"person's box, at most {report['loss_db_max']:g} are allowed"
            )
    if wrong:
        raise GateError("stream", wrong)


def audit_gate(
    path: Path, narrow: Collection[str], precision: str, *, threads: int
) -> dict[str, Any]:
    """Whether exactly the chosen layers are narrow, in the file and, for int8, in OpenVINO.

    Returns counts by type: of the file's layers and, where some are narrow and this processor has
    the type, of OpenVINO's.
    """
    model = onnx.load(path, load_external_data=False)
    types = layer_types(model)
    wrong = [
        f"{path.stem}: {name} computes in {kind}, the recipe says {wanted}"
        for name, kind in types.items()
        if kind != (wanted := precision if name in narrow else "fp32")
    ]
    wrong += [f"{path.stem}: has no layer {name}" for name in sorted(set(narrow) - types.keys())]
    wrong += [
        f"{path.stem}: {name} comes after the last layer and is not in fp32"
        for name in wide_tail(model)
    ]
    counts: dict[str, Any] = {"file": dict(sorted(Counter(types.values()).items()))}
    if precision == "int8" and narrow:
        counts["openvino"] = runtime_types(path, hint="f32", threads=threads)
        if not counts["openvino"].get("int8"):
            wrong.append(f"{path.stem}: OpenVINO runs none of its layers in int8")
    elif precision == "bf16" and narrow and cpu_has_bf16():
        counts["openvino"] = runtime_types(path, hint="bf16", threads=threads)
    if wrong:
        raise GateError("layer types", wrong)
    return counts
