"""An engine that can be slowed for a while: each graph call then takes a multiple of its time."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from numpy.typing import NDArray

from gas_rt.core import BackendReport
from gas_rt.engine import Engine, Graph, GraphSpec

__all__ = ["Brake", "BrakedEngine"]


@dataclass
class Brake:
    """Calls that begin in [`from_ns`, `until_ns`) take `factor` times as long.

    The rest of the time passes asleep, as it would on a device that others use too.
    """

    from_ns: int = 0
    until_ns: int = 0
    factor: float = 1.0
    clock: Callable[[], int] = time.monotonic_ns
    sleep_s: Callable[[float], None] = time.sleep

    def run(self, call: Callable[[], Any]) -> Any:
        """Make a call, braked if this is the time for it."""
        began_ns = self.clock()
        made = call()
        if self.from_ns <= began_ns < self.until_ns:
            self.sleep_s((self.factor - 1) * (self.clock() - began_ns) / 1e9)
        return made


@dataclass(frozen=True)
class BrakedGraph:
    """A graph behind a brake."""

    graph: Graph
    brake: Brake

    @property
    def spec(self) -> GraphSpec:
        """The graph's own."""
        return self.graph.spec

    @property
    def report(self) -> BackendReport:
        """The graph's own."""
        return self.graph.report

    def run(self, inputs: Mapping[str, NDArray[Any]]) -> dict[str, NDArray[Any]]:
        """The graph's answer, later."""
        return self.brake.run(lambda: self.graph.run(inputs))


@dataclass(frozen=True)
class BrakedEngine:
    """An engine whose graphs share a brake."""

    engine: Engine
    brake: Brake

    @property
    def report(self) -> BackendReport:
        """The engine's own."""
        return self.engine.report

    def load(self, spec: GraphSpec) -> Graph:
        """Compile a graph and put it behind the brake."""
        return BrakedGraph(self.engine.load(spec), self.brake)

    def close(self) -> None:
        """Free every graph."""
        self.engine.close()
