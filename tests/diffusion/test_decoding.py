"""Calls of a decoder with layers along time: every frame once, each where it is believed most."""

from __future__ import annotations

import pytest

from gas_rt.diffusion.decoding import decode_spans
from gas_rt.errors import InputError


@pytest.mark.parametrize("count", [*range(1, 40), 100])
@pytest.mark.parametrize(("frames", "overlap"), [(1, 0), (4, 0), (4, 1), (8, 4), (20, 6), (5, 4)])
def test_every_frame_is_kept_once_and_lies_in_its_call(
    count: int, frames: int, overlap: int
) -> None:
    kept = []
    for span in decode_spans(count, frames=frames, overlap=overlap):
        assert 0 <= span.first <= span.kept_from < span.kept_to <= span.first + frames
        kept += range(span.kept_from, span.kept_to)
    assert kept == list(range(count))


def test_frames_inside_of_a_clip_keep_half_of_the_overlap_as_neighbours() -> None:
    for span in decode_spans(60, frames=20, overlap=6):
        assert span.kept_from == 0 or span.kept_from - span.first >= 3
        assert span.kept_to == 60 or span.first + 20 - span.kept_to >= 3


def test_a_clip_of_one_window_is_decoded_in_one_call() -> None:
    (span,) = decode_spans(20, frames=20, overlap=6)
    assert (span.first, span.kept_from, span.kept_to) == (0, 0, 20)


def test_impossible_overlaps_are_refused() -> None:
    with pytest.raises(InputError, match="overlap 4 of 4"):
        list(decode_spans(9, frames=4, overlap=4))
