"""Alpha of a generated picture, the fallback, and the size a request asks for."""

from __future__ import annotations

from types import SimpleNamespace

import numpy as np
import pytest

from gas_rt.core import F32, Camera, Request
from gas_rt.stream.conditioning import Conditioning
from gas_rt.stream.decoding import BLACK_MAX, COVERED_MIN, DecodeStage, joined_alpha
from gas_rt.stream.denoising import Denoised
from gas_rt.stream.stages import Job, Picture
from tests.stream.conftest import pose

SIDE = 16


def decode(
    picture: F32, *, field_alpha: np.ndarray | None = None, latent: bool = True, side: int = SIDE
) -> Picture:
    """What the stage makes when the decoder answers `picture` [S, S, 3] in [0, 1]."""
    answer = picture.transpose(2, 0, 1)[None] * 2 - 1
    graph = SimpleNamespace(run=lambda inputs: {"picture": answer.astype(np.float32)})
    alpha = np.zeros((SIDE, SIDE), np.uint8) if field_alpha is None else field_alpha
    field = Conditioning(
        np.zeros((1, 2, 2), np.float32), None, np.minimum(99, alpha)[..., None].repeat(3, 2), alpha
    )
    k = np.array([[100, 0, side / 2], [0, 100, side / 2], [0, 0, 1]], np.float32)
    camera = Camera(k, np.eye(3, dtype=np.float32), np.array([0, 0, 3], np.float32), side, side)
    payload = Denoised(np.zeros((1, 2, 2), np.float32) if latent else None, field)
    job = Job(0, 0, Request(pose(), camera), captured_ns=0, pushed_ns=0, payload=payload)
    (made,) = DecodeStage(graph).process(job)  # type: ignore[arg-type]
    assert set(made.stages_ms) == {"decode"}
    assert isinstance(made.payload, Picture)
    shown = made.payload
    assert shown.rgb.flags.c_contiguous
    assert shown.alpha.flags.c_contiguous
    assert (shown.rgb.max(2) <= shown.alpha).all()  # premultiplied over black
    return shown


def test_alpha_is_the_fields_and_what_shows_beyond_it() -> None:
    field = np.array([[0, 0, 0, 0, 200, 200, 0]], np.uint8)
    seen = np.array([[0, BLACK_MAX, 24, COVERED_MIN, 0, 250, 255]], np.uint8)
    rgb = np.zeros((1, 7, 3), np.uint8)
    rgb[..., 1] = seen
    half = round((24 - BLACK_MAX) / (COVERED_MIN - BLACK_MAX) * 255)
    found = joined_alpha(rgb, field)[0].tolist()
    assert found == [0, 0, pytest.approx(half, abs=1), 255, 200, 255, 255]


def test_a_noisy_background_is_black_and_a_skirt_beyond_the_field_is_kept() -> None:
    picture = np.full((SIDE, SIDE, 3), 8 / 255, np.float32)
    picture[4:12, 4:12] = [0.2, 0.6, 0.4]
    field = np.zeros((SIDE, SIDE), np.uint8)
    field[4:12, 4:8] = 255
    shown = decode(picture, field_alpha=field)
    assert shown.level == "full"
    assert shown.rgb[0, 0].tolist() == [0, 0, 0]
    assert shown.alpha[0, 0] == 0
    assert shown.alpha[4:12, 4:12].min() == 255
    assert shown.rgb[6, 10].tolist() == [51, 153, 102]


@pytest.mark.parametrize("side", [8, 16, 33, 48])
def test_the_picture_has_the_requests_size(side: int) -> None:
    picture = np.zeros((SIDE, SIDE, 3), np.float32)
    picture[4:12, 4:12] = 0.75
    shown = decode(picture, side=side)
    assert shown.rgb.shape == (side, side, 3)
    assert shown.alpha.shape == (side, side)
    middle = side // 2
    assert abs(int(shown.rgb[middle, middle, 0]) - 191) <= 4
    assert shown.alpha[0, 0] == 0


def test_what_overflows_is_clipped() -> None:
    picture = np.full((SIDE, SIDE, 3), 1.7, np.float32)
    picture[:8] = -0.4
    shown = decode(picture)
    assert shown.rgb.min() == 0
    assert shown.rgb.max() == 255


@pytest.mark.parametrize("latent", [True, False])
def test_nothing_to_decode_or_nothing_finite_shows_the_field(latent: bool) -> None:
    picture = np.full((SIDE, SIDE, 3), np.nan if latent else 0.5, np.float32)
    field = np.zeros((SIDE, SIDE), np.uint8)
    field[4:12, 4:8] = 255
    shown = decode(picture, field_alpha=field, latent=latent, side=32)
    assert shown.level == "field"
    assert shown.rgb.shape == (32, 32, 3)
    assert shown.rgb[16, 12].tolist() == [99, 99, 99]


def test_a_frame_that_shows_the_field_is_its_takers_to_draw_on() -> None:
    field = np.zeros((SIDE, SIDE), np.uint8)
    shown = decode(np.zeros((SIDE, SIDE, 3), np.float32), field_alpha=field, latent=False)
    assert shown.level == "field"
    assert not np.shares_memory(shown.alpha, field)
