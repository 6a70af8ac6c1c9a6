"""Which way to compute a graph on the processor is the faster: measured once, then remembered."""

from __future__ import annotations

import json
import statistics
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from gas_rt.engine.availability import backend_status
from gas_rt.engine.machine import available_cpus
from gas_rt.engine.plan_key import plan_key
from gas_rt.engine.protocol import Graph, GraphSpec, Precision

if TYPE_CHECKING:
    from gas_rt.engine.plan_store import PlanStore

__all__ = ["RUNS", "WARM_UPS", "Rival", "choice_machine", "fastest", "measure", "remembered"]

WARM_UPS, RUNS = 2, 5  # of each that is measured
CLEARLY = 0.95  # of the first one's time: less is no reason to take another
METHOD = "1"  # of measuring and of what is kept of it


class Rival(NamedTuple):
    """A backend that computes in a precision."""

    backend: str
    precision: Precision

    def __str__(self) -> str:
        return f"{self.backend} in {self.precision}"


def fastest(rivals: Sequence[Rival], times_ms: Mapping[str, float]) -> Rival:
    """The first unless another is clearly faster, so that noise does not decide a near tie."""
    first = rivals[0]
    best = min(rivals, key=lambda rival: times_ms[str(rival)])
    return best if times_ms[str(best)] < CLEARLY * times_ms[str(first)] else first


def remembered(
    store: PlanStore | None,
    spec: GraphSpec,
    *,
    rivals: Sequence[str],
    threads: int,
    measured: Callable[[], dict[str, float]],
) -> tuple[dict[str, float], bool]:
    """Milliseconds of a run by rival, and whether they were measured before, on this machine.

    They lie in the store beside the plans, under everything that could change them, since to
    measure takes longer than to open what was compiled before.
    """
    if store is None:
        return measured(), False
    key = plan_key(
        spec,
        backend="auto",
        precision="measured",
        flags={
            "method": METHOD,
            "processors": str(available_cpus()),
            "rivals": ", ".join(rivals),
            "threads": str(threads),
        },
        machine=choice_machine(),
    )
    plan = store.build(key, lambda steps: json.dumps(measured()).encode())
    times: dict[str, float] = json.loads(plan.read())
    return times, plan.outcome == "found"


def choice_machine() -> dict[str, str]:
    """The machine's fields of what was measured."""
    import openvino

    from gas_rt.engine.openvino import openvino_machine

    return openvino_machine(openvino.Core()) | backend_status("onnxruntime").versions


def measure(
    graphs: Mapping[str, Graph], *, clock_ns: Callable[[], int] = time.perf_counter_ns
) -> dict[str, float]:
    """By name, the median milliseconds of a run; graphs take turns, since machines drift."""
    times: dict[str, list[int]] = {name: [] for name in graphs}
    inputs = {name: dict(_random(graph.spec)) for name, graph in graphs.items()}
    for turn in range(WARM_UPS + RUNS):
        for name, graph in graphs.items():
            started = clock_ns()
            graph.run(inputs[name])
            if turn >= WARM_UPS:
                times[name].append(clock_ns() - started)
    return {name: statistics.median(values) / 1e6 for name, values in times.items()}


def _random(spec: GraphSpec) -> Iterator[tuple[str, NDArray[Any]]]:
    """Inputs above 0, as noise levels must be, so that values stay finite: others may be slower."""
    generator = np.random.default_rng(0)
    for name, tensor in spec.inputs.items():
        values = generator.uniform(0.5, 1.5, tensor.shape)
        yield name, values.astype(tensor.dtype)
