"""The bench's chart: age of pose and steady rate of every case, drawn with Pillow."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from gas_rt.core import U8

if TYPE_CHECKING:
    from PIL.ImageDraw import ImageDraw

__all__ = ["draw_chart", "nice_step"]

SCALE = 2  # drawn at twice the size, for screens that show it so
WIDTH, ROW, HEAD, FOOT = 960, 42, 74, 58
NAMES, GAP, RIGHT = 250, 50, 24
PAPER, INK, FAINT, GRID = (255, 255, 255), (32, 36, 40), (110, 116, 124), (228, 230, 233)
FULL, MID, PALE, LINE = (35, 94, 168), (110, 156, 212), (190, 211, 237), (196, 60, 44)
TICKS = 5


@dataclass(frozen=True)
class Axis:
    """A horizontal axis from 0 to `top`, drawn between two x."""

    title: str
    left: float
    right: float
    top: float

    def x(self, value: float) -> float:
        """Where a value lies."""
        return self.left + (self.right - self.left) * min(value, self.top) / self.top


def nice_step(top: float, *, ticks: int) -> float:
    """1, 2 or 5 times a power of ten, so that at most `ticks` steps reach `top`."""
    rough = top / ticks
    power = 10.0 ** math.floor(math.log10(rough))
    return next(m * power for m in (1, 2, 5, 10) if m * power >= rough * (1 - 1e-9))


def draw_chart(document: Mapping[str, Any], *, promises: Mapping[str, float]) -> U8:
    """[H, W, 3]: per case a bar of ages (p50, p95, p99) and one of its rate.

    `promises` has the lines to draw: ``age_ms`` and ``fps``.
    """
    from PIL import Image, ImageDraw

    cases = _cases(document["runs"])
    height = HEAD + ROW * len(cases) + FOOT
    image = Image.new("RGB", (WIDTH * SCALE, height * SCALE), PAPER)
    pen = _Pen(ImageDraw.Draw(image))
    half = (WIDTH - NAMES - GAP - RIGHT) / 2
    oldest = [live["age_ms"]["p99"] or 0.0 for _, live in cases.values()]
    rates = [saturated["fps"] or 0.0 for saturated, _ in cases.values()]
    age = Axis(
        "age of pose, ms", NAMES, NAMES + half, max(1.1 * promises["age_ms"], *_room(oldest))
    )
    left = NAMES + half + GAP
    rate = Axis("steady rate, fps", left, left + half, max(1.1 * promises["fps"], *_room(rates)))
    bottom = HEAD + ROW * len(cases)
    pen.text(16, 14, _title(document), INK, 17)
    for axis in (age, rate):
        pen.axis(axis, HEAD, bottom)
    for k, (name, (saturated, live)) in enumerate(cases.items()):
        y = HEAD + ROW * k
        noisy = any(run["noise"]["problems"] for run in (saturated, live))
        pen.text(16, y + 13, f"{name} (noisy)" if noisy else name, INK, 13)
        for key, colour in (("p99", PALE), ("p95", MID), ("p50", FULL)):
            pen.bar(age, live["age_ms"][key], y, colour)
        pen.bar(rate, saturated["fps"], y, FULL)
    pen.promise(age, promises["age_ms"], HEAD, bottom, "promised p95")
    pen.promise(rate, promises["fps"], HEAD, bottom, "promised")
    for k, (saturated, live) in enumerate(cases.values()):
        ages = live["age_ms"]
        pen.beside(age, [ages["p50"], ages["p95"], ages["p99"]], HEAD + ROW * k, digits=0)
        pen.beside(rate, [saturated["fps"]], HEAD + ROW * k, digits=1)
    _legend(pen, bottom + 34)
    return np.asarray(image)


def _cases(
    runs: Sequence[Mapping[str, Any]],
) -> dict[str, tuple[Mapping[str, Any], Mapping[str, Any]]]:
    """By name, the saturated and the live run of each case, in their order."""
    found: dict[str, dict[str, Mapping[str, Any]]] = {}
    for run in runs:
        found.setdefault(str(run["name"]).removeprefix(f"{run['kind']} "), {})[run["kind"]] = run
    return {name: (pair["saturated"], pair["live"]) for name, pair in found.items()}


def _title(document: Mapping[str, Any]) -> str:
    environment, bench = document["environment"], document["bench"]
    return (
        f"{document['model']['bundle']} on {environment['cpus']} cores of {environment['cpu']}, "
        f"poses at {bench['fps']:g} fps"
    )


def _room(values: Sequence[float]) -> list[float]:
    """Ends of an axis that leave a third of it to the labels beside the bars."""
    return [1.5 * value for value in values]


def _legend(pen: _Pen, y: float) -> None:
    x: float = NAMES
    for colour, label in ((FULL, "p50"), (MID, "p95"), (PALE, "p99 of the age of pose")):
        pen.box(x, y + 3, x + 14, y + 13, colour)
        pen.text(x + 20, y, label, FAINT, 12)
        x += 66


class _Pen:
    """Draws in units of the final picture."""

    def __init__(self, draw: ImageDraw) -> None:
        self._draw = draw

    def text(self, x: float, y: float, text: str, colour: tuple[int, int, int], size: int) -> None:
        from PIL import ImageFont

        font = ImageFont.load_default(size * SCALE)
        self._draw.text((x * SCALE, y * SCALE), text, fill=colour, font=font)

    def width(self, text: str, size: int) -> float:
        from PIL import ImageFont

        font = ImageFont.load_default(size * SCALE)
        return float(self._draw.textlength(text, font=font)) / SCALE

    def box(
        self, left: float, top: float, right: float, bottom: float, colour: tuple[int, int, int]
    ) -> None:
        corners = (left * SCALE, top * SCALE, max(left, right) * SCALE, bottom * SCALE)
        self._draw.rectangle(corners, fill=colour)

    def bar(self, axis: Axis, value: float | None, y: float, colour: tuple[int, int, int]) -> None:
        """A bar in the row at `y`; none of None."""
        if value is not None:
            self.box(axis.left, y + 11, axis.x(value), y + ROW - 11, colour)

    def beside(self, axis: Axis, values: Sequence[float | None], y: float, *, digits: int) -> None:
        """A label right of the last value's bar, on paper of its own: a promise may run there."""
        known = [value for value in values if value is not None]
        if known and len(known) == len(values):
            text, x = " / ".join(f"{v:.{digits}f}" for v in known), axis.x(known[-1]) + 6
            self.box(x - 3, y + 13, x + self.width(text, 12) + 3, y + ROW - 12, PAPER)
            self.text(x, y + 14, text, INK, 12)

    def axis(self, axis: Axis, top: float, bottom: float) -> None:
        """Title, grid and ticks."""
        self.text(axis.left, top - 31, axis.title, INK, 13)
        step = nice_step(axis.top, ticks=TICKS)
        for k in range(math.floor(axis.top / step) + 1):
            x = axis.x(k * step)
            self.box(x, top, x + 0.5, bottom, GRID)
            label = f"{k * step:g}"
            self.text(x - self.width(label, 12) / 2, bottom + 6, label, FAINT, 12)

    def promise(self, axis: Axis, value: float, top: float, bottom: float, label: str) -> None:
        """A dashed line at a promised value, labelled above."""
        x, dash = axis.x(value), 6
        for y in range(round(top), round(bottom), 2 * dash):
            self.box(x - 0.5, y, x + 0.5, min(y + dash, bottom), LINE)
        text = f"{label} {value:g}"
        self.text(min(x, axis.right) - self.width(text, 11), top - 14, text, LINE, 11)
