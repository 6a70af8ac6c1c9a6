"""An engine that runs: buffers on the GPU, a CUDA graph per set of them, copies only on request."""

from __future__ import annotations

import threading
import warnings
from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from gas_rt.core import BackendReport
from gas_rt.engine.protocol import GraphSpec, checked_inputs
from gas_rt.engine.tensorrt.api import TensorRt
from gas_rt.engine.tensorrt.device import Device
from gas_rt.errors import BackendError, GasRtWarning, InputError

__all__ = ["DeviceRun", "TensorRtGraph"]

Buffers = dict[str, Any]  # CuPy arrays by the tensor's name


class TensorRtGraph:
    """One graph on the GPU.

    `run` copies in and out. `device_run` leaves everything where it is, for who feeds the next
    graph from this one's outputs.
    """

    def __init__(
        self,
        trt: TensorRt,
        engine: Any,
        spec: GraphSpec,
        *,
        device: Device,
        report: BackendReport,
        cuda_graphs: bool,
        strict: bool,
    ) -> None:
        self.spec = spec
        self.report = report
        self._trt = trt
        self._device = device
        self._engine = engine
        self._strict = strict
        self._use_graphs = cuda_graphs
        self._arena_moves = 0
        self._running = threading.Lock()
        with device.turn(f"graph {spec.name}"):
            strategy = trt.module.ExecutionContextAllocationStrategy.USER_MANAGED
            self._context = engine.create_execution_context(strategy)
            if self._context is None:
                raise trt.failure(
                    f"graph {spec.name}: TensorRT makes no execution context",
                    "free memory on the GPU",
                )
            device.arena.reserve(engine.device_memory_size_v2)
            self._own = DeviceRun(self, {})
            self._host = {
                name: device.pinned(tensor.shape, tensor.dtype)
                for name, tensor in spec.outputs.items()
            }

    def run(self, inputs: Mapping[str, NDArray[Any]]) -> dict[str, NDArray[Any]]:
        """Run once; outputs are the caller's own."""
        given = checked_inputs(self.spec, inputs)
        own, stream = self._own, self._device.stream
        with self._running:
            with self._device.turn(f"graph {self.spec.name}"):
                for name, array in given.items():
                    own.inputs[name].set(array, stream=stream)
                own.launch()
                for name, host in self._host.items():
                    own.outputs[name].get(stream=stream, out=host, blocking=False)
                done = stream.record()
            # Outside the turn: other graphs may queue meanwhile. `given` lives until the copies
            # are done.
            try:
                done.synchronize()
            except RuntimeError as error:
                raise BackendError(f"graph {self.spec.name}: CUDA failed: {error}") from error
            return {name: np.array(host) for name, host in self._host.items()}

    def device_run(self, feedback: Mapping[str, str] | None = None) -> DeviceRun:
        """Buffers of one's own on the GPU to launch the graph on.

        Parameters
        ----------
        feedback : input → output that the next launch shall read it from, ``{"x": "x_next"}`` for
            a denoiser. Two buffers change places at each launch, so nothing is copied.
        """
        with self._device.turn(f"graph {self.spec.name}"):
            return DeviceRun(self, dict(feedback or {}))

    def close(self) -> None:
        """Free context, engine and buffers; work that is queued must be done."""
        self._own.forget()
        self._context = None
        self._engine = None

    def enqueue(self, buffers: Buffers) -> None:
        """Queue the graph on `buffers`, on the device's stream."""
        for name, array in buffers.items():
            if not self._context.set_tensor_address(name, array.data.ptr):
                raise self._failure(f"refuses the address of {name!r}")
        if not self._context.execute_async_v3(self._device.stream.ptr):
            raise self._failure("cannot run")

    def record(self, buffers: Buffers) -> Any:
        """The same as a CUDA graph, or None where that is impossible (raises if strict)."""
        if not self._use_graphs:
            return None
        stream = self._device.stream
        self.enqueue(buffers)  # TensorRT must have run once before it can be recorded
        mode = self._device.cupy.cuda.runtime.streamCaptureModeThreadLocal
        stream.begin_capture(mode)
        problem: Exception | None = None
        try:
            self.enqueue(buffers)
        except (BackendError, RuntimeError) as error:
            problem = error
        try:
            graph = stream.end_capture()  # also after a failure, or the stream stays unusable
        except RuntimeError as error:
            problem = problem or error
        if problem is None:
            return graph
        self._use_graphs = False
        what = f"graph {self.spec.name}: cannot be recorded as a CUDA graph: {problem}"
        if self._strict:
            raise BackendError(f"{what}. Refused, since 'strict' allows no fallback") from problem
        self.report = replace(self.report, notes=(*self.report.notes, f"{what}; runs without"))
        warnings.warn(f"{what}; it runs without", GasRtWarning, stacklevel=3)
        return None

    def point_to_arena(self) -> int:
        """Tell the context where the arena is; returns how often that has moved."""
        arena = self._device.arena
        if self._arena_moves != arena.moves:
            self._context.set_device_memory(arena.address, arena.bytes)
            self._arena_moves = arena.moves
        return arena.moves

    @property
    def device(self) -> Device:
        """Stream and arena."""
        return self._device

    def _failure(self, what: str) -> BackendError:
        return self._trt.failure(f"graph {self.spec.name}: TensorRT {what}", "load the model again")


class DeviceRun:
    """A graph with buffers on the GPU; made by `TensorRtGraph.device_run`.

    Fill `inputs` on `stream` (or have it wait for whoever does), `launch`, use `outputs` on
    `stream`. Nothing here waits. Inputs keep their contents from launch to launch, except those
    that an output feeds.
    """

    def __init__(self, graph: TensorRtGraph, feedback: dict[str, str]) -> None:
        self._graph = graph
        self._turns = 0
        spec, device = graph.spec, graph.device
        for name, source in feedback.items():
            if spec.inputs.get(name) is None or spec.inputs[name] != spec.outputs.get(source):
                raise InputError(
                    f"graph {spec.name}: output {source!r} cannot feed input {name!r}, their "
                    f"shapes or types differ: {spec.outputs.get(source)}, {spec.inputs.get(name)}"
                )
        with device.stream:
            first = {
                name: device.cupy.zeros(tensor.shape, tensor.dtype)
                for name, tensor in {**spec.inputs, **spec.outputs}.items()
            }
        swapped = {name: first[source] for name, source in feedback.items()}
        swapped |= {source: first[name] for name, source in feedback.items()}
        self._sets = [first, first | swapped] if feedback else [first]
        self._recorded: dict[int, Any] = {}
        self._arena_moves = 0

    @property
    def stream(self) -> Any:
        """The CuPy stream of every launch."""
        return self._graph.device.stream

    @property
    def inputs(self) -> Buffers:
        """What the next launch reads."""
        return {name: self._at(self._turns)[name] for name in self._graph.spec.inputs}

    @property
    def outputs(self) -> Buffers:
        """What the last launch wrote; before the first one, what it will write."""
        return {name: self._at(max(self._turns - 1, 0))[name] for name in self._graph.spec.outputs}

    def launch(self) -> None:
        """Queue the graph once."""
        graph = self._graph
        with graph.device.turn(f"graph {graph.spec.name}"):
            moves = graph.point_to_arena()
            if moves != self._arena_moves:  # what was recorded points into the old block
                self._recorded.clear()
                self._arena_moves = moves
            index = self._turns % len(self._sets)
            if index not in self._recorded:
                self._recorded[index] = graph.record(self._sets[index])
            if (recorded := self._recorded[index]) is not None:
                recorded.launch(stream=self.stream)
            else:
                graph.enqueue(self._sets[index])
            self._turns += 1

    def forget(self) -> None:
        """Let go of buffers and recorded graphs."""
        self._recorded.clear()
        self._sets = []

    def _at(self, turn: int) -> Buffers:
        return self._sets[turn % len(self._sets)]
