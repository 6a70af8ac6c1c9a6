"""``python -m export VERB``: everything that is made once and shipped."""

from __future__ import annotations

import argparse
import json
import sys
import tempfile
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from export.errors import GateError
from export.precision import COMPONENTS, DEFAULT_COMPONENTS, PRECISIONS
from gas_rt.engine import find_bundle
from gas_rt.errors import GasRtError


def _convert_anny(arguments: argparse.Namespace) -> int:
    from export.convert_anny import convert

    print(json.dumps(convert(arguments.out), indent=1))
    return 0


def _bundle(arguments: argparse.Namespace) -> int:
    from export.bundle import export_checkpoints

    def export(out: Path) -> Mapping[str, Any]:
        with_stage2 = arguments.verb == "gas"
        return export_checkpoints(
            arguments.stage1,
            autoencoder=arguments.autoencoder if with_stage2 else None,
            unet=arguments.unet if with_stage2 else None,
            body_path=arguments.body or arguments.out / "body.npz",
            out=out,
            **(_of_stage2(arguments) if with_stage2 else {}),
        )

    if arguments.check:
        return _check(arguments.out, export)
    print(json.dumps(export(arguments.out)["provenance"]["parity"], indent=1))
    return 0


def _of_stage2(arguments: argparse.Namespace) -> dict[str, Any]:
    student: Path | None = arguments.student
    if student is not None and student.is_dir():
        student /= "checkpoint.pt"
    return {"guidance": _guidance(arguments), "sigmas": arguments.sigmas, "student": student}


def _check(folder: Path, export: Callable[[Path], object]) -> int:
    """Export beside `folder`, say what would differ, leave `folder` as it is."""
    from export.bundle import copy_kept
    from export.rebuild import differences, summary

    with tempfile.TemporaryDirectory(prefix="gas-rt-export-") as temporary:
        rebuilt = Path(temporary) / folder.name
        copy_kept(folder, rebuilt)
        export(rebuilt)
        found = differences(folder, rebuilt)
    files = sum(path.is_file() for path in folder.rglob("*"))
    print(summary(found, folder=folder, files=files))
    return 3 if found else 0


def _guidance(arguments: argparse.Namespace) -> dict[str, float]:
    return {"pose": arguments.guidance_pose, "view_behind": arguments.guidance_view_behind}


def _compare(arguments: argparse.Namespace) -> int:
    from export.compare import run, summary

    report = run(
        arguments.bundle,
        autoencoder=arguments.autoencoder,
        unet=arguments.unet,
        seed=arguments.seed,
        task=arguments.task,
        frames=arguments.frames,
        steps=arguments.steps,
        precision=arguments.precision,
        threads=arguments.threads,
    )
    print(json.dumps(report) if arguments.json else summary(report))
    return 0 if report["ok"] else 3


def _precision(arguments: argparse.Namespace) -> int:
    from export.precision.convert import convert
    from export.precision.source import open_source

    source = open_source(
        find_bundle(arguments.bundle),
        checkpoints=arguments.checkpoints,
        frames=arguments.frames,
        seed=arguments.seed,
        task=arguments.task,
        threads=arguments.threads,
        progress=_progress,
    )
    manifest = convert(
        source,
        arguments.precision,
        out=arguments.out,
        components=arguments.components,
        budget=arguments.budget,
        steps=arguments.steps,
        progress=_progress,
    )
    print(json.dumps(manifest["precision"], indent=1))
    return 0


def _convert_gas(arguments: argparse.Namespace) -> int:
    from export.convert_gas import convert
    from export.release_graphs import Geometry

    geometry = Geometry(
        side_px=arguments.side,
        frames=arguments.frames,
        overlap=arguments.overlap,
        decoder_frames=arguments.decoder_frames,
        decoder_overlap=arguments.decoder_overlap,
        steps=arguments.steps,
    )
    manifest = convert(
        arguments.svd,
        arguments.gas,
        stage1=arguments.stage1,
        body=arguments.body,
        out=arguments.out,
        geometry=geometry,
        precision=arguments.precision,
        **({"runtimes": ()} if arguments.no_gate else {}),
        progress=_progress,
    )
    print(json.dumps(manifest["provenance"]["parity"], indent=1))
    return 0


def _convert_smpl(arguments: argparse.Namespace) -> int:
    from export.convert_smpl import convert

    print(json.dumps(convert(arguments.pickle, arguments.out), indent=1))
    return 0


def _progress(text: str) -> None:
    print(text, file=sys.stderr, flush=True)


def _motions(arguments: argparse.Namespace) -> int:
    from gas_rt.body import MOTION_NAMES, procedural_motion

    arguments.out.mkdir(parents=True, exist_ok=True)
    for name in MOTION_NAMES:
        motion = procedural_motion(name, arguments.frames, fps=arguments.fps, seed=arguments.seed)
        motion.save(arguments.out / f"{name}.npz")
        print(arguments.out / f"{name}.npz")
    return 0


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m export", description=__doc__)
    verbs = parser.add_subparsers(dest="verb", required=True)
    anny = verbs.add_parser("convert-anny", help="reduce Anny to the bundled SMPL-format body")
    anny.add_argument("-o", "--out", type=Path, required=True, help="the body.npz to write")
    anny.set_defaults(run=_convert_anny)
    gas = verbs.add_parser("gas", help="checkpoints of both stages to a bundle")
    nerf = verbs.add_parser("nerf", help="stage 1 alone to a bundle that shows the field")
    for verb in (gas, nerf):
        verb.add_argument("stage1", type=Path, help="stage 1's checkpoint")
        verb.add_argument("-o", "--out", type=Path, required=True, help="the bundle's folder")
        verb.add_argument("--body", type=Path, help="default: the body.npz in the bundle's folder")
        verb.add_argument(
            "--check", action="store_true", help="say what would differ; write nothing; 3 if any"
        )
        verb.set_defaults(run=_bundle)
    _add_stage2(gas)
    gas.add_argument(
        "--student",
        type=Path,
        help="the folder or checkpoint of a student of the UNet, which takes its place",
    )
    gas.add_argument("--guidance-pose", type=float, default=2.0, help="default 2; 1 is none")
    gas.add_argument(
        "--guidance-view-behind", type=float, default=2.0, help="default 2; in front it is 1"
    )
    gas.add_argument(
        "--sigmas",
        type=_levels,
        metavar="LIST",
        help="levels where the steps start, 40,10,3,1 say, as many as were trained (as trained)",
    )
    _add_precision(
        verbs.add_parser("precision", help="a bundle in fp32 to fp16, bf16 or int8, behind gates")
    )
    _add_compare(verbs.add_parser("compare", help="a bundle's `parity` against PyTorch's"))
    _add_convert_gas(
        verbs.add_parser("convert-gas", help="the authors' weights of stage 2 to a bundle")
    )
    smpl = verbs.add_parser("convert-smpl", help="an original SMPL pickle to an .npz body")
    smpl.add_argument("pickle", type=Path, help="the .pkl file; it is read, never executed")
    smpl.add_argument("-o", "--out", type=Path, required=True, help="the .npz to write")
    smpl.set_defaults(run=_convert_smpl)
    motions = verbs.add_parser("motions", help="write the bundled motions as AMASS npz files")
    motions.add_argument("-o", "--out", type=Path, required=True, help="the folder to write to")
    motions.add_argument("--frames", type=int, default=100)
    motions.add_argument("--fps", type=float, default=25.0)
    motions.add_argument("--seed", type=int, default=0)
    motions.set_defaults(run=_motions)
    return parser


def _levels(text: str) -> tuple[float, ...]:
    try:
        return tuple(float(level) for level in text.split(","))
    except ValueError as error:
        raise argparse.ArgumentTypeError(f"expected numbers with commas, got {text!r}") from error


def _add_stage2(verb: argparse.ArgumentParser) -> None:
    verb.add_argument("autoencoder", type=Path, help="the autoencoder's checkpoint")
    verb.add_argument("unet", type=Path, help="stage 2's checkpoint")


def _add_precision(verb: argparse.ArgumentParser) -> None:
    add = verb.add_argument
    add("bundle", help="a bundle in fp32, by folder or by the name of a shipped one")
    add("-o", "--out", type=Path, required=True, help="the new bundle's folder")
    add("--precision", choices=PRECISIONS, required=True, help="fp32 runs the gates and copies")
    add(
        "--components",
        type=lambda text: tuple(text.split(",")),
        default=DEFAULT_COMPONENTS,
        metavar="LIST",
        help=f"of {', '.join(COMPONENTS)} ({','.join(DEFAULT_COMPONENTS)})",
    )
    root = Path(__file__).parents[1]
    checkpoints = root / "reference" / "checkpoints"
    add("--checkpoints", type=Path, default=checkpoints, help="folder of those it was made from")
    add("--budget", type=float, help="error that layers may make, of an output's rms")
    add("--frames", type=int, default=40, help="of the stream whose pictures are judged")
    add("--seed", type=int, default=950_000, help="its person's; 950000.. are tests")
    add("--task", choices=("pose", "view"), default="pose")
    add("--steps", type=int, help="its steps; default: the bundle's usual ones")
    add("--threads", type=int, default=2)
    verb.set_defaults(run=_precision)


def _add_convert_gas(verb: argparse.ArgumentParser) -> None:
    root = Path(__file__).parents[1]
    add = verb.add_argument
    add("svd", type=Path, help="a diffusers checkout of SVD-XT 1.1")
    add("gas", type=Path, help="the folder of unet.pth, pose_net.pth and nerf_net.pth")
    add("-o", "--out", type=Path, required=True, help="the bundle's folder")
    stage1 = root / "reference" / "checkpoints" / "stage1-mini.pt"
    add("--stage1", type=Path, default=stage1, help="our checkpoint of the field")
    body = root / "engines" / "gas-mini" / "body.npz"
    add("--body", type=Path, default=body, help="the body stage 1 was trained on")
    add("--side", type=int, default=512, help="of the pictures, in pixels")
    add("--frames", type=int, default=20, help="of a window")
    add("--overlap", type=int, default=6, help="frames that windows share")
    add("--decoder-frames", type=int, default=20, help="of one call of the decoder")
    add("--decoder-overlap", type=int, default=6, help="frames that its calls share")
    add("--steps", type=int, default=25, help="of denoising")
    add("--precision", choices=("fp16", "fp32"), default="fp16", help="of the UNet and the decoder")
    add("--no-gate", action="store_true", help="don't compare the graphs with PyTorch")
    verb.set_defaults(run=_convert_gas)


def _add_compare(verb: argparse.ArgumentParser) -> None:
    verb.add_argument("bundle", type=Path)
    _add_stage2(verb)
    verb.add_argument("--seed", type=int, default=950_000, help="the person's; 950000.. are tests")
    verb.add_argument("--task", choices=("pose", "view"), default="pose")
    verb.add_argument("--frames", type=int, default=40)
    verb.add_argument("--steps", type=int, help="default: the most the bundle lists for parity")
    verb.add_argument("--precision", choices=("fp32", "bf16", "int8"), default="fp32")
    verb.add_argument("--threads", type=int, default=2)
    verb.add_argument("--json", action="store_true", help="one document on stdout")
    verb.set_defaults(run=_compare)


def main(argv: list[str] | None = None) -> int:
    """Entry point."""
    arguments = _parser().parse_args(argv)
    try:
        return int(arguments.run(arguments))
    except GateError as error:
        print(f"error: {error}", file=sys.stderr)
        return 3
    except (GasRtError, OSError, ValueError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 1


if __name__ == "__main__":
    sys.exit(main())
