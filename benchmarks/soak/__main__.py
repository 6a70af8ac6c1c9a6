"""``python -m benchmarks.soak``: run the parts, each in its own process, and judge them."""

from __future__ import annotations

import argparse
import json
import statistics
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict, replace
from functools import partial
from pathlib import Path
from typing import Any

import gas_rt
from benchmarks.people import avatar_of
from benchmarks.reporting import finish, observed, parser_of, row, tell
from benchmarks.soak.parts import (
    FRESH,
    LIMIT_MIB,
    PARTS,
    SoakSettings,
    pairs_per_frame,
    run_part,
)
from benchmarks.soak.trend import flatness, growth, theil_sen
from gas_rt.errors import GasRtError, InputError
from gas_rt.stream.report import write_report

ROOT = Path(__file__).parents[2]
COST_LIMIT = 0.05  # by which the cost of a frame may change over the stream
MINE = "benchmarks.soak"
TIMED = "frames"  # the part whose time is judged, so that what else the machine did matters


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
        new = partial(_apart, FRESH, settings, quick=args.quick)
        print(json.dumps(run_part(args.part, settings, fresh=new)))
        return 0
    try:
        with enrolled(settings) as avatar:
            parts = run(args.parts, settings, state=args.state, quick=args.quick, avatar=avatar)
    except GasRtError as error:
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
        noise=parts.get(TIMED, {}).get("noise", {}),
        parts={
            name: {key: value for key, value in part.items() if key != "info"}
            for name, part in parts.items()
        },
    )


@contextmanager
def enrolled(settings: SoakSettings) -> Iterator[str]:
    """The avatar's file; the bundled person's is made once for all processes, then removed."""
    if settings.avatar is not None:
        yield settings.avatar
        return
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "person.avatar"
        with gas_rt.load(settings.model, settings.backend, precision=settings.precision) as model:
            avatar_of(model, None).save(path)
        yield str(path)


def run(
    names: Sequence[str],
    settings: SoakSettings,
    *,
    state: Path | None,
    quick: bool,
    avatar: str | None = None,
) -> dict[str, dict[str, Any]]:
    """The parts' notes; those that `state` has are not run again, each new one is kept there."""
    kept = read_state(state, settings)
    ready = replace(settings, avatar=avatar)
    for name in names:
        if name in kept:
            tell(f"{name}: kept from before")
            continue
        tell(name)
        with observed() as noise:
            part = _apart(name, ready, quick=quick)
        kept[name] = part | {"noise": noise}
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

    Each is of the blocks beside a comparison, over what a frame costs then in a new process: shared
    machines change their speed by a tenth for minutes at a time, which is no change of the cost.
    """
    middles, raw = pairs_per_frame(part["at"], part["cpu_s"])
    at = [point["at"] for point in part["fresh"]]
    fresh = [point["core_s_per_frame"] for point in part["fresh"]]
    beside = [
        statistics.mean(
            cost for k, cost in enumerate(raw) if number in (part["at"][k], part["at"][k + 1])
        )
        for number in at
    ]
    ratios = [ours / new for ours, new in zip(beside, fresh, strict=True)]
    trend, level = theil_sen(at, ratios), statistics.median(ratios)
    change = _relative(at, ratios)
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
        of_a_new_process=round(level, 4),
        change_not_compared=_relative(middles, raw),
        change_of_new_processes=_relative(at, fresh),
        core_s_per_frame=round(statistics.median(raw), 6),
    )


def _relative(x: Sequence[float], y: Sequence[float]) -> dict[str, float]:
    """A trend in shares of the median."""
    level = statistics.median(y)
    return {key: round(value / level, 4) for key, value in vars(theil_sen(x, y)).items()}


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
    parser.add_argument("--part", choices=(*PARTS, FRESH), help=argparse.SUPPRESS)
    return parser


if __name__ == "__main__":
    sys.exit(main())
