"""``gas-rt engines``: the compiled graphs kept on this machine: build, list, verify, prune."""

from __future__ import annotations

import argparse
import signal
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from gas_rt.cli.common import add_json_flag, add_model_flags, bar, emit
from gas_rt.errors import BackendError, BuildCancelledError, GasRtError

if TYPE_CHECKING:
    from gas_rt.engine import PlanStore
    from gas_rt.engine.plan_store import Plan, StoredPlan

__all__ = ["add_parser"]


def add_parser(verbs: Any) -> None:
    """Add the verb's actions and their flags."""
    parser = verbs.add_parser(
        "engines", help="build, list, verify or prune compiled graphs", description=__doc__
    )
    actions = parser.add_subparsers(title="actions", metavar="ACTION", required=True)
    about = "compile every graph of a bundle for this machine and keep it"
    build = actions.add_parser("build", help=about, description=about)
    add_model_flags(build)
    about = "list what is kept, the plan used longest ago first"
    ls = actions.add_parser("ls", help=about, description=about)
    about = "compare every plan with its manifest; status 1 if one is refused"
    verify = actions.add_parser("verify", help=about, description=about)
    about = "remove refused plans, and those used longest ago until the rest fits"
    prune = actions.add_parser("prune", help=about, description=about)
    prune.add_argument(
        "--cap-gib", type=float, metavar="N", help="what may stay (default: the store's cap)"
    )
    prune.add_argument(
        "--stale", action="store_true", help="also those of another machine or version"
    )
    prune.add_argument("--all", action="store_true", help="everything")
    for action, run in ((build, run_build), (ls, run_ls), (verify, run_verify), (prune, run_prune)):
        action.add_argument(
            "--store",
            metavar="DIR",
            help="the store's folder (default: GAS_RT_PLANS, or the cache)",
        )
        add_json_flag(action)
        action.set_defaults(run=run)


def run_build(args: argparse.Namespace) -> int:
    """Compile and keep; status 1 if a plan could not be kept."""
    cancel = threading.Event()
    with bar(args, "build") as shown, _interrupt_sets(cancel):
        try:
            document, plans = _build(args, shown, cancel)
        except BuildCancelledError as error:
            raise KeyboardInterrupt from error
    lines = [f"{p.outcome:9} {p.took_ms / 1e3:7.2f} s  {p.key.graph}  {p.why}" for p in plans]
    emit(args, document, "\n".join(line.rstrip() for line in lines))
    return 1 if any(plan.outcome == "not kept" for plan in plans) else 0


def _build(
    args: argparse.Namespace, shown: Callable[[float, str], None], cancel: threading.Event
) -> tuple[dict[str, Any], list[Plan]]:
    """Load every graph of the bundle through the store; what came of each."""
    from gas_rt.engine import open_bundle, open_engine
    from gas_rt.engine.machine import available_cpus

    bundle = open_bundle(args.model)
    share = [0.0, 1 / len(bundle.graphs)]  # done before this graph, and of one graph
    store = _store(
        args, cancel=cancel, progress=lambda part, doing: shown(share[0] + part * share[1], doing)
    )
    threads = available_cpus() if args.threads is None else args.threads
    engine = open_engine(
        args.backend,
        threads=threads,
        precision=args.precision,
        strict=args.strict,
        store=store,
        denoiser=bundle.denoiser,
    )
    plans: list[Plan] = []
    try:
        for number, (name, spec) in enumerate(bundle.graphs.items()):
            share[0] = number * share[1]
            shown(share[0], name)
            store.recent.clear()
            engine.load(spec)
            if not store.recent:
                raise BackendError(f"backend {engine.report.actual}: keeps no plans")
            plans.append(store.recent[-1])
            if cancel.is_set():
                raise BuildCancelledError(f"cancelled after {name}; what was built is kept")
        shown(1.0, "done")
        report = vars(engine.report).copy()
    finally:
        engine.close()
    entries = [
        {
            "graph": plan.key.graph,
            "digest": plan.key.digest,
            "outcome": plan.outcome,
            "why": plan.why,
            "ms": plan.took_ms,
        }
        for plan in plans
    ]
    extra = {"bundle": bundle.label, "backend": report, "plans": entries}
    return {**_document(args, store), **extra}, plans


def run_ls(args: argparse.Namespace) -> int:
    """List the plans."""
    store = _store(args)
    plans = store.entries()
    _show(args, store, plans, f"{len(plans)} plans")
    return 0


def run_verify(args: argparse.Namespace) -> int:
    """Verify the plans' contents too."""
    store = _store(args)
    plans = store.verify()
    bad = sum(plan.problem is not None for plan in plans)
    _show(args, store, plans, f"{len(plans)} plans, {bad} refused")
    return 1 if bad else 0


def run_prune(args: argparse.Namespace) -> int:
    """Remove plans and tell which."""
    store = _store(args)
    cap = None
    if args.cap_gib is not None:
        if not 0 <= args.cap_gib < 1 << 20:
            raise GasRtError(f"--cap-gib: expected a number from 0, got {args.cap_gib}")
        cap = round(args.cap_gib * (1 << 30))
    here = _machine_here() if args.stale else {}

    def drop(plan: StoredPlan) -> bool:
        return bool(args.all or (args.stale and _elsewhere(plan, here)))

    removed = store.prune(cap_bytes=cap, drop=drop)
    _show(args, store, removed, f"{len(removed)} plans removed")
    return 0


def _store(
    args: argparse.Namespace,
    *,
    progress: Callable[[float, str], None] | None = None,
    cancel: threading.Event | None = None,
) -> PlanStore:
    """The store the flags and the environment name."""
    from gas_rt.engine import PlanStore
    from gas_rt.settings import check_environment, plan_settings

    check_environment()
    settings = plan_settings(args.store)
    if not settings.on:
        raise BackendError("the plan store is off (GAS_RT_PLANS); name its folder with --store")
    return PlanStore.open(
        settings.folder, cap_bytes=settings.cap_bytes, progress=progress, cancel=cancel
    )


def _document(args: argparse.Namespace, store: PlanStore) -> dict[str, Any]:
    return {
        "schema_version": 1,
        "command": args.command_line,
        "store": str(store.folder),
        "status": store.status,
    }


def _show(
    args: argparse.Namespace, store: PlanStore, plans: list[StoredPlan], summary: str
) -> None:
    here = _machine_here() if plans else {}
    rows = [_row(plan, here) for plan in plans]
    total = sum(plan.bytes for plan in plans)
    lines = [
        f"{row['file'][:12]}  {row['bytes'] / 1e6:8.1f} MB  {row['backend'] or '-':11} "
        f"{row['precision'] or '-':8} {row['graph'] or '-':18} {row['problem'] or row['elsewhere']}"
        for row in rows
    ]
    text = "\n".join(
        [*(line.rstrip() for line in lines), f"{store.folder}: {summary}, {total / 1e6:.1f} MB"]
    )
    emit(args, {**_document(args, store), "bytes": total, "plans": rows}, text)


def _row(plan: StoredPlan, here: dict[str, dict[str, str]]) -> dict[str, Any]:
    return {
        "file": plan.name,
        "bytes": plan.bytes,
        "graph": plan.key.get("graph"),
        "backend": plan.key.get("backend"),
        "precision": plan.key.get("precision"),
        "build_ms": plan.build_ms,
        "problem": str(plan.problem) if plan.problem else None,
        "field": plan.problem.field if plan.problem else None,
        "elsewhere": _elsewhere(plan, here),
        "key": dict(plan.key),
    }


def _elsewhere(plan: StoredPlan, here: dict[str, dict[str, str]]) -> str:
    """How the machine of a plan differs from this one, as far as that is known."""
    from gas_rt.engine.plan_key import differences

    machine = here.get(plan.key.get("backend", ""), {})
    kept = {name: plan.key.get(f"machine.{name}", "absent") for name in machine}
    return "; ".join(f"{name}: {how}" for name, how in differences(kept, machine))


def _machine_here() -> dict[str, dict[str, str]]:
    """By backend, what can be told of this machine and its versions."""
    import importlib.util

    from gas_rt.engine.machine import nvidia_driver, system_name

    driver = nvidia_driver()
    here = {"tensorrt": {"os": system_name(), **({"driver": driver} if driver else {})}}
    if importlib.util.find_spec("openvino") is not None:
        import openvino

        from gas_rt.engine.openvino import openvino_machine
        from gas_rt.engine.rivals import choice_machine

        here["openvino"] = openvino_machine(openvino.Core())
        here["auto"] = choice_machine()  # what was measured to choose
    return here


@contextmanager
def _interrupt_sets(cancel: threading.Event) -> Iterator[None]:
    """The first Ctrl-C ends the build in order, the second one at once."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    before = signal.getsignal(signal.SIGINT)

    def handle(number: int, frame: object) -> None:
        cancel.set()
        signal.signal(signal.SIGINT, before)

    signal.signal(signal.SIGINT, handle)
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, before)
