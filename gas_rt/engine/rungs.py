"""The ladder's rungs of a policy: layouts of the same graph with fewer steps per frame."""

from __future__ import annotations

from collections.abc import Mapping

from gas_rt.core import Window
from gas_rt.diffusion import Schedule, last_sigma
from gas_rt.engine.json_reader import JsonReader
from gas_rt.errors import BundleError, InputError

__all__ = ["calls_per_frame", "derived_rungs", "flight_of", "read_rungs"]

RUNGS_MAX = 8
CHUNK_MAX = 256
STEPS_MAX = 1000


def flight_of(policy: str, window: Window) -> int:
    """Frames in flight in one call of a live policy."""
    return window.chunk * (window.steps if policy == "diagonal" else 1)


def calls_per_frame(policy: str, window: Window) -> float:
    """Denoiser calls that a live policy makes for each new frame."""
    return (1 if policy == "diagonal" else window.steps) / window.chunk


def read_rungs(reader: JsonReader, policy: str, best: Schedule) -> dict[int, Schedule]:
    """The rungs that a bundle lists, by their number of steps; `best` is its longest schedule."""
    value = reader.value["rungs"]
    where = f"{reader.where}, 'rungs'"
    if not isinstance(value, list) or len(value) > RUNGS_MAX:
        raise BundleError(f"{where}: expected a list of at most {RUNGS_MAX} objects")
    if policy == "parity" and value:
        raise BundleError(f"{where}: parity is offline and has no ladder; leave them out")
    found: dict[int, Schedule] = {}
    for k, item in enumerate(value):
        at = JsonReader(item, f"{where}[{k}]")
        steps = at.integer("steps", high=STEPS_MAX)
        if steps in found:
            raise BundleError(f"{at.where}: {steps} steps are listed twice")
        window = Window(
            anchor=best.window.anchor,
            context=best.window.context,
            chunk=at.integer("chunk", high=CHUNK_MAX),
            steps=steps,
        )
        _check(at, policy, window, best.window)
        sigmas = at.numbers("sigmas", steps)
        try:
            found[steps] = Schedule(window, (*sigmas, last_sigma(policy)))
        except InputError as error:
            raise BundleError(f"{at.where}: {error}") from error
    return found


def _check(at: JsonReader, policy: str, window: Window, best: Window) -> None:
    have, want = flight_of(policy, window), flight_of(policy, best)
    if have != want:
        raise BundleError(
            f"{at.where}: {window.steps} steps of chunk {window.chunk} put {have} frames in "
            f"flight, the policy's graph has {want}; export the bundle again"
        )
    if window.steps >= best.steps:
        raise BundleError(
            f"{at.where}: a rung has fewer steps than the policy's {best.steps}, got {window.steps}"
        )


def derived_rungs(policy: str, schedules: Mapping[int, Schedule]) -> dict[int, Schedule]:
    """What a bundle that lists no rungs allows: its own levels, fewer of them, on the same graph.

    Every second level, every third and so on from the highest; in `diagonal` the slots that are
    freed hold further frames, so that a call makes more frames clean. Each level was trained, the
    layout as a whole was not: a bundle whose rungs are worse than the field lists ``[]``.
    """
    if policy == "parity":
        return {}
    best = schedules[max(schedules)]
    found = {}
    for steps in range(1, best.window.steps):
        if steps in schedules or best.window.steps % steps:
            continue
        stride = best.window.steps // steps
        chunk = best.window.chunk * (stride if policy == "diagonal" else 1)
        window = Window(best.window.anchor, best.window.context, chunk, steps)
        found[steps] = Schedule(window, (*best.sigmas[:-1][::stride], best.sigmas[-1]))
    return found
