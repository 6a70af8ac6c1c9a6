"""The runs of ``gas-rt bench``: sessions of every case, cold starts, and the report of them."""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

from gas_rt.cli.common import bar

if TYPE_CHECKING:
    from gas_rt.avatar import Avatar
    from gas_rt.bench.rounds import Source
    from gas_rt.bench.scenario import Case, Kind, Plan
    from gas_rt.core import Task
    from gas_rt.model import Model
    from gas_rt.stream.session import Session

__all__ = ["announced", "measured", "prepared"]

STARTS = 3  # of each kind, for the medians
MOTION_FRAMES = 200
TASK: Task = "pose"
WARM_UP_MIN = 4  # frames; the window of a policy, where that is longer


def announced(args: argparse.Namespace, plan: Plan, models: dict[str, Model]) -> dict[str, Any]:
    """What the report will say of machine, model and runs: what a comparison needs beforehand."""
    from gas_rt.bench.figures import described
    from gas_rt.bench.rounds import KINDS
    from gas_rt.stream.report import environment

    return {
        "environment": environment(),
        "model": next(iter(models.values())).info(),
        "bench": _bench(args, plan),
        "runs": [
            described(case, kind, task=TASK, backend=models[case.backend].backend)
            for case in plan.cases
            for kind in KINDS
        ],
    }


def prepared(
    args: argparse.Namespace, plan: Plan, models: dict[str, Model], folder: Path
) -> tuple[dict[Case, Source], Path]:
    """What is streamed in each case, and the avatar's file; what has to be made is in `folder`."""
    model = next(iter(models.values()))
    motion = _motion(args, model, folder)
    avatar, path = _avatar(args, model, folder)
    sources = {
        case: _source(args, plan, models[case.backend], avatar, motion, case) for case in plan.cases
    }
    return sources, path


def measured(
    args: argparse.Namespace,
    plan: Plan,
    models: dict[str, Model],
    sources: dict[Case, Source],
    path: Path,
) -> dict[str, Any]:
    """The report, not judged yet; `path` is of the avatar."""
    from gas_rt.bench.drive import Clocks
    from gas_rt.bench.figures import run_row
    from gas_rt.bench.load import LIMITS
    from gas_rt.bench.rounds import measure
    from gas_rt.bench.start import peak_rss_mib
    from gas_rt.stream.report import report

    with bar(args, "bench") as progress:
        turns = plan.rounds * len(plan.cases) * 2
        done = iter(range(turns))
        found = measure(
            plan, sources, clocks=Clocks(), tell=lambda doing: progress(next(done) / turns, doing)
        )
    runs = [
        run_row(
            case,
            kind,
            rounds,
            plan=plan,
            task=TASK,
            backend=models[case.backend].backend,
            limits=LIMITS,
        )
        for (case, kind), rounds in found.items()
    ]
    memory = {"peak_rss_mib": peak_rss_mib()}  # before the starts, which are other processes
    return report(
        args.command_line,
        runs,
        model=next(iter(models.values())).info(),
        cold_start=_starts(args, plan, path),
        memory=memory,
        bench={**_bench(args, plan), "noise": _noise(runs)},
    )


def _source(
    args: argparse.Namespace, plan: Plan, model: Model, avatar: Avatar, motion: Path, case: Case
) -> Source:
    from gas_rt.bench.rounds import Source
    from gas_rt.cli.requests import motion_requests

    steps = case.steps or None

    def opened(kind: Kind) -> Session:
        return model.session(
            avatar,
            policy=case.policy,
            steps=steps,
            seed=args.seed,
            task=TASK,
            fps=plan.fps,
            on_late="lossless" if kind == "saturated" else "paced",
        )

    diffusion = model.parts.bundle.config.diffusion
    warm_up = WARM_UP_MIN
    if diffusion is not None and steps is not None:
        window = diffusion.schedule(case.policy, steps=steps).window
        warm_up = max(warm_up, window.length)
    requests = motion_requests(
        model.performer(avatar), motion, case.side_px, fps=plan.fps, frames=MOTION_FRAMES
    )
    return Source(opened, requests, warm_up)


def _avatar(args: argparse.Namespace, model: Model, folder: Path) -> tuple[Avatar, Path]:
    """The avatar, and a file of it for the processes that measure a start."""
    from gas_rt.cli.demo import person_folder

    if args.avatar:
        return model.open_avatar(args.avatar), Path(args.avatar)
    person = person_folder(model, None)
    with bar(args, "enroll") as progress:
        avatar = model.enroll(
            person / "photo.png", person / "fit.npz", person / "mask.png", progress=progress
        )
    path = folder / "bench.avatar"
    avatar.save(path)
    return avatar, path


def _motion(args: argparse.Namespace, model: Model, folder: Path) -> Path:
    """The motion asked for, else the bundle's dance, else a procedural one, written to `folder`."""
    from gas_rt.body import procedural_motion
    from gas_rt.cli.demo import MOTION
    from gas_rt.cli.requests import find_motion

    bundle = model.parts.bundle
    if args.motion is not None or f"motions/{MOTION}.npz" in bundle.files:
        return find_motion(bundle, args.motion or MOTION)
    path = folder / f"{MOTION}.npz"
    procedural_motion(MOTION, MOTION_FRAMES, fps=args.fps, seed=0).save(path)
    return path


def _starts(args: argparse.Namespace, plan: Plan, path: Path) -> list[dict[str, Any]]:
    """Cold starts of the first case of each backend."""
    from gas_rt.cli.cold_start import StartSettings, measure_starts

    if args.no_start:
        return []
    firsts = {case.backend: case for case in reversed(plan.cases)}
    rows: list[dict[str, Any]] = []
    with bar(args, "starts") as progress:
        for k, case in enumerate(firsts.values()):
            progress(k / len(firsts), case.name)
            settings = StartSettings(
                model=args.model,
                backend=case.backend,
                precision=args.precision,
                threads=args.threads,
                avatar=str(path),
                policy=case.policy,
                steps=case.steps or None,
                side_px=case.side_px,
            )
            rows += measure_starts(settings, case.name, runs=1 if args.quick else STARTS)
    return rows


def _bench(args: argparse.Namespace, plan: Plan) -> dict[str, Any]:
    """How it is measured."""
    from gas_rt.bench.load import LIMITS

    return {
        **plan.settings(),
        "motion": args.motion or "dance",
        "quick": args.quick,
        "limits": asdict(LIMITS),
    }


def _noise(runs: Sequence[dict[str, Any]]) -> list[str]:
    """Why no figure counts: the runs took turns, so what disturbed one may have disturbed all."""
    return [f"{run['name']}: {problem}" for run in runs for problem in run["noise"]["problems"]]
