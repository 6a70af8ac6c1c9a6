"""How long a model takes to be ready: without a plan store, with an empty one, with a full one.

``python -m benchmarks.plan_store --json`` measures every start in a process of its own, the kinds
in turn, from `gas_rt.load` to every graph compiled; interpreter and imports are not counted. `ours`
is the median start with plans in the store, `peer` the one without a store; `cpu_p50` is processor
time, which other work on the machine changes less. Exit status 3 if a row is not faster than its
peer.
"""

from __future__ import annotations

import argparse
import json
import os
import resource
import shutil
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np

import gas_rt
from gas_rt.engine import open_bundle

KINDS = ("off", "cold", "warm")


def main(argv: list[str] | None = None) -> int:
    """Run and print; 0 if plans pay, else 3."""
    args = _parser().parse_args(argv)
    if args.child:
        print(json.dumps(start(args.model, args.child, args.threads, args.store)))
        return 0
    rows = [row(which, args) for which in args.rows.split(",")]
    document = {
        "schema_version": 1,
        "command": ["python", "-m", "benchmarks.plan_store", *(argv or sys.argv[1:])],
        "environment": {**gas_rt.info(), "load_average": os.getloadavg()},
        "rows": rows,
    }
    if args.json:
        print(json.dumps(document, indent=2))
    else:
        for r in rows:
            print(
                f"{r['name']:12} without {r['peer']:.2f} s, empty store {r['cold']['p50']:.2f} s, "
                f"from the store {r['ours']:.2f} s: {r['ratio']:.1f} ×; processor "
                f"{r['off']['cpu_p50']:.2f}, {r['cold']['cpu_p50']:.2f}, "
                f"{r['warm']['cpu_p50']:.2f} s; peak memory "
                f"{r['off']['peak_mib']:.0f} → {r['warm']['peak_mib']:.0f} MiB; "
                f"{r['store_mb']:.0f} MB kept"
            )
    return 0 if all(r["ok"] for r in rows) else 3


def row(which: str, args: argparse.Namespace) -> dict[str, Any]:
    """One set of graphs: every kind of start, in turn, `args.runs` times."""
    starts: dict[str, list[dict[str, float]]] = {kind: [] for kind in KINDS}
    with tempfile.TemporaryDirectory() as folder:
        environment = {**os.environ, "XDG_STATE_HOME": f"{folder}/state"}
        for _ in range(args.runs):
            shutil.rmtree(f"{folder}/plans", ignore_errors=True)
            for kind in KINDS:
                command = [sys.executable, "-m", "benchmarks.plan_store", "--child", which]
                command += ["--model", args.model, "--threads", str(args.threads)]
                command += ["--store", "off" if kind == "off" else f"{folder}/plans"]
                done = subprocess.run(
                    command, env=environment, stdout=subprocess.PIPE, check=True, text=True
                )
                starts[kind].append(json.loads(done.stdout))
        kept = sum(path.stat().st_size for path in Path(folder, "plans").glob("*.plan"))
    figures = {
        kind: {
            "p50": round(float(np.percentile([s["seconds"] for s in of_kind], 50)), 3),
            "min": round(min(s["seconds"] for s in of_kind), 3),
            "max": round(max(s["seconds"] for s in of_kind), 3),
            "cpu_p50": round(float(np.median([s["cpu_s"] for s in of_kind])), 3),
            "peak_mib": round(float(np.median([s["peak_mib"] for s in of_kind])), 1),
        }
        for kind, of_kind in starts.items()
    }
    ours, peer = figures["warm"]["p50"], figures["off"]["p50"]
    return {
        "name": f"start_{which}",
        "ours": ours,
        "peer": peer,
        "unit": "s",
        "ratio": round(peer / ours, 3),
        "required": 1.0,
        "ok": ours < peer,
        "runs": args.runs,
        "graphs": starts["warm"][0]["graphs"],
        "store_mb": round(kept / 1e6, 1),
        **figures,
    }


def start(name: str, which: str, threads: int, store: str) -> dict[str, float]:
    """Load a model and its graphs in this process: those of a live session, or all."""
    bundle = open_bundle(name)
    names = list(bundle.graphs)
    if which == "live" and (diffusion := bundle.config.diffusion):
        profile = diffusion.policies[diffusion.default_policy].profile
        denoiser = profile.guided if diffusion.guidance.used else profile.unguided
        names = ["conditioner", denoiser, "vae_decoder"]
    import openvino  # noqa: F401  (its import takes as long in every kind of start)

    began, cpu_began = time.perf_counter(), time.process_time()
    with gas_rt.load(name, threads=threads, plans=store) as model:
        for graph in names:
            model.parts.graph(graph)
        seconds, cpu_s = time.perf_counter() - began, time.process_time() - cpu_began
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    return {"seconds": seconds, "cpu_s": cpu_s, "peak_mib": peak, "graphs": len(names)}


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.plan_store")
    parser.add_argument("--model", default="gas-mini", help="bundle name or folder")
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--runs", type=int, default=5, help="starts of each kind (%(default)s)")
    parser.add_argument("--rows", default="live,all", help="which sets of graphs (%(default)s)")
    parser.add_argument("--json", action="store_true")
    parser.add_argument("--child", choices=("live", "all"), help=argparse.SUPPRESS)
    parser.add_argument("--store", default="off", help=argparse.SUPPRESS)
    return parser


if __name__ == "__main__":
    sys.exit(main())
