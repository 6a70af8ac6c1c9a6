"""Where an ONNX file keeps its weights, and what its exporter noted, read from the wire format.

Backends follow these entries and would read any file they name, so they are checked before a
graph is handed over. Reading them needs four kinds of protobuf field and no protobuf library.
Field numbers are from onnx.proto3.
"""

from __future__ import annotations

import functools
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from gas_rt.errors import BundleError

__all__ = ["ExternalData", "external_data", "external_data_of", "metadata"]

# message → field number → message that the field holds
CHILDREN: dict[str, dict[int, str]] = {
    "Model": {7: "Graph", 20: "Training", 25: "Function"},
    "Training": {1: "Graph", 2: "Graph"},
    "Function": {7: "Node", 11: "Attribute"},
    "Graph": {1: "Node", 5: "Tensor", 15: "Sparse"},
    "Node": {5: "Attribute"},
    "Attribute": {
        5: "Tensor",
        6: "Graph",
        10: "Tensor",
        11: "Graph",
        22: "Sparse",
        23: "Sparse",
    },
    "Sparse": {1: "Tensor", 2: "Tensor"},
}
TENSOR_TYPE, TENSOR_NAME, TENSOR_EXTERNAL_DATA = 2, 8, 13
MODEL_METADATA = 14
DEPTH_MAX = 64  # subgraphs inside subgraphs; a real graph has a handful


@dataclass(frozen=True)
class ExternalData:
    """One tensor's weights in another file; `data_type` is a TensorProto.DataType, as 1 of fp32."""

    tensor: str
    location: str
    offset: int
    length: int | None
    data_type: int


def external_data(model: bytes) -> list[ExternalData]:
    """Every external-data entry of a serialised ONNX model, subgraphs and functions included."""
    return list(_walk(memoryview(model), "Model", depth=0))


def metadata(model: bytes) -> dict[str, str]:
    """What an exporter noted about a serialised ONNX model, by key."""
    notes = {}
    for number, value in _fields(memoryview(model)):
        if number == MODEL_METADATA and isinstance(value, memoryview):
            pair = {n: _text(v) for n, v in _fields(value) if isinstance(v, memoryview)}
            notes[pair.get(1, "")] = pair.get(2, "")
    return notes


@functools.lru_cache(maxsize=64)
def external_data_of(path: Path, sha256: str) -> tuple[ExternalData, ...]:
    """The entries of the ONNX file with this hash, read once: reading takes longer than hashing."""
    return tuple(external_data(path.read_bytes()))


def _walk(message: memoryview, kind: str, *, depth: int) -> Iterator[ExternalData]:
    if depth > DEPTH_MAX:
        raise BundleError(f"ONNX: graphs are nested deeper than {DEPTH_MAX}; the file is damaged")
    if kind == "Tensor":
        yield from _of_tensor(message)
        return
    children = CHILDREN[kind]
    for number, value in _fields(message):
        if number in children and isinstance(value, memoryview):
            yield from _walk(value, children[number], depth=depth + 1)


def _of_tensor(message: memoryview) -> Iterator[ExternalData]:
    name, data_type = "", 0
    entries: dict[str, str] = {}
    for number, value in _fields(message):
        if not isinstance(value, memoryview):
            data_type = value if number == TENSOR_TYPE else data_type
        elif number == TENSOR_NAME:
            name = _text(value)
        elif number == TENSOR_EXTERNAL_DATA:
            pair = {n: _text(v) for n, v in _fields(value) if isinstance(v, memoryview)}
            entries[pair.get(1, "")] = pair.get(2, "")
    if entries:
        yield ExternalData(
            name,
            entries.get("location", ""),
            _number(entries.get("offset", "0"), name),
            _number(entries["length"], name) if "length" in entries else None,
            data_type,
        )


def _fields(message: memoryview) -> Iterator[tuple[int, memoryview | int]]:
    """The (field number, value) pairs of one message; integers for all but length-delimited."""
    at, end = 0, len(message)
    while at < end:
        key, at = _varint(message, at)
        if key >= 1 << 32:  # parsers drop the bits beyond, and see another field
            raise BundleError(f"ONNX: field key {key} at byte {at}; the file is damaged")
        number, wire = key >> 3, key & 7
        if wire == 0:
            value, at = _varint(message, at)
            yield number, value
            continue
        if wire == 2:
            size, at = _varint(message, at)
        elif wire in (1, 5):
            size = 8 if wire == 1 else 4
        else:
            raise BundleError(f"ONNX: wire type {wire} at byte {at}; the file is damaged")
        if size > end - at:
            raise BundleError(f"ONNX: a field of {size} bytes at byte {at} of {end}; truncated")
        if wire == 2:
            yield number, message[at : at + size]
        at += size


def _varint(message: memoryview, at: int) -> tuple[int, int]:
    value = 0
    for shift in range(0, 70, 7):
        if at >= len(message):
            break
        byte = message[at]
        at += 1
        value |= (byte & 0x7F) << shift
        if byte < 0x80:
            return value, at
    raise BundleError(f"ONNX: an unfinished number at byte {at}; the file is damaged")


def _text(value: memoryview) -> str:
    try:
        return bytes(value).decode("utf-8")
    except UnicodeDecodeError as error:
        raise BundleError("ONNX: a name is not UTF-8; the file is damaged") from error


def _number(text: str, tensor: str) -> int:
    if not text.isascii() or not text.isdigit() or len(text) > 18:
        raise BundleError(f"ONNX: tensor {tensor!r} has external offset or length {text!r}")
    return int(text)
