"""Safetensors headers: every lie is caught before memory is taken for it."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from safetensors.numpy import save_file

from gas_rt.errors import FileError
from gas_rt.tensor_file import HEADER_BYTES_MAX, read_tensor_header, read_tensors


def file_with(path: Path, header: Any, data: bytes = b"", *, length: int | None = None) -> Path:
    raw = header if isinstance(header, bytes) else json.dumps(header).encode()
    size = len(raw) if length is None else length
    path.write_bytes(size.to_bytes(8, "little") + raw + data)
    return path


def entry(shape: list[Any], begin: int, end: int, dtype: str = "F32") -> dict[str, Any]:
    return {"dtype": dtype, "shape": shape, "data_offsets": [begin, end]}


def test_reads_what_safetensors_wrote(tmp_path: Path) -> None:
    arrays = {
        "a": np.arange(6, dtype=np.float32).reshape(2, 3),
        "b": np.ones(4, np.float16),
        "c": np.zeros((0,), np.uint8),
    }
    save_file(arrays, tmp_path / "x", {"k": "v"})
    header = read_tensor_header(tmp_path / "x", what="a thing")
    assert header.metadata == {"k": "v"}
    read = read_tensors(header)
    assert set(read) == set(arrays)
    for name, array in arrays.items():
        assert read[name].dtype == array.dtype
        np.testing.assert_array_equal(read[name], array)


@pytest.mark.parametrize(
    ("header", "data", "message"),
    [
        ([], b"", "its header is list"),
        (b"\xff\xfe", b"", "not JSON"),
        (b"[" * 100_000, b"", "not JSON"),
        (b'{"a": 1, "a": 2}', b"", "occurs twice"),
        ({"__metadata__": {"k": 1}}, b"", "not text"),
        ({"a": 3}, b"", "describes tensor 'a'"),
        ({"a": entry([2], 0, 8, "F64")}, b"\0" * 8, "describes tensor 'a'"),
        ({"a": entry([-1], 0, 4)}, b"\0" * 4, "describes tensor 'a'"),
        ({"a": entry([True], 0, 4)}, b"\0" * 4, "describes tensor 'a'"),
        ({"a": entry([1 << 62], 0, 4)}, b"\0" * 4, "describes tensor 'a'"),
        ({"a": entry([1 << 30, 1 << 30, 1 << 30], 0, 4)}, b"\0" * 4, "describes tensor 'a'"),
        ({"a": entry([2], 0, 4)}, b"\0" * 4, "describes tensor 'a'"),
        ({"a": entry([2], 8, 0)}, b"\0" * 4, "describes tensor 'a'"),
        ({"a": entry([0, 1 << 39, 1 << 39], 0, 0)}, b"", "describes tensor 'a'"),
        ({"a": entry([1] * 50_000, 0, 4)}, b"\0" * 4, "describes tensor 'a'"),
        ({"a": {**entry([1], 0, 4), "dtype": ["F32"]}}, b"\0" * 4, "describes tensor 'a'"),
        ({"a": entry([1], 4, 8)}, b"\0" * 8, "begins at 4"),
        ({"a": entry([1], 0, 4), "b": entry([1], 0, 4)}, b"\0" * 4, "begins at 0"),
        ({"a": entry([2], 0, 8)}, b"\0" * 7, "truncated or damaged"),
        ({"a": entry([2], 0, 8)}, b"\0" * 9, "truncated or damaged"),
    ],
)
def test_bad_headers(tmp_path: Path, header: Any, data: bytes, message: str) -> None:
    with pytest.raises(FileError, match=message):
        read_tensor_header(file_with(tmp_path / "x", header, data), what="a thing")


@pytest.mark.parametrize("length", [HEADER_BYTES_MAX + 1, 1 << 62, 3])
def test_header_length_is_bounded(tmp_path: Path, length: int) -> None:
    path = file_with(tmp_path / "x", {}, length=length)
    with pytest.raises(FileError, match="announce a header"):
        read_tensor_header(path, what="a thing")


@pytest.mark.parametrize("content", [b"", b"\0\0\0", b"PK\x03\x04" + b"\0" * 40])
def test_foreign_and_empty_files(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "x").write_bytes(content)
    with pytest.raises(FileError, match="not a thing"):
        read_tensor_header(tmp_path / "x", what="a thing")


def test_missing_file(tmp_path: Path) -> None:
    with pytest.raises(FileError, match="cannot be read: No such file"):
        read_tensor_header(tmp_path / "x", what="a thing")


def test_nan_is_refused(tmp_path: Path) -> None:
    save_file({"a": np.array([1, np.nan], np.float32)}, tmp_path / "x")
    header = read_tensor_header(tmp_path / "x", what="a thing")
    with pytest.raises(FileError, match="'a' holds NaN"):
        read_tensors(header)
