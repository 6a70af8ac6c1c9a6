"""``python -m benchmarks.streaming``: run the rows, print them, judge them."""

from __future__ import annotations

import sys
from collections.abc import Callable, Sequence
from typing import Any

from benchmarks.reporting import finish, observed, parser_of, tell
from benchmarks.streaming.setting import Setting
from benchmarks.streaming.steady import cheap_wins, pipelining
from benchmarks.streaming.trouble import overload, slow_engine, stopped_consumer

PARTS: dict[str, Callable[[Setting], list[dict[str, Any]]]] = {
    part.__name__: part
    for part in (pipelining, cheap_wins, overload, stopped_consumer, slow_engine)
}
MINE = "benchmarks.streaming"


def main(argv: Sequence[str] | None = None) -> int:
    """Run and print; 0 if every row passes, else 3."""
    given = list(sys.argv[1:] if argv is None else argv)
    args = parser_of(MINE, __doc__, PARTS, quick="speed is").parse_args(given)
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
        module=MINE,
        command=given,
        rows=rows,
        skipped={},
        quick=args.quick,
        model=model,
        stream=stream,
        noise=noise,
    )


if __name__ == "__main__":
    sys.exit(main())
