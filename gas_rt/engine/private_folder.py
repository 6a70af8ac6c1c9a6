"""A folder that nobody else can write: opened by handle, checked, and used only through it.

Names are looked up relative to the open folder and never through a symbolic link, so what was
checked is what is used, whatever happens to the path meanwhile.
"""

from __future__ import annotations

import contextlib
import errno
import os
import secrets
import stat
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import IO

from gas_rt.errors import PlanError

try:
    import fcntl
except ImportError:  # not a POSIX system
    fcntl = None  # type: ignore[assignment]

__all__ = ["TEMPORARY", "PrivateFolder"]

TEMPORARY = ".tmp"
OTHERS_WRITE = stat.S_IWGRP | stat.S_IWOTH  # an access list's grants show in the group's bits


class PrivateFolder:
    """One folder, by path; every use opens and checks it anew.

    Raises `PlanError` with the field ``unavailable`` where the folder cannot be had, and with
    ``symlink``, ``owner`` or ``mode`` where it may not be trusted.
    """

    def __init__(self, path: Path) -> None:
        if fcntl is None:
            raise PlanError(
                f"{path}: this system has no POSIX owners and locks, which plans are guarded by; "
                "work without a plan store",
                field="unavailable",
            )
        self.path = path

    @contextlib.contextmanager
    def opened(self) -> Iterator[int]:
        """The folder's descriptor, checked; the folder is made if it is missing."""
        flags = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
        try:
            try:
                folder = os.open(self.path, flags)
            except FileNotFoundError:
                _make(self.path)
                folder = os.open(self.path, flags)
        except OSError as error:
            raise self._cannot_open(error) from error
        try:
            _check_private(os.fstat(folder), str(self.path), "700")
            yield folder
        finally:
            os.close(folder)

    def _cannot_open(self, error: OSError) -> PlanError:
        if self.path.is_symlink():
            return PlanError(
                f"{self.path} is a symbolic link; refused, name the folder itself", field="symlink"
            )
        return PlanError(
            f"{self.path}: cannot be used as a folder for plans ({error.strerror}); "
            "name another one",
            field="unavailable",
        )

    def writable(self) -> bool:
        """Whether files can be made here; False on a read-only disk."""
        with self.opened() as folder:
            return os.access(".", os.W_OK, dir_fd=folder)

    def names(self) -> list[str]:
        """The names in the folder, sorted."""
        with self.opened() as folder:
            return sorted(os.listdir(folder))

    @contextlib.contextmanager
    def reading(self, name: str) -> Iterator[tuple[IO[bytes], int]]:
        """A file's stream and size in bytes, after its kind, owner and mode were checked.

        Raises `FileNotFoundError`, and `PlanError` for what is not a plain file of this user's.
        """
        with self.opened() as folder:
            # Without O_NONBLOCK, opening a FIFO would wait for its writer.
            flags = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC
            where = str(self.path / name)
            try:
                descriptor = os.open(name, flags, dir_fd=folder)
            except FileNotFoundError:
                raise
            except OSError as error:
                link = error.errno == errno.ELOOP
                raise PlanError(
                    f"{where}: {'is a symbolic link' if link else error.strerror}; refused",
                    field="symlink" if link else "unavailable",
                ) from error
            found = os.fstat(descriptor)
            if not stat.S_ISREG(found.st_mode):
                os.close(descriptor)
                raise PlanError(f"{where}: is no plain file; refused", field="kind")
            with os.fdopen(descriptor, "rb") as stream:
                _check_private(found, where, "600")
                yield stream, found.st_size

    def write(self, name: str, *parts: bytes, replace: bool = True) -> None:
        """Make a file for this user alone, under its name only once it is complete.

        Nothing is flushed to the disk: a file that a power cut shortened fails its hash. Without
        `replace` the file that is there already stays. Raises `OSError`.
        """
        with self.opened() as folder:
            temporary = f".{name}.{secrets.token_hex(8)}{TEMPORARY}"
            flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC
            descriptor = os.open(temporary, flags, 0o600, dir_fd=folder)
            try:
                with os.fdopen(descriptor, "wb") as stream:
                    stream.writelines(parts)
                if replace:
                    os.rename(temporary, name, src_dir_fd=folder, dst_dir_fd=folder)
                else:
                    with contextlib.suppress(FileExistsError):
                        os.link(temporary, name, src_dir_fd=folder, dst_dir_fd=folder)
            finally:
                with contextlib.suppress(FileNotFoundError):
                    os.unlink(temporary, dir_fd=folder)

    def append(self, name: str, data: bytes) -> None:
        """Add to a file's end in one write, so that two processes don't mix. Raises `OSError`."""
        with self.opened() as folder:
            flags = os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC
            descriptor = os.open(name, flags | os.O_NONBLOCK, 0o600, dir_fd=folder)
            try:
                os.write(descriptor, data)
            finally:
                os.close(descriptor)

    def remove(self, name: str) -> None:
        """Remove a file or a link; one that is gone already is no error."""
        with self.opened() as folder, contextlib.suppress(FileNotFoundError):
            os.unlink(name, dir_fd=folder)

    @contextlib.contextmanager
    def locked(self, name: str, *, wait: Callable[[], None] | None) -> Iterator[bool]:
        """Hold a lock among threads and processes, for which a file of this name stands.

        The kernel lets go of it when its holder dies, so a lock file left behind blocks nobody.
        While somebody else holds it, `wait` is called again and again, and may raise; without
        `wait` the block runs at once and is told False. Raises `OSError`.
        """
        with self.opened() as folder:
            descriptor = _take_lock(folder, name, wait)
            try:
                yield descriptor is not None
            finally:
                if descriptor is not None:
                    os.close(descriptor)


def _take_lock(folder: int, name: str, wait: Callable[[], None] | None) -> int | None:
    while True:
        flags = os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC
        descriptor = os.open(name, flags, 0o600, dir_fd=folder)
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            # Whoever held it before may have removed the file: then this lock is nobody's.
            with contextlib.suppress(FileNotFoundError):
                named = os.stat(name, dir_fd=folder, follow_symlinks=False)
                if os.path.samestat(named, os.fstat(descriptor)):
                    return descriptor
            os.close(descriptor)
            continue
        except BlockingIOError:
            os.close(descriptor)
        except BaseException:
            os.close(descriptor)
            raise
        if wait is None:
            return None
        wait()


def _make(path: Path) -> None:
    """Make a folder and its parents for this user alone."""
    for folder in [*reversed(path.parents), path]:
        if not os.path.lexists(folder):
            with contextlib.suppress(FileExistsError):  # of another process
                folder.mkdir(mode=0o700)


def _check_private(found: os.stat_result, where: str, mode: str) -> None:
    if found.st_uid != os.geteuid():
        raise PlanError(
            f"{where}: belongs to user {found.st_uid}, this process runs as {os.geteuid()}; "
            "refused, name a folder of your own",
            field="owner",
        )
    if found.st_mode & OTHERS_WRITE:
        raise PlanError(
            f"{where}: others can write it (mode {stat.S_IMODE(found.st_mode):03o}); refused. "
            f"If nobody did, run 'chmod {mode} {where}'",
            field="mode",
        )
