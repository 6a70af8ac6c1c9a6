"""Builds, checks and times the CUDA kernels on a machine with an NVIDIA GPU.

    python -m benchmarks.gpu_kernels --build --sanitize --json > benchmarks/results/gpu_kernels.json

checks every kernel against what the CPU kernels make of the same input, runs the checks again
under compute-sanitizer if that is installed, and times each kernel: `ours` is the median in ms,
`peer` what it may take (where something is promised) or the CPU kernels' machine-independent
lower bound, the time in which a copy on this GPU moves the same bytes. Exit status 3 if a kernel
differs, is too slow, or the sanitizer finds anything.

``--cpu-half`` stops before the GPU: it makes the inputs and the CPU's results, and needs neither a
GPU nor a CUDA build.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np

import gas_rt
from benchmarks.gpu_cases import Case, cases
from benchmarks.gpu_driver import Gpu
from benchmarks.gpu_scenes import Scene, avatar_scene, bundle_scene
from gas_rt.kernels import cuda

ROOT = Path(__file__).parents[1]
SANITIZERS = ("memcheck", "racecheck", "synccheck")
SANITIZED = [
    "--scene",
    "body",
    "--side",
    "96",
    "--poses",
    "2",
    "--points",
    "4096",
    "--repeats",
    "0",
]
FOUND = 9  # compute-sanitizer's exit status where it found something


def main(argv: list[str] | None = None) -> int:
    """Run and print; 0 if all is well, else 3."""
    args = _parser().parse_args(argv)
    if args.build:
        build()
    scenes = [make_scene(args, poses) for poses in sorted({1, args.poses})]
    chosen = [c for scene in scenes for c in cases(scene, points=args.points)]
    chosen = list({case.name: case for case in chosen}.values())
    document: dict[str, Any] = {
        "schema_version": 1,
        "command": ["python", "-m", "benchmarks.gpu_kernels", *(argv or sys.argv[1:])],
        "environment": gas_rt.info(),
    }
    if args.cpu_half:
        document["rows"] = [cpu_row(case) for case in chosen]
    else:
        document |= on_gpu(chosen, repeats=args.repeats)
        if args.sanitize:
            document["sanitizer"] = sanitize()
    print(json.dumps(document, indent=2) if args.json else as_text(document))
    clean = all(
        result in {"clean", "not installed"} for result in document.get("sanitizer", {}).values()
    )
    return 0 if clean and all(row["ok"] for row in document["rows"]) else 3


def make_scene(args: argparse.Namespace, poses: int) -> Scene:
    """What was asked for."""
    if args.scene == "avatar":
        return avatar_scene(args.person, poses=poses, side=args.side)
    return bundle_scene(poses=poses, side=args.side)


def build() -> None:
    """Compile the package in place with the CUDA kernels."""
    command = [sys.executable, "setup.py", "build_ext", "--inplace"]
    environment = {**os.environ, "GAS_RT_CUDA": "1"}
    subprocess.run(command, cwd=ROOT, env=environment, check=True, stdout=sys.stderr)


def cpu_row(case: Case) -> dict[str, Any]:
    """The case as it would be sent to a GPU; ok if the CPU's results fit the outputs."""
    problems = []
    for name, want in case.want.items():
        shape, dtype = case.outputs[name]
        if want.value.shape != tuple(shape) or want.value.dtype != np.dtype(dtype):
            problems.append(f"{name}: {want.value.dtype} {want.value.shape}, not {dtype} {shape}")
        elif want.problem(want.value) is not None:
            problems.append(f"{name}: differs from itself")
    moved = {"inputs_mib": _mib(case.inputs), "moved_mib": round(case.moved_bytes / 2**20, 3)}
    return {"name": case.name, "ok": not problems, "problems": problems, **moved}


def _mib(arrays: Any) -> float:
    return round(sum(a.nbytes for a in arrays.values()) / 2**20, 3)


def on_gpu(chosen: list[Case], *, repeats: int) -> dict[str, Any]:
    """Check and time the cases; with no repeats, check alone."""
    if (reason := cuda.unavailable_because()) is not None:
        sys.exit(reason)
    with Gpu() as gpu:
        described = gpu.describe()
        if repeats:
            described["copy_gb_per_s"] = round(gpu.copy_bytes_per_s() / 1e9, 1)
        rows = [gpu_row(case, gpu, described, repeats=repeats) for case in chosen]
    return {"gpu": described, "rows": rows}


def gpu_row(case: Case, gpu: Gpu, described: dict[str, Any], *, repeats: int) -> dict[str, Any]:
    """One kernel: whether it gives what the CPU gives, and its time."""
    arrays: dict[str, Any] = {name: gpu.upload(a) for name, a in case.inputs.items()}
    arrays |= {name: gpu.empty(*shape) for name, shape in case.outputs.items()}
    if case.setup:
        case.setup(arrays, gpu.stream)
    case.run(arrays, gpu.stream)
    problems = {
        name: problem
        for name, want in case.want.items()
        if (problem := want.problem(gpu.download(arrays[name]))) is not None
    }
    if "header" in arrays:
        cuda.check_shell(gpu.download(arrays["header"]))
    row: dict[str, Any] = {"name": case.name, "problems": problems, "ok": not problems}
    if repeats:
        times = gpu.times_ms(lambda: case.run(arrays, gpu.stream), repeats=repeats)
        row |= timing(case, times, described)
        row["ok"] = row["ok"] and row["ratio"] >= row["required"]
    gpu.free()
    return row


def timing(case: Case, times_ms: list[float], described: dict[str, Any]) -> dict[str, Any]:
    """A row's figures."""
    ours = float(np.median(times_ms))
    copied_ms = case.moved_bytes / described["copy_gb_per_s"] / 1e6
    allowed = case.required_ms if case.required_ms is not None else copied_ms
    return {
        "ours": round(ours, 5),
        "peer": round(allowed, 5),
        "unit": "ms",
        "ratio": round(allowed / ours, 4),
        "required": 0.0 if case.required_ms is None else 1.0,
        "p95": round(float(np.percentile(times_ms, 95)), 5),
        "gb_per_s": round(case.moved_bytes / ours / 1e6, 1),
        "share_of_copy": round(copied_ms / ours, 4),
    }


def sanitize() -> dict[str, str]:
    """What compute-sanitizer's tools say about the checks on a small scene."""
    tool = shutil.which("compute-sanitizer") or shutil.which(
        "compute-sanitizer", path="/usr/local/cuda/bin"
    )
    if tool is None:
        return dict.fromkeys(SANITIZERS, "not installed")
    results = {}
    for name in SANITIZERS:
        command = [tool, "--tool", name, "--error-exitcode", str(FOUND), "--target-processes"]
        command += ["application-only", sys.executable, "-m", "benchmarks.gpu_kernels", *SANITIZED]
        done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
        results[name] = "clean" if done.returncode == 0 else (done.stdout + done.stderr)[-2000:]
    return results


def as_text(document: dict[str, Any]) -> str:
    """A line per row."""
    lines = []
    for row in document["rows"]:
        figures = f"{row['moved_mib']:10.3f} MiB" if "moved_mib" in row else ""
        if "ours" in row:
            figures = f"{row['ours']:9.4f} ms {row['gb_per_s']:8.1f} GB/s"
        lines.append(
            f"{row['name']:24} {figures} {'ok' if row['ok'] else row['problems'] or 'SLOW'}"
        )
    lines += [f"{name}: {found}" for name, found in document.get("sanitizer", {}).items()]
    return "\n".join(lines)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.gpu_kernels")
    parser.add_argument("--build", action="store_true", help="compile the CUDA kernels first")
    parser.add_argument("--sanitize", action="store_true", help="and check for bad accesses")
    parser.add_argument("--cpu-half", action="store_true", help="only what needs no GPU")
    parser.add_argument(
        "--scene",
        choices=("avatar", "body"),
        default="avatar",
        help="an enrolled person, or the body alone with noise for a field",
    )
    parser.add_argument("--person", help="folder with photo.png, mask.png and fit.npz")
    parser.add_argument("--side", type=int, default=512, help="of the pictures, in pixels")
    parser.add_argument("--poses", type=int, default=16, help="in the batch, beside a single one")
    parser.add_argument("--points", type=int, default=1 << 20, help="queried and evaluated")
    parser.add_argument("--repeats", type=int, default=100, help="timed launches; 0: check alone")
    parser.add_argument("--json", action="store_true")
    return parser


if __name__ == "__main__":
    sys.exit(main())
