"""``python -m reference.people``: look at synthetic people, or write one to a folder."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

from PIL import Image

from gas_rt.body import BodyModel
from gas_rt.errors import GasRtError, InputError
from reference.people import seeds
from reference.people.motions import MOTIONS
from reference.people.shards import BODY


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m reference.people", description=__doc__)
    parser.add_argument("--seed", type=int, default=seeds.TEST.start)
    parser.add_argument("--out", type=Path, required=True, help="a folder; with --gallery a PNG")
    parser.add_argument("--frames", type=int, default=20)
    parser.add_argument("--size", type=int, default=128, help="pixels on a side")
    parser.add_argument("--motion", choices=MOTIONS, help="of the pose clip; drawn if left out")
    parser.add_argument("--gallery", type=int, metavar="N", help="a sheet of N people")
    parser.add_argument("--body", type=Path, default=BODY)
    return parser


def _run(arguments: argparse.Namespace) -> None:
    if not 16 <= arguments.size <= 2048:
        raise InputError(f"--size: expected 16..2048 pixels, got {arguments.size}")
    if not 1 <= arguments.frames <= 2000:
        raise InputError(f"--frames: expected 1..2000, got {arguments.frames}")
    body = BodyModel.open(arguments.body)
    if arguments.gallery is not None:
        from reference.people.gallery import sheet

        people = range(arguments.seed, arguments.seed + max(1, arguments.gallery))
        arguments.out.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(sheet(people, body, size=arguments.size)).save(arguments.out)
        return
    from reference.people.export import write_person

    write_person(
        arguments.seed,
        body,
        arguments.out,
        frames=arguments.frames,
        size=arguments.size,
        motion=arguments.motion,
        progress=lambda message: print(message, file=sys.stderr),
    )


def main(argv: list[str] | None = None) -> int:
    """Entry point: 0 on success, 1 on the caller's error."""
    arguments = _parser().parse_args(argv)
    try:
        _run(arguments)
    except GasRtError as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
