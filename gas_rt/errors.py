"""The errors gas-rt raises.

    GasRtError
    ├── InputError        something the caller handed over cannot be used
    │   ├── FileError     a file is missing, truncated, foreign, hostile or has the wrong contents
    │   └── ShapeError    an array has the wrong shape, dtype, layout or non-finite values
    ├── BundleError       a model bundle is damaged, incomplete or of another version
    ├── BackendError      an inference backend is missing, failed, or may not be used
    │   ├── PlanError     a compiled graph is not ours, changed, or for another machine
    │   └── BuildCancelledError  compiling was cancelled
    └── SessionError      a session was used after it closed, or one of its stages failed

and the one category it warns with, GasRtWarning: the result may be poor, nothing is broken.
Every message says what was wrong, what was found and what to do.
"""

from __future__ import annotations

__all__ = [
    "BackendError",
    "BuildCancelledError",
    "BundleError",
    "FileError",
    "GasRtError",
    "GasRtWarning",
    "InputError",
    "PlanError",
    "SessionError",
    "ShapeError",
]


class GasRtError(Exception):
    """Base of every error gas-rt raises on purpose."""


class InputError(GasRtError, ValueError):
    """Something the caller handed over cannot be used."""


class FileError(InputError):
    """A file is missing, truncated, foreign, hostile or has the wrong contents."""


class ShapeError(InputError):
    """An array has the wrong shape, dtype or layout, or holds NaN or infinity."""


class BundleError(GasRtError):
    """A model bundle is damaged, incomplete or of another version."""


class BackendError(GasRtError, RuntimeError):
    """An inference backend is missing, failed, or may not be used."""


class PlanError(BackendError):
    """A compiled graph is not ours, was changed, or is for another machine; it was not loaded.

    `field` names what differs: a field of its `PlanKey` such as ``machine.gpu``; ``signature``,
    ``length``, ``contents`` or ``format`` of the file; ``owner``, ``mode``, ``symlink`` or
    ``kind`` of what lies on the disk; ``unavailable`` if there can be no store at all.
    """

    def __init__(self, message: str, *, field: str) -> None:
        super().__init__(message)
        self.field = field


class BuildCancelledError(BackendError):
    """Compiling was cancelled; nothing was kept."""


class SessionError(GasRtError, RuntimeError):
    """A session was used after it closed, or one of its stages failed."""


class GasRtWarning(UserWarning):
    """What was asked for can be done, but the result may be poor."""
