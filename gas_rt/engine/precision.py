"""In which precision a graph computes: what its export wrote, compared with what is asked for.

ONNX Runtime and TensorRT run a graph in the types it was written in (TensorRT from version 11 on
knows no other way), so for them a precision is a property of the file and not a switch. The export
notes it in the ONNX file's metadata; a file without the note computes in fp32. A bundle that was
exported in a precision may have graphs that its recipe left in fp32, as those that run once per
avatar; they say what the recipe was and are no reason to refuse the bundle.
"""

from __future__ import annotations

from gas_rt.engine.onnx_external import metadata
from gas_rt.engine.protocol import GraphSpec, Precision
from gas_rt.errors import BackendError, BundleError

__all__ = [
    "METADATA_KEY",
    "RECIPE_KEY",
    "exported_precision",
    "quantised_or_asked",
    "require_precision",
]

METADATA_KEY = "gas_rt.precision"
RECIPE_KEY = "gas_rt.recipe"  # the precision that the bundle was exported in
PRECISIONS = ("fp32", "bf16", "fp16", "int8")
# The teacher stays in fp32 whatever the rest of a bundle computes in: avatars are baked from it.
ALWAYS_FP32 = ("nerf_encoder", "nerf_field")


def exported_precision(spec: GraphSpec) -> str:
    """The precision that a graph was exported in."""
    return _notes(spec)[0]


def require_precision(spec: GraphSpec, wanted: Precision, *, backend: str) -> str:
    """The precision a graph was exported in, or BackendError if another one is asked for."""
    found, recipe = _notes(spec)
    left_wide = found == "fp32" and (recipe == wanted or spec.name in ALWAYS_FP32)
    if wanted in ("auto", found) or left_wide:
        return found
    raise BackendError(
        f"precision {wanted}: {backend} runs a graph as it was exported, and {spec.path.name} "
        f"computes in {found}; export the bundle with --precision {wanted}, or ask for 'auto'"
    )


def quantised_or_asked(spec: GraphSpec, wanted: Precision) -> bool:
    """Whether int8 is in the graph or in the wish: OpenVINO chooses between all other types."""
    return wanted == "int8" or exported_precision(spec) == "int8"


def _notes(spec: GraphSpec) -> tuple[str, str]:
    """What a graph computes in, and what its bundle was exported in."""
    try:
        notes = metadata(spec.path.read_bytes())
    except (OSError, BundleError) as error:
        raise BackendError(
            f"graph {spec.name}: cannot read {spec.path.name}: {error}; export the bundle again"
        ) from error
    found = notes.get(METADATA_KEY, "fp32")
    recipe = notes.get(RECIPE_KEY, found)
    for value in (found, recipe):
        if value not in PRECISIONS:
            raise BackendError(
                f"graph {spec.name}: was exported in precision {value!r:.40}, known are "
                f"{', '.join(PRECISIONS)}; upgrade gas-rt or export the bundle again"
            )
    return found, recipe
