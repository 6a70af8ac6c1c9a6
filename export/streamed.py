"""Graphs of models that are too large to be traced as they are: without weights or arithmetic.

Tracing records operators, not numbers. So the modules are built on the meta device, their weights
are inputs of the traced graph, and whatever is larger than a constant is given memory that nobody
reads, the same for all. Weights join the graph afterwards, as places in a file (`attach`).
"""

from __future__ import annotations

import io
import warnings
from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np
import onnx
import torch
from onnx import TensorProto, numpy_helper
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_flatten, tree_leaves, tree_map, tree_unflatten

from export.fold import fold_shapes
from export.onnx_files import INLINE_ELEMENTS, OPSET, Case, locate
from export.weight_file import Weight

__all__ = ["Source", "attach", "constant_buffers", "point", "trace"]

# Results of operands up to this size are computed: what becomes a constant is among them.
COMPUTED_ELEMENTS_MAX = 4096
# Folded into constants: the unconditional branch's zeros are the largest that are worth it.
FOLDED_ELEMENTS_MAX = 1 << 17
HALF = np.dtype(np.float16)


@dataclass(frozen=True, eq=False)
class Source:
    """A weight where it comes from: its shape, and how to read it, in whatever float type."""

    shape: tuple[int, ...]
    read: Callable[[], Tensor]

    def half(self, name: str) -> Tensor:
        """Its values in fp16; ValueError if it cannot hold them."""
        value = self.read()
        half = value.half()
        if not torch.isfinite(half).all():
            worst = value.abs().max().item()
            raise ValueError(
                f"weight {name}: holds {worst:g}, which fp16 cannot store; give a checkpoint that "
                "has not diverged"
            )
        return half


def constant_buffers(module: nn.Module) -> nn.Module:
    """A module built on the meta device, with the buffers that are no weights made real.

    CLIP's position ids are the only such; ValueError for any other.
    """
    for name, buffer in list(module.named_buffers()):
        if not buffer.is_meta:
            continue
        room, _, leaf = name.rpartition(".")
        if leaf != "position_ids":
            raise ValueError(f"buffer {name}: has no values on the meta device; pass it as weight")
        ids = torch.arange(buffer.shape[-1]).expand(buffer.shape)
        module.get_submodule(room)._buffers[leaf] = ids
    return module


@torch.no_grad()
def trace(case: Case, names: Mapping[int, str]) -> onnx.ModelProto:
    """The graph of a module whose weights, meta tensors, are inputs under their `names` by id."""
    held = {
        (room, leaf): value
        for room, module in case.module.named_modules()
        for kind in (module._parameters, module._buffers)
        for leaf, value in kind.items()
        if value is not None and value.is_meta
    }
    unique = {names[id(value)]: value for value in held.values()}
    wrapped = _WithWeights(
        case.module.eval(), {place: names[id(value)] for place, value in held.items()}, case.inputs
    )
    scratch = _Scratch()
    stand_ins = [scratch.tensor(_Shape.of(value)) for value in unique.values()]
    wrapped.weights = tuple(unique)
    buffer = io.BytesIO()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # as in `export_graph`
        torch.onnx.export(
            wrapped,
            (*case.inputs.values(), *stand_ins),
            buffer,
            input_names=[*case.inputs, *unique],
            output_names=list(case.outputs),
            opset_version=OPSET,
            dynamo=False,
            do_constant_folding=False,
            export_params=False,
        )
    model = fold_shapes(
        onnx.load_from_string(buffer.getvalue()), floats=True, elements=FOLDED_ELEMENTS_MAX
    )
    inferred = onnx.shape_inference.infer_shapes(
        model, check_type=True, strict_mode=True, data_prop=True
    )
    for value, known in zip(model.graph.output, inferred.graph.output, strict=True):
        value.CopyFrom(known)  # tracing leaves out sizes that it asked the graph for
    onnx.checker.check_model(model)
    return model


class _WithWeights(nn.Module):
    """Calls a module with the weights it is handed; the module is no child, so nothing else is."""

    def __init__(
        self, module: nn.Module, places: Mapping[tuple[str, str], str], inputs: Mapping[str, Any]
    ) -> None:
        super().__init__()
        self.__dict__["wrapped"] = module
        self.places, self.count = dict(places), len(inputs)
        self.weights: tuple[str, ...] = ()

    def forward(self, *values: Tensor) -> Any:
        module: nn.Module = self.__dict__["wrapped"]
        given = dict(zip(self.weights, values[self.count :], strict=True))
        before: list[tuple[dict[str, Any], str, Any]] = []
        try:
            for (room, leaf), name in self.places.items():
                owner = module.get_submodule(room)
                kind = owner._parameters if leaf in owner._parameters else owner._buffers
                before.append((kind, leaf, kind[leaf]))
                kind[leaf] = given[name]
            with _PlainConvolutions(), _ShapesOnly():
                return module(*values[: self.count])
        finally:
            for kind, leaf, value in before:
                kind[leaf] = value


class _PlainConvolutions(TorchFunctionMode):
    """Convolutions by the operator that tracing records.

    It records none of the public ones, but the one they call, which the mode below would hide.
    """

    AXES: ClassVar[dict[Any, int]] = {torch.conv1d: 1, torch.conv2d: 2, torch.conv3d: 3}

    def __torch_function__(
        self, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: Any = None
    ) -> Any:
        kwargs = kwargs or {}
        axes = self.AXES.get(func)
        return func(*args, **kwargs) if axes is None else _convolve(axes, *args, **kwargs)


def _convolve(
    axes: int,
    x: Tensor,
    weight: Tensor,
    bias: Tensor | None = None,
    stride: Any = 1,
    padding: Any = 0,
    dilation: Any = 1,
    groups: int = 1,
) -> Tensor:
    def each(value: Any) -> list[int]:
        return list(value) if isinstance(value, tuple | list) else [value] * axes

    none, flags = [0] * axes, (False, False, False, False)
    sizes = each(stride), each(padding), each(dilation)
    return torch._convolution(x, weight, bias, *sizes, False, none, groups, *flags)


class _ShapesOnly(TorchDispatchMode):
    """Results of large operands have the right shape and type, and no values."""

    def __init__(self) -> None:
        super().__init__()
        # While tracing, a size is a tensor and asking for it is recorded, but on this thread only.
        self._aside = ThreadPoolExecutor(1)
        self._scratch = _Scratch()

    def __exit__(self, *details: Any) -> None:
        super().__exit__(*details)
        self._aside.shutdown()

    def __torch_dispatch__(
        self, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: Any = None
    ) -> Any:
        kwargs = kwargs or {}
        tensors = [leaf for leaf in tree_leaves((args, kwargs)) if isinstance(leaf, Tensor)]
        if func.is_view:
            return func(*args, **kwargs)
        found = self._aside.submit(_shapes, func, args, kwargs, tensors).result()
        if found is None:
            return func(*args, **kwargs)
        leaves, spec = found
        return tree_unflatten(
            [self._scratch.tensor(leaf) if isinstance(leaf, _Shape) else leaf for leaf in leaves],
            spec,
        )


@dataclass(frozen=True)
class _Shape:
    """A tensor without memory."""

    size: tuple[int, ...]
    stride: tuple[int, ...]
    dtype: torch.dtype

    @classmethod
    def of(cls, value: Tensor) -> _Shape:
        return cls(tuple(value.shape), value.stride(), value.dtype)

    def on_meta(self) -> Tensor:
        return torch.empty_strided(self.size, self.stride, dtype=self.dtype, device="meta")


class _Scratch:
    """Tensors that all lie in the same memory: tracing keeps every one, and reads none."""

    def __init__(self) -> None:
        self._storage = torch.UntypedStorage(0)

    def tensor(self, shape: _Shape) -> Tensor:
        """One more."""
        last = sum((n - 1) * step for n, step in zip(shape.size, shape.stride, strict=True))
        count = 0 if 0 in shape.size else 1 + last
        if (wanted := count * shape.dtype.itemsize) > self._storage.nbytes():
            self._storage = torch.UntypedStorage(2 * wanted)
        empty = torch.empty(0, dtype=shape.dtype)
        return empty.set_(self._storage, 0, shape.size, shape.stride)


def _shapes(
    func: Any, args: Any, kwargs: Any, operands: list[Tensor]
) -> tuple[list[Any], Any] | None:
    """What `func` gives, worked out on the meta device; None where it is cheap to compute."""
    if all(value.numel() <= COMPUTED_ELEMENTS_MAX for value in operands):
        return None
    if func._schema.is_mutable:
        raise ValueError(f"{func}: changes its operand, which cannot be traced without values")

    def meta(value: Any) -> Any:
        if isinstance(value, torch.device):
            return torch.device("meta")
        return _Shape.of(value).on_meta() if isinstance(value, Tensor) else value

    leaves, spec = tree_flatten(func(*tree_map(meta, args), **tree_map(meta, kwargs)))
    return [_Shape.of(leaf) if isinstance(leaf, Tensor) else leaf for leaf in leaves], spec


def attach(graph: onnx.ModelProto, sources: Mapping[str, Source]) -> dict[str, Weight]:
    """Turn the inputs that are weights into initialisers; returns those that belong in a file.

    They are stored in fp16. Where the graph computes in fp32 a Cast brings each back. A weight
    that the graph transposes is stored so, under its name and ``.T``. What the graph does not
    read is left out. `point` adds the places.
    """
    kinds = {value.name: value.type.tensor_type.elem_type for value in graph.graph.input}
    weights: dict[str, Weight] = {}
    renamed: dict[str, str] = {}
    nodes, casts = [], []

    def stored(name: str, *, turned: bool) -> str:
        key = f"{name}.T" if turned else name
        if key not in weights:
            source = sources[name]
            shape = source.shape[::-1] if turned else source.shape
            weights[key] = Weight(shape, HALF, lambda: _half(source, name, turned=turned))
            tensor = TensorProto(name=key, dims=shape, data_type=TensorProto.FLOAT16)
            tensor.data_location = TensorProto.EXTERNAL
            if kinds[name] == TensorProto.FLOAT:
                casts.append(
                    onnx.helper.make_node("Cast", [key], [f"{key}/fp32"], to=TensorProto.FLOAT)
                )
            graph.graph.initializer.append(tensor)
        return f"{key}/fp32" if kinds[name] == TensorProto.FLOAT else key

    def inlined(name: str) -> str:
        if name not in inline:
            dtype = onnx.helper.tensor_dtype_to_np_dtype(kinds[name])
            value = sources[name].half(name).numpy().astype(dtype)
            graph.graph.initializer.append(numpy_helper.from_array(value, name))
            inline.add(name)
        return name

    inline: set[str] = set()
    for node in graph.graph.node:
        name = node.input[0] if node.input else ""
        if node.op_type == "Transpose" and name in sources and len(sources[name].shape) == 2:
            renamed[node.output[0]] = stored(name, turned=True)
            continue
        for k, given in enumerate(node.input):
            if given in renamed:
                node.input[k] = renamed[given]
            elif given in sources:
                small = int(np.prod(sources[given].shape)) < INLINE_ELEMENTS
                node.input[k] = inlined(given) if small else stored(given, turned=False)
        nodes.append(node)
    kept = [value for value in graph.graph.input if value.name not in sources]
    nodes = [*casts, *nodes]
    del graph.graph.input[:], graph.graph.node[:]
    graph.graph.input.extend(kept)
    graph.graph.node.extend(nodes)
    return weights


def _half(source: Source, name: str, *, turned: bool) -> np.ndarray[Any, Any]:
    half = source.half(name)
    return (half.T if turned else half).contiguous().numpy()


def point(graph: onnx.ModelProto, places: Mapping[str, tuple[int, int]], *, weights: str) -> None:
    """Say where in the file `weights` each initialiser that lies outside is."""
    for tensor in graph.graph.initializer:
        if tensor.data_location == TensorProto.EXTERNAL:
            locate(tensor, places[tensor.name], weights=weights)
