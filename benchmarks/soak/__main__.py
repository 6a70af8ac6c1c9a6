"""``python -m benchmarks.soak``: run the parts, each in its own process, and judge them."""

from __future__ import annotations

import argparse
import json
import statistics
import subprocess
import sys
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from benchmarks.reporting import finish, observed, parser_of, row, tell
from benchmarks.soak.parts import LIMIT_MIB, PARTS, SoakSettings, pairs_per_frame, run_part
from benchmarks.soak.trend import flatness, growth, theil_sen
from gas_rt.errors import InputError
from gas_rt.stream.report import write_report

ROOT = Path(__file__).parents[2]
COST_LIMIT = 0.05  # by which the cost of a frame may change over the stream
MINE = "benchmarks.soak"


def main(argv: Sequence[str] | None = None) -> int:
    """Run and print; 0 if nothing grows and every control is caught, else 3."""
    given = list(sys.argv[1:] if argv is None else argv)
    args = _parser().parse_args(given)
    settings = SoakSettings(
        args.model,
        args.backend,
        args.precision,
        None if args.avatar is None else str(args.avatar),
        args.policy,
        args.steps,
        args.side,
    )
    if args.quick:
        settings = settings.quick()
    if args.part:  # this process is a part
        print(json.dumps(run_part(args.part, settings)))
        return 0
    try:
        with observed() as noise:
            parts = run(args.parts, settings, state=args.state, quick=args.quick)
    except InputError as error:
        tell(f"error: {error}")
        return 1
    rows = [r for name in parts for r in judge(name, parts[name], quick=args.quick)]
    model = next(iter(parts.values()))["info"]
    return finish(
        args,
        module=MINE,
        command=given,
        rows=rows,
        skipped={},
        quick=args.quick,
        settings=asdict(settings),
        model=model,
        noise=noise,
        parts={
            name: {key: value for key, value in part.items() if key != "info"}
            for name, part in parts.items()
        },
    )


def run(
    names: Sequence[str], settings: SoakSettings, *, state: Path | None, quick: bool
) -> dict[str, dict[str, Any]]:
    """The parts' notes; those that `state` has are not run again, each new one is kept there."""
    kept = read_state(state, settings)
    for name in names:
        if name in kept:
            tell(f"{name}: kept from before")
            continue
        tell(name)
        kept[name] = _apart(name, settings, quick=quick)
        if state is not None:
            write_report(state, {"settings": asdict(settings), "parts": kept})
    return {name: kept[name] for name in names}


def read_state(state: Path | None, settings: SoakSettings) -> dict[str, dict[str, Any]]:
    """What an interrupted run has done. Raises `InputError` if that was another run."""
    if state is None or not state.exists():
        return {}
    try:
        document = json.loads(state.read_text())
        before, parts = document["settings"], dict(document["parts"])
    except (ValueError, KeyError, TypeError) as error:
        raise InputError(f"--state: {state} is no state of a soak; give another file") from error
    if before != asdict(settings):
        raise InputError(f"--state: {state} is of other settings; remove it or give another file")
    return parts


def _apart(name: str, settings: SoakSettings, *, quick: bool) -> dict[str, Any]:
    """A part in its own process, so that what one leaves in memory is not another's."""
    command = [sys.executable, "-m", MINE, "--part", name, "--model", settings.model]
    command += ["--backend", settings.backend, "--precision", settings.precision]
    command += ["--quick"] if quick else []
    for flag in ("avatar", "policy", "steps"):
        value = getattr(settings, flag)
        command += [f"--{flag}", str(value)] if value is not None else []
    command += ["--side", str(settings.side_px)] if settings.side_px is not None else []
    done = subprocess.run(command, cwd=ROOT, stdout=subprocess.PIPE, text=True, check=False)
    try:
        return dict(json.loads(done.stdout.splitlines()[-1]))
    except (IndexError, ValueError) as error:
        raise InputError(
            f"soak: part {name!r} ended with status {done.returncode}; it said why above"
        ) from error


def judge(name: str, part: Mapping[str, Any], *, quick: bool) -> list[dict[str, Any]]:
    """The rows of a part."""
    if name.startswith("leaking_"):
        return [_control(name, part)]
    rows = [_memory(f"soak_{name}_memory", part, quick=quick)]
    rows += [_left_over(name, part, what) for what in ("threads", "descriptors")]
    if name == "frames":
        rows.insert(0, _cost(part, quick=quick))
    return rows


def _memory(name: str, part: Mapping[str, Any], *, quick: bool) -> dict[str, Any]:
    """What grew more: resident memory, or what malloc has handed out where that is known."""
    known = {"resident": part["rss_mib"], "heap": part["heap_mib"]}
    grown = {what: growth(part["at"], mib) for what, mib in known.items() if mib}
    return row(
        name,
        max(grown.values()),
        LIMIT_MIB,
        "MiB grown",
        required=1.0,
        more_is_better=False,
        judged=not quick,
        grown_mib={what: round(mib, 3) for what, mib in grown.items()},
        peak_mib=max(part["rss_mib"]),
        trend=theil_sen(part["at"], part["rss_mib"]).as_dict(),
    )


def _cost(part: Mapping[str, Any], *, quick: bool) -> dict[str, Any]:
    """Processor seconds a frame: the whole interval of its change must lie within the limit.

    They are divided by how slow the processor was meanwhile: the yardstick over its median.
    """
    frames, raw = pairs_per_frame(part["at"], part["cpu_s"])
    slow = part["yardstick_ms"][1:]  # the first note ends the frames before the first block
    usual = statistics.median(slow)
    costs = [cost * usual / took for cost, took in zip(raw, slow, strict=True)]
    trend, level = theil_sen(frames, costs), statistics.median(costs)
    change = {key: round(value / level, 4) for key, value in vars(trend).items()}
    unscaled = vars(theil_sen(frames, raw))
    return row(
        "soak_cost_per_frame",
        max(abs(change["low"]), abs(change["high"])),
        COST_LIMIT,
        "of it changed, at most",
        required=1.0,
        more_is_better=False,
        judged=not quick,
        verdict=flatness(trend, level=level, limit=COST_LIMIT),
        change=change,
        unscaled_change={
            key: round(value / statistics.median(raw), 4) for key, value in unscaled.items()
        },
        yardstick_change={
            key: round(value / usual, 4) for key, value in vars(theil_sen(frames, slow)).items()
        },
        core_s_per_frame=round(level, 6),
    )


def _left_over(name: str, part: Mapping[str, Any], what: str) -> dict[str, Any]:
    """Threads or descriptors that are still there after all sessions closed."""
    before, after = part["before"][what], part["after"][what]
    return row(
        f"soak_{name}_{what}",
        max(0, after - before),
        0,
        f"{what} left over",
        required=1.0,
        more_is_better=False,
        before=before,
        after=after,
        most=max(part[what]),
    )


def _control(name: str, part: Mapping[str, Any]) -> dict[str, Any]:
    """The same check on a run that leaks: ok if it would have failed."""
    what = name.removeprefix("leaking_")
    checked = _memory("", part, quick=False) if what == "memory" else _left_over("", part, what)
    caught = not checked["ok"]
    return {
        **row(
            f"soak_{name}_caught",
            checked["ours"],
            checked["peer"],
            checked["unit"],
            required=1.0,
            more_is_better=True,
            correct=caught,
        ),
        "caught": caught,
    }


def _parser() -> argparse.ArgumentParser:
    parser = parser_of(MINE, __doc__, PARTS, quick="trends are")
    parser.add_argument(
        "--state", type=Path, metavar="FILE", help="keep each part there, go on from it"
    )
    parser.add_argument("--part", choices=tuple(PARTS), help=argparse.SUPPRESS)
    return parser


if __name__ == "__main__":
    sys.exit(main())
