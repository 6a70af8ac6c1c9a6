"""What the GPU kernels are checked and timed on: inputs, and what the CPU kernels make of them.

The same cases run on a GPU (`benchmarks.gpu_kernels`) and, with a small scene, in the tests.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from benchmarks.gpu_scenes import Scene
from gas_rt import kernels
from gas_rt.core import Camera
from gas_rt.kernels import HashField, cuda

Array = NDArray[Any]
Shapes = Mapping[str, tuple[tuple[int, ...], Any]]
Run = Callable[[Mapping[str, Any], Any], None]  # arrays by name, stream
EARLY_STOP = 1e-3


@dataclass(frozen=True, eq=False)
class Want:
    """What an output shall be.

    Values differ by at most `atol` + `rtol` · |value|, but for a share `may_differ` of the rows:
    those where a sample on a border falls on either side.
    """

    value: Array
    atol: float = 0.0
    rtol: float = 0.0
    may_differ: float = 0.0

    def problem(self, got: Array) -> str | None:
        """What is wrong with `got`, or None."""
        wide = np.float64 if self.value.dtype.kind == "f" else np.int64
        want, have = self.value.astype(wide), got.astype(wide)
        with np.errstate(invalid="ignore"):
            near = np.abs(have - want) <= self.atol + self.rtol * np.abs(want)
        near |= have == want  # of infinities
        rows = near.reshape(len(near), -1).all(1) if near.ndim > 1 else near
        if self.may_differ > 0 and near.ndim > 2:  # a picture: its rows are pixels
            rows = near.reshape(near.shape[0] * near.shape[1], -1).all(1)
        share = 1 - rows.mean() if rows.size else 0.0
        if share <= self.may_differ:
            return None
        worst = np.nanmax(np.where(near, 0, np.abs(have - want)))
        return f"{share:.2%} of the rows differ, allowed {self.may_differ:.2%}; worst {worst:.3g}"


@dataclass(frozen=True, eq=False)
class Case:
    """One kernel on one input.

    inputs : arrays to copy to the GPU.
    outputs : arrays to allocate there, workspaces among them.
    setup : what is queued once before `run`, and not timed.
    want : what outputs shall hold after `run`.
    moved_bytes : what has to be read and written once, for the achieved bandwidth.
    required_ms : what `run` may take at most.
    """

    name: str
    inputs: Mapping[str, Array]
    outputs: Shapes
    run: Run
    want: Mapping[str, Want]
    setup: Run | None = None
    moved_bytes: int = 0
    required_ms: float | None = None


def with_bandwidth(case: Case) -> Case:
    """The case with its inputs and outputs counted as moved once."""
    size = sum(a.nbytes for a in case.inputs.values())
    size += sum(int(np.prod(s)) * np.dtype(d).itemsize for s, d in case.outputs.values())
    return replace(case, moved_bytes=size)


@dataclass(frozen=True, eq=False)
class Posed:
    """What the CPU kernels make of a scene; arrays begin with the pose."""

    shaped: Array
    joints: Array
    transforms: Array
    posed_joints: Array
    offsets: Array
    vertices: Array
    normals: Array
    maps: Array
    canonical_transforms: Array
    canonical_offsets: Array


def pose_on_cpu(scene: Scene) -> Posed:
    """All poses of a scene by the CPU kernels."""
    body, rows = scene.body, []
    canonical = body.canonical()
    for betas, rotations in zip(scene.betas, scene.rotations, strict=True):
        shaped = body.shape(betas)
        transforms, joints = kernels.joint_transforms(rotations, shaped.joints, body.parents)
        offsets = kernels.pose_offsets(rotations, body.posedirs)
        vertices = kernels.skin(
            shaped.vertices + offsets, transforms, body.bone_ids, body.bone_weights
        )
        maps = kernels.inverse_maps(
            transforms,
            offsets + shaped.offsets,
            canonical.transforms,
            canonical.pose_offsets,
            body.bone_ids,
            body.bone_weights,
        )
        normals = kernels.vertex_normals(vertices, body.faces)
        rows.append(
            (shaped.vertices, shaped.joints, transforms, joints, offsets, vertices, normals, maps)
        )
    stacked = (np.stack(column).astype(np.float32) for column in zip(*rows, strict=True))
    return Posed(*stacked, canonical.transforms, canonical.pose_offsets)


def body_cases(scene: Scene, posed: Posed) -> Iterator[Case]:
    """Forward skinning step by step, its inverse, and normals."""
    body = scene.body
    poses, joints, vertices = len(scene.betas), len(body.parents), body.vertex_count
    f32 = np.float32
    mesh = (poses, vertices, 3)
    bones = {"ids": body.bone_ids, "weights": body.bone_weights}
    suffix = f" of {poses}" if poses > 1 else ""
    yield Case(
        "shape" + suffix,
        {"template": body.template, "shapedirs": body.shapedirs, "betas": scene.betas},
        {"out": (mesh, f32)},
        lambda a, s: cuda.shape(a["template"], a["shapedirs"], a["betas"], out=a["out"], stream=s),
        {"out": Want(posed.shaped, atol=1e-6)},
    )
    yield Case(
        "regress_joints" + suffix,
        {"regressor": body.joint_regressor, "vertices": posed.shaped},
        {"out": ((poses, joints, 3), f32)},
        lambda a, s: cuda.regress_joints(a["regressor"], a["vertices"], out=a["out"], stream=s),
        {"out": Want(posed.joints, atol=2e-6)},
    )
    yield Case(
        "joint_transforms" + suffix,
        {"rotations": scene.rotations, "joints": posed.joints, "parents": body.parents},
        {"transforms": ((poses, joints, 3, 4), f32), "posed_joints": ((poses, joints, 3), f32)},
        lambda a, s: cuda.joint_transforms(
            a["rotations"],
            a["joints"],
            a["parents"],
            transforms=a["transforms"],
            posed_joints=a["posed_joints"],
            stream=s,
        ),
        {
            "transforms": Want(posed.transforms, atol=1e-6),
            "posed_joints": Want(posed.posed_joints, atol=1e-6),
        },
    )
    yield Case(
        "pose_offsets" + suffix,
        {"rotations": scene.rotations, "posedirs": body.posedirs},
        {"features": ((poses, 9 * (joints - 1)), f32), "out": (mesh, f32)},
        lambda a, s: cuda.pose_offsets(
            a["rotations"], a["posedirs"], features=a["features"], out=a["out"], stream=s
        ),
        {"out": Want(posed.offsets, atol=1e-6, rtol=1e-5)},
    )
    yield Case(
        "skin" + suffix,
        {
            "vertices": posed.shaped,
            "offsets": posed.offsets,
            "transforms": posed.transforms,
            **bones,
        },
        {"out": (mesh, f32)},
        lambda a, s: cuda.skin(
            a["vertices"],
            a["transforms"],
            a["ids"],
            a["weights"],
            offsets=a["offsets"],
            out=a["out"],
            stream=s,
        ),
        {"out": Want(posed.vertices, atol=1e-6)},
    )
    yield _inverse_case(scene, posed, suffix)
    start, corners = cuda.corners_of_vertices(body.faces, vertices)
    yield Case(
        "vertex_normals" + suffix,
        {"vertices": posed.vertices, "faces": body.faces, "start": start, "corners": corners},
        {"out": (mesh, f32)},
        lambda a, s: cuda.vertex_normals(
            a["vertices"], a["faces"], a["start"], a["corners"], out=a["out"], stream=s
        ),
        {"out": Want(posed.normals, atol=2e-5)},
    )


def _inverse_case(scene: Scene, posed: Posed, suffix: str) -> Case:
    shaped_offsets = posed.shaped - scene.body.template + posed.offsets
    inputs = {
        "target": posed.transforms,
        "offsets": shaped_offsets.astype(np.float32),
        "canonical": posed.canonical_transforms,
        "canonical_offsets": posed.canonical_offsets,
        "ids": scene.body.bone_ids,
        "weights": scene.body.bone_weights,
    }
    return Case(
        "inverse_maps" + suffix,
        inputs,
        {"out": (posed.maps.shape, np.float32)},
        lambda a, s: cuda.inverse_maps(
            a["target"],
            a["offsets"],
            a["canonical"],
            a["canonical_offsets"],
            a["ids"],
            a["weights"],
            out=a["out"],
            stream=s,
        ),
        {"out": Want(posed.maps, atol=5e-6, rtol=1e-5)},
    )


def shell_buffers_for(scene: Scene) -> Shapes:
    """Room for any pose of the scene's body."""
    big = scene.body.vertex_count > 2000
    if big:
        return cuda.shell_buffers()
    return cuda.shell_buffers(blocks=2048, numbered=512, groups=1 << 16)


def picture_cases(scene: Scene, posed: Posed, *, points: int) -> Iterator[Case]:
    """The raster, the shell's build and queries, the field, and renders; of the first pose."""
    vertices, maps, camera = posed.vertices[0], posed.maps[0], scene.camera
    yield _raster_case(scene, posed)
    shell = kernels.PosedShell(vertices, maps, radius_m=scene.radius_m)
    rng = np.random.default_rng(0)
    near = vertices[rng.integers(0, len(vertices), points)]
    queried = (near + rng.normal(0, 0.4 * scene.radius_m, near.shape)).astype(np.float32)
    buffers = shell_buffers_for(scene)
    built = {"vertices": vertices, "maps": maps}

    def build(a: Mapping[str, Any], s: Any) -> None:
        cuda.build_shell(a["vertices"], a["maps"], radius_m=scene.radius_m, buffers=a, stream=s)

    def query(a: Mapping[str, Any], s: Any) -> None:
        cuda.query_shell(
            cuda.CudaShell(a, a["maps"]),
            a["points"],
            vertex_id=a["vertex_id"],
            canonical=a["canonical"],
            stream=s,
        )

    ids, canonical = shell.query(queried)
    outputs = {"vertex_id": ((points,), np.int32), "canonical": ((points, 3), np.float32)}
    yield replace(Case("build_shell", built, buffers, build, {}), moved_bytes=vertices.nbytes)
    yield Case(
        "query_shell",
        {**built, "points": queried},
        {**buffers, **outputs},
        query,
        # The distances of both round alike; where two are one, the lower number wins on both.
        {"vertex_id": Want(ids, may_differ=1e-4), "canonical": Want(canonical, 1e-5, 0, 1e-4)},
        setup=build,
        moved_bytes=points * (12 + 4 + 12),
    )
    directions = rng.normal(size=(points, 3)).astype(np.float32)
    directions /= np.linalg.norm(directions, axis=1, keepdims=True)
    for half in (False, True):
        yield _field_case(scene, canonical, directions, half=half)
    for mode in ("baked", "fast"):
        yield _march_case(scene, shell, built, buffers, camera, build, mode=mode)


def _raster_case(scene: Scene, posed: Posed) -> Case:
    vertices, normals, camera = posed.vertices[0], posed.normals[0], scene.camera
    raster = kernels.rasterize(vertices, scene.body.faces, camera)
    picture, mask = kernels.render_normals(vertices, scene.body.faces, camera)
    size = (camera.height, camera.width)
    outputs: dict[str, tuple[tuple[int, ...], Any]] = {
        "seen": (vertices.shape, np.float32),
        "keys": (size, np.uint64),
        "face_id": (size, np.int32),
        "barycentric": ((*size, 3), np.float32),
        "depth": (size, np.float32),
        "mask": (size, np.uint8),
        "picture": ((*size, 3), np.float32),
    }

    def run(a: Mapping[str, Any], s: Any) -> None:
        named = {name: a[name] for name in (*outputs, "normals")}
        cuda.rasterize(a["vertices"], a["faces"], camera, **named, stream=s)

    return Case(
        f"rasterize {camera.width}x{camera.height}",
        {"vertices": vertices, "faces": scene.body.faces, "normals": normals},
        outputs,
        run,
        {
            "face_id": Want(raster.face_id, may_differ=1e-5),
            "depth": Want(raster.depth, rtol=1e-6, may_differ=1e-5),
            "barycentric": Want(raster.barycentric, atol=1e-5, may_differ=1e-5),
            "mask": Want(mask.astype(np.uint8), may_differ=1e-5),
            "picture": Want(picture, atol=1e-5, may_differ=1e-5),
        },
    )


def _field_case(scene: Scene, x: Array, d: Array, *, half: bool) -> Case:
    rounded = _as_read(scene.field, half=half)
    sigma, rgb = kernels.field_forward(rounded, x, d)
    n = len(x)

    def run(a: Mapping[str, Any], s: Any) -> None:
        on_gpu = cuda.CudaField(scene.field, table=a["table"], nets=a["nets"], stream=s)
        cuda.field_forward(on_gpu, a["x"], a["d"], sigma=a["sigma"], rgb=a["rgb"], stream=s)

    return Case(
        f"field_forward {'half' if half else 'float'}",
        {"x": x, "d": d, **cuda.field_arrays(scene.field, half=half)},
        {"sigma": ((n,), np.float32), "rgb": ((n, 3), np.float32)},
        run,
        {"sigma": Want(sigma, atol=1e-3, rtol=1e-4), "rgb": Want(rgb, atol=1e-4)},
        moved_bytes=n * (24 + 16),
    )


def _march_case(
    scene: Scene,
    shell: kernels.PosedShell,
    built: Mapping[str, Array],
    buffers: Shapes,
    camera: Camera,
    build: Run,
    *,
    mode: str,
) -> Case:
    fast = mode == "fast"
    size = (camera.height, camera.width)
    rgb, alpha = kernels.march(
        shell,
        _as_read(scene.field, half=True),
        camera,
        mode="fast" if fast else "baked",
        occupancy=scene.occupancy,
    )

    def run(a: Mapping[str, Any], s: Any) -> None:
        on_gpu = cuda.CudaField(scene.field, table=a["table"], nets=a["nets"], stream=s)
        cuda.march(
            cuda.CudaShell(a, a["maps"]),
            on_gpu,
            camera,
            occupancy=a["occupancy"] if fast else None,
            resolution=scene.occupancy.resolution,
            early_stop=EARLY_STOP if fast else 0.0,
            rgb=a["rgb"],
            alpha=a["alpha"],
            stream=s,
        )

    return Case(
        f"march {mode} {camera.width}x{camera.height}",
        {**built, **cuda.field_arrays(scene.field), "occupancy": scene.occupancy.bits},
        {**buffers, "rgb": ((*size, 3), np.float32), "alpha": (size, np.float32)},
        run,
        {"rgb": Want(rgb, 2e-3, 0, 0.005), "alpha": Want(alpha, 2e-3, 0, 0.005)},
        setup=build,
        moved_bytes=rgb.nbytes + alpha.nbytes,
        required_ms=1.0 if fast and camera.width == 512 else None,
    )


def _as_read(field: HashField, *, half: bool) -> HashField:
    """The field whose table is what the GPU reads."""
    if not half:
        return field
    table = np.asarray(field.table).astype(np.float16).astype(np.float32)
    return replace(field, table=table)


def cases(scene: Scene, *, points: int) -> Iterator[Case]:
    """All cases of a scene."""
    posed = pose_on_cpu(scene)
    for case in (*body_cases(scene, posed), *picture_cases(scene, posed, points=points)):
        yield case if case.moved_bytes else with_bandwidth(case)
