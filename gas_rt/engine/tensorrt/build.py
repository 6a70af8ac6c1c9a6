"""ONNX file to plan: parsed, audited, built without its weights, packed for the plan store.

The network is strongly typed on both versions, so it computes in the types of the ONNX file; an
fp32 file makes an fp32 plan without a word, which is why the layers are counted before building.
"""

from __future__ import annotations

import json
import struct
import threading
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Protocol

from gas_rt.engine.protocol import GraphSpec
from gas_rt.engine.tensorrt.api import PlanUnreadableError, TensorRt
from gas_rt.engine.tensorrt.weights import weights_in
from gas_rt.errors import BackendError, BuildCancelledError

__all__ = ["BUILD_FLAGS", "Steps", "UnkeptSteps", "build_plan", "pack", "unpack"]

# What changes a plan, beside the ONNX file; part of its key in the store.
BUILD_FLAGS = {
    "format": "1",  # of what `pack` writes
    "network": "strongly-typed",
    "weights": "stripped, refit identical",
    "tf32": "off",
    "optimization_level": "3",
}
OPTIMIZATION_LEVEL = 3  # TensorRT's default; more tries more kernels and takes far longer
PRECISION_OF_TYPE = {"FLOAT": "fp32", "HALF": "fp16", "BF16": "bf16"}
HEADER_BYTES_MAX = 1 << 16


class Steps(Protocol):
    """What a build tells and asks meanwhile: `plan_store.BuildSteps`, or `UnkeptSteps`."""

    @property
    def cancelled(self) -> bool:
        """Whether to stop."""
        ...

    def tell(self, share: float, doing: str) -> None:
        """`share` of the build is done, from 0 to 1."""
        ...

    def timing_cache(self) -> bytes:
        """What earlier builds measured."""
        ...

    def keep_timing_cache(self, data: bytes) -> None:
        """Keep what this one measured."""
        ...


@dataclass
class UnkeptSteps:
    """Of a build that nothing is kept of."""

    progress: Callable[[float, str], None] | None
    cancel: threading.Event | None

    @property
    def cancelled(self) -> bool:
        """Whether to stop."""
        return self.cancel is not None and self.cancel.is_set()

    def tell(self, share: float, doing: str) -> None:
        """Pass it on."""
        if self.progress is not None:
            self.progress(share, doing)

    def timing_cache(self) -> bytes:
        """None."""
        return b""

    def keep_timing_cache(self, data: bytes) -> None:
        """Not kept."""


def build_plan(trt: TensorRt, spec: GraphSpec, steps: Steps, *, precision: str) -> bytes:
    """A graph's plan with what was found out of it, for `unpack`.

    Raises BackendError if TensorRT cannot read or build the graph, if its layers do not compute in
    `precision` or if weights are found in the plan, and BuildCancelledError if `steps` says so.
    """
    module = trt.module
    builder = trt.make("Builder")
    flag = module.NetworkDefinitionCreationFlag.STRONGLY_TYPED
    network = builder.create_network(1 << int(flag))
    parser = trt.make("OnnxParser", network)
    if not parser.parse_from_file(str(spec.path)):
        errors = "; ".join(parser.get_error(k).desc() for k in range(parser.num_errors))
        raise trt.failure(
            f"graph {spec.name}: TensorRT cannot read {spec.path.name}: {errors}",
            "export the bundle again",
        )
    layers = _audit(trt, spec, network, precision=precision)
    plan = _serialized(trt, spec, builder, network, steps)
    # Weights of a bundle may not be passed on; a plan that holds them would be a copy.
    if found := weights_in(plan, spec):
        raise BackendError(
            f"graph {spec.name}: TensorRT {trt.version} left weights in a plan that was to have "
            f"none, {found[0]!r} among {len(found)}; nothing was stored. Use backend "
            "'onnxruntime-cuda', and report this"
        )
    return pack(plan, {"tensorrt": trt.version, "precision": precision, "layers": layers})


def _serialized(trt: TensorRt, spec: GraphSpec, builder: Any, network: Any, steps: Steps) -> bytes:
    module = trt.module
    config = builder.create_builder_config()
    config.set_flag(module.BuilderFlag.STRIP_PLAN)
    # Refit with the same weights only, which costs the kernels nothing; the plan's key holds the
    # weights' hash, so they are the same.
    config.set_flag(module.BuilderFlag.REFIT_IDENTICAL)
    config.clear_flag(module.BuilderFlag.TF32)  # where a graph says fp32, it means it
    config.builder_optimization_level = OPTIMIZATION_LEVEL
    _use_timings(config, steps.timing_cache())
    config.progress_monitor = monitor = _monitor(module, steps)
    plan = builder.build_serialized_network(network, config)
    if monitor.problem is not None:
        raise monitor.problem
    if plan is None:
        raise trt.failure(
            f"graph {spec.name}: TensorRT cannot build {spec.path.name}",
            "free memory on the GPU, or use backend 'onnxruntime-cuda'",
        )
    steps.keep_timing_cache(bytes(memoryview(config.get_timing_cache().serialize())))
    return bytes(memoryview(plan))


def _use_timings(config: Any, kept: bytes) -> None:
    """Start from what earlier builds measured; from nothing if TensorRT takes none of it."""
    for data in (kept, b""):
        cache = config.create_timing_cache(data)
        if cache is not None and config.set_timing_cache(cache, ignore_mismatch=False):
            return


def _audit(trt: TensorRt, spec: GraphSpec, network: Any, *, precision: str) -> dict[str, int]:
    """How many convolutions and matrix products compute in which type; raise if in another."""
    module = trt.module
    heavy = {
        module.LayerType.CONVOLUTION,
        module.LayerType.DECONVOLUTION,
        module.LayerType.MATRIX_MULTIPLY,
    }
    types: Counter[str] = Counter()
    for index in range(network.num_layers):
        layer = network.get_layer(index)
        if layer.type in heavy:
            name = layer.get_output(0).dtype.name
            types[PRECISION_OF_TYPE.get(name, name)] += 1
        elif layer.type == module.LayerType.QUANTIZE:
            types["int8"] += 1
    # Some layers stay in fp32 by intent; none of the precision that was promised is the mistake.
    wrong = types["bf16"] + types["fp16"] if precision == "fp32" else 0
    if types and (wrong or not types[precision]):
        raise BackendError(
            f"graph {spec.name}: {spec.path.name} says that it computes in {precision}, its layers "
            f"say {dict(types)}; TensorRT runs them as they are, so export the bundle again"
        )
    return dict(types)


def _monitor(module: Any, steps: Steps) -> Any:
    """Tells `steps` how far the outermost phase is; TensorRT calls it from threads of its own."""

    class Monitor(module.IProgressMonitor):  # type: ignore[misc]
        def __init__(self) -> None:
            module.IProgressMonitor.__init__(self)
            self.problem: Exception | None = None  # that stops the build; nothing may be raised
            self.outermost: dict[str, int] = {}

        def phase_start(self, phase_name: str, parent_phase: str | None, num_steps: int) -> None:
            if parent_phase is None:
                self.outermost[phase_name] = max(num_steps, 1)

        def step_complete(self, phase_name: str, step: int) -> bool:
            try:
                if steps.cancelled:
                    raise BuildCancelledError(
                        f"building was cancelled in {phase_name}; nothing was kept"
                    )
                if phase_name in self.outermost:
                    share = min((step + 1) / self.outermost[phase_name], 1.0)
                    steps.tell(share, phase_name)
            except Exception as problem:
                self.problem = self.problem or problem
            return self.problem is None

        def phase_finish(self, phase_name: str) -> None:
            self.outermost.pop(phase_name, None)

    return Monitor()


def pack(plan: bytes, facts: dict[str, Any]) -> bytes:
    """A plan behind its facts: 4 bytes of length (little-endian), JSON, plan."""
    header = json.dumps(facts, sort_keys=True).encode()
    return struct.pack("<I", len(header)) + header + plan


def unpack(packed: bytes, *, where: str) -> tuple[dict[str, Any], memoryview]:
    """Facts and plan of what `pack` made."""
    size = struct.unpack("<I", packed[:4])[0] if len(packed) >= 4 else HEADER_BYTES_MAX + 1
    try:
        if size > HEADER_BYTES_MAX:
            raise ValueError(f"its first bytes announce a header of {size}")
        facts = json.loads(packed[4 : 4 + size])
        if not isinstance(facts, dict):
            raise ValueError("its header is not an object")
    except ValueError as error:
        raise PlanUnreadableError(
            f"{where}: the stored plan is not one of TensorRT's ({error}); load again, which "
            "builds it anew"
        ) from error
    return facts, memoryview(packed)[4 + size :]
