"""What happened when in a session, for a viewer of the Trace Event Format (Perfetto's).

A `Tracer` keeps the latest events as plain tuples, which threads append without a lock; the file's
events are made when it is written.
"""

from __future__ import annotations

import json
import threading
from collections import deque
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from gas_rt.errors import InputError
from gas_rt.files import atomic_write
from gas_rt.stream.watching import Watcher

if TYPE_CHECKING:
    from gas_rt.core import Frame
    from gas_rt.stream.queues import DropReason
    from gas_rt.stream.stages import Job
    from gas_rt.stream.starvation import Source

__all__ = ["EVENTS_KEPT", "Tracer", "trace_document", "write_trace"]

# Some 20 events a frame: ten minutes at 25 fps, 100 MB of tuples and about as much JSON.
EVENTS_KEPT = 300_000
PUSH, POLL, DROPS = "push", "poll", "drops"


@dataclass(frozen=True, slots=True)
class _Span:
    track: tuple[str, int]  # the thread's name and number
    name: str
    begin_ns: int
    end_ns: int
    frames: tuple[int, ...]
    args: Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class _Wait:
    frame: int
    name: str
    begin_ns: int
    end_ns: int


@dataclass(frozen=True, slots=True)
class _Mark:
    name: str
    at_ns: int
    args: Mapping[str, Any]
    frame: int | None = None  # that ends here without having been delivered
    flush: bool = False


@dataclass(frozen=True, slots=True)
class _Count:
    queue: str
    at_ns: int
    length: int


class Tracer(Watcher):
    """Records the events of one session.

    Attributes
    ----------
    lost : events that fell out because more than `events` came.
    """

    def __init__(self, *, events: int = EVENTS_KEPT) -> None:
        if not isinstance(events, int) or isinstance(events, bool) or events < 1:
            raise InputError(f"events: expected a whole number of at least 1, got {events!r}")
        self._kept: deque[_Span | _Wait | _Mark | _Count] = deque(maxlen=events)
        self._lengths: dict[str, int] = {}
        self._level: str | None = None
        self._rung = 0
        self._added = 0

    @property
    def lost(self) -> int:
        """Events that fell out because newer ones came; approximate while a session runs."""
        return max(0, self._added - len(self._kept))

    def span(
        self, name: str, begin_ns: int, end_ns: int, *, frames: Sequence[int], **args: Any
    ) -> None:
        """The calling thread worked on `frames` from `begin_ns` to `end_ns`."""
        thread = threading.current_thread()
        track = (thread.name.removeprefix("gas-rt-"), thread.ident or 0)
        self._add(_Span(track, name, begin_ns, end_ns, tuple(frames), args))

    def mark(self, name: str, at_ns: int, **args: Any) -> None:
        """Something happened at an instant."""
        self._add(_Mark(name, at_ns, args))

    def document(self, *, name: str = "session") -> dict[str, Any]:
        """The trace as one JSON document of the Trace Event Format."""
        return trace_document([(name, self)])

    def write(self, path: str | Path, *, name: str = "session") -> None:
        """Write the trace, replacing the file in one step; may be called while a session runs."""
        write_trace(path, [(name, self)])

    # ---- told by the pipeline ----------------------------------------------------------------

    def pushed(self, job: Job, *, begin_ns: int, end_ns: int) -> None:
        """The push of a frame's pose."""
        self._add(_Span((PUSH, 0), PUSH, begin_ns, end_ns, (job.index,), {}))

    def refused(self, *, now_ns: int) -> None:
        """A push that found the queue full."""
        self._add(_Mark("refused", now_ns, {}))

    def entered(self, job: Job, stage: int, *, now_ns: int) -> None:
        """A wait is over."""
        self._add(_Wait(job.index, "queue" if stage == 0 else "handoff", job.at_ns, now_ns))

    def dropped(self, job: Job, reason: DropReason, *, now_ns: int) -> None:
        """A frame's end."""
        args = {"frame": job.index, "reason": reason}
        self._add(_Mark(f"drop: {reason}", now_ns, args, frame=job.index))

    def decided(self, index: int, rung: int, *, is_field: bool, now_ns: int) -> None:
        """A change of the ladder's rung."""
        if rung != self._rung:
            change = {"frame": index, "from": self._rung, "to": rung}
            self._add(_Mark("ladder: field" if is_field else f"ladder: {rung}", now_ns, change))
            self._rung = rung

    def paused(self, *, now_ns: int) -> None:
        """The end of a window, because poses stopped."""
        self._add(_Mark("pause", now_ns, {}))

    def cut(self, index: int, *, now_ns: int) -> None:
        """Another avatar takes over."""
        self._add(_Mark("cut", now_ns, {"frame": index}))

    def source(self, source: Source, *, now_ns: int) -> None:
        """Where poses come from: the tracker, or what a starving avatar does."""
        self._add(_Mark(f"poses: {source}", now_ns, {}))

    def flushed(self, reason: DropReason, count: int, *, now_ns: int) -> None:
        """The end of all frames in flight."""
        self._add(_Mark(f"flush: {reason}", now_ns, {"frames": count}, flush=True))

    def queued(self, lengths: Mapping[str, int], *, now_ns: int) -> None:
        """Queue lengths; only those that changed are kept."""
        for queue, length in lengths.items():
            if self._lengths.get(queue) != length:
                self._lengths[queue] = length
                self._add(_Count(queue, now_ns, length))

    def delivered(self, frame: Frame, *, begin_ns: int, end_ns: int) -> None:
        """The poll that took a frame."""
        args = {
            "level": frame.level,
            "age_ms": round(frame.timings.age_ms, 3),
            "stages_ms": _rounded(frame.timings.stages_ms),
            "waits_ms": _rounded(frame.timings.waits_ms),
        }
        self._add(_Span((POLL, 0), POLL, begin_ns, end_ns, (frame.index,), args))
        if frame.level != self._level:
            if self._level is not None:
                change = {"frame": frame.index, "from": self._level, "to": frame.level}
                self._add(_Mark(f"level: {frame.level}", begin_ns, change))
            self._level = frame.level

    def _add(self, event: _Span | _Wait | _Mark | _Count) -> None:
        self._added += 1  # may miss one where threads meet; only `lost` is told from it
        self._kept.append(event)


def write_trace(path: str | Path, sessions: Sequence[tuple[str, Tracer]]) -> None:
    """Write the traces of named sessions as one file, each as a process of its own."""
    with atomic_write(path) as stream:
        stream.write(json.dumps(trace_document(sessions), separators=(",", ":")).encode())


def trace_document(sessions: Sequence[tuple[str, Tracer]]) -> dict[str, Any]:
    """The traces of named sessions as one JSON document; times count from the first event."""
    kept = [(name, list(tracer._kept)) for name, tracer in sessions]
    begins = [_begin(event) for _, events in kept for event in events]
    origin_ns = min(begins, default=0)
    heads: list[dict[str, Any]] = []
    events: list[dict[str, Any]] = []
    for pid, (name, recorded) in enumerate(kept, start=1):
        made = _Process(pid, origin_ns)
        for event in recorded:
            made.add(event)
        made.link()
        heads += made.heads(name)
        events += made.events
    # A viewer binds a flow to the slice that is open at its time, so slices come first.
    order = {"e": 0, "X": 1, "b": 2, "s": 3, "t": 4, "f": 5}
    events.sort(key=lambda event: (event["ts"], order.get(event["ph"], 9)))
    return {
        "displayTimeUnit": "ms",
        "otherData": {"lost_events": sum(tracer.lost for _, tracer in sessions)},
        "traceEvents": heads + events,
    }


@dataclass
class _Process:
    """One session's events on their way into a document."""

    pid: int
    origin_ns: int
    events: list[dict[str, Any]] = field(default_factory=list)
    _tids: dict[tuple[str, int], int] = field(default_factory=dict)
    _pushes: dict[int, tuple[int, _Span]] = field(default_factory=dict)
    _polls: dict[int, tuple[int, _Span]] = field(default_factory=dict)
    _works: dict[int, list[tuple[int, _Span]]] = field(default_factory=dict)
    _waits: dict[int, list[_Wait]] = field(default_factory=dict)
    _drops: dict[int, _Mark] = field(default_factory=dict)
    _flushes: list[_Mark] = field(default_factory=list)

    def __post_init__(self) -> None:
        for track in (PUSH, POLL, DROPS):
            self._tid((track, 0))

    def heads(self, name: str) -> list[dict[str, Any]]:
        """What names the process and its tracks; tracks are shown in the order of the stages."""
        made = [self._meta("process_name", 0, name=name)]
        last = 1 + len(self._tids)
        places = {PUSH: 0, POLL: last, DROPS: last + 1}
        for (track, _), tid in self._tids.items():
            made.append(self._meta("thread_name", tid, name=track))
            made.append(self._meta("thread_sort_index", tid, sort_index=places.get(track, tid)))
        return made

    def add(self, event: _Span | _Wait | _Mark | _Count) -> None:
        """One event as recorded."""
        if isinstance(event, _Span):
            self._add_span(event)
        elif isinstance(event, _Wait):
            self._waits.setdefault(event.frame, []).append(event)
        elif isinstance(event, _Count):
            args = {"waiting": event.length}
            self._event("C", f"queue {event.queue}", event.at_ns, tid=0, args=args)
        else:
            tid = self._tid((DROPS, 0))
            self._event("i", event.name, event.at_ns, tid=tid, s="t", args=dict(event.args))
            if event.flush:
                self._flushes.append(event)
            elif event.frame is not None:
                self._drops[event.frame] = event

    def link(self) -> None:
        """Flows and lanes of the frames whose push is still among what was kept."""
        for frame, (tid, push) in self._pushes.items():
            poll = self._polls.get(frame)
            if poll is not None:
                self._flow(frame, (tid, push), self._works.get(frame, []), poll)
                self._lane(frame, push.begin_ns, poll[1].end_ns, dict(poll[1].args))
                continue
            ends = [mark for mark in self._flushes if mark.at_ns >= push.end_ns][:1]
            end = self._drops.get(frame, ends[0] if ends else None)
            if end is not None:
                self._lane(frame, push.begin_ns, end.at_ns, {"dropped": end.name})

    def _add_span(self, span: _Span) -> None:
        tid = self._tid(span.track)
        args = {**span.args, "frames": list(span.frames)}
        us = (span.end_ns - span.begin_ns) / 1e3
        self._event("X", span.name, span.begin_ns, tid=tid, dur=us, args=args)
        for frame in span.frames:
            if span.track[0] == PUSH:
                self._pushes[frame] = (tid, span)
            elif span.track[0] == POLL:
                if span.args.get("level") != "held":  # which shows a frame that has ended
                    self._polls[frame] = (tid, span)
            else:
                self._works.setdefault(frame, []).append((tid, span))

    def _flow(
        self,
        frame: int,
        push: tuple[int, _Span],
        works: list[tuple[int, _Span]],
        poll: tuple[int, _Span],
    ) -> None:
        """Arrows from the push over every span that worked on the frame to the poll."""
        # What the denoiser makes of a frame whose field was shown is context of the next ones.
        works = [work for work in works if work[1].begin_ns <= poll[1].begin_ns]
        for ph, (tid, span) in (("s", push), *(("t", work) for work in works), ("f", poll)):
            end = {"bp": "e"} if ph == "f" else {}
            self._event(ph, "frame", span.begin_ns, tid=tid, cat="frame", id=self._id(frame), **end)

    def _lane(self, frame: int, begin_ns: int, end_ns: int, args: dict[str, Any]) -> None:
        """The frame's life as an asynchronous slice, with its waits inside."""
        if end_ns <= begin_ns:  # a slice without length cannot be told from its end
            return
        same = {"cat": "frames", "id": self._id(frame), "tid": 0}
        self._event("b", f"frame {frame}", begin_ns, args=args, **same)
        for wait in self._waits.get(frame, []):
            if wait.end_ns <= wait.begin_ns or wait.end_ns > end_ns:
                continue
            self._event("b", wait.name, wait.begin_ns, **same)
            self._event("e", wait.name, wait.end_ns, **same)
        self._event("e", f"frame {frame}", end_ns, **same)

    def _id(self, frame: int) -> str:
        return f"{self.pid}.{frame}"  # ids are shared by all processes of a trace

    def _tid(self, track: tuple[str, int]) -> int:
        return self._tids.setdefault(track, 1 + len(self._tids))

    def _meta(self, kind: str, tid: int, **args: Any) -> dict[str, Any]:
        return {"ph": "M", "name": kind, "pid": self.pid, "tid": tid, "args": args}

    def _event(self, ph: str, name: str, at_ns: int, **more: Any) -> None:
        ts = (at_ns - self.origin_ns) / 1e3
        self.events.append({"ph": ph, "name": name, "ts": ts, "pid": self.pid, **more})


def _begin(event: _Span | _Wait | _Mark | _Count) -> int:
    return event.begin_ns if isinstance(event, _Span | _Wait) else event.at_ns


def _rounded(values: Mapping[str, float]) -> dict[str, float]:
    return {name: round(value, 3) for name, value in values.items()}
