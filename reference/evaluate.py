"""``python -m reference.evaluate --stage field --seeds A:B --json``: pictures against the truth.

Each test person is photographed once and predicted on the orbit that starts at the photo's
camera. The photo's own view is left out; means are over frames.
"""

from __future__ import annotations

import argparse
import json
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image

from gas_rt.body import BodyFit, BodyModel
from gas_rt.core import Camera, Pose
from gas_rt.errors import GasRtError
from reference.data import Geometry, Picture
from reference.metrics import SEEN_DEG, azimuth_deg, box_and_whole
from reference.nerf.checkpoint import mesh_of, open_checkpoint
from reference.nerf.render import encode_photo, render_view

__all__ = ["RENDERERS", "evaluate", "main", "summary"]

F32 = NDArray[np.float32]
RENDERERS = ("teacher", "exact", "baked", "fast")
SCHEMA_VERSION = 1
SHEET_VIEWS = (0, 3, 7, 10, 13, 17)  # of 20: the photo's view, both sides of the seen limit, back

# (pose, camera) → rgb [H,W,3] premultiplied over black, of one person
Render = Callable[[Pose, Camera], F32]
# (betas, photo) → that person's Render
Enrol = Callable[[F32, Picture], Render]


def teacher(checkpoint: Path, body: BodyModel) -> Enrol:
    """The PyTorch model of a training checkpoint."""
    model, _ = open_checkpoint(checkpoint, mesh_of(body))
    geometry = Geometry(body, model.config, threads=torch.get_num_threads())

    def enrol(betas: F32, photo: Picture) -> Render:
        seen = geometry.photo(betas, photo)
        person = encode_photo(model, seen)
        shells: dict[bytes, Any] = {}

        def render(pose: Pose, camera: Camera) -> F32:
            key = pose.rotations.tobytes() + pose.translation.tobytes()
            if key not in shells:
                shells.clear()
                shells[key] = geometry.shell(betas, pose)
            return render_view(model, person, geometry, seen, shells[key], camera)[0]

        return render

    return enrol


def runtime(bundle: str, mode: str) -> Enrol:
    """The runtime: a bundle's graphs, ``exact`` or through the baked field."""
    import gas_rt

    model = gas_rt.load(bundle)

    def enrol(betas: F32, photo: Picture) -> Render:
        fit = BodyFit(betas, photo.pose, photo.camera)
        avatar = model.enroll(photo.rgb, fit, photo.mask)
        performer = model.performer(avatar, mode=mode)

        def render(pose: Pose, camera: Camera) -> F32:
            return performer.picture(pose, camera).rgb.astype(np.float32) / 255

        return render

    return enrol


def evaluate(
    enrol: Enrol, seeds: range, *, views: int, body: BodyModel, sheet: Path | None = None
) -> list[dict[str, Any]]:
    """One row per predicted frame."""
    from reference.people import view_clip

    rows: list[dict[str, Any]] = []
    strips: list[NDArray[np.uint8]] = []
    for seed in seeds:
        clip = view_clip(seed, body, frames=views)
        shot = clip.reference
        photo = Picture(shot.rgb, shot.mask, shot.pose, shot.camera)
        begin = time.perf_counter()
        render = enrol(clip.betas, photo)
        enrol_s = time.perf_counter() - begin
        pictures = []
        for frame in range(views):
            truth = clip.rgb[frame].astype(np.float32) / 255
            picture = np.clip(render(clip.poses[frame], clip.cameras[frame]), 0, 1)
            pictures.append(picture)
            if frame == 0:
                continue
            angle = azimuth_deg(shot.camera, clip.cameras[frame])
            metrics = box_and_whole(picture, truth, clip.mask[frame])
            rows.append({"seed": seed, "frame": frame, "azimuth_deg": round(angle, 2)} | metrics)
        print(f"seed {seed}: {_line(rows, seed)}  enrol {enrol_s:.1f} s", file=sys.stderr)
        if sheet is not None:
            chosen = [v for v in SHEET_VIEWS if v < views]
            strips += [_strip([shot.rgb, *(clip.rgb[v] for v in chosen)])]
            strips += [_strip([shot.rgb * 0, *(_bytes(pictures[v]) for v in chosen)])]
    if sheet is not None:
        sheet.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(np.concatenate(strips)).save(sheet, optimize=True)
    return rows


def summary(rows: list[dict[str, Any]]) -> dict[str, dict[str, float]]:
    """Mean metrics over frames: all of them, the seen side, the rest."""
    seen = [r for r in rows if r["azimuth_deg"] <= SEEN_DEG + 1e-6]
    hidden = [r for r in rows if r["azimuth_deg"] > SEEN_DEG + 1e-6]
    names = ("box_psnr_db", "box_ssim", "psnr_db", "ssim")
    return {
        side: {name: round(float(np.mean([r[name] for r in part])), 4) for name in names}
        | {"frames": len(part)}
        for side, part in (("all", rows), ("seen", seen), ("hidden", hidden))
        if part
    }


def _line(rows: list[dict[str, Any]], seed: int) -> str:
    parts = summary([r for r in rows if r["seed"] == seed])
    return "  ".join(f"{side} {part['box_psnr_db']:.2f} dB" for side, part in parts.items())


def _strip(pictures: list[NDArray[np.uint8]]) -> NDArray[np.uint8]:
    return np.concatenate(pictures, 1)


def _bytes(picture: F32) -> NDArray[np.uint8]:
    return (picture * 255 + 0.5).astype(np.uint8)


def _seeds(text: str) -> range:
    first, _, last = text.partition(":")
    try:
        seeds = range(int(first), int(last))
    except ValueError:
        seeds = range(0)
    if not seeds:
        raise argparse.ArgumentTypeError(
            f"expected FIRST:LAST with FIRST < LAST (LAST left out), got {text!r}"
        )
    return seeds


def main(argv: list[str] | None = None) -> int:
    """The command line."""
    parser = argparse.ArgumentParser(prog="python -m reference.evaluate", description=__doc__)
    parser.add_argument("--stage", choices=["field"], default="field")
    parser.add_argument("--seeds", type=_seeds, default=range(950_000, 950_008))
    parser.add_argument("--views", type=int, default=20, help="frames of the orbit")
    parser.add_argument("--renderer", choices=RENDERERS, default="baked")
    parser.add_argument("--bundle", default="engines/gas-mini", help="for exact, baked, fast")
    parser.add_argument("--checkpoint", type=Path, help="for teacher")
    parser.add_argument("--sheet", type=Path, help="PNG: truth above prediction, per person")
    parser.add_argument("--json", action="store_true", help="one document on stdout")
    args = parser.parse_args(argv)
    if args.views < 2:
        parser.error(f"--views: expected at least 2, got {args.views}")
    if (args.renderer == "teacher") != (args.checkpoint is not None):
        parser.error("--checkpoint: give it with --renderer teacher, and only then")
    try:
        body = BodyModel.open(Path(args.bundle) / "body.npz")
        if args.renderer == "teacher":
            enrol = teacher(args.checkpoint, body)
        else:
            enrol = runtime(args.bundle, args.renderer)
        rows = evaluate(enrol, args.seeds, views=args.views, body=body, sheet=args.sheet)
    except (GasRtError, OSError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    document = {
        "schema_version": SCHEMA_VERSION,
        "stage": args.stage,
        "renderer": args.renderer,
        "seeds": [args.seeds.start, args.seeds.stop],
        "views": args.views,
        "seen_deg": SEEN_DEG,
        "mean": summary(rows),
        "frames": rows,
    }
    if args.json:
        print(json.dumps(document))
    else:
        for side, part in document["mean"].items():
            print(f"{side:7s}" + "  ".join(f"{name} {value}" for name, value in part.items()))
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
