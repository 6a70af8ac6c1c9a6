"""``gas-rt bench``: how fast and how late an avatar streams here, and whether promises are kept.

Policies, steps, resolutions and backends take turns in one run. Exit status 3 if a promise is not
kept, a figure got worse than in --compare, or the machine was too busy for the run to count.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
from collections.abc import Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import TYPE_CHECKING, Any

from gas_rt.cli.bench_runs import announced, measured, prepared
from gas_rt.cli.common import (
    add_json_flag,
    add_model_flags,
    check_folder_of,
    emit,
    open_model,
)
from gas_rt.errors import InputError

if TYPE_CHECKING:
    from gas_rt.bench.scenario import Plan
    from gas_rt.model import Model

__all__ = ["add_parser"]

SECONDS, ROUNDS = 20.0, 4
QUICK_SECONDS, QUICK_ROUNDS = 0.4, 2
SECONDS_MAX = 86_400.0
BUFFER_MS_MAX = 60_000.0
SIDE_MAX = 4096
TOLD_PROBLEMS = 5  # of noise, on stderr; the report has all


def add_parser(verbs: Any) -> None:
    """Add the verb's flags."""
    parser = verbs.add_parser("bench", help="measure an avatar's stream", description=__doc__)
    what = parser.add_argument_group("what is measured, every combination of it")
    what.add_argument(
        "--policies", type=_names, metavar="P,…", help="field, diagonal, sequential (the model's)"
    )
    what.add_argument("--steps", type=_numbers, metavar="N,…", help="(all the policy can take)")
    what.add_argument("--resolutions", type=_numbers, metavar="PX,…", help="sides (the model's)")
    what.add_argument("--backends", type=_names, metavar="B,…", help="(the one of --backend)")
    what.add_argument("--avatar", metavar="A.avatar", help="(the bundled person, enrolled first)")
    what.add_argument("--motion", metavar="M", help="a file, or a bundled one by name (dance)")
    how = parser.add_argument_group("how")
    how.add_argument("--fps", type=float, default=25.0, metavar="F", help="of poses (%(default)s)")
    how.add_argument(
        "--seconds", type=float, metavar="S", help=f"measured per combination ({SECONDS:g})"
    )
    how.add_argument("--rounds", type=int, metavar="N", help=f"they take turns in ({ROUNDS})")
    how.add_argument("--jitter-ms", type=float, default=0.0, metavar="MS", help="of poses (0)")
    how.add_argument(
        "--buffer-ms", type=float, default=100.0, metavar="MS", help="of the viewer (100)"
    )
    how.add_argument("--seed", type=int, default=0, metavar="N", help="of noise and jitter (0)")
    how.add_argument("--no-start", action="store_true", help="measure no cold start")
    how.add_argument("--quick", action="store_true", help="all of it in seconds; nothing is judged")
    out = parser.add_argument_group("what becomes of it")
    out.add_argument("--out", metavar="R.json", help="also write the report there")
    out.add_argument("--plot", metavar="P.png", help="draw ages and rates")
    out.add_argument("--compare", metavar="OLD.json", help="fail on what got worse")
    add_model_flags(parser)
    add_json_flag(parser)
    parser.set_defaults(run=run)


def run(args: argparse.Namespace) -> int:
    """Measure, report, judge."""
    from gas_rt.bench.compare import check_alike, read_report
    from gas_rt.bench.table import as_text
    from gas_rt.stream.report import write_report

    _check_flags(args)
    old = read_report(args.compare) if args.compare else None
    with ExitStack() as stack:
        models = {b: stack.enter_context(_opened(args, b)) for b in args.backends or [args.backend]}
        model = next(iter(models.values()))
        plan = _plan(args, model, list(models))
        if old is not None:  # minutes before there is anything to compare
            check_alike(old, announced(args, plan, models))
        folder = stack.enter_context(tempfile.TemporaryDirectory(prefix="gas-rt-bench-"))
        sources, avatar_path = prepared(args, plan, models, Path(folder))
        document = measured(args, plan, models, sources, avatar_path)
    status = _judged(args, plan, document, old)
    if args.out:
        write_report(args.out, document)
    if args.plot:
        _plot(args.plot, document)
    emit(args, document, as_text(document))
    return status


def _check_flags(args: argparse.Namespace) -> None:
    from gas_rt.stream.config import FPS_MAX

    for path, flag in ((args.out, "--out"), (args.plot, "--plot")):
        if path:
            check_folder_of(path, flag=flag)
    if args.quick and args.compare:
        raise InputError("--compare: a --quick run judges nothing; leave one of them out")
    defaults = (QUICK_SECONDS, QUICK_ROUNDS) if args.quick else (SECONDS, ROUNDS)
    args.seconds = defaults[0] if args.seconds is None else args.seconds
    args.rounds = defaults[1] if args.rounds is None else args.rounds
    for value, low, high, flag in (
        (args.seconds, 0.1, SECONDS_MAX, "--seconds"),
        (args.rounds, 1, SECONDS_MAX, "--rounds"),
        (args.jitter_ms, 0, BUFFER_MS_MAX, "--jitter-ms"),
        (args.buffer_ms, 0, BUFFER_MS_MAX, "--buffer-ms"),
        (args.fps, 1, FPS_MAX, "--fps"),
        *((side, 16, SIDE_MAX, "--resolutions") for side in args.resolutions or ()),
    ):
        if not low <= value <= high:
            raise InputError(f"{flag}: expected {low:g} to {high:g}, got {value}")


def _opened(args: argparse.Namespace, backend: str) -> Model:
    return open_model(argparse.Namespace(**{**vars(args), "backend": backend}))


def _plan(args: argparse.Namespace, model: Model, backends: Sequence[str]) -> Plan:
    """Every combination that was asked for; one that cannot be is found before anything runs."""
    from gas_rt.bench.scenario import Case, Plan

    cases = []
    for policy in args.policies or [model.default_policy]:
        if policy == "parity":
            raise InputError(
                "--policies: parity needs the whole clip, so it has no rate and no age; use "
                "gas-rt render --policy parity --report"
            )
        known = model.steps(policy)
        for steps in (args.steps or sorted(known, reverse=True)) if known else [0]:
            if known and steps not in known:
                raise InputError(
                    f"--steps: policy {policy!r} of this bundle takes "
                    f"{', '.join(map(str, known))}, got {steps}"
                )
            cases += [
                Case(policy, steps, side, backend)
                for side in args.resolutions or [model.resolution]
                for backend in backends
            ]
    return Plan(
        tuple(dict.fromkeys(cases)),
        fps=args.fps,
        seconds=args.seconds,
        rounds=args.rounds,
        jitter_ms=args.jitter_ms,
        seed=args.seed,
        buffer_ms=args.buffer_ms,
    )


def _judged(
    args: argparse.Namespace, plan: Plan, document: dict[str, Any], old: dict[str, Any] | None
) -> int:
    """Add promises and comparison to the report, tell stderr what is wrong; the exit status."""
    from gas_rt.bench.compare import compare
    from gas_rt.bench.scenario import PROMISES, judge

    bench, noise = document["bench"], document["bench"]["noise"]
    judged = [] if args.quick else judge(document["runs"], plan=plan, promises=PROMISES)
    bench["promises"] = [verdict.as_dict() for verdict in judged]
    if not judged:
        bench["not_judged"] = "--quick" if args.quick else "no run is of the promised scenario"
    comparison = compare(old, document) if old is not None else None
    if comparison is not None:
        document["comparison"] = {
            "old": args.compare,
            "changes": [change.as_dict() for change in comparison.changes],
            "left_out": list(comparison.left_out),
        }
    if args.quick:
        return 0
    for problem in noise[:TOLD_PROBLEMS]:
        _say(f"too noisy to count: {problem}")
    for verdict in judged:
        if verdict.status in ("missed", "not measured"):
            _say(f"promise: {verdict}")
    regressions = comparison.regressions if comparison is not None else ()
    for change in regressions:
        _say(f"worse than {args.compare}: {change}")
    for name in comparison.left_out if comparison is not None else ():
        _say(f"not compared, only in {args.compare}: {name}")
    kept = all(verdict.status == "passed" for verdict in judged)
    # What noise beside the promised scenario disturbs is what nothing is judged of, or compared.
    disturbed = bool(noise) and (comparison is not None or not judged)
    return 0 if kept and not disturbed and not regressions else 3


def _plot(path: str, document: dict[str, Any]) -> None:
    from gas_rt.bench.chart import draw_chart
    from gas_rt.bench.scenario import promised_lines
    from gas_rt.video import write_png

    write_png(path, draw_chart(document, promises=promised_lines()))


def _say(text: str) -> None:
    print(f"gas-rt: note: {text}", file=sys.stderr)


def _names(text: str) -> list[str]:
    return [name for name in text.split(",") if name]


def _numbers(text: str) -> list[int]:
    try:
        return [int(word) for word in text.split(",")]
    except ValueError:
        raise argparse.ArgumentTypeError(f"expected whole numbers, got {text!r}") from None
