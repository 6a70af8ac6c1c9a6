"""A report of ``gas-rt bench`` as text."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

__all__ = ["as_text"]

HEAD = (
    *("run", "fps", "first ms", "age p50", "p95", "p99", "max", "gap p50", "p95"),
    *("jitter", "missed", "stalls", "core-s", "full"),
)


def as_text(document: Mapping[str, Any]) -> str:
    """The runs as a table, then stages, starts, what was promised, and how noisy it was."""
    runs = document["runs"]
    lines = _table([HEAD, *(_cells(run) for run in runs)])
    lines += ["", "stages, ms of work a frame, p50 each:"]
    lines += [f"  {run['name']}: {_stages(run)}" for run in runs if run["kind"] == "saturated"]
    if document["cold_start"]:
        lines += ["", "start in a process of its own, ms:"]
        lines += [f"  {_start(start)}" for start in document["cold_start"]]
    lines += ["", f"peak memory of all runs together: {document['memory']['peak_rss_mib']:.0f} MiB"]
    lines += ["", *_promises(document["bench"])]
    return "\n".join(lines)


def _cells(run: Mapping[str, Any]) -> tuple[str, ...]:
    age, gap, viewer = run["age_ms"], run["interframe_ms"], run.get("viewer")
    live, missed = run["kind"] == "live", run["deadline_miss"]
    stalls = f"{viewer['stalls']} ({viewer['stall_ms']:.0f} ms)" if viewer else "–"
    return (
        run["name"],
        _number(run["fps"], 1),
        _number(run["first_frame_ms"], 0),
        *(_number(age[key], 0) for key in ("p50", "p95", "p99", "max")),
        *(_number(gap[key], 1) for key in ("p50", "p95")),
        _number(run["jitter_ms"], 1),
        f"{missed:.1%}" if live and missed is not None else "–",
        stalls,
        _number(run["core_s_per_frame"], 4),
        "–" if run["full_share"] is None else f"{run['full_share']:.0%}",
    )


def _table(rows: Sequence[Sequence[str]]) -> list[str]:
    widths = [max(len(row[c]) for row in rows) for c in range(len(rows[0]))]
    return [
        "  ".join(
            cell.ljust(width) if c == 0 else cell.rjust(width)
            for c, (cell, width) in enumerate(zip(row, widths, strict=True))
        ).rstrip()
        for row in rows
    ]


def _stages(run: Mapping[str, Any]) -> str:
    parts = [f"{stage} {_number(ms['p50'], 1)}" for stage, ms in run["stages_ms"].items()]
    return f"{', '.join(parts)}; {_number(run['stages_sum_ms'], 1)} in all on average"


def _start(start: Mapping[str, Any]) -> str:
    phases = [
        f"{key.removesuffix('_ms').replace('_', ' ')} {value:.0f}"
        for key, value in start.items()
        if key.endswith("_ms") and key != "total_ms"
    ]
    return (
        f"{start['name']}: {', '.join(phases)}; {start['total_ms']:.0f} in all, "
        f"{start['peak_rss_mib']:.0f} MiB at most"
    )


def _promises(bench: Mapping[str, Any]) -> list[str]:
    if not bench["promises"]:
        return [f"promises: not judged ({bench['not_judged']})"]
    lines = ["promises:"]
    for promise in bench["promises"]:
        sense = next(s for s in ("at_least", "at_most", "below") if s in promise)
        bound = f"{sense.replace('_', ' ')} {promise[sense]:g} {promise['unit']}"
        value = _number(promise["value"], 3)
        lines.append(f"  {promise['name']}: {value} ({bound}): {promise['status']}")
    return lines


def _number(value: float | None, digits: int) -> str:
    return "–" if value is None else f"{value:.{digits}f}"
