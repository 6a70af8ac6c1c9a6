"""What a backend offers: engines that load a bundle's graphs, and graphs that run."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, Protocol

import numpy as np
from numpy.typing import NDArray

from gas_rt.core import BackendReport
from gas_rt.errors import ShapeError

__all__ = ["Engine", "Graph", "GraphSpec", "Precision", "TensorSpec", "checked_inputs"]

Precision = Literal["auto", "fp32", "bf16", "fp16", "int8"]


@dataclass(frozen=True)
class TensorSpec:
    """A graph's input or output: its static shape and NumPy dtype name."""

    shape: tuple[int, ...]
    dtype: str


@dataclass(frozen=True)
class GraphSpec:
    """A graph of a bundle: its ONNX file, and what goes in and comes out."""

    name: str
    path: Path
    inputs: Mapping[str, TensorSpec]
    outputs: Mapping[str, TensorSpec]


class Graph(Protocol):
    """A compiled graph. Stateless; threads that call it at once take turns."""

    spec: GraphSpec
    report: BackendReport

    def run(self, inputs: Mapping[str, NDArray[Any]]) -> dict[str, NDArray[Any]]:
        """Outputs by name, in arrays of the caller's own."""
        ...


class Engine(Protocol):
    """A backend that has been opened; owns the graphs it loaded."""

    report: BackendReport

    def load(self, spec: GraphSpec) -> Graph:
        """Compile a graph."""
        ...

    def close(self) -> None:
        """Free every graph."""
        ...


def checked_inputs(spec: GraphSpec, inputs: Mapping[str, NDArray[Any]]) -> dict[str, NDArray[Any]]:
    """A graph's inputs as C-contiguous arrays of the types it takes.

    Raises ShapeError for one that was not given or has another shape.
    """
    given = {}
    for name, want in spec.inputs.items():
        if name not in inputs:
            raise ShapeError(f"graph {spec.name}: input {name!r} was not given")
        array = inputs[name]
        if array.shape != want.shape:
            raise ShapeError(
                f"graph {spec.name}, input {name!r}: expected shape {list(want.shape)}, "
                f"got {list(array.shape)}"
            )
        given[name] = np.ascontiguousarray(array, dtype=want.dtype)
    return given
