"""One safetensors file written tensor by tensor, so that no two weights need be in memory at once.

The library's writer takes every tensor at a time. The format is a header of JSON, which says where
each tensor's bytes are, and the bytes.
"""

from __future__ import annotations

import json
import math
import struct
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

__all__ = ["Weight", "places", "write_weights"]

TYPES = {"float16": "F16", "float32": "F32", "int64": "I64", "int32": "I32", "uint8": "U8"}
ALIGNMENT = 8  # of the data's beginning, as the library writes it


@dataclass(frozen=True, eq=False)
class Weight:
    """A tensor that is read when it is written."""

    shape: tuple[int, ...]
    dtype: np.dtype[Any]
    load: Callable[[], NDArray[Any]]

    @property
    def bytes(self) -> int:
        """Its size."""
        return math.prod(self.shape) * self.dtype.itemsize


def places(weights: Mapping[str, Weight]) -> dict[str, tuple[int, int]]:
    """Byte offset and length of each tensor in the file that `write_weights` will write."""
    at = len(_header(weights))
    found = {}
    for key in _order(weights):
        found[key] = (at, weights[key].bytes)
        at += weights[key].bytes
    return found


def write_weights(
    path: Path, weights: Mapping[str, Weight], *, progress: Callable[[str], None] | None = None
) -> None:
    """Write the file; ValueError where a tensor is not what its entry says."""
    with path.open("wb") as stream:
        stream.write(_header(weights))
        for key in _order(weights):
            weight = weights[key]
            array = weight.load()
            if array.shape != weight.shape or array.dtype != weight.dtype:
                raise ValueError(
                    f"weight {key}: is {array.dtype} {list(array.shape)}, announced as "
                    f"{weight.dtype} {list(weight.shape)}; the source changed meanwhile"
                )
            stream.write(np.ascontiguousarray(array).reshape(-1).view(np.uint8).data)
            if progress is not None:
                progress(key)


def _order(weights: Mapping[str, Weight]) -> list[str]:
    """Widest types first, so that every tensor is aligned to its own."""
    return sorted(weights, key=lambda key: (-weights[key].dtype.itemsize, key))


def _header(weights: Mapping[str, Weight]) -> bytes:
    entries: dict[str, Any] = {"__metadata__": {"format": "pt"}}
    at = 0
    for key in _order(weights):
        weight = weights[key]
        end = at + weight.bytes
        entries[key] = {
            "dtype": TYPES[weight.dtype.name],
            "shape": list(weight.shape),
            "data_offsets": [at, end],
        }
        at = end
    text = json.dumps(entries, separators=(",", ":")).encode()
    text += b" " * (-len(text) % ALIGNMENT)
    return struct.pack("<Q", len(text)) + text
