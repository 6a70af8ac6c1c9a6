"""What the plan store's tests share: keys, a builder that counts, processes of their own."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path
from typing import Any

from gas_rt.engine.plan_key import PlanKey
from gas_rt.engine.plan_store import BuildSteps, PlanStore

ROOT = Path(__file__).parents[2]
GPU = {
    "os": "Linux x86_64",
    "gpu": "NVIDIA H200",
    "sm": "9.0",
    "driver": "580.65.06",
    "cuda": "13.0",
    "tensorrt": "11.4.0.106",
}


def a_key(graph: str = "denoiser", **machine: str) -> PlanKey:
    """A key whose machine differs in the fields given."""
    return PlanKey(
        graph=graph,
        backend="tensorrt",
        precision="fp16",
        onnx="0" * 64,
        weights=(("weights.safetensors", "1" * 64),),
        profile=(("in.x", "float32[8, 16, 16, 16]"),),
        flags=(("STRIP_PLAN", "1"),),
        machine=tuple(sorted({**GPU, **machine}.items())),
    )


class Maker:
    """Makes a plan and counts how often."""

    def __init__(self, data: bytes = b"a plan, 24 bytes of code") -> None:
        self.data = data
        self.calls = 0

    def __call__(self, steps: BuildSteps) -> bytes:
        self.calls += 1
        steps.tell(0.5, "making")
        return self.data


def built(store: PlanStore, key: PlanKey, data: bytes = b"a plan, 24 bytes of code") -> Path:
    """Build a plan; returns its file."""
    plan = store.build(key, Maker(data))
    assert plan.outcome == "built"
    return store.folder / f"{key.digest}.plan"


def python(script: str, *arguments: object, **options: Any) -> subprocess.Popen[str]:
    """Run a script in a process of its own, with this checkout on its path."""
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    return subprocess.Popen(
        [sys.executable, "-c", script, *map(str, arguments)],
        env=environment,
        text=True,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        **options,
    )
