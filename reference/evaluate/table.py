"""``python -m reference.evaluate.table FIELD.json FULL.json …``: documents as a Markdown table.

A row per document, in the order given. Figures are the person's box's, of views / of motions where
a column has both; ``docs/evaluation.md`` defines them. ``--against NAME`` adds in brackets how far
each row is from that one, which must have been run on the same clips.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

__all__ = ["HEAD", "main", "row"]

Document = dict[str, Any]
Values = tuple[float | None, ...]
NONE = "–"
# Of documents whose difference means something; what they lacked before there was a choice.
SAME = {"seeds": None, "views": None, "motions": None, "kind": "scan", "fit_noise": 0.0}


@dataclass(frozen=True)
class Column:
    """One figure of documents.

    Attributes
    ----------
    digits : after the point.
    share : differences are shares of the other row's value, in percent.
    usual : False leaves the column out where no document has the figure.
    """

    head: str
    values: Callable[[Document], Values]
    digits: int
    signed: bool = False
    share: bool = False
    usual: bool = True

    def cell(self, document: Document, against: Document | None = None) -> str:
        """The figures, and their distances from the other document's."""
        values = self.values(document)
        others = (None,) * len(values) if against is None else self.values(against)
        sign = "+" if self.signed else ""
        shown = []
        for k, value in enumerate(values):
            text = NONE if value is None else f"{value:{sign}.{self.digits}f}"
            other = others[k] if k < len(others) else None
            shown.append(text + self._distance(value, other))
        return " / ".join(shown) or NONE

    def _distance(self, value: float | None, other: float | None) -> str:
        if value is None or other is None:
            return ""
        if not self.share:
            return f" ({value - other:+.{self.digits}f})"
        return f" ({100 * (value / other - 1):+.0f} %)" if other else ""


def _at(*keys: str) -> Callable[[Document], float | None]:
    """The value that lies under these keys."""

    def found(document: Document) -> float | None:
        value: Any = document
        for key in keys:
            if key not in value:
                return None
            value = value[key]
        return float(value)

    return found


def _single(*keys: str) -> Callable[[Document], Values]:
    return lambda document: (_at(*keys)(document),)


def _box(*sides: str) -> Callable[[Document], Values]:
    """Box PSNR of sides of the view summary."""
    return lambda document: tuple(
        _at("summary", "view", side, "box_psnr_db")(document) for side in sides
    )


def _both(name: str) -> Callable[[Document], Values]:
    """A metric of views and of motions, of those that were shown."""
    places = (("view", "all"), ("motion",))

    def found(document: Document) -> Values:
        values = (_at("summary", *place, name)(document) for place in places)
        return tuple(value for value in values if value is not None)

    return found


def _fvd(document: Document) -> Values:
    values = (_at("fvd", task, "distance")(document) for task in ("view", "motion"))
    return tuple(value for value in values if value is not None)


COLUMNS = (
    Column("views, dB", _box("all"), 2),
    Column("seen / hidden, dB", _box("seen", "hidden"), 2),
    Column("motions, dB", _single("summary", "motion", "box_psnr_db"), 2),
    Column("SSIM", _both("box_ssim"), 3),
    Column("MS-SSIM", _both("box_ms_ssim"), 3, usual=False),
    Column("HaarPSI", _both("box_haarpsi"), 3),
    Column("GMSD", _both("box_gmsd"), 3, usual=False),
    Column("LPIPS", _both("box_lpips"), 3, usual=False),
    Column("FVD", _fvd, 1, usual=False),
    Column("spectral error, dB", _both("box_spectral_db"), 2, share=True),
    Column("sharpness, dB", _both("box_sharpness_db"), 2),
    Column("change between views, × true", _single("multiview", "ratio"), 2, usual=False),
    Column("flicker, × true", _single("flicker", "surface", "unexplained_ratio"), 2, usual=False),
    Column("change over a stream, dB", _single("steady", "change_db"), 2, signed=True),
    Column(
        "since its third round, dB",
        _single("steady", "since_third", "box_psnr_db"),
        2,
        signed=True,
        usual=False,
    ),
    Column("fps", _single("fps"), 1),
)
HEAD = ("shown by", *(column.head for column in COLUMNS if column.usual))


def row(
    document: Document,
    against: Document | None = None,
    *,
    columns: Sequence[Column] = tuple(c for c in COLUMNS if c.usual),
) -> list[str]:
    """The cells of one document."""
    return [name_of(document), *(column.cell(document, against) for column in columns)]


def name_of(document: Document) -> str:
    """What a document's row is called."""
    backend = document["backend"]
    how = f"{backend['actual']} {backend['precision']}"
    if document["stage"] == "field":
        return f"field, {document['renderer']} ({how})"
    if document["stage"] == "ceiling":
        return f"ceiling: the truth through the autoencoder ({how})"
    steps = f"`{document['policy']}`, {document['steps']} steps"
    return f"{document.get('shown_as', document['stage'])}, {steps} ({how})"


def _other(documents: dict[Path, Document], name: str) -> Document:
    """The document called so, by its row or its file, and comparable with all the others."""
    named = [d for path, d in documents.items() if name in (path.stem, str(path), name_of(d))]
    if len(named) != 1:
        stems = ", ".join(path.stem for path in documents)
        raise ValueError(f"--against {name}: names {len(named)} of the rows; give one of {stems}")
    for path, document in documents.items():
        for key, usual in SAME.items():
            own, other = document.get(key, usual), named[0].get(key, usual)
            if own != other:
                raise ValueError(
                    f"{path}: its {key} is {own}, that of {name} {other}; compare runs on the "
                    "same clips"
                )
    return named[0]


def _read(path: Path) -> Document:
    try:
        document: Document = json.loads(path.read_text())
        row(document)
    except (OSError, ValueError, LookupError, TypeError, AttributeError) as error:
        raise ValueError(
            f"{path}: not a document of `python -m reference.evaluate --json` "
            f"({type(error).__name__}: {error})"
        ) from error
    return document


def main(argv: list[str] | None = None) -> int:
    """Entry point: 0 on success, 1 on the caller's error."""
    parser = argparse.ArgumentParser(prog="python -m reference.evaluate.table", description=__doc__)
    parser.add_argument("documents", type=Path, nargs="+", metavar="DOCUMENT.json")
    parser.add_argument("--against", metavar="NAME", help="a row, or the name of its file")
    args = parser.parse_args(argv)
    try:
        documents = {path: _read(path) for path in args.documents}
        against = None if args.against is None else _other(documents, args.against)
    except ValueError as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    columns = [
        column
        for column in COLUMNS
        if column.usual
        or any(value is not None for d in documents.values() for value in column.values(d))
    ]
    rows = [
        row(document, None if document is against else against, columns=columns)
        for document in documents.values()
    ]
    for cells in (("shown by", *(c.head for c in columns)), ["---"] * (len(columns) + 1), *rows):
        print(f"| {' | '.join(cells)} |")
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
