"""The CUDA kernels around the field: posed shell, evaluation, march, normal raster."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from gas_rt.core import Camera
from gas_rt.errors import InputError, ShapeError
from gas_rt.kernels._cuda_call import Call, Stream
from gas_rt.kernels.hash_field import COLOUR_PADDED, GEOMETRY, HashField
from gas_rt.kernels.march import MAX_SAMPLES, SAMPLES
from gas_rt.kernels.occupancy import RESOLUTIONS
from gas_rt.kernels.shell import checked_radius_m
from gas_rt.kernels.twins.field import matrices

__all__ = [
    "CudaField",
    "CudaShell",
    "build_shell",
    "chain_shells",
    "check_shell",
    "field_arrays",
    "field_forward",
    "march",
    "query_shell",
    "rasterize",
    "shell_buffers",
]

SHELL_ALIGN = 32  # bytes; a group's coordinates are read in whole sectors
LEAVES_IN_BLOCK = 64
HEADER_BYTES = 256  # of which the first 8 count what is used, the next 4 hold problems
SHELL_PROBLEMS = {
    1: "the vertices span more blocks of 12 cm than `blocks`",
    2: "too many vertices lie around one block of 12 cm",
    4: "`numbered` or `groups` is too small for this body",
}


def shell_buffers(
    *, blocks: int = 8192, numbered: int = 4096, groups: int = 1 << 19
) -> dict[str, tuple[tuple[int, ...], Any]]:
    """Shape and dtype of the arrays that `build_shell` writes; 70 MB by default.

    Parameters
    ----------
    blocks : of 12 cm that the body's box, grown by the radius, may span.
    numbered : of these, the blocks within the radius of the body.
    groups : of eight vertices, in all their lists together.
    """
    for name, value in (("blocks", blocks), ("numbered", numbered), ("groups", groups)):
        if not 1 <= value < 1 << 24:
            raise InputError(f"{name}: expected 1..{(1 << 24) - 1}, got {value!r}")
    return {
        "header": ((HEADER_BYTES,), np.uint8),
        "block": ((blocks,), np.int32),
        "leaf_start": ((numbered * LEAVES_IN_BLOCK + 1,), np.int32),
        "lanes": ((groups, 4, 8), np.float32),
    }


@dataclass(frozen=True, eq=False)
class CudaShell:
    """A posed shell in GPU memory, once the work queued on its stream is done."""

    buffers: Mapping[str, Any]
    maps: Any
    beyond: tuple[CudaShell, Any] | None = None  # held: that of the vertices that reach farther


def build_shell(
    vertices: Any, maps: Any, *, radius_m: float, buffers: Mapping[str, Any], stream: Stream
) -> CudaShell:
    """The lists that make `query_shell` and `march` exact, built on the GPU.

    Vertices that are NaN are near to nothing. Where the buffers do not suffice, the affected part
    of the shell is empty and `check_shell` says so.

    Parameters
    ----------
    vertices : [V, 3] metres, posed; not needed afterwards.
    maps : [V, 3, 4] from `inverse_maps`; held by the shell.
    radius_m : in (0, 0.5].
    buffers : arrays as `shell_buffers` describes; they may be used again for the next pose.
    """
    radius_m = checked_radius_m(radius_m, "build_shell: radius_m")
    with Call("build_shell", stream) as call:
        own = call.read("vertices", vertices, ("V", 3))
        own_maps = call.read("maps", maps, ("V", 3, 4))
        if missing := {"header", "block", "leaf_start", "lanes"} - buffers.keys():
            raise InputError(f"build_shell: buffers: missing {sorted(missing)}")
        storage = (
            _header(call, buffers),
            call.write("block", buffers["block"], ("blocks",), np.int32),
            call.write("leaf_start", buffers["leaf_start"], ("leaves",), np.int32),
            call.write("lanes", buffers["lanes"], ("groups", 4, 8), align=SHELL_ALIGN),
        )
        n = call.sizes
        numbered = (n["leaves"] - 1) // LEAVES_IN_BLOCK
        call.module.build_shell(
            own, own_maps, n["V"], radius_m, *storage, n["blocks"], numbered, n["groups"],
            call.stream,
        )  # fmt: skip
    return CudaShell(buffers, maps)


def chain_shells(
    shell: CudaShell, beyond: CudaShell, *, vertex_id: Any, stream: Stream
) -> CudaShell:
    """A shell some of whose vertices reach farther, as `PosedShell` has them with `wide`.

    Parameters
    ----------
    shell : of all vertices, just built; it is changed. beyond : of those that reach farther, built
        with the larger radius from their rows of vertices and maps, with buffers of its own.
    vertex_id : [W] int32, the numbers of the vertices of `beyond` in `shell`, ascending; held, as
        `beyond` is. One that is out of range is followed: check them on the host.
    stream : that both were built on.
    """
    with Call("chain_shells", stream) as call:
        own, farther = _header(call, shell.buffers), _header(call, beyond.buffers)
        call.read("maps of beyond", beyond.maps, ("W", 3, 4))
        ids = call.read("vertex_id", vertex_id, ("W",), np.int32)
        call.module.chain_shells(own, farther, ids, call.stream)
    return CudaShell(shell.buffers, shell.maps, (beyond, vertex_id))


def _header(call: Call, buffers: Mapping[str, Any]) -> int:
    return call.write("header", buffers["header"], (HEADER_BYTES,), np.uint8, align=16)


def check_shell(header: NDArray[np.uint8]) -> dict[str, int]:
    """How much of its buffers a shell uses, from its header copied to the host.

    Raises `ShapeError` if they did not suffice.
    """
    raw = np.ascontiguousarray(header)
    if raw.dtype != np.uint8 or raw.shape != (HEADER_BYTES,):
        raise ShapeError(
            f"header: expected uint8 [{HEADER_BYTES}] on the host, got {raw.dtype} "
            f"{list(raw.shape)}"
        )
    status = int(raw[8:12].view(np.int32)[0])
    problems = [text for bit, text in SHELL_PROBLEMS.items() if status & bit]
    if problems:
        raise ShapeError(
            f"build_shell: {'; '.join(problems)}; give larger buffers (see shell_buffers), or "
            "remove stray vertices"
        )
    used = int(raw[:8].view(np.uint64)[0])
    return {"numbered": used >> 32, "groups": used & 0xFFFFFFFF}


def query_shell(
    shell: CudaShell,
    points: Any,
    *,
    vertex_id: Any,
    canonical: Any,
    stream: Stream,
    directions: Any = None,
    canonical_directions: Any = None,
) -> None:
    """The nearest vertex of each point, and where the point lies in canonical space.

    Of a chained shell, that of the vertices that reach farther where no other reaches the point.
    points [N, 3] → vertex_id [N] int32, -1 outside the shell, the lowest of vertices equally near;
    canonical [N, 3], zero outside. directions [N, 3] → canonical_directions [N, 3], unit.
    """
    if (directions is None) != (canonical_directions is None):
        raise InputError("query_shell: directions and canonical_directions go together")
    with Call("query_shell", stream) as call:
        header = _header(call, shell.buffers)
        inputs = (
            call.read("points", points, ("N", 3)),
            call.read_optional("directions", directions, ("N", 3)),
        )
        outputs = (
            call.write("vertex_id", vertex_id, ("N",), np.int32),
            call.write("canonical", canonical, ("N", 3)),
            call.write_optional("canonical_directions", canonical_directions, ("N", 3)),
        )
        call.module.query_shell(header, *inputs, call.sizes["N"], *outputs, call.stream)


def field_arrays(field: HashField, *, half: bool = True) -> dict[str, NDArray[Any]]:
    """A field's parameters as the kernels read them, to be copied to the GPU.

    `table` [entries, features] is float16 with `half`; `nets` holds the matrices by input, without
    tiny-cuda-nn's padding.
    """
    with np.errstate(over="ignore"):
        table = np.asarray(field.table).astype(np.float16 if half else np.float32)
    if not np.isfinite(table).all():
        raise InputError("field_arrays: the table exceeds float16; use half=False")
    w0, w1, w2, w3 = matrices(field)
    directed = GEOMETRY + 3
    colour1 = np.zeros((w3.shape[1], 4), np.float32)
    colour1[:, :3] = w3[:3].T
    by_input = w2.T  # [COLOUR_PADDED, 32]; the padding's inputs are all 1
    assert len(by_input) == COLOUR_PADDED
    nets = [w0.T[: field.config.n_features], w1.T, by_input[:directed]]
    nets += [by_input[directed:].sum(0), colour1]
    flat = np.concatenate([np.ravel(n) for n in nets]).astype(np.float32)
    return {"table": table.reshape(-1, field.config.features), "nets": flat}


class CudaField:
    """A field whose parameters lie in GPU memory.

    Parameters
    ----------
    table, nets : the arrays of `field_arrays`, copied to the GPU; held.
    stream : the one the copies are ordered with.
    """

    def __init__(self, field: HashField, *, table: Any, nets: Any, stream: Stream) -> None:
        config = field.config
        with Call("CudaField", stream) as call:
            entries = config.n_params // config.features
            half = call.dtype_of("table", table) == np.float16
            dtype = np.float16 if half else np.float32
            own_table = call.read("table", table, (entries, config.features), dtype, align=16)
            size = call.module.packed_net_size(config.n_features)
            own_nets = call.read("nets", nets, (size,), align=16)
            inverse_extent = np.float32(1) / (field.hi - field.lo)
            self.compiled = call.module.Field(
                config.scales.tolist(),
                config.resolutions.tolist(),
                config.sizes.tolist(),
                config.features,
                own_table,
                half,
                own_nets,
                field.lo.tolist(),
                inverse_extent.tolist(),
                field.density_scale,
            )
        self.arrays = (table, nets)


def field_forward(
    field: CudaField, x: Any, d: Any, *, sigma: Any, rgb: Any, stream: Stream
) -> None:
    """Density and colour at canonical points.

    x [N, 3] metres, d [N, 3] unit → sigma [N] 1/m, rgb [N, 3].
    """
    with Call("field_forward", stream) as call:
        arrays = (call.read("x", x, ("N", 3)), call.read("d", d, ("N", 3)))
        outputs = (call.write("sigma", sigma, ("N",)), call.write("rgb", rgb, ("N", 3)))
        call.module.field_forward(field.compiled, *arrays, call.sizes["N"], *outputs, call.stream)


def march(
    shell: CudaShell,
    field: CudaField,
    camera: Camera,
    *,
    rgb: Any,
    alpha: Any,
    stream: Stream,
    samples: int = SAMPLES,
    occupancy: Any = None,
    resolution: int = 0,
    early_stop: float = 0.0,
) -> None:
    """Render a field in a pose; see `gas_rt.kernels.march`, whose lattice this keeps.

    Parameters
    ----------
    occupancy : [ceil(resolution**3 / 8)] uint8, the bits of an `Occupancy`: cells to skip.
    early_stop : a ray ends once less than this is transmitted; the fast mode's is 1e-3.
    rgb : [H, W, 3] output, premultiplied, over black.
    alpha : [H, W] output.
    """
    if not isinstance(samples, int | np.integer) or not 2 <= samples <= MAX_SAMPLES:
        raise InputError(f"march: samples: expected 2..{MAX_SAMPLES}, got {samples!r}")
    if not 0 <= early_stop < 1:
        raise InputError(f"march: early_stop: expected 0 to below 1, got {early_stop!r}")
    low, high = RESOLUTIONS
    if occupancy is not None and not low <= resolution <= high:
        raise InputError(
            f"march: resolution: expected {low}..{high} cells per axis, got {resolution!r}"
        )
    with Call("march", stream) as call:
        header = _header(call, shell.buffers)
        bits = call.read_optional("occupancy", occupancy, ((resolution**3 + 7) // 8,), np.uint8)
        outputs = (
            call.write("rgb", rgb, (camera.height, camera.width, 3)),
            call.write("alpha", alpha, (camera.height, camera.width)),
        )
        call.module.march(
            header, field.compiled, _camera(call, camera), bits, max(int(resolution), 1),
            int(samples), float(early_stop), *outputs, call.stream,
        )  # fmt: skip


def rasterize(
    vertices: Any,
    faces: Any,
    camera: Camera,
    *,
    seen: Any,
    keys: Any,
    stream: Stream,
    face_id: Any = None,
    barycentric: Any = None,
    depth: Any = None,
    mask: Any = None,
    normals: Any = None,
    picture: Any = None,
) -> None:
    """The nearest face at every pixel centre, and the normal map; same pixels as on the CPU.

    Parameters
    ----------
    vertices : [V, 3] metres, world. A face with an index out of range is not drawn.
    faces : [F, 3] int32.
    seen : [V, 3] workspace. keys : [H, W] uint64 workspace.
    face_id : [H, W] int32, -1 where no surface is seen; barycentric : [H, W, 3];
    depth : [H, W] metres, infinity where none; mask : [H, W] uint8, 1 where a surface is seen.
        Outputs, each optional.
    normals, picture : [V, 3] unit normals in the world → [H, W, 3], the release's colours.
    """
    if (normals is None) != (picture is None):
        raise InputError("rasterize: normals and picture go together")
    size = (camera.height, camera.width)
    with Call("rasterize", stream) as call:
        inputs = (
            call.read("vertices", vertices, ("V", 3)),
            call.read("faces", faces, ("F", 3), np.int32),
            call.read_optional("normals", normals, ("V", 3)),
        )
        workspace = (
            call.write("seen", seen, ("V", 3)),
            call.write("keys", keys, size, np.uint64),
        )
        outputs = (
            call.write_optional("face_id", face_id, size, np.int32),
            call.write_optional("barycentric", barycentric, (*size, 3)),
            call.write_optional("depth", depth, size),
            call.write_optional("mask", mask, size, np.uint8),
            call.write_optional("picture", picture, (*size, 3)),
        )
        n = call.sizes
        call.module.rasterize(
            _camera(call, camera), *inputs, n["V"], n["F"], *workspace, *outputs, call.stream
        )


def _camera(call: Call, camera: Camera) -> Any:
    k = camera.intrinsics
    intrinsics = [float(k[0, 0]), float(k[1, 1]), float(k[0, 2]), float(k[1, 2])]
    rotation = camera.rotation.ravel().tolist()
    return call.module.Camera(
        intrinsics, rotation, camera.translation.tolist(), camera.width, camera.height
    )
