"""Stage 2 for the toy bundle: graphs of a few nodes, and the same arithmetic in NumPy.

Encoders average squares of pixels, the denoiser mixes everything it is given, the decoder repeats
pixels: small enough to predict every frame of a session.
"""

from __future__ import annotations

from collections.abc import Hashable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import onnx
from onnx import helper

from gas_rt.core import F32
from gas_rt.diffusion import FrameSpec, switcher
from tests.toy_bundle import SIDE, constant, manifest_of, model_of, rewrite, specs, tensor

LATENT = (4, 8, 8)
POOL = SIDE // LATENT[1]
EMBEDDING = 3
CONDITION = 6
SCALE = 0.5
STD = 0.4
LIVE, CLIP = 5, 6  # frames of the two profiles
PICTURE = [1, 3, SIDE, SIDE]
PLANE = [1, *LATENT]
SIGMAS = [40.0, 6.0, 0.35]


def diffusion_config(residual_std: float | None) -> dict[str, Any]:
    """``config.diffusion`` of the toy's bundle.json."""
    return {
        "latent_shape": list(LATENT),
        "embedding_channels": EMBEDDING,
        "condition_channels": CONDITION,
        "residual_std": residual_std,
        "latent_scale": SCALE,
        "profiles": {
            "live": {
                "frames": LIVE,
                "anchor": 1,
                "context": 1,
                "chunk": 1,
                "guided": "denoiser",
                "unguided": "denoiser_nocfg",
            },
            "parity": {
                "frames": CLIP,
                "overlap": 2,
                "guided": "denoiser_clip",
                "unguided": "denoiser_nocfg_clip",
            },
        },
        "policies": {
            "diagonal": {"profile": "live", "chunk": 1, "sigmas": {"3": SIGMAS}},
            "sequential": {"profile": "live", "chunk": 3, "sigmas": {"3": SIGMAS, "1": [9.0]}},
            "parity": {"profile": "parity", "sigmas": {"3": SIGMAS, "2": [20.0, 0.5]}},
        },
        "default": {"policy": "diagonal", "steps": 3},
        "guidance": {"pose": 1.5, "view_behind": 2.0},
    }


def add_diffusion(folder: Path, *, residual_std: float | None = STD) -> Path:
    """Give a toy bundle stage 2."""
    models = {
        "image_encoder": image_encoder_graph(),
        "vae_encoder": vae_encoder_graph(),
        "conditioner": conditioner_graph(centred=residual_std is not None),
        "vae_decoder": vae_decoder_graph(residual_std),
        "denoiser": denoiser_graph(LIVE, guided=True),
        "denoiser_nocfg": denoiser_graph(LIVE, guided=False),
        "denoiser_clip": denoiser_graph(CLIP, guided=True),
        "denoiser_nocfg_clip": denoiser_graph(CLIP, guided=False),
    }
    manifest = manifest_of(folder)
    for name, model in models.items():
        onnx.save(model, folder / f"{name}.onnx")
        manifest["graphs"][name] = {"file": f"{name}.onnx", **specs(model)}
    manifest["policies"] = ["field", "diagonal", "sequential", "parity"]
    manifest["config"]["diffusion"] = diffusion_config(residual_std)
    rewrite(folder, manifest)
    return folder


# ---- the graphs ---------------------------------------------------------------------------------


def _graph(
    name: str,
    nodes: Sequence[tuple[str, str, str] | tuple[str, str, str, dict[str, Any]]],
    inputs: Mapping[str, list[int]],
    outputs: Mapping[str, list[int]],
    constants: Mapping[str, Any],
) -> onnx.ModelProto:
    """Nodes as (operator, "inputs", output, attributes); two spaces leave an input out."""
    made = []
    for operator, given, output, *attributes in nodes:
        extra = attributes[0] if attributes else {}
        made.append(helper.make_node(operator, given.split(" "), [output], **extra))
    initializers = [
        constant(key, value, np.int64 if np.asarray(value).dtype.kind == "i" else np.float32)
        for key, value in constants.items()
    ]
    graph = helper.make_graph(
        made,
        name,
        [tensor(key, shape) for key, shape in inputs.items()],
        [tensor(key, shape) for key, shape in outputs.items()],
        initializer=initializers,
    )
    return model_of(graph)


def _pool(given: str, output: str) -> tuple[str, str, str, dict[str, Any]]:
    return "AveragePool", given, output, {"kernel_shape": [POOL] * 2, "strides": [POOL] * 2}


def _encode(given: str, output: str) -> list[Any]:
    """[1, 3, S, S] → [1, 4, h, w]: colours and their mean."""
    return [
        _pool(given, f"{output}_rgb"),
        ("ReduceMean", f"{output}_rgb axis_1", f"{output}_grey"),
        ("Concat", f"{output}_rgb {output}_grey", output, {"axis": 1}),
    ]


def image_encoder_graph() -> onnx.ModelProto:
    return _graph(
        "image_encoder",
        [("ReduceMean", "picture axes_23", "embedding", {"keepdims": 0})],
        {"picture": PICTURE},
        {"embedding": [1, EMBEDDING]},
        {"axes_23": [2, 3]},
    )


def vae_encoder_graph() -> onnx.ModelProto:
    return _graph(
        "vae_encoder",
        _encode("picture", "latents"),
        {"picture": PICTURE},
        {"latents": PLANE},
        {"axis_1": [1]},
    )


def conditioner_graph(*, centred: bool) -> onnx.ModelProto:
    nodes = [
        *_encode("render", "plain"),
        _pool("normals", "pooled_normals"),
        ("Concat", "plain_rgb pooled_normals", "condition", {"axis": 1}),
    ]
    outputs = {"condition": [1, CONDITION, *LATENT[1:]]}
    if centred:
        nodes.append(("Identity", "plain", "base"))
        outputs["base"] = PLANE
    inputs = {"render": PICTURE, "normals": PICTURE}
    return _graph("conditioner", nodes, inputs, outputs, {"axis_1": [1]})


def vae_decoder_graph(residual_std: float | None) -> onnx.ModelProto:
    nodes: list[Any] = []
    inputs = {"latents": PLANE}
    constants: dict[str, Any] = {
        "scale": SCALE,
        "zero": [0],
        "three": [3],
        "axis_1": [1],
        "low": -1.0,
        "high": 1.0,
        "sizes": [1.0, 1.0, float(POOL), float(POOL)],
    }
    shown = "decoded"
    if residual_std is None:
        nodes += _decode("latents", "decoded")
    else:
        inputs |= {"base": PLANE, "render": PICTURE}
        constants["std"] = residual_std
        nodes += [
            ("Mul", "latents std", "beyond"),
            ("Mul", "base scale", "scaled_base"),
            ("Add", "beyond scaled_base", "whole"),
            *_decode("whole", "decoded"),
            *_decode("scaled_base", "again"),
            ("Sub", "decoded again", "generated"),
            ("Add", "render generated", "joined"),
        ]
        shown = "joined"
    nodes.append(("Clip", f"{shown} low high", "picture"))
    return _graph("vae_decoder", nodes, inputs, {"picture": PICTURE}, constants)


def _decode(given: str, output: str) -> list[Any]:
    """[1, 4, h, w] scaled → [1, 3, S, S]: colours, repeated."""
    repeat = {
        "mode": "nearest",
        "nearest_mode": "floor",
        "coordinate_transformation_mode": "asymmetric",
    }
    return [
        ("Div", f"{given} scale", f"{output}_unscaled"),
        ("Slice", f"{output}_unscaled zero three axis_1", f"{output}_rgb"),
        ("Resize", f"{output}_rgb  sizes", output, repeat),
    ]


def denoiser_graph(frames: int, *, guided: bool) -> onnx.ModelProto:
    nodes: list[Any] = [
        ("Reshape", "sigma column", "s"),
        ("Reshape", "sigma_next column", "s_next"),
        ("Mul", "s s", "square"),
        ("Add", "square one", "variance"),
        ("Sqrt", "variance", "root"),
        ("Div", "x root", "unit"),
        ("Mul", "unit half", "seen"),
        ("Slice", "condition zero four axis_1", "shown"),
        ("Add", "seen shown", "own"),
        ("Mul", "own place", "placed"),
        ("ReduceMean", "placed axis_0", "shared"),
        ("Mul", "switcher signs", "signed"),
        ("ReduceSum", "signed axis_1", "summed"),
        ("Reshape", "summed column", "task"),
        ("Log", "s", "log"),
        ("Mul", "log tenth", "level"),
        ("Sum", "own shared task level", "blind"),
        ("Mul", "reference third", "photo"),
        ("ReduceMean", "embedding axis_1", "token", {"keepdims": 0}),
        ("Sum", "blind photo token", "told"),
        ("Tanh", "told", "conditional" if guided else "x0"),
    ]
    if guided:
        nodes += [
            ("Reshape", "guidance column", "strength"),
            ("Tanh", "blind", "unconditional"),
            ("Sub", "conditional unconditional", "difference"),
            ("Mul", "difference strength", "pull"),
            ("Add", "unconditional pull", "x0"),
        ]
    nodes += [
        ("Div", "s_next s", "ratio"),
        ("Sub", "x x0", "noise"),
        ("Mul", "noise ratio", "rest"),
        ("Add", "x0 rest", "x_next"),
    ]
    stepped = [frames, *LATENT]
    inputs = {
        "x": stepped,
        "sigma": [frames],
        "sigma_next": [frames],
        "reference": PLANE,
        "embedding": [1, EMBEDDING],
        "condition": [frames, CONDITION, *LATENT[1:]],
        "switcher": [frames, 2],
    }
    if guided:
        inputs["guidance"] = [frames]
    constants = {
        "column": [frames, 1, 1, 1],
        "one": 1.0,
        "half": 0.5,
        "third": 0.3,
        "tenth": 0.1,
        "zero": [0],
        "four": [4],
        "axis_0": [0],
        "axis_1": [1],
        "signs": [[0.2, -0.2]],
        "place": _place(frames),
    }
    outputs = {"x_next": stepped, "x0": stepped}
    return _graph("denoiser", nodes, inputs, outputs, constants)


def _place(frames: int) -> F32:
    return (1 + 0.1 * np.arange(frames, dtype=np.float32)).reshape(-1, 1, 1, 1)


# ---- the same in NumPy ------------------------------------------------------------------------


def pooled(picture: F32) -> F32:
    """[S, S, 3] → [3, h, w]."""
    h, w = LATENT[1:]
    return picture.reshape(h, POOL, w, POOL, 3).mean((1, 3)).transpose(2, 0, 1)


def latents_of(picture: F32) -> F32:
    """[S, S, 3] in [-1, 1] → [C, h, w], unscaled."""
    rgb = pooled(picture)
    return np.concatenate([rgb, rgb.mean(0, keepdims=True)])


def condition_of(render: F32, normals: F32) -> F32:
    """[C0, h, w]."""
    return np.concatenate([pooled(render), pooled(normals)])


def decoded(latent: F32, render: F32, residual_std: float | None) -> F32:
    """[C, h, w] as generated, and the field's render [S, S, 3] → [S, S, 3], both in [-1, 1]."""
    if residual_std is not None:
        latent = latent * residual_std
    rgb = (latent[:3] / SCALE).transpose(1, 2, 0).repeat(POOL, 0).repeat(POOL, 1)
    return np.clip(rgb if residual_std is None else rgb + render, -1, 1)


class ToyDenoiser:
    """`denoiser_graph` for frames whose handles name their conditions."""

    def __init__(self, conditions: Mapping[Hashable, F32], reference: F32, embedding: F32) -> None:
        self.conditions, self.reference, self.embedding = conditions, reference, embedding

    def __call__(
        self, x: F32, sigma: F32, sigma_next: F32, frames: Sequence[FrameSpec]
    ) -> tuple[F32, F32]:
        s, s_next = (v.reshape(-1, 1, 1, 1) for v in (sigma, sigma_next))
        shown = np.stack([self.conditions[frame.handle][:4] for frame in frames])
        own = x / np.sqrt(s**2 + 1) * 0.5 + shown
        shared = (own * _place(len(frames))).mean(0, keepdims=True)
        task = switcher([frame.task for frame in frames]) @ np.array([0.2, -0.2], np.float32)
        blind = own + shared + task.reshape(-1, 1, 1, 1) + 0.1 * np.log(s)
        told = blind + 0.3 * self.reference + self.embedding.mean()
        guidance = np.array([frame.guidance for frame in frames]).reshape(-1, 1, 1, 1)
        x0 = np.tanh(blind) + guidance * (np.tanh(told) - np.tanh(blind))
        return (x0 + s_next / s * (x - x0)).astype(np.float32), x0.astype(np.float32)
