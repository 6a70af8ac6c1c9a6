"""The CUDA kernels, run thread by thread on the CPU, against the CPU kernels; and their faces."""

from __future__ import annotations

import dataclasses
import subprocess
import sys
from collections.abc import Iterator
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from cuda_cases import CASES, ByDLPack, OnGpu, aligned, toy_cases
from emulator.build import compiler, emulated_module
from field_cases import LO, camera, random_field
from geometry_cases import f32, frontal_camera, sphere, straight_camera

from benchmarks.gpu_cases import Case
from gas_rt import kernels
from gas_rt.errors import BackendError, InputError, ShapeError
from gas_rt.kernels import HashGridConfig, _cuda_call, cuda, twins

STREAM = 0xABC0

pytestmark = [
    pytest.mark.skipif(compiler() is None, reason="needs a C++ compiler to emulate CUDA"),
    pytest.mark.timeout(400),  # the first test waits for the compiler
]


@pytest.fixture(scope="module", autouse=True)
def emulated() -> Iterator[Any]:
    module = emulated_module()
    patch = pytest.MonkeyPatch()
    patch.setattr(_cuda_call, "module", lambda: module)
    yield module
    patch.undo()


def gpu(value: Any, dtype: Any = np.float32) -> OnGpu:
    return OnGpu(aligned(np.asarray(value, dtype)))


def empty(*shape: int, dtype: Any = np.float32) -> OnGpu:
    """Filled with a value that no kernel writes."""
    return OnGpu(aligned(np.full(shape, 77, dtype)))


def on_gpu(case: Case) -> dict[str, OnGpu]:
    arrays = {name: OnGpu(aligned(value)) for name, value in case.inputs.items()}
    return arrays | {n: empty(*shape, dtype=d) for n, (shape, d) in case.outputs.items()}


@pytest.fixture(scope="module")
def toys() -> dict[str, Case]:
    return toy_cases()


@pytest.mark.parametrize("name", CASES)
def test_a_kernel_gives_what_the_cpu_gives(name: str, toys: dict[str, Case]) -> None:
    case = toys[name]
    arrays = on_gpu(case)
    if case.setup:
        case.setup(arrays, STREAM)
    case.run(arrays, STREAM)
    for output, want in case.want.items():
        assert (problem := want.problem(arrays[output].array)) is None, f"{output}: {problem}"
    if "header" in arrays:
        used = cuda.check_shell(arrays["header"].array)
        assert used["numbered"] > 20
        assert used["groups"] > 100


def test_the_raster_draws_the_cpus_pixels() -> None:
    """Bit for bit: a face that fills the picture, one behind the camera, one across its plane."""
    vertices, faces = sphere(14)
    rng = np.random.default_rng(0)
    stray = rng.normal(0, 3, (60, 3)).astype(np.float32)
    faces = np.concatenate([faces, np.arange(60).reshape(-1, 3) + len(vertices)]).astype(np.int32)
    vertices = np.concatenate([vertices, stray])
    for view in (frontal_camera(40), straight_camera(37, 23, focal=20)):
        want = kernels.rasterize(vertices, faces, view)
        size = (view.height, view.width)
        out = {
            "face_id": empty(*size, dtype=np.int32),
            "depth": empty(*size),
            "barycentric": empty(*size, 3),
        }
        cuda.rasterize(
            gpu(vertices), gpu(faces, np.int32), view, seen=empty(len(vertices), 3),
            keys=empty(*size, dtype=np.uint64), stream=STREAM, **out,
        )  # fmt: skip
        for name, array in out.items():
            np.testing.assert_array_equal(array.array, getattr(want, name))
        assert want.mask.any()


def query(vertices: Any, points: Any, *, radius_m: float = 0.05, **sizes: int) -> Any:
    """vertex ids, and the shell's header."""
    buffers = cuda.shell_buffers(**{"blocks": 3000, "numbered": 400, "groups": 1 << 15, **sizes})
    arrays = {name: empty(*shape, dtype=d) for name, (shape, d) in buffers.items()}
    maps = gpu(np.tile(np.eye(3, 4), (len(vertices), 1, 1)))
    shell = cuda.build_shell(gpu(vertices), maps, radius_m=radius_m, buffers=arrays, stream=STREAM)
    ids = empty(len(points), dtype=np.int32)
    cuda.query_shell(
        shell, gpu(points), vertex_id=ids, canonical=empty(len(points), 3), stream=STREAM
    )
    return ids.array, arrays["header"].array


@pytest.mark.parametrize("radius_m", [0.004, 0.05, 0.3])
def test_the_nearest_vertex_is_exact(radius_m: float) -> None:
    rng = np.random.default_rng(3)
    vertices = f32(rng.normal(0, 0.08, (300, 3)))
    vertices[50:60] = vertices[40:50]  # of two in one place the lower number wins
    points = f32(vertices[rng.integers(0, 300, 1500)] + rng.normal(0, radius_m, (1500, 3)))
    maps = np.zeros((300, 3, 4), np.float32)
    want = twins.query_shell(vertices, maps, radius_m, points)[0]
    found, header = query(vertices, points, radius_m=radius_m, numbered=1000)
    assert cuda.check_shell(header)["groups"] > 0
    np.testing.assert_array_equal(found, want)
    assert 100 < (want >= 0).sum() < 1500


def test_what_nobody_reaches_belongs_to_the_nearest_that_reaches_farther() -> None:
    rng = np.random.default_rng(4)
    vertices = f32(rng.normal(0, 0.15, (200, 3)))
    wide_id = np.flatnonzero(vertices[:, 1] < 0).astype(np.int32)
    points = f32(vertices[rng.integers(0, 200, 1200)] + rng.normal(0, 0.1, (1200, 3)))
    maps = f32(rng.normal(size=(200, 3, 4)))
    built = []
    for rows, radius_m in ((np.arange(200), 0.04), (wide_id, 0.2)):
        buffers = cuda.shell_buffers(blocks=3000, numbered=1000, groups=1 << 15)
        arrays = {name: empty(*shape, dtype=d) for name, (shape, d) in buffers.items()}
        own = gpu(vertices[rows]), gpu(maps[rows])
        built.append(cuda.build_shell(*own, radius_m=radius_m, buffers=arrays, stream=STREAM))
    ids = gpu(wide_id, dtype=np.int32)
    shell = cuda.chain_shells(*built, vertex_id=ids, stream=STREAM)
    found, canonical = empty(1200, dtype=np.int32), empty(1200, 3)
    cuda.query_shell(shell, gpu(points), vertex_id=found, canonical=canonical, stream=STREAM)
    want = twins.query_shell(vertices, maps, 0.04, points, wide_id=wide_id, wide_radius_m=0.2)
    np.testing.assert_array_equal(found.array, want[0])
    np.testing.assert_allclose(canonical.array, want[1], atol=1e-5)
    alone = twins.query_shell(vertices, maps, 0.04, points)[0]
    assert 100 < (alone >= 0).sum() < (want[0] >= 0).sum() - 300
    with pytest.raises(ShapeError, match=r"chain_shells: vertex_id: expected shape"):
        cuda.chain_shells(*built, vertex_id=empty(2, dtype=np.int32), stream=STREAM)
    # The march's rays are clipped to a box that holds both.
    on_host = kernels.PosedShell(
        vertices, maps, radius_m=0.04, wide=kernels.WideReach(wide_id, 0.2)
    )
    field, view = random_field(scale=0.3), camera(24, 20)
    uploaded = {name: gpu(a, dtype=a.dtype) for name, a in cuda.field_arrays(field).items()}
    rgb, alpha = empty(20, 24, 3), empty(20, 24)
    on_gpu = cuda.CudaField(field, stream=STREAM, **uploaded)
    cuda.march(shell, on_gpu, view, rgb=rgb, alpha=alpha, stream=STREAM)
    table = cuda.field_arrays(field)["table"].astype(np.float32).ravel()
    read = dataclasses.replace(field, table=table)
    want_rgb, want_alpha = kernels.march(on_host, read, view)
    differ = (np.abs(alpha.array - want_alpha) > 2e-3) | (
        np.abs(rgb.array - want_rgb).max(-1) > 2e-3
    )
    assert differ.mean() <= 0.02  # a sample on a border may fall on the other side
    assert (want_alpha > 0.1).mean() > 0.2


@pytest.mark.parametrize(
    ("sizes", "scale", "message"),
    [
        ({"blocks": 8}, 1, "span more blocks of 12 cm"),
        ({"numbered": 2}, 1, "`numbered` or `groups` is too small"),
        ({"groups": 10}, 1, "`numbered` or `groups` is too small"),
        ({}, 1e6, "span more blocks of 12 cm"),
        ({}, np.inf, "span more blocks of 12 cm"),
    ],
)
def test_too_little_room_leaves_an_empty_place_and_says_so(
    sizes: dict[str, int], scale: float, message: str
) -> None:
    rng = np.random.default_rng(0)
    vertices = f32(rng.uniform(-0.2, 0.2, (200, 3)))
    vertices[0] *= np.float32(scale)
    found, header = query(vertices, vertices, **sizes)
    assert ((found == -1) | (found == np.arange(200))).all()
    assert (found == -1).any()
    with pytest.raises(ShapeError, match=message):
        cuda.check_shell(header)


def test_a_vertex_that_is_nan_is_near_to_nothing() -> None:
    vertices = f32([[0, 0, 0], [np.nan, 0, 0], [0.1, 0, 0]])
    found, header = query(vertices, f32([[0.01, 0, 0], [0.1, 0.01, 0], [np.nan, 0, 0]]))
    np.testing.assert_array_equal(found, [0, 2, -1])
    cuda.check_shell(header)


@pytest.mark.parametrize("features", [1, 2, 4, 8])
@pytest.mark.parametrize("half", [False, True])
def test_every_table_is_read(features: int, half: bool) -> None:
    config = HashGridConfig(3, features, log2_table=9, base_resolution=5, per_level_scale=2.0)
    field = random_field(config, seed=features)
    arrays = cuda.field_arrays(field, half=half)
    x = f32(np.random.default_rng(0).uniform(LO - 0.1, -LO + 0.1, (300, 3)))
    x[0] = np.nan  # is on the box's surface, as on the CPU
    d = f32(np.random.default_rng(1).normal(size=(300, 3)))
    sigma, rgb = empty(300), empty(300, 3)
    on_gpu = cuda.CudaField(
        field,
        table=OnGpu(aligned(arrays["table"])),
        nets=OnGpu(aligned(arrays["nets"])),
        stream=STREAM,
    )
    cuda.field_forward(on_gpu, gpu(x), gpu(d), sigma=sigma, rgb=rgb, stream=STREAM)
    table = arrays["table"].astype(np.float32).ravel()
    read = kernels.HashField(config, table, field.density_mlp, field.colour_mlp, field.lo, field.hi)
    want = twins.field_forward(read, np.nan_to_num(x, nan=-9.0), d, threads=1)
    np.testing.assert_allclose(sigma.array, want[0], rtol=2e-4, atol=1e-3)
    np.testing.assert_allclose(rgb.array, want[1], atol=1e-4)


def test_bones_and_corners_that_do_not_exist_are_not_followed() -> None:
    ids = np.zeros((3, 4), np.int32)
    ids[1, 2], ids[2, 0] = 7, -1
    weights, moves = f32(np.full((3, 4), 0.25)), f32(np.eye(3, 4)[None, None])
    out, maps = empty(1, 3, 3), empty(1, 3, 3, 4)
    at = f32(np.ones((1, 3, 3)))
    cuda.skin(gpu(at), gpu(moves), gpu(ids, np.int32), gpu(weights), out=out, stream=STREAM)
    np.testing.assert_array_equal(np.isnan(out.array).all((0, 2)), [False, True, True])
    np.testing.assert_array_equal(out.array[0, 0], 1)
    cuda.inverse_maps(
        gpu(moves), gpu(at * 0), gpu(moves[0]), gpu(at[0] * 0), gpu(ids, np.int32), gpu(weights),
        out=maps, stream=STREAM,
    )  # fmt: skip
    np.testing.assert_array_equal(np.isnan(maps.array).all((0, 2, 3)), [False, True, True])
    faces = np.int32([[0, 1, 2], [0, 1, 99], [-5, 0, 1]])
    triangle = f32([[[0, 0, 2], [1, 0, 2], [0, 1, 2]]])
    normals = empty(1, 3, 3)
    start, corners = cuda.corners_of_vertices(np.int32([[0, 1, 2]]), 3)
    corners = np.concatenate([corners, np.zeros(6, np.int32)])
    cuda.vertex_normals(
        gpu(triangle), gpu(faces, np.int32), gpu(start, np.int32), gpu(corners, np.int32),
        out=normals, stream=STREAM,
    )  # fmt: skip
    np.testing.assert_allclose(normals.array[0], [[0, 0, 1]] * 3, atol=1e-6)
    view, face_id = straight_camera(8, 8, focal=8), empty(8, 8, dtype=np.int32)
    cuda.rasterize(
        gpu(triangle[0]), gpu(faces, np.int32), view, seen=empty(3, 3),
        keys=empty(8, 8, dtype=np.uint64), face_id=face_id, stream=STREAM,
    )  # fmt: skip
    assert set(np.unique(face_id.array)) == {-1, 0}


def test_nothing_to_do_is_done() -> None:
    none = gpu(np.zeros((0, 3)))
    sigma, rgb = empty(0), empty(0, 3)
    field = random_field()
    arrays = {name: OnGpu(aligned(a)) for name, a in cuda.field_arrays(field).items()}
    cuda.field_forward(
        cuda.CudaField(field, stream=STREAM, **arrays), none, none, sigma=sigma, rgb=rgb,
        stream=STREAM,
    )  # fmt: skip
    mask = empty(4, 5, dtype=np.uint8)
    cuda.rasterize(
        none, gpu(np.zeros((0, 3)), np.int32), straight_camera(5, 4, focal=4), seen=none,
        keys=empty(4, 5, dtype=np.uint64), mask=mask, stream=STREAM,
    )  # fmt: skip
    assert not mask.array.any()


def call_skin(**changes: Any) -> None:
    arrays = {
        "vertices": empty(2, 5, 3),
        "transforms": empty(2, 3, 3, 4),
        "bone_ids": empty(5, 4, dtype=np.int32),
        "bone_weights": empty(5, 4),
        "out": empty(2, 5, 3),
        "stream": STREAM,
    }
    cuda.skin(**(arrays | changes))  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("name", "value", "message"),
    [
        ("vertices", empty(2, 5, 3, dtype=np.float64), "expected dtype float32, got float64"),
        ("bone_ids", empty(5, 4), "expected dtype int32, got float32"),
        ("bone_ids", empty(6, 4, dtype=np.int32), r"\[V, 4\] with V = 5 as in vertices, got \[6"),
        ("out", empty(2, 5), r"expected shape \[B, V, 3\] with B = 2 as in vertices, V = 5"),
        ("out", OnGpu(np.ones((2, 3, 5), np.float32).swapaxes(1, 2)), "expected a C-contiguous"),
        ("vertices", np.ones((2, 5, 3), np.float32), "got a NumPy array in the host's memory"),
        (
            "vertices",
            ByDLPack(np.ones((2, 5, 3), np.float32), device=1),
            "expected an array in GPU",
        ),
        ("vertices", ByDLPack(np.ones((2, 5, 3), np.complex64)), "got DLPack type code 5"),
        ("vertices", [[1.0]], "got builtins.list; copy it to the GPU"),
    ],
)
def test_a_wrong_array_is_named(name: str, value: Any, message: str) -> None:
    with pytest.raises(ShapeError, match=f"skin: {name}: .*{message}"):
        call_skin(**{name: value})


def test_an_output_must_be_writable_and_arrays_on_this_gpu(
    emulated: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    fixed = np.ones((2, 5, 3), np.float32)
    fixed.flags.writeable = False
    with pytest.raises(ShapeError, match="skin: out: expected an array to write to"):
        call_skin(out=OnGpu(fixed))
    for device, message in ((-1, "of the host"), (3, "got one on GPU 3")):
        monkeypatch.setattr(emulated, "device_of", lambda pointer, at=device: at)
        with pytest.raises(ShapeError, match=f"skin: vertices: .*{message}"):
            call_skin()


@pytest.mark.parametrize("stream", [0, 1, 2, None, True, -4, "main", SimpleNamespace(ptr=0)])
def test_a_default_stream_or_none_is_refused(stream: Any) -> None:
    with pytest.raises(InputError, match="stream: expected a"):
        call_skin(stream=stream)


@pytest.mark.parametrize(
    "stream",
    [
        SimpleNamespace(ptr=64),
        SimpleNamespace(handle=64),
        SimpleNamespace(cuda_stream=64),
        SimpleNamespace(__cuda_stream__=lambda: (0, 64)),
        SimpleNamespace(__cuda_stream__=(0, 64)),
        np.int64(64),
    ],
)
def test_every_librarys_stream_is_read(stream: Any) -> None:
    assert _cuda_call.stream_pointer(stream) == 64


def test_contents_are_waited_for(emulated: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    waits = []
    monkeypatch.setattr(emulated, "wait_for", lambda *streams: waits.append(streams))
    call_skin(
        vertices=OnGpu(np.ones((2, 5, 3), np.float32), stream=0x77),
        transforms=OnGpu(np.ones((2, 3, 3, 4), np.float32), stream=STREAM),
    )
    assert waits == [(0x77, STREAM)]
    packed = ByDLPack(np.ones((2, 5, 3), np.float32))
    call_skin(vertices=packed)
    assert packed.asked_for == STREAM


def test_bad_values_are_refused() -> None:
    with pytest.raises(InputError, match=r"build_shell: radius_m: expected .* got nan"):
        cuda.build_shell(empty(1, 3), empty(1, 3, 4), radius_m=np.nan, buffers={}, stream=STREAM)
    with pytest.raises(InputError, match=r"buffers: missing \['block'"):
        cuda.build_shell(empty(1, 3), empty(1, 3, 4), radius_m=0.1, buffers={}, stream=STREAM)
    with pytest.raises(InputError, match="groups: expected"):
        cuda.shell_buffers(groups=0)
    for change, message in (
        ({"samples": 1}, "samples"),
        ({"early_stop": 1.0}, "early_stop"),
        ({"occupancy": empty(1), "resolution": 2}, "resolution"),
    ):
        shell, field = cuda.CudaShell({}, None), None
        with pytest.raises(InputError, match=f"march: {message}: expected"):
            cuda.march(
                shell,
                field,
                camera(8, 8),
                rgb=None,
                alpha=None,
                stream=STREAM,
                **change,  # type: ignore[arg-type]
            )
    with pytest.raises(ShapeError, match=r"faces: expected indices in 0..2"):
        cuda.corners_of_vertices(np.int32([[0, 1, 3]]), 3)
    joints = {name: empty(1, 300, 3) for name in ("rotations", "joints", "posed_joints")}
    with pytest.raises(ShapeError, match="at most 256 joints, got 300"):
        cuda.joint_transforms(
            **joints, parents=empty(300, dtype=np.int32), transforms=empty(1, 300, 3, 4),
            stream=STREAM,
        )  # fmt: skip


def test_an_array_that_is_not_handed_out_is_named() -> None:
    class Tensor:
        @property
        def __cuda_array_interface__(self) -> Any:
            raise RuntimeError("it requires grad; call detach")

    with pytest.raises(ShapeError, match=r"skin: vertices: .*not hand it out: it requires grad"):
        call_skin(vertices=Tensor())


def test_a_failed_launch_is_an_error(emulated: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*arguments: Any) -> None:
        raise RuntimeError("skin: out of resources")

    monkeypatch.setattr(emulated, "skin", fail)
    with pytest.raises(BackendError, match=r"refused the launch \(skin: out of resources\)"):
        call_skin()


def test_without_a_build_a_driver_or_a_gpu_the_error_says_what_is_missing() -> None:
    script = (
        "import sys, types\n"
        "from gas_rt.kernels import cuda\n"
        "import gas_rt.kernels\n"
        "def load(**names):\n"
        "    fake = types.ModuleType('gas_rt.kernels._cuda'); vars(fake).update(names)\n"
        "    sys.modules['gas_rt.kernels._cuda'] = gas_rt.kernels._cuda = fake\n"
        "def no_driver(): raise RuntimeError('driver version is insufficient')\n"
        "sys.modules['gas_rt.kernels._cuda'] = None\n"
        "print(cuda.unavailable_because())\n"
        "load(device_count=no_driver); print(cuda.unavailable_because())\n"
        "load(device_count=lambda: 0); print(cuda.unavailable_because(), cuda.available())\n"
        "load(device_count=lambda: 1); print(cuda.unavailable_because(), cuda.available())\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", script], capture_output=True, text=True, check=True
    )
    lines = done.stdout.splitlines()
    assert "has no CUDA kernels" in lines[0]
    assert "GAS_RT_CUDA=1" in lines[0]
    assert "no usable NVIDIA driver (driver version is insufficient)" in lines[1]
    assert "shows no GPU" in lines[2]
    assert lines[3] == "None True"
