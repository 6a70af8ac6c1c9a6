"""What goes wrong while something is closed is told, but never instead of an earlier error."""

from __future__ import annotations

import warnings
from collections.abc import Iterator
from contextlib import contextmanager

from gas_rt.errors import GasRtWarning

__all__ = ["unmasked"]


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
