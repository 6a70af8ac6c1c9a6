"""FVD, the Fréchet distance between videos' features: ``python -m reference.evaluate.fvd A B``.

Unterthiner et al. 2018, "Towards accurate generative models of video". The detector is a file that
the user supplies, the TorchScript of I3D trained on Kinetics that other projects pass round as
``i3d_torchscript.pt``. The command compares features that something else computed: two files
``.npy`` [videos, D], of the truth and of what was shown.
"""

from __future__ import annotations

import argparse
import sys
import warnings
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from scipy.linalg import svdvals
from torch.nn import functional as F

from gas_rt.errors import FileError, GasRtError, InputError

__all__ = ["SEGMENT", "Detector", "frechet_distance", "main", "open_detector", "segments"]

F32 = NDArray[np.float32]
F64 = NDArray[np.float64]
SEGMENT = 16  # frames of a video, as FVD is usually reported
SIDE = 224  # pixels, I3D's
ADVICE = "give the TorchScript file of I3D, i3d_torchscript.pt"


def frechet_distance(one: NDArray, two: NDArray) -> float:
    """Between the normal distributions with the mean and covariance of features [N, D], [M, D].

    |μ₁ − μ₂|² + tr Σ₁ + tr Σ₂ − 2 tr (Σ₁Σ₂)^½. With centred features X and Y over the root of their
    counts less one the last trace is the sum of the singular values of X Yᵀ: N × M however wide the
    features, and exact where covariances have no full rank.
    """
    for name, value in (("one", one), ("two", two)):
        if value.ndim != 2 or len(value) < 2 or not np.isfinite(value).all():
            raise InputError(
                f"frechet_distance: {name}: expected finite features [videos, D] of at least two "
                f"videos, found {list(value.shape)}"
            )
    if one.shape[1] != two.shape[1]:
        raise InputError(
            f"frechet_distance: features of {one.shape[1]} and {two.shape[1]} numbers per video; "
            "compute both with one detector"
        )
    mean_1, mean_2 = one.mean(0, dtype=np.float64), two.mean(0, dtype=np.float64)
    x = (one - mean_1) / np.sqrt(len(one) - 1)
    y = (two - mean_2) / np.sqrt(len(two) - 1)
    spread = (x**2).sum() + (y**2).sum() - 2 * svdvals(x @ y.T).sum()
    return float(((mean_1 - mean_2) ** 2).sum() + max(spread, 0.0))


def segments(video: F32) -> F32:
    """[N, H, W, 3] → [S, 16, H, W, 3], one after the other; what is left over is left out."""
    count = len(video) // SEGMENT
    return video[: count * SEGMENT].reshape(count, SEGMENT, *video.shape[1:])


@dataclass(frozen=True, eq=False)
class Detector:
    """Features of videos by a TorchScript module; `path` is for messages."""

    module: torch.jit.ScriptModule
    path: Path

    @torch.no_grad()
    def __call__(self, videos: F32) -> F64:
        """[S, T, H, W, 3] in [0, 1] → [S, D]; scaled to 224 × 224 pixels and [-1, 1] before."""
        found = []
        for video in videos:
            frames = torch.from_numpy(video.astype(np.float32)).permute(0, 3, 1, 2)
            scaled = F.interpolate(frames, (SIDE, SIDE), mode="bilinear", align_corners=False)
            clip = (2 * scaled - 1).permute(1, 0, 2, 3)[None]  # [1, 3, T, 224, 224]
            found.append(self._features(clip))
        return np.stack(found)

    def _features(self, clip: torch.Tensor) -> F64:
        try:
            features = self.module(clip, rescale=False, resize=False, return_features=True)
        except (RuntimeError, TypeError) as error:
            reason = str(error).strip().splitlines()[-1]
            raise FileError(
                f"{self.path}: does not take videos as I3D: {reason}; {ADVICE}"
            ) from error
        if not isinstance(features, torch.Tensor) or features.ndim != 2 or len(features) != 1:
            raise FileError(f"{self.path}: gives no features [1, D] of a video; {ADVICE}")
        values: F64 = features[0].double().numpy()
        return values


def open_detector(path: Path) -> Detector:
    """Load a TorchScript file. That runs the file's code: name only one that you trust."""
    if not path.is_file():
        raise FileError(f"{path}: no such file; {ADVICE}")
    try:
        with warnings.catch_warnings():
            # TorchScript is deprecated, and the only format the detector is distributed in.
            warnings.filterwarnings("ignore", "`torch.jit.load` is deprecated", DeprecationWarning)
            module = torch.jit.load(str(path), map_location="cpu")
    except (RuntimeError, ValueError) as error:
        raise FileError(f"{path}: no TorchScript; {ADVICE}") from error
    return Detector(module.eval(), path)


def _features_of(path: Path) -> NDArray:
    try:
        return np.asarray(np.load(path, allow_pickle=False))
    except (OSError, ValueError, EOFError) as error:
        raise FileError(
            f"{path}: no .npy of features ({error}); save an array [videos, D]"
        ) from error


def main(argv: list[str] | None = None) -> int:
    """Entry point: 0 on success, 1 on the caller's error."""
    parser = argparse.ArgumentParser(prog="python -m reference.evaluate.fvd", description=__doc__)
    parser.add_argument("truth", type=Path)
    parser.add_argument("shown", type=Path)
    args = parser.parse_args(argv)
    try:
        print(round(frechet_distance(_features_of(args.truth), _features_of(args.shown)), 4))
    except GasRtError as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
