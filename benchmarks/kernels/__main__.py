"""``python -m benchmarks.kernels``: run the rows, print them, judge them."""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from benchmarks.kernels.bakes import bake
from benchmarks.kernels.fields import field_points
from benchmarks.kernels.machine import describe, measure_peaks
from benchmarks.kernels.normals import normals_512
from benchmarks.kernels.people import Setting
from benchmarks.kernels.renders import fast_db, field_128, field_512
from benchmarks.kernels.rows import Row, measured
from benchmarks.kernels.shells import lbs_inverse_cdist, lbs_inverse_kdtree
from benchmarks.kernels.skinning import lbs_forward
from benchmarks.kernels.table import markdown
from benchmarks.reporting import MISSED, add_choice, tell

ROWS: dict[str, Callable[[Setting], Row]] = {
    row.__name__: row
    for row in (
        lbs_forward,
        lbs_inverse_kdtree,
        lbs_inverse_cdist,
        field_points,
        field_512,
        field_128,
        fast_db,
        normals_512,
        bake,
    )
}


def main(argv: Sequence[str] | None = None) -> int:
    """Run and print; 0 if every row passes, else 3."""
    given = list(sys.argv[1:] if argv is None else argv)
    args = _parser().parse_args(given)
    if args.show:
        document = json.loads(args.show.read_text())
    else:
        document = run(args.rows, threads=args.threads, quick=args.quick, command=given)
    text = json.dumps(document, indent=2)
    if args.out:
        args.out.write_text(text + "\n")
    print(text if args.json else markdown(document))
    return 0 if all(row["ok"] for row in document["rows"]) else MISSED


def run(
    names: Sequence[str], *, threads: int, quick: bool, command: Sequence[str]
) -> dict[str, Any]:
    """The report of the named rows."""
    environment = describe()
    tell("measuring the machine")
    setting = Setting(measure_peaks(cores=threads, quick=quick), threads, quick)
    try:
        rows, skipped = measured(ROWS, names, setting, quick=quick)
    finally:
        setting.close()
    return {
        "schema_version": 1,
        "command": ["python", "-m", "benchmarks.kernels", *command],
        "environment": environment,
        "machine_peaks": setting.peaks.as_dict(),
        "quick": quick,
        "rows": rows,
        "skipped": skipped,
    }


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.kernels", description=__doc__)
    parser.add_argument("--json", action="store_true", help="print the report, not a table")
    parser.add_argument("--out", type=Path, metavar="FILE", help="write the report there too")
    parser.add_argument(
        "--show", type=Path, metavar="FILE", help="print such a report; run nothing"
    )
    parser.add_argument("--quick", action="store_true", help="small sizes; speed is not judged")
    parser.add_argument("--threads", type=int, default=2, metavar="N", help="(%(default)s)")
    add_choice(parser, "row", ROWS)
    return parser


if __name__ == "__main__":
    sys.exit(main())
