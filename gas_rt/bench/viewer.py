"""A simulated viewer: what somebody would see who plays the frames with a start buffer."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

__all__ = ["Viewing", "watch"]


@dataclass(frozen=True)
class Viewing:
    """What was seen.

    Attributes
    ----------
    frames : shown.
    stalls : times that a frame was not there when it was due.
    stall_ms, longest_stall_ms : how long the picture stood still beyond a period, in all and at
        worst.
    """

    frames: int
    stalls: int
    stall_ms: float
    longest_stall_ms: float

    def as_dict(self) -> dict[str, Any]:
        """For the report."""
        return {
            "frames": self.frames,
            "stalls": self.stalls,
            "stall_ms": round(self.stall_ms, 3),
            "longest_stall_ms": round(self.longest_stall_ms, 3),
        }


def watch(ready_ns: Sequence[int], *, fps: float, buffer_ms: float) -> Viewing:
    """Play frames that were there at `ready_ns`, in their order.

    Playing starts `buffer_ms` after the first frame; each frame is due one period after the one
    before was shown. One that is late is shown when it comes, and what follows is due from then on:
    the viewer never speeds up, so a stall costs latency once and is not counted again.
    """
    period_ns = 1e9 / fps
    stalls = 0
    total_ns = longest_ns = 0.0
    due_ns = ready_ns[0] + buffer_ms * 1e6 if ready_ns else 0.0
    for at_ns in ready_ns:
        late_ns = at_ns - due_ns
        # Below a nanosecond it is the rounding of the clock to whole ones.
        if late_ns >= 1:
            stalls += 1
            total_ns += late_ns
            longest_ns = max(longest_ns, late_ns)
            due_ns = at_ns
        due_ns += period_ns
    return Viewing(len(ready_ns), stalls, total_ns / 1e6, longest_ns / 1e6)
