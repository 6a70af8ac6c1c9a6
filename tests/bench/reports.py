"""Synthetic reports of ``gas-rt bench``: the promised scenario on a machine that keeps it."""

from __future__ import annotations

from typing import Any

from gas_rt.bench.load import LIMITS
from gas_rt.bench.scenario import Case, Kind, Plan


def plan(**settings: Any) -> Plan:
    return Plan((Case("diagonal", 4, 128, "auto"),), **settings)


def run(kind: Kind, *, policy: str = "diagonal", steps: int = 4, side: int = 128) -> dict[str, Any]:
    percentiles = {"p50": 180.0, "p90": 195.0, "p95": 200.0, "p99": 210.0, "max": 220.0}
    found: dict[str, Any] = {
        "name": f"{kind} {policy} {steps} steps {side} px auto",
        "kind": kind,
        "policy": policy,
        "task": "pose",
        "steps": steps,
        "resolution": [side, side],
        "frames": 500,
        "fps": 34.0 if kind == "saturated" else 25.0,
        "first_frame_ms": 200.0,
        "first_frame_ms_max": 240.0,
        "age_ms": percentiles,
        "interframe_ms": {**percentiles, "p50": 40.0, "p95": 41.0},
        "jitter_ms": 1.0,
        "stages_ms": {"denoise": percentiles},
        "stages_sum_ms": 55.0,
        "deadline_miss": 0.002,
        "core_s_per_frame": 0.055,
        "full_share": 1.0,
        "dropped": 0,
        "backend": {
            "requested": "auto",
            "actual": "openvino",
            "device": "cpu",
            "precision": "bf16",
        },
        "noise": {"spread": 0.02, "problems": []},
    }
    if kind == "live":
        found["viewer"] = {"buffer_ms": 100.0, "stalls": 0, "stall_ms": 0.0, "frames": 500}
    return found


def report(*runs: dict[str, Any], **bench: Any) -> dict[str, Any]:
    return {
        "schema_version": 1,
        "command": ["gas-rt", "bench"],
        "environment": {"cpu": "Toy", "cpus": 2, "kernel_isa": "avx512"},
        "runs": list(runs) or [run("saturated"), run("live")],
        "model": {"bundle": "gas-mini", "threads": 2},
        "cold_start": [
            {
                "name": "cold start, diagonal",
                "interpreter_ms": 40.0,
                "first_frame_ms": 300.0,
                "total_ms": 2000.0,
                "peak_rss_mib": 230.0,
            }
        ],
        "memory": {"peak_rss_mib": 300.0},
        "bench": {
            **plan().settings(),
            "motion": "dance",
            "quick": False,
            "noise": [],
            "limits": vars(LIMITS),
            "promises": [],
            "not_judged": "a toy",
            **bench,
        },
    }
