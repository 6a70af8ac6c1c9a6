"""Warm-up: a model's graphs compiled and run once, told as it goes and ended on request."""

from __future__ import annotations

import threading
from collections.abc import Iterable, Mapping
from contextlib import nullcontext

from gas_rt.engine import BundleConfig, PlanStore
from gas_rt.enrollment import ModelParts, Progress, enrollment_graphs
from gas_rt.errors import BuildCancelledError, InputError

__all__ = ["graphs_of", "warm_up"]

LOADED = 0.9  # share of a graph's warm-up that loading it takes; the rest is its first run


def graphs_of(config: BundleConfig, policies: Iterable[str], *, enroll: bool) -> dict[str, bool]:
    """The graphs that sessions of these policies run, and with `enroll` enrolment, by name.

    True where one is run once too: a session's first frame shall not be a slow one.
    """
    diffusion = config.diffusion
    names: dict[str, bool] = {}
    for policy in policies:
        if diffusion is None or policy not in diffusion.policies:
            continue  # the field runs kernels alone
        profile = diffusion.policies[policy].profile
        guided = [profile.guided] if diffusion.guidance.used else []
        names |= dict.fromkeys(("conditioner", profile.unguided, *guided, "vae_decoder"), True)
    if enroll:
        names |= dict.fromkeys(enrollment_graphs(config), False)
    return names


def warm_up(
    parts: ModelParts,
    graphs: Mapping[str, bool],
    *,
    store: PlanStore | None,
    progress: Progress | None,
    cancel: threading.Event | None,
) -> None:
    """Load each graph, and run it once if that is said; see `gas_rt.Model.warm_up`."""
    if cancel is not None and not isinstance(cancel, threading.Event):
        raise InputError(f"cancel: expected a threading.Event, got {cancel!r}")
    tell = _telling(progress, cancel)
    for number, (name, run) in enumerate(graphs.items()):

        def part(share: float, doing: str, number: int = number) -> None:
            tell((number + share) / len(graphs), doing)

        def building(share: float, doing: str, part: Progress = part) -> None:
            part(LOADED * share, doing)

        part(0.0, f"loading {name}")
        # Where a store builds, the build itself tells and stops.
        with nullcontext() if store is None else store.telling(building, cancel):
            parts.graph(name)
        if run:
            part(LOADED, f"running {name} once")
            parts.warm_graph(name)
    tell(1.0, "done")


def _telling(progress: Progress | None, cancel: threading.Event | None) -> Progress:
    """Progress that raises when the warm-up shall stop."""

    def tell(share: float, doing: str) -> None:
        if cancel is not None and cancel.is_set():
            raise BuildCancelledError(
                f"warm-up was cancelled before {doing}; what was loaded stays"
            )
        if progress is not None:
            progress(share, doing)

    return tell
