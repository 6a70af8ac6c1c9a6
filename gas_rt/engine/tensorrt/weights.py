"""Whether a plan that was built without weights really has none.

TensorRT strips what it can refit. Whether that is everything is its affair, so samples of the
bundle's weights are looked for in the plan's bytes, in the types a build may have cast them to.
Weights that it reordered would not be found.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np

from gas_rt.engine.onnx_external import ExternalData, external_data
from gas_rt.engine.protocol import GraphSpec

__all__ = ["weights_in"]

TENSORS_MAX = 128  # looked for: the largest; a search reads the whole plan
SAMPLE = 32  # consecutive values, from the middle of a tensor
DISTINCT_MIN = 12  # fewer different values may be in a plan by chance: zeros, ones, steps
# TensorProto.DataType, from onnx.proto3
FLOATS: dict[int, np.dtype[Any]] = {1: np.dtype("<f4"), 10: np.dtype("<f2")}
# int8 and bf16, of which NumPy knows no arithmetic: looked for as they are.
AS_THEY_ARE: dict[int, np.dtype[Any]] = {3: np.dtype("<i1"), 16: np.dtype("<u2")}


def weights_in(plan: bytes, spec: GraphSpec) -> list[str]:
    """Names of the graph's weights of which a sample was found in `plan`."""
    entries = sorted(
        external_data(spec.path.read_bytes()), key=lambda e: (-(e.length or 0), e.tensor)
    )
    return [
        entry.tensor
        for entry in entries[:TENSORS_MAX]
        if any(sample in plan for sample in _samples(entry, spec))
    ]


def _samples(entry: ExternalData, spec: GraphSpec) -> Iterator[bytes]:
    """Bytes from the middle of a tensor, floats as fp32 and fp16; none if too small or plain."""
    dtype = (FLOATS | AS_THEY_ARE).get(entry.data_type)
    if dtype is None or entry.length is None:
        return
    count = entry.length // dtype.itemsize
    with (spec.path.parent / entry.location).open("rb") as stream:
        stream.seek(entry.offset + max(count - SAMPLE, 0) // 2 * dtype.itemsize)
        values = np.frombuffer(stream.read(min(count, SAMPLE) * dtype.itemsize), dtype)
    if len(np.unique(values)) < DISTINCT_MIN:
        return
    if entry.data_type in AS_THEY_ARE:
        yield values.tobytes()
        return
    for kind in FLOATS.values():
        with np.errstate(over="ignore"):
            yield values.astype(kind).tobytes()
