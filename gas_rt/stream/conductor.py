"""The thread that asks at each tick what is to be shown, and hands it to the pipeline."""

from __future__ import annotations

import threading
from collections.abc import Callable, Sequence

from gas_rt.core import Request
from gas_rt.errors import SessionError
from gas_rt.stream.starvation import PoseClock, Source
from gas_rt.stream.watching import Watcher

__all__ = ["Conductor"]


class Conductor:
    """Feeds a pipeline at the stream's rate from samples that come at any.

    Parameters
    ----------
    pose_clock : what is to be shown when.
    offer : takes a request; what it raises ends the thread, for the pipeline has ended.
    finish : is called when the last sample has been offered after `finish`.
    fail : is told what else went wrong; nothing comes after it.
    clock : monotonic nanoseconds.
    watchers : are told where poses come from.
    """

    def __init__(
        self,
        pose_clock: PoseClock,
        *,
        offer: Callable[[Request], object],
        finish: Callable[[], None],
        fail: Callable[[str, BaseException], None],
        clock: Callable[[], int],
        watchers: Sequence[Watcher] = (),
    ) -> None:
        self._pose_clock = pose_clock
        self._offer = offer
        self._finish = finish
        self._fail = fail
        self._clock = clock
        self._watchers = tuple(watchers)
        self._source: Source = "tracker"
        self._changed = threading.Condition()
        self._finishing = self._closing = False
        self._thread = threading.Thread(target=self._work, name="gas-rt-ticks", daemon=True)
        self._thread.start()

    def sample(self, request: Request) -> None:
        """A pose of the tracker."""
        with self._changed:
            if self._finishing:
                raise SessionError("push: the session was told to finish(); open another session")
            now = self._clock()
            captured_ns = now if request.captured_ns is None else int(request.captured_ns)
            self._pose_clock.sample(request, captured_ns=captured_ns, now_ns=now)
            self._changed.notify_all()

    def finish(self) -> None:
        """No more samples: show those that are there, then finish the pipeline."""
        with self._changed:
            self._finishing = True
            self._changed.notify_all()

    def reset(self) -> None:
        """Forget the samples."""
        with self._changed:
            self._pose_clock.reset()

    def close(self) -> None:
        """End the thread. May be repeated."""
        with self._changed:
            self._closing = True
            self._changed.notify_all()
        if self._thread is not threading.current_thread():
            self._thread.join()

    def _work(self) -> None:
        try:
            with self._changed:  # so that a reset comes before a tick or after it is handed over
                while (request := self._next()) is not None:
                    self._offer(request)
            if not self._closing:
                self._finish()
        except SessionError:
            pass  # it has ended, and tells whoever uses it next why
        except BaseException as error:
            self._fail("resampling failed", error)

    def _tell(self, now: int) -> None:
        source = self._pose_clock.source
        if source != self._source:
            self._source = source
            for watcher in self._watchers:
                watcher.source(source, now_ns=now)

    def _next(self) -> Request | None:
        """Wait, under the lock, for the next tick that shows something; None at the end."""
        while not self._closing:
            now = self._clock()
            if self._finishing and self._pose_clock.all_shown:
                return None
            wait_ns = self._pose_clock.wait_ns(now)
            if wait_ns == 0:
                request = self._pose_clock.tick(now)
                if request is not None:
                    self._tell(now)
                    return request
                continue
            self._changed.wait(None if wait_ns is None else wait_ns / 1e9)
        return None
