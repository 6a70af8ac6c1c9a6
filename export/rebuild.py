"""``--check``: what an export would change of a bundle that is there, file by file.

Graphs are compared by nodes and attributes, weights by tensor, JSON by key, text by line.
"""

from __future__ import annotations

import difflib
import json
import math
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import numpy_helper
from safetensors import safe_open

__all__ = ["differences", "summary"]

LISTED_MAX = 12  # of each file
TEXT_MAX = 60  # characters of a value


def differences(old: Path, new: Path) -> dict[str, list[str]]:
    """By file of either folder that is not in both or not the same bytes, what differs."""
    files = {
        path.relative_to(folder).as_posix()
        for folder in (old, new)
        for path in folder.rglob("*")
        if path.is_file()
    }
    found = {}
    for file in sorted(files):
        before, after = old / file, new / file
        if not after.is_file():
            found[file] = ["would go"]
        elif not before.is_file():
            found[file] = ["would be new"]
        elif before.read_bytes() != after.read_bytes():
            found[file] = list(_explained(before, after)) or ["other bytes of the same meaning"]
    return found


def _explained(before: Path, after: Path) -> Iterator[str]:
    try:
        if before.suffix == ".onnx":
            yield from _graphs(before, after)
        elif before.suffix == ".safetensors":
            yield from _weights(before, after)
        elif before.suffix == ".npz":
            yield from _arrays(before, after)
        elif before.suffix == ".json":
            yield from _values(json.loads(before.read_text()), json.loads(after.read_text()), "")
        elif before.suffix in (".md", ".txt"):
            yield from _lines(before, after)
        else:
            sizes = before.stat().st_size, after.stat().st_size
            yield f"other bytes: {sizes[0]} here, {sizes[1]} exported"
    except Exception as error:  # whatever is wrong with a file is a difference to tell
        yield f"cannot be compared: {type(error).__name__}: {error}"


def _graphs(before: Path, after: Path) -> Iterator[str]:
    models = [onnx.load(path, load_external_data=False) for path in (before, after)]
    old, new = (model.graph for model in models)
    for name in ("ir_version", "producer_version"):
        pair = [getattr(model, name) for model in models]
        if pair[0] != pair[1]:
            yield f"{name}: {pair[0]} here, {pair[1]} exported"
    opsets = [{o.domain: o.version for o in model.opset_import} for model in models]
    yield from _values(opsets[0], opsets[1], "opset")
    notes = [{p.key: p.value for p in model.metadata_props} for model in models]
    yield from _values(notes[0], notes[1], "metadata")
    labels = [[_label(node) for node in graph.node] for graph in (old, new)]
    yield from _moved(labels[0], labels[1])
    exported = dict(zip(labels[1], new.node, strict=True))
    for label, node in zip(labels[0], old.node, strict=True):
        if label in exported:
            yield from _nodes(label, node, exported[label])
    for kind in ("input", "output", "initializer"):
        entries = [{v.name: v for v in getattr(graph, kind)} for graph in (old, new)]
        for name in sorted(entries[0].keys() | entries[1].keys()):
            a, b = (e.get(name) for e in entries)
            if a is None or b is None:
                yield f"{kind} {name}: only {'exported' if a is None else 'here'}"
            elif a != b:
                yield f"{kind} {name}: {_tensor(a)} here, {_tensor(b)} exported"


def _label(node: onnx.NodeProto) -> str:
    return f"{node.op_type} {node.name or node.output[0]}"


def _moved(old: list[str], new: list[str]) -> Iterator[str]:
    yield from (f"node {label}: only here" for label in old if label not in set(new))
    yield from (f"node {label}: only exported" for label in new if label not in set(old))
    if sorted(old) == sorted(new) and old != new:
        at = next(k for k, (a, b) in enumerate(zip(old, new, strict=True)) if a != b)
        yield f"nodes in another order from node {at} on: {old[at]} here, {new[at]} exported"


def _nodes(label: str, old: onnx.NodeProto, new: onnx.NodeProto) -> Iterator[str]:
    for kind in ("input", "output"):
        pair = list(getattr(old, kind)), list(getattr(new, kind))
        if pair[0] != pair[1]:
            yield f"node {label}: {kind}s {_short(pair[0])} here, {_short(pair[1])} exported"
    attributes = [
        {a.name: onnx.helper.get_attribute_value(a) for a in node.attribute} for node in (old, new)
    ]
    yield from _values(attributes[0], attributes[1], f"node {label}")


def _tensor(value: Any) -> str:
    if not isinstance(value, onnx.TensorProto):
        return _short(onnx.helper.printable_value_info(value))
    if value.external_data:
        where = {entry.key: entry.value for entry in value.external_data}
        return f"bytes {where.get('offset')}+{where.get('length')} of {where.get('location')}"
    return _short(numpy_helper.to_array(value).tolist())


def _weights(before: Path, after: Path) -> Iterator[str]:
    with safe_open(before, framework="np") as old, safe_open(after, framework="np") as new:
        yield from _tensors(
            {name: (lambda n=name: old.get_tensor(n)) for name in old.keys()},  # noqa: SIM118
            {name: (lambda n=name: new.get_tensor(n)) for name in new.keys()},  # noqa: SIM118
        )


def _arrays(before: Path, after: Path) -> Iterator[str]:
    with np.load(before, allow_pickle=False) as old, np.load(after, allow_pickle=False) as new:
        yield from _tensors(
            {name: (lambda n=name: old[n]) for name in old.files},
            {name: (lambda n=name: new[n]) for name in new.files},
        )


def _tensors(old: Mapping[str, Any], new: Mapping[str, Any]) -> Iterator[str]:
    for name in sorted(old.keys() | new.keys()):
        if name not in old or name not in new:
            yield f"tensor {name}: only {'exported' if name not in old else 'here'}"
            continue
        a, b = old[name](), new[name]()
        if a.dtype != b.dtype or a.shape != b.shape:
            yield (
                f"tensor {name}: {a.dtype} {list(a.shape)} here, {b.dtype} {list(b.shape)} exported"
            )
        elif a.tobytes() != b.tobytes():
            yield f"tensor {name}: {_apart(a, b)}"


def _apart(a: NDArray[Any], b: NDArray[Any]) -> str:
    count = int((a != b).sum())
    if a.dtype.kind not in "iuf":
        return f"{count} of {a.size} values differ"
    largest = float(np.abs(a.astype(np.float64) - b.astype(np.float64)).max())
    return f"{count} of {a.size} values differ, by {largest:.3g} at most"


def _values(old: Any, new: Any, where: str) -> Iterator[str]:
    if isinstance(old, dict) and isinstance(new, dict):
        for key in sorted(old.keys() | new.keys()):
            inner = f"{where}.{key}" if where else str(key)
            if key not in old or key not in new:
                yield f"{inner}: only {'exported' if key not in old else 'here'}"
            else:
                yield from _values(old[key], new[key], inner)
    elif isinstance(old, list) and isinstance(new, list) and len(old) == len(new):
        for k, pair in enumerate(zip(old, new, strict=True)):
            yield from _values(*pair, f"{where}[{k}]")
    elif not _same(old, new):
        yield f"{where}: {_short(old)} here, {_short(new)} exported"


def _same(old: Any, new: Any) -> bool:
    both_nan = isinstance(old, float) and isinstance(new, float) and math.isnan(old + new)
    return bool(both_nan or (type(old) is type(new) and old == new))


def _lines(before: Path, after: Path) -> Iterator[str]:
    old, new = before.read_text().splitlines(), after.read_text().splitlines()
    for line in difflib.unified_diff(old, new, n=0, lineterm=""):
        if not line.startswith(("---", "+++", "@@")):
            yield f"line {_short(line)}"


def _short(value: Any) -> str:
    text = value if isinstance(value, str) else repr(value)
    return text if len(text) <= TEXT_MAX else f"{text[: TEXT_MAX - 1]}…"


def summary(found: Mapping[str, list[str]], *, folder: Path, files: int) -> str:
    """The differences for people."""
    if not found:
        return f"{folder}: all {files} files are rebuilt byte for byte"
    lines = [f"{folder}: {len(found)} of {files} files would differ"]
    for file, what in found.items():
        lines.append(file)
        lines += [f"  {entry}" for entry in what[:LISTED_MAX]]
        if len(what) > LISTED_MAX:
            lines.append(f"  and {len(what) - LISTED_MAX} more")
    return "\n".join(lines)
