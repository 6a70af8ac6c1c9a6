"""Typed access to parsed JSON that a stranger wrote."""

from __future__ import annotations

import sys
from typing import Any

from gas_rt.errors import BundleError

__all__ = ["JsonReader"]

# JSON's integers have no end; NaN and infinity do not compare as within it either.
FLOAT_MAX = sys.float_info.max


class JsonReader:
    """A JSON object; every complaint says where it looked."""

    def __init__(self, value: Any, where: str) -> None:
        if not isinstance(value, dict):
            raise BundleError(f"{where}: expected an object, got {type(value).__name__}")
        self.value: dict[str, Any] = value
        self.where = where

    def at(self, key: str) -> JsonReader:
        """The object under `key`."""
        return JsonReader(self._get(key), f"{self.where}, {key!r}")

    def text(self, key: str) -> str:
        """The string under `key`."""
        return str(self._typed(key, str, "a string"))

    def integer(self, key: str, *, low: int = 1, high: int = 1 << 31) -> int:
        """The integer under `key`, within its bounds."""
        value = self._typed(key, int, "an integer")
        if not low <= value <= high:
            raise BundleError(f"{self.where}: {key!r} is {value}, expected {low}..{high}")
        return int(value)

    def number(self, key: str, *, low: float, high: float) -> float:
        """The number under `key`, within its bounds."""
        value = self._typed(key, int | float, "a number")
        if not low <= value <= high:
            raise BundleError(f"{self.where}: {key!r} is {value}, expected {low}..{high}")
        return float(value)

    def numbers(self, key: str, count: int | None = None) -> list[float]:
        """The list of finite numbers under `key`; `count` of them, if given."""
        wanted = "a list of numbers" if count is None else f"{count} numbers"
        value = self._typed(key, list, wanted)
        good = count in (None, len(value)) and all(
            isinstance(v, int | float) and not isinstance(v, bool) and abs(v) <= FLOAT_MAX
            for v in value
        )
        if not good:
            raise BundleError(f"{self.where}: {key!r}: expected {wanted}, got {value!r:.80}")
        return [float(v) for v in value]

    def _typed(self, key: str, kind: Any, named: str) -> Any:
        value = self._get(key)
        if not isinstance(value, kind) or isinstance(value, bool):
            raise BundleError(f"{self.where}: {key!r}: expected {named}, got {value!r:.80}")
        return value

    def _get(self, key: str) -> Any:
        if key not in self.value:
            raise BundleError(f"{self.where}: lacks {key!r}; it is damaged or of another version")
        return self.value[key]
