"""``python -m reference.evaluate.table FIELD.json FULL.json …``: documents as a Markdown table.

A row per document, in the order given; PSNR, SSIM, HaarPSI and spectral figures are the box's.
"""

from __future__ import annotations

import argparse
import json
import sys
from pathlib import Path
from typing import Any

__all__ = ["main", "row"]

HEAD = (
    "shown by",
    "views, dB",
    "seen / hidden, dB",
    "motions, dB",
    "SSIM",
    "HaarPSI",
    "spectral error, dB",
    "sharpness, dB",
    "change over a stream, dB",
    "fps",
)


def row(document: dict[str, Any]) -> list[str]:
    """The cells of one document; "views / motions" where one column has both."""
    found = document.get("summary", {})
    view, motion = found.get("view", {}), found.get("motion")
    kinds = [part for part in (view.get("all"), motion) if part]

    def both(name: str, digits: int) -> str:
        return " / ".join(f"{part[name]:.{digits}f}" for part in kinds) or "–"

    def box(part: dict[str, float] | None) -> str:
        return f"{part['box_psnr_db']:.2f}" if part else "–"

    steady = document.get("steady")
    return [
        _name(document),
        box(view.get("all")),
        f"{box(view.get('seen'))} / {box(view.get('hidden'))}",
        box(motion),
        both("box_ssim", 3),
        both("box_haarpsi", 3),
        both("box_spectral_db", 2),
        both("box_sharpness_db", 2),
        f"{steady['change_db']:+.2f}" if steady else "–",
        f"{document['fps']:.1f}" if "fps" in document else "–",
    ]


def _name(document: dict[str, Any]) -> str:
    backend = document["backend"]
    how = f"{backend['actual']} {backend['precision']}"
    if document["stage"] == "field":
        return f"field, {document['renderer']} ({how})"
    steps = f"`{document['policy']}`, {document['steps']} steps"
    return f"{document['stage']}, {steps} ({how})"


def main(argv: list[str] | None = None) -> int:
    """Entry point: 0 on success, 1 on the caller's error."""
    parser = argparse.ArgumentParser(prog="python -m reference.evaluate.table", description=__doc__)
    parser.add_argument("documents", type=Path, nargs="+", metavar="DOCUMENT.json")
    args = parser.parse_args(argv)
    rows: list[list[str]] = []
    for path in args.documents:
        try:
            rows.append(row(json.loads(path.read_text())))
        except (OSError, ValueError, LookupError, TypeError, AttributeError) as error:
            print(
                f"error: {path}: not a document of `python -m reference.evaluate --json` "
                f"({type(error).__name__}: {error})",
                file=sys.stderr,
            )
            return 1
    for cells in (HEAD, ["---"] * len(HEAD), *rows):
        print(f"| {' | '.join(cells)} |")
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
