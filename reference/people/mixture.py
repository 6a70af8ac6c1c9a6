"""Which people are filmed how: calibrated scans with exact fits, or videos with estimated ones."""

from __future__ import annotations

import argparse
from dataclasses import dataclass
from typing import Literal

from gas_rt.errors import InputError
from reference.people.fits import FitNoise
from reference.people.seeds import generator

__all__ = [
    "KINDS",
    "SCANS",
    "STAGE1",
    "STAGE2",
    "Kind",
    "Mixture",
    "add_mixture",
    "mixture_of",
]

Kind = Literal["scan", "video"]
KINDS: tuple[Kind, ...] = ("scan", "video")


@dataclass(frozen=True)
class Mixture:
    """What training people are made of.

    Attributes
    ----------
    videos : share of people who are filmed as videos: a hand-held camera, estimated fits. 0 has
        scans alone, the ablation; 1 videos alone.
    fit_noise : size of the estimates' errors; 1 is `FitNoise`'s calibration, 0 exact fits.
    """

    videos: float
    fit_noise: float = 1.0

    def __post_init__(self) -> None:
        if not 0 <= self.videos <= 1:
            raise InputError(f"videos: expected a share of people in 0..1, got {self.videos:g}")
        if not 0 <= self.fit_noise <= 3:
            raise InputError(f"fit_noise: expected a level in 0..3, got {self.fit_noise:g}")

    def kind_of(self, seed: int) -> Kind:
        """How a person is filmed; a larger share of videos keeps those that were videos."""
        return "video" if generator(seed, "kind").random() < self.videos else "scan"

    def level_of(self, seed: int) -> float:
        """`fit_noise` of a video, 0 of a scan."""
        return self.fit_noise if self.kind_of(seed) == "video" else 0.0

    @property
    def noise(self) -> FitNoise:
        """The errors of its videos' fits."""
        return FitNoise().scaled(self.fit_noise)


SCANS = Mixture(videos=0.0)

STAGE1 = SCANS
"""The field learns from calibrated views alone, as the paper's does: a picture that its fit does
not explain teaches it to blur."""

STAGE2 = Mixture(videos=0.5)
"""The paper does not say how many of its clips are videos; half lets every batch hold both."""


def add_mixture(parser: argparse.ArgumentParser, default: Mixture) -> None:
    """The options of a command that films people."""
    parser.add_argument(
        "--videos",
        type=float,
        default=default.videos,
        metavar="SHARE",
        help="of the people, filmed by a shaking camera with estimated fits; 0 has calibrated "
        f"scans alone ({default.videos:g})",
    )
    parser.add_argument(
        "--fit-noise",
        type=float,
        default=default.fit_noise,
        metavar="LEVEL",
        help=f"of the videos' fits: 1 is an estimator's, 0 exact ({default.fit_noise:g})",
    )


def mixture_of(arguments: argparse.Namespace) -> Mixture:
    """What the options of `add_mixture` say; `InputError` if out of range."""
    return Mixture(videos=arguments.videos, fit_noise=arguments.fit_noise)
