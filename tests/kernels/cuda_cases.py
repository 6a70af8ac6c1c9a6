"""The GPU kernels' cases on a toy body, and arrays that look like a GPU's."""

from __future__ import annotations

import ctypes
from dataclasses import replace
from typing import Any

import numpy as np
from field_cases import camera

from benchmarks.gpu_cases import Case, cases
from benchmarks.gpu_scenes import Scene, random_field
from gas_rt.kernels import HashGridConfig, occupancy
from tests.toy_body import toy_body

SMALL = HashGridConfig(levels=4, features=4, log2_table=10, base_resolution=6, per_level_scale=1.7)


# The names of `toy_cases`, known before anything is computed.
CASES = (
    *("shape of 2", "regress_joints of 2", "joint_transforms of 2", "pose_offsets of 2"),
    *("skin of 2", "inverse_maps of 2", "vertex_normals of 2", "rasterize 48x48", "build_shell"),
    *("query_shell", "field_forward float", "field_forward half"),
    *("march baked 48x48", "march fast 48x48"),
)


def toy_cases() -> dict[str, Case]:
    """The cases of the toy scene by name."""
    named = {case.name: case for case in cases(toy_scene(), points=2000)}
    assert tuple(named) == CASES
    return named


def toy_scene(*, poses: int = 2, side: int = 48) -> Scene:
    """A small body whose every blend shape does something, in a few poses."""
    rng = np.random.default_rng(0)
    body = toy_body()
    body = replace(body, posedirs=rng.normal(0, 2e-3, body.posedirs.shape).astype(np.float32))
    rotations = rng.normal(0, 0.2, (poses, len(body.parents), 3)).astype(np.float32)
    betas = rng.normal(size=(poses, body.shape_count)).astype(np.float32)
    field = random_field(body, SMALL, margin_m=0.2)
    return Scene(
        body,
        betas,
        rotations,
        field,
        occupancy(field, resolution=16, threshold=70.0),
        camera(side, side, distance_m=2.5),
        radius_m=0.05,
    )


def aligned(array: np.ndarray) -> np.ndarray:
    """A copy at an address such as GPU allocators return."""
    spare = np.empty(array.nbytes + 256, np.uint8)
    start = -spare.ctypes.data % 256
    copy = spare[start : start + array.nbytes].view(array.dtype).reshape(array.shape)
    copy[...] = array
    return copy


class OnGpu:
    """A NumPy array that says it lies in a GPU's memory."""

    def __init__(self, array: np.ndarray, *, stream: int | None = None) -> None:
        self.array = array
        self.stream = stream

    @property
    def __cuda_array_interface__(self) -> dict[str, Any]:
        a = self.array
        described: dict[str, Any] = {
            "version": 3,
            "shape": a.shape,
            "typestr": a.dtype.str,
            "data": (a.ctypes.data if a.size else 0, not a.flags.writeable),
            "strides": None if a.flags.c_contiguous else a.strides,
        }
        if self.stream is not None:
            described["stream"] = self.stream
        return described


class _Managed(ctypes.Structure):
    _fields_ = (
        ("data", ctypes.c_void_p),
        ("device", ctypes.c_int32 * 2),
        ("ndim", ctypes.c_int32),
        ("code", ctypes.c_uint8),
        ("bits", ctypes.c_uint8),
        ("lanes", ctypes.c_uint16),
        ("shape", ctypes.POINTER(ctypes.c_int64)),
        ("strides", ctypes.POINTER(ctypes.c_int64)),
        ("byte_offset", ctypes.c_uint64),
        ("context", ctypes.c_void_p),
        ("deleter", ctypes.c_void_p),
    )


_new_capsule = ctypes.pythonapi.PyCapsule_New
_new_capsule.restype = ctypes.py_object
_new_capsule.argtypes = (ctypes.c_void_p, ctypes.c_char_p, ctypes.c_void_p)


class ByDLPack:
    """The same through DLPack alone; remembers the stream it was asked for."""

    def __init__(self, array: np.ndarray, *, device: int = 2) -> None:
        self.array = array
        self.device = device
        self.asked_for: int | None = None

    def __dlpack_device__(self) -> tuple[int, int]:
        return self.device, 0

    def __dlpack__(self, *, stream: int) -> Any:
        self.asked_for = stream
        a = self.array
        code = {"i": 0, "u": 1, "f": 2, "c": 5}[a.dtype.kind]
        self._shape = (ctypes.c_int64 * a.ndim)(*a.shape)
        self._strides = (ctypes.c_int64 * a.ndim)(*(s // a.itemsize for s in a.strides))
        self._managed = _Managed(
            a.ctypes.data, (self.device, 0), a.ndim, code, a.itemsize * 8, 1,
            self._shape, self._strides, 0, None, None,
        )  # fmt: skip
        return _new_capsule(ctypes.addressof(self._managed), b"dltensor", None)
