"""In which precision a graph computes: what its export wrote, compared with what is asked for.

ONNX Runtime and TensorRT run a graph in the types it was written in (TensorRT from version 11 on
knows no other way), so for them a precision is a property of the file and not a switch. The export
notes it in the ONNX file's metadata; a file without the note computes in fp32.
"""

from __future__ import annotations

from gas_rt.engine.onnx_external import metadata
from gas_rt.engine.protocol import GraphSpec, Precision
from gas_rt.errors import BackendError, BundleError

__all__ = ["METADATA_KEY", "exported_precision", "require_precision"]

METADATA_KEY = "gas_rt.precision"
PRECISIONS = ("fp32", "bf16", "fp16", "int8")
# The teacher stays in fp32 whatever the rest of a bundle computes in: avatars are baked from it.
ALWAYS_FP32 = ("nerf_encoder", "nerf_field")


def exported_precision(spec: GraphSpec) -> str:
    """The precision that a graph was exported in."""
    try:
        found = metadata(spec.path.read_bytes()).get(METADATA_KEY, "fp32")
    except (OSError, BundleError) as error:
        raise BackendError(
            f"graph {spec.name}: cannot read {spec.path.name}: {error}; export the bundle again"
        ) from error
    if found not in PRECISIONS:
        raise BackendError(
            f"graph {spec.name}: was exported in precision {found!r:.40}, known are "
            f"{', '.join(PRECISIONS)}; upgrade gas-rt or export the bundle again"
        )
    return found


def require_precision(spec: GraphSpec, wanted: Precision, *, backend: str) -> str:
    """The precision a graph was exported in, or BackendError if another one is asked for."""
    found = exported_precision(spec)
    if wanted in ("auto", found) or (spec.name in ALWAYS_FP32 and found == "fp32"):
        return found
    raise BackendError(
        f"precision {wanted}: {backend} runs a graph as it was exported, and {spec.path.name} "
        f"computes in {found}; export the bundle with --precision {wanted}, or ask for 'auto'"
    )
