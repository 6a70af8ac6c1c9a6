"""A bundle with tiny graphs of the shipped names and shapes, and the means to damage it.

The toy teacher is opaque wherever the shell is, and paints the photo onto whatever it is asked for.
"""

from __future__ import annotations

import hashlib
import json
from pathlib import Path
from typing import Any

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

SIDE = 128
PLANE = 8
FEATURES = 64
POINTS = 8192
SIGMA = 300.0


def tensor(name: str, shape: list[int], dtype: int = TensorProto.FLOAT) -> onnx.ValueInfoProto:
    return helper.make_tensor_value_info(name, dtype, shape)


def constant(name: str, value: Any, dtype: Any) -> onnx.TensorProto:
    return numpy_helper.from_array(np.asarray(value, dtype), name)


def encoder_graph(vertices: int) -> onnx.ModelProto:
    nodes = [
        helper.make_node(
            "AveragePool",
            ["image"],
            ["plane"],
            kernel_shape=[SIDE // PLANE] * 2,
            strides=[SIDE // PLANE] * 2,
        ),
        helper.make_node("Concat", ["plane", "plane"], ["planes"], axis=0),
        helper.make_node(
            "AveragePool", ["image"], ["image_features"], kernel_shape=[2, 2], strides=[2, 2]
        ),
        helper.make_node("Reshape", ["vertex_uv", "grid_shape"], ["grid"]),
        helper.make_node("GridSample", ["image", "grid"], ["sampled"], align_corners=0),
        helper.make_node("Reshape", ["sampled", "sampled_shape"], ["channels_first"]),
        helper.make_node("Transpose", ["channels_first"], ["per_vertex"], perm=[1, 0]),
        helper.make_node("Mul", ["per_vertex", "vertex_visible"], ["vertex_features"]),
    ]
    graph = helper.make_graph(
        nodes,
        "nerf_encoder",
        [
            tensor("image", [1, 4, SIDE, SIDE]),
            tensor("vertex_uv", [vertices, 2]),
            tensor("vertex_visible", [vertices, 1]),
        ],
        [
            tensor("planes", [2, 4, PLANE, PLANE]),
            tensor("image_features", [1, 4, FEATURES, FEATURES]),
            tensor("vertex_features", [vertices, 4]),
        ],
        initializer=[
            constant("grid_shape", [1, vertices, 1, 2], np.int64),
            constant("sampled_shape", [4, vertices], np.int64),
        ],
    )
    return model_of(graph)


def field_graph(vertices: int) -> onnx.ModelProto:
    nodes = [
        helper.make_node("Reshape", ["uv", "grid_shape"], ["grid"]),
        helper.make_node(
            "GridSample",
            ["image_features", "grid"],
            ["sampled"],
            align_corners=0,
            padding_mode="border",
        ),
        helper.make_node("Reshape", ["sampled", "sampled_shape"], ["channels_first"]),
        helper.make_node("Transpose", ["channels_first"], ["rgbm"], perm=[1, 0]),
        helper.make_node("Slice", ["rgbm", "zero", "three", "one"], ["rgb"]),
        # Uses every input, so that none is removed as dead.
        helper.make_node("Gather", ["vertex_features", "vertex_id"], ["at_vertex"]),
        helper.make_node("ReduceSum", ["at_vertex", "one"], ["vertex_sum"], keepdims=0),
        helper.make_node("ReduceSum", ["x_can", "one"], ["x_sum"], keepdims=0),
        # A no-op that compilers merge into the input.
        helper.make_node("Cast", ["d_can"], ["d_cast"], to=TensorProto.FLOAT),
        helper.make_node("ReduceSum", ["d_cast", "one"], ["d_sum"], keepdims=0),
        helper.make_node("ReduceMean", ["planes"], ["plane_mean"], keepdims=0),
        helper.make_node("Add", ["vertex_sum", "x_sum"], ["sum_1"]),
        helper.make_node("Add", ["sum_1", "d_sum"], ["sum_2"]),
        helper.make_node("Add", ["sum_2", "plane_mean"], ["sum_3"]),
        helper.make_node("Mul", ["sum_3", "nearly_nothing"], ["small"]),
        helper.make_node("Add", ["small", "density"], ["sigma"]),
    ]
    graph = helper.make_graph(
        nodes,
        "nerf_field",
        [
            tensor("x_can", [POINTS, 3]),
            tensor("d_can", [POINTS, 3]),
            tensor("uv", [POINTS, 2]),
            tensor("vertex_id", [POINTS], TensorProto.INT32),
            tensor("planes", [2, 4, PLANE, PLANE]),
            tensor("image_features", [1, 4, FEATURES, FEATURES]),
            tensor("vertex_features", [vertices, 4]),
        ],
        [tensor("sigma", [POINTS]), tensor("rgb", [POINTS, 3])],
        initializer=[
            constant("grid_shape", [1, POINTS, 1, 2], np.int64),
            constant("sampled_shape", [4, POINTS], np.int64),
            constant("zero", [0, 0], np.int64),
            constant("three", [POINTS, 3], np.int64),
            constant("one", [1], np.int64),
            constant("nearly_nothing", 1e-3, np.float32),
            constant("density", SIGMA, np.float32),
        ],
    )
    # Slice wants starts, ends, axes.
    for node in graph.node:
        if node.op_type == "Slice":
            node.input[3] = "axes"
    graph.initializer.append(constant("axes", [0, 1], np.int64))
    return model_of(graph)


def model_of(graph: onnx.GraphProto) -> onnx.ModelProto:
    """A checked model of the opset the shipped graphs have."""
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=9)
    onnx.checker.check_model(model)
    return model


def specs(model: onnx.ModelProto) -> dict[str, dict[str, dict[str, Any]]]:
    dtypes = {TensorProto.FLOAT: "float32", TensorProto.INT32: "int32"}

    def of(values: Any) -> dict[str, dict[str, Any]]:
        return {
            v.name: {
                "shape": [d.dim_value for d in v.type.tensor_type.shape.dim],
                "dtype": dtypes[v.type.tensor_type.elem_type],
            }
            for v in values
        }

    return {"inputs": of(model.graph.input), "outputs": of(model.graph.output)}


def write_bundle(
    folder: Path,
    *,
    body: bytes,
    vertices: int,
    box_m: tuple[list[float], list[float]] = ([-1.1, -1.5, -0.5], [1.1, 1.0, 0.5]),
    radius_m: float = 0.08,
) -> Path:
    """Write a complete bundle; returns its folder."""
    folder.mkdir(parents=True, exist_ok=True)
    models = {"nerf_encoder": encoder_graph(vertices), "nerf_field": field_graph(vertices)}
    for name, model in models.items():
        onnx.save(model, folder / f"{name}.onnx")
    (folder / "body.npz").write_bytes(body)
    manifest = {
        "schema_version": 1,
        "name": "toy",
        "version": "0.0.1",
        "files": {},
        "graphs": {name: {"file": f"{name}.onnx", **specs(m)} for name, m in models.items()},
        "body": "body.npz",
        "config": {
            "resolution": SIDE,
            "shell_radius_m": radius_m,
            "shell_radius_max_m": max(radius_m, 0.25),
            "canonical_box_m": {"lo": box_m[0], "hi": box_m[1]},
            "march": {"samples": 48, "box_margin_m": 0.01},
            "vertex_count": vertices,
            "field_points": POINTS,
            "photo": {
                "side_px": SIDE,
                "background": "black",
                "visible_depth_tolerance_m": 0.03,
            },
            "camera_ranges": {
                "focal_over_side": [1.0, 4.0],
                "elevation_deg": [-20.0, 40.0],
                "fill": [0.5, 1.0],
            },
        },
    }
    rewrite(folder, manifest)
    return folder


def rewrite(folder: Path, manifest: dict[str, Any]) -> None:
    """Write bundle.json with the hashes of what lies in the folder now."""
    manifest["files"] = {
        path.relative_to(folder).as_posix(): {
            "sha256": hashlib.sha256(path.read_bytes()).hexdigest(),
            "bytes": path.stat().st_size,
        }
        for path in sorted(folder.rglob("*"))
        if path.is_file() and not path.is_symlink() and path.name != "bundle.json"
    }
    (folder / "bundle.json").write_text(json.dumps(manifest))


def manifest_of(folder: Path) -> dict[str, Any]:
    """The bundle.json of a folder."""
    loaded: dict[str, Any] = json.loads((folder / "bundle.json").read_text())
    return loaded
