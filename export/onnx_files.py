"""ONNX graphs whose weights lie in one safetensors file.

Both formats describe a tensor by where its bytes are, so a graph can point into the safetensors
file: weights are stored once for all graphs, and every tool that reads safetensors reads them.
"""

from __future__ import annotations

import io
import json
import struct
import warnings
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import torch
from numpy.typing import NDArray
from onnx import TensorProto, numpy_helper
from safetensors.numpy import save_file

__all__ = ["export_graph", "move_weights"]

OPSET = 18
# Shapes, axes and scalars stay in the graph: runtimes fold them before they map the weights.
INLINE_ELEMENTS = 16


def export_graph(
    module: torch.nn.Module, inputs: dict[str, torch.Tensor], outputs: list[str]
) -> onnx.ModelProto:
    """Trace `module` at static shapes; initialisers keep the module's names."""
    buffer = io.BytesIO()
    with warnings.catch_warnings():
        # The tracing exporter is deprecated in favour of one that needs a further package, and
        # it warns about every shape that is constant, which is what we want.
        warnings.simplefilter("ignore")
        torch.onnx.export(
            module.eval(),
            tuple(inputs.values()),
            buffer,
            input_names=list(inputs),
            output_names=outputs,
            opset_version=OPSET,
            dynamo=False,
        )
    model = onnx.load_from_string(buffer.getvalue())
    onnx.checker.check_model(model)
    return model


def move_weights(graphs: dict[str, onnx.ModelProto], folder: Path, *, weights: str) -> None:
    """Write each graph as FOLDER/NAME.onnx, all their weights as one safetensors file."""
    tensors: dict[str, NDArray[Any]] = {}
    moved: list[tuple[TensorProto, str]] = []
    for name, graph in graphs.items():
        for tensor in graph.graph.initializer:
            array = numpy_helper.to_array(tensor)
            if array.size < INLINE_ELEMENTS:
                continue
            key = _key(tensors, name, tensor.name, array)
            tensors[key] = array
            moved.append((tensor, key))
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / weights
    # One entry only: the writer orders several at random, and a bundle's bytes are hashed.
    save_file(tensors, path, metadata={"format": "pt"})
    path.chmod(0o644)  # the writer leaves it to its owner alone; a bundle is for everybody
    places = _places(path)
    for tensor, key in moved:
        offset, length = places[key]
        tensor.ClearField("raw_data")
        tensor.ClearField("float_data")
        tensor.ClearField("int64_data")
        tensor.ClearField("int32_data")
        tensor.data_location = TensorProto.EXTERNAL
        for field, value in (("location", weights), ("offset", offset), ("length", length)):
            entry = tensor.external_data.add()
            entry.key, entry.value = field, str(value)
    for name, graph in graphs.items():
        (folder / f"{name}.onnx").write_bytes(graph.SerializeToString(deterministic=True))


def _key(tensors: dict[str, NDArray[Any]], graph: str, name: str, array: NDArray[Any]) -> str:
    """The module's own name where it is one; graphs that share a tensor share the bytes."""
    key = name.removeprefix("nerf.") if name.startswith("nerf.") else f"{graph}.{name}"
    same = key in tensors and np.array_equal(tensors[key], array)
    return key if key not in tensors or same else f"{graph}.{name}"


def _places(path: Path) -> dict[str, tuple[int, int]]:
    """Byte offset and length of each tensor in a safetensors file."""
    with path.open("rb") as stream:
        (size,) = struct.unpack("<Q", stream.read(8))
        header = json.loads(stream.read(size))
    base = 8 + size
    return {
        name: (base + begin, end - begin)
        for name, spec in header.items()
        if name != "__metadata__"
        for begin, end in [spec["data_offsets"]]
    }
