"""Closing: what goes wrong in it is raised, or warned of where an error is there already."""

from __future__ import annotations

import pytest

from gas_rt.errors import GasRtWarning
from gas_rt.stream.closing import Closing


class Door(Closing):
    """What cannot be closed."""

    def close(self) -> None:
        raise OSError("jammed")


def test_alone_it_is_raised() -> None:
    with pytest.raises(OSError, match="jammed"), Door():
        pass


def test_after_an_error_it_is_a_warning_where_the_with_is() -> None:
    with (
        pytest.warns(GasRtWarning, match="closing failed too: OSError: jammed") as caught,
        pytest.raises(ValueError, match="earlier"),
        Door(),
    ):
        raise ValueError("earlier")
    assert [warning.filename for warning in caught] == [__file__]
