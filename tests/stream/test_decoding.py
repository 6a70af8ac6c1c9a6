"""Alpha of a generated picture, the fallback, and the size a request asks for."""

from __future__ import annotations

from types import SimpleNamespace

import numpy as np
import pytest

from gas_rt.core import F32, Camera, Request
from gas_rt.diffusion.decoding import decode_spans
from gas_rt.stream.conditioning import Conditioning
from gas_rt.stream.decoding import (
    BLACK_MAX,
    COVERED_MIN,
    DecodeStage,
    WindowDecodeStage,
    joined_alpha,
)
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


class Windowed:
    """A decoder whose frames show who they are, and where in which call they were decoded."""

    def __init__(self, frames: int) -> None:
        self.frames, self.calls = frames, 0

    def run(self, inputs: dict[str, F32]) -> dict[str, F32]:
        latents = inputs["latents"]  # [F, 1, 2, 2], the frame's number
        assert latents.shape == (self.frames, 1, 2, 2)
        self.calls += 1
        out = np.zeros((self.frames, 3, SIDE, SIDE), np.float32)
        out[:, 0] = latents[:, 0, :1, :1]
        out[:, 1] = latents[0, 0, 0, 0]  # the call's first frame
        out[:, 2] = latents[-1, 0, 0, 0]
        return {"picture": out / 255 * 2 - 1}


def shown(job: Job) -> tuple[int, ...]:
    """(frame, the first and last frame of its call)."""
    assert isinstance(job.payload, Picture)
    assert job.payload.level == "full"
    return tuple(job.payload.rgb[0, 0].tolist())


def numbered(index: int, *, latent: bool = True) -> Job:
    full = np.full((SIDE, SIDE), 255, np.uint8)
    field = Conditioning(np.zeros((1, 2, 2), np.float32), None, full[..., None].repeat(3, 2), full)
    k = np.array([[100, 0, 8], [0, 100, 8], [0, 0, 1]], np.float32)
    camera = Camera(k, np.eye(3, dtype=np.float32), np.array([0, 0, 3], np.float32), SIDE, SIDE)
    payload = Denoised(np.full((1, 2, 2), index, np.float32) if latent else None, field)
    return Job(index, 0, Request(pose(), camera), captured_ns=0, pushed_ns=0, payload=payload)


@pytest.mark.parametrize(("frames", "overlap"), [(4, 0), (4, 2), (5, 3), (8, 4), (3, 2)])
@pytest.mark.parametrize("count", [1, 2, 3, 4, 5, 7, 8, 12, 13, 21])
def test_frames_come_from_the_calls_that_the_plan_says(
    count: int, frames: int, overlap: int
) -> None:
    decoder = Windowed(frames)
    stage = WindowDecodeStage(decoder, frames=frames, overlap=overlap)  # type: ignore[arg-type]
    made = [job for k in range(count) for job in stage.process(numbered(k)) if job]
    held = count - len(made)
    assert held <= max(frames - 1, overlap)
    made += [job for job in stage.finish() if job]
    assert [job.index for job in made] == list(range(count))
    for span in decode_spans(count, frames=frames, overlap=overlap):
        last = min(span.first + frames, count) - 1
        for k in range(span.kept_from, span.kept_to):
            assert shown(made[k]) == (k, span.first, last)
    assert decoder.calls == len(list(decode_spans(count, frames=frames, overlap=overlap)))
    assert not list(stage.finish())


def test_a_frame_without_latent_ends_a_row_and_comes_in_its_turn() -> None:
    stage = WindowDecodeStage(Windowed(4), frames=4, overlap=2)  # type: ignore[arg-type]
    made = []
    for k in range(9):
        made += [job for job in stage.process(numbered(k, latent=k != 2)) if job]
    made += [job for job in stage.finish() if job]
    assert [job.index for job in made] == list(range(9))
    assert isinstance(made[2].payload, Picture)
    assert made[2].payload.level == "field"
    assert shown(made[1]) == (1, 0, 1)
    assert shown(made[3]) == (3, 3, 6)


def test_a_reset_forgets_what_was_held() -> None:
    stage = WindowDecodeStage(Windowed(4), frames=4, overlap=2)  # type: ignore[arg-type]
    for k in range(3):
        assert not [job for job in stage.process(numbered(k)) if job]
    stage.reset()
    assert not list(stage.finish())
    assert not [job for job in stage.process(numbered(9)) if job]
    (made,) = [job for job in stage.finish() if job]
    assert shown(made) == (9, 9, 9)
