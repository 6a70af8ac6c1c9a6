"""``python -m export gas`` and ``nerf``: checkpoints to a bundle."""

from __future__ import annotations

import copy
import filecmp
import json
import os
import shutil
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import onnx
import torch

from export.bundle_json import (
    MANIFEST,
    describe,
    diffusion_config,
    manifest,
    policies,
)
from export.diffusion import Stage2, diffusion_cases, rounded_to_half
from export.lint import lint
from export.model_card import CARD, model_card
from export.nerf import FIELD_POINTS, nerf_cases, nerf_config
from export.onnx_files import (
    Case,
    export_graph,
    halve,
    move_weights,
    round_to_half,
    tensor_names,
    weight_names,
)
from export.parity import check_graphs
from export.provenance import checkpoint_facts
from gas_rt.body import BodyModel
from gas_rt.diffusion import POSE_GUIDANCE
from gas_rt.engine import open_bundle
from reference.autoencoder.checkpoint import open_checkpoint as open_autoencoder
from reference.diffusion.checkpoint import open_checkpoint as open_denoiser
from reference.nerf import HumanNerf
from reference.nerf.checkpoint import mesh_of
from reference.nerf.checkpoint import open_checkpoint as open_stage1

__all__ = [
    "BODY",
    "BYTES_MAX",
    "GUIDANCE",
    "WEIGHTS",
    "copy_kept",
    "export_bundle",
    "export_checkpoints",
    "install",
    "open_stage2",
]

WEIGHTS = "weights.safetensors"
BODY = "body.npz"
BYTES_MAX = 50_000_000  # of all files: what a checkout and a wheel carry for everybody
GUIDANCE = {"pose": POSE_GUIDANCE, "view_behind": 2.0}  # the paper's


def export_checkpoints(
    stage1: Path,
    *,
    autoencoder: Path | None = None,
    unet: Path | None = None,
    body_path: Path,
    out: Path,
    student: Path | None = None,
    guidance: Mapping[str, float] = GUIDANCE,
    sigmas: tuple[float, ...] | None = None,
    making: Mapping[str, Any] | None = None,
) -> dict[str, Any]:
    """The averaged weights of training checkpoints to a bundle; returns its bundle.json.

    A `student` takes the place of the `unet` it was distilled from, which is then named alone.
    `making` is what the model card says of how they came about, if they are of one run.
    """
    nerf, about = open_stage1(stage1, mesh_of(BodyModel.open(body_path)))
    provenance = {"stage1": checkpoint_facts(stage1, stage="stage1")}
    stage2 = None
    if autoencoder is not None and unet is not None:
        stage2 = open_stage2(autoencoder=autoencoder, unet=student or unet, sigmas=sigmas)
        provenance["autoencoder"] = checkpoint_facts(autoencoder, stage="autoencoder")
        provenance["unet"] = checkpoint_facts(unet, stage="unet")
        if stage2.few is not None and student is None:
            raise ValueError(f"{unet}: is a student; give its teacher, and it as --student")
    if student is not None and unet is not None:
        provenance["student"] = checkpoint_facts(student, stage="student")
        _check_student(provenance, student=student, unet=unet, guidance=guidance)
    if making is not None:
        provenance["making"] = dict(making)
    return export_bundle(
        nerf,
        stage2=stage2,
        body_path=body_path,
        out=out,
        provenance=provenance,
        camera_ranges=about["camera_ranges"],
        guidance=guidance,
    )


def open_stage2(
    *,
    autoencoder: Path,
    unet: Path,
    sigmas: tuple[float, ...] | None = None,
) -> Stage2:
    """Stage 2 and what its checkpoint says it was trained for.

    `sigmas` are levels to use instead of the trained ones, as many.
    """
    denoiser, about = open_denoiser(unet)
    if not (denoiser.config.nerf and denoiser.config.switcher):
        raise ValueError(
            f"{unet}: an ablation, which ignores inputs that a bundle's graphs have; judge it with "
            "`python -m reference.evaluate --checkpoint`, and export the full model"
        )
    windows = about["train"]["windows"]
    trained = tuple(windows["live_sigmas"])
    few = None
    if denoiser.told:
        few = {len(levels): tuple(levels) for levels in about["train"]["sigmas"]}
        if sigmas is not None:
            raise ValueError(
                f"sigmas: {unet} was distilled for its own lists, {list(few.values())}; leave them "
                "out, or train the student on others"
            )
    if sigmas is not None and len(sigmas) != len(trained):
        raise ValueError(
            f"sigmas: {len(sigmas)} levels, {unet} was trained in {len(trained)} steps; give as "
            "many"
        )
    return Stage2(
        denoiser,
        open_autoencoder(autoencoder),
        context=windows["context"],
        chunk=windows["chunk"],
        live_sigmas=sigmas or trained,
        parity_frames=windows["parity_frames"],
        few=few,
    )


def _check_student(
    provenance: Mapping[str, Any], *, student: Path, unet: Path, guidance: Mapping[str, float]
) -> None:
    """Raise unless the student is of this UNet, and was trained for this guidance."""
    facts = provenance["student"]
    if "teacher" not in facts:
        raise ValueError(
            f"{student}: is no student; give the checkpoint.pt of `python -m reference.train "
            "student`"
        )
    taught_by, found = facts["teacher"]["sha256"], provenance["unet"]["sha256"]
    if taught_by != found:
        raise ValueError(
            f"{student}: was distilled from {facts['teacher']['checkpoint']} {taught_by[:12]}, "
            f"{unet} is {found[:12]}; give the checkpoint it was distilled from"
        )
    low, high = facts["train"]["guidance"]
    for name, strength in guidance.items():
        if not low <= strength <= high:
            raise ValueError(
                f"guidance {name}: {strength:g}, {student} was trained for {low:g} to {high:g}; "
                "choose within, or train it for more"
            )


@torch.inference_mode()
def export_bundle(
    nerf: HumanNerf,
    *,
    stage2: Stage2 | None = None,
    body_path: Path,
    out: Path,
    provenance: Mapping[str, Any],
    camera_ranges: dict[str, list[float]],
    guidance: Mapping[str, float] = GUIDANCE,
    points: int = FIELD_POINTS,
) -> dict[str, Any]:
    """Write a bundle into the folder `out`; returns its bundle.json.

    Without `stage2` it shows the field. Everything is written and checked in a folder beside
    `out` first: ValueError or BundleError leaves `out` as it was. Of what `out` holds, files that
    no export writes (demo, motions) stay.
    """
    side = nerf.config.resolution
    # What was trained, not the body's constants: half a millimetre of a vertex is nothing to round.
    nerf = copy.deepcopy(nerf)
    round_to_half(nerf.named_parameters())
    cases = nerf_cases(nerf, points=points)
    names = tensor_names((f"nerf.{name}", weight) for name, weight in nerf.named_parameters())
    if stage2 is not None:
        stage2 = rounded_to_half(stage2)
        names |= weight_names(stage2.modules)
        cases |= diffusion_cases(stage2, side_px=side)
    graphs = {name: _graph(name, case, names) for name, case in cases.items()}
    described = {name: describe(name, graph) for name, graph in graphs.items()}
    config = nerf_config(nerf, described, camera_ranges=camera_ranges)
    if stage2 is not None:
        config["diffusion"] = diffusion_config(stage2, side_px=side, guidance=guidance)

    out.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix=f".{out.name}-", dir=out.parent) as temporary:
        folder = Path(temporary) / out.name
        copy_kept(out, folder)
        move_weights(graphs, folder, weights=WEIGHTS)
        shutil.copyfile(body_path, folder / BODY)
        worst = {name: float(f"{e:.1e}") for name, e in check_graphs(folder, cases).items()}
        parts = {
            "name": out.name,
            "graphs": described,
            "body": BODY,
            "policies": policies(stage2),
            "config": config,
            "provenance": dict(provenance) | {"parity": worst, "torch": torch.__version__},
        }
        (folder / CARD).write_text(model_card(manifest(folder, **parts)))
        written = manifest(folder, **parts)
        (folder / MANIFEST).write_text(json.dumps(written, indent=1) + "\n")
        _check_size(folder)
        open_bundle(folder)
        install(folder, out)
    return written


def _graph(name: str, case: Case, names: Mapping[bytes, str]) -> onnx.ModelProto:
    graph = export_graph(case)
    if found := lint(graph):
        raise ValueError(
            f"graph {name}: not every runtime can read it: {'; '.join(found[:4])}"
            f"{f' and {len(found) - 4} more' if len(found) > 4 else ''}; change the module"
        )
    halve(graph, names)
    return graph


def _generated(path: Path, folder: Path) -> bool:
    """Whether an export writes this file, and so replaces or removes it."""
    top = path.parent == folder
    return top and (path.suffix == ".onnx" or path.name in (WEIGHTS, MANIFEST, CARD, BODY))


def copy_kept(out: Path, folder: Path) -> None:
    """Begin a bundle's new `folder` with what `out` holds that no export writes."""
    folder.mkdir()
    for path in sorted(out.rglob("*")):
        hidden = any(part.startswith(".") for part in path.relative_to(out).parts)
        if path.is_file() and not hidden and not _generated(path, out):
            target = folder / path.relative_to(out)
            target.parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(path, target)


def _check_size(folder: Path) -> None:
    sizes = {p.relative_to(folder).as_posix(): p.stat().st_size for p in _files(folder)}
    total = sum(sizes.values())
    if total > BYTES_MAX:
        largest = sorted(sizes, key=lambda name: -sizes[name])[:3]
        raise ValueError(
            f"bundle {folder.name}: {total:,} bytes, at most {BYTES_MAX:,} are allowed; the "
            f"largest are {', '.join(f'{name} ({sizes[name]:,})' for name in largest)}. Nothing "
            "was installed; train a narrower model"
        )


def install(folder: Path, out: Path) -> None:
    """Put the files in their places, bundle.json last.

    Killed in between, the old bundle.json names hashes that the new files don't have, so the
    bundle is refused and not misread.
    """
    new = {path.name for path in folder.iterdir()}
    old = [path for path in _files(out) if _generated(path, out) and path.name not in new]
    for path in sorted(_files(folder), key=lambda p: p.name == MANIFEST):
        target = out / path.relative_to(folder)
        target.parent.mkdir(parents=True, exist_ok=True)
        if not target.is_file() or not filecmp.cmp(path, target, shallow=False):
            os.replace(path, target)
    for path in old:
        path.unlink()


def _files(folder: Path) -> list[Path]:
    return [path for path in folder.rglob("*") if path.is_file()]
