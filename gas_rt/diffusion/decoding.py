"""Which frames a decoder with layers along time is given together, and which it is believed on.

Such a decoder's frame depends on its neighbours, most wrongly at the edges of a call. So calls
overlap, and each frame comes from the call in which it is farther from an edge.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from gas_rt.errors import InputError

__all__ = ["DecodeSpan", "decode_spans"]


@dataclass(frozen=True)
class DecodeSpan:
    """One call: frames `first` .. `first` + F − 1 go in, `kept_from` .. `kept_to` − 1 count."""

    first: int
    kept_from: int
    kept_to: int


def decode_spans(count: int, *, frames: int, overlap: int) -> Iterator[DecodeSpan]:
    """The calls for a clip of `count` frames, in order; together they keep every frame once.

    Calls take `frames` frames, neighbours share `overlap` of them; the last call ends with the
    clip and may share more. A clip shorter than a call is one call, padded by the caller.
    """
    if not 0 <= overlap < frames:
        raise InputError(
            f"decode_spans: needs 0 ≤ overlap < frames, got overlap {overlap} of {frames} frames"
        )
    stride, kept = frames - overlap, 0
    for first in range(0, max(count - overlap, 1), stride):
        start = max(min(first, count - frames), 0)
        last = start + frames >= count
        # The later half of what two calls share is the next one's.
        end = count if last else start + frames - (overlap - overlap // 2)
        yield DecodeSpan(start, kept, end)
        kept = end
        if last:
            return
