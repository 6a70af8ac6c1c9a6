"""The photo: read with limits, masked, and mapped onto the model's square input."""

from __future__ import annotations

import io
import itertools
import math
import warnings
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
from numpy.typing import NDArray

from gas_rt.core import U8, Camera
from gas_rt.errors import FileError, GasRtWarning, InputError, ShapeError

if TYPE_CHECKING:
    from PIL import Image

__all__ = ["ModelPhoto", "Photo", "PictureLike", "fit_to_model", "read_photo"]

PictureLike = Any  # a path, a PIL image or a uint8 array
MaskSource = Literal["given", "alpha", "background"]

FORMATS = ("PNG", "JPEG", "WEBP")
FILE_BYTES_MAX = 128 << 20
PIXELS_MAX = 64_000_000  # a phone's largest photo has about 50 million
SIDES = (16, 16384)
BLACK_MAX = 12  # a background pixel's largest channel: black, as JPEG leaves it
# Share of the picture's side that a person shall fill: what is accepted, and what a crop aims at.
FILL_MIN, FILL_MAX, FILL_AIM = 0.7, 0.98, 0.88


@dataclass(frozen=True, eq=False)
class Photo:
    """A picture of one person.

    Attributes
    ----------
    rgb : [H, W, 3] premultiplied by the mask, so black where the person isn't.
    mask : [H, W] coverage.
    mask_source : where the mask came from.
    """

    rgb: U8
    mask: U8
    mask_source: MaskSource


@dataclass(frozen=True, eq=False)
class ModelPhoto:
    """A photo on the model's pixel grid, with the camera that fits it."""

    rgb: U8  # [S, S, 3] premultiplied
    mask: U8  # [S, S]
    camera: Camera

    @property
    def tensor(self) -> NDArray[np.float32]:
        """[1, 4, S, S] in [0, 1]: what the encoder reads."""
        stacked = np.concatenate([self.rgb, self.mask[..., None]], 2)  # [S, S, 4]
        tensor = np.ascontiguousarray(stacked.transpose(2, 0, 1)[None], np.float32)
        tensor /= 255
        return tensor


def read_photo(image: PictureLike, mask: PictureLike | None = None) -> Photo:
    """Read a photo and its mask.

    Without a mask the picture's alpha channel is taken, and without one every pixel that is not
    black, since the pictures models are made for have a black background.
    """
    pixels = _pixels(image, "photo")
    rgb = pixels[..., :3]
    source: MaskSource
    if mask is not None:
        coverage, source = _mask_pixels(mask), "given"
        if coverage.shape != rgb.shape[:2]:
            raise InputError(
                f"mask: is {coverage.shape[1]}×{coverage.shape[0]}, the photo "
                f"{rgb.shape[1]}×{rgb.shape[0]}; give a mask of the photo's size"
            )
    elif pixels.shape[2] == 4:
        coverage, source = pixels[..., 3], "alpha"
    else:
        coverage, source = ((rgb.max(2) > BLACK_MAX) * 255).astype(np.uint8), "background"
    if not (coverage > 127).any():
        raise InputError(
            f"mask ({source}): shows no person; nothing in it is at least half covered"
        )
    if source == "background" and (coverage > 0).mean() > 0.95:
        warnings.warn(
            "photo: no mask, no alpha and no black background: the whole picture counts as the "
            "person; give a mask",
            GasRtWarning,
            stacklevel=3,
        )
    # A picture that is black wherever the mask is 0 has its edges blended with black already.
    blended = source == "given" and rgb[coverage == 0].max(initial=0) <= BLACK_MAX
    if source != "background" and not blended:
        rgb = ((rgb.astype(np.uint16) * coverage[..., None] + 127) // 255).astype(np.uint8)
    return Photo(np.ascontiguousarray(rgb), np.ascontiguousarray(coverage), source)


def fit_to_model(photo: Photo, camera: Camera, *, side_px: int) -> ModelPhoto:
    """Map a photo and its camera onto a square of `side_px` that the person fills.

    A square photo that the person fills already is used whole; others are cropped, or padded
    with black.
    """
    height, width = photo.mask.shape
    if (camera.width, camera.height) != (width, height):
        if abs(camera.width * height - camera.height * width) > max(width, height):
            raise InputError(
                f"body fit: was made for a {camera.width}×{camera.height} picture, the photo is "
                f"{width}×{height}; fit the body to this photo"
            )
        camera = camera.resized(width=width, height=height)
    x0, y0, side = _window(photo.mask > 127)
    squared = _cut(np.concatenate([photo.rgb, photo.mask[..., None]], 2), x0, y0, side)
    small = _resized(squared, side_px)
    k = camera.intrinsics.copy()
    k[0, 2] -= x0
    k[1, 2] -= y0
    k[:2] *= side_px / side
    return ModelPhoto(
        np.ascontiguousarray(small[..., :3]),
        np.ascontiguousarray(small[..., 3]),
        Camera(k, camera.rotation, camera.translation, side_px, side_px),
    )


def _window(person: NDArray[np.bool_]) -> tuple[int, int, int]:
    """The square (left, top, side) to use, in pixels; it may reach beyond the picture."""
    height, width = person.shape
    rows, columns = np.flatnonzero(person.any(1)), np.flatnonzero(person.any(0))
    top, bottom = int(rows[0]), int(rows[-1]) + 1
    left, right = int(columns[0]), int(columns[-1]) + 1
    longer = max(bottom - top, right - left)
    if height == width and FILL_MIN <= longer / height <= FILL_MAX:
        return 0, 0, height
    side = max(1, round(longer / FILL_AIM))
    return (left + right - side) // 2, (top + bottom - side) // 2, side


def _cut(pixels: U8, x0: int, y0: int, side: int) -> U8:
    """The square of `pixels` at (x0, y0), black beyond the picture."""
    height, width = pixels.shape[:2]
    out = np.zeros((side, side, pixels.shape[2]), np.uint8)
    left, top = max(0, x0), max(0, y0)
    right, bottom = min(width, x0 + side), min(height, y0 + side)
    out[top - y0 : bottom - y0, left - x0 : right - x0] = pixels[top:bottom, left:right]
    return out


def _resized(pixels: U8, side: int) -> U8:
    """Exact area average when shrinking, bicubic when growing; each channel on its own."""
    from PIL import Image

    if pixels.shape[0] == side:
        return pixels
    if pixels.shape[0] > side:
        shrunk = _shrunk(_shrunk(pixels, side).swapaxes(0, 1), side)
        return (shrunk.swapaxes(0, 1) + 0.5).astype(np.uint8)
    channels = [
        Image.fromarray(np.ascontiguousarray(pixels[..., c])).resize(
            (side, side), Image.Resampling.BICUBIC
        )
        for c in range(pixels.shape[2])
    ]
    return np.stack([np.asarray(channel) for channel in channels], 2)


def _shrunk(rows: NDArray[Any], count: int) -> NDArray[np.float64]:
    """Area averages of `count` equal parts along the first axis; parts may split a row.

    Part by part: in floating point, a phone's photo as a whole would take gigabytes.
    """
    edges = np.linspace(0, len(rows), count + 1)
    out = np.empty((count, *rows.shape[1:]))
    for k, (begin, end) in enumerate(itertools.pairwise(edges)):
        at = np.arange(int(begin), min(math.ceil(end), len(rows)))
        share = np.minimum(at + 1, end) - np.maximum(at, begin)
        out[k] = np.tensordot(share, rows[at[0] : at[-1] + 1], 1)
    return out * (count / len(rows))


def _pixels(image: PictureLike, what: str) -> U8:
    """uint8 [H, W, 3] or [H, W, 4] of a path, a PIL image or an array."""
    if isinstance(image, np.ndarray):
        if image.dtype != np.uint8 or image.ndim != 3 or image.shape[2] not in (3, 4):
            raise ShapeError(
                f"{what}: expected a uint8 array [H, W, 3] or [H, W, 4], got {image.dtype} "
                f"{list(image.shape)}; scale it to 0..255 and order it height, width, channels"
            )
        _check_size(image.shape[1], image.shape[0], what)
        return image
    picture = _opened(image, what)
    has_alpha = picture.mode in ("RGBA", "LA", "PA") or "transparency" in picture.info
    return _decoded(picture, "RGBA" if has_alpha else "RGB", _named(image, what))


def _mask_pixels(mask: PictureLike) -> U8:
    """uint8 [H, W] coverage of a path, a PIL image or an array."""
    if isinstance(mask, np.ndarray):
        if mask.ndim == 2 and mask.dtype == np.bool_:
            return mask.astype(np.uint8) * np.uint8(255)
        if mask.ndim != 2 or mask.dtype != np.uint8:
            raise ShapeError(
                f"mask: expected a bool or uint8 array [H, W], got {mask.dtype} {list(mask.shape)}"
            )
        return mask
    picture = _opened(mask, "mask")
    has_alpha = picture.mode in ("RGBA", "LA")
    pixels = _decoded(picture, picture.mode if has_alpha else "L", _named(mask, "mask"))
    return pixels[..., -1] if has_alpha else pixels


def _named(image: PictureLike, what: str) -> str:
    return str(image) if isinstance(image, str | Path) else what


def _opened(image: PictureLike, what: str) -> Image.Image:
    """A PIL image whose size has been checked and whose pixels have not been decoded."""
    from PIL import Image, UnidentifiedImageError

    if isinstance(image, Image.Image):
        _check_size(image.width, image.height, what)
        return image
    if not isinstance(image, str | Path):
        raise InputError(
            f"{what}: expected a path, a PIL image or a uint8 array, got {type(image).__name__}"
        )
    path = Path(image)
    try:
        size = path.stat().st_size
        if size > FILE_BYTES_MAX:
            raise FileError(
                f"{path}: has {size >> 20} MiB, at most {FILE_BYTES_MAX >> 20} are read; "
                "scale the picture"
            )
        content = io.BytesIO(path.read_bytes())
    except OSError as error:
        raise FileError(
            f"{path}: cannot be read as a {what}: {error.strerror}; check the path"
        ) from error
    try:
        with warnings.catch_warnings():
            # Our own limit, checked below, is lower than the one Pillow warns about.
            warnings.simplefilter("ignore", Image.DecompressionBombWarning)
            picture = Image.open(content, formats=FORMATS)
    except UnidentifiedImageError as error:
        raise FileError(
            f"{path}: cannot be read as a {what}: not a {', '.join(FORMATS)} picture; convert it"
        ) from error
    except Exception as error:  # Pillow's parsers raise whatever a broken file leads them to
        raise FileError(f"{path}: is a damaged picture: {error}; save it again") from error
    _check_size(picture.width, picture.height, str(path))
    return picture


def _decoded(picture: Image.Image, mode: str, what: str) -> U8:
    from PIL import ImageOps

    try:
        # Phones store photos lying on their side; the tools that fit bodies read them upright.
        return np.asarray(ImageOps.exif_transpose(picture).convert(mode), np.uint8)
    except Exception as error:  # as above
        raise FileError(
            f"{what}: is a damaged or truncated picture: {error}; save it again"
        ) from error


def _check_size(width: int, height: int, what: str) -> None:
    # The square around a person is as wide as a panorama is long, so the sides are bounded too.
    low, high = SIDES
    if min(width, height) < low or max(width, height) > high or width * height > PIXELS_MAX:
        raise InputError(
            f"{what}: is {width}×{height}; expected at least {low}×{low}, at most {high} pixels "
            f"a side and {PIXELS_MAX // 10**6} million pixels; scale the picture"
        )
