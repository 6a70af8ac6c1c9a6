"""The rows as a table in Markdown."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

__all__ = ["markdown"]

HEAD = (
    "kernel",
    "threads",
    "ours p50 / p95",
    "against",
    "peer p50 / p95",
    "ratio",
    "asked",
    "peak",
)


def markdown(document: Mapping[str, Any]) -> str:
    """The document's rows, and under them those that were skipped."""
    lines = [_line(HEAD), _line("---" for _ in HEAD)]
    lines += [_line(_cells(row)) for row in document["rows"]]
    lines += [f"\nSkipped: `{name}`: {why}" for name, why in document["skipped"].items()]
    return "\n".join(lines)


def _cells(row: Mapping[str, Any]) -> list[str]:
    limits = "; ".join(_limit(limit) for limit in row["speed"])
    joined = limits.replace("; ", ", or ") if row["one_is_enough"] else limits
    ratio = "" if row["ratio"] is None else f"{row['ratio']:.3g} ×"
    mark = "" if all(limit["ok"] for limit in row["correct"]) else "; **results differ**"
    return [
        f"`{row['name']}`",
        str(row["threads"]),
        _milliseconds(row["ours_ms"]),
        row["against"],
        _milliseconds(row["peer_ms"]),
        ratio,
        f"{joined}: **{row['verdict']}**{mark}",
        _peak(row["peak"]),
    ]


def _limit(limit: Mapping[str, Any]) -> str:
    bound = f"≥ {limit['at least']:g}" if "at least" in limit else f"≤ {limit['at most']:g}"
    return f"{limit['what']} {limit['value']:.3g} ({bound})"


def _milliseconds(timing: Mapping[str, Any] | None) -> str:
    return "" if timing is None else f"{timing['p50']:.3g} / {timing['p95']:.3g} ms"


def _peak(peak: Mapping[str, float]) -> str:
    if "share_of_fma" in peak:
        return f"{peak['gflop_s']:g} Gflop/s, {peak['share_of_fma']:.0%} of fp32 FMA"
    if "gb_s" in peak:
        return f"{peak['gb_s']:g} GB/s, {peak['share_of_cached']:.0%} of cached reads"
    return ""


def _line(cells: Iterable[str]) -> str:
    return "| " + " | ".join(cells) + " |"
