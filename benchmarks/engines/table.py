"""The report as tables in Markdown."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

__all__ = ["markdown"]

HEAD = ("row", "threads", "ours p50 / p95", "against", "peer p50 / p95", "ratio", "asked")
PARITY_HEAD = ("graph", "backend", "computes in", "output", "relative", "rms", "cosine", "asked")


def markdown(document: Mapping[str, Any]) -> str:
    """Rows, what was skipped and why, and the table of parity."""
    lines = [_line(HEAD), _line("---" for _ in HEAD)]
    lines += [_line(_cells(row)) for row in document["rows"]]
    lines += [f"\nSkipped: `{name}`: {why}" for name, why in document["skipped"].items()]
    if document["parity"]:
        lines += ["", _line(PARITY_HEAD), _line("---" for _ in PARITY_HEAD)]
        lines += [_line(_parity(row)) for row in document["parity"]]
    return "\n".join(lines)


def _cells(row: Mapping[str, Any]) -> list[str]:
    wrong = "" if all(limit["ok"] for limit in row["correct"]) else "; **results differ**"
    return [
        f"`{row['name']}`",
        str(row["threads"]),
        _ms(row["ours_ms"]),
        row["against"],
        _ms(row["peer_ms"]),
        f"{row['ratio']:.3g} ×",
        f"≥ {row['required']:g} ×: **{row['verdict']}**{wrong}",
    ]


def _parity(row: Mapping[str, Any]) -> list[str]:
    mark = "" if row["ok"] else " **missed**"
    figures = [f"{row[name]:.2g}" for name in ("relative", "rms")]
    cosine = f"{row['cosine']:.6f}"
    places = [f"`{row['graph']}`", row["backend"], row["precision"], row["output"]]
    return [*places, *figures, cosine, f"≤ {row['required']:g}{mark}"]


def _ms(timing: Mapping[str, Any]) -> str:
    return f"{timing['p50']:.3g} / {timing['p95']:.3g} ms"


def _line(cells: Iterable[str]) -> str:
    return "| " + " | ".join(cells) + " |"
