"""How much something grew over a run: estimators that outliers and steps don't fool."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np

__all__ = ["Trend", "flatness", "growth", "theil_sen"]

Flatness = Literal["flat", "changed", "too noisy"]

Z = 1.96  # of a normal deviate, for an interval that holds the slope in 19 of 20 runs
ENDS = 10  # a growth in steps is looked for between the first and the last tenth


@dataclass(frozen=True)
class Trend:
    """Change of a quantity from the first x to the last, and the interval it lies in."""

    change: float
    low: float
    high: float

    def as_dict(self, digits: int = 4) -> dict[str, Any]:
        """For the report."""
        return {name: round(value, digits) for name, value in vars(self).items()}


def theil_sen(x: Sequence[float], y: Sequence[float]) -> Trend:
    """The median of the slopes between all pairs, times the range of x; Sen's interval.

    At least three points, x strictly growing.
    """
    xs, ys = np.asarray(x, np.float64), np.asarray(y, np.float64)
    count = len(xs)
    assert count >= 3, "a trend needs three points"
    assert (np.diff(xs) > 0).all(), "x must grow"
    first, second = np.triu_indices(count, k=1)
    slopes = np.sort((ys[second] - ys[first]) / (xs[second] - xs[first]))
    # Kendall's statistic of independent values has this variance; ties make it smaller.
    deviation = np.sqrt(count * (count - 1) * (2 * count + 5) / 18)
    pairs = len(slopes)
    low = max(0, int(np.floor((pairs - Z * deviation) / 2)))
    high = min(pairs - 1, int(np.ceil((pairs + Z * deviation) / 2)))
    span = xs[-1] - xs[0]
    return Trend(
        float(np.median(slopes) * span), float(slopes[low] * span), float(slopes[high] * span)
    )


def flatness(
    trend: Trend, *, level: float, limit: float
) -> Literal["flat", "changed", "too noisy"]:
    """Whether a change is shown to be within ±`limit` of `level`, or beyond it, or neither."""
    low, high = sorted((trend.low / level, trend.high / level))
    if -limit <= low and high <= limit:
        return "flat"
    return "changed" if low > limit or high < -limit else "too noisy"


def growth(x: Sequence[float], y: Sequence[float]) -> float:
    """The most that `y` may have grown: its trend's upper end, or the step between its ends."""
    share = max(1, len(y) // ENDS)
    step = float(np.median(y[-share:]) - np.median(y[:share]))
    return max(theil_sen(x, y).high, step)
