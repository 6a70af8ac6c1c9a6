"""``python -m export compare``: a bundle's `parity` against PyTorch's, on one clip.

PyTorch computes in fp32 with the checkpoint's weights as they were trained; the bundle's graphs
run on OpenVINO. Conditions (pictures), noise and noise levels are the same, so what differs is
what storing and running the model as a bundle costs.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from export.bundle import open_stage2
from export.diffusion import Stage2
from export.streams import Conditions, bundle_pictures, diffusion_of, unit_range
from gas_rt.core import Task
from gas_rt.diffusion import Schedule, guidance_of, switcher
from gas_rt.diffusion.parity import tile_of
from gas_rt.engine import Bundle, Precision, open_bundle, open_engine
from gas_rt.errors import InputError
from reference.diffusion.pipeline import generate
from reference.metrics import mask_box, psnr_db

__all__ = [
    "LOSS_DB_MAX",
    "REQUIRED_DB",
    "Conditions",
    "compare",
    "film",
    "judged",
    "pytorch_pictures",
    "run",
    "summary",
]

# By precision: between the two, mean over frames; and what may be lost in the box, to the truth.
REQUIRED_DB = {"fp32": 45.0, "fp16": 36.0, "bf16": 36.0, "int8": 32.0}
LOSS_DB_MAX = {"fp32": 0.1, "fp16": 0.1, "bf16": 0.1, "int8": 0.4}
DECODE_BATCH = 8

F32 = NDArray[np.float32]


def run(
    bundle: Path,
    *,
    autoencoder: Path,
    unet: Path,
    seed: int,
    task: Task,
    frames: int,
    steps: int | None = None,
    precision: Precision = "fp32",
    threads: int = 2,
) -> dict[str, Any]:
    """The verb: a report whose "ok" says whether the bundle is close enough."""
    opened = open_bundle(bundle)
    config = diffusion_of(opened)
    window = config.policies["parity"].profile.frames
    if frames < window:
        raise InputError(f"frames: at least one window of {window}, got {frames}")
    schedule = config.schedule("parity", steps=steps or config.steps("parity")[-1])
    torch.set_num_threads(threads)
    stage = open_stage2(autoencoder=autoencoder, unet=unet)
    conditions = film(bundle, seed=seed, task=task, frames=frames, threads=threads)
    report = compare(
        opened, stage, conditions, schedule=schedule, precision=precision, threads=threads
    )
    return {
        "bundle": opened.label,
        "seed": seed,
        "task": task,
        "steps": schedule.window.steps,
        **report,
    }


def film(bundle: Path, *, seed: int, task: Task, frames: int, threads: int) -> Conditions:
    """A clip of a synthetic person, enrolled in the bundle, whose field renders it."""
    import gas_rt
    from gas_rt import kernels
    from gas_rt.body import BodyFit
    from reference.people import pose_clip, view_clip

    with gas_rt.load(bundle, threads=threads) as model:
        body, side = model.parts.body, model.resolution
        make = view_clip if task == "view" else pose_clip
        clip = make(seed, body, frames=frames, size=side)
        photo = clip.reference
        fit = BodyFit(clip.betas, photo.pose, photo.camera)
        performer = model.performer(model.enroll(photo.rgb, fit, photo.mask))
        renders, normals = [], []
        for pose, camera in zip(clip.poses, clip.cameras, strict=True):
            renders.append(performer.picture(pose, camera).rgb)
            vertices = body.pose(clip.betas, pose).vertices
            normals.append(kernels.render_normals(vertices, body.faces, camera)[0])
        given = vars(diffusion_of(model.parts.bundle).guidance)
    guidance = [guidance_of(task, camera, photo.camera, **given) for camera in clip.cameras]
    return Conditions(
        task=task,
        photo=_chw(photo.rgb / 255),
        renders=_chw(np.stack(renders) / 255),
        normals=_chw(np.stack(normals)),
        guidance=np.array(guidance, np.float32),
        truth=_chw(clip.rgb / 255),
        mask=clip.mask > 0,
    )


def _chw(pictures: NDArray[Any]) -> F32:
    return np.ascontiguousarray(np.moveaxis(pictures, -1, -3), dtype=np.float32)


def compare(
    bundle: Bundle,
    stage: Stage2,
    conditions: Conditions,
    *,
    schedule: Schedule,
    precision: Precision,
    threads: int = 2,
) -> dict[str, Any]:
    """Differences of the decoded pictures, from each other and from the truth."""
    wanted = pytorch_pictures(stage, conditions, schedule=schedule)
    engine = open_engine("openvino", threads=threads, precision=precision)
    found = bundle_pictures(bundle, conditions, schedule=schedule, engine=engine)
    engine.close()
    return judged(found, wanted, conditions, precision=precision)


def judged(found: F32, wanted: F32, conditions: Conditions, *, precision: str) -> dict[str, Any]:
    """Differences of a stream's pictures [N, 3, S, S] from PyTorch's, and from the truth."""
    boxes = [mask_box(mask) for mask in conditions.mask]
    between = [psnr_db(a, b) for a, b in zip(found, wanted, strict=True)]
    in_box = [psnr_db(a[:, *b], c[:, *b]) for a, b, c in zip(found, boxes, wanted, strict=True)]
    truth = {
        name: float(
            np.mean(
                [
                    psnr_db(p[:, *b], t[:, *b])
                    for p, b, t in zip(pictures, boxes, conditions.truth, strict=True)
                ]
            )
        )
        for name, pictures in (("pytorch", wanted), ("bundle", found))
    }
    required, loss_max = REQUIRED_DB[precision], LOSS_DB_MAX[precision]
    mean, loss = float(np.mean(between)), truth["pytorch"] - truth["bundle"]
    return {
        "frames": len(wanted),
        "precision": precision,
        "psnr_db": round(mean, 3),
        "psnr_db_lowest": round(min(between), 3),
        "box_psnr_db": round(float(np.mean(in_box)), 3),
        "required_db": required,
        "truth_box_psnr_db": {name: round(value, 3) for name, value in truth.items()},
        "loss_db": round(loss, 4),
        "loss_db_max": loss_max,
        "ok": bool(mean >= required and loss <= loss_max),
    }


@torch.inference_mode()
def pytorch_pictures(stage: Stage2, conditions: Conditions, *, schedule: Schedule) -> F32:
    """[N, 3, S, S] in [0, 1]: the reference pipeline's."""
    model, autoencoder, window = stage.denoiser, stage.autoencoder, schedule.window
    photo = torch.from_numpy(conditions.photo)[None] * 2 - 1
    renders = torch.from_numpy(conditions.renders) * 2 - 1
    nerf = torch.cat([autoencoder.encode(part) for part in renders.split(DECODE_BATCH)])
    count = len(renders)
    latents = generate(
        model,
        reference=autoencoder.encode(photo),
        embedding=model.embed(photo),
        nerf_latents=nerf,
        normals=torch.from_numpy(conditions.normals),
        switcher=torch.from_numpy(switcher([conditions.task] * count)),
        guidance=torch.from_numpy(conditions.guidance),
        noise=torch.from_numpy(conditions.noise(tuple(nerf.shape[1:]))),
        sigmas=torch.tensor(schedule.sigmas),
        tile=tile_of(window),
        overlap=tile_of(window) - window.chunk,
    )
    given = [model.centre(latents, nerf)]
    if model.config.residual_std is not None:
        given += [nerf, renders]
    parts = zip(*(value.split(DECODE_BATCH) for value in given), strict=True)
    pictures = torch.cat([stage.picture_decoder(*part) for part in parts])
    return unit_range(pictures.numpy())


def summary(report: dict[str, Any]) -> str:
    """The report for people."""
    truth = report["truth_box_psnr_db"]
    return (
        f"{report['bundle']}, {report['frames']} {report['task']} frames in {report['steps']} "
        f"steps, {report['precision']}: {report['psnr_db']:.2f} dB to PyTorch (lowest frame "
        f"{report['psnr_db_lowest']:.2f}, box {report['box_psnr_db']:.2f}; required "
        f"{report['required_db']:g})\nbox PSNR to the truth: PyTorch {truth['pytorch']:.3f} dB, "
        f"bundle {truth['bundle']:.3f} dB (loss {report['loss_db']:+.3f}, at most "
        f"{report['loss_db_max']:g})\n{'ok' if report['ok'] else 'MISSED'}"
    )
