"""TensorRT as the backend uses it: the same order of calls, the same refusals, real numbers.

An engine computes what ONNX Runtime computes, once it has been given weights; before, NaN. What it
cannot know is whether TensorRT builds these graphs: nothing here says so.
"""

from __future__ import annotations

import json
import types
from collections.abc import Callable
from dataclasses import dataclass, field
from enum import IntEnum
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime

from tests.engine.fake_cupy import FakeGpu

__all__ = ["FakeTensorRt"]

ARENA_BYTES_PER_NODE = 4096
# What wraps a module before a test gets it; the contract test checks every access with it.
WRAP: Callable[[Any], Any] | None = None


class DataType(IntEnum):
    FLOAT = 0
    HALF = 1
    INT8 = 2
    INT32 = 3
    BOOL = 4
    UINT8 = 5
    BF16 = 7
    INT64 = 8


class LayerType(IntEnum):
    CONVOLUTION = 0
    DECONVOLUTION = 7
    ELEMENTWISE = 10
    MATRIX_MULTIPLY = 15
    QUANTIZE = 40


class BuilderFlag(IntEnum):
    REFIT_IDENTICAL = 1
    STRIP_PLAN = 2
    TF32 = 3


class NetworkDefinitionCreationFlag(IntEnum):
    STRONGLY_TYPED = 1


class ExecutionContextAllocationStrategy(IntEnum):
    STATIC = 0
    USER_MANAGED = 2


class TensorIOMode(IntEnum):
    NONE = 0
    INPUT = 1
    OUTPUT = 2


TYPES = {
    onnx.TensorProto.FLOAT: DataType.FLOAT,
    onnx.TensorProto.FLOAT16: DataType.HALF,
    onnx.TensorProto.BFLOAT16: DataType.BF16,
    onnx.TensorProto.INT32: DataType.INT32,
    onnx.TensorProto.INT64: DataType.INT64,
    onnx.TensorProto.BOOL: DataType.BOOL,
    onnx.TensorProto.UINT8: DataType.UINT8,
}
LAYERS = {
    "Conv": LayerType.CONVOLUTION,
    "ConvTranspose": LayerType.DECONVOLUTION,
    "MatMul": LayerType.MATRIX_MULTIPLY,
    "Gemm": LayerType.MATRIX_MULTIPLY,
    "QuantizeLinear": LayerType.QUANTIZE,
}


class ILogger:
    INTERNAL_ERROR, ERROR, WARNING, INFO, VERBOSE = range(5)

    def __init__(self) -> None:
        pass

    def log(self, severity: int, msg: str) -> None:
        raise NotImplementedError


LOGGER: Any = ILogger  # whose severities the log is given


class IProgressMonitor:
    def __init__(self) -> None:
        pass


class IHostMemory(bytes):
    pass


@dataclass
class FakeTensorRt:
    """The module ``tensorrt``, and what shall fail.

    Attributes
    ----------
    faults : names of the calls that fail, such as "parse_from_file"; or "leak", where a plan
        keeps its weights, "foreign timings", "missing weights".
    built : names of the graphs that were built.
    flags : of the last build.
    """

    gpu: FakeGpu
    version: str = "11.4.0.106"
    faults: set[str] = field(default_factory=set)
    built: list[str] = field(default_factory=list)
    flags: set[BuilderFlag] = field(default_factory=set)
    level: int = 0
    timings: bytes = b""

    def module(self) -> Any:
        """What ``import tensorrt`` gives."""
        classes = _classes(self)
        found = types.SimpleNamespace(
            __version__=self.version,
            **{c.__name__: c for c in ENUMS},
            **{c.__name__: c for c in (ILogger, IProgressMonitor, *classes)},
        )
        return found if WRAP is None else WRAP(found)


ENUMS = (
    DataType,
    LayerType,
    BuilderFlag,
    NetworkDefinitionCreationFlag,
    ExecutionContextAllocationStrategy,
    TensorIOMode,
)


def _classes(fake: FakeTensorRt) -> list[type]:
    gpu = fake.gpu

    def fails(call: str, log: Any) -> bool:
        if call in fake.faults:
            log.log(LOGGER.ERROR, f"fault: {call}")
            log.log(LOGGER.INFO, "chatter")
        return call in fake.faults

    def _made(kind: str) -> None:
        if kind in fake.faults:  # what the real bindings do when the library gives nothing
            raise TypeError("pybind11::init(): factory function returned nullptr")

    class ITensor:
        def __init__(self, dtype: DataType) -> None:
            self.dtype = dtype

    class ILayer:
        def __init__(self, kind: LayerType, dtype: DataType) -> None:
            self.type = kind
            self._dtype = dtype

        def get_output(self, index: int) -> ITensor:
            assert index == 0
            return ITensor(self._dtype)

    class INetworkDefinition:
        def __init__(self) -> None:
            self.model: onnx.ModelProto | None = None
            self.path = Path()
            self._layers: list[ILayer] = []

        def read(self, path: Path) -> None:
            self.path = path
            self.model = onnx.load(path, load_external_data=False)
            inferred = onnx.shape_inference.infer_shapes(self.model)
            graph = inferred.graph
            types_of = {
                v.name: v.type.tensor_type.elem_type for v in (*graph.value_info, *graph.output)
            }
            self._layers = [
                ILayer(
                    LAYERS.get(node.op_type, LayerType.ELEMENTWISE),
                    TYPES.get(types_of.get(node.output[0], 1), DataType.FLOAT),
                )
                for node in graph.node
            ]

        @property
        def num_layers(self) -> int:
            return len(self._layers)

        def get_layer(self, index: int) -> ILayer:
            return self._layers[index]

    class ParserError:
        def desc(self) -> str:
            return "an operator that nobody knows"

    class ITimingCache:
        def __init__(self, data: bytes) -> None:
            self._data = data

        def serialize(self) -> IHostMemory:
            return IHostMemory(self._data + b"timed;")

    class IBuilderConfig:
        def __init__(self) -> None:
            self.flags = {BuilderFlag.TF32}
            self.builder_optimization_level = 3
            self.progress_monitor: Any = None
            self._cache: ITimingCache | None = None

        def set_flag(self, flag: BuilderFlag) -> None:
            self.flags.add(flag)

        def clear_flag(self, flag: BuilderFlag) -> None:
            self.flags.discard(flag)

        def create_timing_cache(self, serialized_timing_cache: bytes) -> ITimingCache | None:
            fake.timings = bytes(serialized_timing_cache)
            return ITimingCache(fake.timings)

        def set_timing_cache(self, cache: ITimingCache, ignore_mismatch: bool) -> bool:
            assert not ignore_mismatch
            if "foreign timings" in fake.faults and fake.timings:
                return False
            self._cache = cache
            return True

        def get_timing_cache(self) -> ITimingCache:
            assert self._cache is not None
            return self._cache

    class Builder:
        def __init__(self, logger: Any) -> None:
            _made("Builder")
            self._log = logger

        def create_network(self, flags: int = 0) -> INetworkDefinition:
            assert flags == 1 << NetworkDefinitionCreationFlag.STRONGLY_TYPED
            return INetworkDefinition()

        def create_builder_config(self) -> IBuilderConfig:
            return IBuilderConfig()

        def build_serialized_network(
            self, network: INetworkDefinition, config: IBuilderConfig
        ) -> IHostMemory | None:
            if fails("build_serialized_network", self._log):
                return None
            fake.flags, fake.level = set(config.flags), config.builder_optimization_level
            if not _report(config.progress_monitor):
                return None
            fake.built.append(network.path.stem)
            assert network.model is not None
            plan = json.dumps(_plan(network.model)).encode()
            if "leak" in fake.faults:
                plan += (network.path.parent / f"{network.path.stem}.bin").read_bytes()
            return IHostMemory(plan)

    class OnnxParser:
        def __init__(self, network: INetworkDefinition, logger: Any) -> None:
            _made("OnnxParser")
            self._network, self._log = network, logger
            self.num_errors = 0

        def parse_from_file(self, model: str) -> bool:
            if fails("parse_from_file", self._log):
                self.num_errors = 1
                return False
            self._network.read(Path(model))
            return True

        def get_error(self, index: int) -> ParserError:
            return ParserError()

    class Runtime:
        def __init__(self, logger: Any) -> None:
            _made("Runtime")
            self._log = logger

        def deserialize_cuda_engine(self, serialized_engine: Any) -> ICudaEngine | None:
            if fails("deserialize_cuda_engine", self._log):
                return None
            return ICudaEngine(json.loads(bytes(serialized_engine)), self._log)

    class ICudaEngine:
        def __init__(self, plan: dict[str, Any], log: Any) -> None:
            self._plan, self.log = plan, log
            self._names = [*plan["inputs"], *plan["outputs"]]
            self.weights: set[str] = set(plan["weights"])
            self.session: Any = None  # computes, once there are weights
            self.pending: Any = None
            if not self.weights:
                self.session = _session(plan["model"].encode("latin-1"))

        @property
        def num_io_tensors(self) -> int:
            return len(self._names)

        @property
        def device_memory_size_v2(self) -> int:
            return int(self._plan["arena"])

        def get_tensor_name(self, index: int) -> str:
            return str(self._names[index])

        def get_tensor_mode(self, name: str) -> TensorIOMode:
            return TensorIOMode.INPUT if name in self._plan["inputs"] else TensorIOMode.OUTPUT

        def get_tensor_shape(self, name: str) -> list[int]:
            return list((self._plan["inputs"] | self._plan["outputs"])[name][0])

        def get_tensor_dtype(self, name: str) -> DataType:
            return DataType((self._plan["inputs"] | self._plan["outputs"])[name][1])

        def create_execution_context(
            self,
            strategy: ExecutionContextAllocationStrategy = None,  # type: ignore[assignment]
        ) -> IExecutionContext | None:
            assert strategy is ExecutionContextAllocationStrategy.USER_MANAGED
            if fails("create_execution_context", self.log):
                return None
            return IExecutionContext(self)

        def compute(self, addresses: dict[str, int]) -> None:
            """Read, compute and write at the addresses."""
            given = {name: gpu.at(addresses[name]) for name in self._plan["inputs"]}
            outputs = list(self._plan["outputs"])
            if self.session is None:
                found = [np.full_like(gpu.at(addresses[name]), np.nan) for name in outputs]
            else:
                found = self.session.run(outputs, given)
            for name, value in zip(outputs, found, strict=True):
                gpu.at(addresses[name])[...] = value

    class IExecutionContext:
        def __init__(self, engine: ICudaEngine) -> None:
            self._engine = engine
            self._addresses: dict[str, int] = {}
            self._arena = (0, -1)

        def set_device_memory(self, memory: int, size: int) -> None:
            self._arena = (memory, size)

        def set_tensor_address(self, name: str, memory: int) -> bool:
            if fails("set_tensor_address", self._engine.log):
                return False
            self._addresses[name] = memory
            return True

        def execute_async_v3(self, stream_handle: int) -> bool:
            memory, size = self._arena
            if fails("execute_async_v3", self._engine.log):
                return False
            stream = gpu.streams[stream_handle]
            if "execute while recording" in fake.faults and stream.recorded is not None:
                return False
            if size < self._engine.device_memory_size_v2:
                self._engine.log.log(LOGGER.ERROR, "no memory was given")
                return False
            addresses = dict(self._addresses)

            def work() -> None:
                gpu.at(memory)
                self._engine.compute(addresses)

            stream.queue(work)
            return True

    class Refitter:
        def __init__(self, engine: ICudaEngine, logger: Any) -> None:
            _made("Refitter")
            self.engine, self._log = engine, logger
            self.given: Any = None

        def get_all_weights(self) -> list[str]:
            return sorted(self.engine.weights)

        def get_missing_weights(self) -> list[str]:
            return ["conv.weight"] if "missing weights" in fake.faults else []

        def refit_cuda_engine(self) -> bool:
            if fails("refit_cuda_engine", self._log):
                return False
            self.engine.session = self.given
            return True

    class OnnxParserRefitter:
        def __init__(self, refitter: Refitter, logger: Any) -> None:
            _made("OnnxParserRefitter")
            self._refitter, self._log = refitter, logger
            self.num_errors = 0

        def refit_from_file(self, model: str) -> bool:
            if fails("refit_from_file", self._log):
                self.num_errors = 1
                return False
            self._refitter.given = _session(model)
            return True

        def get_error(self, index: int) -> ParserError:
            return ParserError()

    return [
        ITensor,
        ILayer,
        INetworkDefinition,
        ParserError,
        ITimingCache,
        IBuilderConfig,
        Builder,
        OnnxParser,
        Runtime,
        ICudaEngine,
        IExecutionContext,
        Refitter,
        OnnxParserRefitter,
    ]


def _session(model: str | bytes) -> Any:
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1
    return onnxruntime.InferenceSession(model, options, providers=["CPUExecutionProvider"])


def _plan(model: onnx.ModelProto) -> dict[str, Any]:
    """What a stripped plan holds: everything but the weights."""

    def tensors(values: Any) -> dict[str, tuple[list[int], int]]:
        return {
            v.name: (
                [d.dim_value for d in v.type.tensor_type.shape.dim],
                int(TYPES[v.type.tensor_type.elem_type]),
            )
            for v in values
        }

    weights = [t.name for t in model.graph.initializer]
    plain = "" if weights else model.SerializeToString().decode("latin-1")
    return {
        "inputs": tensors(model.graph.input),
        "outputs": tensors(model.graph.output),
        "weights": weights,
        "model": plain,
        "arena": ARENA_BYTES_PER_NODE * len(model.graph.node),
    }


def _report(monitor: Any) -> bool:
    """Phases as a build reports them; False if it shall stop."""
    monitor.phase_start("Building engine", None, 3)
    going = True
    for step in range(3):
        monitor.phase_start("Timing kernels", "Building engine", 2)
        going = going and monitor.step_complete("Timing kernels", 0)
        monitor.phase_finish("Timing kernels")
        going = going and monitor.step_complete("Building engine", step)
    monitor.phase_finish("Building engine")
    return going
