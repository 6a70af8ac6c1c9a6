"""Frames from requests: the iterator that ``model.stream`` returns, sync and async."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import AsyncIterable, AsyncIterator, Iterable, Iterator
from contextlib import suppress
from typing import Any

from gas_rt.core import Frame, Request
from gas_rt.errors import InputError, SessionError
from gas_rt.stream.closing import Closing
from gas_rt.stream.session import Session

__all__ = ["FrameStream"]


class FrameStream(Closing):
    """Feeds requests to a session and gives its frames back; closes the session at its end.

    Requests are read on a thread of their own (for an async source: in a task), so a live source
    may block between them without holding frames back. One pass only.
    """

    def __init__(
        self, session: Session, requests: Iterable[Request] | AsyncIterable[Request]
    ) -> None:
        if not isinstance(requests, Iterable | AsyncIterable):
            raise InputError(f"requests: expected an iterable of Request, got {requests!r}")
        self.session = session
        self._requests = requests
        self._source_error: BaseException | None = None
        self._started = False
        self._count = 0  # of requests that came

    def __iter__(self) -> Iterator[Frame]:
        """Frames as they are ready."""
        if not isinstance(self._requests, Iterable):
            raise InputError("requests: an async source needs 'async for'")
        self._start()
        threading.Thread(
            target=self._feed, args=(self._requests,), name="gas-rt-requests", daemon=True
        ).start()
        with self.session:
            yield from self.session
            self._raise_source_error()

    async def __aiter__(self) -> AsyncIterator[Frame]:
        """Frames as they are ready, without blocking the event loop."""
        self._start()
        task = None
        if isinstance(self._requests, AsyncIterable):
            task = asyncio.create_task(self._feed_async(self._requests))
        else:
            threading.Thread(
                target=self._feed, args=(self._requests,), name="gas-rt-requests", daemon=True
            ).start()
        async with self.session:
            try:
                async for frame in self.session:
                    yield frame
                self._raise_source_error()
            finally:
                if task is not None:
                    task.cancel()
                    await asyncio.gather(task, return_exceptions=True)

    def close(self) -> None:
        """End the session; iteration stops."""
        self.session.close()

    def _start(self) -> None:
        if self._started:
            raise SessionError("a stream can be iterated once; call model.stream() again")
        self._started = True

    def _feed(self, requests: Iterable[Request]) -> None:
        try:
            for request in requests:
                request = self._counted(request)
                if self.session.config.on_late == "lossless":
                    self.session.push_wait_request(request)
                else:
                    self.session.push_request(request)
        except BaseException as error:  # raised again where the frames are read
            self._source_error = error
        finally:
            self._finish()

    async def _feed_async(self, requests: AsyncIterable[Request]) -> None:
        try:
            async for request in requests:
                await self.session.push_async_request(self._counted(request))
        except asyncio.CancelledError:
            raise
        except BaseException as error:
            self._source_error = error
        finally:
            self._finish()

    def _finish(self) -> None:
        policy = self.session.config.policy
        if not self._count and self._source_error is None and policy != "field":
            self._source_error = InputError(
                f"requests: ended with zero frames, policy {policy!r} needs at least one"
            )
        if self._source_error is not None and policy == "parity":
            with suppress(SessionError):  # closed meanwhile
                self.session.reset()  # nobody wants minutes of denoising before the error
        self.session.finish()

    def _counted(self, value: Any) -> Request:
        if not isinstance(value, Request):
            raise InputError(f"requests: expected gas_rt.Request, got {type(value).__name__}")
        self._count += 1
        return value

    def _raise_source_error(self) -> None:
        # A session that ended first makes the feeder fail too; that is not the source's error.
        if self._source_error is not None and not self.session.closed:
            raise self._source_error
