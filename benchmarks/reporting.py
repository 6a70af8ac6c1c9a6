"""What the benchmarks of sessions share: rows, their document, and how it is printed and kept."""

from __future__ import annotations

import argparse
import json
import os
import sys
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import gas_rt
from gas_rt.bench.load import LIMITS, load_between, read_cpu_times
from gas_rt.stream.report import write_report

__all__ = ["MISSED", "NEVER", "add_choice", "finish", "observed", "parser_of", "row", "tell"]

MISSED = 3
NEVER = 1e9  # in place of infinity, which JSON lacks


def row(
    name: str,
    ours: float,
    peer: float,
    unit: str,
    *,
    required: float,
    more_is_better: bool,
    judged: bool = True,
    correct: bool = True,
    **further: Any,
) -> dict[str, Any]:
    """A row whose ratio is above 1 where `ours` is better than `peer`; ok from `required` on.

    `judged` False reports the ratio only, as of speed in a quick run; `correct` is what must hold
    at any speed.
    """
    better, worse = (ours, peer) if more_is_better else (peer, ours)
    even = 1.0 if better == worse else NEVER  # where the one to divide by is 0
    ratio = better / worse if worse else even
    return {
        "name": name,
        "ours": round(ours, 6),
        "peer": round(peer, 6),
        "unit": unit,
        "ratio": round(ratio, 4),
        "required": required,
        "ok": correct and (bool(ratio >= required) or not judged),
        "judged": judged,
        **further,
    }


@contextmanager
def observed() -> Iterator[dict[str, Any]]:
    """What else the machine did meanwhile: fills the dict it gives when it ends."""
    found: dict[str, Any] = {}
    before, used = read_cpu_times(), _cpu_s()
    yield found
    load = load_between(before, read_cpu_times(), own_cpu_s=_cpu_s() - used)
    found |= {**load.as_dict(), "problems": load.problems(LIMITS)}


def _cpu_s() -> float:
    """Of this process and the children it has waited for."""
    times = os.times()
    return times.user + times.system + times.children_user + times.children_system


def parser_of(
    module: str, about: str | None, parts: Collection[str], *, quick: str
) -> argparse.ArgumentParser:
    """The command line of a benchmark of sessions; `quick` says what ``--quick`` does not judge."""
    parser = argparse.ArgumentParser(prog=f"python -m {module}", description=about)
    add = parser.add_argument
    add("--json", action="store_true", help="print the report, not a table")
    add("--out", type=Path, metavar="FILE", help="write the report there too")
    add("--quick", action="store_true", help=f"in seconds; {quick} not judged")
    add_choice(parser, "part", parts)
    add("--model", default="gas-mini", metavar="NAME", help="name or folder")
    add("--backend", default="auto", metavar="B", help="(%(default)s)")
    add("--precision", default="auto", metavar="P", help="(%(default)s)")
    add("--avatar", type=Path, help="(the bundled person, enrolled first)")
    add("--policy", metavar="P", help="(the model's)")
    add("--steps", type=int, metavar="N", help="(the model's)")
    add("--side", type=int, metavar="PX", help="of the pictures (the model's)")
    return parser


def add_choice(parser: argparse.ArgumentParser, what: str, known: Collection[str]) -> None:
    """``--rows NAME,…`` of the `known` ones, for a `what` of "row"; all unless told."""
    parser.add_argument(
        f"--{what}s",
        type=_names_of(known, what),
        default=list(known),
        metavar="NAME,…",
        help=f"of {', '.join(known)} (all)",
    )


def _names_of(known: Collection[str], what: str) -> Callable[[str], list[str]]:
    """What makes argparse's ``NAME,…`` a list, each `what` a known one."""

    def names(text: str) -> list[str]:
        found = text.split(",")
        if unknown := [name for name in found if name not in known]:
            raise argparse.ArgumentTypeError(
                f"no such {what}: {unknown}; there are {', '.join(known)}"
            )
        return found

    return names


def finish(
    args: argparse.Namespace,
    *,
    module: str,
    command: Sequence[str],
    rows: Sequence[Mapping[str, Any]],
    skipped: Mapping[str, str],
    **further: Any,
) -> int:
    """Print and keep the document; the exit status: 3 if a row is not ok."""
    document = {
        "schema_version": 1,
        "command": ["python", "-m", module, *command],
        "environment": {**gas_rt.info(), "load_average": [round(n, 2) for n in os.getloadavg()]},
        **further,
        "rows": list(rows),
        "skipped": dict(skipped),
    }
    if args.out:
        write_report(args.out, document)
    print(json.dumps(document, indent=2) if args.json else _as_text(document))
    for problem in further.get("noise", {}).get("problems", ()):
        tell(f"too noisy for a committed figure: {problem}")
    return 0 if all(r["ok"] for r in rows) else MISSED


def tell(doing: str) -> None:
    """Progress goes where it does not mix with the report."""
    print(doing, file=sys.stderr, flush=True)


def _as_text(document: Mapping[str, Any]) -> str:
    lines = []
    for r in document["rows"]:
        verdict = ("ok" if r["ok"] else "NO") if r["judged"] else "not judged"
        lines.append(
            f"{r['name']:38} {r['ours']:10.4g} against {r['peer']:10.4g} {r['unit']:24} "
            f"ratio {r['ratio']:.3g} (≥ {r['required']:g}) {verdict}"
        )
    lines += [f"{name:38} skipped: {why}" for name, why in document["skipped"].items()]
    return "\n".join(lines)
