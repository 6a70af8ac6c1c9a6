"""Plan to engine: deserialised, then given its weights from the bundle's own files."""

from __future__ import annotations

from typing import Any

from gas_rt.engine.protocol import GraphSpec
from gas_rt.engine.tensorrt.api import PlanUnreadableError, TensorRt
from gas_rt.errors import BackendError

__all__ = ["open_plan"]

BUILD_AGAIN = "load again, which builds it anew"
# NumPy's name → TensorRT's DataType
TYPES = {
    "float32": "FLOAT",
    "float16": "HALF",
    "int32": "INT32",
    "int64": "INT64",
    "uint8": "UINT8",
    "bool": "BOOL",
}


def open_plan(trt: TensorRt, runtime: Any, plan: memoryview, spec: GraphSpec) -> Any:
    """The ICudaEngine of a plan, with weights. `plan` comes from the store, which vouches for it.

    Raises BackendError if TensorRT refuses the plan, or does not find all weights in the ONNX file
    and the safetensors file it points into.
    """
    engine = runtime.deserialize_cuda_engine(plan)
    if engine is None:
        raise trt.failure(
            f"graph {spec.name}: TensorRT refuses the stored plan", BUILD_AGAIN, PlanUnreadableError
        )
    _refit(trt, engine, spec)
    _check_tensors(trt, engine, spec)
    return engine


def _refit(trt: TensorRt, engine: Any, spec: GraphSpec) -> None:
    refitter = trt.make("Refitter", engine)
    if not refitter.get_all_weights():
        return  # a graph without weights, of which nothing was stripped
    reader = trt.make("OnnxParserRefitter", refitter)
    if not reader.refit_from_file(str(spec.path)):
        errors = "; ".join(reader.get_error(k).desc() for k in range(reader.num_errors))
        raise trt.failure(
            f"graph {spec.name}: TensorRT cannot take the weights of {spec.path.name}: {errors}",
            BUILD_AGAIN,
            PlanUnreadableError,
        )
    # An engine with a weight left out would run, on whatever its memory holds.
    if missing := refitter.get_missing_weights():
        raise trt.failure(
            f"graph {spec.name}: {spec.path.name} does not have {len(missing)} weights that the "
            f"plan wants, {missing[0]!r} for one",
            BUILD_AGAIN,
            PlanUnreadableError,
        )
    if not refitter.refit_cuda_engine():
        raise trt.failure(
            f"graph {spec.name}: TensorRT cannot put the weights in",
            BUILD_AGAIN,
            PlanUnreadableError,
        )


def _check_tensors(trt: TensorRt, engine: Any, spec: GraphSpec) -> None:
    """Raise if the engine's inputs and outputs are not what bundle.json says of the graph."""
    module = trt.module
    names = [engine.get_tensor_name(index) for index in range(engine.num_io_tensors)]
    for kind, mode, want in (
        ("input", module.TensorIOMode.INPUT, spec.inputs),
        ("output", module.TensorIOMode.OUTPUT, spec.outputs),
    ):
        have = {name for name in names if engine.get_tensor_mode(name) == mode}
        if have != set(want):
            raise BackendError(
                f"graph {spec.name}: the ONNX file has the {kind}s {sorted(have)}, bundle.json "
                f"says {sorted(want)}; export the bundle again"
            )
        for name, tensor in want.items():
            shape = tuple(engine.get_tensor_shape(name))
            # By name: not every TensorRT type has a NumPy one.
            found = engine.get_tensor_dtype(name).name
            if shape != tensor.shape or found != TYPES[tensor.dtype]:
                raise BackendError(
                    f"graph {spec.name}, {kind} {name!r}: the ONNX file has {found} of shape "
                    f"{list(shape)}, bundle.json says {tensor.dtype} of {list(tensor.shape)}; "
                    "export the bundle again"
                )
