"""Which layers may be narrow: as many as a bound on the outputs' error lets, the worst kept."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

__all__ = ["Choice", "choose", "culprits"]

ErrorOf = Callable[[Sequence[bool]], float]


@dataclass(frozen=True)
class Choice:
    """What was chosen, and by what.

    Attributes
    ----------
    narrow : layers, in the graph's order.
    kept : the others, worst first, with the error that each makes when it alone is narrow.
    error : with `narrow` narrow; never above `budget`.
    error_of_all : with every layer narrow.
    """

    narrow: tuple[str, ...]
    kept: dict[str, float]
    error: float
    error_of_all: float
    budget: float


def choose(layers: Sequence[str], error_of: ErrorOf, *, budget: float) -> Choice:
    """Try all layers; where that is too much, each alone, and leave out the worst until it fits.

    `error_of` takes one flag a layer. An error that is not finite is above every budget.
    """

    def measured(narrow: Sequence[str]) -> float:
        wanted = set(narrow)
        return error_of([name in wanted for name in layers])

    everything = measured(layers)
    if everything <= budget:
        return Choice(tuple(layers), {}, everything, everything, budget)
    alone = {name: measured([name]) for name in layers}
    ranked = sorted(layers, key=lambda name: (-_rank(alone[name]), name))
    errors = {len(ranked): 0.0}
    low, high = 1, len(ranked)
    while low < high:
        middle = (low + high) // 2
        errors[middle] = measured(ranked[middle:])
        if errors[middle] <= budget:
            high = middle
        else:
            low = middle + 1
    kept = set(ranked[:high])
    return Choice(
        tuple(name for name in layers if name not in kept),
        {name: alone[name] for name in ranked[:high]},
        errors[high],
        everything,
        budget,
    )


def _rank(error: float) -> float:
    """NaN is worse than anything."""
    return error if error == error else float("inf")


def culprits(layers: Sequence[str], guilty: Callable[[Sequence[str]], bool]) -> list[str]:
    """The layers for which `guilty` is true, found by halves: few of many take few calls.

    A group is guilty if one of its layers is; two that are so only together are not found.
    """
    if not layers or not guilty(layers):
        return []
    if len(layers) == 1:
        return list(layers)
    middle = len(layers) // 2
    return culprits(layers[:middle], guilty) + culprits(layers[middle:], guilty)
