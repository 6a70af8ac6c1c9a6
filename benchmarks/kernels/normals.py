"""The normal map of an SMPL-size body, against our NumPy twin and a public software rasteriser."""

from __future__ import annotations

import contextlib
import itertools
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
from numpy.typing import NDArray

from benchmarks.kernels.people import Setting, smpl_size
from benchmarks.kernels.rows import Limit, Row
from benchmarks.kernels.timing import Call, Timing, interleave
from gas_rt.body import BodyModel, procedural_motion
from gas_rt.cameras import framing_camera, orbit
from gas_rt.core import F32, Camera
from gas_rt.kernels import Raster, render_normals, twins

__all__ = ["normals_512"]

MAX_MS = 1.5
COLOUR_TOLERANCE = 2e-4
VIEWS = 8
I32 = NDArray[np.int32]
NO_PEER = "PyBullet, whose TinyRenderer is the software rasteriser, is not installed"


def normals_512(setting: Setting) -> Row:
    """Vertex normals, raster and shading of 6,890 vertices at 512 x 512 on one core."""
    model = BodyModel.from_arrays(smpl_size(setting.body))
    vertices = model.pose([], procedural_motion("dance", 40).pose(17)).vertices
    side = 64 if setting.quick else 512
    first = framing_camera(vertices, side_px=side, fill=0.88)
    cameras = orbit(first, VIEWS, centre=(vertices.min(0) + vertices.max(0)) / 2)
    turns = itertools.cycle(cameras)
    calls = {
        "ours": Call(lambda: render_normals(vertices, model.faces, next(turns)), 20, warm_up=20),
        "twin": Call(lambda: twin_normals(vertices, model.faces, first), warm_up=0),
    }
    with tiny_renderer(vertices, model.faces, cameras) as render:
        if render is not None:
            calls["tiny"] = Call(render, 4, warm_up=2)
        took = interleave(calls, rounds=1 if setting.quick else 5)
    picture, mask = render_normals(vertices, model.faces, first)
    want, want_mask = twin_normals(vertices, model.faces, first)
    ours_ms = took["ours"].p50_ms
    covered = int(mask.sum())
    # Vertices and faces once; per pixel a face, three weights, a depth and a colour, the first
    # three of them written and read.
    touched = vertices.nbytes * 2 + model.faces.nbytes * 2 + side * side * (20 * 2 + 12)
    return Row(
        name="normals_512",
        against="our NumPy twin; " + ("PyBullet's TinyRenderer" if "tiny" in took else NO_PEER),
        threads=1,
        speed=[Limit("ms a picture", ours_ms, MAX_MS, at_least=False)],
        correct=[
            Limit("pixels of another mask", float((mask != want_mask).sum()), 0, at_least=False),
            Limit(
                "colour apart at most",
                float(np.abs(picture - want).max()),
                COLOUR_TOLERANCE,
                at_least=False,
            ),
        ],
        ours=took["ours"],
        peer=took["twin"],
        peak=setting.peaks.share_of_reading(touched, ours_ms, 1),
        details={
            "side_px": side,
            "faces": len(model.faces),
            "pixels_covered": covered,
            "tiny_renderer": _tiny_details(took, ours_ms),
        },
    )


def twin_normals(vertices: F32, faces: I32, camera: Camera) -> tuple[F32, Any]:
    """`render_normals` in NumPy."""
    raster = Raster(*twins.rasterize(vertices, faces, camera))
    normals = twins.vertex_normals(vertices, faces)
    return twins.shade_normals(camera, raster, faces, normals), raster.mask


@contextlib.contextmanager
def tiny_renderer(
    vertices: F32, faces: I32, cameras: list[Camera]
) -> Iterator[Callable[[], object] | None]:
    """Draws the mesh with PyBullet's CPU rasteriser, without shadows; None if it isn't installed.

    The mesh is handed over once and gets no new normals, which favours it.
    """
    try:
        import pybullet as bullet
    except ImportError:
        yield None
        return
    client = bullet.connect(bullet.DIRECT)
    shape = bullet.createVisualShape(
        bullet.GEOM_MESH, vertices=vertices.tolist(), indices=faces.ravel().tolist()
    )
    bullet.createMultiBody(baseVisualShapeIndex=shape)
    turns = itertools.cycle([gl_camera(camera) for camera in cameras])

    def render() -> object:
        view, projection, width, height = next(turns)
        picture = bullet.getCameraImage(
            width,
            height,
            view,
            projection,
            shadow=0,
            flags=bullet.ER_NO_SEGMENTATION_MASK,
            renderer=bullet.ER_TINY_RENDERER,
        )
        assert np.asarray(picture[2]).any(), "the mesh is not in the picture"
        return picture

    try:
        yield render
    finally:
        bullet.disconnect(client)


def gl_camera(camera: Camera) -> tuple[list[float], list[float], int, int]:
    """The camera as OpenGL's view and projection, column by column."""
    view = np.eye(4)
    view[:3, :3], view[:3, 3] = camera.rotation, camera.translation
    view = np.diag([1.0, -1.0, -1.0, 1.0]) @ view
    near, far = 0.1, 100.0
    k = camera.intrinsics
    projection = np.zeros((4, 4))
    projection[0, 0] = 2 * k[0, 0] / camera.width
    projection[1, 1] = 2 * k[1, 1] / camera.height
    projection[0, 2] = 1 - 2 * k[0, 2] / camera.width
    projection[1, 2] = 2 * k[1, 2] / camera.height - 1
    projection[2, 2], projection[2, 3] = (
        -(far + near) / (far - near),
        -2 * far * near / (far - near),
    )
    projection[3, 2] = -1
    return view.T.ravel().tolist(), projection.T.ravel().tolist(), camera.width, camera.height


def _tiny_details(took: dict[str, Timing], ours_ms: float) -> Any:
    if "tiny" not in took:
        return NO_PEER
    return {**took["tiny"].as_dict(), "ratio": round(took["tiny"].p50_ms / ours_ms, 2)}
