"""Reading what strangers hand over and writing without leaving halves behind."""

from __future__ import annotations

import contextlib
import math
import os
import tempfile
import zipfile
import zlib
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import IO, Any

import numpy as np
from numpy.typing import NDArray

from gas_rt.errors import FileError

__all__ = ["atomic_write", "read_npz", "write_npz"]

NPZ_MAX_BYTES = 1 << 30  # uncompressed; an SMPL file with 300 components is 0.1 GiB
NPZ_MAX_MEMBERS = 256
NPZ_MAX_RATIO = 1200  # deflate cannot exceed 1032:1, so more is a forged directory


@contextlib.contextmanager
def atomic_write(path: str | os.PathLike[str]) -> Iterator[IO[bytes]]:
    """Open a temporary file beside `path` and rename it to `path` when the block succeeds.

    Raises `FileError` when the folder is missing or cannot be written.
    """
    target = Path(path)
    try:
        descriptor, name = tempfile.mkstemp(
            dir=target.parent, prefix=f".{target.name}.", suffix=".tmp"
        )
    except OSError as error:
        raise FileError(
            f"{target}: cannot write ({error.strerror}); choose an existing, writable folder"
        ) from error
    temporary = Path(name)
    try:
        with os.fdopen(descriptor, "wb") as stream:
            yield stream
        umask = os.umask(0)
        os.umask(umask)
        temporary.chmod(0o666 & ~umask)
        temporary.replace(target)
    except BaseException:
        temporary.unlink(missing_ok=True)
        raise


def read_npz(
    path: str | os.PathLike[str], *, max_bytes: int = NPZ_MAX_BYTES
) -> dict[str, NDArray[Any]]:
    """Read every array of an ``.npz`` file, never unpickling.

    Sizes are taken from the archive's directory and checked before anything is decompressed.
    Raises `FileError` when the file is missing, no archive, truncated, too large when unpacked,
    or holds objects instead of numbers.
    """
    source = Path(path)
    try:
        with zipfile.ZipFile(source) as archive:
            _check_members(source, archive, max_bytes)
            for member in archive.infolist():
                _check_header(source, archive, member)
        with np.load(source, allow_pickle=False) as data:
            return {key: data[key] for key in data.files}
    except FileNotFoundError as error:
        raise FileError(f"{source}: no such file; check the path") from error
    except (zipfile.BadZipFile, EOFError) as error:
        raise FileError(
            f"{source}: not an .npz archive, or truncated ({error}); write it again"
        ) from error
    except FileError:
        raise
    except (ValueError, OSError, NotImplementedError, RuntimeError, zlib.error) as error:
        raise FileError(
            f"{source}: cannot be read as numeric arrays ({error}); "
            "save plain arrays with numpy.savez, without objects"
        ) from error


def _check_members(source: Path, archive: zipfile.ZipFile, max_bytes: int) -> None:
    members = archive.infolist()
    if len(members) > NPZ_MAX_MEMBERS:
        raise FileError(
            f"{source}: {len(members)} arrays, at most {NPZ_MAX_MEMBERS} expected; "
            "is this the right file?"
        )
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
        if major == 1:
            shape, _, dtype = np.lib.format.read_array_header_1_0(stream)
        else:
            shape, _, dtype = np.lib.format.read_array_header_2_0(stream)
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
