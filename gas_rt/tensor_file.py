"""Safetensors files from strangers: every claim of the header is checked before memory is taken."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from gas_rt.errors import FileError

__all__ = ["TensorEntry", "TensorHeader", "read_tensor_header", "read_tensors"]

HEADER_BYTES_MAX = 1 << 20  # an avatar's header has about 3 kB
DTYPES: dict[str, np.dtype[Any]] = {
    "F32": np.dtype("<f4"),
    "F16": np.dtype("<f2"),
    "I32": np.dtype("<i4"),
    "U8": np.dtype("u1"),
}


@dataclass(frozen=True)
class TensorEntry:
    """One tensor of a safetensors file: where its bytes are, counted from the header's end."""

    dtype: np.dtype[Any]
    shape: tuple[int, ...]
    begin: int
    end: int


@dataclass(frozen=True)
class TensorHeader:
    """The header of a safetensors file, checked against the file's size."""

    path: Path
    metadata: Mapping[str, str]
    tensors: Mapping[str, TensorEntry]
    data_start: int


def read_tensor_header(path: str | Path, *, what: str) -> TensorHeader:
    """Read and check a safetensors header; no tensor is read. `what` names the file in messages."""
    path = Path(path)
    try:
        size = path.stat().st_size
        with path.open("rb") as stream:
            prefix = stream.read(8)
            length = int.from_bytes(prefix, "little")
            if len(prefix) < 8 or length > min(size - 8, HEADER_BYTES_MAX):
                raise FileError(
                    f"{path}: not {what}, or truncated: {size} bytes, "
                    f"its first 8 announce a header of {length}; check the path or copy it again"
                )
            raw = stream.read(length)
    except OSError as error:
        raise FileError(f"{path}: cannot be read: {error.strerror}; check the path") from error
    try:
        header = json.loads(raw.decode("utf-8"), object_pairs_hook=_no_duplicates)
    except (ValueError, RecursionError) as error:
        raise FileError(f"{path}: not {what}: its header is not JSON ({error})") from error
    if not isinstance(header, dict):
        raise FileError(f"{path}: not {what}: its header is {type(header).__name__}")
    metadata = header.pop("__metadata__", {})
    if not isinstance(metadata, dict) or not all(isinstance(v, str) for v in metadata.values()):
        raise FileError(f"{path}: not {what}: its metadata are not text")
    tensors = {name: _entry(path, name, value) for name, value in header.items()}
    _check_layout(path, tensors, size - 8 - length)
    return TensorHeader(path, metadata, tensors, 8 + length)


def read_tensors(header: TensorHeader) -> dict[str, NDArray[Any]]:
    """Read every tensor of a checked header; floating-point values must be finite."""
    arrays = {}
    with header.path.open("rb") as stream:
        for name, entry in header.tensors.items():
            stream.seek(header.data_start + entry.begin)
            data = stream.read(entry.end - entry.begin)
            if len(data) != entry.end - entry.begin:
                raise FileError(f"{header.path}: was cut short while being read; copy it again")
            array = np.frombuffer(data, entry.dtype).reshape(entry.shape)
            if array.dtype.kind == "f" and not np.isfinite(array).all():
                raise FileError(f"{header.path}: tensor {name!r} holds NaN or infinite values")
            arrays[name] = array
    return arrays


def _no_duplicates(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    result = dict(pairs)
    if len(result) != len(pairs):
        raise ValueError("a name occurs twice")
    return result


def _entry(path: Path, name: str, value: Any) -> TensorEntry:
    damaged = FileError(
        f"{path}: damaged: its header describes tensor {name!r:.80} as {value!r:.120}; "
        "copy or make the file again"
    )
    if not isinstance(value, dict) or set(value) != {"dtype", "shape", "data_offsets"}:
        raise damaged
    shape, offsets = value["shape"], value["data_offsets"]
    for numbers in (shape, offsets):
        if not isinstance(numbers, list) or not all(
            type(n) is int and 0 <= n < 1 << 40 for n in numbers
        ):
            raise damaged
    known = isinstance(value["dtype"], str) and value["dtype"] in DTYPES
    # NumPy refuses shapes of 2**63 values also where another axis is 0.
    nonzero = math.prod(n for n in shape[:8] if n)
    if not known or len(shape) > 8 or len(offsets) != 2 or nonzero >= 1 << 40:
        raise damaged
    entry = TensorEntry(DTYPES[value["dtype"]], tuple(shape), offsets[0], offsets[1])
    if entry.end - entry.begin != math.prod(entry.shape) * entry.dtype.itemsize:
        raise damaged
    return entry


def _check_layout(path: Path, tensors: Mapping[str, TensorEntry], size: int) -> None:
    at = 0
    for name, entry in sorted(tensors.items(), key=lambda item: (item[1].begin, item[1].end)):
        if entry.begin != at:
            raise FileError(f"{path}: damaged: tensor {name!r} begins at {entry.begin}, not {at}")
        at = entry.end
    if at != size:
        raise FileError(
            f"{path}: truncated or damaged: its tensors take {at} bytes, the file has {size}; "
            "copy it again"
        )
