"""Reading what strangers hand over and writing without leaving halves behind."""

from __future__ import annotations

import contextlib
import math
import os
import secrets
import tokenize
import zipfile
import zlib
from collections.abc import Collection, Iterator, Mapping
from pathlib import Path
from typing import IO, Any

import numpy as np
from numpy.typing import NDArray

from gas_rt.errors import FileError

__all__ = ["atomic_write", "check_folder_of", "npz_names", "read_npz", "write_npz"]

NPZ_MAX_BYTES = 1 << 30  # uncompressed; an SMPL file with 300 components is 0.1 GiB
NPZ_MAX_MEMBERS = 256
NPZ_MAX_RATIO = 1200  # deflate cannot exceed 1032:1, so more is a forged directory


@contextlib.contextmanager
def atomic_write(path: str | os.PathLike[str]) -> Iterator[IO[bytes]]:
    """Open a temporary file beside `path` and rename it to `path` when the block succeeds.

    Raises `FileError` when the folder is missing or cannot be written.
    """
    target = Path(path)
    temporary = target.parent / f".{target.name}.{secrets.token_hex(8)}.tmp"
    try:
        # Not tempfile: its files are for the owner alone, and the umask can't be read without
        # changing it for every thread.
        flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC
        descriptor = os.open(temporary, flags, 0o666)
    except OSError as error:
        raise FileError(
            f"{target}: cannot write ({error.strerror}); choose an existing, writable folder"
        ) from error
    try:
        with os.fdopen(descriptor, "wb") as stream:
            yield stream
        _rename(temporary, target)
    except BaseException:
        temporary.unlink(missing_ok=True)
        raise


def _rename(temporary: Path, target: Path) -> None:
    try:
        temporary.replace(target)
    except OSError as error:
        raise FileError(
            f"{target}: cannot replace it ({error.strerror}); choose another name"
        ) from error


def check_folder_of(path: str | os.PathLike[str], *, flag: str) -> None:
    """Raise now, not after minutes of work, if `path` cannot be written."""
    parent = Path(path).absolute().parent
    if not parent.is_dir():
        raise FileError(f"{flag}: folder {parent} does not exist; create it first")
    if Path(path).is_dir():
        raise FileError(f"{flag}: {path} is a folder; give a file name")


def npz_names(path: str | os.PathLike[str]) -> list[str]:
    """Names of the arrays of an ``.npz`` file, sorted; no array is read.

    Raises `FileError` when the file is missing or no archive.
    """
    with _archive(Path(path)) as archive:
        return sorted(_name(member) for member in archive.infolist())


def read_npz(
    path: str | os.PathLike[str],
    *,
    keys: Collection[str] | None = None,
    max_bytes: int = NPZ_MAX_BYTES,
) -> dict[str, NDArray[Any]]:
    """Read arrays of an ``.npz`` file, never unpickling.

    With `keys`, arrays of other names are left alone, whatever they hold. Sizes are taken from the
    archive's directory and checked before anything is decompressed. Raises `FileError` when the
    file is missing, no archive, truncated, too large when unpacked, or holds objects instead of
    numbers.
    """
    source = Path(path)
    with _archive(source) as archive:
        members = archive.infolist()
        _check_count(source, members)
        wanted = [m for m in members if keys is None or _name(m) in keys]
        _check_members(source, wanted, max_bytes)
        for member in wanted:
            _check_header(source, archive, member)
        return {_name(member): _array(archive, member) for member in wanted}


@contextlib.contextmanager
def _archive(source: Path) -> Iterator[zipfile.ZipFile]:
    """The archive, opened once: what was checked is what is read, whatever the name becomes."""
    try:
        with source.open("rb") as stream, zipfile.ZipFile(stream) as archive:
            yield archive
    except FileError:
        raise
    except FileNotFoundError as error:
        raise FileError(f"{source}: no such file; check the path") from error
    except (zipfile.BadZipFile, EOFError) as error:
        raise FileError(
            f"{source}: not an .npz archive, or truncated ({error}); write it again"
        ) from error
    except (ValueError, OSError, NotImplementedError, RuntimeError, zlib.error) as error:
        raise FileError(
            f"{source}: cannot be read as numeric arrays ({error}); "
            "save plain arrays with numpy.savez, without objects"
        ) from error


def _name(member: zipfile.ZipInfo) -> str:
    return member.filename.removesuffix(".npy")


def _array(archive: zipfile.ZipFile, member: zipfile.ZipInfo) -> NDArray[Any]:
    with archive.open(member) as stream:
        array: NDArray[Any] = np.lib.format.read_array(stream, allow_pickle=False)
        return array


def _check_count(source: Path, members: list[zipfile.ZipInfo]) -> None:
    if len(members) > NPZ_MAX_MEMBERS:
        raise FileError(
            f"{source}: {len(members)} arrays, at most {NPZ_MAX_MEMBERS} expected; "
            "is this the right file?"
        )
    names = [_name(member) for member in members]
    if twice := sorted({name for name in names if names.count(name) > 1}):
        raise FileError(f"{source}: array '{twice[0]}' stands twice; write the file again")


def _check_members(source: Path, members: list[zipfile.ZipInfo], max_bytes: int) -> None:
    total = sum(m.file_size for m in members)
    if total > max_bytes:
        raise FileError(
            f"{source}: unpacks to {total} bytes, at most {max_bytes} are read; "
            "is this the right file?"
        )
    for member in members:
        if member.file_size > NPZ_MAX_RATIO * max(member.compress_size, 1) + 4096:
            raise FileError(
                f"{source}: array '{member.filename}' claims {member.file_size} bytes from "
                f"{member.compress_size}; the archive is forged"
            )


def _check_header(source: Path, archive: zipfile.ZipFile, member: zipfile.ZipInfo) -> None:
    """Hold the array's claimed shape against the member's size, before NumPy allocates for it."""
    with archive.open(member) as stream:
        major, _ = np.lib.format.read_magic(stream)
        read = np.lib.format.read_array_header_1_0
        if major != 1:
            read = np.lib.format.read_array_header_2_0
        try:
            shape, _, dtype = read(stream)
        except (tokenize.TokenError, MemoryError) as error:  # of Python's parser, for forged text
            raise FileError(
                f"{source}: array '{member.filename}' has an unreadable header; "
                "the file is damaged or forged"
            ) from error
        claimed = math.prod(shape) * dtype.itemsize
        if not dtype.hasobject and stream.tell() + claimed != member.file_size:
            raise FileError(
                f"{source}: array '{member.filename}' claims shape {list(shape)}, {claimed} bytes, "
                f"but holds {member.file_size - stream.tell()}; the file is damaged or forged"
            )


def write_npz(path: str | os.PathLike[str], arrays: Mapping[str, NDArray[Any]]) -> None:
    """Write arrays as a compressed ``.npz`` whose bytes depend on nothing but the arrays."""
    with atomic_write(path) as stream, zipfile.ZipFile(stream, "w") as archive:
        for key, array in arrays.items():
            # A fixed date: np.savez stamps the current time, which would change the file's hash.
            entry = zipfile.ZipInfo(f"{key}.npy", date_time=(1980, 1, 1, 0, 0, 0))
            entry.compress_type = zipfile.ZIP_DEFLATED
            entry.external_attr = 0o644 << 16
            with archive.open(entry, "w", force_zip64=True) as member:
                np.lib.format.write_array(member, np.asanyarray(array), allow_pickle=False)
