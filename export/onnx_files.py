"""ONNX graphs whose weights lie in one safetensors file.

Both formats describe a tensor by where its bytes are, so a graph can point into the safetensors
file: weights are stored once for all graphs, and every tool that reads safetensors reads them.
"""

from __future__ import annotations

import hashlib
import io
import json
import struct
import warnings
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import torch
from numpy.typing import NDArray
from onnx import TensorProto, numpy_helper
from safetensors.numpy import save_file

from export.fold import fold_shapes

__all__ = [
    "INLINE_ELEMENTS",
    "OPSET",
    "OPSET_BF16",
    "Case",
    "digest",
    "export_graph",
    "gather",
    "halve",
    "locate",
    "move_weights",
    "places_in",
    "round_to_half",
    "save_graphs",
    "tensor_names",
    "weight_names",
]

OPSET = 18
# Convolutions in bf16 exist from this one on; of the operators that the lint knows, the two sets
# differ in which types they allow and in nothing else.
OPSET_BF16 = 22
# Shapes, axes and scalars stay in the graph: runtimes fold them before they map the weights.
INLINE_ELEMENTS = 16
# What initialisers that keep their module's names start with, and what the file calls them.
OWN_NAMES = {"nerf.": ""} | {f"{part}.": f"{part}." for part in ("autoencoder", "diffusion")}


@dataclass(frozen=True, eq=False)
class Case:
    """A graph to be: its module, inputs to trace and to check it with, its outputs' names."""

    module: torch.nn.Module
    inputs: dict[str, torch.Tensor]
    outputs: tuple[str, ...]

    @torch.inference_mode()
    def expected(self) -> dict[str, torch.Tensor]:
        """PyTorch's outputs."""
        found = self.module(*self.inputs.values())
        found = (found,) if isinstance(found, torch.Tensor) else found
        return dict(zip(self.outputs, found, strict=True))


def export_graph(case: Case) -> onnx.ModelProto:
    """Trace a module at static shapes; initialisers keep its names where they can."""
    buffer = io.BytesIO()
    with warnings.catch_warnings():
        # The tracing exporter is deprecated in favour of one that needs a further package, and
        # it warns about every shape that is constant, which is what we want.
        warnings.simplefilter("ignore")
        torch.onnx.export(
            case.module.eval(),
            tuple(case.inputs.values()),
            buffer,
            input_names=list(case.inputs),
            output_names=list(case.outputs),
            opset_version=OPSET,
            dynamo=False,
        )
    model = fold_shapes(onnx.load_from_string(buffer.getvalue()))
    onnx.checker.check_model(model)
    return model


def weight_names(modules: Mapping[str, torch.nn.Module]) -> dict[bytes, str]:
    """Digest of a weight's values, as they are or transposed → its name.

    Exporting folds transposes and reshapes into initialisers and gives those names of its own, so
    only the values say which weight one is.
    """
    return tensor_names(
        (f"{prefix}.{name}", tensor)
        for prefix, module in modules.items()
        for name, tensor in module.state_dict().items()
    )


def tensor_names(tensors: Iterable[tuple[str, torch.Tensor]]) -> dict[bytes, str]:
    """As `weight_names`, of some named tensors."""
    names: dict[bytes, str] = {}
    for name, tensor in tensors:
        array = tensor.detach().numpy()
        if array.dtype != np.float32 or array.size < INLINE_ELEMENTS:
            continue
        names.setdefault(digest(array), name)
        if array.ndim == 2:
            names.setdefault(digest(array.T), f"{name}.T")
    return names


@torch.no_grad()
def round_to_half(tensors: Iterable[tuple[str, torch.Tensor]]) -> None:
    """Round named tensors, in place, to what fp16 can store; those that stay in graphs, not."""
    for name, tensor in tensors:
        if tensor.numel() < INLINE_ELEMENTS:
            continue
        half = tensor.half()
        if not torch.isfinite(half).all():
            raise ValueError(
                f"weight {name}: holds {tensor.abs().max():g}, which fp16 cannot store; "
                "train on, or export a checkpoint from before it diverged"
            )
        tensor.copy_(half)


def halve(graph: onnx.ModelProto, names: Mapping[bytes, str]) -> None:
    """Store the initialisers that are weights (see `weight_names`) in fp16, under their names.

    A Cast brings each back to fp32, in which the graph goes on computing. Values must be exact in
    fp16 already, so that nothing is lost here that a comparison would not see.
    """
    casts, kept = [], []
    renamed: dict[str, str] = {}
    for tensor in graph.graph.initializer:
        array = numpy_helper.to_array(tensor)
        name = names.get(digest(array)) if array.dtype == np.float32 else None
        if name is None:
            kept.append(tensor)
            continue
        half = array.astype(np.float16)
        assert np.array_equal(half.astype(np.float32), array), f"{name} is not rounded to fp16"
        # One weight may be there in two shapes; the graph needs a name for each.
        label = name if f"{name}/fp32" not in renamed.values() else f"{name}/{tensor.name}"
        renamed[tensor.name] = f"{label}/fp32"
        kept.append(numpy_helper.from_array(half, label))
        casts.append(
            onnx.helper.make_node("Cast", [label], [f"{label}/fp32"], to=TensorProto.FLOAT)
        )
    for node in graph.graph.node:
        node.input[:] = [renamed.get(name, name) for name in node.input]
    nodes = [*casts, *graph.graph.node]
    del graph.graph.initializer[:], graph.graph.node[:]
    graph.graph.initializer.extend(kept)
    graph.graph.node.extend(nodes)


def move_weights(graphs: dict[str, onnx.ModelProto], folder: Path, *, weights: str) -> None:
    """Write each graph as FOLDER/NAME.onnx, all their weights as one safetensors file."""
    tensors, moved = gather(graphs)
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / weights
    # One entry only: the writer orders several at random, and a bundle's bytes are hashed.
    save_file(tensors, path, metadata={"format": "pt"})
    path.chmod(0o644)  # the writer leaves it to its owner alone; a bundle is for everybody
    places = places_in(path)
    for tensor, key in moved:
        locate(tensor, places[key], weights=weights)
    save_graphs(graphs, folder)


def gather(
    graphs: Mapping[str, onnx.ModelProto],
) -> tuple[dict[str, NDArray[Any]], list[tuple[TensorProto, str]]]:
    """The weights inside of graphs, each once by a key, and which initialisers hold which."""
    tensors: dict[str, NDArray[Any]] = {}
    keys: dict[bytes, str] = {}
    moved: list[tuple[TensorProto, str]] = []
    for name, graph in graphs.items():
        for tensor in graph.graph.initializer:
            array = numpy_helper.to_array(tensor)
            if array.size < INLINE_ELEMENTS:
                continue
            known = digest(array)
            if known not in keys:
                keys[known] = _key(tensors, name, tensor.name)
                tensors[keys[known]] = array
            moved.append((tensor, keys[known]))
    return tensors, moved


def locate(tensor: TensorProto, place: tuple[int, int], *, weights: str) -> None:
    """Make an initialiser say that its values are in the file `weights`, from byte, so many."""
    for field in ("raw_data", "float_data", "int64_data", "int32_data", "external_data"):
        tensor.ClearField(field)
    tensor.data_location = TensorProto.EXTERNAL
    for field, value in (("location", weights), ("offset", place[0]), ("length", place[1])):
        entry = tensor.external_data.add()
        entry.key, entry.value = field, str(value)


def save_graphs(graphs: Mapping[str, onnx.ModelProto], folder: Path) -> None:
    """Write each graph as FOLDER/NAME.onnx."""
    for name, graph in graphs.items():
        (folder / f"{name}.onnx").write_bytes(graph.SerializeToString(deterministic=True))


def _key(taken: Mapping[str, Any], graph: str, name: str) -> str:
    """The module's own name where it is one that is free."""
    for prefix, ours in OWN_NAMES.items():
        key = ours + name.removeprefix(prefix)
        if name.startswith(prefix) and key not in taken:
            return key
    return f"{graph}.{name}"


def digest(array: NDArray[Any]) -> bytes:
    """Of values and type, whatever the shape: what lets two tensors share their bytes."""
    values = np.ascontiguousarray(array).tobytes()
    return hashlib.sha256(array.dtype.str.encode() + values).digest()


def places_in(path: Path) -> dict[str, tuple[int, int]]:
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
