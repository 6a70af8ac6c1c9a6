"""What a session does with poses and frames that come too fast or too late."""

from __future__ import annotations

from dataclasses import dataclass

from gas_rt.core import OnLate
from gas_rt.stream.ladder import SharedLadder
from gas_rt.stream.standby import Standby

__all__ = ["QUEUE_PLANS", "Lateness", "QueuePlan", "poses_inside", "promised_age_ns"]


@dataclass(frozen=True)
class QueuePlan:
    """Capacities of a session's queues, and what happens to a pose or frame when one is full.

    `burst` frames that left a stage together may wait together, whatever `frames` says. Poses that
    are `ticked` come at the stream's rate already.
    """

    poses: int
    frames: int
    drop_oldest: bool
    paced: bool = False
    burst: int = 1
    ticked: bool = False


# freshest: one slot each, so nothing older than the newest waits. lossless: four, enough to ride
# out a scheduling hiccup, and 4 frames of added age at most. paced: as freshest, but one frame
# may wait for its presentation time while the next is made.
QUEUE_PLANS: dict[OnLate, QueuePlan] = {
    "freshest": QueuePlan(poses=1, frames=1, drop_oldest=True),
    "lossless": QueuePlan(poses=4, frames=4, drop_oldest=False),
    "paced": QueuePlan(poses=1, frames=2, drop_oldest=True, paced=True),
}


@dataclass(frozen=True, eq=False)
class Lateness:
    """What a session does about frames that are late: its ladder, and what stands by.

    Attributes
    ----------
    gate : the stage whose calls take the time. In front of it newer poses displace older ones, so
        that the field of the newest is there whatever the gate is busy with. 0: there is none.
    """

    ladder: SharedLadder
    standby: Standby
    gate: int


def poses_inside(plan: QueuePlan, *, flight: int) -> int:
    """How many poses can be in flight at once in a session with a ladder.

    One waits to be begun, one is being prepared, `plan.burst` wait for the window, which holds
    `flight`; one waits for the decoder, one is decoded; then frames wait to be taken. Of `flight`
    poses that newer ones displaced in front of the window, the fields may be shown yet.
    """
    return 1 + 1 + plan.burst + flight + 1 + 1 + max(plan.frames, plan.burst) + flight


def promised_age_ns(plan: QueuePlan, *, flight: int, late_ns: int) -> int:
    """The oldest a pose is when a new frame of it can be had, after the stream's first frame.

    A frame is handed out `late_ns` after the one before at the latest, whatever made it, and no
    more than `poses_inside` of them come before a pose's own. To it comes the time that the first
    stage takes for one pose, during which there is nothing new to show.
    """
    return (poses_inside(plan, flight=flight) + 1) * late_ns
