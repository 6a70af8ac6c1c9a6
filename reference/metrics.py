"""Picture metrics, on the whole picture and in the person's box."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from skimage.metrics import structural_similarity

from gas_rt.core import Camera

__all__ = ["SEEN_DEG", "azimuth_deg", "box_and_whole", "mask_box", "psnr_db", "ssim"]

F32 = NDArray[np.float32]
BOX_MARGIN_PX = 4
SEEN_DEG = 60.0  # views up to this azimuth from the photo's show mostly what the photo shows
PSNR_CAP_DB = 60.0  # equal pictures; keeps means finite


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
        sigma=1.5,
        use_sample_covariance=False,
    )
    return float(value)


def box_and_whole(picture: F32, truth: F32, mask: NDArray) -> dict[str, float]:
    """PSNR and SSIM in the mask's box (+4 px) and on the whole picture."""
    box = mask_box(mask)
    return {
        "box_psnr_db": psnr_db(picture[box], truth[box]),
        "box_ssim": ssim(picture[box], truth[box]),
        "psnr_db": psnr_db(picture, truth),
        "ssim": ssim(picture, truth),
    }
