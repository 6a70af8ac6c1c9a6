"""Converts a model of the release's size with random weights, and runs one step of it.

    python -m benchmarks.full_size --work /tmp/full-size --json > benchmarks/results/full_size.json

Random weights are written in the authors' layout (SVD-XT 1.1's folder; GAS's state dicts in fp32),
converted by `export.convert_gas` at 512×512 and 20 frames, and one denoising step of 4 frames of
256×256 is compared between the exported fp16 graph and PyTorch in fp32. Each part is a process of
its own, whose peak resident memory (mapped files included, where they were touched) and time are
rows; `ours` is what was measured, `peer` what is allowed. Exit status 3 if a row is not ok.

`--small` does the same at a size for tests. Needs 20 GB of disk, and memory as `--memory-gib` says:
a part that wants more address space than that fails instead of swapping.
"""

from __future__ import annotations

import argparse
import json
import resource
import shutil
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import gas_rt

ROOT = Path(__file__).parents[1]
PARTS = ("make", "convert", "decoder", "step")
LIMIT_GIB = 24.0  # of peak resident memory
STEP_TOLERANCE = 2e-2
BUNDLE = "gas-full"


def main(argv: list[str] | None = None) -> int:
    """Run and print; 0 if all is well, else 3."""
    args = _parser().parse_args(argv)
    if args.part:
        return _part(args)
    args.work.mkdir(parents=True, exist_ok=True)
    parts = {}
    for name in args.parts:
        parts[name] = _apart(name, args)
        if "error" in parts[name]:
            break
    document = {
        "schema_version": 1,
        "command": ["python", "-m", "benchmarks.full_size", *(argv or sys.argv[1:])],
        "environment": gas_rt.info(),
        "size": "small, for tests" if args.small else "SVD-XT 1.1, random weights",
        "parts": parts,
        "rows": [row for name, part in parts.items() for row in _rows(name, part)],
    }
    if args.clean:
        shutil.rmtree(args.work)
    print(json.dumps(document, indent=2) if args.json else _as_text(document))
    return 0 if all(row["ok"] for row in document["rows"]) else 3


def _apart(name: str, args: argparse.Namespace) -> dict[str, Any]:
    """A part in its own process: what it reports, its time and its peak memory."""
    command = [sys.executable, "-m", "benchmarks.full_size", "--part", name]
    command += ["--work", str(args.work), "--memory-gib", str(args.memory_gib)]
    command += ["--runtimes", *args.runtimes, *(["--small"] if args.small else [])]
    done = subprocess.run(command, cwd=ROOT, stdout=subprocess.PIPE, text=True, check=False)
    try:
        return json.loads(done.stdout.splitlines()[-1])
    except (IndexError, ValueError):
        return {"error": f"ended with status {done.returncode}"}


def _part(args: argparse.Namespace) -> int:
    """This process is a part: do it and print what was measured."""
    from benchmarks import full_size_parts

    limit = int(args.memory_gib * 2**30)
    resource.setrlimit(resource.RLIMIT_AS, (limit, limit))
    started, used = time.monotonic(), time.process_time()
    run: Callable[..., dict[str, Any]] = getattr(full_size_parts, args.part)
    try:
        found = run(args.work, small=args.small, runtimes=args.runtimes, progress=_progress)
    except Exception as error:
        found = {"error": f"{type(error).__name__}: {error}"}
    found |= {
        "seconds": round(time.monotonic() - started, 1),
        "cpu_seconds": round(time.process_time() - used, 1),
        "peak_rss_gib": round(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20, 2),
    }
    print(json.dumps(found))
    return 1 if "error" in found else 0


def _progress(text: str) -> None:
    print(f"{time.strftime('%H:%M:%S')} {text}", file=sys.stderr, flush=True)


def _rows(name: str, part: dict[str, Any]) -> list[dict[str, Any]]:
    """What is required of a part."""
    if "error" in part:
        return [{"name": name, "ok": False, "problem": part["error"]}]
    rows = [_row(f"{name}_peak_memory", part["peak_rss_gib"], LIMIT_GIB, "GiB")]
    for key, error in part.get("differences", {}).items():
        rows.append(_row(f"step_{key}", error, STEP_TOLERANCE, "of the output's range"))
    return rows


def _row(name: str, ours: float, allowed: float, unit: str) -> dict[str, Any]:
    ratio = allowed / ours if ours else float("inf")
    return {
        "name": name,
        "ours": ours,
        "peer": allowed,
        "unit": unit,
        "ratio": round(ratio, 3),
        "required": 1.0,
        "ok": ours <= allowed,
    }


def _as_text(document: dict[str, Any]) -> str:
    lines = []
    for name, part in document["parts"].items():
        lines += [f"{name}: {json.dumps(part)}"]
    for row in document["rows"]:
        told = f"{row['ours']:.3g} of {row['peer']:g} {row['unit']}" if "ours" in row else ""
        lines.append(f"{row['name']:28} {told} {'ok' if row['ok'] else row.get('problem', 'NO')}")
    return "\n".join(lines)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.full_size")
    parser.add_argument("--work", type=Path, required=True, help="folder for the files it makes")
    parser.add_argument("--parts", nargs="+", choices=PARTS, default=PARTS)
    parser.add_argument("--small", action="store_true", help="a size for tests")
    parser.add_argument("--memory-gib", type=float, default=24.0, help="address space of a part")
    parser.add_argument(
        "--runtimes",
        nargs="+",
        choices=("onnxruntime", "openvino"),
        default=["onnxruntime"],
        help="that run the step: ONNX Runtime rounds to fp16 as the graph says, OpenVINO does not",
    )
    parser.add_argument("--clean", action="store_true", help="remove the folder afterwards")
    parser.add_argument("--json", action="store_true")
    parser.add_argument("--part", choices=PARTS, help=argparse.SUPPRESS)
    return parser


if __name__ == "__main__":
    sys.exit(main())
