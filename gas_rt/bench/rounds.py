"""Cases in turns: what disturbs one of them disturbs all."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass

from gas_rt.bench.arrivals import arrival_times_ns
from gas_rt.bench.drive import Clocks, Driven, Recording, drive_live, drive_saturated
from gas_rt.bench.figures import Round
from gas_rt.bench.load import CpuTimes, load_between, read_cpu_times
from gas_rt.bench.scenario import Case, Kind, Plan
from gas_rt.core import Request

__all__ = ["KINDS", "Source", "back_and_forth", "measure"]

KINDS: tuple[Kind, ...] = ("saturated", "live")

Opened = AbstractContextManager[Driven]


@dataclass(frozen=True)
class Source:
    """Where a case's sessions and poses come from.

    Attributes
    ----------
    open : opens a session of the case; its graphs are loaded when it returns.
    requests : what is pushed, over and over, there and back.
    warm_up : frames until the window is full.
    """

    open: Callable[[Kind], Opened]
    requests: Sequence[Request]
    warm_up: int


def back_and_forth(requests: Sequence[Request]) -> Iterator[Request]:
    """The requests without end, backwards every other time: no jump in the motion."""
    return itertools.cycle([*requests, *requests[-2:0:-1]])


def measure(
    plan: Plan,
    sources: dict[Case, Source],
    *,
    clocks: Clocks,
    cpu_times: Callable[[], CpuTimes | None] = read_cpu_times,
    tell: Callable[[str], None] = lambda doing: None,
) -> dict[tuple[Case, Kind], list[Round]]:
    """Every case of the plan, saturated and live, in every round; the order turns round each time.

    Each turn is a session of its own, so that the first frame is measured as often.
    """
    turns = list(itertools.product(plan.cases, KINDS))
    rounds: dict[tuple[Case, Kind], list[Round]] = {turn: [] for turn in turns}
    for number in range(plan.rounds):
        for case, kind in turns if number % 2 == 0 else reversed(turns):
            tell(f"round {number + 1} of {plan.rounds}: {kind} {case.name}")
            rounds[case, kind].append(
                _turn(plan, sources[case], kind, number=number, clocks=clocks, cpu_times=cpu_times)
            )
    return rounds


def _turn(
    plan: Plan,
    source: Source,
    kind: Kind,
    *,
    number: int,
    clocks: Clocks,
    cpu_times: Callable[[], CpuTimes | None],
) -> Round:
    with source.open(kind) as session:
        before, cpu_before = cpu_times(), clocks.cpu_ns()
        recording = _drive(plan, source, session, kind, number=number, clocks=clocks)
        own_s = (clocks.cpu_ns() - cpu_before) / 1e9
        return Round(recording, load_between(before, cpu_times(), own_cpu_s=own_s))


def _drive(
    plan: Plan, source: Source, session: Driven, kind: Kind, *, number: int, clocks: Clocks
) -> Recording:
    requests = back_and_forth(source.requests)
    if kind == "saturated":
        return drive_saturated(
            session,
            requests,
            warm_up=source.warm_up,
            measured_ns=round(plan.round_s * 1e9),
            clocks=clocks,
        )
    arrivals = arrival_times_ns(
        plan.round_s + source.warm_up / plan.fps,
        fps=plan.fps,
        jitter_ms=plan.jitter_ms,
        seed=plan.seed + number,
    )
    return drive_live(session, requests, arrivals.tolist(), warm_up=source.warm_up, clocks=clocks)
