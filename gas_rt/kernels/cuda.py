"""The kernels on an NVIDIA GPU, for arrays that are there already.

Arrays are those of any library that has ``__cuda_array_interface__`` or DLPack: CuPy, PyCUDA,
torch. Every function queues its work on the `stream` it is given, which must not be a default one,
and returns at once: nothing is synchronised, and nothing is allocated, since outputs and
workspaces are the caller's. Inputs are ordered after the stream their owner names; outputs are
ready when the work on `stream` is done. Arrays and streams belong to the current GPU.

Sizes are checked before anything is queued, values are not: they are in GPU memory. Non-finite
numbers and indices out of range give NaN or an empty place, as each function says, never an
access outside an array.

Importing this needs no GPU, no driver and no CUDA build; `available` says whether calls will run.
"""

from __future__ import annotations

from gas_rt.errors import BackendError
from gas_rt.kernels._cuda_body import (
    corners_of_vertices,
    inverse_maps,
    joint_transforms,
    pose_offsets,
    regress_joints,
    shape,
    skin,
    vertex_normals,
)
from gas_rt.kernels._cuda_call import module
from gas_rt.kernels._cuda_pictures import (
    CudaField,
    CudaShell,
    build_shell,
    chain_shells,
    check_shell,
    field_arrays,
    field_forward,
    march,
    query_shell,
    rasterize,
    shell_buffers,
)

__all__ = [
    "CudaField",
    "CudaShell",
    "available",
    "build_shell",
    "chain_shells",
    "check_shell",
    "corners_of_vertices",
    "field_arrays",
    "field_forward",
    "inverse_maps",
    "joint_transforms",
    "march",
    "pose_offsets",
    "query_shell",
    "rasterize",
    "regress_joints",
    "shape",
    "shell_buffers",
    "skin",
    "unavailable_because",
    "vertex_normals",
]


def unavailable_because() -> str | None:
    """What is missing, or None if the kernels can run."""
    try:
        module()
    except BackendError as error:
        return str(error)
    return None


def available() -> bool:
    """Whether the CUDA kernels are built and a driver and a GPU are there."""
    return unavailable_because() is None
