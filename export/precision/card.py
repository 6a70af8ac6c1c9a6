"""What a model card says of a bundle's precision."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

__all__ = ["precision_section"]


def precision_section(report: Mapping[str, Any]) -> str:
    """A section of Markdown, from bundle.json's `precision`."""
    name = report["name"]
    rows = [
        f"| `{graph}` | {kind} | {_counts(report['layers'][graph]['file'])} |"
        for graph, kind in report["graphs"].items()
    ]
    streams = [
        f"- {engine}: {told['psnr_db']:.2f} dB from PyTorch in fp32 (at least "
        f"{told['required_db']:g}), {told['loss_db']:+.3f} dB lost to the truth in the person's "
        f"box (at most {told['loss_db_max']:g})"
        for engine, told in report["stream"].items()
        if engine != "steps"
    ]
    lines = [
        "",
        "## Precision",
        "",
        f"Converted to {name} by `python -m export precision`; bundle.json has which layers, and",
        "every figure of the gates.",
        "",
        "| graph | computes in | layers by type |",
        "|---|---|---|",
        *rows,
        "",
        f"A stream of {report['stream']['steps']} steps:",
        "",
        *streams,
    ]
    return "\n".join(lines) + "\n"


def _counts(types: Mapping[str, int]) -> str:
    return ", ".join(f"{count} {kind}" for kind, count in types.items())
