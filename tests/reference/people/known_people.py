"""Seeds of people who wear what a test is about, found by their looks."""

from __future__ import annotations

from collections.abc import Callable
from itertools import count

from reference.people.look import Look, draw_look

__all__ = ["LONG_HAIR", "PLAIN", "PRINTED", "SKIRT"]


def _first(wears: Callable[[Look], bool]) -> int:
    return next(seed for seed in count() if wears(draw_look(seed)))


SKIRT = _first(lambda look: look.outfit.bottom.kind == "skirt" and look.outfit.outer is None)
LONG_HAIR = _first(lambda look: look.hair.style == "long" and look.hair.hat == "none")
PRINTED = _first(lambda look: look.outfit.top.front is not None)
PLAIN = _first(
    lambda look: (
        (look.outfit.bottom.kind, look.hair.style, look.hair.hat) == ("jeans", "short", "none")
        and look.outfit.outer is None
    )
)
"""In jeans with short hair: nothing hangs free."""
