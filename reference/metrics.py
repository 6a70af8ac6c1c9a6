"""Picture metrics, on the whole picture and in the person's box."""

from __future__ import annotations

import numpy as np
from numpy.lib.stride_tricks import sliding_window_view
from numpy.typing import NDArray
from scipy.ndimage import correlate1d, prewitt
from scipy.signal.windows import gaussian
from scipy.special import expit, logit
from skimage.color import rgb2yiq
from skimage.metrics import structural_similarity

from gas_rt.core import Camera

__all__ = [
    "METRICS",
    "SEEN_DEG",
    "azimuth_deg",
    "box_and_whole",
    "gmsd",
    "haarpsi",
    "mask_box",
    "ms_ssim",
    "psnr_db",
    "spectral",
    "ssim",
]

F32 = NDArray[np.float32]
F64 = NDArray[np.float64]
BOX_MARGIN_PX = 4
SEEN_DEG = 60.0  # views up to this azimuth from the photo's show mostly what the photo shows
PSNR_CAP_DB = 60.0  # equal pictures; keeps means finite
SSIM_SIDE, SSIM_SIGMA = 11, 1.5  # the paper's window, in pixels
SSIM_C1, SSIM_C2 = 0.01**2, 0.03**2
SCALE_WEIGHTS = np.array([0.0448, 0.2856, 0.3001, 0.2363, 0.1333])  # fitted to opinion scores
GRADIENT_C = 170 / 255**2  # the paper's, for pictures in [0,1]
HAAR_C, HAAR_ALPHA = 30.0, 4.2  # the paper's, fitted to opinion scores
BANDS = 16  # of spatial frequency, from 0 to half a cycle per pixel
FINE = 0.25  # cycles per pixel: details of less than 4 pixels
ROUNDING = 1 / (12 * 255**2)  # variance of 8-bit rounding: no picture's power is below it


def mask_box(mask: NDArray, *, margin: int = BOX_MARGIN_PX) -> tuple[slice, slice]:
    """Rows and columns of the mask's bounding box, grown by `margin` inside the picture."""
    rows, columns = np.nonzero(mask.any(1))[0], np.nonzero(mask.any(0))[0]
    if not len(rows):
        return slice(0, mask.shape[0]), slice(0, mask.shape[1])
    return (
        slice(max(int(rows[0]) - margin, 0), int(rows[-1]) + 1 + margin),
        slice(max(int(columns[0]) - margin, 0), int(columns[-1]) + 1 + margin),
    )


def azimuth_deg(reference: Camera, camera: Camera) -> float:
    """Angle about the vertical between two cameras' viewing directions, 0..180."""
    a, b = reference.rotation[2, [0, 2]], camera.rotation[2, [0, 2]]
    turn = np.arctan2(a[0] * b[1] - a[1] * b[0], a @ b)
    return float(np.degrees(abs(turn)))


def psnr_db(picture: F32, truth: F32) -> float:
    """Peak signal-to-noise ratio of pictures in [0,1]."""
    error = float(np.mean((picture.astype(np.float64) - truth.astype(np.float64)) ** 2))
    return min(PSNR_CAP_DB, -10 * np.log10(max(error, 1e-12)))


def ssim(picture: F32, truth: F32) -> float:
    """Structural similarity of [H,W,3] pictures in [0,1]: 11-pixel Gaussian window, σ 1.5."""
    value = structural_similarity(
        picture,
        truth,
        data_range=1.0,
        channel_axis=2,
        gaussian_weights=True,
        sigma=SSIM_SIGMA,
        use_sample_covariance=False,
    )
    return float(value)


def ms_ssim(picture: F32, truth: F32) -> float:
    """Structural similarity over scales of [H,W,3] pictures in [0,1]; 1 is equal.

    Wang, Simoncelli and Bovik 2003, "Multi-scale structural similarity for image quality
    assessment", per colour channel: contrast and structure at every scale, luminance at the last.
    Five scales need 176 pixels; smaller pictures have as many as their shorter side holds windows
    for, and the weights of those are scaled to a sum of 1. A scale without any positive
    correlation makes it 0.
    """
    one, two = picture.astype(np.float64), truth.astype(np.float64)
    count = sum(min(one.shape[:2]) >> k >= SSIM_SIDE for k in range(len(SCALE_WEIGHTS)))
    if not count:
        raise ValueError(
            f"ms_ssim: expected sides of at least {SSIM_SIDE} pixels, found {list(one.shape[:2])}"
        )
    weights = SCALE_WEIGHTS[:count] / SCALE_WEIGHTS[:count].sum()
    total = np.ones(3)
    for scale, weight in enumerate(weights):
        if scale:
            one, two = _means_of_four(one), _means_of_four(two)
        luminance, structure = _similarity_maps(one, two)
        kept = structure if scale < count - 1 else luminance * structure
        total *= np.maximum(kept.mean((0, 1)), 0) ** weight
    return float(total.mean())


def _similarity_maps(one: F64, two: F64) -> tuple[F64, F64]:
    """Luminance, and contrast with structure, wherever the window lies inside: [H-10,W-10,3]."""
    window = gaussian(SSIM_SIDE, SSIM_SIGMA)
    window /= window.sum()
    half = SSIM_SIDE // 2

    def local(values: F64) -> F64:
        rows = correlate1d(values, window, axis=0)[half : len(values) - half]
        return correlate1d(rows, window, axis=1)[:, half : values.shape[1] - half]

    mean_1, mean_2 = local(one), local(two)
    power = local(one**2) + local(two**2) - mean_1**2 - mean_2**2
    both = local(one * two) - mean_1 * mean_2
    luminance = (2 * mean_1 * mean_2 + SSIM_C1) / (mean_1**2 + mean_2**2 + SSIM_C1)
    return luminance, (2 * both + SSIM_C2) / (power + SSIM_C2)


def _means_of_four(picture: F64) -> F64:
    """Means of 2 × 2 blocks; an odd last line is left out."""
    height, width = picture.shape[0] // 2, picture.shape[1] // 2
    even = picture[: 2 * height, : 2 * width]
    return even.reshape(height, 2, width, 2, -1).mean((1, 3))


def gmsd(picture: F32, truth: F32) -> float:
    """Gradient magnitude similarity deviation of [H,W,3] pictures in [0,1]; 0 is equal.

    Xue, Zhang, Mou and Bovik 2014, "Gradient magnitude similarity deviation": how unevenly edges
    of the halved lumas agree. Errors that are everywhere alike cost nothing.
    """
    one, two = (_edges(_means_of_four(_luma(p)[..., None])[..., 0]) for p in (picture, truth))
    return float(((2 * one * two + GRADIENT_C) / (one**2 + two**2 + GRADIENT_C)).std())


def _luma(picture: F32) -> F64:
    luma: F64 = rgb2yiq(picture.astype(np.float64))[..., 0]
    return luma


def _edges(luma: F64) -> F64:
    across, down = (prewitt(luma, axis=axis, mode="constant") / 3 for axis in (1, 0))
    return np.hypot(across, down)


def haarpsi(picture: F32, truth: F32) -> float:
    """Haar wavelet-based perceptual similarity of [H,W,3] pictures in [0,1]; 1 is equal.

    Reisenhofer, Bosse, Kutyniok and Wiegand 2018, "A Haar wavelet-based perceptual similarity
    index for image quality assessment", with its halving and its constants: edges at the two
    finest scales are compared where the third one has any, and chroma by its local mean.
    """
    one, two = (_halved(255 * rgb2yiq(p.astype(np.float64))) for p in (picture, truth))
    edges = [(_haar(one[..., 0], s), _haar(two[..., 0], s)) for s in (1, 2, 3)]  # [2,H,W] each
    weight = np.maximum(*edges[2])
    luma = sum(_similarity(a, b) for a, b in edges[:2]) / 2
    means = [np.abs(_block_means(p[..., 1:])) for p in (one, two)]
    chroma = _similarity(*means).mean(2)
    weights = np.concatenate([weight, weight.mean(0)[None]])
    maps = expit(HAAR_ALPHA * np.concatenate([luma, chroma[None]]))
    if not weights.any():  # no edge in either picture: all places count the same
        weights = np.ones_like(weights)
    # Rounding must not carry equal pictures past 1.
    return min(1.0, float((logit((maps * weights).sum() / weights.sum()) / HAAR_ALPHA) ** 2))


def _halved(yiq: F64) -> F64:
    """Means of 2 × 2 blocks; an odd side gets a black line."""
    height, width = yiq.shape[:2]
    even = np.pad(yiq, ((0, height % 2), (0, width % 2), (0, 0)))
    return even.reshape(even.shape[0] // 2, 2, even.shape[1] // 2, 2, 3).mean((1, 3))


def _haar(luma: F64, scale: int) -> F64:
    """[2,H,W] strength of horizontal and of vertical edges 2**scale pixels wide."""
    half = 2 ** (scale - 1)
    windows = sliding_window_view(np.pad(luma, (half - 1, half)), (2 * half, 2 * half))
    rows, columns = windows.sum(3), windows.sum(2)
    edges = [side[..., :half].sum(2) - side[..., half:].sum(2) for side in (rows, columns)]
    return np.abs(np.stack(edges)) / (2 * half)


def _block_means(chroma: F64) -> F64:
    """The mean of each pixel and its right and lower neighbours."""
    return sliding_window_view(np.pad(chroma, ((0, 1), (0, 1), (0, 0))), (2, 2), (0, 1)).mean(
        (3, 4)
    )


def _similarity(a: F64, b: F64) -> F64:
    return (2 * a * b + HAAR_C) / (a**2 + b**2 + HAAR_C)


def spectral(picture: F32, truth: F32) -> tuple[float, float]:
    """Spectral error and sharpness in dB: how far fine and coarse detail are as strong as true.

    The power spectrum of each picture's luma, its mean taken off, is averaged over rings of 1/32
    cycle per pixel up to 1/2. The error is the mean over rings of |10 log10(P picture / P truth)|:
    0 for equally sharp pictures, wherever their details lie. Sharpness is the mean of the same
    without the absolute value over the rings above 1/4 cycle per pixel: negative for blur,
    positive for noise. Powers below those of 8-bit rounding count as those.
    """
    ratio_db = 10 * (np.log10(_ring_power(picture)) - np.log10(_ring_power(truth)))
    present = np.isfinite(ratio_db)  # small pictures have no frequency in some rings
    fine = present & (np.arange(BANDS) >= BANDS * FINE * 2)
    return (
        float(np.abs(ratio_db[present]).mean()) if present.any() else 0.0,
        float(ratio_db[fine].mean()) if fine.any() else 0.0,
    )


def _ring_power(picture: F32) -> F64:
    """[BANDS] mean power per frequency; NaN where the picture has none in a ring."""
    luma = _luma(picture)
    power = np.abs(np.fft.fft2(luma - luma.mean())) ** 2 / luma.size
    rows, columns = (np.fft.fftfreq(n) for n in luma.shape)
    frequency = np.hypot(rows[:, None], columns[None])
    ring = np.ceil(frequency * 2 * BANDS).astype(int).ravel() - 1  # −1: the mean
    inside = (ring >= 0) & (ring < BANDS)
    total = np.bincount(ring[inside], power.ravel()[inside], minlength=BANDS)
    count = np.bincount(ring[inside], minlength=BANDS)
    mean = total / np.maximum(count, 1)
    return np.where(count > 0, np.maximum(mean, ROUNDING), np.nan)


METRICS = ("psnr_db", "ssim", "ms_ssim", "haarpsi", "gmsd", "spectral_db", "sharpness_db")


def _all(picture: F32, truth: F32) -> tuple[float, ...]:
    """In the order of `METRICS`."""
    return (
        psnr_db(picture, truth),
        ssim(picture, truth),
        ms_ssim(picture, truth),
        haarpsi(picture, truth),
        gmsd(picture, truth),
        *spectral(picture, truth),
    )


def box_and_whole(picture: F32, truth: F32, mask: NDArray) -> dict[str, float]:
    """Every metric in the mask's box (+4 px), as ``box_…``, and on the whole picture."""
    box = mask_box(mask)
    inside = _all(picture[box], truth[box])
    whole = _all(picture, truth)
    named = dict(zip((f"box_{name}" for name in METRICS), inside, strict=True))
    return named | dict(zip(METRICS, whole, strict=True))
