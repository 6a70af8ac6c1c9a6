"""FIT.npz: round trip, and every way to be wrong."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from gas_rt.body import BodyFit
from gas_rt.core import Camera, Pose
from gas_rt.errors import FileError, ShapeError


def fit() -> BodyFit:
    rng = np.random.default_rng(0)
    camera = Camera([[500, 0, 256], [0, 500, 256], [0, 0, 1]], np.eye(3), [0, 0, 3], 512, 480)
    return BodyFit(rng.normal(size=10), Pose(rng.normal(size=(24, 3)), [0, 1, 0]), camera)


def saved(path: Path) -> dict[str, Any]:
    fit().save(path)
    with np.load(path) as data:
        return dict(data)


def test_round_trip(tmp_path: Path) -> None:
    fit().save(tmp_path / "fit.npz")
    back = BodyFit.load(tmp_path / "fit.npz")
    np.testing.assert_array_equal(back.betas, fit().betas)
    np.testing.assert_array_equal(back.pose.rotations, fit().pose.rotations)
    np.testing.assert_array_equal(back.camera.intrinsics, fit().camera.intrinsics)
    assert (back.camera.width, back.camera.height) == (512, 480)


@pytest.mark.parametrize(
    "key",
    ["betas", "rotations", "translation", "intrinsics", "R", "t", "width", "height"],
)
def test_missing_key(tmp_path: Path, key: str) -> None:
    data = saved(tmp_path / "fit.npz")
    del data[key]
    np.savez(tmp_path / "fit.npz", **data)
    with pytest.raises(FileError, match=f"not a body fit: {key} missing"):
        BodyFit.load(tmp_path / "fit.npz")


@pytest.mark.parametrize(
    ("key", "value", "message"),
    [
        ("betas", np.full(10, np.nan), "betas.*NaN"),
        ("betas", np.zeros(16), "betas.*shape"),
        ("rotations", np.zeros(72), "rotations.*shape"),
        ("translation", np.full(3, np.inf), "translation.*NaN"),
        ("intrinsics", np.eye(3) * [-1, 1, 1], "focal"),
        ("R", np.ones((3, 3)), "orthonormal"),
        ("R", np.full((3, 3), np.nan), "rotation.*NaN"),
        ("width", np.array(512.0), "width.*one integer"),
        ("height", np.array([1, 2]), "height.*one integer"),
        ("height", np.array(0), "height"),
        ("height", np.array(1 << 40), "height"),
    ],
)
def test_wrong_value(tmp_path: Path, key: str, value: Any, message: str) -> None:
    np.savez(tmp_path / "fit.npz", **(saved(tmp_path / "fit.npz") | {key: value}))
    with pytest.raises(FileError, match=message):
        BodyFit.load(tmp_path / "fit.npz")


def test_too_large(tmp_path: Path) -> None:
    data = saved(tmp_path / "fit.npz") | {"extra": np.zeros(1 << 19, np.float32)}
    np.savez_compressed(tmp_path / "fit.npz", **data)
    with pytest.raises(FileError, match="unpacks to"):
        BodyFit.load(tmp_path / "fit.npz")


def test_betas_of_another_length() -> None:
    with pytest.raises(ShapeError, match=r"BodyFit\.betas"):
        BodyFit(np.zeros(9), Pose.rest(), fit().camera)
