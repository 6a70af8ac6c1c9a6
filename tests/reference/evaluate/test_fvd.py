"""Fréchet distances that are known, and detectors that are none."""

from __future__ import annotations

import warnings
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.linalg import sqrtm

from gas_rt.errors import FileError, InputError
from reference.evaluate import fvd
from reference.evaluate.fvd import SEGMENT, frechet_distance, open_detector, segments


def features(seed: int, count: int, width: int) -> np.ndarray:
    rng = np.random.default_rng(seed)
    return rng.normal(size=(count, width)) @ rng.normal(size=(width, width)) + rng.normal(
        size=width
    )


def test_the_distance_is_the_formula_with_a_matrix_root():
    one, two = features(0, 60, 5), features(1, 80, 5)
    covariances = [np.cov(x, rowvar=False) for x in (one, two)]
    root = sqrtm(covariances[0] @ covariances[1]).real
    expected = ((one.mean(0) - two.mean(0)) ** 2).sum()
    expected += np.trace(covariances[0] + covariances[1] - 2 * root)
    assert frechet_distance(one, two) == pytest.approx(expected, rel=1e-9)


def test_normal_numbers_differ_by_mean_and_deviation():
    one, two = np.array([[0.0], [2.0], [4.0]]), np.array([[5.0], [5.5], [6.0]])
    assert frechet_distance(one, two) == pytest.approx(3.5**2 + (2 - 0.5) ** 2)


def test_covariances_without_full_rank_are_exact():
    """Two videos more than half as many as features: axes of known, different spread."""
    width, spread_1, spread_2 = 400, 3.0, 0.5
    axes = np.eye(width)[:4]
    one, two = (s * np.concatenate([axes, -axes]) for s in (spread_1, spread_2))
    scale = np.sqrt(2 / 7)  # of the deviation on each axis: two of eight are not 0, less one
    expected = 4 * (scale * (spread_1 - spread_2)) ** 2
    assert frechet_distance(one, two) == pytest.approx(expected)


@settings(max_examples=40, deadline=None)
@given(st.integers(0, 10**6), st.integers(2, 12), st.integers(2, 12), st.integers(1, 20))
def test_it_is_a_distance(seed, n, m, width):
    one, two = features(seed, n, width), features(seed + 1, m, width)
    distance = frechet_distance(one, two)
    size = 1 + float((one**2).sum() + (two**2).sum())
    assert distance >= 0
    assert distance == pytest.approx(frechet_distance(two, one), abs=1e-9 * size)
    assert frechet_distance(one, one[::-1]) == pytest.approx(0, abs=1e-9 * size)
    shift = np.full(width, 2.0)
    assert frechet_distance(one + shift, one) == pytest.approx(4 * width, abs=1e-9 * size)
    turn = np.linalg.qr(np.random.default_rng(seed).normal(size=(width, width)))[0]
    assert frechet_distance(one @ turn, two @ turn) == pytest.approx(distance, abs=1e-8 * size)


@pytest.mark.parametrize(
    ("two", "message"),
    [
        (np.zeros((1, 3)), "two: expected finite features"),
        (np.zeros(3), r"found \[3\]"),
        (np.full((2, 3), np.nan), "finite"),
        (np.zeros((4, 5)), "features of 3 and 5 numbers"),
    ],
)
def test_features_that_do_not_compare_are_named(two, message):
    with pytest.raises(InputError, match=message):
        frechet_distance(np.zeros((2, 3)), two)


def test_a_clip_is_cut_into_videos_of_sixteen_frames():
    clip = np.arange(35, dtype=np.float32)[:, None, None, None] * np.ones((1, 2, 2, 3), np.float32)
    cut = segments(clip)
    assert cut.shape == (2, SEGMENT, 2, 2, 3)
    assert cut[:, :, 0, 0, 0].ravel().tolist() == list(range(32))
    assert segments(clip[:15]).shape == (0, SEGMENT, 2, 2, 3)


class Means(torch.nn.Module):
    """Takes what the detector takes: the mean colour of its upper half, and the frames' count."""

    def forward(
        self,
        x: torch.Tensor,
        rescale: bool = True,
        resize: bool = True,
        return_features: bool = False,
    ) -> torch.Tensor:
        assert not rescale and not resize and return_features  # noqa: PT018 (scripted)
        upper = x[:, :, :, : x.shape[3] // 2].mean(dim=(2, 3, 4))
        sizes = torch.tensor([[float(x.shape[2]), float(x.shape[3]), float(x.shape[4])]])
        return torch.cat([upper, sizes], dim=1)


class Bare(torch.nn.Module):
    """Takes no such arguments."""

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return x.mean(dim=(2, 3, 4))


class Whole(torch.nn.Module):
    """Gives more than features."""

    def forward(
        self, x: torch.Tensor, rescale: bool, resize: bool, return_features: bool
    ) -> torch.Tensor:
        return x


def scripted(module: torch.nn.Module, path: Path) -> Path:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)
        torch.jit.save(torch.jit.script(module), str(path))
    return path


def test_a_detector_sees_channels_frames_and_scaled_pictures(tmp_path):
    detector = open_detector(scripted(Means(), tmp_path / "i3d.pt"))
    videos = np.zeros((2, SEGMENT, 32, 32, 3), np.float32)
    videos[1, :, :16] = [1.0, 0.5, 0.25]
    found = detector(videos)
    assert found.shape == (2, 6)
    assert found[0].tolist() == [-1, -1, -1, SEGMENT, 224, 224]
    # The edge between the halves is blurred where it is scaled up.
    np.testing.assert_allclose(found[1, :3], [1.0, 0.0, -0.5], atol=0.03)


def test_files_that_are_no_detector_are_named(tmp_path):
    with pytest.raises(FileError, match=r"none\.pt: no such file; give the TorchScript"):
        open_detector(tmp_path / "none.pt")
    (tmp_path / "text.pt").write_text("not a module")
    with pytest.raises(FileError, match=r"text\.pt: no TorchScript"):
        open_detector(tmp_path / "text.pt")
    torch.save({"a": torch.zeros(1)}, tmp_path / "state.pt")
    with pytest.raises(FileError, match=r"state\.pt: no TorchScript"):
        open_detector(tmp_path / "state.pt")
    video = np.zeros((1, SEGMENT, 8, 8, 3), np.float32)
    with pytest.raises(FileError, match=r"bare\.pt: does not take videos as I3D"):
        open_detector(scripted(Bare(), tmp_path / "bare.pt"))(video)
    with pytest.raises(FileError, match=r"whole\.pt: gives no features"):
        open_detector(scripted(Whole(), tmp_path / "whole.pt"))(video)


def test_features_of_files_are_compared(tmp_path, capsys):
    one, two = features(0, 9, 4), features(1, 7, 4)
    paths = [tmp_path / "one.npy", tmp_path / "two.npy"]
    for path, value in zip(paths, (one, two), strict=True):
        np.save(path, value)
    assert fvd.main([str(p) for p in paths]) == 0
    assert float(capsys.readouterr().out) == pytest.approx(frechet_distance(one, two), abs=1e-4)


@pytest.mark.parametrize("content", [None, b"junk", b""])
def test_a_bad_file_of_features_is_one_line(tmp_path, capsys, content):
    np.save(tmp_path / "good.npy", np.zeros((2, 3)))
    bad = tmp_path / "bad.npy"
    if content is not None:
        bad.write_bytes(content)
    assert fvd.main([str(tmp_path / "good.npy"), str(bad)]) == 1
    message = capsys.readouterr().err
    assert message.startswith(f"error: {bad}: no .npy of features")
    assert message.count("\n") == 1
