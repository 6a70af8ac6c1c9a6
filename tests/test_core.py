"""The check that every array from outside goes through."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from gas_rt.core import checked
from gas_rt.errors import ShapeError


@pytest.mark.parametrize(
    ("value", "dtype"),
    [
        (np.array([1e300]), np.float32),
        (np.array([-1e39]), np.float32),
        (np.array([2**32 + 1]), np.int32),
        (np.array([2**63], np.uint64), np.int64),
        (np.array([-1]), np.uint8),
        (np.array([70_000]), np.uint8),
    ],
)
def test_a_value_that_its_type_cannot_hold_is_refused(value: Any, dtype: Any) -> None:
    """NumPy would make infinity of it, or another index."""
    with pytest.raises(ShapeError, match=r"v: value .* does not fit"):
        checked(value, "v", shape=(1,), dtype=dtype)


def test_values_at_the_limits_and_other_types_are_converted() -> None:
    edge = np.array([-(2**31), 2**31 - 1])
    np.testing.assert_array_equal(checked(edge, "v", shape=(2,), dtype=np.int32), edge)
    assert checked(np.array([True]), "v", shape=(1,))[0] == 1
    assert checked(np.array([2**64 - 1], np.uint64), "v", shape=(1,))[0] > 1e19
    assert checked(np.zeros((0, 3)), "v", shape=(None, 3)).dtype == np.float32


@pytest.mark.parametrize(
    ("value", "message"),
    [
        ([[1], [1, 2]], "ragged"),
        (np.array(["a"]), "expected numbers"),
        (np.zeros((2, 3)), r"expected shape \[any\], got \[2, 3\]"),
        ([np.nan], "1 of 1 values are NaN"),
    ],
)
def test_what_is_no_such_array_is_refused(value: Any, message: str) -> None:
    with pytest.raises(ShapeError, match=message):
        checked(value, "v", shape=(None,))
