"""Pictures out: mp4 films and PNG sheets, each written in one piece."""

from __future__ import annotations

import fractions
from collections.abc import Sequence
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Any

import numpy as np

from gas_rt.core import U8
from gas_rt.errors import BackendError, InputError
from gas_rt.files import atomic_write

if TYPE_CHECKING:
    from PIL.ImageDraw import ImageDraw

__all__ = ["VideoWriter", "sheet", "write_png"]

SLOWEST_FPS = 0.01  # a film's rate is a ratio of small numbers
# In order of preference; mpeg4 is built into every FFmpeg.
CODECS = (("libx264", {"crf": "16", "preset": "veryfast"}), ("mpeg4", {"qscale": "2"}))


class VideoWriter:
    """Writes frames to an mp4 file that appears when the writer is closed without an error."""

    def __init__(self, path: str | Path, *, fps: float) -> None:
        self.path = Path(path)
        self._rate = fractions.Fraction(max(fps, SLOWEST_FPS)).limit_denominator(1001)
        self._file = atomic_write(self.path)
        self._stream_to = self._file.__enter__()
        self._container: Any = None
        self._stream: Any = None
        self._size: tuple[int, int] | None = None
        self.frames = 0

    def write(self, rgb: U8) -> None:
        """Append a frame [H, W, 3]; an odd side is padded, since video needs even ones."""
        import av

        height, width = rgb.shape[:2]
        if self._size is None:
            self._open(width, height)
        elif self._size != (width, height):
            raise InputError(
                f"{self.path}: frames are {self._size[0]}×{self._size[1]}, got {width}×{height}; "
                "one film has one size"
            )
        even = np.pad(rgb, ((0, height % 2), (0, width % 2), (0, 0)), mode="edge")
        frame = av.VideoFrame.from_ndarray(np.ascontiguousarray(even), format="rgb24")
        frame.pts = self.frames
        self._container.mux(self._stream.encode(frame))
        self.frames += 1

    def _open(self, width: int, height: int) -> None:
        import av

        codec, options = next(
            ((name, opts) for name, opts in CODECS if name in av.codecs_available), (None, {})
        )
        if codec is None:
            raise BackendError("video: this PyAV encodes neither H.264 nor MPEG-4; reinstall 'av'")
        self._size = (width, height)
        self._container = av.open(self._stream_to, mode="w", format="mp4")
        self._stream = self._container.add_stream(codec, rate=self._rate, options=options)
        self._stream.width = width + width % 2
        self._stream.height = height + height % 2
        self._stream.pix_fmt = "yuv420p"

    def __enter__(self) -> VideoWriter:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        try:
            if self._container is not None:
                if kind is None:
                    self._container.mux(self._stream.encode(None))
                self._container.close()
            elif kind is None:
                raise InputError(f"{self.path}: a film needs at least one frame, got none")
        except BaseException as failure:
            self._file.__exit__(type(failure), failure, failure.__traceback__)
            raise
        self._file.__exit__(kind, error, traceback)


def write_png(path: str | Path, rgb: U8) -> None:
    """Write [H, W, 3] as a PNG."""
    from PIL import Image

    with atomic_write(path) as stream:
        Image.fromarray(np.ascontiguousarray(rgb)).save(stream, format="PNG")


def sheet(
    columns: Sequence[str], rows: Sequence[tuple[str, Sequence[U8]]], *, cell_px: int = 192
) -> U8:
    """A contact sheet [H, W, 3]: labelled columns, and rows of (label, pictures)."""
    from PIL import Image, ImageDraw

    head, side, gap = 22, 74, 4
    width = side + len(columns) * (cell_px + gap)
    height = head + len(rows) * (cell_px + gap)
    canvas = Image.new("RGB", (width, height), (24, 24, 26))
    draw = ImageDraw.Draw(canvas)
    for c, label in enumerate(columns):
        _text(draw, side + c * (cell_px + gap) + 4, 5, label)
    for r, (label, pictures) in enumerate(rows):
        if len(pictures) != len(columns):
            raise InputError(f"sheet: row {label!r} has {len(pictures)} of {len(columns)} pictures")
        top = head + r * (cell_px + gap)
        _text(draw, 4, top + 4, label)
        for c, picture in enumerate(pictures):
            image = Image.fromarray(np.ascontiguousarray(picture))
            image = image.resize((cell_px, cell_px), Image.Resampling.LANCZOS)
            canvas.paste(image, (side + c * (cell_px + gap), top))
    return np.asarray(canvas)


def _text(draw: ImageDraw, x: int, y: int, text: str) -> None:
    draw.text((x, y), text, fill=(230, 230, 230))
