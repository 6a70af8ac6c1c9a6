"""TensorRT's module, its version and its log: what every call of this package goes through."""

from __future__ import annotations

import importlib
import threading
from collections import deque
from dataclasses import dataclass
from typing import Any

from gas_rt.errors import BackendError

__all__ = ["PlanUnreadableError", "TensorRt", "open_tensorrt"]

OLDEST, NEWEST = (10, 16), (11, 999)
LINES_KEPT = 8  # of the log, for the message of an error
LINE_CHARACTERS = 300


class PlanUnreadableError(BackendError):
    """A plan that the store vouches for, of which TensorRT makes no engine; another may do."""


@dataclass(frozen=True)
class TensorRt:
    """The imported bindings with a log that keeps what they complain of.

    Attributes
    ----------
    module : the package ``tensorrt``.
    log : what its objects are made with; lives as long as any of them.
    lines : the newest errors and warnings, oldest first.
    """

    module: Any
    log: Any
    lines: deque[str]

    @property
    def version(self) -> str:
        """The full version, such as 10.16.1.11."""
        return str(self.module.__version__)

    def make(self, kind: str, *arguments: Any) -> Any:
        """An object of TensorRT's that takes its log; the bindings raise TypeError for none."""
        try:
            return getattr(self.module, kind)(*arguments, self.log)
        except TypeError as error:
            raise self.failure(
                f"backend tensorrt: makes no {kind} ({error})",
                "check that the GPU is free and its driver goes with this version",
            ) from error

    def failure(
        self, what: str, remedy: str, kind: type[BackendError] = BackendError
    ) -> BackendError:
        """An error that says what TensorRT's log said."""
        said = " | ".join(self.lines) or "its log says nothing"
        self.lines.clear()
        return kind(f"{what}; TensorRT {self.version}: {said}; {remedy}")


def open_tensorrt() -> TensorRt:
    """Import the bindings; BackendError if they are missing, broken or of another version."""
    try:
        module = importlib.import_module("tensorrt")
    except (ImportError, OSError) as error:
        raise BackendError(
            f"backend tensorrt: Python package tensorrt cannot be imported ({error}); "
            "see 'gas-rt doctor' for the command that installs it"
        ) from error
    version = tuple(int(part) for part in str(module.__version__).split(".")[:2])
    if not OLDEST <= version <= NEWEST:
        raise BackendError(
            f"backend tensorrt: found TensorRT {module.__version__}, this gas-rt knows 10.16 and "
            "11; see 'gas-rt doctor' for the command that installs one"
        )
    lines: deque[str] = deque(maxlen=LINES_KEPT)
    return TensorRt(module, _log(module, lines), lines)


def _log(module: Any, lines: deque[str]) -> Any:
    """A logger that keeps errors and warnings; TensorRT calls it from threads of its own."""
    kept = {module.ILogger.INTERNAL_ERROR, module.ILogger.ERROR, module.ILogger.WARNING}
    guard = threading.Lock()

    class Log(module.ILogger):  # type: ignore[misc]
        def __init__(self) -> None:
            module.ILogger.__init__(self)

        def log(self, severity: Any, msg: str) -> None:
            if severity in kept:
                with guard:
                    lines.append(" ".join(msg.split())[:LINE_CHARACTERS])

    return Log()
