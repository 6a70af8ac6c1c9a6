"""``python -m benchmarks.streaming``: run the rows, print them, judge them."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from benchmarks.reporting import add_output_flags, finish, observed, tell
from benchmarks.streaming.setting import Setting
from benchmarks.streaming.steady import cheap_wins, pipelining
from benchmarks.streaming.trouble import overload, slow_engine, stopped_consumer

PARTS: dict[str, Callable[[Setting], list[dict[str, Any]]]] = {
    part.__name__: part
    for part in (pipelining, cheap_wins, overload, stopped_consumer, slow_engine)
}


def main(argv: Sequence[str] | None = None) -> int:
    """Run and print; 0 if every row passes, else 3."""
    given = list(sys.argv[1:] if argv is None else argv)
    args = _parser().parse_args(given)
    rows: list[dict[str, Any]] = []
    with (
        Setting(
            args.model,
            args.backend,
            args.precision,
            quick=args.quick,
            avatar_path=args.avatar,
            policy=args.policy,
            steps=args.steps,
            side_px=args.side,
        ) as setting,
        observed() as noise,
    ):
        for name in args.parts:
            tell(name)
            rows += PARTS[name](setting)
        model = setting.model(setting.cores).info()
        stream = {
            "policy": setting.policy,
            "steps": setting.steps,
            "fps": round(setting.fps, 3),
            "sustained_fps": round(setting.sustained_fps, 3),
        }
    return finish(
        args,
        module="benchmarks.streaming",
        command=given,
        rows=rows,
        skipped={},
        quick=args.quick,
        model=model,
        stream=stream,
        noise=noise,
    )


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.streaming", description=__doc__)
    add_output_flags(parser)
    parser.add_argument("--quick", action="store_true", help="in seconds; speed is not judged")
    parser.add_argument(
        "--parts", type=_names, default=list(PARTS), metavar="NAME,…", help=f"of {', '.join(PARTS)}"
    )
    parser.add_argument("--model", default="gas-mini", metavar="NAME", help="name or folder")
    parser.add_argument("--backend", default="auto", metavar="B", help="(%(default)s)")
    parser.add_argument("--precision", default="auto", metavar="P", help="(%(default)s)")
    parser.add_argument("--avatar", type=Path, help="(the bundled person, enrolled first)")
    parser.add_argument("--policy", metavar="P", help="(the model's)")
    parser.add_argument("--steps", type=int, metavar="N", help="(the model's)")
    parser.add_argument("--side", type=int, metavar="PX", help="of the pictures (the model's)")
    return parser


def _names(text: str) -> list[str]:
    names = text.split(",")
    if unknown := [name for name in names if name not in PARTS]:
        raise argparse.ArgumentTypeError(f"no such part: {unknown}; there are {', '.join(PARTS)}")
    return names


if __name__ == "__main__":
    sys.exit(main())
