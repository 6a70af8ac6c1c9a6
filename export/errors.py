"""What ends an export."""

from __future__ import annotations

from collections.abc import Sequence

__all__ = ["GateError"]

LISTED_MAX = 8


class GateError(ValueError):
    """A gate that was not passed; nothing has been installed.

    Attributes
    ----------
    gate : its name.
    problems : which output failed it, and by how much, one each.
    """

    def __init__(self, gate: str, problems: Sequence[str]) -> None:
        more = len(problems) - LISTED_MAX
        listed = "; ".join(problems[:LISTED_MAX]) + (f"; and {more} more" if more > 0 else "")
        super().__init__(f"gate {gate}: {listed}. Nothing was installed")
        self.gate, self.problems = gate, tuple(problems)
