"""``python -m export convert-gas``: the authors' weights to a bundle.

Weights go from the authors' files into the bundle's one by one, in fp16; no model is ever in
memory as a whole. The gate runs the same graphs at a size that a processor can, with the weights
as they were written, beside PyTorch.
"""

from __future__ import annotations

import gc
import json
import tempfile
from collections.abc import Callable, Mapping
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import torch
from torch import nn

from export.bundle import BODY, GUIDANCE, WEIGHTS, copy_kept, install
from export.bundle_json import MANIFEST, describe, manifest
from export.lint import lint
from export.model_card import CARD
from export.nerf import FIELD_POINTS, nerf_cases, nerf_config
from export.onnx_files import Case, export_graph, gather, locate, save_graphs
from export.parity import check_graphs, differences
from export.provenance import checkpoint_facts
from export.release import Models, Release, open_files
from export.release_card import LICENSE, release_card
from export.release_graphs import (
    Geometry,
    in_precision,
    reduced,
    release_cases,
    release_config,
)
from export.streamed import attach, point, trace
from export.weight_file import Weight, places, write_weights
from gas_rt.body import BodyModel
from gas_rt.engine import open_bundle
from reference.nerf.checkpoint import mesh_of
from reference.nerf.checkpoint import open_checkpoint as open_stage1

__all__ = ["GATE_FRAMES", "GATE_SIDE_PX", "TOLERANCES", "convert", "gate"]

# Of the largest magnitude of an output, against PyTorch in fp32 with the weights as written.
TOLERANCES = {"fp32": 1e-4, "fp16": 2e-2}
GATE_SIDE_PX, GATE_FRAMES = 256, 4
Progress = Callable[[str], None]
Places = Mapping[str, tuple[int, int]]
Tensors = dict[str, torch.Tensor]


def convert(
    svd: Path,
    gas: Path,
    *,
    stage1: Path,
    body: Path,
    out: Path,
    geometry: Geometry | None = None,
    precision: str = "fp16",
    runtimes: tuple[str, ...] = ("onnxruntime", "openvino"),
    points: int = FIELD_POINTS,
    progress: Progress = lambda _: None,
) -> dict[str, Any]:
    """Write a bundle into the folder `out`; returns its bundle.json.

    Parameters
    ----------
    svd, gas : a diffusers checkout of SVD-XT 1.1, and the folder of `unet.pth`, `pose_net.pth`
        and `nerf_net.pth`.
    stage1, body : our checkpoint of the field, and its body.
    precision : what the UNet and the decoder compute in, ``fp16`` or ``fp32``.
    runtimes : that every graph is compared with PyTorch in before anything is installed.

    `out` stays as it was where something is wrong: FileError for what cannot be read, ValueError
    where a graph differs from PyTorch or holds what runtimes cannot read.
    """
    geometry = geometry or Geometry()
    progress("reading the authors' files")
    release = open_files(svd, gas)
    models = in_precision(release.models, precision)
    nerf, about = open_stage1(stage1, mesh_of(BodyModel.open(body)))
    with torch.inference_mode():
        field_cases = nerf_cases(nerf, points=points, side_px=geometry.side_px)
        graphs = {name: export_graph(case) for name, case in field_cases.items()}
    arrays, moved = gather(graphs)
    weights = {key: _held(array) for key, array in arrays.items()}
    for name, case in release_cases(models, geometry).items():
        progress(f"tracing {name}")
        graphs[name], more = _streamed(case, release, models)
        weights |= more
    _lint(graphs)
    described = {name: describe(name, graph) for name, graph in graphs.items()}
    config = nerf_config(
        nerf, described, camera_ranges=about["camera_ranges"], side_px=geometry.side_px
    )
    config["diffusion"] = release_config(
        models,
        geometry,
        sigma_min=release.sigma_min,
        sigma_max=release.sigma_max,
        guidance=GUIDANCE,
    )
    out.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix=f".{out.name}-", dir=out.parent) as temporary:
        folder = Path(temporary) / out.name
        copy_kept(out, folder)
        progress(f"writing {sum(w.bytes for w in weights.values()) / 1e9:.2f} GB of weights")
        write_weights(folder / WEIGHTS, weights)
        where = places(weights)
        for tensor, key in moved:
            locate(tensor, where[key], weights=WEIGHTS)
        for name in graphs.keys() - field_cases.keys():
            point(graphs[name], where, weights=WEIGHTS)
        save_graphs(graphs, folder)
        (folder / BODY).write_bytes(body.read_bytes())
        worst = check_graphs(folder, field_cases)
        if runtimes:
            worst |= gate(
                folder,
                release,
                where,
                geometry,
                precision=precision,
                graphs=graphs,
                runtimes=runtimes,
                progress=progress,
            )
        parts = {
            "name": out.name,
            "graphs": described,
            "body": BODY,
            "policies": ["field", "parity"],
            "config": config,
            "provenance": {
                "stage1": checkpoint_facts(stage1, stage="stage1"),
                "release": dict(release.facts),
                "precision": precision,
                "parity": {name: float(f"{error:.1e}") for name, error in worst.items()},
                "torch": torch.__version__,
            },
            "license": LICENSE,
        }
        (folder / CARD).write_text(release_card(parts))
        written = manifest(folder, **parts)
        (folder / MANIFEST).write_text(json.dumps(written, indent=1) + "\n")
        open_bundle(folder)
        install(folder, out)
    return written


def gate(
    folder: Path,
    release: Release,
    where: Places,
    geometry: Geometry,
    *,
    precision: str,
    side_px: int = GATE_SIDE_PX,
    frames: int = GATE_FRAMES,
    graphs: Mapping[str, onnx.ModelProto] | None = None,
    only: tuple[str, ...] = (),
    runtimes: tuple[str, ...] = ("onnxruntime", "openvino"),
    lean: bool = False,
    progress: Progress = lambda _: None,
) -> dict[str, float]:
    """By graph and runtime, the largest relative difference from PyTorch; ValueError if too large.

    The graphs read the weights that lie in `folder`; PyTorch computes in fp32 with the same ones.
    They are traced anew at a smaller size, unless `graphs`, those of `geometry`, are small enough.
    `only` names the graphs to run, all by default. With `lean` ONNX Runtime takes the graph as it
    is, and so keeps no copies of weights in other types.
    """
    smaller = reduced(geometry, side_px=side_px, frames=frames)
    worst: dict[str, float] = {}
    for name, case in release_cases(release.models, smaller).items():
        if only and not name.startswith(only):
            continue
        progress(f"comparing {name} with PyTorch")
        path = folder / f"gate_{name}.onnx"
        try:
            if graphs is not None and smaller == geometry:
                graph = graphs[name]
            else:
                graph, _ = _streamed(case, release, release.models)
                point(graph, where, weights=WEIGHTS)
            save_graphs({path.stem: graph}, folder)
            in_precision(release.models, "fp32")
            expected = _in_pytorch(case, release.models, folder / WEIGHTS, release)
            for runtime in runtimes:
                found = differences(
                    path, case.inputs, expected, runtimes=(runtime,), optimised=not lean
                )
                worst[f"{name}/{runtime}"] = max(found[runtime].values())
                gc.collect()
        finally:
            in_precision(release.models, precision)
            path.unlink(missing_ok=True)
    bad = {key: error for key, error in worst.items() if not error <= TOLERANCES[precision]}
    if bad:
        told = ", ".join(f"{key} by {error:.2g}" for key, error in bad.items())
        raise ValueError(
            f"graphs differ from PyTorch's, relative to their range: {told}; at most "
            f"{TOLERANCES[precision]} is allowed in {precision} (inf: NaN or infinity). Nothing "
            "was installed; find the operator that differs, or convert with --precision fp32"
        )
    return worst


def _streamed(
    case: Case, release: Release, models: Models
) -> tuple[onnx.ModelProto, dict[str, Weight]]:
    graph = trace(case, _names(models))
    return graph, attach(graph, release.sources)


def _names(models: Models) -> dict[int, str]:
    """What a bundle calls each weight, by the module's own tensor."""
    return {
        id(value): f"{part}.{name}"
        for part, module in models.modules.items()
        for name, value in [*module.named_parameters(), *module.named_buffers()]
    }


@torch.inference_mode()
def _in_pytorch(case: Case, models: Models, path: Path, release: Release) -> Tensors:
    """The case's outputs in fp32, with weights read back from the bundle's file.

    Each module reads its own when it is called and forgets them, so that they need no memory
    together. Those that don't lie in the file, as they are small, are read where they come from.
    """
    from safetensors import safe_open

    names = _names(models)
    with safe_open(path, framework="pt") as stored, ExitStack() as hooks:
        keys = set(stored.keys())

        def read(name: str) -> torch.Tensor:
            if name in keys:
                return stored.get_tensor(name).float()
            if f"{name}.T" in keys:
                return stored.get_tensor(f"{name}.T").T.float()
            return release.sources[name].half(name).float()

        for module in case.module.modules():
            _lend(module, names, read, hooks)
        return case.expected()


def _lend(
    module: nn.Module,
    names: Mapping[int, str],
    read: Callable[[str], torch.Tensor],
    hooks: ExitStack,
) -> None:
    """Give a module on the meta device its own weights for as long as it is called."""
    held = [
        (kind, leaf, value)
        for kind in (module._parameters, module._buffers)
        for leaf, value in kind.items()
        if value is not None and value.is_meta
    ]

    def fetch(*_: Any) -> None:
        for kind, leaf, value in held:
            kind[leaf] = read(names[id(value)])

    def forget(*_: Any) -> None:
        for kind, leaf, value in held:
            kind[leaf] = value

    if held:
        hooks.callback(forget)
        hooks.callback(module.register_forward_pre_hook(fetch).remove)
        hooks.callback(module.register_forward_hook(forget, always_call=True).remove)


def _held(array: np.ndarray[Any, Any]) -> Weight:
    return Weight(array.shape, array.dtype, lambda: array)


def _lint(graphs: Mapping[str, onnx.ModelProto]) -> None:
    found = [f"graph {name}: {text}" for name, graph in graphs.items() for text in lint(graph)]
    if found:
        more = f" and {len(found) - 4} more" if len(found) > 4 else ""
        raise ValueError(f"not every runtime can read this: {'; '.join(found[:4])}{more}")
