"""What a session's ``trace`` and ``record`` ask for: watchers, and files written at its end."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from gas_rt.errors import InputError
from gas_rt.files import check_folder_of
from gas_rt.stream.recorder import Recorder
from gas_rt.stream.recording import SessionMark
from gas_rt.stream.tracing import Tracer
from gas_rt.stream.watching import Watcher

__all__ = ["RecordLike", "TraceLike", "Watched"]

TraceLike = Tracer | str | Path | bool | None
RecordLike = str | Path | bool | None


class Watched:
    """The watchers of one session. Paths are checked now, not after hours of streaming."""

    def __init__(
        self, trace: TraceLike, record: RecordLike, *, mark: Callable[[], SessionMark]
    ) -> None:
        self._tracer: Tracer | None = None
        self._recorder: Recorder | None = None
        if isinstance(trace, Tracer):
            self._tracer, self._trace_path = trace, None
        else:
            asked, self._trace_path = _asked(
                trace, "trace", expected="True, a path or a gas_rt.Tracer"
            )
            self._tracer = Tracer() if asked else None
        asked, self._record_path = _asked(record, "record")
        if asked:
            self._recorder = Recorder(mark())
        made = (self._tracer, self._recorder)
        self.watchers: list[Watcher] = [watcher for watcher in made if watcher is not None]

    def write(self, *, name: str) -> None:
        """Write what was asked for as a file; the trace's process is called `name`."""
        try:
            if self._tracer is not None and self._trace_path is not None:
                self._tracer.write(self._trace_path, name=name)
        finally:  # neither file costs the other
            if self._recorder is not None and self._record_path is not None:
                self._recorder.write(self._record_path)


def _asked(
    value: str | Path | bool | None, what: str, *, expected: str = "True or a path"
) -> tuple[bool, Path | None]:
    """Whether there shall be one, and where it is written."""
    if value is None or isinstance(value, bool):
        return bool(value), None
    if isinstance(value, str | Path):
        check_folder_of(value, flag=what)
        return True, Path(value)
    raise InputError(f"{what}: expected {expected}, got {value!r}")
