"""What goes wrong while something is closed is told, but never instead of an earlier error."""

from __future__ import annotations

import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from types import TracebackType
from typing import Self

from gas_rt.errors import GasRtWarning

__all__ = ["Closing", "unmasked"]


@contextmanager
def unmasked(error: BaseException | None) -> Iterator[None]:
    """Close something in it: what that raises is a `GasRtWarning` if there is an `error` already.

    The caller sees to it that `error` is raised, or was.
    """
    try:
        yield
    except Exception as failed:
        if error is None:
            raise
        text = f"closing failed too: {type(failed).__name__}: {failed}"
        warnings.warn(text, GasRtWarning, stacklevel=4)  # for whoever leaves the ``with``


class Closing:
    """What is closed at the end of a ``with``, which raises what ended it before, if anything."""

    def close(self) -> None:
        """Free what is held. May be repeated."""
        raise NotImplementedError

    def _ended_by(self) -> BaseException | None:
        """The failure that ended it, if one did."""
        return None

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        with unmasked(error or self._ended_by()):
            self.close()
        self._tell_end(kind)

    def _tell_end(self, kind: type[BaseException] | None) -> None:
        if kind is None and (ended := self._ended_by()) is not None:
            raise ended
