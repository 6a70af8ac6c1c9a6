"""Atomic writes and hardened npz reading."""

from __future__ import annotations

import io
import zipfile
from pathlib import Path

import numpy as np
import pytest

from gas_rt.errors import FileError
from gas_rt.files import atomic_write, npz_names, read_npz, write_npz


def test_round_trip_is_deterministic(tmp_path: Path) -> None:
    arrays = {"a": np.arange(6, dtype=np.float32).reshape(2, 3), "name": np.array("body")}
    write_npz(tmp_path / "one.npz", arrays)
    write_npz(tmp_path / "two.npz", arrays)
    assert (tmp_path / "one.npz").read_bytes() == (tmp_path / "two.npz").read_bytes()
    back = read_npz(tmp_path / "one.npz")
    np.testing.assert_array_equal(back["a"], arrays["a"])
    assert str(back["name"]) == "body"


def test_failed_write_leaves_the_old_file_and_no_temporary(tmp_path: Path) -> None:
    target = tmp_path / "file.bin"
    target.write_bytes(b"old")

    def interrupted() -> None:
        with atomic_write(target) as stream:
            stream.write(b"half")
            raise RuntimeError("interrupted")

    with pytest.raises(RuntimeError, match="interrupted"):
        interrupted()
    assert target.read_bytes() == b"old"
    assert [p.name for p in tmp_path.iterdir()] == ["file.bin"]


def test_missing_folder(tmp_path: Path) -> None:
    with pytest.raises(FileError, match="cannot write"), atomic_write(tmp_path / "no" / "file"):
        pass


def test_missing_file(tmp_path: Path) -> None:
    with pytest.raises(FileError, match="no such file"):
        read_npz(tmp_path / "absent.npz")


@pytest.mark.parametrize("content", [b"", b"PK", b"not an archive" * 100])
def test_foreign_file(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "x.npz"
    path.write_bytes(content)
    with pytest.raises(FileError, match="not an"):
        read_npz(path)


def test_every_truncation_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "x.npz"
    write_npz(path, {"a": np.arange(100.0)})
    whole = path.read_bytes()
    for cut in range(0, len(whole), 7):
        path.write_bytes(whole[:cut])
        with pytest.raises(FileError):
            read_npz(path)


def test_objects_are_refused(tmp_path: Path) -> None:
    path = tmp_path / "x.npz"
    np.savez(path, a=np.array([{}], dtype=object))
    with pytest.raises(FileError, match="without objects"):
        read_npz(path)


def test_bomb_is_refused_before_unpacking(tmp_path: Path) -> None:
    path = tmp_path / "x.npz"
    np.savez_compressed(path, a=np.zeros(1 << 20, np.uint8))
    with pytest.raises(FileError, match="unpacks to"):
        read_npz(path, max_bytes=1 << 16)


def test_forged_size_is_refused(tmp_path: Path) -> None:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as archive:
        archive.writestr("a.npy", b"\x93NUMPY")
        archive.infolist()[0].file_size = 1 << 29
    path = tmp_path / "x.npz"
    path.write_bytes(buffer.getvalue())
    with pytest.raises(FileError, match="forged"):
        read_npz(path)


def test_too_many_members(tmp_path: Path) -> None:
    path = tmp_path / "x.npz"
    with zipfile.ZipFile(path, "w") as archive:
        for i in range(300):
            archive.writestr(f"{i}.npy", b"")
    with pytest.raises(FileError, match="300 arrays"):
        read_npz(path)


@pytest.mark.parametrize("shape", ["(1000000000000,)", "(100000, 100000, 100000)", "(9,)", "(11,)"])
def test_a_header_that_claims_another_size_is_refused(tmp_path: Path, shape: str) -> None:
    path = tmp_path / "x.npz"
    header = f"{{'descr': '<f4', 'fortran_order': False, 'shape': {shape}, }}".ljust(117) + "\n"
    member = b"\x93NUMPY\x01\x00" + len(header).to_bytes(2, "little") + header.encode()
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("a.npy", member + bytes(40))
    with pytest.raises(FileError, match=r"'a\.npy' claims shape .* but holds 40"):
        read_npz(path)


def test_a_member_that_is_no_array_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "x.npz"
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("a.npy", b"just text")
    with pytest.raises(FileError, match="cannot be read as numeric arrays"):
        read_npz(path)


@pytest.mark.parametrize(
    "header",
    ["(", "{'descr': '<f4', ", "'''", "-" * 9000, "[" * 9000, "{'descr': '<f4'}", "\0"],
)
def test_a_header_that_is_no_description_is_refused(tmp_path: Path, header: str) -> None:
    """NumPy hands the text to Python's parser, which has errors of its own."""
    path = tmp_path / "x.npz"
    member = b"\x93NUMPY\x01\x00" + len(header).to_bytes(2, "little") + header.encode()
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("a.npy", member + bytes(40))
    with pytest.raises(FileError, match=r"unreadable header|cannot be read as numeric"):
        read_npz(path)


def test_arrays_that_are_not_asked_for_are_left_alone(tmp_path: Path) -> None:
    path = tmp_path / "x.npz"
    np.savez_compressed(path, a=np.arange(3), big=np.zeros(1 << 20), b=np.array([{}], object))
    assert npz_names(path) == ["a", "b", "big"]
    np.testing.assert_array_equal(read_npz(path, keys={"a", "c"}, max_bytes=4096)["a"], [0, 1, 2])
    with pytest.raises(FileError, match="without objects"):
        read_npz(path, keys={"b"})


@pytest.mark.filterwarnings("ignore:Duplicate name")
def test_an_array_that_stands_twice_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "x.npz"
    with zipfile.ZipFile(path, "w") as archive:
        for _ in range(2):
            archive.writestr("a.npy", b"")
    with pytest.raises(FileError, match="'a' stands twice"):
        read_npz(path)


def test_a_written_file_has_the_permissions_of_any_other(tmp_path: Path) -> None:
    (tmp_path / "plain").write_bytes(b"")
    write_npz(tmp_path / "x.npz", {"a": np.arange(3)})
    assert (tmp_path / "x.npz").stat().st_mode == (tmp_path / "plain").stat().st_mode


def test_a_folder_in_the_files_place_is_an_error_and_leaves_no_temporary(tmp_path: Path) -> None:
    (tmp_path / "x.npz").mkdir()
    with pytest.raises(FileError, match="cannot replace it"):
        write_npz(tmp_path / "x.npz", {"a": np.arange(3)})
    assert [p.name for p in tmp_path.iterdir()] == ["x.npz"]
