"""``gas-rt enroll``: a photo and a body fit become an avatar file."""

from __future__ import annotations

import argparse
import time
from pathlib import Path
from typing import Any

from gas_rt.cli.common import add_json_flag, add_model_flags, bar, check_folder_of, emit, open_model

__all__ = ["add_parser"]


def add_parser(verbs: Any) -> None:
    """Add the verb's flags."""
    parser = verbs.add_parser("enroll", help="make an avatar from one photo", description=__doc__)
    parser.add_argument("photo", metavar="PHOTO", help="PNG, JPEG or WebP")
    parser.add_argument("--body", required=True, metavar="FIT.npz", help="the body in the photo")
    parser.add_argument(
        "--mask", metavar="M.png", help="default: the photo's alpha, or all that is not black"
    )
    parser.add_argument("-o", "--output", required=True, metavar="A.avatar")
    add_model_flags(parser)
    add_json_flag(parser)
    parser.set_defaults(run=run)


def run(args: argparse.Namespace) -> int:
    """Enroll and write the avatar."""
    check_folder_of(args.output, flag="--output")
    start = time.perf_counter()
    with open_model(args) as model, bar(args, "enroll") as progress:
        avatar = model.enroll(args.photo, args.body, args.mask, progress=progress)
        avatar.save(args.output)
        seconds = time.perf_counter() - start
        size = Path(args.output).stat().st_size
        document = {
            "schema_version": 1,
            "command": args.command_line,
            "avatar": str(args.output),
            "bytes": size,
            "shell_radius_m": avatar.radius_m,
            "seconds": round(seconds, 3),
            "model": model.info(),
        }
        text = f"{args.output}: {size / 1e6:.1f} MB in {seconds:.1f} s with {model.name}"
    emit(args, document, text)
    return 0
